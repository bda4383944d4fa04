/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The kernel module against the kernel that runs, in a namespace for each test
 * (kernel_lab.h): what is read, what is refused and in which words, counters,
 * and the largest service.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "dragoman/model/standing.h"
#include "kernel_lab.h"
#include "plan_model.h"

/* --- Reading ------------------------------------------------------------------- */

static void test_read_of_an_empty_namespace_finds_nothing(void **state)
{
	struct lab *lab = *state;
	const struct ruleset nothing = {0};

	lab_plan(lab, &nothing);
	assert_false(lab->observed.table);
	assert_int_equal(lab->observed.saved_localnet, -1);
	assert_int_equal(lab->observed.localnet, 0);
	assert_true(lab->observed.ipv6);
	assert_int_equal(lab->observed.link_count, 1);
	assert_string_equal(lab->observed.links[0].name, "d0");
	assert_false(lab->observed.links[0].routed);
	assert_int_equal(lab->observed.route_count, 0);
	assert_true(lab_is_empty(&lab->verdicts));
}

static void test_read_after_commit_finds_what_was_committed(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);

	lab_sync(lab, &desired);
	assert_null(lab->observed.foreign);
	assert_int_equal(lab->observed.saved_localnet, 0);
	assert_int_equal(lab->observed.localnet, 1);
	assert_true(lab->observed.links[0].routed);
	assert_int_equal(lab->observed.service_count, 1);
	assert_int_equal(lab->observed.endpoint_count, 2);
	assert_int_equal(lab->observed.unavailable_count, 1);
	assert_int_equal(lab->observed.chain_count, CHAIN_BASE_COUNT + 1);
}

static void test_read_without_ipv6_wants_no_routes(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 1);

	lab_run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
	lab_sync(lab, &desired);
	assert_false(lab->observed.ipv6);
	lab_run("echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
	lab_sync(lab, &desired);
	assert_true(lab->observed.ipv6);
	assert_true(lab->observed.links[0].routed);
}

static void test_useless_routes_of_ours_are_removed(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 1);

	lab_run("ip -6 route add local ::1/128 dev d0 table local metric 99 proto 213");
	lab_run("ip -6 route add local ::1/128 dev d0 table 77 metric 2048 proto 213");
	lab_run("ip -6 route add local ::1/128 dev d0 table local metric 98 proto 99");
	lab_read(lab);
	assert_int_equal(lab->observed.route_count, 2);
	lab_sync(lab, &desired);
	assert_int_equal(lab->observed.route_count, 0);
	lab_flush(lab);
	lab_run("ip -6 route show table local proto 99 | grep -q 'metric 98'");
	lab_run("! ip -6 route show table all proto 213 | grep .");
}

/* --- Counters -------------------------------------------------------------------- */

/*
 * One datagram from each of count sockets: to the kernel, connections. All
 * sockets are open at once, so that no two have one port.
 */
static void knock(uint16_t port, unsigned count)
{
	int fds[512];
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr = {htonl(INADDR_LOOPBACK)}};

	assert_true(count <= ARRAY_SIZE(fds));
	for (unsigned i = 0; i < count; i++) {
		fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
		(void)sendto(fds[i], "x", 1, 0, (const struct sockaddr *)&to, sizeof(to));
	}
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(close(fds[i]), 0);
}

static uint64_t count_packets(const struct observed *observed)
{
	uint64_t packets = 0;

	for (size_t i = 0; i < observed->endpoint_count; i++) {
		packets += observed->endpoints[i].packets;
		assert_int_equal(observed->endpoints[i].bytes, 29 * observed->endpoints[i].packets);
	}
	return packets;
}

static void test_counters_count_and_survive_a_move_and_a_rebuild(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 3);
	struct share *shares = desired.services[0].shares[FAMILY_IPV4];

	desired.services[0].listen.protocol = PROTOCOL_UDP;
	lab_run("ip addr add 10.0.0.254/24 dev d0");
	lab_sync(lab, &desired);
	knock(80, 300);
	lab_read(lab);
	assert_int_equal(count_packets(&lab->observed), 300);
	/* The first endpoint leaves, and the last one takes its slot and its counter. */
	for (size_t i = 0; i < lab->observed.endpoint_count; i++)
		assert_in_range(lab->observed.endpoints[i].packets, 40, 160);
	desired.services[0].shares[FAMILY_IPV4] = shares + 1;
	desired.services[0].share_count[FAMILY_IPV4] = 2;
	for (size_t i = 0; i < lab->observed.endpoint_count; i++) {
		if (endpoint_compare(&lab->observed.endpoints[i].endpoint, &shares[0].endpoint) ==
		    0)
			lab->observed.endpoints[i].packets = 0;
	}
	{
		uint64_t kept = 0;

		for (size_t i = 0; i < lab->observed.endpoint_count; i++)
			kept += lab->observed.endpoints[i].packets;
		lab_sync(lab, &desired);
		assert_int_equal(count_packets(&lab->observed), kept);
		assert_int_equal(plan_make(lab->arena, &desired, &lab->observed, PLAN_REBUILD,
					   &lab->verdicts),
				 0);
		lab_commit(lab);
		lab_read(lab);
		assert_int_equal(count_packets(&lab->observed), kept);
	}
}

/* As planned from memory: the first of three endpoints leaves, the last takes its slot. */
static void plan_part(struct lab *lab, struct standing *standing, struct ruleset *desired)
{
	const struct listen listen = desired->services[0].listen;
	struct observed view;

	assert_int_equal(standing_take(standing, &lab->observed), 0);
	assert_int_equal(standing_view(standing, lab->arena, &listen, 1, &view), 0);
	view.generation = lab->observed.generation;
	desired->services[0].shares[FAMILY_IPV4]++;
	desired->services[0].share_count[FAMILY_IPV4]--;
	assert_int_equal(plan_make(lab->arena, desired, &view, PLAN_PART, &lab->verdicts), 0);
}

static uint64_t packets_of(const struct observed *observed, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < observed->endpoint_count; i++) {
		if (endpoint_compare(&observed->endpoints[i].endpoint, endpoint) == 0)
			return observed->endpoints[i].packets;
	}
	return UINT64_MAX;
}

static void test_counter_that_moves_is_read_where_it_is_not_known(void **state)
{
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 3);
	struct share *shares = desired.services[0].shares[FAMILY_IPV4];
	uint64_t kept[2];

	desired.services[0].listen.protocol = PROTOCOL_UDP;
	lab_run("ip addr add 10.0.0.254/24 dev d0");
	lab_sync(lab, &desired);
	knock(80, 300);
	lab_read(lab);
	kept[0] = packets_of(&lab->observed, &shares[1].endpoint);
	kept[1] = packets_of(&lab->observed, &shares[2].endpoint);
	plan_part(lab, standing, &desired);
	assert_int_equal(kernel_read_counters(lab->kernel, &lab->verdicts, &lab->error), 0);
	lab_commit(lab);
	lab_plan(lab, &desired);
	assert_true(lab_is_empty(&lab->verdicts));
	assert_int_equal(packets_of(&lab->observed, &shares[1].endpoint), kept[0]);
	assert_int_equal(packets_of(&lab->observed, &shares[2].endpoint), kept[1]);
	assert_in_range(kept[1], 40, 160);
}

/* More than one question, of both families, beside elements of somebody else. */
static void test_endpoints_that_are_known_are_counted_by_their_keys(void **state)
{
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 40);
	struct ruleset ipv6 = lab_service(lab, FAMILY_IPV6, 3);
	struct ruleset_service *service = &desired.services[0];
	struct observed_endpoint *known;
	size_t count;

	service->listen.protocol = PROTOCOL_UDP;
	service->shares[FAMILY_IPV6] = ipv6.services[0].shares[FAMILY_IPV6];
	service->share_count[FAMILY_IPV6] = 3;
	lab_run("ip addr add 10.0.0.254/24 dev d0");
	lab_sync(lab, &desired);
	assert_int_equal(standing_take(standing, &lab->observed), 0);
	assert_int_equal(standing_endpoints(standing, lab->arena, &known, &count), 0);
	assert_int_equal(count, 43);
	lab_run("nft add element inet dragoman endpoints4 "
		"'{ 127.0.0.1 . tcp . 9 . 0 : 10.0.0.9 . 9 }'");
	knock(80, 300);
	assert_int_equal(kernel_read_endpoints(lab->kernel, known, count, &lab->error), 0);
	lab_read(lab);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(known[i].packets, packets_of(&lab->observed, &known[i].endpoint));
	assert_int_equal(count_packets(&lab->observed), 300);
	/* One that is gone, or another in its place, is not taken for it. */
	known[20].endpoint.port++;
	assert_int_equal(kernel_read_endpoints(lab->kernel, known, count, &lab->error), -EAGAIN);
	known[20].endpoint.port--;
	known[20].slot = 41;
	assert_int_equal(kernel_read_endpoints(lab->kernel, known, count, &lab->error), -EAGAIN);
	assert_int_equal(lab->error.class, ERROR_CONFLICT);
	lab_run("nft delete table inet dragoman");
	assert_int_equal(kernel_read_endpoints(lab->kernel, known, 1, &lab->error), -EAGAIN);
	assert_int_equal(kernel_read_endpoints(lab->kernel, known, 0, &lab->error), 0);
}

static void test_counter_of_another_generation_is_a_conflict(void **state)
{
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	static const char *const hands[] = {
		"nft add table inet other",
		"nft delete element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 80 . 2 }'",
		"nft delete table inet dragoman",
	};
	struct lab *lab = *state;

	for (size_t i = 0; i < ARRAY_SIZE(hands); i++) {
		struct ruleset desired = lab_service(lab, FAMILY_IPV4, 3);

		lab_sync(lab, &desired);
		plan_part(lab, standing, &desired);
		lab_run(hands[i]);
		assert_int_equal(kernel_read_counters(lab->kernel, &lab->verdicts, &lab->error),
				 -EAGAIN);
		assert_int_equal(lab->error.class, ERROR_CONFLICT);
		assert_string_equal(lab->error.message,
				    "the ruleset has changed since it was read");
	}
}

/* --- Refusals ----------------------------------------------------------------------- */

static void test_commit_after_another_is_a_conflict(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);

	lab_plan(lab, &desired);
	lab_run("nft add table ip other");
	lab_refused(lab, -ERESTART, ERROR_CONFLICT, "the ruleset has changed since it was read");
	lab_read(lab);
	assert_false(lab->observed.table);
	assert_int_equal(lab->observed.localnet, 0);
	assert_false(lab->observed.links[0].routed);
	lab_sync(lab, &desired);
}

/* Whoever comes next still finds in it what route_localnet was. */
static void test_flush_removes_the_table_last(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);

	lab_run("echo 1 >" LOCALNET);
	lab_sync(lab, &desired);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_run("nft add table ip other");
	lab_refused(lab, -ERESTART, ERROR_CONFLICT, "the ruleset has changed since it was read");
	lab_read(lab);
	assert_false(lab->observed.links[0].routed);
	assert_true(lab->observed.table);
	assert_int_equal(lab->observed.saved_localnet, 1);
	lab_flush(lab);
	lab_run("grep -qx 1 " LOCALNET);
}

static void test_commit_of_the_same_twice_is_refused_whole(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);
	uint32_t generation;

	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_read(lab);
	generation = lab->observed.generation;
	lab_refused(lab, -ERESTART, ERROR_CONFLICT, "the ruleset has changed since it was read");
	lab_plan(lab, &desired);
	assert_int_equal(lab->observed.generation, generation);
	assert_true(lab_is_empty(&lab->verdicts));
}

static void test_commit_refused_names_the_object(void **state)
{
	static const struct listen http = {PROTOCOL_TCP, 80};
	static const struct endpoint endpoint = {.port = 80, .address = {10, 0, 0, 1}};
	struct service_verdict service = {.verdict = VERDICT_ADD, .listen = http};
	struct endpoint_verdict endpoints[] = {
		{.verdict = VERDICT_ADD, .slot = 7, .listen = http, .endpoint = endpoint},
		{.verdict = VERDICT_ADD, .slot = 1, .listen = http, .endpoint = endpoint},
	};
	struct endpoint_verdict gone = {
		.verdict = VERDICT_REMOVE, .slot = 9, .listen = http, .endpoint = endpoint};
	struct unavailable_verdict unavailable = {
		.verdict = VERDICT_ADD, .family = FAMILY_IPV6, .listen = http};
	struct chain_verdict chain = {.verdict = VERDICT_REMOVE,
				      .chain = {.kind = CHAIN_BALANCE, .slots = 2}};
	struct chain_verdict foreign = {
		.verdict = VERDICT_REMOVE, .chain = {.kind = CHAIN_FOREIGN}, .name = "no\x1bne"};
	struct set_verdict set = {.verdict = VERDICT_ADD, .set = SET_ENDPOINTS6};
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);
	const struct {
		struct verdicts verdicts;
		int code;
		const char *text;
	} cases[] = {
		{{.endpoints = endpoints, .endpoint_count = 2},
		 -EEXIST,
		 "adding element 127.0.0.1:80/tcp slot 1 of endpoints4: File exists"},
		{{.endpoints = &gone, .endpoint_count = 1},
		 -ENOENT,
		 "removing element 127.0.0.1:80/tcp slot 9 of endpoints4: "
		 "No such file or directory"},
		{{.services = &service, .service_count = 1},
		 -EEXIST,
		 "adding element 127.0.0.1:80/tcp of services4: File exists"},
		{{.unavailable = &unavailable, .unavailable_count = 1},
		 -EEXIST,
		 "adding element [::1]:80/tcp of unavailable6: File exists"},
		{{.chains = &chain, .chain_count = 1},
		 -EBUSY,
		 "removing chain balance4-2: Device or resource busy"},
		{{.chains = &foreign, .chain_count = 1},
		 -ENOENT,
		 "removing the rules of chain no\\x1bne: No such file or directory"},
		{{.sets = &set, .set_count = 1}, -EEXIST, "adding set endpoints6: File exists"},
		{{.table_add = true}, -EEXIST, "adding table inet dragoman: File exists"},
	};

	service.target = (struct chain){.kind = CHAIN_BALANCE, .slots = 2};
	lab_sync(lab, &desired);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		print_message("%s\n", cases[i].text);
		lab_read(lab);
		lab->verdicts = cases[i].verdicts;
		if (lab->verdicts.services)
			lab->verdicts.services[0].target = service.target;
		lab->verdicts.generation = lab->observed.generation;
		lab_refused(lab, cases[i].code, error_class_of(cases[i].code), cases[i].text);
	}
	lab_plan(lab, &desired);
	assert_true(lab_is_empty(&lab->verdicts));
}

/* The whole batch of 3,000 elements is refused for its last one, in the second message. */
static void test_commit_refused_names_the_object_of_a_later_message(void **state)
{
	enum { COUNT = 3000 };
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV6, 1);
	struct unavailable_verdict *unavailable = arena_array(lab->arena, COUNT,
							      sizeof(*unavailable));

	assert_non_null(unavailable);
	lab_sync(lab, &desired);
	for (unsigned i = 0; i < COUNT; i++)
		unavailable[i] = (struct unavailable_verdict){
			.verdict = VERDICT_ADD,
			.listen = {PROTOCOL_TCP, (uint16_t)(i + 1 < COUNT ? 1000 + i : 80)},
		};
	lab->verdicts = (struct verdicts){.generation = lab->observed.generation,
					  .unavailable = unavailable,
					  .unavailable_count = COUNT};
	lab_refused(lab, -EEXIST, error_class_of(-EEXIST),
		    "adding element 127.0.0.1:80/tcp of unavailable4: File exists");
	lab_plan(lab, &desired);
	assert_true(lab_is_empty(&lab->verdicts));
}

/* --- Sizes --------------------------------------------------------------------------- */

static void test_large_service_goes_in_and_comes_back(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV6, 1);
	struct share *shares = desired.services[0].shares[FAMILY_IPV6];

	/* The model keeps no lists that large: counting is enough here. */
	shares[0].slots = SLOTS_MAX;
	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_plan(lab, &desired);
	assert_true(lab_is_empty(&lab->verdicts));
	assert_int_equal(lab->observed.endpoint_count, SLOTS_MAX);
	shares[0].slots = 1;
	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_plan(lab, &desired);
	assert_true(lab_is_empty(&lab->verdicts));
	assert_int_equal(lab->observed.endpoint_count, 1);
}

/* A commit of its own is over with its answer, and to free what it removed is nobody's doing. */
static void test_kernel_that_awaits_others_goes_on_where_there_are_none(void **state)
{
	struct lab *lab = *state;
	struct ruleset two = lab_service(lab, FAMILY_IPV4, 2),
		       one = lab_service(lab, FAMILY_IPV4, 1);

	assert_int_equal(kernel_await_others(lab->kernel, &lab->error), 0);
	lab_sync(lab, &two);
	lab_sync(lab, &one);
	assert_int_equal(kernel_await_others(lab->kernel, &lab->error), 0);
	assert_false(kernel_was_held_up(lab->kernel));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_read_of_an_empty_namespace_finds_nothing),
		lab_test(test_read_after_commit_finds_what_was_committed),
		lab_test(test_read_without_ipv6_wants_no_routes),
		lab_test(test_useless_routes_of_ours_are_removed),
		lab_test(test_counters_count_and_survive_a_move_and_a_rebuild),
		lab_test(test_counter_that_moves_is_read_where_it_is_not_known),
		lab_test(test_endpoints_that_are_known_are_counted_by_their_keys),
		lab_test(test_counter_of_another_generation_is_a_conflict),
		lab_test(test_commit_after_another_is_a_conflict),
		lab_test(test_flush_removes_the_table_last),
		lab_test(test_commit_of_the_same_twice_is_refused_whole),
		lab_test(test_commit_refused_names_the_object),
		lab_test(test_commit_refused_names_the_object_of_a_later_message),
		lab_test(test_large_service_goes_in_and_comes_back),
		lab_test(test_kernel_that_awaits_others_goes_on_where_there_are_none),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
