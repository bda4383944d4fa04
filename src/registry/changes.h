/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_CHANGES_H
#define DRAGOMAN_REGISTRY_CHANGES_H

/* Changes of one service's keys, in the order in which they were made. No input or output. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry_private.h"

struct change {
	struct document document; /* of a key that is gone: the key alone */
	bool removed;
	uint64_t revision;
	size_t place; /* in the list */
};

struct change_list {
	struct arena *arena; /* made when something is added */
	struct change *items;
	size_t count, capacity;
	size_t bytes;
};

/* Copies key and value, as document_list_add() does; value is NULL for a key that is gone. */
int change_list_add(struct change_list *list, const char *key, size_t key_length, const char *value,
		    size_t value_length, uint64_t revision);

/* Adds copies of those changes of `from` that are newer than a revision. Returns 0 or -ENOMEM. */
int change_list_append(struct change_list *list, const struct change_list *from, uint64_t revision);

/* The newest revision in it; 0: it is empty. */
uint64_t change_list_newest(const struct change_list *list);

/* Whether one service may have that much. */
bool change_list_is_too_large(const struct change_list *list);

void change_list_done(struct change_list *list);

/* What changes come to: each key once, in byte order, borrowed from the list. */
struct change_sum {
	struct document *documents;
	const char **removed;
	size_t count, removed_count;
};

/*
 * Of the changes newer than a revision, the last one of each key. Reorders the
 * list, which takes no more changes afterwards. Returns 0 or -ENOMEM.
 */
int change_list_sum(struct change_list *list, uint64_t revision, struct change_sum *ret);
void change_sum_done(struct change_sum *sum);

#endif
