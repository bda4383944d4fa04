/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "dragoman/base/json_stream.h"
#include "etcd3_watch_codec.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * One POST to /v3/watch for all services. Its upload stays open and carries
 * requests, its answer a stream of objects. etcd's gateway gives no byte of
 * that before the upload has ended, unless the request says "Connection: close".
 *
 * A followed service has watchers: normally one, of the range [key, key0),
 * which holds the key, what is below "key/", and siblings such as "key-2",
 * whose events are dropped here. That is half the watchers, and half the
 * requests, of two exact ranges. Where a user may read those two but not what
 * is between them, the service gets two watchers after all (is_split).
 *
 * A watcher waits in `queue` until it is its turn to be created: one at a time
 * (`creating`), since a refusal bears no number. Once created it stands in
 * `by_id`. It resumes behind what it told last: two watchers of one service
 * that catch up are not ordered among each other. What can come of it:
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
 * A stream that ends, that says what cannot be, or that is silent for too long
 * although it was asked for a sign of life, is lost: every watcher waits
 * again, and the next host is tried after a pause. What is known stays.
 *
 * A member that lags behind has a lower revision than what is known, as has a
 * cluster that was restored. Everything is read anew then, once a stream; the
 * reads, which are linearizable, tell the two apart (watch.c).
 */

enum { STREAM_OBJECT_MAX = 16 * 1024 * 1024, STREAM_FAILURE_MAX = 64 * 1024 };

struct watcher {
	TAILQ_ENTRY(watcher) entry;    /* in queue, while `queued` */
	struct watch_service *service; /* NULL: removed while it was created */
	uint64_t id;                   /* 0: not asked for on this stream */
	uint64_t revision;             /* up to which its changes are told */
	enum { WHOLE, KEY_ITSELF, BELOW } part;
	bool queued;
	struct change_list fragments;
};

/* service->state */
struct following {
	bool is_split;
	struct watcher watchers[2]; /* the second one where it is split */
};

TAILQ_HEAD(watcher_queue, watcher);

struct stream {
	struct registry_watch *watch;
	struct http_request *request; /* NULL: there is none */
	struct loop_source *timer;    /* when to try again, or to look whether it is alive */
	struct json_stream objects;
	struct watcher_queue queue;
	struct watcher *creating;
	void *by_id; /* of tsearch(3) */
	uint64_t last_id, creating_id;
	size_t host;
	unsigned failures;
	unsigned token_serial; /* of the token that it was opened with */
	unsigned serial;       /* counts streams */
	bool paused;           /* until the timer */
	bool live, suspected;
	uint64_t live_since, heard; /* loop_now() */
	size_t followed;            /* services */
};

static void stream_pump(struct stream *stream);
static void stream_lost(struct stream *stream, const struct error *error);

/* Watchers */

static int by_id(const void *a, const void *b)
{
	const struct watcher *left = a, *right = b;

	return (left->id > right->id) - (left->id < right->id);
}

static struct watcher *watcher_find(const struct stream *stream, uint64_t id)
{
	const struct watcher wanted = {.id = id};
	struct watcher *const *found = tfind(&wanted, &stream->by_id, by_id);

	return found ? *found : NULL;
}

static void watcher_enqueue(struct stream *stream, struct watcher *watcher)
{
	if (watcher->queued || watcher->id != 0)
		return;
	watcher->queued = true;
	TAILQ_INSERT_TAIL(&stream->queue, watcher, entry);
}

/* Forgets what the stream knows of it; it is in no list then. */
static void watcher_drop(struct stream *stream, struct watcher *watcher)
{
	if (watcher->queued)
		TAILQ_REMOVE(&stream->queue, watcher, entry);
	if (watcher->id != 0)
		(void)tdelete(watcher, &stream->by_id, by_id);
	if (stream->creating == watcher)
		stream->creating = NULL;
	watcher->queued = false;
	watcher->id = 0;
	change_list_done(&watcher->fragments);
}

static size_t watcher_count(const struct following *following)
{
	return following->is_split ? 2 : 1;
}

static void service_drop(struct stream *stream, struct following *following)
{
	for (size_t i = 0; i < watcher_count(following); i++)
		watcher_drop(stream, &following->watchers[i]);
}

/* The buffer holds what the range points to. */
static struct etcd3_range watcher_range(const struct watcher *watcher, struct text *buffer)
{
	const struct watch_service *service = watcher->service;
	size_t length = service->key_length;
	struct etcd3_range range = {.start_length = length, .revision = watcher->revision + 1};

	text_printf(buffer, "%s/%s0", service->key, service->key);
	if (buffer->failed)
		return range;
	range.start = buffer->data;
	if (watcher->part == BELOW)
		range.start_length = length + 1;
	if (watcher->part != KEY_ITSELF) {
		range.end = buffer->data + length + 1;
		range.end_length = length + 1;
	}
	return range;
}

/* The stream */

static void stream_arm(struct stream *stream)
{
	const struct watch_times *times = &stream->watch->times;

	loop_source_arm(stream->timer,
			stream->heard + (stream->creating_id ? times->answer : times->quiet));
}

/* Ends the stream without a word; every watcher is of none then. */
static void stream_close(struct stream *stream)
{
	struct watch_service *service;

	http_cancel(TAKE(stream->request));
	stream->serial++;
	stream->live = stream->suspected = stream->paused = false;
	stream->watch->connected = false;
	stream->creating_id = 0;
	json_stream_done(&stream->objects);
	loop_source_arm(stream->timer, UINT64_MAX);
	TAILQ_FOREACH(service, &stream->watch->services, entry)
	{
		struct following *following = service->state;

		for (size_t i = 0; following && i < watcher_count(following); i++) {
			struct watcher *watcher = &following->watchers[i];

			if (watcher->id == 0)
				continue;
			watcher_drop(stream, watcher);
			watcher_enqueue(stream, watcher);
		}
	}
}

static void stream_pause(struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;

	stream->paused = true;
	loop_source_arm(stream->timer,
			loop_now(watch->loop) + watch_pause(watch, stream->failures));
}

/* A stream that held for a while is no failure in a row. */
static void stream_count_failure(struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;

	if (stream->live && loop_now(watch->loop) - stream->live_since > watch->times.pause_max)
		stream->failures = 0;
	stream->failures++;
}

static void stream_lost(struct stream *stream, const struct error *error)
{
	struct registry_watch *watch = stream->watch;
	const struct hosts *hosts = &watch->registry->hosts;

	stream_count_failure(stream);
	stream_close(stream);
	stream->host = (stream->host + 1) % hosts->count;
	stream_pause(stream);
	watch_lost(watch, error);
}

static void stream_fail(struct stream *stream, int code, const char *what)
{
	const struct hosts *hosts = &stream->watch->registry->hosts;
	struct error error;

	(void)error_set(&error, code, ERROR_TRANSIENT, "%s: %s", hosts->urls[stream->host], what);
	stream_lost(stream, &error);
}

/* A token was refused: another one, by way of a read where no read got one yet. */
static void stream_renew(struct stream *stream)
{
	struct registry *registry = stream->watch->registry;
	bool is_old = stream->token_serial != registry->token_serial;

	if (!registry->user) {
		stream_fail(stream, -EACCES, "it asks for a token, and no user is given");
		return;
	}
	if (!is_old) {
		stream_count_failure(stream);
		free(TAKE(registry->token));
	}
	stream_close(stream);
	if (!is_old && stream->failures > 1)
		stream_pause(stream);
	else
		stream_pump(stream);
}

static void stream_send(struct stream *stream, struct text *request)
{
	if (request->failed || http_send(stream->request, request->data, request->length) < 0)
		stream_fail(stream, -EIO, "a request cannot be sent");
}

/* Answers */

static void service_forbidden(struct stream *stream, struct watch_service *service,
			      const struct error *error)
{
	struct following *following = service->state;

	service_drop(stream, following);
	if (following->is_split) {
		watch_fail(service, error);
		return;
	}
	following->is_split = true;
	for (size_t i = 0; i < 2; i++) {
		following->watchers[i] = (struct watcher){.service = service,
							  .revision = service->revision,
							  .part = i ? BELOW : KEY_ITSELF};
		watcher_enqueue(stream, &following->watchers[i]);
	}
}

/* Those that wait with a revision that is as old need not hear it one by one. */
static void service_compacted(struct stream *stream, struct watch_service *service,
			      uint64_t compact_revision)
{
	struct registry_watch *watch = stream->watch;
	struct watch_service *other;

	TAILQ_FOREACH(other, &watch->services, entry)
	{
		struct following *following = other->state;
		bool waits = following && following->watchers[0].queued;

		if (other != service &&
		    !(waits && following->watchers[0].revision + 1 < compact_revision))
			continue;
		service_drop(stream, following);
		watch->counts.compactions++;
		watch_read_again(other, true);
	}
}

static void watcher_canceled(struct stream *stream, struct watcher *watcher,
			     const struct etcd3_watch_answer *answer)
{
	const struct hosts *hosts = &stream->watch->registry->hosts;
	struct watch_service *service = watcher->service;
	struct error error;

	watcher_drop(stream, watcher);
	if (etcd3_reason_is_of_token(answer->reason)) {
		watcher_enqueue(stream, watcher);
		stream_renew(stream);
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
	service_drop(stream, service->state);
	watch_fail(service, &error);
}

/* Whether the stream may go on. */
static bool check_past(struct stream *stream, const struct registry_position *position)
{
	struct registry_watch *watch = stream->watch;

	if (watch_is_foreign(watch, position->cluster)) {
		registry_watch_resync(watch);
		stream_fail(stream, -ESTALE, "it is of another cluster than what is known");
		return false;
	}
	if (position->revision < watch->counts.revision && !stream->suspected) {
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
		stream_fail(stream, -EBADMSG, "it created a watcher that was not asked for");
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
	stream_arm(stream);
	if (answer->canceled)
		return;
	if (!stream->live) {
		stream->live = watch->connected = true;
		stream->live_since = loop_now(watch->loop);
		watch_live(watch);
	}
	if (watcher && tsearch(watcher, &stream->by_id, by_id)) {
		watch_followed(watcher->service);
		return;
	}
	/* Its service is gone; or there is no memory, and the service is read anew later. */
	etcd3_encode_cancel(answer->id, &request);
	stream_send(stream, &request);
	if (watcher) {
		watcher->id = 0;
		service_drop(stream, watcher->service->state);
		watch_read_again(watcher->service, true);
	}
}

static void stream_on_events(struct stream *stream, const struct etcd3_watch_answer *answer,
			     uint64_t received)
{
	struct watcher *watcher = watcher_find(stream, answer->id);
	CLEANUP(change_list_done) struct change_list list = {0};
	struct watch_service *service;
	uint64_t newest, since;
	struct error error;

	if (!watcher)
		return;
	service = watcher->service;
	if (etcd3_decode_events(answer, service->key, &watcher->fragments, &error) < 0) {
		stream_fail(stream, error.code, error.message);
		return;
	}
	if (change_list_is_too_large(&watcher->fragments)) {
		watcher_drop(stream, watcher);
		watch_read_again(service, true);
		return;
	}
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
	struct watcher *watcher = watcher_find(stream, answer->id);

	if (answer->created)
		stream_on_created(stream, answer);
	else if (answer->canceled && watcher)
		watcher_canceled(stream, watcher, answer);
	else if (answer->events)
		stream_on_events(stream, answer, received);
}

static void stream_on_object(struct stream *stream, uint64_t received)
{
	CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
	const struct text *object = &stream->objects.object;
	struct error error;

	if (etcd3_decode_watch(object->data, object->length, &answer, &error) == 0)
		stream_on_answer(stream, &answer, received);
	else if (error.code == -EACCES)
		stream_renew(stream);
	else
		stream_fail(stream, error.code, error.message);
}

static void on_data(struct http_request *request, const char *data, size_t length, void *user)
{
	struct stream *stream = user;
	const unsigned serial = stream->serial;
	uint64_t received = loop_now(stream->watch->loop);
	int code = 0;

	(void)request;
	stream->heard = received;
	while (stream->serial == serial &&
	       (code = json_stream_next(&stream->objects, &data, &length)) > 0)
		stream_on_object(stream, received);
	if (stream->serial == serial && code < 0)
		stream_fail(stream, code,
			    code == -EFBIG ? "one answer of the stream is too long"
					   : "the stream is not JSON objects");
	stream_pump(stream);
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *http_error, void *user)
{
	struct stream *stream = user;
	const struct hosts *hosts = &stream->watch->registry->hosts;
	const struct exchange_answer judged = {.host = hosts->urls[stream->host],
					       .request = request,
					       .status = answer->status,
					       .body = answer->body,
					       .length = answer->length};
	struct etcd3_failure failure;
	struct error error;

	stream->request = NULL; /* frees itself */
	if (http_error) {
		stream_lost(stream, http_error);
		return;
	}
	if (answer->status == 200) {
		stream_fail(stream, -ECONNRESET, "the stream has ended");
		return;
	}
	etcd3_decode_failure(answer->body, answer->length, &failure);
	if (etcd3_failure_is_of_token(&failure) && stream->watch->registry->user) {
		stream_renew(stream);
		return;
	}
	(void)etcd3_wrong_status(&judged, &failure, &error);
	(void)error_wrap(&error, "%s", judged.host);
	stream_lost(stream, &error);
}

/* Requests */

static int stream_open(struct stream *stream, const struct text *first, struct error *error)
{
	const struct registry *registry = stream->watch->registry;
	const struct hosts *hosts = &registry->hosts;
	CLEANUP(text_done) struct text url = {0}, authorization = {0};
	bool has_token = registry->token && *registry->token;
	const char *headers[] = {"Content-Type: application/json", "Connection: close",
				 "Expect:", NULL, NULL};
	struct http_call call = {.name = hosts->urls[stream->host],
				 .headers = headers,
				 .body = first->data,
				 .body_length = first->length,
				 .keep_upload_open = true,
				 .answer_max = STREAM_FAILURE_MAX,
				 .connect_timeout = stream->watch->times.answer,
				 .on_data = on_data,
				 .on_done = on_done,
				 .user_data = stream};

	text_printf(&url, "%s/v3/watch", hosts->urls[stream->host]);
	if (has_token)
		text_printf(&authorization, "Authorization: %s", registry->token);
	if (url.failed || authorization.failed)
		return error_no_memory(error);
	call.url = url.data;
	headers[3] = authorization.data;
	stream->token_serial = registry->token_serial;
	return http_start(hosts->client, &call, &stream->request, error);
}

/* Sends the create request of the next watcher, on a stream that is opened for it if need be. */
static void stream_create(struct stream *stream, struct watcher *watcher)
{
	CLEANUP(text_done) struct text request = {0}, buffer = {0};
	const struct etcd3_range range = watcher_range(watcher, &buffer);
	struct error error;
	int code = 0;

	TAILQ_REMOVE(&stream->queue, watcher, entry);
	watcher->queued = false;
	watcher->id = stream->creating_id = ++stream->last_id;
	stream->creating = watcher;
	if (!buffer.failed)
		etcd3_encode_create(&range, watcher->id, &request);
	stream->heard = loop_now(stream->watch->loop);
	if (buffer.failed || request.failed)
		code = error_no_memory(&error);
	else if (!stream->request)
		code = stream_open(stream, &request, &error);
	else
		stream_send(stream, &request);
	if (code < 0)
		stream_lost(stream, &error);
	else if (stream->request)
		stream_arm(stream);
}

static void stream_pump(struct stream *stream)
{
	const struct registry *registry = stream->watch->registry;
	struct watcher *watcher = TAILQ_FIRST(&stream->queue);

	if (!watcher || stream->paused || stream->creating_id != 0)
		return;
	if (registry->user && !registry->token) {
		/* A read gets one; what is read is followed, and comes here again. */
		watch_read_again(watcher->service, false);
		return;
	}
	stream_create(stream, watcher);
}

static void stream_look(struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;
	uint64_t quiet = loop_now(watch->loop) - stream->heard;
	CLEANUP(text_done) struct text request = {0};

	if (stream->creating_id != 0 && quiet >= watch->times.answer) {
		stream_fail(stream, -ETIMEDOUT, "the watch is not answered");
	} else if (quiet >= watch->times.silence) {
		stream_fail(stream, -ETIMEDOUT, "the watch has gone silent");
	} else if (quiet >= watch->times.quiet && stream->creating_id == 0) {
		etcd3_encode_progress(&request);
		stream_send(stream, &request);
		if (stream->request)
			loop_source_arm(stream->timer, stream->heard + watch->times.silence);
	} else {
		stream_arm(stream);
	}
}

static void on_timer(struct loop_source *source, void *user)
{
	struct stream *stream = user;

	(void)source;
	if (stream->request) {
		stream_look(stream);
		return;
	}
	stream->paused = false;
	stream_pump(stream);
}

/* What watch.c calls */

static void etcd3_follow(struct watch_service *service)
{
	struct stream *stream = service->watch->kind;
	struct following *following = service->state;
	struct error error;

	if (!following) {
		following = service->state = calloc(1, sizeof(*following));
		if (!following) {
			(void)error_no_memory(&error);
			watch_fail(service, &error);
			return;
		}
		following->watchers[0].service = service;
		stream->followed++;
		if (!stream->request && !stream->paused)
			stream->host = service->watch->registry->hosts.preferred;
	}
	for (size_t i = 0; i < watcher_count(following); i++) {
		struct watcher *watcher = &following->watchers[i];

		if (watcher->revision < service->read_at)
			watcher->revision = service->read_at;
		watcher_enqueue(stream, watcher);
	}
	stream_pump(stream);
}

static void etcd3_unfollow(struct watch_service *service)
{
	struct stream *stream = service->watch->kind;
	struct following *following = TAKE(service->state);

	for (size_t i = 0; following && i < watcher_count(following); i++) {
		const struct watcher *watcher = &following->watchers[i];
		CLEANUP(text_done) struct text request = {0};

		/* One that is being created is cancelled when it is there. */
		if (watcher->id == 0 || stream->creating == watcher || !stream->request)
			continue;
		etcd3_encode_cancel(watcher->id, &request);
		/* Where that fails the stream is about to end. */
		if (!request.failed)
			(void)http_send(stream->request, request.data, request.length);
	}
	if (!following)
		return;
	service_drop(stream, following);
	free(following);
	if (--stream->followed == 0)
		stream_close(stream);
}

static void etcd3_reset(struct registry_watch *watch)
{
	if (watch->kind)
		stream_close(watch->kind);
}

static int etcd3_begin(struct registry_watch *watch, struct error *error)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return error_no_memory(error);
	watch->kind = stream;
	stream->watch = watch;
	stream->objects.max = STREAM_OBJECT_MAX;
	TAILQ_INIT(&stream->queue);
	if (loop_add_timer(watch->loop, "etcd watch", UINT64_MAX, on_timer, stream,
			   &stream->timer) < 0)
		return error_no_memory(error);
	return 0;
}

static void etcd3_end(struct registry_watch *watch)
{
	struct stream *stream = watch->kind;

	if (!stream)
		return;
	http_cancel(stream->request);
	json_stream_done(&stream->objects);
	loop_source_free(stream->timer);
	free(stream);
	watch->kind = NULL;
}

const struct watch_ops etcd3_watch_ops = {
	.begin = etcd3_begin,
	.end = etcd3_end,
	.follow = etcd3_follow,
	.unfollow = etcd3_unfollow,
	.reset = etcd3_reset,
};
