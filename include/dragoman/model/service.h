/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_SERVICE_H
#define DRAGOMAN_MODEL_SERVICE_H

/*
 * A service as it is known: the documents below its key, each parsed once and
 * kept small, in byte order of their keys. Any number of descriptors, with
 * tags and protocols of their own, select from it.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/model/document.h"

struct service;

/* NULL when memory is exhausted. */
struct service *service_new(const char *key);
void service_free(struct service *service);
const char *service_key(const struct service *service);

/* Documents that are there, usable or not. */
size_t service_count(const struct service *service);

/*
 * One document was put, or is gone. Returns 1 when that changed what could be
 * selected or what is skipped, 0 when it did not (a rewrite of the same value,
 * a change of what is ignored in it, the removal of what was not there), or
 * -ENOMEM with everything as it was.
 */
int service_put(struct service *service, const struct document *document);
int service_remove(struct service *service, const char *key);

/* These documents are all there are. Returns as service_put(). */
int service_replace(struct service *service, const struct document *documents, size_t count);

/* As documents_select(), from what is known. */
int service_select(struct arena *arena, const struct service *service, const struct tags *tags,
		   enum protocol protocol, const struct admission *admission,
		   struct selection *ret);

#endif
