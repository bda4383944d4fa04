/* SPDX-License-Identifier: MIT */
#include "etcd2_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"

/*
 * Theory of operation
 *
 * A node is a directory ("dir": true, its children in "nodes", which is absent
 * where it is empty) or a leaf with a "value". The tree is walked from the
 * node that was asked for; how deep it may be is bounded, since the other side
 * decides it.
 */

static bool is_unreserved(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || (byte != '\0' && strchr("-._~/", byte));
}

static void encode_key(const char *key, struct text *into)
{
	text_puts(into, "/v2/keys");
	for (; *key; key++) {
		if (is_unreserved(*key))
			text_add(into, key, 1);
		else
			text_printf(into, "%%%02X", (unsigned char)*key);
	}
}

void etcd2_encode_path(const char *key, bool names_only, struct text *into)
{
	encode_key(key, into);
	text_puts(into, names_only ? "?quorum=true" : "?recursive=true&quorum=true");
}

void etcd2_encode_poll(const char *key, uint64_t index, struct text *into)
{
	encode_key(key, into);
	text_printf(into, "?wait=true&recursive=true&waitIndex=%" PRIu64, index);
}

/* Whether a node's key is `above` (top: that itself) or below it, at a segment's border. */
static bool key_is_below(const char *key, size_t length, const char *above, bool top)
{
	size_t border = strlen(above);

	if (length < border || memcmp(key, above, border) != 0)
		return false;
	return (top && length == border) || (length > border && key[border] == '/');
}

struct walk {
	struct document_list *list;
	bool names_only;
	struct error *error;
};

static int walk_node(const struct walk *walk, const json_t *node, const char *above, int depth);

static int walk_leaf(const struct walk *walk, const json_t *key, const json_t *value)
{
	if (!json_is_string(value))
		return answer_wrong(
			walk->error, "answer has no value for the key \"%s\"",
			answer_quote(json_string_value(key), json_string_length(key)).text);
	if (document_list_add(walk->list, json_string_value(key), json_string_length(key),
			      json_string_value(value), json_string_length(value)) < 0)
		return error_no_memory(walk->error);
	return 0;
}

static int walk_nodes(const struct walk *walk, const json_t *nodes, const char *above, int depth)
{
	int code = 0;

	if (nodes && !json_is_array(nodes))
		return answer_wrong(walk->error, "answer has \"nodes\" that are no array");
	if (depth == ETCD2_DEPTH_MAX)
		return answer_wrong(walk->error, "answer is nested deeper than %d directories",
				    ETCD2_DEPTH_MAX);
	for (size_t i = 0; i < json_array_size(nodes) && code == 0; i++)
		code = walk_node(walk, json_array_get(nodes, i), above, depth + 1);
	return code;
}

static int walk_node(const struct walk *walk, const json_t *node, const char *above, int depth)
{
	const json_t *key = json_object_get(node, "key"), *dir = json_object_get(node, "dir");

	if (!json_is_string(key))
		return answer_wrong(walk->error, "answer has a node without a key");
	if (!key_is_below(json_string_value(key), json_string_length(key), above, depth == 0))
		return answer_wrong(
			walk->error, "answer has the key \"%s\", which was not asked for",
			answer_quote(json_string_value(key), json_string_length(key)).text);
	if (json_is_true(dir) && walk->names_only && depth > 0)
		return document_list_add(walk->list, json_string_value(key),
					 json_string_length(key), "", 0) < 0
			       ? error_no_memory(walk->error)
			       : 0;
	if (json_is_true(dir))
		return walk_nodes(walk, json_object_get(node, "nodes"), json_string_value(key),
				  depth);
	return walk_leaf(walk, key, json_object_get(node, "value"));
}

int etcd2_decode_keys(const char *body, size_t length, const char *key, bool names_only,
		      struct document_list *list, struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const struct walk walk = {list, names_only, error};
	const json_t *node;
	int code = answer_parse(body, length, &root, error);

	if (code < 0)
		return code;
	node = json_object_get(root, "node");
	/* The node of the top has no key. */
	if (!*key && json_is_true(json_object_get(node, "dir")))
		return walk_nodes(&walk, json_object_get(node, "nodes"), "", 0);
	return walk_node(&walk, node, key, 0);
}

static bool is_one_of(const char *action, const char *const *names)
{
	while (*names && strcmp(action, *names) != 0)
		names++;
	return *names != NULL;
}

/* What an event of a single key is: 1 a value put, -1 one gone, 0 neither. */
static int action_of(const char *action)
{
	static const char *const put[] = {"set", "create", "update", "compareAndSwap", NULL};
	static const char *const gone[] = {"delete", "expire", "compareAndDelete", NULL};

	if (is_one_of(action, put))
		return 1;
	return is_one_of(action, gone) ? -1 : 0;
}

/* Making a directory, or giving it another time to live, changes no document. */
static bool is_of_directory(const json_t *root, const char *action, bool *ret_nothing)
{
	const json_t *node = json_object_get(root, "node");
	const json_t *before = json_object_get(root, "prevNode");
	bool is_now = json_is_true(json_object_get(node, "dir"));
	bool was = json_is_true(json_object_get(before, "dir"));

	*ret_nothing = is_now && (!before || was) && action_of(action) > 0;
	return is_now || was;
}

static int event_add(const json_t *root, const char *action, uint64_t index, const char *key,
		     struct change_list *list, bool *ret_more, struct error *error)
{
	const json_t *node = json_object_get(root, "node");
	const json_t *name = json_object_get(node, "key"), *value = json_object_get(node, "value");
	const char *text = json_string_value(name);
	size_t length = json_string_length(name);
	int kind = action_of(action), code;
	bool is_nothing;

	if (is_of_directory(root, action, &is_nothing)) {
		*ret_more = !is_nothing;
		return 0;
	}
	if (kind == 0) {
		*ret_more = true;
		return 0;
	}
	if (!key_is_below(text, length, key, true))
		return answer_wrong(error, "answer has the key \"%s\", which was not asked for",
				    answer_quote(text, length).text);
	if (kind > 0 && !json_is_string(value))
		return answer_wrong(error, "answer has no value for the key \"%s\"",
				    answer_quote(text, length).text);
	code = change_list_add(list, text, length, kind > 0 ? json_string_value(value) : NULL,
			       kind > 0 ? json_string_length(value) : 0, index);
	return code < 0 ? error_no_memory(error) : 0;
}

int etcd2_decode_event(const char *body, size_t length, const char *key, struct change_list *list,
		       uint64_t *ret_index, bool *ret_more, struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *node, *index;
	const char *action;
	int code = answer_parse(body, length, &root, error);

	*ret_more = false;
	if (code < 0)
		return code;
	action = json_string_value(json_object_get(root, "action"));
	node = json_object_get(root, "node");
	index = json_object_get(node, "modifiedIndex");
	if (!action || !json_is_string(json_object_get(node, "key")))
		return answer_wrong(error, "answer is no event");
	if (!json_is_integer(index) || json_integer_value(index) <= 0)
		return answer_wrong(error, "answer has an event without an index");
	*ret_index = (uint64_t)json_integer_value(index);
	return event_add(root, action, *ret_index, key, list, ret_more, error);
}

void etcd2_decode_failure(const char *body, size_t length, struct etcd2_failure *ret)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *code, *message;

	*ret = (struct etcd2_failure){.code = ETCD2_NO_ERROR};
	if (answer_parse(body, length, &root, NULL) < 0)
		return;
	code = json_object_get(root, "errorCode");
	message = json_object_get(root, "message");
	if (!json_is_integer(code) || !json_is_string(message))
		return;
	ret->code = (long)json_integer_value(code);
	(void)text_printable(ret->message, sizeof(ret->message), json_string_value(message),
			     json_string_length(message));
}
