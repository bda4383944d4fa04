/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD2_H
#define DRAGOMAN_REGISTRY_ETCD2_H

/* What etcd2.c (the read) and etcd2_watch.c share. */

#include "dragoman/http/http.h"
#include "registry_private.h"

/*
 * Where the store was when it answered, from the headers of the answer.
 * Returns 0, or -EBADMSG with error set.
 */
int etcd2_position(const struct http_request *request, struct registry_position *ret,
		   struct error *error);

#endif
