/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_CONSUL_CODEC_H
#define DRAGOMAN_REGISTRY_CONSUL_CODEC_H

/*
 * Requests and answers of Consul's health API, as bytes
 * (https://developer.hashicorp.com/consul/api-docs/health). No input or output.
 */

#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/text.h"
#include "registry_private.h"

/* What is asked of which part of Consul. */
struct consul_question {
	const char *service;
	const char *datacenter, *namespace; /* or NULL */
	bool stale;
	/* Answered when the service is beyond that index, or so many milliseconds are over; 0: at
	 * once. */
	uint64_t index, wait;
};

/* "/v1/health/service/web?consistent&dc=dc1&index=7&wait=60000ms", percent-encoded (RFC 3986). */
void consul_encode_question(const struct consul_question *question, struct text *into);

/*
 * Decodes the instances of a service, whatever their checks say, as documents
 * of the keys "web/NODE/SERVICE-ID" (registry.h). Returns 0, -ENOMEM, or
 * -EBADMSG with error set; the list may then hold some documents.
 */
int consul_decode_instances(const char *body, size_t length, const char *service,
			    struct document_list *list, struct error *error);

#endif
