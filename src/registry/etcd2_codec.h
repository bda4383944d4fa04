/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD2_CODEC_H
#define DRAGOMAN_REGISTRY_ETCD2_CODEC_H

/*
 * Requests and answers of etcd's v2 keys API, as bytes
 * (https://etcd.io/docs/v2.3/api/). No input or output.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "changes.h"
#include "registry_private.h"

enum { ETCD2_DEPTH_MAX = 64, ETCD2_MESSAGE_MAX = 256 };

/*
 * "/v2/keys/services/app?recursive=true&quorum=true", percent-encoded (RFC 3986);
 * with names_only what is in a directory, and not what is in those in it.
 */
void etcd2_encode_path(const char *key, bool names_only, struct text *into);

/*
 * Decodes the answer to a GET of key: leaves of directories, at any depth up
 * to ETCD2_DEPTH_MAX, or the key itself. With names_only directories are
 * documents without a value. Every key is checked to lie below the one that was
 * asked for. Returns 0, -ENOMEM, or -EBADMSG with error set; the
 * list may then hold some documents more.
 */
int etcd2_decode_keys(const char *body, size_t length, const char *key, bool names_only,
		      struct document_list *list, struct error *error);

/* "/v2/keys/services/app?wait=true&recursive=true&waitIndex=8": the first event from there on. */
void etcd2_encode_poll(const char *key, uint64_t index, struct text *into);

/*
 * Decodes an event and adds it where it is of the service `key`; *ret_index is
 * its own. *ret_more is set where it stands for more than the key that it
 * names, a directory that went or was put in the place of something, or is of
 * an action that is not known. Returns 0, -ENOMEM, or -EBADMSG with error set.
 */
int etcd2_decode_event(const char *body, size_t length, const char *key, struct change_list *list,
		       uint64_t *ret_index, bool *ret_more, struct error *error);

enum {
	ETCD2_NO_ERROR = 0,
	ETCD2_KEY_NOT_FOUND = 100,
	ETCD2_UNAUTHORIZED = 110,
	ETCD2_EVENT_INDEX_CLEARED = 401,
};

/* {"errorCode": 100, "message": "Key not found", "cause": "/a", "index": 7} */
struct etcd2_failure {
	long code; /* ETCD2_NO_ERROR where the answer is none of etcd's errors */
	char message[ETCD2_MESSAGE_MAX];
};

void etcd2_decode_failure(const char *body, size_t length, struct etcd2_failure *ret);

#endif
