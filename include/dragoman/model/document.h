/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_DOCUMENT_H
#define DRAGOMAN_MODEL_DOCUMENT_H

/*
 * Endpoint documents, and what a set of them comes to.
 *
 *     form                address      port
 *     service document    ipaddress    host_port
 *     SkyDNS, nerve       host         port
 *     registrator         plain text "ip:port", "[v6]:port"
 *
 * A document with `ipaddress` or `host_port` is a service document and never
 * falls back to another form. A document that cannot be used is skipped, with
 * its key and a reason; the others are used. So is one that stands for an
 * instance whose health checks fail: there is nothing wrong with that.
 *
 * Ports and weights are integral JSON numbers (1e3 is one) or strings of
 * decimal digits. `proto`, `tags` and `weight` may be null, which is as if
 * they were not there. Of a member that stands twice in an object the last
 * counts. White space around a document means nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/descriptor.h"
#include "dragoman/model/endpoint.h"

enum {
	DOCUMENT_MAX = 64 * 1024, /* bytes of a document; longer ones are skipped */
	DOCUMENT_REASON_MAX = 160,
	ENDPOINTS_MAX = 4096, /* endpoints of one service */
	SLOTS_MAX = 4096,     /* slots of one service in one family */
	WEIGHT_MAX = 256,
	SHOWN_KEY_MAX = 256, /* bytes of a key in a message */
	TAGS_SHOWN_MAX = 8,
};

/*
 * A leaf of the registry, as read: the key and the bytes below it. Borrowed.
 * Of more than DOCUMENT_MAX bytes the length is all that counts: they are not
 * looked at, and need not be there.
 */
struct document {
	const char *key; /* NUL-terminated; may hold any byte else */
	const char *value;
	size_t length;
	/* The registry says not to use it now: value is no document, but why. */
	bool is_failing;
};

/* The bytes of a value that count. */
static inline size_t document_size(size_t length)
{
	return length > DOCUMENT_MAX ? 0 : length;
}

/* One endpoint of a service, with the key of the document that named it. */
struct candidate {
	const char *key; /* printable; in the arena */
	struct endpoint endpoint;
	unsigned weight;  /* 0..WEIGHT_MAX; 0: no new connections */
	struct tags tags; /* all that the document carries; printable */
};

struct skipped {
	const char *key; /* printable; in the arena */
	const char *reason;
	/* Whoever asks; else it is only not what was asked for, a repetition, or failing. */
	bool is_unusable;
	bool lacks_tag; /* and nothing else is wrong with it */
};

/* How many of them are unusable, and the first of these, or NULL. */
size_t skipped_unusable(const struct skipped *skipped, size_t count,
			const struct skipped **ret_first);

/* What a descriptor stands for. Both lists in byte order of their keys. */
struct selection {
	struct candidate *endpoints;
	size_t endpoint_count;
	struct skipped *skipped;
	size_t skipped_count;
	/* Where no endpoint came out: some tags of those that lack one, TAGS_SHOWN_MAX at most. */
	struct tags present;
	bool has_more_tags;
};

/*
 * Why a selection for those tags has no endpoint that takes connections, in
 * words: nothing is there, nothing carries the tags (and which there are), all
 * is skipped, or all has a weight of 0. NULL where it has one, or when memory is
 * exhausted.
 */
char *selection_lack(struct arena *arena, const struct selection *selection,
		     const struct tags *tags);

/*
 * Parses one document. Sets *ret, but for its key, and returns 0; or returns
 * -EINVAL with the reason (printable, in a buffer of DOCUMENT_REASON_MAX bytes)
 * in reason; or -ENOMEM. A `proto` in the document must equal `protocol`.
 */
int document_parse(struct arena *arena, const char *value, size_t length, enum protocol protocol,
		   struct candidate *ret, char *reason);

/*
 * Chooses, out of the documents of one service, those endpoints that a
 * descriptor asks for: parsed, admitted, carrying every tag, each address and
 * port once (the first key in byte order wins), ENDPOINTS_MAX at most. The
 * documents may come in any order; the result does not depend on it, and holds
 * nothing of theirs: they may be freed. Returns 0 or -ENOMEM.
 */
int documents_select(struct arena *arena, const struct document *documents, size_t count,
		     const struct tags *tags, enum protocol protocol,
		     const struct admission *admission, struct selection *ret);

#endif
