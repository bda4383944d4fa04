/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD3_CODEC_H
#define DRAGOMAN_REGISTRY_ETCD3_CODEC_H

/*
 * Requests and answers of etcd's v3 JSON gateway, as bytes
 * (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/, and rpc.proto for
 * the fields). No input or output.
 *
 * Keys and values are base64, 64-bit numbers are strings, and a field that has
 * its default value is left out.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry_private.h"

/* One range of a transaction: a single key where end is NULL, else [start, end). */
struct etcd3_range {
	const char *start, *end;
	size_t start_length, end_length;
	uint64_t limit;    /* keys; 0: no limit */
	uint64_t revision; /* 0: the newest */
	bool keys_only;    /* the values are not wanted */
};

/* One key of an answer, raw. Returns 0 or -ENOMEM. */
typedef int etcd3_key_function(const char *key, size_t key_length, const char *value,
			       size_t value_length, void *user);

/* What a range came to. */
struct etcd3_result {
	struct document_list *list; /* in: gets the documents, */
	etcd3_key_function *take;   /* unless this is set, which gets each key then, */
	void *user;                 /* with this */
	bool more;                  /* the limit cut it */
	const char *last; /* where there are more: the last key, raw, in the list's arena */
	size_t last_length;
};

/*
 * The header of an answer, 0 where it has no such field. Returns 0, or
 * -EBADMSG with error set where there is no header, or a field is no number.
 */
int etcd3_decode_header(const json_t *root, struct registry_position *ret, struct error *error);

/* Decodes a string of digits; an absent field is 0. Returns 0 or -EBADMSG with error set. */
int etcd3_decode_number(const json_t *object, const char *name, uint64_t *ret, struct error *error);

/* Decodes base64 into the arena; an absent field is empty. Returns 0, -ENOMEM or -EBADMSG. */
int etcd3_decode_bytes(struct arena *arena, const json_t *kv, const char *name, const char **ret,
		       size_t *ret_length, struct error *error);

/* Keys in etcd's order, that of their bytes: less than 0, 0, more than 0. */
int etcd3_compare(const char *a, size_t a_length, const char *b, size_t b_length);

/* Writes "name":"base64 of key". */
void etcd3_encode_key(struct text *into, const char *name, const char *key, size_t length);

/* The body of POST /v3/kv/txn. */
void etcd3_encode_txn(const struct etcd3_range *ranges, size_t count, struct text *into);

/*
 * Decodes its answer: results[i] is what ranges[i] came to, *ret where
 * the store was. Every key is checked to be one that was asked for, in ascending
 * order. Returns 0, -ENOMEM, or -EBADMSG with error set; lists may then hold
 * some documents more.
 */
int etcd3_decode_txn(const char *body, size_t length, const struct etcd3_range *ranges,
		     size_t count, struct etcd3_result *results, struct registry_position *ret,
		     struct error *error);

/* The body of POST /v3/auth/authenticate. Returns 0, -ENOMEM, or -EINVAL: not UTF-8. */
int etcd3_encode_authenticate(const char *user, const char *password, struct text *into);

/* *ret is malloc()ed, of visible ASCII. Returns 0, -ENOMEM or -EBADMSG with error set. */
int etcd3_decode_authenticate(const char *body, size_t length, char **ret, struct error *error);

/* gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html). */
enum grpc_code {
	GRPC_NONE = -1, /* the answer is none of etcd's errors */
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNAUTHENTICATED = 16,
};

enum { ETCD3_MESSAGE_MAX = 256 };

/* {"error": "...", "message": "...", "code": 7}: an answer whose HTTP status is not 200. */
struct etcd3_failure {
	long code;                       /* enum grpc_code, or another one */
	char message[ETCD3_MESSAGE_MAX]; /* printable */
};

void etcd3_decode_failure(const char *body, size_t length, struct etcd3_failure *ret);

/* Whether a new token may help. */
bool etcd3_failure_is_of_token(const struct etcd3_failure *failure);
/* Whether every host would say the same. */
bool etcd3_failure_is_final(const struct etcd3_failure *failure);
/* What to say of an answer that is neither 200 nor final. Returns -EBADMSG. */
int etcd3_wrong_status(const struct exchange_answer *answer, const struct etcd3_failure *failure,
		       struct error *error);

#endif
