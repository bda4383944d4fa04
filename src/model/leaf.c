/* SPDX-License-Identifier: MIT */
#include "leaf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "reading.h"

/*
 * Theory of operation
 *
 * An agent keeps every document of every service that it follows, so a leaf is
 * one block: numbers first, without padding, then all of its strings. What the
 * document said that nobody asks for is not in it, and two leaves are compared
 * as bytes, so a registrar that writes anew what stands there already changes
 * nothing.
 */

enum { LEAF_HEADER = offsetof(struct leaf, text) };

static_assert(LEAF_HEADER == sizeof(struct endpoint) + 4 + 2 + 2 + 1 + 1 + 1 + 1,
	      "leaves are compared as bytes");
static_assert(DOCUMENT_MAX / sizeof("''") <= UINT16_MAX, "a document's tags can be counted");

static size_t length_of(const char *key, const struct reading *reading, bool usable)
{
	size_t length = strlen(key) + 1;

	if (reading->proto[0])
		length += strlen(reading->proto) + 1;
	if (!usable)
		return length + strlen(reading->reason) + 1;
	for (size_t i = 0; i < reading->tags.count; i++)
		length += strlen(reading->tags.names[i]) + 1;
	return length;
}

static char *append(char *into, const char *string)
{
	size_t size = strlen(string) + 1;

	return (char *)memcpy(into, string, size) + size;
}

static struct leaf *pack(const char *key, const struct reading *reading, bool usable)
{
	size_t length = length_of(key, reading, usable);
	struct leaf *leaf = calloc(1, LEAF_HEADER + length);
	char *into;

	if (!leaf)
		return NULL;
	leaf->length = (uint32_t)length;
	into = append(leaf->text, key);
	if (reading->proto[0]) {
		leaf->has_proto = 1;
		into = append(into, reading->proto);
	}
	if (!usable) {
		leaf->has_reason = 1;
		(void)append(into, reading->reason);
		return leaf;
	}
	leaf->endpoint = reading->endpoint;
	leaf->weight = (uint16_t)reading->weight;
	leaf->tag_count = (uint16_t)reading->tags.count;
	for (size_t i = 0; i < reading->tags.count; i++)
		into = append(into, reading->tags.names[i]);
	return leaf;
}

static int read_document(struct arena *arena, const struct document *document, struct reading *ret)
{
	if (!document->is_failing)
		return document_read(arena, document->value, document->length, ret);
	*ret = (struct reading){0};
	(void)text_printable(ret->reason, sizeof(ret->reason), document->value,
			     document_size(document->length));
	return -EINVAL;
}

int leaf_new(const struct document *document, size_t common, const struct admission *admission,
	     struct leaf **ret)
{
	CLEANUP(arena_freep) struct arena *scratch = arena_new();
	struct reading reading;
	struct leaf *leaf;
	int r;

	if (!scratch)
		return -ENOMEM;
	r = read_document(scratch, document, &reading);
	if (r == -ENOMEM)
		return r;
	leaf = pack(document->key + common, &reading, r == 0);
	if (!leaf)
		return -ENOMEM;
	leaf->is_failing = document->is_failing;
	leaf->is_refused = r == 0 && admission_refuses(admission, &leaf->endpoint);
	*ret = leaf;
	return 0;
}

/* The values decide between equal keys, which no registry has but a caller may. */
static int compare_documents(const void *a, const void *b)
{
	const struct document *left = *(const struct document *const *)a;
	const struct document *right = *(const struct document *const *)b;
	size_t left_size = document_size(left->length), right_size = document_size(right->length);
	size_t shorter = left_size < right_size ? left_size : right_size;
	int order = strcmp(left->key, right->key);

	if (order == 0 && shorter)
		order = memcmp(left->value, right->value, shorter);
	if (order == 0)
		order = (left->length > right->length) - (left->length < right->length);
	return order;
}

int leaves_new(const struct document *documents, size_t count, size_t common,
	       const struct admission *admission, struct leaf ***ret)
{
	CLEANUP(memory_free) const struct document **sorted = calloc(count + 1, sizeof(*sorted));
	struct leaf **leaves = calloc(count + 1, sizeof(*leaves));

	if (!sorted || !leaves) {
		free(leaves);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		sorted[i] = &documents[i];
	qsort(sorted, count, sizeof(*sorted), compare_documents);
	for (size_t i = 0; i < count; i++) {
		if (leaf_new(sorted[i], common, admission, &leaves[i]) == 0)
			continue;
		leaves_free(leaves, i);
		return -ENOMEM;
	}
	*ret = leaves;
	return 0;
}

void leaves_free(struct leaf **leaves, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(leaves[i]);
	free(leaves);
}

bool leaf_equal(const struct leaf *a, const struct leaf *b)
{
	return a->length == b->length && memcmp(a, b, LEAF_HEADER + a->length) == 0;
}

int leaf_compare_endpoints(const struct leaf *a, const struct leaf *b)
{
	int order = endpoint_compare(&a->endpoint, &b->endpoint);

	return order ? order : strcmp(leaf_key(a), leaf_key(b));
}

/* The string behind that many others. */
static const char *string_behind(const struct leaf *leaf, unsigned others)
{
	const char *string = leaf->text;

	while (others-- > 0)
		string += strlen(string) + 1;
	return string;
}

const char *leaf_proto(const struct leaf *leaf)
{
	return leaf->has_proto ? string_behind(leaf, 1) : NULL;
}

const char *leaf_reason(const struct leaf *leaf)
{
	return leaf->has_reason ? string_behind(leaf, 1U + leaf->has_proto) : NULL;
}

const char *leaf_tags(const struct leaf *leaf)
{
	return string_behind(leaf, 1U + leaf->has_proto + leaf->has_reason);
}
