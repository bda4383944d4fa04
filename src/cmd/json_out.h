/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_JSON_OUT_H
#define DRAGOMAN_CMD_JSON_OUT_H

/*
 * What the JSON documents of all commands are built with. A lack of memory is
 * latched in *failed.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"
#include "report.h"

/* Puts value, whose reference it takes, into object. */
void json_put(json_t *object, bool *failed, const char *key, json_t *value);
void json_append(json_t *array, bool *failed, json_t *value);

/* A string of text that should be UTF-8 by now; what is not is made so. null of NULL. */
json_t *json_text(const char *text);
json_t *json_texts(char *const *names, size_t count, bool *failed);

/* What the documents have in common. */
json_t *json_errors(const struct report *report, bool *failed);
json_t *json_candidate(const struct candidate *candidate, bool *failed);
json_t *json_skipped(const struct skipped *skipped, bool *failed);
json_t *json_listen(const struct listen *listen); /* "6379/tcp" */

/* Adds the document and releases it. */
void json_dump_to(struct text *out, json_t *document, bool failed);

#endif
