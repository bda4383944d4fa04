/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Flows of UDP that the rules no longer lead to (flow_lab.h): each case that
 * design.md names, what must not be touched, and at last anything: random rules
 * and flows of both protocols, swept by random filters. What a sweep should
 * leave is worked out from conntrack(8)'s own list, by a plain loop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "flow_lab.h"
#include "random.h"

enum { FILTERS_MAX = 8 };

static void test_sweep_of_a_namespace_without_flows_does_nothing(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.2", 9000);
	struct flows_count count;

	flow_lab_begin(&world, *state);
	count = flow_lab_sweep(&world, UDP_53, &gone);
	assert_int_equal(count.removed, 0);
	count = flow_lab_sweep_all(&world, NULL, 0);
	assert_int_equal(count.removed, 0);
	flow_lab_done(&world);
}

static void test_sweep_after_a_replacement_leads_the_same_socket_anew(void **state)
{
	static const char *const addresses[] = {"127.0.0.1", "::1"};
	static const char *const old[] = {"10.0.0.2", "2001:db8::2"};
	static const char *const fresh[] = {"10.0.0.3", "2001:db8::3"};
	struct flow_lab world;

	flow_lab_begin(&world, *state);
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		struct endpoint gone = flow_endpoint(old[family], 9000);
		struct sockaddr_storage to;
		struct endpoint localhost = flow_endpoint(addresses[family], 53);
		socklen_t length = flow_address(&to, &localhost);
		char wanted[ENDPOINT_TEXT_MAX];
		int fd;

		flow_lab_set_endpoint(&world, UDP_53, old[family], 9000);
		fd = flow_lab_send(&world, PROTOCOL_UDP, addresses[family], 53);
		flow_lab_set_endpoint(&world, UDP_53, fresh[family], 9000);
		/* The black hole: the rules are new, the flow is not. */
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length), 1);
		(void)snprintf(wanted, sizeof(wanted), "%s#9000", old[family]);
		assert_led_to(fd, wanted);
		assert_int_equal(flow_lab_sweep(&world, UDP_53, &gone).removed, 1);
		assert_false(conntrack_has_flow(fd, NULL));
		assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, length), 1);
		(void)snprintf(wanted, sizeof(wanted), "%s#9000", fresh[family]);
		assert_led_to(fd, wanted);
		/* The second sweep leaves the new flow alone. */
		assert_int_equal(flow_lab_sweep(&world, UDP_53, &gone).removed, 0);
		assert_led_to(fd, wanted);
	}
	flow_lab_done(&world);
}

static void test_sweep_before_the_first_endpoint_takes_flows_led_nowhere(void **state)
{
	struct flow_lab world;
	struct endpoint nowhere = flow_untranslated(&flow_listens[UDP_53], FAMILY_IPV4);
	struct sockaddr_storage to;
	socklen_t length = flow_address(&to, &nowhere);
	int early, other;

	flow_lab_begin(&world, *state);
	early = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	other = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.2", 53);
	assert_led_to(early, "127.0.0.1#53");
	flow_lab_set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	assert_int_equal(sendto(early, "x", 1, 0, (struct sockaddr *)&to, length), 1);
	assert_led_to(early, "127.0.0.1#53");
	assert_int_equal(flow_lab_sweep(&world, UDP_53, &nowhere).removed, 1);
	assert_int_equal(sendto(early, "x", 1, 0, (struct sockaddr *)&to, length), 1);
	assert_led_to(early, "10.0.0.2#9000");
	assert_true(conntrack_has_flow(other, NULL));
	flow_lab_done(&world);
}

static void test_sweep_leaves_what_only_looks_alike(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.2", 9000);
	const struct endpoint gone_six = flow_endpoint("2001:db8::2", 9000);
	struct flow_filter filters[] = {
		{.listen = flow_listens[UDP_53], .endpoints = &gone, .count = 1},
		{.listen = flow_listens[UDP_53],
		 .family = FAMILY_IPV6,
		 .endpoints = &gone_six,
		 .count = 1},
	};
	int kept[8], taken[2];

	flow_lab_begin(&world, *state);
	flow_lab_set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	flow_lab_set_endpoint(&world, UDP_53, "2001:db8::2", 9000);
	flow_lab_set_endpoint(&world, UDP_5353, "10.0.0.2", 9000);
	flow_lab_set_endpoint(&world, UDP_5353, "2001:db8::2", 9000);
	flow_lab_set_endpoint(&world, TCP_53, "10.0.0.2", 9000);
	taken[0] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	taken[1] = flow_lab_send(&world, PROTOCOL_UDP, "::1", 53);
	/* Another port, the endpoint itself, its other ports, other loopbacks, TCP. */
	kept[0] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 5353);
	kept[1] = flow_lab_send(&world, PROTOCOL_UDP, "::1", 5353);
	kept[2] = flow_lab_send(&world, PROTOCOL_UDP, "10.0.0.2", 9000);
	kept[3] = flow_lab_send(&world, PROTOCOL_UDP, "2001:db8::2", 9000);
	kept[4] = flow_lab_send(&world, PROTOCOL_UDP, "10.0.0.2", 53);
	kept[5] = flow_lab_send(&world, PROTOCOL_UDP, "2001:db8::2", 53);
	kept[6] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.2", 53);
	kept[7] = flow_lab_send(&world, PROTOCOL_TCP, "127.0.0.1", 53);
	assert_int_equal(flow_lab_sweep_all(&world, filters, ARRAY_SIZE(filters)).removed, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
		assert_true(conntrack_has_flow(kept[i], NULL));
	for (unsigned i = 0; i < ARRAY_SIZE(taken); i++)
		assert_false(conntrack_has_flow(taken[i], NULL));
	flow_lab_done(&world);
}

static void test_sweep_finds_flows_in_zones(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.2", 9000);
	int fd[3];

	flow_lab_begin(&world, *state);
	flow_lab_set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	fd[0] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("nft 'table inet zones { chain output { type filter hook output priority -300;"
		" ct zone set 5; }; }'");
	fd[1] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("nft delete table inet zones");
	lab_run("nft 'table inet zones { chain output { type filter hook output priority -300;"
		" ct original zone set 7; }; }'");
	fd[2] = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	lab_run("conntrack -L | grep zone=5 && conntrack -L | grep zone-orig=7");
	assert_int_equal(flow_lab_sweep(&world, UDP_53, &gone).removed, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
		assert_false(conntrack_has_flow(fd[i], NULL));
	flow_lab_done(&world);
}

/* More flows than one datagram of a dump holds, and as many that stay between them. */
static void test_sweep_of_many_flows_takes_all_of_them(void **state)
{
	enum { MANY = 3000 };
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.2", 9000);
	const struct flow_filter filter = {
		.listen = flow_listens[UDP_53], .endpoints = &gone, .count = 1};
	const struct endpoint four = flow_endpoint("127.0.0.1", 53),
			      stays = flow_endpoint("127.0.0.1", 5353);
	struct sockaddr_storage to, aside;
	socklen_t length = flow_address(&to, &four);
	struct error error;
	unsigned steps = 0;
	int r;

	flow_lab_begin(&world, *state);
	(void)flow_address(&aside, &stays);
	flow_lab_set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	flow_lab_set_endpoint(&world, UDP_5353, "10.0.0.2", 9000);
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
	CLEANUP(flows_closep) struct flows *flows = flow_lab_open_flows(&world, &filter, 1);
	for (r = 1; r > 0; steps++)
		r = flows_step(flows, &error);
	assert_int_equal(r, 0);
	assert_true(steps > 10);
	assert_int_equal(flows_counted(flows).removed, MANY);
	lab_run("[ $(conntrack -L 2>/dev/null | wc -l) -eq 1000 ]");
	/* One that came behind the sweep. */
	(void)flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
	flows_again(flows);
	assert_int_equal(flows_sweep(flows, &error), 0);
	assert_int_equal(flows_counted(flows).removed, MANY + 1);
	flow_lab_done(&world);
}

/* --- Anything ------------------------------------------------------------------------ */

static struct endpoint random_endpoint(struct random *random, enum family family)
{
	struct endpoint endpoint = flow_endpoint(family == FAMILY_IPV6 ? "2001:db8::2" : "10.0.0.2",
						 (uint16_t)(9000 + random_below(random, 3)));

	endpoint.address[family == FAMILY_IPV6 ? 15 : 3] += (uint8_t)random_below(random, 3);
	return endpoint;
}

static int compare_endpoints(const void *one, const void *two)
{
	return endpoint_compare(one, two);
}

static void random_rules(struct flow_lab *world, struct random *random)
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
			flow_lab_set_endpoints(world, service, (enum family)family, endpoints,
					       count);
		}
	}
	lab_sync(world->lab, &world->ruleset);
}

static void random_clients(struct flow_lab *world, struct random *random, unsigned count)
{
	static const char *const addresses[] = {"127.0.0.1", "::1",      "127.0.0.1",  "::1",
						"127.0.0.2", "10.0.0.2", "2001:db8::2"};

	for (unsigned i = 0; i < count; i++) {
		const struct listen *listen = &flow_listens[random_below(random, SERVICES)];
		const char *address = addresses[random_below(random, ARRAY_SIZE(addresses))];
		struct endpoint to = flow_endpoint(address, listen->port);
		struct sockaddr_storage into;
		socklen_t length = flow_address(&into, &to);
		int type = listen->protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
		int fd = flow_lab_keep(
			world, socket(into.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

		/* Where the service is unavailable this is refused, and there is no flow. */
		if (connect(fd, (const struct sockaddr *)&into, length) < 0)
			assert_true(errno == EINPROGRESS || errno == ECONNREFUSED ||
				    errno == EPERM);
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
			.listen = flow_listens[random_below(random, SERVICES)],
			.family = random_below(random, 2) ? FAMILY_IPV6 : FAMILY_IPV4,
			.others = random_once_in(random, 4),
			.endpoints = ret->endpoints[i],
			.count = random_below(random, SHARES + 1),
		};
		for (size_t k = 0; k < filter->count; k++)
			ret->endpoints[i][k] = random_once_in(random, 4)
						       ? flow_untranslated(&filter->listen,
									   filter->family)
						       : random_endpoint(random, filter->family);
	}
}

static bool is_named(const struct flow_filter *filter, const struct entry *entry)
{
	const struct endpoint endpoint = flow_endpoint(entry->endpoint,
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
static void check_clients(struct flow_lab *world, const struct entries *before, unsigned long seed)
{
	for (size_t i = 0; i < world->client_count; i++) {
		int fd = world->clients[i];
		uint16_t port = flow_port(fd);
		bool closed = flow_error(fd) == ECONNABORTED, wanted = false;

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
	struct random random = {.state = seed};
	struct filters filters;
	struct flows_count count;
	struct flow_lab world;
	size_t expected = 0;

	flow_lab_begin(&world, lab);
	random_clients(&world, &random, 20);
	for (unsigned i = 0; i < 2; i++) {
		random_rules(&world, &random);
		random_clients(&world, &random, 40);
	}
	random_filters(&random, &filters);
	conntrack_list(&before);
	for (size_t i = 0; i < before.count; i++) {
		before.items[i].expected = should_go(&filters, &before.items[i]);
		expected += before.items[i].expected;
	}
	count = flow_lab_sweep_all(&world, filters.items, filters.count);
	conntrack_list(&after);
	for (size_t i = 0; i < before.count; i++) {
		const struct entry *entry = &before.items[i];

		if (conntrack_has(&after, entry) == entry->expected)
			fail_msg("SEED=%lu: %s %s#%u to %s#%u, led to %s#%u, %s", seed,
				 entry->protocol, entry->from, entry->from_port, entry->to,
				 entry->to_port, entry->endpoint, entry->endpoint_port,
				 entry->expected ? "was left" : "is gone");
	}
	if (count.removed != expected)
		fail_msg("SEED=%lu: removed %zu instead of %zu", seed, count.removed, expected);
	check_clients(&world, &before, seed);
	flow_lab_done(&world);
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
		cmocka_unit_test(test_sweep_of_anything_takes_exactly_what_is_named),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
