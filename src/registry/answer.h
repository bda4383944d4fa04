/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ANSWER_H
#define DRAGOMAN_REGISTRY_ANSWER_H

/* JSON that came from a host, and what to say where it is not what it should be. */

#include <jansson.h>
#include <stddef.h>

#include "dragoman/base/error.h"

/* For CLEANUP. */
void json_freep(json_t **json);

/* Parses a JSON object. Returns 0, -ENOMEM, or -EBADMSG with error set (ERROR_TRANSIENT). */
int answer_parse(const char *body, size_t length, json_t **ret, struct error *error);

/* "answer has no ..." and the like: returns -EBADMSG. */
int answer_wrong(struct error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* An HTTP status that tells nothing more. Returns -EBADMSG. */
int answer_wrong_status(struct error *error, long status, const char *body, size_t length);

/* A string of the other side's, cut and printable. */
enum { ANSWER_QUOTE_MAX = 200 };
struct answer_quote {
	char text[ANSWER_QUOTE_MAX];
};
struct answer_quote answer_quote(const char *text, size_t length);

#endif
