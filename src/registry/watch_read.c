/* SPDX-License-Identifier: MIT */
#include "watch_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * All services that are wanted and whose pause is over become one read;
 * several reads may be under way, but one a service. Its answer is told whole,
 * and the kind follows from its revision on.
 *
 * What was told while a service was read anew is in `meanwhile`. A read at
 * revision R and the changes newer than R make one state, which is what is
 * told: nothing goes back in time, nothing waits for the read. Changes up to R
 * that come later are dropped.
 *
 * Reads are linearizable. One that is older than what was known when it was
 * started, or of another cluster, is of a registry that was restored: then all
 * that is known is of a past that is gone (watch_restored()), and everything
 * is read anew. (That no host is left of the cluster that was known the read
 * itself sees to: registry->cluster.) Reads that were started before that are of no use (their
 * era).
 *
 * Where each service has an index of its own, and is followed by whole answers,
 * one of these may overtake a read, which then is not told; the kind finds out
 * whether that was so, or the registry went back (watch_went_back()).
 *
 * A read that fails tells its error and is tried again after a pause. Nothing
 * is ever taken away for want of an answer.
 */

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

void watch_read_abandon(struct watch_service *service)
{
	struct watch_read *read = service->read;

	for (size_t i = 0; read && i < read->count; i++) {
		if (read->services[i] == service)
			read->services[i] = NULL;
	}
	service->read = NULL;
	change_list_done(&service->meanwhile);
}

static void read_free(struct watch_read *read)
{
	LIST_REMOVE(read, entry);
	for (size_t i = 0; i < read->count; i++) {
		if (read->services[i])
			watch_read_abandon(read->services[i]);
	}
	free(read->services);
	free(read);
}

/*
 * The registry is not the one that was known, or went back: nothing of it holds
 * any more. read: what found that out, or NULL.
 */
static void watch_restored(struct registry_watch *watch, const char *what,
			   const struct watch_read *read)
{
	struct watch_service *service;

	if (watch->functions.on_restored)
		watch->functions.on_restored(what, watch->user);
	watch->era++;
	watch->counts.restorations++;
	if (watch->ops->reset)
		watch->ops->reset(watch);
	TAILQ_FOREACH (service, &watch->services, entry) {
		watch->ops->unfollow(service);
		service->known = false;
		service->restored = true;
		service->revision = service->index = 0;
		change_list_done(&service->meanwhile);
		/* This read is of the new past already, and so are its answers to come. */
		if (!read || service->read != read)
			watch_read_again(service, true);
	}
}

void watch_went_back(struct watch_service *service, uint64_t index)
{
	char what[160];

	(void)text_format(what, sizeof(what),
			  "the index of %s is %" PRIu64 ", and was %" PRIu64 " already",
			  service->key, index, service->index);
	watch_restored(service->watch, what, NULL);
}

static void restored_by_read(struct watch_read *read, const struct registry_position *position)
{
	struct registry_watch *watch = read->watch;
	char what[160];

	if (watch_is_foreign(watch, position->cluster))
		(void)text_format(what, sizeof(what),
				  "it is cluster %" PRIx64 " now, and was cluster %" PRIx64,
				  position->cluster, watch->cluster);
	else
		(void)text_format(what, sizeof(what),
				  "its revision is %" PRIu64 ", and was %" PRIu64 " already",
				  position->revision, read->known);
	watch->cluster = position->cluster;
	watch->counts.revision = position->revision;
	watch_restored(watch, what, read);
	read->era = watch->era;
	read->known = 0;
}

static void check_position(struct watch_read *read, const struct registry_position *position)
{
	struct registry_watch *watch = read->watch;

	if (read->era != watch->era)
		return;
	if (watch_is_foreign(watch, position->cluster) || position->revision < read->known)
		restored_by_read(read, position);
	if (position->cluster != 0)
		watch->cluster = watch->registry->cluster = position->cluster;
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

static void tell_all(struct watch_service *service, const struct document *documents, size_t count,
		     bool is_event)
{
	struct registry_update update = {.whole = true,
					 .is_event = is_event,
					 .restored = service->restored,
					 .documents = documents,
					 .count = count,
					 .received = loop_now(service->watch->loop)};

	service->tell = service->restored = false;
	watch_tell(service, &update);
}

static void tell_merged(struct watch_service *service, const struct registry_answer *answer)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	CLEANUP(change_sum_done) struct change_sum sum = {0};

	if (sum_up(service, answer, &list, &sum) < 0) {
		watch_read_again(service, true);
		return;
	}
	tell_all(service, sum.documents, sum.count, false);
}

static void tell_whole(struct watch_service *service, const struct registry_answer *answer,
		       bool is_event)
{
	const struct registry_watch *watch = service->watch;
	bool known = watch->ops->is_known &&
		     watch->ops->is_known(service, answer->documents, answer->count);

	if (service->revision > answer->position.revision) {
		tell_merged(service, answer);
		return;
	}
	service->revision = answer->position.revision;
	service->index = answer->position.index;
	if (!known || service->tell)
		tell_all(service, answer->documents, answer->count, is_event);
}

static void read_succeeded(struct watch_service *service, const struct registry_answer *answer)
{
	service->known = true;
	service->read_at = answer->position.revision;
	service->read_index = answer->position.index;
	if (service->read_index >= service->index)
		tell_whole(service, answer, false);
	change_list_done(&service->meanwhile);
	if (!service->removed && service->known)
		service->watch->ops->follow(service);
}

void watch_whole(struct watch_service *service, const struct registry_answer *answer)
{
	service->watch->counts.events++;
	tell_whole(service, answer, true);
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
		watch_read_later(service, read_pause(read, service->failures));
		watch_tell_error(service, answer->error);
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

	TAILQ_FOREACH (service, &watch->services, entry) {
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

void watch_read_wanted(struct registry_watch *watch)
{
	struct watch_read *read = read_new(watch);

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

void watch_reads_cancel(struct registry_watch *watch)
{
	struct watch_read *read, *next;

	for (read = LIST_FIRST(&watch->reads); read; read = next) {
		next = LIST_NEXT(read, entry);
		registry_read_cancel(read->read);
		read_free(read);
	}
}
