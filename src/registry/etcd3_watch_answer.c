/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "answer.h"
#include "etcd3_stream.h"
#include "etcd3_watch_codec.h"

/*
 * Theory of operation
 *
 * The stream's answers, one object each, and what can come of a watcher:
 *
 *   created             the next one's turn; of the first one on a stream, the
 *                       stream is live
 *   events              told, when the last fragment is there
 *   compacted           the service is read anew, and with it all that wait
 *                       for their turn with a revision as old
 *   refused: the token  opens the stream anew, with the token that a read got
 *                       meanwhile, or else after a read that gets one
 *   refused: forbidden  two watchers; if it was of two, the service fails
 *   cancelled           otherwise: the service fails, and is tried again
 *
 * A member that lags behind has a lower revision than what was known when the
 * watcher was asked for, as has a cluster that was restored. Everything is read
 * anew then, once a stream; the reads, which are linearizable, tell the two
 * apart (watch_read.c).
 *
 * Most of these may end the stream, and with it the numbers of all watchers.
 */

static void service_forbidden(struct stream *stream, struct watch_service *service,
			      const struct error *error)
{
	struct following *following = service->state;

	etcd3_watchers_drop(stream, following);
	if (following->is_split) {
		watch_fail(service, error);
		return;
	}
	following->is_split = true;
	for (size_t i = 0; i < 2; i++) {
		following->watchers[i] = (struct watcher){.service = service,
							  .revision = service->revision,
							  .part = i ? BELOW : KEY_ITSELF};
		etcd3_watcher_enqueue(stream, &following->watchers[i]);
	}
}

/* Those that wait with a revision that is as old need not hear it one by one. */
static void service_compacted(struct stream *stream, struct watch_service *service,
			      uint64_t compact_revision)
{
	struct registry_watch *watch = stream->watch;
	struct watch_service *other;

	TAILQ_FOREACH (other, &watch->services, entry) {
		struct following *following = other->state;
		bool waits = following && following->watchers[0].queued;

		if (other != service &&
		    !(waits && following->watchers[0].revision + 1 < compact_revision))
			continue;
		etcd3_watchers_drop(stream, following);
		watch_overtaken(other);
	}
}

static void watcher_canceled(struct stream *stream, struct watcher *watcher,
			     const struct etcd3_watch_answer *answer)
{
	const struct hosts *hosts = &stream->watch->registry->hosts;
	struct watch_service *service = watcher->service;
	struct error error;

	etcd3_watcher_drop(stream, watcher);
	if (etcd3_reason_is_of_token(answer->reason)) {
		etcd3_watcher_enqueue(stream, watcher);
		etcd3_stream_renew(stream);
		return;
	}
	if (answer->compact_revision != 0) {
		service_compacted(stream, service, answer->compact_revision);
		return;
	}
	(void)error_set(&error, -EACCES, ERROR_INVALID, "%s: the watch is refused: %s",
			hosts->urls[stream->host],
			answer->reason[0] ? answer->reason : "without a reason");
	if (strstr(answer->reason, "permission denied")) {
		service_forbidden(stream, service, &error);
		return;
	}
	etcd3_watchers_drop(stream, service->state);
	watch_fail(service, &error);
}

/* Whether the stream may go on. */
static bool check_past(struct stream *stream, const struct registry_position *position)
{
	struct registry_watch *watch = stream->watch;

	if (watch_is_foreign(watch, position->cluster)) {
		registry_watch_resync(watch);
		etcd3_stream_fail(stream, -ESTALE, "it is of another cluster than what is known");
		return false;
	}
	/* Events that overtook the answer are newer than it, and tell nothing. */
	if (position->revision < stream->creating_since && !stream->suspected) {
		stream->suspected = true;
		registry_watch_resync(watch);
	}
	return true;
}

static void stream_on_created(struct stream *stream, const struct etcd3_watch_answer *answer)
{
	struct registry_watch *watch = stream->watch;
	struct watcher *watcher = stream->creating;
	CLEANUP(text_done) struct text request = {0};

	if (stream->creating_id == 0 || (!answer->canceled && answer->id != stream->creating_id)) {
		etcd3_stream_fail(stream, -EBADMSG, "it created a watcher that was not asked for");
		return;
	}
	if (!answer->canceled && !check_past(stream, &answer->position))
		return;
	stream->creating_id = 0;
	stream->creating = NULL;
	if (watcher && answer->canceled) {
		watcher->id = 0;
		watcher_canceled(stream, watcher, answer);
		return;
	}
	etcd3_stream_arm(stream);
	if (answer->canceled)
		return;
	if (!stream->live) {
		stream->live = watch->connected = true;
		stream->live_since = loop_now(watch->loop);
		watch_live(watch);
		/*
		 * They may be at work on an answer for longer than we wait, such as one
		 * of 100,000 deletions, which begins anew with each stream. Then it is
		 * a read that ends that.
		 */
		if (stream->silences > 1)
			registry_watch_resync(watch);
	}
	if (watcher && etcd3_watcher_add(stream, watcher)) {
		watch_followed(watcher->service);
		return;
	}
	/* Its service is gone; or there is no memory, and the service is read anew later. */
	etcd3_encode_cancel(answer->id, &request);
	etcd3_stream_send(stream, &request);
	if (watcher) {
		watcher->id = 0;
		etcd3_watchers_drop(stream, watcher->service->state);
		watch_read_again(watcher->service, true);
	}
}

static void stream_on_events(struct stream *stream, const struct etcd3_watch_answer *answer,
			     uint64_t received)
{
	struct watcher *watcher = etcd3_watcher_find(stream, answer->id);
	CLEANUP(change_list_done) struct change_list list = {0};
	struct watch_service *service;
	uint64_t newest, since;
	struct error error;

	if (!watcher)
		return;
	service = watcher->service;
	if (etcd3_decode_events(answer, service->key, &watcher->fragments, &error) < 0) {
		etcd3_stream_fail(stream, error.code, error.message);
		return;
	}
	if (change_list_is_too_large(&watcher->fragments)) {
		etcd3_watcher_cancel(stream, watcher);
		etcd3_watcher_drop(stream, watcher);
		watch_read_again(service, true);
		return;
	}
	stream->silences = 0;
	if (answer->fragment)
		return;
	list = watcher->fragments;
	watcher->fragments = (struct change_list){0};
	newest = change_list_newest(&list);
	since = watcher->revision;
	if (newest > since)
		watcher->revision = newest;
	watch_changes(service, &list, since, received);
}

static void stream_on_answer(struct stream *stream, const struct etcd3_watch_answer *answer,
			     uint64_t received)
{
	struct watcher *watcher = etcd3_watcher_find(stream, answer->id);

	if (answer->created)
		stream_on_created(stream, answer);
	else if (answer->canceled && watcher)
		watcher_canceled(stream, watcher, answer);
	else if (answer->events)
		stream_on_events(stream, answer, received);
}

void etcd3_stream_on_object(struct stream *stream, uint64_t received)
{
	CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
	const struct text *object = &stream->objects.object;
	struct error error;

	if (etcd3_decode_watch(object->data, object->length, &answer, &error) == 0)
		stream_on_answer(stream, &answer, received);
	else if (error.code == -EACCES)
		etcd3_stream_renew(stream);
	else
		etcd3_stream_fail(stream, error.code, error.message);
}
