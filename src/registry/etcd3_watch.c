/* SPDX-License-Identifier: MIT */
#include <search.h>
#include <stdlib.h>

#include "etcd3_stream.h"
#include "etcd3_watch_codec.h"

/*
 * Theory of operation
 *
 * This file keeps the services and their watchers; etcd3_stream.c has the
 * stream, opens it and sends on it; etcd3_watch_answer.c says what comes of
 * each answer.
 *
 * One POST to /v3/watch for all services. Its upload stays open and carries
 * requests, its answer a stream of objects. etcd's gateway gives no byte of
 * that before the upload has ended, unless the request says "Connection: close", or
 * asks whether it may begin ("Expect: 100-continue"). It does both, since the first
 * goes no further than the next proxy that understands HTTP.
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
 * that catch up are not ordered among each other.
 */

/* Watchers */

static int by_id(const void *a, const void *b)
{
	const struct watcher *left = a, *right = b;

	return (left->id > right->id) - (left->id < right->id);
}

struct watcher *etcd3_watcher_find(const struct stream *stream, uint64_t id)
{
	const struct watcher wanted = {.id = id};
	struct watcher *const *found = tfind(&wanted, &stream->by_id, by_id);

	return found ? *found : NULL;
}

bool etcd3_watcher_add(struct stream *stream, struct watcher *watcher)
{
	return tsearch(watcher, &stream->by_id, by_id) != NULL;
}

void etcd3_watcher_enqueue(struct stream *stream, struct watcher *watcher)
{
	if (watcher->queued || watcher->id != 0)
		return;
	watcher->queued = true;
	TAILQ_INSERT_TAIL(&stream->queue, watcher, entry);
}

void etcd3_watcher_cancel(struct stream *stream, const struct watcher *watcher)
{
	CLEANUP(text_done) struct text request = {0};

	if (watcher->id == 0 || stream->creating == watcher || !stream->request)
		return;
	etcd3_encode_cancel(watcher->id, &request);
	/* Where that fails the stream is about to end. */
	if (!request.failed)
		(void)http_send(stream->request, request.data, request.length);
}

void etcd3_watcher_drop(struct stream *stream, struct watcher *watcher)
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

size_t etcd3_watcher_count(const struct following *following)
{
	return following->is_split ? 2 : 1;
}

void etcd3_watchers_drop(struct stream *stream, struct following *following)
{
	for (size_t i = 0; i < etcd3_watcher_count(following); i++)
		etcd3_watcher_drop(stream, &following->watchers[i]);
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
	for (size_t i = 0; i < etcd3_watcher_count(following); i++) {
		struct watcher *watcher = &following->watchers[i];

		if (watcher->revision < service->read_at) {
			watcher->revision = service->read_at;
			watcher->resumes = stream->paused;
		}
		/* It was followed all the time: what failed were reads. */
		if (watcher->id != 0 && watcher != stream->creating)
			watch_followed(service);
		etcd3_watcher_enqueue(stream, watcher);
	}
	etcd3_stream_pump(stream);
}

static void etcd3_unfollow(struct watch_service *service)
{
	struct stream *stream = service->watch->kind;
	struct following *following = TAKE(service->state);

	for (size_t i = 0; following && i < etcd3_watcher_count(following); i++)
		etcd3_watcher_cancel(stream, &following->watchers[i]);
	if (!following)
		return;
	etcd3_watchers_drop(stream, following);
	free(following);
	if (--stream->followed == 0)
		etcd3_stream_close(stream);
}

static void etcd3_reset(struct registry_watch *watch)
{
	if (watch->kind)
		etcd3_stream_close(watch->kind);
}

static int etcd3_begin(struct registry_watch *watch, struct error *error)
{
	watch->kind = etcd3_stream_new(watch);
	return watch->kind ? 0 : error_no_memory(error);
}

static void etcd3_end(struct registry_watch *watch)
{
	etcd3_stream_free(watch->kind);
	watch->kind = NULL;
}

const struct watch_ops etcd3_watch_ops = {
	.begin = etcd3_begin,
	.end = etcd3_end,
	.follow = etcd3_follow,
	.unfollow = etcd3_unfollow,
	.reset = etcd3_reset,
};
