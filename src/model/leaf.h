/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_LEAF_H
#define DRAGOMAN_MODEL_LEAF_H

/*
 * A document as it is kept: one block of memory, just as long as it has to be.
 * Two leaves with the same bytes stand for the same, whoever asks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/document.h"
#include "dragoman/model/ruleset.h"

struct leaf {
	struct endpoint endpoint;
	uint32_t length; /* of text */
	uint16_t weight;
	uint16_t tag_count;
	uint8_t has_proto, has_reason, is_failing;
	uint8_t is_refused; /* by the admission */
	/* Strings, each with its NUL: key, proto, reason, and the tags in byte order. */
	char text[];
};

/*
 * Reads a document. What is behind the first `common` bytes of its key is
 * kept. *ret is malloc()ed. Returns 0 or -ENOMEM.
 */
int leaf_new(const struct document *document, size_t common, const struct admission *admission,
	     struct leaf **ret);

/* The same for many, in any order; *ret is in byte order of their keys. */
int leaves_new(const struct document *documents, size_t count, size_t common,
	       const struct admission *admission, struct leaf ***ret);

/* Frees each, and the array. */
void leaves_free(struct leaf **leaves, size_t count);

bool leaf_equal(const struct leaf *a, const struct leaf *b);

/* Somebody may get its endpoint: it depends on tags and protocol alone. */
static inline bool leaf_is_usable(const struct leaf *leaf)
{
	return !leaf->has_reason && !leaf->is_refused;
}

/* By endpoint, then by key. Of leaves that are usable. */
int leaf_compare_endpoints(const struct leaf *a, const struct leaf *b);

static inline const char *leaf_key(const struct leaf *leaf)
{
	return leaf->text;
}

/* As in struct reading; NULL: there is none. */
const char *leaf_proto(const struct leaf *leaf);
const char *leaf_reason(const struct leaf *leaf);

/* The first of tag_count strings that follow each other. */
const char *leaf_tags(const struct leaf *leaf);

/* What leaves are asked for. */
struct request {
	struct arena *arena; /* for what is selected */
	const char *prefix;  /* what all keys begin with */
	const struct tags *tags;
	enum protocol protocol;
	const struct admission *admission; /* that the leaves were made with */
};

/*
 * Selects as documents_select() does, out of leaves in byte order of their
 * keys. Returns 0 or -ENOMEM.
 */
int leaves_select(const struct request *request, struct leaf *const *leaves, size_t count,
		  struct selection *ret);

/*
 * The endpoints and their weights, as of selection_shares(), out of leaves by
 * leaf_compare_endpoints(). Returns 0 or -ENOMEM; or -E2BIG where there are
 * more than ENDPOINTS_MAX, so that their keys decide.
 */
int leaves_shares(const struct request *request, struct leaf *const *leaves, size_t count,
		  struct share **ret, size_t *ret_count);

#endif
