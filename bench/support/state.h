/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_STATE_H
#define DRAGOMAN_BENCH_STATE_H

/*
 * What everybody who is measured has to bring about: as many services as there
 * are to be, each of as many endpoints, and the changes in their order. The
 * same numbers as in state.py, so that raw programs and other people's tools
 * work on exactly the same.
 *
 * Service i listens on 127.0.0.1, port 10000 + i, TCP. An endpoint is a number:
 * the address 10.64.0.0 + number, port 7000.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
	STATE_SERVICES_MAX = 20000,
	STATE_ENDPOINTS_MAX = 4000,
	STATE_NAMESPACES_MAX = 10000,
	STATE_PORT_FIRST = 10000,
	STATE_ENDPOINT_PORT = 7000,
	STATE_ADDRESS_FIRST = 0x0a400000, /* 10.64.0.0, host byte order */
	STATE_REPLACED_FIRST = 1000000,   /* numbers of endpoints that take another's place */
	STATE_ADDED_FIRST = 2000000,      /* and of those that come in addition */
	STATE_STRIDE = 7919,              /* a prime: changes wander over the services */
};

struct state {
	unsigned services, endpoints;
	unsigned namespaces; /* of the program's own; 0: it works in that which it is in */
};

/* From the command line: SERVICES ENDPOINTS [NAMESPACES]. Returns 0, or -1 and says the usage. */
int state_parse(int argc, char **argv, struct state *ret);

static inline uint16_t state_port(unsigned service)
{
	return (uint16_t)(STATE_PORT_FIRST + service);
}

/* The number of an endpoint as it is at first. */
static inline uint32_t state_number(const struct state *state, unsigned service, unsigned endpoint)
{
	return service * state->endpoints + endpoint;
}

static inline uint32_t state_address(uint32_t number)
{
	return STATE_ADDRESS_FIRST + number;
}

/* Which service the change of that number is of, and which of its endpoints it meets. */
static inline unsigned state_changed_service(const struct state *state, unsigned change)
{
	return (unsigned)((uint64_t)change * STATE_STRIDE % state->services);
}

static inline unsigned state_changed_endpoint(const struct state *state, unsigned change)
{
	return change % state->endpoints;
}

#endif
