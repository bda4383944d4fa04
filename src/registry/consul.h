/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_CONSUL_H
#define DRAGOMAN_REGISTRY_CONSUL_H

/* What consul.c (the read) and consul_watch.c share. */

#include "consul_codec.h"
#include "dragoman/http/http.h"
#include "registry_private.h"

/* The question for a service, to be answered at once. */
struct consul_question consul_question(const struct registry *registry, const char *service);

/* An answer, taken apart by what it is about. */
enum consul_verdict {
	CONSUL_INSTANCES, /* there are instances, or none: index is set */
	CONSUL_REFUSED,   /* this service may not be read: error says why */
	CONSUL_USELESS,   /* the host did not do its job, or is no Consul: error says why */
};

struct consul_answer {
	const struct http_request *request;
	long status;
	const char *body;
	size_t length;
};

/* The index is 1 at least. In error the host is not named. */
enum consul_verdict consul_judge(const struct consul_answer *answer, uint64_t *ret_index,
				 struct error *error);

/*
 * The instances of an answer, whose list gets an arena and is checked to be no
 * more than a service may have. Returns 0, -ENOMEM, -EBADMSG or -EFBIG with
 * error set.
 */
int consul_decode(const struct consul_answer *answer, const char *service,
		  struct document_list *list, struct error *error);

#endif
