/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The kernel module against the kernel that runs, so root is needed, and its
 * lack is a failure. Each test unshares a network namespace of its own, with
 * lo and a pair of links in it, one of them without IPv6, and goes back to the
 * first one afterwards. Who damages the table is nft(8). Seeds are printed: `SEED=N ROUNDS=1` in
 * the environment runs the damage of one round only.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/plan/plan.h"
#include "plan_model.h"

#define LOCALNET "/proc/sys/net/ipv4/conf/all/route_localnet"

/* --- A namespace to try things in ---------------------------------------------- */

static int first_namespace = -1;

static int group_begin(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_error("test_kernel needs root: it makes network namespaces\n");
		return -1;
	}
	first_namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return first_namespace < 0 ? -1 : 0;
}

static int group_end(void **state)
{
	(void)state;
	return close(first_namespace);
}

/* Runs a shell command in the namespace at hand; what it says goes to nowhere. */
static bool try_run(const char *command)
{
	char line[1024];

	(void)snprintf(line, sizeof(line), "{ %s; } >/dev/null 2>&1", command);
	return system(line) == 0;
}

static void run(const char *command)
{
	if (!try_run(command))
		fail_msg("failed: %s", command);
}

/* What a command prints. */
static void run_text(const char *command, struct text *ret)
{
	FILE *pipe = popen(command, "re");
	char buffer[4096];
	size_t length;

	assert_non_null(pipe);
	text_add(ret, "", 0);
	while ((length = fread(buffer, 1, sizeof(buffer), pipe)) > 0)
		text_add(ret, buffer, length);
	if (pclose(pipe) != 0 || ret->failed)
		fail_msg("failed: %s", command);
}

struct lab {
	struct kernel *kernel;
	struct arena *arena;
	struct observed observed;
	struct verdicts verdicts;
	struct error error;
};

static int lab_begin(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct netns netns = NETNS_NONE;

	*state = lab;
	if (!lab || unshare(CLONE_NEWNET) < 0 || !try_run("ip link set lo up") ||
	    !try_run(
		    "ip link add d0 type veth peer name d9 && ip link set d0 up && ip link set d9 up"
		    " && echo 1 >/proc/sys/net/ipv6/conf/d9/disable_ipv6"))
		return -1;
	lab->arena = arena_new();
	if (!lab->arena || netns_open("/proc/self/ns/net", &netns, &lab->error) < 0 ||
	    kernel_open(&netns, &lab->kernel, &lab->error) < 0) {
		print_error("%s\n", lab->error.message);
		return -1;
	}
	netns_done(&netns);
	return 0;
}

static int lab_end(void **state)
{
	struct lab *lab = *state;

	kernel_close(lab->kernel);
	arena_free(lab->arena);
	free(lab);
	return setns(first_namespace, CLONE_NEWNET);
}

static void lab_read(struct lab *lab)
{
	if (kernel_read(lab->kernel, lab->arena, &lab->observed, &lab->error) < 0)
		fail_msg("reading: %s", lab->error.message);
}

static void lab_plan(struct lab *lab, const struct ruleset *desired)
{
	lab_read(lab);
	assert_int_equal(plan_make(lab->arena, desired, &lab->observed, 0, &lab->verdicts), 0);
}

static void lab_commit(struct lab *lab)
{
	if (kernel_commit(lab->kernel, &lab->verdicts, &lab->error) < 0)
		fail_msg("committing: %s", lab->error.message);
}

/* Commits the verdicts at hand, which has to fail with the code and the whole text. */
static void assert_refused(struct lab *lab, int code, enum error_class class, const char *text)
{
	memset(&lab->error, 0, sizeof(lab->error));
	assert_int_equal(kernel_commit(lab->kernel, &lab->verdicts, &lab->error), code);
	assert_string_equal(lab->error.message, text);
	assert_int_equal(lab->error.code, code);
	assert_int_equal(lab->error.class, class);
}

static bool is_empty(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

static void tell_changes(const struct verdicts *verdicts)
{
	for (size_t i = 0; i < verdicts->change_count; i++)
		print_message("  %s %s\n", verdict_name(verdicts->changes[i].verdict),
			      verdicts->changes[i].is_object ? verdicts->changes[i].object
							     : "an endpoint");
}

/* Makes it true; what was done is right, and there is nothing more to do. */
static void lab_sync(struct lab *lab, const struct ruleset *desired)
{
	struct model before, after;
	const char *what;

	lab_plan(lab, desired);
	before = (struct model){.observed = lab->observed};
	if (kernel_commit(lab->kernel, &lab->verdicts, &lab->error) < 0) {
		tell_changes(&lab->verdicts);
		fail_msg("committing: %s", lab->error.message);
	}
	lab_plan(lab, desired);
	after = (struct model){.observed = lab->observed};
	if (!is_empty(&lab->verdicts)) {
		tell_changes(&lab->verdicts);
		fail_msg("planning again gives something");
	}
	what = model_differs(desired, &before, &after);
	if (what)
		fail_msg("%s", what);
}

/* Port 80/tcp with `slots` endpoints of one family. */
static struct ruleset service_of(struct lab *lab, enum family family, unsigned slots)
{
	struct ruleset ruleset = {
		.services = arena_array(lab->arena, 1, sizeof(*ruleset.services)),
		.count = 1,
	};
	struct share *shares = arena_array(lab->arena, slots, sizeof(*shares));

	assert_non_null(ruleset.services);
	assert_non_null(shares);
	for (unsigned i = 0; i < slots; i++) {
		shares[i] = (struct share){model_endpoint(family, 2 * i), 1};
		assert_true(i == 0 ||
			    endpoint_compare(&shares[i - 1].endpoint, &shares[i].endpoint) < 0);
	}
	ruleset.services[0].listen = (struct listen){PROTOCOL_TCP, 80};
	ruleset.services[0].shares[family] = shares;
	ruleset.services[0].share_count[family] = slots;
	return ruleset;
}

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
	assert_true(is_empty(&lab->verdicts));
}

static void test_read_after_commit_finds_what_was_committed(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 2);

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
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 1);

	run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
	lab_sync(lab, &desired);
	assert_false(lab->observed.ipv6);
	run("echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
	lab_sync(lab, &desired);
	assert_true(lab->observed.ipv6);
	assert_true(lab->observed.links[0].routed);
}

static void test_useless_routes_of_ours_are_removed(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 1);

	run("ip -6 route add local ::1/128 dev d0 table local metric 99 proto 213");
	run("ip -6 route add local ::1/128 dev d0 table 77 metric 2048 proto 213");
	run("ip -6 route add local ::1/128 dev d0 table local metric 98 proto 99");
	lab_read(lab);
	assert_int_equal(lab->observed.route_count, 2);
	lab_sync(lab, &desired);
	assert_int_equal(lab->observed.route_count, 0);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
	run("ip -6 route show table local proto 99 | grep -q 'metric 98'");
	run("! ip -6 route show table all proto 213 | grep .");
}

/* --- Sequences ------------------------------------------------------------------ */

/* Ways to spoil a table; those that do not apply fail, and that is fine. */
static const char *const damages[] = {
	"nft flush map inet dragoman endpoints4",
	"nft flush map inet dragoman services6",
	"nft flush set inet dragoman unavailable4",
	"nft delete element inet dragoman services4 '{ 127.0.0.1 . tcp . 80 }'",
	"nft delete element inet dragoman endpoints6 '{ ::1 . tcp . 80 . 0 }'",
	"nft delete element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 6379 . 1 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 80 . 9 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 9 . 0 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.9 . tcp . 9 . 0 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 9 . 99999 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman unavailable4 '{ 127.0.0.2 . tcp . 80 }'",
	"nft add element inet dragoman unavailable6 '{ ::1 . sctp . 80 }'",
	"nft add element inet dragoman unavailable6 '{ ::1 . udp . 53 }'",
	"nft add element inet dragoman services4 '{ 127.0.0.1 . udp . 9 : drop }'",
	"nft add element inet dragoman services4 '{ 127.0.0.3 . udp . 9 : accept }'",
	"nft add element inet dragoman services4 '{ * : drop }'",
	"nft flush chain inet dragoman guard",
	"nft flush chain inet dragoman output",
	"nft flush chain inet dragoman balance4-2",
	"nft flush chain inet dragoman nth4-80-tcp",
	"nft insert rule inet dragoman balance6-1 counter",
	"nft add rule inet dragoman nth6-53-udp counter",
	"nft add rule inet dragoman guard drop",
	("h=$(nft -a list chain inet dragoman guard | sed -n 's/.*saddr.* handle //p') &&"
	 " nft delete rule inet dragoman guard handle $h"),
	("h=$(nft -a list chain inet dragoman output | sed -n 's/.*ip6.* handle //p') &&"
	 " nft replace rule inet dragoman output handle $h counter"),
	"nft insert rule inet dragoman postrouting meta mark 7 accept",
	"nft delete chain inet dragoman guard",
	"nft add chain inet dragoman balance4-4095",
	"nft add chain inet dragoman nth6-9-udp",
	"nft add chain inet dragoman theirs '{ type filter hook input priority 0; }'",
	"nft add chain inet dragoman guard '{ policy drop; }'",
	("nft 'add chain inet dragoman theirs; add chain inet dragoman other;"
	 " add rule inet dragoman other jump theirs; add rule inet dragoman output jump other'"),
	("nft 'add chain inet dragoman theirs;"
	 " add element inet dragoman services4 { 127.0.0.1 . tcp . 80 : goto theirs }'"),
	("nft 'add chain inet dragoman theirs;"
	 " add element inet dragoman services4 { 127.0.0.1 . tcp . 81 : jump theirs }'"),
	"nft add set inet dragoman blocklist '{ type ipv4_addr; }'",
	("nft 'add set inet dragoman blocklist { type ipv4_addr; };"
	 " add rule inet dragoman guard ip saddr @blocklist drop'"),
	("nft 'add chain inet dragoman theirs; add map inet dragoman them { type mark : verdict; };"
	 " add element inet dragoman them { 1 : goto theirs };"
	 " add rule inet dragoman output meta mark vmap @them'"),
	"nft add counter inet dragoman visits",
	("nft 'flush table inet dragoman; flush set inet dragoman unavailable4;"
	 " delete set inet dragoman unavailable4'"),
	("nft 'flush table inet dragoman; delete set inet dragoman unavailable4;"
	 " add set inet dragoman unavailable4 { type ipv4_addr; }'"),
	"nft 'flush table inet dragoman; delete map inet dragoman endpoints6'",
	("nft 'flush chain inet dragoman unavailable; delete set inet dragoman unavailable6;"
	 " add set inet dragoman unavailable6 { typeof ip6 daddr . meta l4proto . th dport;"
	 " timeout 1h; }'"),
	("nft 'flush chain inet dragoman output; delete map inet dragoman services6;"
	 " add map inet dragoman services6 { typeof ip6 daddr . meta l4proto . th dport : meta mark;"
	 " }'"),
	"nft add table inet dragoman '{ flags dormant; }'",
	"nft delete table inet dragoman",
	"nft flush table inet dragoman",
	"nft flush ruleset",
	"nft 'delete table inet dragoman; add table inet dragoman'",
	"nft 'delete table inet dragoman; add table inet dragoman { comment \"hello\"; }'",
	"nft add table ip dragoman",
	("echo 0 >" LOCALNET),
	"ip -6 route flush proto 213 table local",
	"ip -6 route add local ::1/128 dev d0 table local metric 99 proto 213",
	"ip link set d0 down",
	"ip link set d0 up",
	"ip link add d1 type veth peer name d8 && ip link set d1 up",
	"ip link del d1",
};

static void damage(struct random *random, bool *ret_any)
{
	*ret_any = false;
	for (unsigned i = random_below(random, 4); i > 0; i--) {
		if (try_run(damages[random_below(random, ARRAY_SIZE(damages))]))
			*ret_any = true;
	}
}

static void test_any_sequence_of_states_and_damage_ends_as_desired(void **state)
{
	const char *wanted = getenv("ROUNDS");
	unsigned long first = random_first_seed(1);
	unsigned long rounds = wanted ? strtoul(wanted, NULL, 0) : 150;
	struct lab *lab = *state;

	print_message("seeds %lu and %lu more\n", first, rounds);
	for (unsigned long seed = first; seed < first + rounds; seed++) {
		struct random random = {seed};
		struct ruleset desired = model_random_ruleset(lab->arena, &random);
		bool damaged;

		print_message("seed %lu\n", seed);
		lab_sync(lab, &desired);
		damage(&random, &damaged);
		if (random_once_in(&random, 2))
			desired = model_random_ruleset(lab->arena, &random);
		lab_sync(lab, &desired);
	}
}

/* Our table in nft's words, in an order that does not depend on the kernel's. */
static void list_table(struct text *ret)
{
	run_text("nft -s list table inet dragoman | sed '/counter visits/,/}/d' | tr ',' '\\n' |"
		 " sed 's/elements = {//; s/[{}]//g; s/^[ \t]*//; s/[ \t]*$//' | grep . | sort",
		 ret);
}

static void lab_flush(struct lab *lab)
{
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
}

/* Each damage by itself is put right, and not only in our own eyes. */
static void test_each_damage_is_put_right(void **state)
{
	struct lab *lab = *state;
	size_t applied = 0;

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		CLEANUP(text_done) struct text before = {0};
		CLEANUP(text_done) struct text after = {0};
		struct ruleset desired = service_of(lab, i % 2 ? FAMILY_IPV6 : FAMILY_IPV4, 2);

		desired.balance = i % 4 < 2 ? BALANCE_RANDOM : BALANCE_NTH;
		lab_flush(lab);
		lab_sync(lab, &desired);
		list_table(&before);
		if (!try_run(damages[i]))
			continue;
		print_message("%s\n", damages[i]);
		applied++;
		lab_sync(lab, &desired);
		list_table(&after);
		assert_string_equal(after.data, before.data);
	}
	/* A list that nothing of applies would prove nothing. */
	assert_true(applied > ARRAY_SIZE(damages) * 2 / 3);
}

static void test_rebuild_is_one_transaction_that_the_kernel_takes(void **state)
{
	struct lab *lab = *state;
	struct random random = {4};

	for (unsigned i = 0; i < 20; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);
		uint32_t generation;

		lab_sync(lab, &desired);
		generation = lab->observed.generation;
		assert_int_equal(plan_make(lab->arena, &desired, &lab->observed, PLAN_REBUILD,
					   &lab->verdicts),
				 0);
		if (!lab->observed.table)
			continue;
		lab_commit(lab);
		lab_plan(lab, &desired);
		assert_true(is_empty(&lab->verdicts));
		assert_int_equal(lab->observed.generation, generation + 1);
	}
}

static void test_flush_leaves_no_trace(void **state)
{
	CLEANUP(text_done) struct text before = {0};
	CLEANUP(text_done) struct text after = {0};
	static const char everything[] = "nft list ruleset; ip -6 route show table all;"
					 " cat " LOCALNET;
	struct lab *lab = *state;
	struct random random = {9};

	run_text(everything, &before);
	for (unsigned i = 0; i < 5; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		lab_sync(lab, &desired);
	}
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	assert_false(is_empty(&lab->verdicts));
	lab_commit(lab);
	run_text(everything, &after);
	assert_string_equal(after.data, before.data);
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	assert_true(is_empty(&lab->verdicts));
}

static void test_route_localnet_that_was_on_stays_on(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 1);
	static const char *const values[] = {"1", "7", "-1"};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		char command[128];

		print_message("%s\n", values[i]);
		(void)snprintf(command, sizeof(command), "echo %s >" LOCALNET, values[i]);
		run(command);
		lab_sync(lab, &desired);
		assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
		lab_commit(lab);
		(void)snprintf(command, sizeof(command), "grep -qx -e %s " LOCALNET, values[i]);
		run(command);
	}
}

static void test_listing_loads_again_and_is_the_same(void **state)
{
	struct lab *lab = *state;

	for (unsigned seed = 1; seed <= 25; seed++) {
		struct random random = {seed};
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		print_message("seed %u\n", seed);
		lab_sync(lab, &desired);
		if (!lab->observed.table)
			continue;
		run("nft list table inet dragoman >/dev/shm/dragoman-test-$PPID.nft &&"
		    " nft delete table inet dragoman &&"
		    " nft -f /dev/shm/dragoman-test-$PPID.nft;"
		    " s=$?; rm -f /dev/shm/dragoman-test-$PPID.nft; exit $s");
		lab_plan(lab, &desired);
		if (!is_empty(&lab->verdicts)) {
			tell_changes(&lab->verdicts);
			fail_msg("what was loaded again is another table");
		}
	}
}

static void test_foreign_tables_are_not_touched(void **state)
{
	CLEANUP(text_done) struct text before = {0};
	CLEANUP(text_done) struct text after = {0};
	struct lab *lab = *state;
	struct random random = {5};

	run("nft 'table ip dragoman { map services4 { type mark : verdict; elements = { 1 : drop } };"
	    " chain output { type nat hook output priority -100; meta mark vmap @services4; };"
	    " chain balance4-2 { counter; }; };"
	    " table ip nat { chain DOCKER_OUTPUT { ip daddr 127.0.0.11 tcp dport 53 dnat to"
	    " 127.0.0.11:43671; }; };"
	    " table inet dragoman2 { set unavailable4 { type ipv4_addr; }; };"
	    " table netdev filter { }'");
	run_text("nft list ruleset", &before);
	for (unsigned i = 0; i < 10; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		lab_sync(lab, &desired);
	}
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
	run_text("nft list ruleset", &after);
	assert_string_equal(after.data, before.data);
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
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 3);
	struct share *shares = desired.services[0].shares[FAMILY_IPV4];

	desired.services[0].listen.protocol = PROTOCOL_UDP;
	run("ip addr add 10.0.0.254/24 dev d0");
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

/* --- Refusals ----------------------------------------------------------------------- */

static void test_commit_after_another_is_a_conflict(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 2);

	lab_plan(lab, &desired);
	run("nft add table ip other");
	assert_refused(lab, -ERESTART, ERROR_CONFLICT, "the ruleset has changed since it was read");
	lab_read(lab);
	assert_false(lab->observed.table);
	assert_int_equal(lab->observed.localnet, 0);
	assert_false(lab->observed.links[0].routed);
	lab_sync(lab, &desired);
}

static void test_commit_of_the_same_twice_is_refused_whole(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 2);
	uint32_t generation;

	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_read(lab);
	generation = lab->observed.generation;
	assert_refused(lab, -ERESTART, ERROR_CONFLICT, "the ruleset has changed since it was read");
	lab_plan(lab, &desired);
	assert_int_equal(lab->observed.generation, generation);
	assert_true(is_empty(&lab->verdicts));
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
	struct ruleset desired = service_of(lab, FAMILY_IPV4, 2);
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
		assert_refused(lab, cases[i].code, error_class_of(cases[i].code), cases[i].text);
	}
	lab_plan(lab, &desired);
	assert_true(is_empty(&lab->verdicts));
}

/* The whole batch of 3,000 elements is refused for its last one, in the second message. */
static void test_commit_refused_names_the_object_of_a_later_message(void **state)
{
	enum { COUNT = 3000 };
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV6, 1);
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
	assert_refused(lab, -EEXIST, error_class_of(-EEXIST),
		       "adding element 127.0.0.1:80/tcp of unavailable4: File exists");
	lab_plan(lab, &desired);
	assert_true(is_empty(&lab->verdicts));
}

/* --- Sizes --------------------------------------------------------------------------- */

static void test_large_service_goes_in_and_comes_back(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, FAMILY_IPV6, 1);
	struct share *shares = desired.services[0].shares[FAMILY_IPV6];

	/* The model keeps no lists that large: counting is enough here. */
	shares[0].slots = SLOTS_MAX;
	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_plan(lab, &desired);
	assert_true(is_empty(&lab->verdicts));
	assert_int_equal(lab->observed.endpoint_count, SLOTS_MAX);
	shares[0].slots = 1;
	lab_plan(lab, &desired);
	lab_commit(lab);
	lab_plan(lab, &desired);
	assert_true(is_empty(&lab->verdicts));
	assert_int_equal(lab->observed.endpoint_count, 1);
}

/* --- Descriptors, namespaces, privilege ----------------------------------------------- */

static size_t count_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_kernel_closes_every_descriptor(void **state)
{
	struct lab *lab = *state;
	size_t before = count_descriptors();

	for (unsigned i = 0; i < 3; i++) {
		struct kernel *kernel;
		struct netns netns;
		struct error error;

		assert_int_equal(netns_open("/proc/self/ns/net", &netns, &error), 0);
		assert_int_equal(kernel_open(&netns, &kernel, &error), 0);
		assert_int_equal(kernel_read(kernel, lab->arena, &lab->observed, &error), 0);
		kernel_close(kernel);
		netns_done(&netns);
		assert_true(netns_open("/etc/passwd", &netns, &error) < 0);
		assert_true(netns_open("/proc/self/ns/mnt", &netns, &error) < 0);
		assert_true(netns_open_pid(0x7fffffff, &netns, &error) < 0);
		assert_int_equal(netns_open_pid(getpid(), &netns, &error), 0);
		assert_true(netns_is_host(&netns, &error) >= 0);
		netns_done(&netns);
	}
	assert_int_equal(count_descriptors(), before);
}

static void test_descriptors_are_not_inherited(void **state)
{
	(void)state;
	for (int fd = 3; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);
		char path[64], target[256] = "";

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (flags < 0 || readlink(path, target, sizeof(target) - 1) < 0)
			continue;
		if (strstr(target, "socket:") || strstr(target, "route_localnet"))
			assert_true(flags & FD_CLOEXEC);
	}
}

static void test_netns_open_of_what_is_none_says_so(void **state)
{
	char long_name[300];
	char fifo[] = "/tmp/dragoman-test-XXXXXX";
	const struct {
		const char *name;
		int code;
		const char *text;
	} cases[] = {
		{"", -EINVAL, "the namespace's name is empty"},
		{"no-such-name-here", -ENOENT,
		 "/run/netns/no-such-name-here: no such namespace (`ip netns list` shows those "
		 "with a name)"},
		{"no\nsuch\x1b", -ENOENT,
		 "/run/netns/no\\x0asuch\\x1b: no such namespace (`ip netns list` shows those with "
		 "a name)"},
		{"/no/such/path", -ENOENT,
		 "/no/such/path: no such namespace (`ip netns list` shows those with a name)"},
		{"/etc/passwd/x", -ENOTDIR, "/etc/passwd/x: Not a directory"},
		{"/etc/passwd", -EINVAL,
		 "/etc/passwd: not a namespace: the file is not of nsfs (nothing is mounted there "
		 "any more, or it is another file)"},
		{"/", -EINVAL,
		 "/: not a namespace: the file is not of nsfs (nothing is mounted there any more, "
		 "or it is another file)"},
		{"/proc/self/ns/mnt", -EINVAL,
		 "/proc/self/ns/mnt: a namespace, but not a network namespace"},
		{long_name, -ENAMETOOLONG, NULL},
		{fifo, -EINVAL, NULL},
	};

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct netns netns = NETNS_NONE;
		struct error error = {0};

		print_message("%.40s\n", cases[i].name);
		assert_int_equal(netns_open(cases[i].name, &netns, &error), cases[i].code);
		assert_int_equal(error.code, cases[i].code);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_int_equal(netns.fd, -1);
		if (cases[i].text)
			assert_string_equal(error.message, cases[i].text);
	}
	assert_int_equal(unlink(fifo), 0);
}

static void assert_no_process(pid_t pid, const char *why)
{
	struct netns netns = NETNS_NONE;
	struct error error = {0};
	char text[128];

	(void)snprintf(text, sizeof(text), "process %ld: %s", (long)pid, why);
	assert_int_equal(netns_open_pid(pid, &netns, &error), -ESRCH);
	assert_string_equal(error.message, text);
	assert_int_equal(error.class, ERROR_INVALID);
	assert_int_equal(netns.fd, -1);
}

static void test_netns_open_pid_of_no_process_says_so(void **state)
{
	siginfo_t info;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	/* A zombie: it has ended, and nobody has waited for it yet. */
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_no_process(child, "it has ended");
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_no_process(child, "no such process");
	assert_no_process(0, "no such process");
	assert_no_process(-1, "no such process");
	assert_no_process(0x7fffffff, "no such process");
}

/* Says its number, and waits until nobody has anything more to say. */
static void *thread_main(void *user)
{
	const int *ends = user;
	pid_t number = gettid();
	char nothing;

	if (write(ends[1], &number, sizeof(number)) == sizeof(number))
		(void)!read(ends[2], &nothing, 1);
	return NULL;
}

static void test_netns_open_pid_of_a_thread_says_so(void **state)
{
	int ends[4];
	pthread_t thread;
	pid_t number;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ends + 2, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&thread, NULL, thread_main, ends), 0);
	assert_int_equal(read(ends[0], &number, sizeof(number)), sizeof(number));
	assert_no_process(number, "no such process");
	assert_int_equal(close(ends[3]), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(close(ends[i]), 0);
}

static void test_netns_open_pid_of_a_process_is_its_namespace(void **state)
{
	struct netns by_path, by_pid;
	struct error error;

	(void)state;
	assert_int_equal(netns_open("/proc/self/ns/net", &by_path, &error), 0);
	assert_int_equal(netns_open_pid(getpid(), &by_pid, &error), 0);
	assert_int_equal(by_path.inode, by_pid.inode);
	assert_int_equal(by_path.device, by_pid.device);
	netns_done(&by_path);
	netns_done(&by_pid);
}

/* The namespace that the program was started in. */
static void open_first(struct netns *ret)
{
	char path[64];
	struct error error;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", first_namespace);
	assert_int_equal(netns_open(path, ret, &error), 0);
}

static void test_netns_is_host_of_process_1_or_else_of_ours(void **state)
{
	struct netns own, first;
	struct error error;
	struct stat of_init;
	bool seen = stat("/proc/1/ns/net", &of_init) == 0;

	(void)state;
	assert_int_equal(netns_open("/proc/self/ns/net", &own, &error), 0);
	open_first(&first);
	assert_true(first.inode != own.inode);
	assert_int_equal(netns_is_host(&own, &error), seen ? 0 : 1);
	assert_int_equal(netns_is_host(&first, &error), seen && of_init.st_ino == first.inode);
	netns_done(&own);
	netns_done(&first);
}

static int give_back(void *user, struct error *error)
{
	struct stat *status = user;

	(void)error;
	return stat("/proc/thread-self/ns/net", status) < 0 ? -errno : -EXDEV;
}

static void test_netns_call_goes_there_and_comes_back(void **state)
{
	struct stat before, inside, after;
	struct netns first;
	struct error error;

	(void)state;
	open_first(&first);
	assert_int_equal(stat("/proc/thread-self/ns/net", &before), 0);
	assert_int_equal(netns_call(&first, give_back, &inside, &error), -EXDEV);
	assert_int_equal(stat("/proc/thread-self/ns/net", &after), 0);
	assert_int_equal(inside.st_ino, first.inode);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_true(before.st_ino != inside.st_ino);
	netns_done(&first);
}

/* What a child that gave root away was told. */
static void as_nobody(int (*function)(struct error *error), struct error *ret)
{
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct error error = {0};

		if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(2);
		error.code = function(&error);
		_exit(write(ends[1], &error, sizeof(error)) == sizeof(error) ? 0 : 3);
	}
	assert_int_equal(close(ends[1]), 0);
	assert_int_equal(read(ends[0], ret, sizeof(*ret)), sizeof(*ret));
	assert_int_equal(close(ends[0]), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static int open_other(struct error *error)
{
	struct netns netns;

	return netns_open_pid(1, &netns, error);
}

static int open_own(struct error *error)
{
	struct kernel *kernel;
	struct netns netns;
	int r = netns_open("/proc/self/ns/net", &netns, error);

	return r < 0 ? r : kernel_open(&netns, &kernel, error);
}

static void test_without_privilege_the_error_says_what_is_missing(void **state)
{
	struct error error;

	(void)state;
	as_nobody(open_other, &error);
	assert_int_equal(error.code, -EACCES);
	assert_int_equal(error.class, ERROR_FATAL);
	assert_string_equal(error.message,
			    "/proc/1/ns/net: Permission denied (root, or CAP_SYS_PTRACE and "
			    "CAP_SYS_ADMIN, is needed)");
	as_nobody(open_own, &error);
	assert_int_equal(error.code, -EPERM);
	assert_int_equal(error.class, ERROR_FATAL);
	assert_string_equal(error.message,
			    "cannot enter the network namespace: Operation not permitted (root, or "
			    "CAP_SYS_ADMIN, is needed)");
}

#define lab_test(function) cmocka_unit_test_setup_teardown(function, lab_begin, lab_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_read_of_an_empty_namespace_finds_nothing),
		lab_test(test_read_after_commit_finds_what_was_committed),
		lab_test(test_read_without_ipv6_wants_no_routes),
		lab_test(test_useless_routes_of_ours_are_removed),
		lab_test(test_any_sequence_of_states_and_damage_ends_as_desired),
		lab_test(test_each_damage_is_put_right),
		lab_test(test_rebuild_is_one_transaction_that_the_kernel_takes),
		lab_test(test_flush_leaves_no_trace),
		lab_test(test_route_localnet_that_was_on_stays_on),
		lab_test(test_listing_loads_again_and_is_the_same),
		lab_test(test_foreign_tables_are_not_touched),
		lab_test(test_counters_count_and_survive_a_move_and_a_rebuild),
		lab_test(test_commit_after_another_is_a_conflict),
		lab_test(test_commit_of_the_same_twice_is_refused_whole),
		lab_test(test_commit_refused_names_the_object),
		lab_test(test_commit_refused_names_the_object_of_a_later_message),
		lab_test(test_large_service_goes_in_and_comes_back),
		lab_test(test_kernel_closes_every_descriptor),
		lab_test(test_descriptors_are_not_inherited),
		lab_test(test_netns_open_of_what_is_none_says_so),
		lab_test(test_netns_open_pid_of_no_process_says_so),
		lab_test(test_netns_open_pid_of_a_thread_says_so),
		lab_test(test_netns_open_pid_of_a_process_is_its_namespace),
		lab_test(test_netns_is_host_of_process_1_or_else_of_ours),
		lab_test(test_netns_call_goes_there_and_comes_back),
		lab_test(test_without_privilege_the_error_says_what_is_missing),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
