/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the JSON of results. Documents are built with jansson
 * and written in one go; a value that could not be made for want of memory is
 * found when it is put into its parent, which latches `failed`. The keys are
 * those that the manual promises, more may be there.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "output.h"

/* Puts value, whose reference it takes, into object. */
static void put(json_t *object, bool *failed, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		*failed = true;
}

static void append(json_t *array, bool *failed, json_t *value)
{
	if (json_array_append_new(array, value) < 0)
		*failed = true;
}

/* A string of text that should be UTF-8 by now; what is not must not lose the document. */
static json_t *string(const char *text)
{
	CLEANUP(text_done) struct text printable = {0};

	if (!text)
		return json_null();
	if (text_is_utf8(text, strlen(text)))
		return json_string(text);
	text_add_printable(&printable, text, strlen(text));
	return printable.failed ? NULL : json_string(printable.data);
}

static json_t *strings(char *const *names, size_t count, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		append(array, failed, string(names[i]));
	return array;
}

static json_t *errors(const struct report *report, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < report->count; i++) {
		json_t *entry = json_object();

		put(entry, failed, "variable", string(report->complaints[i].variable));
		put(entry, failed, "message", string(report->complaints[i].message));
		append(array, failed, entry);
	}
	return array;
}

static int add_piece(const char *data, size_t length, void *out)
{
	text_add(out, data, length);
	return 0;
}

/* Adds the document and releases it. */
static void dump(struct text *out, json_t *document, bool failed)
{
	if (failed || json_dump_callback(document, add_piece, out, JSON_INDENT(2)) < 0)
		out->failed = true;
	text_puts(out, "\n");
	json_decref(document);
}

static json_t *change_json(const struct change *change, bool *failed)
{
	char text[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	put(object, failed, "verdict", json_string(verdict_name(change->verdict)));
	if (change->is_object) {
		put(object, failed, "object", string(change->object));
		return object;
	}
	listen_format(&change->listen, (enum family)change->family, text);
	put(object, failed, "listen", json_string(text));
	put(object, failed, "endpoint",
	    change->has_endpoint ? json_string(endpoint_format(&change->endpoint, text))
				 : json_null());
	if (change->has_was)
		put(object, failed, "was", json_string(endpoint_format(&change->was, text)));
	if (change->has_endpoint)
		put(object, failed, "slots", json_integer(change->slots));
	return object;
}

void outcome_print_json(struct text *out, const struct outcome *outcome,
			const struct report *report)
{
	json_t *document = json_object(), *changes = json_array();
	bool failed = false;

	for (size_t i = 0; outcome->valid && i < outcome->change_count; i++)
		append(changes, &failed, change_json(&outcome->changes[i], &failed));
	put(document, &failed, "netns",
	    outcome->netns ? json_integer((json_int_t)outcome->netns) : json_null());
	put(document, &failed, "in_sync",
	    outcome->valid ? json_boolean(outcome->change_count == 0) : json_null());
	put(document, &failed, "changes", changes);
	put(document, &failed, "errors", errors(report, &failed));
	dump(out, document, failed);
}

static json_t *candidate_json(const struct candidate *candidate, bool *failed)
{
	char address[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	endpoint_format_address(&candidate->endpoint, address);
	put(object, failed, "key", string(candidate->key));
	put(object, failed, "address", json_string(address));
	put(object, failed, "port", json_integer(candidate->endpoint.port));
	put(object, failed, "weight", json_integer(candidate->weight));
	put(object, failed, "tags", strings(candidate->tags.names, candidate->tags.count, failed));
	return object;
}

static json_t *skipped_json(const struct skipped *skipped, bool *failed)
{
	json_t *object = json_object();

	put(object, failed, "key", string(skipped->key));
	put(object, failed, "reason", string(skipped->reason));
	return object;
}

static json_t *listen_json(const struct listen *listen)
{
	char text[ENDPOINT_TEXT_MAX];

	if (!listen)
		return json_null();
	(void)snprintf(text, sizeof(text), "%" PRIu16 "/%s", listen->port,
		       protocol_name(listen->protocol));
	return json_string(text);
}

void resolution_print_json(struct text *out, const struct resolution *resolution,
			   const struct report *report)
{
	static const struct selection nothing;
	const struct selection *selection = resolution->selection ? resolution->selection
								  : &nothing;
	const struct tags *tags = resolution->tags;
	json_t *document = json_object(), *endpoints = json_array(), *skipped = json_array();
	bool failed = false;

	for (size_t i = 0; i < selection->endpoint_count; i++)
		append(endpoints, &failed, candidate_json(&selection->endpoints[i], &failed));
	for (size_t i = 0; i < selection->skipped_count; i++)
		append(skipped, &failed, skipped_json(&selection->skipped[i], &failed));
	put(document, &failed, "service", string(resolution->service));
	put(document, &failed, "tags",
	    tags ? strings(tags->names, tags->count, &failed) : json_array());
	put(document, &failed, "listen", listen_json(resolution->listen));
	put(document, &failed, "endpoints", endpoints);
	put(document, &failed, "skipped", skipped);
	put(document, &failed, "errors", errors(report, &failed));
	dump(out, document, failed);
}

void report_print_json(struct text *out, const struct report *report)
{
	json_t *document = json_object();
	bool failed = false;

	put(document, &failed, "errors", errors(report, &failed));
	dump(out, document, failed);
}
