/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_FLOW_H
#define DRAGOMAN_MODEL_FLOW_H

/*
 * Flows that the kernel remembers, by where they went: sent to localhost, and
 * led to an endpoint. plan says which of them are over, kernel ends them.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/model/endpoint.h"

/*
 * Flows to 127.0.0.1 or ::1 at this port that were led to one of these
 * endpoints; with others, to anywhere but these endpoints. No flow that was
 * sent to any other address or port is ever touched, wherever it was led to.
 *
 *   what happened                        flows
 *   an endpoint is gone, or replaced     to that endpoint
 *   the last one is gone; the service    to each endpoint that it had
 *   is gone
 *   a service that was not there before  to flow_untranslated()
 *   nobody knows (the start of an agent) to others than the endpoints now,
 *                                        those of weight 0 among them
 *
 * UDP: the flow is removed. TCP: its socket is closed, and the flow removed; so
 * whoever drains connections asks for no TCP.
 */
struct flow_filter {
	struct listen listen;
	enum family family;
	bool others;
	const struct endpoint *endpoints; /* of that family, in any order */
	size_t count;
};

/* 127.0.0.1 or ::1, with that port. */
struct endpoint flow_localhost(enum family family, uint16_t port);

/*
 * The endpoint of flows that were led nowhere, and reached what listens on
 * localhost itself, or nobody: begun before the rules stood.
 */
struct endpoint flow_untranslated(const struct listen *listen, enum family family);

#endif
