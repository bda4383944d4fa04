/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_FLOW_LAB_H
#define DRAGOMAN_TESTS_FLOW_LAB_H

/*
 * Real flows, led by the real rules: a ruleset that is built by hand, in the
 * namespace of kernel_lab.h, sockets that send to localhost there, and what
 * stands in conntrack, read with conntrack(8), which knows nothing of this
 * program. UDP goes to endpoints that need not exist, since conntrack remembers
 * a flow as soon as it is sent.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "dragoman/kernel/flows.h"
#include "kernel_lab.h"

enum { CLIENTS_MAX = 256, ENTRIES_MAX = 1024, SERVICES = 4, SHARES = 4 };

/* Services on 53/tcp, 53/udp, 80/tcp and 5353/udp, without endpoints at first. */
enum { TCP_53, UDP_53, TCP_80, UDP_5353 };
extern const struct listen flow_listens[SERVICES];

struct flow_lab {
	struct lab *lab;
	struct ruleset_service services[SERVICES];
	struct share shares[SERVICES][FAMILY_COUNT][SHARES];
	struct ruleset ruleset;
	int clients[CLIENTS_MAX];
	size_t client_count;
};

/* The link has 10.0.0.254/24 and 2001:db8::fe/64; no rule of ours stands yet. */
void flow_lab_begin(struct flow_lab *world, struct lab *lab);
void flow_lab_done(struct flow_lab *world);

/* The service has these endpoints now, and no others of the family; not in the kernel yet. */
void flow_lab_set_endpoints(struct flow_lab *world, unsigned service, enum family family,
			    const struct endpoint *endpoints, size_t count);

/* It has just this one, also in the kernel. */
void flow_lab_set_endpoint(struct flow_lab *world, unsigned service, const char *address,
			   uint16_t port);

struct endpoint flow_endpoint(const char *address, uint16_t port);
socklen_t flow_address(struct sockaddr_storage *into, const struct endpoint *to);

/* --- Sockets, which are closed at the end --- */

int flow_lab_keep(struct flow_lab *world, int fd);

/* A datagram to somewhere, or the first packet of a connection. Without waiting. */
int flow_lab_send(struct flow_lab *world, enum protocol protocol, const char *address,
		  uint16_t port);

uint16_t flow_port(int fd);

/* What a socket has to tell, without waiting: 0 for nothing. */
int flow_error(int fd);

/* --- What conntrack(8) sees --- */

/* Of TCP and UDP. */
struct entry {
	char protocol[8], from[48], to[48], endpoint[48];
	unsigned from_port, to_port, endpoint_port;
	bool expected; /* to be gone */
};

struct entries {
	struct entry items[ENTRIES_MAX];
	size_t count;
};

void conntrack_list(struct entries *ret);
bool conntrack_has(const struct entries *entries, const struct entry *entry);

/* Whether a socket's port has a flow, and where that is led to: "10.0.0.2#53". */
bool conntrack_has_flow(int fd, char endpoint[ENDPOINT_TEXT_MAX]);
void assert_led_to(int fd, const char *endpoint);

/* --- Sweeps, which have to succeed --- */

struct flows *flow_lab_open_flows(struct flow_lab *world, const struct flow_filter *filters,
				  size_t count);
struct flows_count flow_lab_sweep_all(struct flow_lab *world, const struct flow_filter *filters,
				      size_t count);

/* One filter, of one endpoint. */
struct flows_count flow_lab_sweep(struct flow_lab *world, unsigned service,
				  const struct endpoint *endpoint);

#endif
