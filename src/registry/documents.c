/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "registry_private.h"

/*
 * The documents of one service live in one arena, which goes from the kind of
 * registry that filled it to registry.c, and is freed after the answer was
 * handed on. A value that is too long to be a document is not kept: its length
 * says all that there is to say, and a few of them must not use up what a
 * service may have. Nor must keys, which etcd takes as long as a request.
 */

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/). */
static uint64_t hash(const char *key, size_t length)
{
	uint64_t value = 0xcbf29ce484222325U;

	for (size_t i = 0; i < length; i++)
		value = (value ^ (unsigned char)key[i]) * 0x100000001b3U;
	return value;
}

/* The beginning of a key, and what tells it from others that begin so. */
static char *cut_key(struct arena *arena, const char *key, size_t length)
{
	const char *start = document_key(arena, key, KEY_BYTES_MAX);

	return start ? arena_printf(arena, "%s...%016" PRIx64, start, hash(key, length)) : NULL;
}

char *document_key(struct arena *arena, const char *key, size_t length)
{
	size_t nuls = 0;
	char *copy, *into;

	if (length > KEY_BYTES_MAX)
		return cut_key(arena, key, length);
	for (size_t i = 0; i < length; i++)
		nuls += key[i] == '\0';
	copy = into = arena_alloc(arena, length + nuls * 3 + 1);
	for (size_t i = 0; copy && i < length; i++) {
		if (key[i] != '\0') {
			*into++ = key[i];
			continue;
		}
		memcpy(into, "\\x00", 4);
		into += 4;
	}
	return copy;
}

static size_t bytes_of(const struct document *document)
{
	return strlen(document->key) + document_size(document->length);
}

int document_list_add(struct document_list *list, const char *key, size_t key_length,
		      const char *value, size_t value_length)
{
	struct document document = {.length = value_length};

	if (array_reserve(&list->items, &list->capacity, list->count, 1, sizeof(*list->items)) < 0)
		return -ENOMEM;
	document.key = document_key(list->arena, key, key_length);
	document.value = arena_text(list->arena, value, document_size(value_length));
	if (!document.key || !document.value)
		return -ENOMEM;
	list->items[list->count++] = document;
	list->bytes += bytes_of(&document);
	return 0;
}

void document_list_cut(struct document_list *list, size_t count)
{
	while (list->count > count)
		list->bytes -= bytes_of(&list->items[--list->count]);
}

int document_list_check(const struct document_list *list, struct error *error)
{
	if (list->count > SERVICE_DOCUMENTS_MAX)
		return error_set(error, -EFBIG, ERROR_INVALID, "more than %d documents",
				 SERVICE_DOCUMENTS_MAX);
	if (list->bytes > SERVICE_BYTES_MAX)
		return error_set(error, -EFBIG, ERROR_INVALID,
				 "documents of more than %d bytes together", SERVICE_BYTES_MAX);
	return 0;
}

void document_list_done(struct document_list *list)
{
	arena_freep(&list->arena);
	free(list->items);
	*list = (struct document_list){0};
}
