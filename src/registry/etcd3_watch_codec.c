/* SPDX-License-Identifier: MIT */
#include "etcd3_watch_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"

/*
 * Theory of operation
 *
 * One object is one answer: {"result": {...}}, or {"error": {...}} where the
 * gateway lost its own connection. Which service events belong to is known by
 * the watcher's number only, so they are decoded in a second step.
 */

void etcd3_encode_create(const struct etcd3_range *range, uint64_t id, struct text *into)
{
	text_puts(into, "{\"create_request\":{");
	etcd3_encode_key(into, "key", range->start, range->start_length);
	if (range->end) {
		text_puts(into, ",");
		etcd3_encode_key(into, "range_end", range->end, range->end_length);
	}
	text_printf(into,
		    ",\"start_revision\":\"%" PRIu64 "\",\"watch_id\":\"%" PRIu64
		    "\",\"fragment\":true}}",
		    range->revision, id);
}

void etcd3_encode_cancel(uint64_t id, struct text *into)
{
	text_printf(into, "{\"cancel_request\":{\"watch_id\":\"%" PRIu64 "\"}}", id);
}

void etcd3_encode_progress(struct text *into)
{
	text_puts(into, "{\"progress_request\":{}}");
}

bool etcd3_reason_is_of_token(const char *reason)
{
	return strstr(reason, "invalid auth token") || strstr(reason, "Unauthenticated") ||
	       strstr(reason, "revision of auth store is old");
}

static int decode_error(const json_t *root, struct error *error)
{
	const json_t *failure = json_object_get(root, "error");
	const json_t *message = json_object_get(failure, "message");
	const char *text = json_string_value(message);
	struct answer_quote quote;

	if (!failure)
		return 0;
	if (!text)
		return answer_wrong(error, "the stream ended with an error");
	quote = answer_quote(text, json_string_length(message));
	if (etcd3_reason_is_of_token(quote.text))
		return error_set(error, -EACCES, ERROR_TRANSIENT, "%s", quote.text);
	return answer_wrong(error, "the stream ended: %s", quote.text);
}

static int decode_flag(const json_t *result, const char *name, bool *ret, struct error *error)
{
	const json_t *field = json_object_get(result, name);

	*ret = json_is_true(field);
	return field && !json_is_boolean(field)
		       ? answer_wrong(error, "answer has a %s that is no boolean", name)
		       : 0;
}

/* Watchers are numbered from 1 on; -1, or no number at all, is none of them. */
static int decode_id(const json_t *result, uint64_t *ret, struct error *error)
{
	const char *text = json_string_value(json_object_get(result, "watch_id"));

	*ret = 0;
	if (text && strcmp(text, "-1") == 0)
		return 0;
	return etcd3_decode_number(result, "watch_id", ret, error);
}

static int decode_result(const json_t *result, struct etcd3_watch_answer *ret, struct error *error)
{
	const json_t *reason = json_object_get(result, "cancel_reason");
	int code = etcd3_decode_header(result, &ret->position, error);

	if (code < 0 || (code = decode_id(result, &ret->id, error)) < 0 ||
	    (code = decode_flag(result, "created", &ret->created, error)) < 0 ||
	    (code = decode_flag(result, "canceled", &ret->canceled, error)) < 0 ||
	    (code = decode_flag(result, "fragment", &ret->fragment, error)) < 0 ||
	    (code = etcd3_decode_number(result, "compact_revision", &ret->compact_revision,
					error)) < 0)
		return code;
	if (json_is_string(reason))
		(void)text_printable(ret->reason, sizeof(ret->reason), json_string_value(reason),
				     json_string_length(reason));
	ret->events = json_object_get(result, "events");
	if (ret->events && !json_is_array(ret->events))
		return answer_wrong(error, "answer has events that are no array");
	return 0;
}

int etcd3_decode_watch(const char *body, size_t length, struct etcd3_watch_answer *ret,
		       struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *result;
	int code = answer_parse(body, length, &root, error);

	*ret = (struct etcd3_watch_answer){0};
	if (code == 0)
		code = decode_error(root, error);
	if (code < 0)
		return code;
	result = json_object_get(root, "result");
	if (!json_is_object(result))
		return answer_wrong(error, "answer has no result");
	code = decode_result(result, ret, error);
	if (code == 0)
		ret->root = TAKE(root);
	return code;
}

void etcd3_watch_answer_done(struct etcd3_watch_answer *answer)
{
	json_freep(&answer->root);
	answer->events = NULL;
}

enum place { OF_THE_SERVICE, OF_A_SIBLING, OUTSIDE };

/* Siblings are what sorts between "key" and "key/": "key-2", "key.x". */
static enum place key_place(const char *key, const char *name, size_t length)
{
	size_t border = strlen(key);

	if (length < border || memcmp(name, key, border) != 0)
		return OUTSIDE;
	if (length == border || name[border] == '/')
		return OF_THE_SERVICE;
	return (unsigned char)name[border] < '/' ? OF_A_SIBLING : OUTSIDE;
}

static int event_add(const json_t *event, const char *key, struct change_list *list,
		     struct arena *scratch, struct error *error)
{
	const json_t *kv = json_object_get(event, "kv"), *type = json_object_get(event, "type");
	bool removed = json_is_string(type) && strcmp(json_string_value(type), "DELETE") == 0;
	const char *name = "", *value = "";
	size_t name_length = 0, value_length = 0;
	uint64_t revision;
	int code;

	if (!json_is_object(kv))
		return answer_wrong(error, "answer has an event without a key");
	if (type && !removed &&
	    strcmp(json_string_value(type) ? json_string_value(type) : "", "PUT") != 0)
		return answer_wrong(error, "answer has an event of a type that is not known");
	if ((code = etcd3_decode_bytes(scratch, kv, "key", &name, &name_length, error)) < 0 ||
	    (code = etcd3_decode_bytes(scratch, kv, "value", &value, &value_length, error)) < 0 ||
	    (code = etcd3_decode_number(kv, "mod_revision", &revision, error)) < 0)
		return code;
	if (revision == 0 || revision > INT64_MAX)
		return answer_wrong(error, "answer has an event without a revision");
	switch (key_place(key, name, name_length)) {
	case OF_A_SIBLING:
		return 0;
	case OUTSIDE:
		return answer_wrong(error, "answer has the key \"%s\", which was not asked for",
				    answer_quote(name, name_length).text);
	case OF_THE_SERVICE:
		break;
	}
	code = change_list_add(list, name, name_length, removed ? NULL : value,
			       removed ? 0 : value_length, revision);
	return code < 0 ? error_no_memory(error) : 0;
}

int etcd3_decode_events(const struct etcd3_watch_answer *answer, const char *key,
			struct change_list *list, struct error *error)
{
	CLEANUP(arena_freep) struct arena *scratch = arena_new();
	int code = 0;

	if (!scratch)
		return error_no_memory(error);
	for (size_t i = 0; i < json_array_size(answer->events) && code == 0; i++)
		code = event_add(json_array_get(answer->events, i), key, list, scratch, error);
	return code;
}
