/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD3_WATCH_CODEC_H
#define DRAGOMAN_REGISTRY_ETCD3_WATCH_CODEC_H

/*
 * What goes both ways on a stream of etcd's /v3/watch, as bytes (WatchRequest
 * and WatchResponse of rpc.proto). No input or output.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "changes.h"
#include "etcd3_codec.h"

/* Follows a range from a revision on; `id` comes back with each of its answers. */
void etcd3_encode_create(const struct etcd3_range *range, uint64_t id, struct text *into);
void etcd3_encode_cancel(uint64_t id, struct text *into);
void etcd3_encode_progress(struct text *into);

struct etcd3_watch_answer {
	struct registry_position position; /* 0 in some answers that cancel */
	uint64_t id;                       /* 0: of no watcher (-1), or of one refused */
	bool created, canceled, fragment;
	uint64_t compact_revision; /* canceled: what was asked for is older than this */
	char reason[ETCD3_MESSAGE_MAX];
	json_t *root;         /* owned */
	const json_t *events; /* in it; NULL: none */
};

/*
 * Decodes one object of the stream. {"error": ...}, which ends the stream, is
 * an error too: -EACCES where a new token may help, else -EBADMSG. Returns 0,
 * one of those or -ENOMEM; with an error there is nothing to release.
 */
int etcd3_decode_watch(const char *body, size_t length, struct etcd3_watch_answer *ret,
		       struct error *error);
void etcd3_watch_answer_done(struct etcd3_watch_answer *answer);

/*
 * Adds the events of an answer that are of the service `key`: that key, and
 * what is below "key/". Others of the range [key, key0), such as "key-2", are
 * left out; any beyond it is an error. Returns 0, -ENOMEM or -EBADMSG with
 * error set; the list may then hold some changes more.
 */
int etcd3_decode_events(const struct etcd3_watch_answer *answer, const char *key,
			struct change_list *list, struct error *error);

/* Whether a reason, or a message, says that a new token may help. */
bool etcd3_reason_is_of_token(const char *reason);

#endif
