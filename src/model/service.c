/* SPDX-License-Identifier: MIT */
#include "dragoman/model/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "leaf.h"

/*
 * Theory of operation
 *
 * A sorted array of leaves, each of them one block of memory that holds what
 * is behind the service's key. Since that key is common to all, leaves sort as
 * whole keys would. A put or a removal finds its place by halves and moves
 * pointers; what is at stake are thousands of them at most.
 *
 * Those that somebody can use are also kept in the order of their endpoints:
 * with each change rules are planned, which need them so, and to sort thousands
 * for the sake of one would cost more than all the rest.
 *
 * What is new is read completely before anything is touched, so there is
 * always a whole state: the one before, or the one after.
 */

struct service {
	struct leaf **leaves; /* by key */
	size_t count, capacity;
	struct leaf **usable; /* the same leaves, by endpoint */
	size_t usable_count, usable_capacity;
	size_t unusable; /* whatever tags and protocol somebody asks for */
	const struct admission *admission;
	size_t key_length;
	char key[];
};

struct service *service_new(const char *key, const struct admission *admission)
{
	size_t length = strlen(key);
	struct service *service = calloc(1, sizeof(*service) + length + 1);

	if (!service)
		return NULL;
	memcpy(service->key, key, length);
	service->key_length = length;
	service->admission = admission;
	return service;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	leaves_free(service->leaves, service->count);
	free(service->usable);
	free(service);
}

void service_freep(struct service **service)
{
	service_free(*service);
	*service = NULL;
}

const char *service_key(const struct service *service)
{
	return service->key;
}

size_t service_count(const struct service *service)
{
	return service->count;
}

/* What is behind the service's key, or NULL where the key is none of its. */
static const char *key_behind(const struct service *service, const char *key)
{
	const char *rest = key + service->key_length;

	if (strncmp(key, service->key, service->key_length) != 0)
		return NULL;
	return *rest == '\0' || *rest == '/' ? rest : NULL;
}

/* Where the key is, or would be. */
static size_t place_of(const struct service *service, const char *key, bool *ret_found)
{
	size_t from = 0, to = service->count;

	*ret_found = false;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		int order = strcmp(leaf_key(service->leaves[middle]), key);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Where a usable leaf is among those by endpoint, or would be. */
static size_t usable_place_of(const struct service *service, const struct leaf *leaf)
{
	size_t from = 0, to = service->usable_count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (leaf_compare_endpoints(service->usable[middle], leaf) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Into an array that has room. */
static void insert(struct leaf **leaves, size_t *count, size_t place, struct leaf *leaf)
{
	memmove(&leaves[place + 1], &leaves[place], (*count - place) * sizeof(struct leaf *));
	leaves[place] = leaf;
	(*count)++;
}

static void cut(struct leaf **leaves, size_t *count, size_t place)
{
	(*count)--;
	memmove(&leaves[place], &leaves[place + 1], (*count - place) * sizeof(struct leaf *));
}

/* Whether there is something about it that somebody has to mend. */
static bool is_unusable(const struct leaf *leaf)
{
	return !leaf_is_usable(leaf) && !leaf->is_failing;
}

/* A leaf, new among the leaves, becomes known by what it says. */
static void count_in(struct service *service, struct leaf *leaf)
{
	service->unusable += is_unusable(leaf);
	if (leaf_is_usable(leaf))
		insert(service->usable, &service->usable_count, usable_place_of(service, leaf),
		       leaf);
}

static void count_out(struct service *service, const struct leaf *leaf)
{
	service->unusable -= is_unusable(leaf);
	if (leaf_is_usable(leaf))
		cut(service->usable, &service->usable_count, usable_place_of(service, leaf));
}

/* For one more leaf. */
static int make_room(struct service *service)
{
	if (array_reserve(&service->leaves, &service->capacity, service->count, 1,
			  sizeof(struct leaf *)) < 0)
		return -ENOMEM;
	return array_reserve(&service->usable, &service->usable_capacity, service->usable_count, 1,
			     sizeof(struct leaf *));
}

int service_put(struct service *service, const struct document *document)
{
	CLEANUP(memory_free) struct leaf *leaf = NULL;
	const char *key = key_behind(service, document->key);
	struct leaf *before = NULL;
	size_t place;
	bool found;

	if (!key)
		return 0;
	if (leaf_new(document, service->key_length, service->admission, &leaf) < 0)
		return -ENOMEM;
	place = place_of(service, key, &found);
	if (found && leaf_equal(service->leaves[place], leaf))
		return 0;
	if (make_room(service) < 0)
		return -ENOMEM;
	if (found) {
		before = service->leaves[place];
		count_out(service, before);
		service->leaves[place] = leaf;
	} else {
		insert(service->leaves, &service->count, place, leaf);
	}
	count_in(service, leaf);
	leaf = before;
	return 1;
}

int service_remove(struct service *service, const char *key)
{
	const char *rest = key_behind(service, key);
	struct leaf *leaf;
	size_t place;
	bool found;

	if (!rest)
		return 0;
	place = place_of(service, rest, &found);
	if (!found)
		return 0;
	leaf = service->leaves[place];
	count_out(service, leaf);
	cut(service->leaves, &service->count, place);
	free(leaf);
	return 1;
}

/* Those that are the service's. *ret is malloc()ed and borrows their contents. */
static int documents_of(const struct service *service, const struct document *documents,
			size_t count, struct document **ret, size_t *ret_count)
{
	struct document *own = calloc(count + 1, sizeof(*own));

	if (!own)
		return -ENOMEM;
	*ret = own;
	*ret_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (key_behind(service, documents[i].key))
			own[(*ret_count)++] = documents[i];
	}
	return 0;
}

/* Leaves one of each key. Returns how many are left. */
static size_t settle(struct leaf **leaves, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (kept && strcmp(leaf_key(leaves[kept - 1]), leaf_key(leaves[i])) == 0)
			free(leaves[i]);
		else
			leaves[kept++] = leaves[i];
	}
	return kept;
}

static bool same(const struct service *service, struct leaf *const *leaves, size_t count)
{
	if (service->count != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!leaf_equal(service->leaves[i], leaves[i]))
			return false;
	}
	return true;
}

static int compare_leaves(const void *a, const void *b)
{
	return leaf_compare_endpoints(*(struct leaf *const *)a, *(struct leaf *const *)b);
}

/* Makes the leaves the service's. usable has room for all of them. */
static void take(struct service *service, struct leaf **leaves, size_t count, struct leaf **usable)
{
	leaves_free(service->leaves, service->count);
	free(service->usable);
	service->leaves = leaves;
	service->count = service->capacity = count;
	service->usable = usable;
	service->usable_count = service->unusable = 0;
	service->usable_capacity = count;
	for (size_t i = 0; i < count; i++) {
		service->unusable += is_unusable(leaves[i]);
		if (leaf_is_usable(leaves[i]))
			usable[service->usable_count++] = leaves[i];
	}
	sort_unless_sorted(usable, service->usable_count, sizeof(struct leaf *), compare_leaves);
}

int service_replace(struct service *service, const struct document *documents, size_t count)
{
	CLEANUP(memory_free) struct document *own = NULL;
	struct leaf **leaves, **usable;
	size_t found, kept;

	if (documents_of(service, documents, count, &own, &found) < 0 ||
	    leaves_new(own, found, service->key_length, service->admission, &leaves) < 0)
		return -ENOMEM;
	kept = settle(leaves, found);
	if (same(service, leaves, kept)) {
		leaves_free(leaves, kept);
		return 0;
	}
	usable = calloc(kept + 1, sizeof(struct leaf *));
	if (!usable) {
		leaves_free(leaves, kept);
		return -ENOMEM;
	}
	take(service, leaves, kept, usable);
	return 1;
}

static void show_key(const struct service *service, const struct leaf *leaf, char *into)
{
	const char *rest = leaf_key(leaf);
	char key[2 * SHOWN_KEY_MAX];
	size_t length = strlen(rest), room;

	/* More than can be shown would only be cut. */
	room = service->key_length < SHOWN_KEY_MAX ? service->key_length : SHOWN_KEY_MAX;
	if (length > SHOWN_KEY_MAX)
		length = SHOWN_KEY_MAX;
	memcpy(key, service->key, room);
	memcpy(key + room, rest, length);
	(void)text_printable(into, SHOWN_KEY_MAX, key, room + length);
}

size_t service_unusable_count(const struct service *service)
{
	return service->unusable;
}

void service_unusable(const struct service *service, struct service_unusable *ret)
{
	const struct leaf *leaf;
	size_t first = 0;

	*ret = (struct service_unusable){.count = service->unusable};
	if (ret->count == 0)
		return;
	while (!is_unusable(service->leaves[first]))
		first++;
	leaf = service->leaves[first];
	show_key(service, leaf, ret->key);
	(void)text_format(ret->reason, sizeof(ret->reason), "%s",
			  leaf->has_reason
				  ? leaf_reason(leaf)
				  : admission_refuses(service->admission, &leaf->endpoint));
}

static struct request request_of(const struct service *service, struct arena *arena,
				 const struct tags *tags, enum protocol protocol)
{
	return (struct request){
		.arena = arena,
		.prefix = service->key,
		.tags = tags,
		.protocol = protocol,
		.admission = service->admission,
	};
}

int service_select(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, struct selection *ret)
{
	const struct request request = request_of(service, arena, tags, protocol);

	return leaves_select(&request, service->leaves, service->count, ret);
}

int service_shares(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, struct share **ret, size_t *ret_count)
{
	const struct request request = request_of(service, arena, tags, protocol);
	struct selection selection;
	int r = leaves_shares(&request, service->usable, service->usable_count, ret, ret_count);

	if (r != -E2BIG)
		return r;
	if (service_select(arena, service, tags, protocol, &selection) < 0)
		return -ENOMEM;
	*ret_count = selection.endpoint_count;
	return selection_shares(arena, &selection, ret);
}
