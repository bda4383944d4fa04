/* SPDX-License-Identifier: MIT */
#include "dragoman/model/flow.h"

struct endpoint flow_localhost(enum family family, uint16_t port)
{
	struct endpoint endpoint = {.family = (uint16_t)family, .port = port};

	if (family == FAMILY_IPV6) {
		endpoint.address[15] = 1;
	} else {
		endpoint.address[0] = 127;
		endpoint.address[3] = 1;
	}
	return endpoint;
}

struct endpoint flow_untranslated(const struct listen *listen, enum family family)
{
	return flow_localhost(family, listen->port);
}
