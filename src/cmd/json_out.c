/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: documents are built with jansson and written in one go;
 * a value that could not be made for want of memory is found when it is put
 * into its parent, which latches `failed`.
 */
#include "json_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/memory.h"

/* Puts value, whose reference it takes, into object. */
void json_put(json_t *object, bool *failed, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		*failed = true;
}

void json_append(json_t *array, bool *failed, json_t *value)
{
	if (json_array_append_new(array, value) < 0)
		*failed = true;
}

/* A string of text that should be UTF-8 by now; what is not must not lose the document. */
json_t *json_text(const char *text)
{
	CLEANUP(text_done) struct text printable = {0};

	if (!text)
		return json_null();
	if (text_is_utf8(text, strlen(text)))
		return json_string(text);
	text_add_printable(&printable, text, strlen(text));
	return printable.failed ? NULL : json_string(printable.data);
}

json_t *json_texts(char *const *names, size_t count, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_append(array, failed, json_text(names[i]));
	return array;
}

json_t *json_errors(const struct report *report, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->count; i++) {
		json_t *entry = json_object();

		json_put(entry, failed, "variable", json_text(report->complaints[i].variable));
		json_put(entry, failed, "message", json_text(report->complaints[i].message));
		json_append(array, failed, entry);
	}
	return array;
}

static int add_piece(const char *data, size_t length, void *out)
{
	text_add(out, data, length);
	return 0;
}

/* Adds the document and releases it. */
void json_dump_to(struct text *out, json_t *document, bool failed)
{
	if (failed || json_dump_callback(document, add_piece, out, JSON_INDENT(2)) < 0)
		out->failed = true;
	text_puts(out, "\n");
	json_decref(document);
}

json_t *json_candidate(const struct candidate *candidate, bool *failed)
{
	char address[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	endpoint_format_address(&candidate->endpoint, address);
	json_put(object, failed, "key", json_text(candidate->key));
	json_put(object, failed, "address", json_string(address));
	json_put(object, failed, "port", json_integer(candidate->endpoint.port));
	json_put(object, failed, "weight", json_integer(candidate->weight));
	json_put(object, failed, "tags",
		 json_texts(candidate->tags.names, candidate->tags.count, failed));
	return object;
}

json_t *json_skipped(const struct skipped *skipped, bool *failed)
{
	json_t *object = json_object();

	json_put(object, failed, "key", json_text(skipped->key));
	json_put(object, failed, "reason", json_text(skipped->reason));
	return object;
}

json_t *json_listen(const struct listen *listen)
{
	char text[ENDPOINT_TEXT_MAX];

	if (!listen)
		return json_null();
	(void)snprintf(text, sizeof(text), "%" PRIu16 "/%s", listen->port,
		       protocol_name(listen->protocol));
	return json_string(text);
}
