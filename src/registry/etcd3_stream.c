/* SPDX-License-Identifier: MIT */
#include "etcd3_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "answer.h"
#include "dragoman/base/log.h"
#include "etcd3_watch_codec.h"

/*
 * Theory of operation
 *
 * The stream: a POST whose upload stays open. It is opened with the request
 * that creates the first watcher; each next one is created when the one before
 * was answered (etcd3_stream_pump()), and the timer sees that an answer comes.
 *
 * A stream that ends, that says what cannot be, or that is silent for too long
 * although it was asked for a sign of life, is lost: every watcher waits
 * again, and the next host is tried after a pause. What is known stays.
 *
 * One that was idle and is cut off then is most often ended by what stands between
 * (a proxy's "timeout client"), and nobody is lost: it is opened anew at once, and
 * only what becomes of that is told. How long it had been idle tells how often a
 * sign of life has to be asked for from now on, so that it is not cut off again.
 * Where it cannot be opened it was no proxy, but an etcd that has ended: then
 * nothing is learned of it, or each restart would have us ask more often.
 *
 * A member that is cut off from the others serves watches all the same, of what
 * it knows, and answers signs of life. The header "hasleader" (etcd's clients
 * call it WithRequireLeader) has it end the stream once it has had no leader
 * for three election timeouts.
 *
 * A watcher goes on behind what it told. One that comes from another stream asks
 * from the revision that it told last, and drops that: where a compaction came
 * in between, etcd refuses this revision, while the one behind it may be that
 * of a deletion that etcd has forgotten, and does not miss (etcd issue 18089).
 *
 * `serial` counts streams. What may end one of them, and then open another, is
 * told from the old one by that.
 */

enum { STREAM_OBJECT_MAX = 16 * 1024 * 1024, STREAM_FAILURE_MAX = 64 * 1024 };

static uint64_t stream_quiet(const struct stream *stream)
{
	return stream->cut_quiet ? stream->cut_quiet : stream->watch->times.quiet;
}

void etcd3_stream_arm(struct stream *stream)
{
	const struct watch_times *times = &stream->watch->times;

	loop_source_arm(stream->timer,
			stream->heard +
				(stream->creating_id ? times->answer : stream_quiet(stream)));
}

void etcd3_stream_close(struct stream *stream)
{
	struct watch_service *service;

	http_cancel(TAKE(stream->request));
	stream->serial++;
	stream->live = stream->suspected = stream->paused = false;
	stream->watch->connected = false;
	stream->creating_id = 0;
	json_stream_done(&stream->objects);
	loop_source_arm(stream->timer, UINT64_MAX);
	TAILQ_FOREACH (service, &stream->watch->services, entry) {
		struct following *following = service->state;

		for (size_t i = 0; following && i < etcd3_watcher_count(following); i++) {
			struct watcher *watcher = &following->watchers[i];

			watcher->resumes = true;
			if (watcher->id == 0)
				continue;
			etcd3_watcher_drop(stream, watcher);
			etcd3_watcher_enqueue(stream, watcher);
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

/* Whether it was long enough without a word that this may be why it has ended. */
static bool stream_was_idle(const struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;

	return stream->live && stream->creating_id == 0 &&
	       loop_now(watch->loop) - stream->heard >= watch->times.idle;
}

static void stream_open_again(struct stream *stream)
{
	struct registry_watch *watch = stream->watch;
	uint64_t half = (loop_now(watch->loop) - stream->heard) / 2;

	if (half < watch->times.idle)
		half = watch->times.idle;
	if (half < stream_quiet(stream))
		stream->cut_quiet = half;
	log_debug("%s: the watch was cut off while it was idle, a sign of life each %.3f s from "
		  "now on",
		  watch->registry->hosts.urls[stream->host], (double)stream_quiet(stream) / 1e9);
	watch->counts.reconnects++;
	etcd3_stream_close(stream);
	etcd3_stream_pump(stream);
}

static void stream_lost(struct stream *stream, const struct error *error)
{
	struct registry_watch *watch = stream->watch;
	const struct hosts *hosts = &watch->registry->hosts;

	stream_count_failure(stream);
	etcd3_stream_close(stream);
	stream->cut_quiet = 0;
	stream->host = (stream->host + 1) % hosts->count;
	stream_pause(stream);
	watch_lost(watch, error);
}

void etcd3_stream_fail(struct stream *stream, int code, const char *what)
{
	const struct hosts *hosts = &stream->watch->registry->hosts;
	struct error error;

	(void)error_set(&error, code, ERROR_TRANSIENT, "%s: %s", hosts->urls[stream->host], what);
	stream_lost(stream, &error);
}

void etcd3_stream_renew(struct stream *stream)
{
	struct registry *registry = stream->watch->registry;
	bool is_old = stream->token_serial != registry->token_serial;

	if (!registry->user) {
		etcd3_stream_fail(stream, -EACCES, "it asks for a token, and no user is given");
		return;
	}
	if (!is_old) {
		stream_count_failure(stream);
		free(TAKE(registry->token));
	}
	etcd3_stream_close(stream);
	if (!is_old && stream->failures > 1)
		stream_pause(stream);
	else
		etcd3_stream_pump(stream);
}

void etcd3_stream_send(struct stream *stream, struct text *request)
{
	if (request->failed || http_send(stream->request, request->data, request->length) < 0)
		etcd3_stream_fail(stream, -EIO, "a request cannot be sent");
}

/* Answers */

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
		etcd3_stream_on_object(stream, received);
	if (stream->serial == serial && code < 0)
		etcd3_stream_fail(stream, code,
				  code == -EFBIG ? "one answer of the stream is too long"
						 : "the stream is not JSON objects");
	etcd3_stream_pump(stream);
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
	if (answer->status == 200 && stream_was_idle(stream)) {
		stream_open_again(stream);
		return;
	}
	if (http_error) {
		stream_lost(stream, http_error);
		return;
	}
	if (answer->status == 200) {
		etcd3_stream_fail(stream, -ECONNRESET, "the stream has ended");
		return;
	}
	etcd3_decode_failure(answer->body, answer->length, &failure);
	if (etcd3_failure_is_of_token(&failure) && stream->watch->registry->user) {
		etcd3_stream_renew(stream);
		return;
	}
	(void)etcd3_wrong_status(&judged, &failure, &error);
	(void)error_wrap(&error, "%s", judged.host);
	stream_lost(stream, &error);
}

/* Requests */

/* The buffer holds what the range points to. */
static struct etcd3_range watcher_range(const struct watcher *watcher, struct text *buffer)
{
	const struct watch_service *service = watcher->service;
	size_t length = service->key_length;
	struct etcd3_range range = {.start_length = length,
				    .revision = watcher->revision + !watcher->resumes};

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

static int stream_open(struct stream *stream, const struct text *first, struct error *error)
{
	const struct registry *registry = stream->watch->registry;
	const struct hosts *hosts = &registry->hosts;
	CLEANUP(text_done) struct text url = {0}, authorization = {0};
	bool has_token = registry->token && *registry->token;
	const char *headers[] = {"Content-Type: application/json",
				 "Connection: close",
				 "Expect: 100-continue",
				 "Grpc-Metadata-hasleader: true",
				 NULL,
				 NULL};
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
	headers[4] = authorization.data;
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
	stream->creating_since = stream->watch->counts.revision;
	stream->creating = watcher;
	if (!buffer.failed)
		etcd3_encode_create(&range, watcher->id, &request);
	stream->heard = loop_now(stream->watch->loop);
	if (buffer.failed || request.failed)
		code = error_no_memory(&error);
	else if (!stream->request)
		code = stream_open(stream, &request, &error);
	else
		etcd3_stream_send(stream, &request);
	if (code < 0)
		stream_lost(stream, &error);
	else if (stream->request)
		etcd3_stream_arm(stream);
}

void etcd3_stream_pump(struct stream *stream)
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

/* A sign of life was asked for: to see that it comes, and to ask for the next one. */
static void stream_arm_again(struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;
	uint64_t next = loop_now(watch->loop) + stream_quiet(stream);
	uint64_t end = stream->heard + watch->times.silence;

	loop_source_arm(stream->timer, next < end ? next : end);
}

static void stream_look(struct stream *stream)
{
	const struct registry_watch *watch = stream->watch;
	uint64_t quiet = loop_now(watch->loop) - stream->heard;
	CLEANUP(text_done) struct text request = {0};

	if (stream->creating_id != 0 && quiet >= watch->times.answer) {
		etcd3_stream_fail(stream, -ETIMEDOUT,
				  "the watch is not answered (does a proxy hold the request "
				  "back?)");
	} else if (quiet >= watch->times.silence) {
		stream->silences++;
		etcd3_stream_fail(stream, -ETIMEDOUT, "the watch has gone silent");
	} else if (quiet >= stream_quiet(stream) && stream->creating_id == 0) {
		etcd3_encode_progress(&request);
		etcd3_stream_send(stream, &request);
		if (stream->request)
			stream_arm_again(stream);
	} else {
		etcd3_stream_arm(stream);
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
	etcd3_stream_pump(stream);
}

struct stream *etcd3_stream_new(struct registry_watch *watch)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->watch = watch;
	stream->objects.max = STREAM_OBJECT_MAX;
	TAILQ_INIT(&stream->queue);
	if (loop_add_timer(watch->loop, "etcd watch", UINT64_MAX, on_timer, stream,
			   &stream->timer) < 0) {
		free(stream);
		return NULL;
	}
	return stream;
}

void etcd3_stream_free(struct stream *stream)
{
	if (!stream)
		return;
	http_cancel(stream->request);
	json_stream_done(&stream->objects);
	loop_source_free(stream->timer);
	free(stream);
}
