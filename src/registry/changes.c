/* SPDX-License-Identifier: MIT */
#include "changes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Changes are kept as they came. Their sum sorts them by key, and by place
 * where the key is the same, and takes the last of each run. The documents of
 * a read are changes as well, before those that came in meanwhile: so a read
 * and the events around it make one state.
 */

int change_list_add(struct change_list *list, const char *key, size_t key_length, const char *value,
		    size_t value_length, uint64_t revision)
{
	struct change change = {.removed = !value, .revision = revision, .place = list->count};

	if (!list->arena)
		list->arena = arena_new();
	if (!list->arena ||
	    array_reserve(&list->items, &list->capacity, list->count, 1, sizeof(*list->items)) < 0)
		return -ENOMEM;
	change.document.key = document_key(list->arena, key, key_length);
	if (value) {
		change.document.value = arena_text(list->arena, value, document_size(value_length));
		change.document.length = value_length;
	}
	if (!change.document.key || (value && !change.document.value))
		return -ENOMEM;
	list->items[list->count++] = change;
	list->bytes += strlen(change.document.key) + document_size(value_length);
	return 0;
}

int change_list_append(struct change_list *list, const struct change_list *from, uint64_t revision)
{
	int code = 0;

	for (size_t i = 0; i < from->count && code == 0; i++) {
		const struct change *change = &from->items[i];
		const struct document *document = &change->document;

		if (change->revision > revision)
			code = change_list_add(list, document->key, strlen(document->key),
					       change->removed ? NULL : document->value,
					       document->length, change->revision);
	}
	return code;
}

uint64_t change_list_newest(const struct change_list *list)
{
	uint64_t newest = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].revision > newest)
			newest = list->items[i].revision;
	}
	return newest;
}

bool change_list_is_too_large(const struct change_list *list)
{
	return list->count > SERVICE_DOCUMENTS_MAX || list->bytes > SERVICE_BYTES_MAX;
}

void change_list_done(struct change_list *list)
{
	arena_freep(&list->arena);
	free(list->items);
	*list = (struct change_list){0};
}

static int change_order(const void *a, const void *b)
{
	const struct change *left = a, *right = b;
	int order = strcmp(left->document.key, right->document.key);

	return order != 0 ? order : (left->place > right->place) - (left->place < right->place);
}

static void sum_add(struct change_sum *sum, const struct change *change)
{
	if (change->removed)
		sum->removed[sum->removed_count++] = change->document.key;
	else
		sum->documents[sum->count++] = change->document;
}

int change_list_sum(struct change_list *list, uint64_t revision, struct change_sum *ret)
{
	*ret = (struct change_sum){
		.documents = calloc(list->count + 1, sizeof(*ret->documents)),
		.removed = calloc(list->count + 1, sizeof(*ret->removed)),
	};
	if (!ret->documents || !ret->removed) {
		change_sum_done(ret);
		return -ENOMEM;
	}
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(*list->items), change_order);
	for (size_t i = 0; i < list->count; i++) {
		const struct change *change = &list->items[i];

		if (i + 1 < list->count &&
		    strcmp(change->document.key, change[1].document.key) == 0)
			continue;
		if (change->revision > revision)
			sum_add(ret, change);
	}
	return 0;
}

void change_sum_done(struct change_sum *sum)
{
	free(sum->documents);
	free(sum->removed);
	*sum = (struct change_sum){0};
}
