/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_SERVICE_H
#define DRAGOMAN_MODEL_SERVICE_H

/*
 * A service as it is known: the documents at its key and below, each read once
 * and kept small, in byte order of their keys. Any number of descriptors, with
 * tags and protocols of their own, select from it.
 *
 * A document whose key is neither the service's nor below it, at the border of
 * a segment, is none of the service's, and passed over.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/model/document.h"
#include "dragoman/model/ruleset.h"

struct service;

/*
 * A canonical key, as descriptor_key() gives it; copied. The admission stays the
 * caller's, has to live as long, and does not change. NULL when memory is exhausted.
 */
struct service *service_new(const char *key, const struct admission *admission);
void service_free(struct service *service); /* NULL is fine */
void service_freep(struct service **service);

/* Lives as long as the service. */
const char *service_key(const struct service *service);

/* Documents that are there, usable or not. */
size_t service_count(const struct service *service);

/*
 * One document was put, or is gone; nothing of it is borrowed. Returns 1 when
 * that changed what could be selected, or what is skipped and why; 0 when it
 * did not (a rewrite of the same value, a change of what is ignored in it, the
 * removal of what was not there); or -ENOMEM with everything as it was.
 */
int service_put(struct service *service, const struct document *document);
int service_remove(struct service *service, const char *key); /* 1 or 0 */

/*
 * These documents, in any order, are all there are. Returns as service_put(),
 * and changes nothing on 0. Of one key that stands twice the first counts, in
 * byte order of the values.
 */
int service_replace(struct service *service, const struct document *documents, size_t count);

/* Documents that cannot be used, whatever tags and protocol somebody asks for. */
struct service_unusable {
	size_t count;
	char key[SHOWN_KEY_MAX]; /* of the first; printable, and cut where it is long */
	char reason[DOCUMENT_REASON_MAX];
};

void service_unusable(const struct service *service, struct service_unusable *ret);

/* Only how many there are. */
size_t service_unusable_count(const struct service *service);

/*
 * As documents_select(), from what is known. What is in *ret lives in the
 * arena and borrows nothing of the service. Returns 0 or -ENOMEM.
 */
int service_select(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, struct selection *ret);

/*
 * The same for who plans rules: the endpoints alone, as selection_shares() gives
 * them, without keys, tags and what was skipped, which cost more than all the
 * rest.
 */
int service_shares(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, struct share **ret, size_t *ret_count);

#endif
