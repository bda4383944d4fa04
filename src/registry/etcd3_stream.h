/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD3_STREAM_H
#define DRAGOMAN_REGISTRY_ETCD3_STREAM_H

/*
 * A watch of etcd v3: what etcd3_watch.c (its services and their watchers),
 * etcd3_stream.c (the stream that carries them) and etcd3_watch_answer.c (what
 * comes in on it) share.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dragoman/base/json_stream.h"
#include "watch_private.h"

struct watcher {
	TAILQ_ENTRY(watcher) entry;    /* in queue, while `queued` */
	struct watch_service *service; /* NULL: removed while it was created */
	uint64_t id;                   /* 0: not asked for on this stream */
	uint64_t revision;             /* up to which its changes are told */
	enum { WHOLE, KEY_ITSELF, BELOW } part;
	bool queued;
	bool resumes; /* it is some time since then: a compaction may have come */
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
	uint64_t creating_since; /* the newest revision known when that was asked for */
	size_t host;
	unsigned failures;
	unsigned token_serial; /* of the token that it was opened with */
	unsigned serial;       /* counts streams */
	bool paused;           /* until the timer */
	bool live, suspected;
	unsigned silences;          /* streams in a row that told nothing, and ended so */
	uint64_t live_since, heard; /* loop_now() */
	uint64_t cut_quiet; /* until a sign of life is asked for, once it was cut off; 0: it was not
			     */
	size_t followed;    /* services */
};

/* Watchers */

struct watcher *etcd3_watcher_find(const struct stream *stream, uint64_t id);
/* It was created: from now on it is found by its number. False when memory is exhausted. */
bool etcd3_watcher_add(struct stream *stream, struct watcher *watcher);
/* It waits for its turn, unless it does already or has had it. */
void etcd3_watcher_enqueue(struct stream *stream, struct watcher *watcher);
/* Tells the other side to end it. One that is being created is cancelled when it is there. */
void etcd3_watcher_cancel(struct stream *stream, const struct watcher *watcher);
/* Forgets what the stream knows of it; it is in no list then. */
void etcd3_watcher_drop(struct stream *stream, struct watcher *watcher);
size_t etcd3_watcher_count(const struct following *following);
/* Drops each watcher of a service. */
void etcd3_watchers_drop(struct stream *stream, struct following *following);

/* The stream */

/* NULL when memory is exhausted. Nothing is opened before a watcher waits. */
struct stream *etcd3_stream_new(struct registry_watch *watch);
/* NULL is fine. No service is followed any more. */
void etcd3_stream_free(struct stream *stream);
/* Creates the watcher whose turn it is: called whenever the queue grew or an answer came. */
void etcd3_stream_pump(struct stream *stream);
/* Has the timer look whether the stream is alive, in time for what is waited for. */
void etcd3_stream_arm(struct stream *stream);
/* Sends an encoded request, which the caller still owns. Where it cannot, the stream fails. */
void etcd3_stream_send(struct stream *stream, struct text *request);
/* Ends the stream without a word; every watcher is of none then. */
void etcd3_stream_close(struct stream *stream);
/* Ends it with an error, and tries the next host after a pause. */
void etcd3_stream_fail(struct stream *stream, int code, const char *what);
/* A token was refused: another one, by way of a read where no read got one yet. */
void etcd3_stream_renew(struct stream *stream);

/* Takes what stream->objects holds; `received` is loop_now(). May end the stream. */
void etcd3_stream_on_object(struct stream *stream, uint64_t received);

#endif
