/* SPDX-License-Identifier: MIT */
#include "dragoman/registry/watch.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "watch_private.h"
#include "watch_read.h"

/*
 * Theory of operation
 *
 * The services of a watch, and what they are told. A service that is added,
 * asked for anew, or whose following came to an end is `wanted`. At the end of
 * the wake-up those that are wanted are read (watch_read.c); once read, they
 * are followed by the registry's kind (struct watch_ops), whose changes come
 * in by watch_changes().
 *
 * While a service is read anew its changes go on being told, and are kept in
 * `meanwhile` besides, for the read to be brought up to date with.
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
	.idle = 1000UL * MILLISECONDS,
	.turn = 2000UL * MILLISECONDS,
	.pace = 1000UL * MILLISECONDS,
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

/* Whether an error is one more kind since the registry is lost; it is noted then. */
static bool lost_differently(struct registry_watch *watch, const struct error *error)
{
	for (size_t i = 0; error && i < ARRAY_SIZE(watch->lost_codes); i++) {
		if (watch->lost_codes[i] == error->code)
			return false;
		if (watch->lost_codes[i] == 0) {
			watch->lost_codes[i] = error->code;
			return true;
		}
	}
	return false;
}

static void watch_set_state(struct registry_watch *watch, enum registry_state state,
			    const struct error *error)
{
	if (watch->state != state)
		memset(watch->lost_codes, 0, sizeof(watch->lost_codes));
	if (!lost_differently(watch, error) && watch->state == state)
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

void watch_tell(const struct watch_service *service, struct registry_update *update)
{
	const struct registry_watch *watch = service->watch;

	update->key = service->key;
	if (!update->error)
		update->revision = service->revision;
	watch->functions.on_update(update, watch->user);
}

void watch_tell_error(struct watch_service *service, const struct error *error)
{
	struct registry_update update = {.error = error,
					 .received = loop_now(service->watch->loop)};

	service->watch->counts.errors++;
	service->tell = true;
	watch_tell(service, &update);
}

void watch_read_again(struct watch_service *service, bool is_told)
{
	service->wanted = true;
	service->tell = service->tell || is_told;
	service->when = 0;
	loop_source_trigger(service->watch->deferred);
}

void watch_read_later(struct watch_service *service, uint64_t pause)
{
	service->wanted = true;
	service->when = loop_now(service->watch->loop) + pause;
	loop_source_trigger(service->watch->deferred);
}

void watch_overtaken(struct watch_service *service)
{
	struct registry_watch *watch = service->watch;
	uint64_t now = loop_now(watch->loop);

	/* Longer than any pause, which is jittered by half. */
	if (now - service->overtaken > 2 * watch->times.pause_max)
		service->overtakes = 0;
	service->overtaken = now;
	watch->counts.compactions++;
	watch_read_again(service, true);
	/* It may have been followed in between, for a moment. */
	if (service->overtakes++ > 0)
		watch_read_later(service, watch_pause(watch, service->overtakes - 1));
}

void watch_followed(struct watch_service *service)
{
	service->failures = 0;
}

void watch_fail(struct watch_service *service, const struct error *error)
{
	service->failures++;
	watch_read_later(service, watch_pause(service->watch, service->failures));
	watch_tell_error(service, error);
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

void watch_saw(struct registry_watch *watch, uint64_t revision)
{
	if (revision > watch->counts.revision)
		watch->counts.revision = revision;
}

void watch_changes(struct watch_service *service, struct change_list *list, uint64_t since,
		   uint64_t received)
{
	struct registry_watch *watch = service->watch;
	uint64_t newest = change_list_newest(list);
	struct registry_update update = {.is_event = true, .received = received};
	struct change_sum sum;

	if (!service->known || newest <= since)
		return;
	if (keep_meanwhile(service, list, since) < 0) {
		/* What came meanwhile would not be all there. */
		watch_read_abandon(service);
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
	watch_tell(service, &update);
	change_sum_done(&sum);
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

static void service_free(struct watch_service *service)
{
	change_list_done(&service->meanwhile);
	free(service->key);
	free(service);
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
	watch_read_abandon(service);
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

	TAILQ_FOREACH (service, &watch->services, entry)
		watch_read_again(service, true);
}

/* The watch */

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

	(void)source;
	free_removed(&watch->removed);
	watch_read_wanted(watch);
}

static void on_timer(struct loop_source *source, void *user)
{
	struct registry_watch *watch = user;

	(void)source;
	loop_source_trigger(watch->deferred);
}

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
	struct watch_service *service, *next;

	if (!watch)
		return;
	if (watch->ops->reset)
		watch->ops->reset(watch);
	watch_reads_cancel(watch);
	for (service = TAILQ_FIRST(&watch->services); service; service = next) {
		next = TAILQ_NEXT(service, entry);
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
