/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Real flows, led by the real rules: a namespace for each test, in which
 * sockets send to localhost. UDP goes to endpoints that do not exist, since
 * conntrack remembers the flow as soon as it is sent; TCP goes to nobody, or
 * to a listener at an address of the namespace's own.
 *
 * What stands in conntrack is read with conntrack(8), which knows nothing of
 * this program. What a sweep should leave of it is worked out from that list by
 * a plain loop.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/kernel/flows.h"
#include "kernel_lab.h"
#include "random.h"

enum { CLIENTS_MAX = 256, ENTRIES_MAX = 1024, SERVICES = 4, SHARES = 4, FILTERS_MAX = 8 };

/* A namespace of its own, with addresses on its link, and a ruleset that is built by hand. */
struct world {
	struct lab *lab;
	struct ruleset_service services[SERVICES];
	struct share shares[SERVICES][FAMILY_COUNT][SHARES];
	struct ruleset ruleset;
	int clients[CLIENTS_MAX];
	size_t client_count;
};

static struct endpoint endpoint_of(const char *address, uint16_t port)
{
	struct endpoint endpoint = {.port = port};

	assert_int_equal(endpoint_parse_address(address, strlen(address), &endpoint), 0);
	return endpoint;
}

/* Services on 53/tcp, 53/udp, 80/tcp and 5353/udp, without endpoints yet. */
static const struct listen listens[SERVICES] = {
	{PROTOCOL_TCP, 53}, {PROTOCOL_UDP, 53}, {PROTOCOL_TCP, 80}, {PROTOCOL_UDP, 5353}};
enum { TCP_53, UDP_53, TCP_80, UDP_5353 };

static void world_begin(struct world *world, struct lab *lab)
{
	*world = (struct world){.lab = lab};
	for (unsigned i = 0; i < SERVICES; i++) {
		world->services[i].listen = listens[i];
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

static void world_done(struct world *world)
{
	for (size_t i = 0; i < world->client_count; i++)
		(void)close(world->clients[i]);
}

/* The service has these endpoints now, and no others; the family is theirs. */
static void set_endpoints(struct world *world, unsigned service, enum family family,
			  const struct endpoint *endpoints, size_t count)
{
	assert_true(count <= SHARES);
	for (size_t i = 0; i < count; i++)
		world->shares[service][family][i] = (struct share){endpoints[i], 1};
	world->services[service].share_count[family] = count;
}

static void set_endpoint(struct world *world, unsigned service, const char *address, uint16_t port)
{
	struct endpoint endpoint = endpoint_of(address, port);

	set_endpoints(world, service, (enum family)endpoint.family, &endpoint, 1);
	lab_sync(world->lab, &world->ruleset);
}

/* --- Clients ------------------------------------------------------------------------- */

static socklen_t fill_address(struct sockaddr_storage *into, const struct endpoint *to)
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

static int keep(struct world *world, int fd)
{
	assert_true(fd >= 0);
	assert_true(world->client_count < CLIENTS_MAX);
	world->clients[world->client_count++] = fd;
	return fd;
}

/* A datagram to somewhere, or the first packet of a connection. Without waiting. */
static int send_to(struct world *world, enum protocol protocol, const char *address, uint16_t port)
{
	struct endpoint to = endpoint_of(address, port);
	struct sockaddr_storage into;
	socklen_t length = fill_address(&into, &to);
	int type = (protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM);
	int fd = keep(world, socket(into.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	if (protocol == PROTOCOL_UDP)
		assert_int_equal(sendto(fd, "x", 1, 0, (const struct sockaddr *)&into, length), 1);
	else
		assert_true(connect(fd, (const struct sockaddr *)&into, length) == 0 ||
			    errno == EINPROGRESS || errno == ECONNREFUSED);
	return fd;
}

static uint16_t port_of(int fd)
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

/* --- What conntrack(8) sees ---------------------------------------------------------- */

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

static void list_entries(struct entries *ret)
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

static bool is_in(const struct entries *entries, const struct entry *entry)
{
	for (size_t i = 0; i < entries->count; i++) {
		if (is_same(&entries->items[i], entry))
			return true;
	}
	return false;
}

/* Whether a socket of that protocol and port has its flow, and where it is led to. */
static bool has_flow(int fd, char endpoint[ENDPOINT_TEXT_MAX])
{
	static struct entries entries;
	const unsigned port = port_of(fd);

	list_entries(&entries);
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

static void assert_led_to(int fd, const char *endpoint)
{
	char found[ENDPOINT_TEXT_MAX];

	assert_true(has_flow(fd, found));
	assert_string_equal(found, endpoint);
}

/* --- Sweeping ------------------------------------------------------------------------ */

static struct flows *open_flows(struct world *world, const struct flow_filter *filters,
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

static struct flows_count sweep_all(struct world *world, const struct flow_filter *filters,
				    size_t count)
{
	CLEANUP(flows_closep) struct flows *flows = open_flows(world, filters, count);
	struct error error;

	if (flows_sweep(flows, &error) < 0)
		fail_msg("%s", error.message);
	return flows_counted(flows);
}

/* One filter, of one endpoint. */
static struct flows_count sweep(struct world *world, unsigned service,
				const struct endpoint *endpoint)
{
	const struct flow_filter filter = {
		.listen = listens[service],
		.family = (enum family)endpoint->family,
		.endpoints = endpoint,
		.count = 1,
	};

	return sweep_all(world, &filter, 1);
}

static void test_sweep_of_a_namespace_without_flows_does_nothing(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.2", 9000);
	struct flows_count count;

	world_begin(&world, *state);
	count = sweep(&world, UDP_53, &gone);
	assert_int_equal(count.removed, 0);
	count = sweep_all(&world, NULL, 0);
	assert_int_equal(count.removed, 0);
	world_done(&world);
}

static void test_sweep_after_a_replacement_leads_the_same_socket_anew(void **state)
{
	static const char *const addresses[] = {"127.0.0.1", "::1"};
	static const char *const old[] = {"10.0.0.2", "2001:db8::2"};
	static const char *const fresh[] = {"10.0.0.3", "2001:db8::3"};
	struct world world;

	world_begin(&world, *state);
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		struct endpoint gone = endpoint_of(old[family], 9000);
		struct sockaddr_storage to;
		struct endpoint localhost = endpoint_of(addresses[family], 53);
		socklen_t length = fill_address(&to, &localhost);
		char wanted[ENDPOINT_TEXT_MAX];
		int fd;

		set_endpoint(&world, UDP_53, old[family], 9000);
		fd = send_to(&world, PROTOCOL_UDP, addresses[family], 53);
		set_endpoint(&world, UDP_53, fresh[family], 9000);
		/* The black hole: the rules are new, the flow is not. */
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length), 1);
		(void)snprintf(wanted, sizeof(wanted), "%s#9000", old[family]);
		assert_led_to(fd, wanted);
		assert_int_equal(sweep(&world, UDP_53, &gone).removed, 1);
		assert_false(has_flow(fd, NULL));
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length), 1);
		(void)snprintf(wanted, sizeof(wanted), "%s#9000", fresh[family]);
		assert_led_to(fd, wanted);
		/* The second sweep leaves the new flow alone. */
		assert_int_equal(sweep(&world, UDP_53, &gone).removed, 0);
		assert_led_to(fd, wanted);
	}
	world_done(&world);
}

static void test_sweep_before_the_first_endpoint_takes_flows_led_nowhere(void **state)
{
	struct world world;
	struct endpoint nowhere = flows_untranslated(&listens[UDP_53], FAMILY_IPV4);
	struct sockaddr_storage to;
	socklen_t length = fill_address(&to, &nowhere);
	int early, other;

	world_begin(&world, *state);
	early = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	other = send_to(&world, PROTOCOL_UDP, "127.0.0.2", 53);
	assert_led_to(early, "127.0.0.1#53");
	set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	assert_int_equal(sendto(early, "x", 1, 0, (struct sockaddr *)&to, length), 1);
	assert_led_to(early, "127.0.0.1#53");
	assert_int_equal(sweep(&world, UDP_53, &nowhere).removed, 1);
	assert_int_equal(sendto(early, "x", 1, 0, (struct sockaddr *)&to, length), 1);
	assert_led_to(early, "10.0.0.2#9000");
	assert_true(has_flow(other, NULL));
	world_done(&world);
}

static void test_sweep_leaves_what_only_looks_alike(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.2", 9000);
	const struct endpoint gone_six = endpoint_of("2001:db8::2", 9000);
	struct flow_filter filters[] = {
		{.listen = listens[UDP_53], .endpoints = &gone, .count = 1},
		{.listen = listens[UDP_53],
		 .family = FAMILY_IPV6,
		 .endpoints = &gone_six,
		 .count = 1},
	};
	int kept[8], taken[2];

	world_begin(&world, *state);
	set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	set_endpoint(&world, UDP_53, "2001:db8::2", 9000);
	set_endpoint(&world, UDP_5353, "10.0.0.2", 9000);
	set_endpoint(&world, UDP_5353, "2001:db8::2", 9000);
	set_endpoint(&world, TCP_53, "10.0.0.2", 9000);
	taken[0] = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	taken[1] = send_to(&world, PROTOCOL_UDP, "::1", 53);
	/* Another port, the endpoint itself, its other ports, other loopbacks, TCP. */
	kept[0] = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 5353);
	kept[1] = send_to(&world, PROTOCOL_UDP, "::1", 5353);
	kept[2] = send_to(&world, PROTOCOL_UDP, "10.0.0.2", 9000);
	kept[3] = send_to(&world, PROTOCOL_UDP, "2001:db8::2", 9000);
	kept[4] = send_to(&world, PROTOCOL_UDP, "10.0.0.2", 53);
	kept[5] = send_to(&world, PROTOCOL_UDP, "2001:db8::2", 53);
	kept[6] = send_to(&world, PROTOCOL_UDP, "127.0.0.2", 53);
	kept[7] = send_to(&world, PROTOCOL_TCP, "127.0.0.1", 53);
	assert_int_equal(sweep_all(&world, filters, ARRAY_SIZE(filters)).removed, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
		assert_true(has_flow(kept[i], NULL));
	for (unsigned i = 0; i < ARRAY_SIZE(taken); i++)
		assert_false(has_flow(taken[i], NULL));
	world_done(&world);
}

static void test_sweep_finds_flows_in_zones(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.2", 9000);
	int fd[3];

	world_begin(&world, *state);
	set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	fd[0] = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("nft 'table inet zones { chain output { type filter hook output priority -300;"
		" ct zone set 5; }; }'");
	fd[1] = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("nft delete table inet zones");
	lab_run("nft 'table inet zones { chain output { type filter hook output priority -300;"
		" ct original zone set 7; }; }'");
	fd[2] = send_to(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("conntrack -L | grep zone=5 && conntrack -L | grep zone-orig=7");
	assert_int_equal(sweep(&world, UDP_53, &gone).removed, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
		assert_false(has_flow(fd[i], NULL));
	world_done(&world);
}

/* More flows than one datagram of a dump holds, and as many that stay between them. */
static void test_sweep_of_many_flows_takes_all_of_them(void **state)
{
	enum { MANY = 3000 };
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.2", 9000);
	const struct flow_filter filter = {
		.listen = listens[UDP_53], .endpoints = &gone, .count = 1};
	const struct endpoint four = endpoint_of("127.0.0.1", 53),
			      stays = endpoint_of("127.0.0.1", 5353);
	struct sockaddr_storage to, aside;
	socklen_t length = fill_address(&to, &four);
	struct error error;
	unsigned steps = 0;
	int r;

	world_begin(&world, *state);
	(void)fill_address(&aside, &stays);
	set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	set_endpoint(&world, UDP_5353, "10.0.0.2", 9000);
	for (unsigned i = 0; i < MANY; i++) {
		struct sockaddr_in from = {.sin_family = AF_INET,
					   .sin_port = htons((uint16_t)(10000 + i)),
					   .sin_addr = {htonl(INADDR_LOOPBACK)}};
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length), 1);
		if (i % 3 == 0)
			assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&aside, length),
					 1);
		assert_int_equal(close(fd), 0);
	}
	lab_run("[ $(conntrack -L 2>/dev/null | wc -l) -eq 4000 ]");
	CLEANUP(flows_closep) struct flows *flows = open_flows(&world, &filter, 1);
	for (r = 1; r > 0; steps++)
		r = flows_step(flows, &error);
	assert_int_equal(r, 0);
	assert_true(steps > 10);
	assert_int_equal(flows_counted(flows).removed, MANY);
	lab_run("[ $(conntrack -L 2>/dev/null | wc -l) -eq 1000 ]");
	flows_again(flows);
	assert_int_equal(flows_sweep(flows, &error), 0);
	assert_int_equal(flows_counted(flows).removed, MANY);
	world_done(&world);
}

/* --- TCP ----------------------------------------------------------------------------- */

/* A listener at an address of the namespace's own. */
static int listen_at(struct world *world, const char *address, uint16_t port)
{
	struct endpoint at = endpoint_of(address, port);
	struct sockaddr_storage into;
	socklen_t length = fill_address(&into, &at);
	int fd = keep(world, socket(into.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)), on = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&into, length), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

/* A connection that stands; family AF_INET6 with an IPv4 address: mapped. */
static int connect_to(struct world *world, int family, const char *address, uint16_t port)
{
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct endpoint to = endpoint_of(address, port);
	struct sockaddr_storage into;
	socklen_t length = fill_address(&into, &to);
	int fd = keep(world, socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));

	if (family == AF_INET6 && to.family == FAMILY_IPV4) {
		memset(mapped.sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(mapped.sin6_addr.s6_addr + 12, to.address, 4);
		assert_int_equal(connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)), 0);
	} else {
		assert_int_equal(connect(fd, (struct sockaddr *)&into, length), 0);
	}
	return fd;
}

static int accept_one(struct world *world, int listener)
{
	return keep(world, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

/* What a socket has to tell, without waiting: 0 for nothing. */
static int error_of(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};
	int error = 0;
	socklen_t length = sizeof(error);

	(void)poll(&waiting, 1, 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
	return error;
}

static void *read_idly(void *user)
{
	char byte;
	ssize_t r = recv(*(int *)user, &byte, 1, 0);

	return (void *)(intptr_t)(r < 0 ? errno : 0);
}

static void test_sweep_of_tcp_wakes_an_idle_reader(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.254", 9000);
	struct timespec deadline;
	struct flows_count count;
	pthread_t reader;
	void *result;
	int listener, fd, peer;
	char byte;

	world_begin(&world, *state);
	listener = listen_at(&world, "10.0.0.254", 9000);
	set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	fd = connect_to(&world, AF_INET, "127.0.0.1", 80);
	peer = accept_one(&world, listener);
	assert_led_to(fd, "10.0.0.254#9000");
	assert_int_equal(pthread_create(&reader, NULL, read_idly, &fd), 0);
	count = sweep(&world, TCP_80, &gone);
	assert_int_equal(count.closed, 1);
	assert_int_equal(count.removed, 1);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &deadline), 0);
	deadline.tv_sec += 10;
	assert_int_equal(pthread_timedjoin_np(reader, &result, &deadline), 0);
	assert_int_equal((intptr_t)result, ECONNABORTED);
	/* The endpoint was told, through the rules. */
	assert_int_equal(recv(peer, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_false(has_flow(fd, NULL));
	world_done(&world);
}

static void test_sweep_of_tcp_takes_every_kind_of_client(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.254", 9000);
	const struct endpoint gone_six = endpoint_of("2001:db8::fe", 9000);
	const struct endpoint nobody = endpoint_of("10.0.0.77", 9000);
	const struct flow_filter filters[] = {
		{.listen = listens[TCP_80], .endpoints = &gone, .count = 1},
		{.listen = listens[TCP_53], .endpoints = &nobody, .count = 1},
		{.listen = listens[TCP_80],
		 .family = FAMILY_IPV6,
		 .endpoints = &gone_six,
		 .count = 1},
	};
	int four, six, mapped, waiting;

	world_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	(void)listen_at(&world, "2001:db8::fe", 9000);
	set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	set_endpoint(&world, TCP_80, "2001:db8::fe", 9000);
	set_endpoint(&world, TCP_53, "10.0.0.77", 9000);
	four = connect_to(&world, AF_INET, "127.0.0.1", 80);
	mapped = connect_to(&world, AF_INET6, "127.0.0.1", 80);
	six = connect_to(&world, AF_INET6, "::1", 80);
	waiting = send_to(&world, PROTOCOL_TCP, "127.0.0.1", 53);
	assert_int_equal(sweep_all(&world, filters, ARRAY_SIZE(filters)).closed, 4);
	assert_int_equal(error_of(four), ECONNABORTED);
	assert_int_equal(error_of(mapped), ECONNABORTED);
	assert_int_equal(error_of(six), ECONNABORTED);
	assert_int_equal(error_of(waiting), ECONNABORTED);
	world_done(&world);
}

static void test_sweep_of_tcp_leaves_other_connections(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.254", 9000);
	int others[5];

	world_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	(void)listen_at(&world, "10.0.0.254", 9001);
	(void)listen_at(&world, "127.0.0.1", 8080);
	set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	set_endpoint(&world, TCP_53, "10.0.0.254", 9000);
	(void)connect_to(&world, AF_INET, "127.0.0.1", 80);
	/* Another port to the same endpoint, the endpoint itself, a local server. */
	others[0] = connect_to(&world, AF_INET, "127.0.0.1", 53);
	others[1] = connect_to(&world, AF_INET, "10.0.0.254", 9000);
	others[2] = connect_to(&world, AF_INET6, "10.0.0.254", 9000);
	others[3] = connect_to(&world, AF_INET, "127.0.0.1", 8080);
	/* The same port to another endpoint. */
	set_endpoint(&world, TCP_80, "10.0.0.254", 9001);
	others[4] = connect_to(&world, AF_INET, "127.0.0.1", 80);
	assert_int_equal(sweep(&world, TCP_80, &gone).closed, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(error_of(others[i]), 0);
		assert_int_equal(send(others[i], "x", 1, MSG_NOSIGNAL), 1);
	}
	world_done(&world);
}

/* Its port has another use by now: the kernel's look-up finds that, too. */
static void test_sweep_of_tcp_leaves_a_server_on_the_port_of_a_dead_client(void **state)
{
	struct world world;
	const struct endpoint gone = endpoint_of("10.0.0.254", 9000);
	const struct linger at_once = {.l_onoff = 1};
	struct flows_count count;
	int fd, server;
	uint16_t port;

	world_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	fd = connect_to(&world, AF_INET, "127.0.0.1", 80);
	port = port_of(fd);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	assert_int_equal(close(fd), 0);
	world.client_count--;
	server = listen_at(&world, "127.0.0.1", port);
	count = sweep(&world, TCP_80, &gone);
	assert_int_equal(count.removed, 1);
	assert_int_equal(count.closed, 0);
	assert_int_equal(error_of(server), 0);
	(void)connect_to(&world, AF_INET, "127.0.0.1", port);
	(void)accept_one(&world, server);
	world_done(&world);
}

/* --- Anything ------------------------------------------------------------------------ */

static struct endpoint random_endpoint(struct random *random, enum family family)
{
	struct endpoint endpoint = endpoint_of(family == FAMILY_IPV6 ? "2001:db8::2" : "10.0.0.2",
					       (uint16_t)(9000 + random_below(random, 3)));

	endpoint.address[family == FAMILY_IPV6 ? 15 : 3] += (uint8_t)random_below(random, 3);
	return endpoint;
}

static int compare_endpoints(const void *one, const void *two)
{
	return endpoint_compare(one, two);
}

static void random_rules(struct world *world, struct random *random)
{
	for (unsigned service = 0; service < SERVICES; service++) {
		for (unsigned family = 0; family < FAMILY_COUNT; family++) {
			struct endpoint endpoints[SHARES];
			size_t count = 0, wanted = random_below(random, SHARES);

			for (size_t i = 0; i < wanted; i++)
				endpoints[i] = random_endpoint(random, (enum family)family);
			qsort(endpoints, wanted, sizeof(*endpoints), compare_endpoints);
			for (size_t i = 0; i < wanted; i++) {
				if (i == 0 || endpoint_compare(&endpoints[i], &endpoints[i - 1]))
					endpoints[count++] = endpoints[i];
			}
			set_endpoints(world, service, (enum family)family, endpoints, count);
		}
	}
	lab_sync(world->lab, &world->ruleset);
}

static void random_clients(struct world *world, struct random *random, unsigned count)
{
	static const char *const addresses[] = {"127.0.0.1", "::1",      "127.0.0.1",  "::1",
						"127.0.0.2", "10.0.0.2", "2001:db8::2"};

	for (unsigned i = 0; i < count; i++) {
		const struct listen *listen = &listens[random_below(random, SERVICES)];
		const char *address = addresses[random_below(random, ARRAY_SIZE(addresses))];
		struct endpoint to = endpoint_of(address, listen->port);
		struct sockaddr_storage into;
		socklen_t length = fill_address(&into, &to);
		int type = listen->protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
		int fd = keep(world,
			      socket(into.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

		/* Where the service is unavailable this is refused, and there is no flow. */
		(void)connect(fd, (const struct sockaddr *)&into, length);
		if (listen->protocol == PROTOCOL_UDP)
			(void)send(fd, "x", 1, MSG_NOSIGNAL);
	}
}

struct filters {
	struct flow_filter items[FILTERS_MAX];
	struct endpoint endpoints[FILTERS_MAX][SHARES];
	size_t count;
};

static void random_filters(struct random *random, struct filters *ret)
{
	ret->count = 1 + random_below(random, FILTERS_MAX);
	for (size_t i = 0; i < ret->count; i++) {
		struct flow_filter *filter = &ret->items[i];

		*filter = (struct flow_filter){
			.listen = listens[random_below(random, SERVICES)],
			.family = random_below(random, 2) ? FAMILY_IPV6 : FAMILY_IPV4,
			.others = random_once_in(random, 4),
			.endpoints = ret->endpoints[i],
			.count = random_below(random, SHARES + 1),
		};
		for (size_t k = 0; k < filter->count; k++)
			ret->endpoints[i][k] = random_once_in(random, 4)
						       ? flows_untranslated(&filter->listen,
									    filter->family)
						       : random_endpoint(random, filter->family);
	}
}

static bool is_named(const struct flow_filter *filter, const struct entry *entry)
{
	const struct endpoint endpoint = endpoint_of(entry->endpoint,
						     (uint16_t)entry->endpoint_port);

	for (size_t i = 0; i < filter->count; i++) {
		if (memcmp(&filter->endpoints[i], &endpoint, sizeof(endpoint)) == 0)
			return true;
	}
	return false;
}

static bool should_go(const struct filters *filters, const struct entry *entry)
{
	bool led_to = false, others = false, stays = false;

	for (size_t i = 0; i < filters->count; i++) {
		const struct flow_filter *filter = &filters->items[i];

		if (strcmp(entry->protocol, protocol_name(filter->listen.protocol)) != 0 ||
		    strcmp(entry->to, filter->family == FAMILY_IPV6 ? "::1" : "127.0.0.1") != 0 ||
		    entry->to_port != filter->listen.port)
			continue;
		others |= filter->others;
		led_to |= !filter->others && is_named(filter, entry);
		stays |= filter->others && is_named(filter, entry);
	}
	return led_to || (others && !stays);
}

static bool is_tcp(int fd)
{
	int type = 0;
	socklen_t length = sizeof(type);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length), 0);
	return type == SOCK_STREAM;
}

/* The sockets of TCP that were closed are those whose flow went. */
static void check_clients(struct world *world, const struct entries *before, unsigned long seed)
{
	for (size_t i = 0; i < world->client_count; i++) {
		int fd = world->clients[i];
		uint16_t port = port_of(fd);
		bool closed = error_of(fd) == ECONNABORTED, wanted = false;

		if (!is_tcp(fd))
			continue;
		for (size_t k = 0; k < before->count; k++)
			wanted |= before->items[k].from_port == port &&
				  strcmp(before->items[k].protocol, "tcp") == 0 &&
				  before->items[k].expected;
		/* One that was refused before has no connection to be closed. */
		if (closed && !wanted)
			fail_msg("SEED=%lu: the socket of port %u was closed", seed, port);
	}
}

static size_t check_round(struct lab *lab, unsigned long seed)
{
	static struct entries before, after;
	struct random random = {seed};
	struct filters filters;
	struct flows_count count;
	struct world world;
	size_t expected = 0;

	world_begin(&world, lab);
	random_clients(&world, &random, 20);
	for (unsigned i = 0; i < 2; i++) {
		random_rules(&world, &random);
		random_clients(&world, &random, 40);
	}
	random_filters(&random, &filters);
	list_entries(&before);
	for (size_t i = 0; i < before.count; i++) {
		before.items[i].expected = should_go(&filters, &before.items[i]);
		expected += before.items[i].expected;
	}
	count = sweep_all(&world, filters.items, filters.count);
	list_entries(&after);
	for (size_t i = 0; i < before.count; i++) {
		const struct entry *entry = &before.items[i];

		if (is_in(&after, entry) == entry->expected)
			fail_msg("SEED=%lu: %s %s#%u to %s#%u, led to %s#%u, %s", seed,
				 entry->protocol, entry->from, entry->from_port, entry->to,
				 entry->to_port, entry->endpoint, entry->endpoint_port,
				 entry->expected ? "was left" : "is gone");
	}
	if (count.removed != expected)
		fail_msg("SEED=%lu: removed %zu instead of %zu", seed, count.removed, expected);
	check_clients(&world, &before, seed);
	world_done(&world);
	return expected;
}

/* Each round in a namespace of its own. */
static void test_sweep_of_anything_takes_exactly_what_is_named(void **state)
{
	const unsigned long first = random_first_seed(1);
	const unsigned rounds = getenv("ROUNDS") ? (unsigned)strtoul(getenv("ROUNDS"), NULL, 0) : 8;
	size_t removed = 0;

	(void)state;
	for (unsigned long seed = first; seed < first + rounds; seed++) {
		void *lab = NULL;

		assert_int_equal(lab_begin(&lab), 0);
		removed += check_round(lab, seed);
		assert_int_equal(lab_end(&lab), 0);
	}
	assert_true(removed >= rounds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_sweep_of_a_namespace_without_flows_does_nothing),
		lab_test(test_sweep_after_a_replacement_leads_the_same_socket_anew),
		lab_test(test_sweep_before_the_first_endpoint_takes_flows_led_nowhere),
		lab_test(test_sweep_leaves_what_only_looks_alike),
		lab_test(test_sweep_finds_flows_in_zones),
		lab_test(test_sweep_of_many_flows_takes_all_of_them),
		lab_test(test_sweep_of_tcp_wakes_an_idle_reader),
		lab_test(test_sweep_of_tcp_takes_every_kind_of_client),
		lab_test(test_sweep_of_tcp_leaves_other_connections),
		lab_test(test_sweep_of_tcp_leaves_a_server_on_the_port_of_a_dead_client),
		cmocka_unit_test(test_sweep_of_anything_takes_exactly_what_is_named),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
