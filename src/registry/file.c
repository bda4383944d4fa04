/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "dragoman/base/json.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * The file is read anew for each read of services, whole, at once: a local
 * file has no latency worth a source of the loop. Its documents are sorted,
 * and each service takes its key and the run of keys below "key/" out of them.
 * The two are not neighbours ("-" and "." sort before "/").
 *
 * A file that is wrong anywhere gives nothing: every service's read fails.
 *
 * A watch (file_watch.c) is one more read, whenever the file changes.
 */

static int key_wrong(struct error *error, const char *key, const char *why)
{
	return error_set(error, -EINVAL, ERROR_INVALID, "key \"%s\": %s",
			 answer_quote(key, strlen(key)).text, why);
}

/* The key's length without a trailing slash, or 0 with error set. */
static size_t key_check(const char *key, struct error *error)
{
	const char *segment = key + 1;
	size_t length = strlen(key);

	if (key[0] != '/') {
		(void)key_wrong(error, key, "it does not start with \"/\"");
		return 0;
	}
	if (length > 1 && key[length - 1] == '/')
		length--;
	for (;;) {
		size_t span = strcspn(segment, "/");

		if (span == 0 || (span == 1 && segment[0] == '.') ||
		    (span == 2 && segment[0] == '.' && segment[1] == '.')) {
			(void)key_wrong(error, key, "it has an empty, \".\" or \"..\" segment");
			return 0;
		}
		segment += span;
		if (segment >= key + length)
			return length;
		segment++;
	}
}

static int file_add(struct document_list *list, const char *key, const json_t *value,
		    struct error *error)
{
	CLEANUP(memory_free) char *text = NULL;
	size_t length = key_check(key, error);
	int code;

	if (length == 0)
		return -EINVAL;
	if (json_is_string(value)) {
		code = document_list_add(list, key, length, json_string_value(value),
					 json_string_length(value));
	} else {
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		code = text ? document_list_add(list, key, length, text, strlen(text)) : -ENOMEM;
	}
	return code < 0 ? error_no_memory(error) : 0;
}

static int document_order(const void *a, const void *b)
{
	const struct document *left = a, *right = b;

	return strcmp(left->key, right->key);
}

static int file_sort(struct document_list *list, struct error *error)
{
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(*list->items), document_order);
	for (size_t i = 1; i < list->count; i++) {
		if (strcmp(list->items[i - 1].key, list->items[i].key) == 0)
			return key_wrong(error, list->items[i].key,
					 "it is there twice (a trailing slash means nothing)");
	}
	return 0;
}

int file_decode(const char *data, size_t length, struct document_list *list, struct error *error)
{
	/* An integer of any size is a number; without this, one too big spoils the whole file. */
	const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL;
	CLEANUP(json_freep) json_t *root = NULL;
	json_error_t reason;
	const char *key;
	json_t *value;
	int code;

	code = json_read(data, length, flags, &root, &reason);
	if (code == -ENOMEM)
		return error_no_memory(error);
	if (code < 0)
		return error_set(error, -EINVAL, ERROR_INVALID, "not JSON: line %d, column %d: %s",
				 reason.line, reason.column,
				 answer_quote(reason.text, strlen(reason.text)).text);
	if (!json_is_object(root))
		return error_set(error, -EINVAL, ERROR_INVALID, "no JSON object of key -> value");
	json_object_foreach(root, key, value)
	{
		code = file_add(list, key, value, error);
		if (code < 0)
			return code;
	}
	return file_sort(list, error);
}

/* The first document whose key is not below `key` followed by `next` (if not NUL). */
static size_t file_find(const struct document_list *all, const char *key, const char *next)
{
	size_t low = 0, high = all->count, length = strlen(key);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strncmp(all->items[middle].key, key, length);

		if (order == 0)
			order = strcmp(all->items[middle].key + length, next);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int file_copy(const struct document *from, struct document_list *list)
{
	return document_list_add(list, from->key, strlen(from->key), from->value, from->length);
}

int file_select(const struct document_list *all, const char *key, struct document_list *list)
{
	size_t itself = file_find(all, key, ""), end = file_find(all, key, "0");
	int code = 0;

	if (itself < all->count && strcmp(all->items[itself].key, key) == 0)
		code = file_copy(&all->items[itself], list);
	/* "0" is the byte behind "/". */
	for (size_t i = file_find(all, key, "/"); i < end && code == 0; i++)
		code = file_copy(&all->items[i], list);
	return code;
}

static int file_load(const char *path, struct document_list *list, struct error *error)
{
	CLEANUP(memory_free) char *data = NULL;
	char name[256];
	size_t length;
	int code;

	(void)text_printable(name, sizeof(name), path, strlen(path));
	list->arena = arena_new();
	if (!list->arena)
		return error_no_memory(error);
	code = text_read_file(path, FILE_BYTES_MAX, &data, &length);
	if (code < 0)
		return error_set(error, code, ERROR_INVALID, "%s: %s", name, strerror(-code));
	code = file_decode(data, length, list, error);
	if (code < 0)
		(void)error_wrap(error, "%s", name);
	return code;
}

static void file_answer(struct registry_read *read, size_t index, const struct document_list *all)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct error error;

	if (!list.arena || file_select(all, read->keys[index], &list) < 0) {
		(void)error_no_memory(&error);
		read_fail(read, index, &error);
	} else if (document_list_check(&list, &error) < 0) {
		read_fail(read, index, &error);
	} else {
		read_answer(read, index, &list, &(struct registry_position){0});
	}
}

static int file_read_start(struct registry_read *read, struct error *error)
{
	CLEANUP(document_list_done) struct document_list all = {0};
	int code = file_load(read->registry->url.path, &all, &read->unreachable);

	(void)error;
	for (size_t i = 0; i < read->count; i++) {
		if (code < 0)
			read_fail(read, i, &read->unreachable);
		else
			file_answer(read, i, &all);
	}
	return 0;
}

/* Nothing is ever under way. */
static void file_read_end(struct registry_read *read)
{
	(void)read;
}

const struct registry_ops file_ops = {
	.read_start = file_read_start,
	.read_end = file_read_end,
	.watch = &file_watch_ops,
};
