/* SPDX-License-Identifier: MIT */
#include "flow_lab.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct endpoint flow_endpoint(const char *address, uint16_t port)
{
	struct endpoint endpoint = {.port = port};

	assert_int_equal(endpoint_parse_address(address, strlen(address), &endpoint), 0);
	return endpoint;
}

const struct listen flow_listens[SERVICES] = {
	{PROTOCOL_TCP, 53}, {PROTOCOL_UDP, 53}, {PROTOCOL_TCP, 80}, {PROTOCOL_UDP, 5353}};

void flow_lab_begin(struct flow_lab *world, struct lab *lab)
{
	*world = (struct flow_lab){.lab = lab};
	for (unsigned i = 0; i < SERVICES; i++) {
		world->services[i].listen = flow_listens[i];
		for (unsigned family = 0; family < FAMILY_COUNT; family++)
			world->services[i].shares[family] = world->shares[i][family];
	}
	world->ruleset = (struct ruleset){.services = world->services, .count = SERVICES};
	lab_run("ip addr add 10.0.0.254/24 dev d0");
	lab_run("ip -6 addr add 2001:db8::fe/64 dev d0 nodad");
	/* Conntrack works in a namespace when a rule wants it. */
	lab_run("nft 'table inet other { chain output { type filter hook output priority 0;"
		" ct state invalid counter; }; }'");
}

void flow_lab_done(struct flow_lab *world)
{
	for (size_t i = 0; i < world->client_count; i++)
		(void)close(world->clients[i]);
}

void flow_lab_set_endpoints(struct flow_lab *world, unsigned service, enum family family,
			    const struct endpoint *endpoints, size_t count)
{
	assert_true(count <= SHARES);
	for (size_t i = 0; i < count; i++)
		world->shares[service][family][i] = (struct share){endpoints[i], 1};
	world->services[service].share_count[family] = count;
}

void flow_lab_set_endpoint(struct flow_lab *world, unsigned service, const char *address,
			   uint16_t port)
{
	struct endpoint endpoint = flow_endpoint(address, port);

	flow_lab_set_endpoints(world, service, (enum family)endpoint.family, &endpoint, 1);
	lab_sync(world->lab, &world->ruleset);
}

/* --- Clients ------------------------------------------------------------------------- */

socklen_t flow_address(struct sockaddr_storage *into, const struct endpoint *to)
{
	memset(into, 0, sizeof(*into));
	if (to->family == FAMILY_IPV6) {
		struct sockaddr_in6 *six = (struct sockaddr_in6 *)into;

		six->sin6_family = AF_INET6;
		six->sin6_port = htons(to->port);
		memcpy(&six->sin6_addr, to->address, 16);
		return sizeof(*six);
	}
	struct sockaddr_in *four = (struct sockaddr_in *)into;

	four->sin_family = AF_INET;
	four->sin_port = htons(to->port);
	memcpy(&four->sin_addr, to->address, 4);
	return sizeof(*four);
}

int flow_lab_keep(struct flow_lab *world, int fd)
{
	assert_true(fd >= 0);
	assert_true(world->client_count < CLIENTS_MAX);
	world->clients[world->client_count++] = fd;
	return fd;
}

int flow_lab_send(struct flow_lab *world, enum protocol protocol, const char *address,
		  uint16_t port)
{
	struct endpoint to = flow_endpoint(address, port);
	struct sockaddr_storage into;
	socklen_t length = flow_address(&into, &to);
	int type = (protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM);
	int fd = flow_lab_keep(world,
			       socket(into.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	if (protocol == PROTOCOL_UDP)
		assert_int_equal(sendto(fd, "x", 1, 0, (const struct sockaddr *)&into, length), 1);
	else
		assert_true(connect(fd, (const struct sockaddr *)&into, length) == 0 ||
			    errno == EINPROGRESS || errno == ECONNREFUSED);
	return fd;
}

uint16_t flow_port(int fd)
{
	/* The port stands at one place in both. */
	struct sockaddr_in6 address = {0};
	socklen_t length = sizeof(address);

	static_assert(offsetof(struct sockaddr_in6, sin6_port) ==
			      offsetof(struct sockaddr_in, sin_port),
		      "as it says");
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	return ntohs(address.sin6_port);
}

int flow_error(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};
	int error = 0;
	socklen_t length = sizeof(error);

	(void)poll(&waiting, 1, 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	return error;
}

/* --- What conntrack(8) sees ---------------------------------------------------------- */

/* The nth value of a name in a line: "src=127.0.0.1 " */
static const char *field(const char *line, const char *name, unsigned nth)
{
	for (const char *at = strstr(line, name); at; at = strstr(at + 1, name)) {
		if (at[-1] == ' ' && nth-- == 0)
			return at + strlen(name);
	}
	return NULL;
}

static bool parse_entry(const char *line, struct entry *ret)
{
	const char *from = field(line, "src=", 0), *to = field(line, "dst=", 0),
		   *endpoint = field(line, "src=", 1), *from_port = field(line, "sport=", 0),
		   *to_port = field(line, "dport=", 0), *endpoint_port = field(line, "sport=", 1);

	memset(ret, 0, sizeof(*ret));
	return from && to && endpoint && from_port && to_port && endpoint_port &&
	       sscanf(line, "%7s", ret->protocol) == 1 && sscanf(from, "%47s", ret->from) == 1 &&
	       sscanf(to, "%47s", ret->to) == 1 && sscanf(endpoint, "%47s", ret->endpoint) == 1 &&
	       sscanf(from_port, "%u", &ret->from_port) == 1 &&
	       sscanf(to_port, "%u", &ret->to_port) == 1 &&
	       sscanf(endpoint_port, "%u", &ret->endpoint_port) == 1;
}

void conntrack_list(struct entries *ret)
{
	CLEANUP(text_done) struct text text = {0};
	char *rest = NULL;

	ret->count = 0;
	lab_run_text("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null", &text);
	for (char *line = strtok_r(text.data, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		assert_true(ret->count < ENTRIES_MAX);
		if (strncmp(line, "udp ", 4) != 0 && strncmp(line, "tcp ", 4) != 0)
			continue;
		if (!parse_entry(line, &ret->items[ret->count]))
			fail_msg("not understood: %s", line);
		ret->count++;
	}
}

static bool is_same(const struct entry *a, const struct entry *b)
{
	return strcmp(a->protocol, b->protocol) == 0 && strcmp(a->from, b->from) == 0 &&
	       strcmp(a->to, b->to) == 0 && strcmp(a->endpoint, b->endpoint) == 0 &&
	       a->from_port == b->from_port && a->to_port == b->to_port &&
	       a->endpoint_port == b->endpoint_port;
}

bool conntrack_has(const struct entries *entries, const struct entry *entry)
{
	for (size_t i = 0; i < entries->count; i++) {
		if (is_same(&entries->items[i], entry))
			return true;
	}
	return false;
}

bool conntrack_has_flow(int fd, char endpoint[ENDPOINT_TEXT_MAX])
{
	static struct entries entries;
	const unsigned port = flow_port(fd);

	conntrack_list(&entries);
	for (size_t i = 0; i < entries.count; i++) {
		if (entries.items[i].from_port != port)
			continue;
		if (endpoint)
			(void)snprintf(endpoint, ENDPOINT_TEXT_MAX, "%.47s#%u",
				       entries.items[i].endpoint, entries.items[i].endpoint_port);
		return true;
	}
	return false;
}

void assert_led_to(int fd, const char *endpoint)
{
	char found[ENDPOINT_TEXT_MAX];

	assert_true(conntrack_has_flow(fd, found));
	assert_string_equal(found, endpoint);
}

/* --- Sweeping ------------------------------------------------------------------------ */

struct flows *flow_lab_open_flows(struct flow_lab *world, const struct flow_filter *filters,
				  size_t count)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	struct flows *flows = NULL;
	struct error error;

	if (kernel_netns(world->lab->kernel, &netns, &error) < 0 ||
	    flows_open(&netns, filters, count, &flows, &error) < 0)
		fail_msg("%s", error.message);
	return flows;
}

struct flows_count flow_lab_sweep_all(struct flow_lab *world, const struct flow_filter *filters,
				      size_t count)
{
	CLEANUP(flows_closep) struct flows *flows = flow_lab_open_flows(world, filters, count);
	struct error error;

	if (flows_sweep(flows, &error) < 0)
		fail_msg("%s", error.message);
	return flows_counted(flows);
}

struct flows_count flow_lab_sweep(struct flow_lab *world, unsigned service,
				  const struct endpoint *endpoint)
{
	const struct flow_filter filter = {
		.listen = flow_listens[service],
		.family = (enum family)endpoint->family,
		.endpoints = endpoint,
		.count = 1,
	};

	return flow_lab_sweep_all(world, &filter, 1);
}
