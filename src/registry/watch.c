/* SPDX-License-Identifier: MIT */
#include "dragoman/registry/watch.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "watch_private.h"

/*
 * Theory of operation
 *
 * A service that is added, asked for anew, or whose following came to an end
 * is `wanted`. At the end of the wake-up all that are wanted and whose pause is
 * over become one read; several reads may be under way, but one a service.
 * Its answer is told whole, and the kind follows from its revision on.
 *
 * While a service is read anew its changes go on being told, and are kept in
 * `meanwhile` besides. A read at revision R and the changes newer than R make
 * one state, which is what is told: nothing goes back in time, nothing waits
 * for the read. Changes up to R that come later are dropped.
 *
 * Reads are linearizable. One that is older than what was known when it was
 * started, or of another cluster, is of a registry that was restored: then all
 * that is known is of a past that is gone (watch_restored()), and everything
 * is read anew. Reads that were started before that are of no use (their era).
 *
 * A read that fails tells its error and is tried again after a pause. Nothing
 * is ever taken away for want of an answer.
 *
 * Functions of the user run below watch_changes(), watch_fail() and those that
 * handle a read. They may remove any service: that one is unfollowed at once,
 * and freed at the end of the wake-up.
 */

enum { MILLISECONDS = 1000000 };

static const struct watch_times default_times = {
	.pause_first = 100UL * MILLISECONDS,
	.pause_max = 10000UL * MILLISECONDS,
	.answer = 10000UL * MILLISECONDS,
	.quiet = 30000UL * MILLISECONDS,
	.silence = 60000UL * MILLISECONDS,
};

/* One read of several services. */
struct watch_read {
	struct registry_watch *watch;
	LIST_ENTRY(watch_read) entry;
	struct registry_read *read;
	struct watch_service **services; /* NULL where it was removed */
	size_t count;
	uint64_t known; /* the newest revision when it was started */
	unsigned era;
	uint64_t pauses[16]; /* by the number of failures: what failed together is retried together
			      */
};

static const char *const state_names[] = {
	[REGISTRY_CONNECTING] = "connecting",
	[REGISTRY_LIVE] = "live",
	[REGISTRY_LOST] = "lost",
};

const char *registry_state_name(enum registry_state state)
{
	return state_names[state];
}

uint64_t watch_pause(const struct registry_watch *watch, unsigned failures)
{
	uint64_t pause = watch->times.pause_first, random = 0;

	for (unsigned i = 1; i < failures && pause < watch->times.pause_max; i++)
		pause *= 2;
	if (pause > watch->times.pause_max)
		pause = watch->times.pause_max;
	/* Without randomness there is no jitter; nothing else depends on it. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = pause / 2;
	return pause / 2 + random % (pause + 1);
}

static void watch_set_state(struct registry_watch *watch, enum registry_state state,
			    const struct error *error)
{
	if (watch->state == state)
		return;
	if (watch->state == REGISTRY_LOST && state == REGISTRY_LIVE)
		watch->counts.reconnects++;
	watch->state = state;
	if (error)
		watch->counts.errors++;
	if (watch->functions.on_state)
		watch->functions.on_state(state, error, watch->user);
}

void watch_live(struct registry_watch *watch)
{
	watch_set_state(watch, REGISTRY_LIVE, NULL);
}

void watch_lost(struct registry_watch *watch, const struct error *error)
{
	watch_set_state(watch, REGISTRY_LOST, error);
}

bool watch_is_foreign(const struct registry_watch *watch, uint64_t cluster)
{
	return cluster != 0 && watch->cluster != 0 && cluster != watch->cluster;
}

/* Telling */

static void tell(const struct watch_service *service, struct registry_update *update)
{
	const struct registry_watch *watch = service->watch;

	update->key = service->key;
	if (!update->error)
		update->revision = service->revision;
	watch->functions.on_update(update, watch->user);
}

static void tell_error(struct watch_service *service, const struct error *error)
{
	struct registry_update update = {.error = error,
					 .received = loop_now(service->watch->loop)};

	service->watch->counts.errors++;
	service->tell = true;
	tell(service, &update);
}

void watch_read_again(struct watch_service *service, bool is_told)
{
	service->wanted = true;
	service->tell = service->tell || is_told;
	service->when = 0;
	loop_source_trigger(service->watch->deferred);
}

static void read_later(struct watch_service *service, uint64_t pause)
{
	service->wanted = true;
	service->when = loop_now(service->watch->loop) + pause;
	loop_source_trigger(service->watch->deferred);
}

void watch_followed(struct watch_service *service)
{
	service->failures = 0;
}

void watch_fail(struct watch_service *service, const struct error *error)
{
	service->failures++;
	read_later(service, watch_pause(service->watch, service->failures));
	tell_error(service, error);
}

/* Keeps changes that are told while a read is under way. */
static int keep_meanwhile(struct watch_service *service, const struct change_list *list,
			  uint64_t since)
{
	if (!service->read)
		return 0;
	if (change_list_is_too_large(&service->meanwhile))
		return -ENOMEM;
	return change_list_append(&service->meanwhile, list, since);
}

static void watch_saw(struct registry_watch *watch, uint64_t revision)
{
	if (revision > watch->counts.revision)
		watch->counts.revision = revision;
}

/* The read under way is given up, since what came meanwhile is not all there. */
static void read_abandon(struct watch_service *service)
{
	struct watch_read *read = service->read;

	for (size_t i = 0; read && i < read->count; i++) {
		if (read->services[i] == service)
			read->services[i] = NULL;
	}
	service->read = NULL;
	change_list_done(&service->meanwhile);
}

void watch_changes(struct watch_service *service, struct change_list *list, uint64_t since,
		   uint64_t received)
{
	struct registry_watch *watch = service->watch;
	uint64_t newest = change_list_newest(list);
	struct registry_update update = {.received = received};
	struct change_sum sum;

	if (!service->known || newest <= since)
		return;
	if (keep_meanwhile(service, list, since) < 0) {
		read_abandon(service);
		watch_read_again(service, true);
	}
	if (change_list_sum(list, since, &sum) < 0) {
		/* What is not told is in what is read now. */
		watch_read_again(service, true);
		return;
	}
	if (newest > service->revision)
		service->revision = newest;
	watch_saw(watch, newest);
	watch->counts.events += sum.count + sum.removed_count;
	update.documents = sum.documents;
	update.count = sum.count;
	update.removed = sum.removed;
	update.removed_count = sum.removed_count;
	tell(service, &update);
	change_sum_done(&sum);
}

/* Reading */

static void read_free(struct watch_read *read)
{
	LIST_REMOVE(read, entry);
	for (size_t i = 0; i < read->count; i++) {
		if (read->services[i])
			read_abandon(read->services[i]);
	}
	free(read->services);
	free(read);
}

/* The registry is not the one that was known, or went back: nothing of it holds any more. */
static void watch_restored(struct watch_read *read, const struct registry_position *position)
{
	struct registry_watch *watch = read->watch;
	struct watch_service *service;

	watch->era++;
	watch->counts.restorations++;
	watch->cluster = position->cluster;
	watch->counts.revision = position->revision;
	if (watch->ops->reset)
		watch->ops->reset(watch);
	TAILQ_FOREACH(service, &watch->services, entry)
	{
		watch->ops->unfollow(service);
		service->known = false;
		service->revision = 0;
		change_list_done(&service->meanwhile);
		/* This read is of the new past already, and so are its answers to come. */
		if (service->read != read)
			watch_read_again(service, true);
	}
	read->era = watch->era;
	read->known = 0;
}

static void check_position(struct watch_read *read, const struct registry_position *position)
{
	struct registry_watch *watch = read->watch;

	if (read->era != watch->era)
		return;
	if (watch_is_foreign(watch, position->cluster) || position->revision < read->known)
		watch_restored(read, position);
	if (position->cluster != 0)
		watch->cluster = position->cluster;
	watch_saw(watch, position->revision);
}

static uint64_t read_pause(struct watch_read *read, unsigned failures)
{
	size_t place = failures < ARRAY_SIZE(read->pauses) ? failures
							   : ARRAY_SIZE(read->pauses) - 1;

	if (read->pauses[place] == 0)
		read->pauses[place] = watch_pause(read->watch, failures);
	return read->pauses[place];
}

/* What was read, and what came since. Returns 0 or -ENOMEM. */
static int sum_up(struct watch_service *service, const struct registry_answer *answer,
		  struct change_list *list, struct change_sum *ret)
{
	uint64_t revision = answer->position.revision;
	int code = 0;

	for (size_t i = 0; i < answer->count && code == 0; i++) {
		const struct document *document = &answer->documents[i];

		code = change_list_add(list, document->key, strlen(document->key), document->value,
				       document->length, revision);
	}
	if (code == 0)
		code = change_list_append(list, &service->meanwhile, revision);
	return code < 0 ? code : change_list_sum(list, 0, ret);
}

static void tell_merged(struct watch_service *service, const struct registry_answer *answer)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	CLEANUP(change_sum_done) struct change_sum sum = {0};
	struct registry_update update = {.whole = true, .received = loop_now(service->watch->loop)};

	if (sum_up(service, answer, &list, &sum) < 0) {
		watch_read_again(service, true);
		return;
	}
	update.documents = sum.documents;
	update.count = sum.count;
	service->tell = false;
	tell(service, &update);
}

static void tell_whole(struct watch_service *service, const struct registry_answer *answer)
{
	const struct registry_watch *watch = service->watch;
	struct registry_update update = {.whole = true,
					 .documents = answer->documents,
					 .count = answer->count,
					 .received = loop_now(watch->loop)};
	bool known = watch->ops->is_known &&
		     watch->ops->is_known(service, answer->documents, answer->count);

	if (service->revision > answer->position.revision) {
		tell_merged(service, answer);
		return;
	}
	service->revision = answer->position.revision;
	if (known && !service->tell)
		return;
	service->tell = false;
	tell(service, &update);
}

static void read_succeeded(struct watch_service *service, const struct registry_answer *answer)
{
	service->known = true;
	service->read_at = answer->position.revision;
	tell_whole(service, answer);
	change_list_done(&service->meanwhile);
	if (!service->removed && service->known)
		service->watch->ops->follow(service);
}

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct watch_read *read = user;
	struct watch_service *service = read->services[index];

	if (!answer->error)
		check_position(read, &answer->position);
	if (!service)
		return;
	read->services[index] = NULL;
	service->read = NULL;
	if (read->era != read->watch->era) {
		watch_read_again(service, true);
	} else if (!answer->error) {
		read_succeeded(service, answer);
	} else {
		service->failures++;
		read_later(service, read_pause(read, service->failures));
		tell_error(service, answer->error);
	}
	change_list_done(&service->meanwhile);
	if (service->wanted)
		loop_source_trigger(read->watch->deferred);
}

static void on_done(const struct error *unreachable, void *user)
{
	struct watch_read *read = user;
	struct registry_watch *watch = read->watch;

	read_free(read);
	if (unreachable && !watch->connected)
		watch_lost(watch, unreachable);
	else if (!unreachable && watch->ops->is_live_by_reading)
		watch_live(watch);
}

static void read_failed_to_start(struct watch_read *read, const struct error *error)
{
	for (size_t i = 0; i < read->count; i++) {
		struct watch_service *service = TAKE(read->services[i]);

		if (!service)
			continue;
		service->read = NULL;
		watch_fail(service, error);
	}
	read_free(read);
}

static void read_start(struct watch_read *read)
{
	struct registry_watch *watch = read->watch;
	const char **keys = calloc(read->count, sizeof(*keys));
	struct error error;
	int code;

	watch->counts.reads++;
	read->era = watch->era;
	read->known = watch->counts.revision;
	if (watch->ops->reading)
		watch->ops->reading(watch);
	for (size_t i = 0; keys && i < read->count; i++)
		keys[i] = read->services[i]->key;
	if (!keys)
		code = error_no_memory(&error);
	else
		code = registry_read_start(watch->registry, keys, read->count, on_answer, on_done,
					   read, &read->read, &error);
	free(keys);
	if (code < 0)
		read_failed_to_start(read, &error);
}

static struct watch_read *read_new(struct registry_watch *watch)
{
	struct watch_read *read = calloc(1, sizeof(*read));

	if (!read)
		return NULL;
	read->watch = watch;
	read->services = calloc(watch->count + 1, sizeof(struct watch_service *));
	LIST_INSERT_HEAD(&watch->reads, read, entry);
	if (!read->services) {
		read_free(read);
		return NULL;
	}
	return read;
}

static bool is_due(const struct watch_service *service, uint64_t now)
{
	return service->wanted && !service->read && service->when <= now;
}

/* Puts what is due into a read. Returns when the next is due. */
static uint64_t gather(const struct registry_watch *watch, struct watch_read *read, uint64_t now)
{
	struct watch_service *service;
	uint64_t next = UINT64_MAX;

	TAILQ_FOREACH(service, &watch->services, entry)
	{
		if (is_due(service, now)) {
			service->wanted = false;
			service->read = read;
			read->services[read->count++] = service;
		} else if (service->wanted && !service->read && service->when < next) {
			next = service->when;
		}
	}
	return next;
}

static void service_free(struct watch_service *service)
{
	change_list_done(&service->meanwhile);
	free(service->key);
	free(service);
}

static void free_removed(struct watch_services *removed)
{
	struct watch_service *service;

	while ((service = TAILQ_FIRST(removed))) {
		TAILQ_REMOVE(removed, service, entry);
		service_free(service);
	}
}

static void on_deferred(struct loop_source *source, void *user)
{
	struct registry_watch *watch = user;
	struct watch_read *read = read_new(watch);

	(void)source;
	free_removed(&watch->removed);
	if (!read) {
		loop_source_arm(watch->timer, loop_now(watch->loop) + watch->times.pause_first);
		return;
	}
	loop_source_arm(watch->timer, gather(watch, read, loop_now(watch->loop)));
	if (read->count > 0)
		read_start(read);
	else
		read_free(read);
}

static void on_timer(struct loop_source *source, void *user)
{
	struct registry_watch *watch = user;

	(void)source;
	loop_source_trigger(watch->deferred);
}

/* The services */

static int by_key(const void *a, const void *b)
{
	const struct watch_service *left = a, *right = b;

	return strcmp(left->key, right->key);
}

static struct watch_service *watch_find(const struct registry_watch *watch, const char *key)
{
	char *borrowed = (char *)(uintptr_t)key;
	const struct watch_service wanted = {.key = borrowed};
	struct watch_service *const *found = tfind(&wanted, &watch->by_key, by_key);

	return found ? *found : NULL;
}

int registry_watch_add(struct registry_watch *watch, const char *key)
{
	struct watch_service *service;

	if (watch_find(watch, key))
		return -EEXIST;
	service = calloc(1, sizeof(*service));
	if (!service)
		return -ENOMEM;
	service->watch = watch;
	service->key = strdup(key);
	if (!service->key || !tsearch(service, &watch->by_key, by_key)) {
		service_free(service);
		return -ENOMEM;
	}
	service->key_length = strlen(key);
	TAILQ_INSERT_TAIL(&watch->services, service, entry);
	watch->count++;
	watch_read_again(service, true);
	return 0;
}

static void service_remove(struct watch_service *service)
{
	struct registry_watch *watch = service->watch;

	watch->ops->unfollow(service);
	read_abandon(service);
	service->removed = true;
	service->known = false;
	(void)tdelete(service, &watch->by_key, by_key);
	TAILQ_REMOVE(&watch->services, service, entry);
	TAILQ_INSERT_TAIL(&watch->removed, service, entry);
	watch->count--;
	loop_source_trigger(watch->deferred);
}

void registry_watch_remove(struct registry_watch *watch, const char *key)
{
	struct watch_service *service = watch_find(watch, key);

	if (service)
		service_remove(service);
}

void registry_watch_resync(struct registry_watch *watch)
{
	struct watch_service *service;

	TAILQ_FOREACH(service, &watch->services, entry)
	watch_read_again(service, true);
}

/* The watch */

int registry_watch_new(struct registry *registry, const struct registry_watch_functions *functions,
		       void *user, struct registry_watch **ret, struct error *error)
{
	struct registry_watch *watch = calloc(1, sizeof(*watch));
	int code;

	if (!watch)
		return error_no_memory(error);
	watch->registry = registry;
	watch->loop = registry->loop;
	watch->ops = registry->ops->watch;
	watch->functions = *functions;
	watch->user = user;
	watch->times = default_times;
	TAILQ_INIT(&watch->services);
	TAILQ_INIT(&watch->removed);
	LIST_INIT(&watch->reads);
	if (loop_add_deferred(watch->loop, "registry watch", on_deferred, watch, &watch->deferred) <
		    0 ||
	    loop_add_timer(watch->loop, "registry retry", UINT64_MAX, on_timer, watch,
			   &watch->timer) < 0)
		code = error_no_memory(error);
	else
		code = watch->ops->begin(watch, error);
	if (code < 0) {
		registry_watch_free(watch);
		return code;
	}
	*ret = watch;
	return 0;
}

void registry_watch_free(struct registry_watch *watch)
{
	struct watch_service *service, *next_service;
	struct watch_read *read, *next_read;

	if (!watch)
		return;
	if (watch->ops->reset)
		watch->ops->reset(watch);
	for (read = LIST_FIRST(&watch->reads); read; read = next_read) {
		next_read = LIST_NEXT(read, entry);
		registry_read_cancel(read->read);
		read_free(read);
	}
	for (service = TAILQ_FIRST(&watch->services); service; service = next_service) {
		next_service = TAILQ_NEXT(service, entry);
		service_remove(service);
	}
	free_removed(&watch->removed);
	watch->ops->end(watch);
	loop_source_free(watch->deferred);
	loop_source_free(watch->timer);
	free(watch);
}

enum registry_state registry_watch_state(const struct registry_watch *watch)
{
	return watch->state;
}

void registry_watch_counts(const struct registry_watch *watch, struct registry_counts *ret)
{
	*ret = watch->counts;
}
