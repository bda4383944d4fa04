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
 * What is new is read completely before anything is touched, so there is
 * always a whole state: the one before, or the one after.
 */

struct service {
	struct leaf **leaves;
	size_t count, capacity;
	size_t key_length;
	char key[];
};

struct service *service_new(const char *key)
{
	size_t length = strlen(key);
	struct service *service = calloc(1, sizeof(*service) + length + 1);

	if (!service)
		return NULL;
	memcpy(service->key, key, length);
	service->key_length = length;
	return service;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	leaves_free(service->leaves, service->count);
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

static int insert(struct service *service, size_t place, struct leaf *leaf)
{
	if (array_reserve(&service->leaves, &service->capacity, service->count, 1,
			  sizeof(struct leaf *)) < 0)
		return -ENOMEM;
	memmove(&service->leaves[place + 1], &service->leaves[place],
		(service->count - place) * sizeof(struct leaf *));
	service->leaves[place] = leaf;
	service->count++;
	return 0;
}

int service_put(struct service *service, const struct document *document)
{
	CLEANUP(memory_free) struct leaf *leaf = NULL;
	const char *key = key_behind(service, document->key);
	struct leaf *before;
	size_t place;
	bool found;

	if (!key)
		return 0;
	if (leaf_new(document, service->key_length, &leaf) < 0)
		return -ENOMEM;
	place = place_of(service, key, &found);
	if (!found) {
		if (insert(service, place, leaf) < 0)
			return -ENOMEM;
		leaf = NULL;
		return 1;
	}
	before = service->leaves[place];
	if (leaf_equal(before, leaf))
		return 0;
	service->leaves[place] = leaf;
	leaf = before;
	return 1;
}

int service_remove(struct service *service, const char *key)
{
	const char *rest = key_behind(service, key);
	size_t place;
	bool found;

	if (!rest)
		return 0;
	place = place_of(service, rest, &found);
	if (!found)
		return 0;
	free(service->leaves[place]);
	service->count--;
	memmove(&service->leaves[place], &service->leaves[place + 1],
		(service->count - place) * sizeof(struct leaf *));
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

int service_replace(struct service *service, const struct document *documents, size_t count)
{
	CLEANUP(memory_free) struct document *own = NULL;
	struct leaf **leaves;
	size_t found, kept;

	if (documents_of(service, documents, count, &own, &found) < 0 ||
	    leaves_new(own, found, service->key_length, &leaves) < 0)
		return -ENOMEM;
	kept = settle(leaves, found);
	if (same(service, leaves, kept)) {
		leaves_free(leaves, kept);
		return 0;
	}
	leaves_free(service->leaves, service->count);
	service->leaves = leaves;
	service->count = kept;
	service->capacity = found;
	return 1;
}

/* Why a leaf is of no use to anybody, or NULL. */
static const char *unusable(const struct leaf *leaf, const struct admission *admission)
{
	if (leaf->is_failing)
		return NULL;
	return leaf->has_reason ? leaf_reason(leaf) : admission_refuses(admission, &leaf->endpoint);
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

void service_unusable(const struct service *service, const struct admission *admission,
		      struct service_unusable *ret)
{
	ret->count = 0;
	ret->key[0] = ret->reason[0] = '\0';
	for (size_t i = 0; i < service->count; i++) {
		const char *reason = unusable(service->leaves[i], admission);

		if (!reason || ret->count++ > 0)
			continue;
		show_key(service, service->leaves[i], ret->key);
		(void)text_format(ret->reason, sizeof(ret->reason), "%s", reason);
	}
}

static int select_from(const struct service *service, bool bare, struct arena *arena,
		       const struct tags *tags, enum protocol protocol,
		       const struct admission *admission, struct selection *ret)
{
	const struct request request = {
		.arena = arena,
		.prefix = service->key,
		.tags = tags,
		.protocol = protocol,
		.admission = admission,
		.bare = bare,
	};

	return leaves_select(&request, service->leaves, service->count, ret);
}

int service_select(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, const struct admission *admission, struct selection *ret)
{
	return select_from(service, false, arena, tags, protocol, admission, ret);
}

int service_endpoints(struct arena *arena, const struct service *service, const struct tags *tags,
		      enum protocol protocol, const struct admission *admission,
		      struct selection *ret)
{
	return select_from(service, true, arena, tags, protocol, admission, ret);
}
