/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The monitor against the kernel that runs, so root is needed. Each test
 * unshares a network namespace of its own, with a pair of links; who changes
 * things behind our back is nft(8) and ip(8).
 *
 * Nothing is waited for but news, with a deadline. That something is *not*
 * told shows by a fence: a change that is told, made after it, since one
 * socket's news come in order.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/kernel/monitor.h"
#include "dragoman/plan/plan.h"
#include "plan_model.h"

static const uint64_t DEADLINE = UINT64_C(10) * 1000 * 1000 * 1000;

static int first_namespace = -1;

static int group_begin(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_error("test_monitor needs root: it makes network namespaces\n");
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

struct lab {
	struct loop *loop;
	struct loop_source *deadline;
	struct kernel *kernel;
	struct kernel_monitor *monitor;
	struct arena *arena;
	struct observed observed;
	struct verdicts verdicts;
	struct error error;
	struct kernel_news heard; /* all of it together */
	unsigned calls;
	bool (*wanted)(const struct lab *lab);
	uint32_t fence;
	bool late;
	bool close_in_callback;
};

static void on_news(const struct kernel_news *news, void *user)
{
	struct lab *lab = user;

	lab->calls++;
	lab->heard.lost |= news->lost;
	lab->heard.table |= news->table;
	lab->heard.links |= news->links;
	if (news->table_generation)
		lab->heard.table_generation = news->table_generation;
	if (news->generation)
		lab->heard.generation = news->generation;
	if (lab->close_in_callback)
		kernel_monitor_closep(&lab->monitor);
	if (lab->wanted(lab))
		loop_stop(lab->loop);
}

static void on_deadline(struct loop_source *source, void *user)
{
	struct lab *lab = user;

	(void)source;
	lab->late = true;
	loop_stop(lab->loop);
}

/* Runs the loop until what is wanted was heard. */
static void listen_for(struct lab *lab, bool (*wanted)(const struct lab *lab))
{
	lab->wanted = wanted;
	lab->late = false;
	loop_source_arm(lab->deadline, loop_now(lab->loop) + DEADLINE);
	assert_int_equal(loop_run(lab->loop), 0);
	loop_source_arm(lab->deadline, UINT64_MAX);
	assert_false(lab->late);
}

static void forget(struct lab *lab)
{
	lab->heard = (struct kernel_news){0};
	lab->calls = 0;
}

static bool heard_table(const struct lab *lab)
{
	return lab->heard.table;
}

static bool heard_links(const struct lab *lab)
{
	return lab->heard.links;
}

static bool heard_lost(const struct lab *lab)
{
	return lab->heard.lost;
}

static bool heard_fence(const struct lab *lab)
{
	return lab->heard.generation == lab->fence;
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
	if (kernel_monitor_commit(lab->monitor, lab->kernel, &lab->verdicts, &lab->error) < 0)
		fail_msg("committing: %s", lab->error.message);
}

/* Port 80/tcp with that many endpoints. */
static struct ruleset service_of(struct lab *lab, unsigned slots)
{
	struct ruleset ruleset = {
		.services = arena_array(lab->arena, 1, sizeof(*ruleset.services)),
		.count = 1,
	};
	struct share *shares = arena_array(lab->arena, slots, sizeof(*shares));

	assert_non_null(ruleset.services);
	assert_non_null(shares);
	for (unsigned i = 0; i < slots; i++)
		shares[i] = (struct share){model_endpoint(FAMILY_IPV4, 2 * i), 1};
	ruleset.services[0].listen = (struct listen){PROTOCOL_TCP, 80};
	ruleset.services[0].shares[FAMILY_IPV4] = shares;
	ruleset.services[0].share_count[FAMILY_IPV4] = slots;
	return ruleset;
}

static void lab_sync(struct lab *lab, unsigned slots)
{
	struct ruleset desired = service_of(lab, slots);

	lab_plan(lab, &desired);
	lab_commit(lab);
}

/* Somebody else's commit, in a table of theirs, and the wait for it. */
static void fence(struct lab *lab)
{
	run("nft 'add table ip fence; add chain ip fence x; delete table ip fence'");
	lab_read(lab);
	lab->fence = lab->observed.generation;
	listen_for(lab, heard_fence);
}

/* Links come up in their own time, and say so. */
#define LINKS                                                                     \
	"ip link set lo up && ip link add d0 type veth peer name d9 &&"           \
	" ip link set d0 up && ip link set d9 up && for i in $(seq 1000); do"     \
	" [ $(ip -o link show up | grep -c 'd[09]@.* state UP') = 2 ] && exit 0;" \
	" done; exit 1"

static int lab_open(struct lab *lab)
{
	struct netns netns = NETNS_NONE;
	int r = netns_open("/proc/self/ns/net", &netns, &lab->error);

	if (r == 0)
		r = kernel_open(&netns, &lab->kernel, &lab->error);
	if (r == 0)
		r = kernel_monitor_open(lab->loop, &netns, lab->kernel, on_news, lab, &lab->monitor,
					&lab->error);
	if (r < 0)
		print_error("%s\n", lab->error.message);
	netns_done(&netns);
	return r;
}

static int lab_begin(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	*state = lab;
	if (!lab || unshare(CLONE_NEWNET) < 0 || !try_run(LINKS))
		return -1;
	lab->arena = arena_new();
	if (!lab->arena || loop_new(&lab->loop) < 0 ||
	    loop_add_timer(lab->loop, "deadline", UINT64_MAX, on_deadline, lab, &lab->deadline) < 0)
		return -1;
	return lab_open(lab);
}

static int lab_end(void **state)
{
	struct lab *lab = *state;

	kernel_monitor_close(lab->monitor);
	kernel_close(lab->kernel);
	loop_source_free(lab->deadline);
	loop_free(lab->loop);
	arena_free(lab->arena);
	free(lab);
	return setns(first_namespace, CLONE_NEWNET);
}

/* --- The ruleset ------------------------------------------------------------------ */

static void test_monitor_tells_of_changes_to_our_table(void **state)
{
	static const char *const changes[] = {
		"nft delete element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 80 . 1 }'",
		"nft add element inet dragoman unavailable4 '{ 127.0.0.1 . udp . 53 }'",
		"nft flush chain inet dragoman guard",
		"nft add rule inet dragoman guard counter",
		"nft add chain inet dragoman theirs",
		"nft delete chain inet dragoman theirs",
		"nft add set inet dragoman theirs '{ type mark; }'",
		"nft add counter inet dragoman visits",
		"nft 'add table ip x; flush set inet dragoman unavailable4; add table ip y'",
		"nft flush table inet dragoman",
		"nft delete table inet dragoman",
		"nft add table inet dragoman",
		"nft flush ruleset",
	};
	struct lab *lab = *state;

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		if (i == 0)
			lab_sync(lab, 2);
		forget(lab);
		run(changes[i]);
		listen_for(lab, heard_table);
		lab_read(lab);
		assert_int_equal(lab->heard.table_generation, lab->observed.generation);
		assert_int_equal(lab->heard.generation, lab->observed.generation);
		assert_false(lab->heard.lost);
		assert_false(lab->heard.links);
		assert_int_equal(lab->calls, 1);
	}
}

static void test_monitor_of_foreign_tables_tells_the_generation_only(void **state)
{
	static const char *const changes[] = {
		"nft 'add table ip dragoman; add chain ip dragoman output'",
		"nft 'add table inet dragoman2; add set inet dragoman2 endpoints4 { type mark; }'",
		"nft add element inet dragoman2 endpoints4 '{ 7 }'",
		"nft delete table ip dragoman",
		"nft 'add table inet drago; add chain inet drago dragoman'",
	};
	struct lab *lab = *state;

	lab_sync(lab, 2);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		uint32_t before;

		lab_read(lab);
		before = lab->observed.generation;
		forget(lab);
		run(changes[i]);
		lab_read(lab);
		assert_true(generation_is_after(lab->observed.generation, before));
		lab->fence = lab->observed.generation;
		listen_for(lab, heard_fence);
		assert_false(lab->heard.table);
		assert_false(lab->heard.lost);
		assert_int_equal(lab->heard.table_generation, 0);
	}
}

static void test_monitor_does_not_tell_what_we_did(void **state)
{
	static const unsigned slots[] = {3, 2, 2000, 1};
	struct lab *lab = *state;
	unsigned fences = 0;

	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		lab_sync(lab, slots[i]);
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
	/* The second is for the links' socket, which may have its turn behind the other's. */
	for (; fences < 2; fences++)
		fence(lab);
	assert_false(lab->heard.table);
	assert_false(lab->heard.lost);
	assert_false(lab->heard.links);
	assert_int_equal(lab->calls, fences);
}

/* Through kernel_commit() alone, the filter keeps them out of the queue. */
static void test_monitor_is_not_overrun_by_a_large_commit(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, 4000);

	lab_plan(lab, &desired);
	assert_int_equal(kernel_commit(lab->kernel, &lab->verdicts, &lab->error), 0);
	fence(lab);
	assert_false(lab->heard.table);
	assert_false(lab->heard.lost);
}

static void test_monitor_listens_again_after_a_large_commit(void **state)
{
	struct lab *lab = *state;

	lab_sync(lab, 4000);
	run("nft flush ruleset");
	listen_for(lab, heard_table);
	assert_true(
		generation_is_after(lab->heard.table_generation, kernel_generation(lab->kernel)));
}

/* Without a kernel of ours, everything is somebody else's. */
static void test_monitor_without_a_kernel_tells_all(void **state)
{
	struct lab *lab = *state;
	struct netns netns = NETNS_NONE;

	kernel_monitor_closep(&lab->monitor);
	assert_int_equal(netns_open("/proc/self/ns/net", &netns, &lab->error), 0);
	assert_int_equal(kernel_monitor_open(lab->loop, &netns, NULL, on_news, lab, &lab->monitor,
					     &lab->error),
			 0);
	netns_done(&netns);
	lab_sync(lab, 2);
	listen_for(lab, heard_table);
	listen_for(lab, heard_links);
	assert_int_equal(lab->heard.table_generation, kernel_generation(lab->kernel));
}

static void test_generation_after_a_commit_is_that_which_is_read(void **state)
{
	static const unsigned slots[] = {1, 2, 1, 300, 299, 5, 4000, 1};
	struct lab *lab = *state;

	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		uint32_t made;

		lab_sync(lab, slots[i]);
		made = kernel_generation(lab->kernel);
		lab_read(lab);
		assert_int_equal(made, lab->observed.generation);
	}
	/* Nothing to send: still that which was planned against. */
	lab_sync(lab, 1);
	assert_false(verdicts_have_batch(&lab->verdicts));
	assert_int_equal(kernel_generation(lab->kernel), lab->observed.generation);
	/* What goes with the table is not listed: it may be anything. */
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
	assert_int_equal(kernel_generation(lab->kernel), 0);
}

/* The three rules of the header, for a plan that is committed late. */
static void test_plan_of_an_older_generation_is_good_for_the_one_that_was_told(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = service_of(lab, 3);

	lab_sync(lab, 2);
	lab_plan(lab, &desired);
	run("nft add table ip theirs");
	assert_int_equal(kernel_commit(lab->kernel, &lab->verdicts, &lab->error), -ERESTART);
	assert_int_equal(kernel_generation(lab->kernel), 0);
	fence(lab);
	assert_false(lab->heard.table);
	assert_true(generation_is_after(lab->heard.generation, lab->verdicts.generation));
	lab->verdicts.generation = lab->heard.generation;
	lab_commit(lab);
	assert_true(generation_is_after(kernel_generation(lab->kernel), lab->heard.generation));
	lab_plan(lab, &desired);
	assert_false(verdicts_have_batch(&lab->verdicts));
	assert_int_equal(lab->observed.endpoint_count, 3);
}

static void test_generations_wrap_around(void **state)
{
	(void)state;
	assert_true(generation_is_after(2, 1));
	assert_false(generation_is_after(1, 1));
	assert_false(generation_is_after(1, 2));
	assert_true(generation_is_after(1, UINT32_MAX));
	assert_false(generation_is_after(UINT32_MAX, 1));
}

static void test_monitor_that_is_overrun_says_so_and_goes_on(void **state)
{
	struct lab *lab = *state;

	lab_sync(lab, 1);
	run("{ echo 'add table ip big; add set ip big s { type ipv4_addr; }; add element ip big s {';"
	    " for i in $(seq 20000); do echo \"10.1.$((i / 256)).$((i % 256)),\"; done;"
	    " echo '}'; } | nft -f -");
	listen_for(lab, heard_lost);
	fence(lab);
	forget(lab);
	run("nft delete table inet dragoman");
	listen_for(lab, heard_table);
	assert_false(lab->heard.lost);
}

/* --- Links ------------------------------------------------------------------------ */

static void test_monitor_tells_of_links_and_routes(void **state)
{
	static const char *const changes[] = {
		"ip link set d9 down",
		"ip link set d9 up",
		"ip -6 route del local ::1/128 dev d0 table local metric 2048",
		"ip -6 route add local ::1/128 dev d0 table local metric 2048 proto 213",
		"echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
		"echo 0 >/proc/sys/net/ipv6/conf/d0/disable_ipv6",
		"ip link add d5 type veth peer name d6",
		"ip link del d0",
	};
	struct lab *lab = *state;

	lab_sync(lab, 1);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		forget(lab);
		run(changes[i]);
		listen_for(lab, heard_links);
		assert_false(lab->heard.lost);
		assert_int_equal(lab->heard.generation, 0);
	}
}

static void test_monitor_does_not_tell_of_other_routes(void **state)
{
	struct lab *lab = *state;

	run("ip -6 route add 2001:db8::/64 dev d0");
	run("ip -6 route add 2001:db8:1::1/128 dev d0");
	run("ip -6 route del 2001:db8:1::1/128 dev d0");
	run("ip -4 route add 192.0.2.1/32 dev d0");
	fence(lab);
	fence(lab);
	assert_int_equal(lab->calls, 2);
	assert_false(lab->heard.links);
}

/* --- Closing ---------------------------------------------------------------------- */

static size_t open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	assert_int_equal(closedir(directory), 0);
	return count;
}

static void test_monitor_leaves_no_descriptor(void **state)
{
	struct lab *lab = *state;
	struct netns netns = NETNS_NONE;
	struct kernel_monitor *monitor = NULL;
	size_t before = open_descriptors();

	assert_int_equal(netns_open("/proc/self/ns/net", &netns, &lab->error), 0);
	assert_int_equal(kernel_monitor_open(lab->loop, &netns, lab->kernel, on_news, lab, &monitor,
					     &lab->error),
			 0);
	netns_done(&netns);
	assert_true(open_descriptors() > before);
	kernel_monitor_closep(&monitor);
	assert_null(monitor);
	assert_int_equal(open_descriptors(), before);
	assert_true(kernel_monitor_open(lab->loop, &netns, lab->kernel, on_news, lab, &monitor,
					&lab->error) < 0);
	assert_null(monitor);
	assert_int_equal(open_descriptors(), before);
	kernel_monitor_close(NULL);
}

static void test_monitor_may_be_closed_in_its_own_callback(void **state)
{
	struct lab *lab = *state;

	lab_sync(lab, 1);
	lab->close_in_callback = true;
	run("nft flush ruleset; ip link set d9 down");
	lab->calls = 0;
	lab->wanted = heard_table;
	loop_source_arm(lab->deadline, loop_now(lab->loop) + DEADLINE / 100);
	assert_int_equal(loop_run(lab->loop), 0);
	assert_null(lab->monitor);
	assert_int_equal(lab->calls, 1);
}

/* The far end of a pair of links goes with its namespace: another monitor sees it go. */
static void test_monitor_closed_lets_go_of_the_namespace(void **state)
{
	struct lab *lab = *state, inner = {.loop = lab->loop};
	int outer = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	char command[160];

	assert_true(outer >= 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	(void)snprintf(command, sizeof(command),
		       "ip link add q9 type veth peer name q0 netns /proc/%d/fd/%d", getpid(),
		       outer);
	run(command);
	assert_int_equal(lab_open(&inner), 0);
	assert_int_equal(setns(outer, CLONE_NEWNET), 0);
	assert_int_equal(close(outer), 0);
	kernel_closep(&inner.kernel);
	run("ip link show q0");
	listen_for(lab, heard_links);
	kernel_monitor_closep(&inner.monitor);
	for (bool gone = false; !gone; gone = !try_run("ip link show q0")) {
		forget(lab);
		listen_for(lab, heard_links);
	}
}

#define lab_test(function) cmocka_unit_test_setup_teardown(function, lab_begin, lab_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_monitor_tells_of_changes_to_our_table),
		lab_test(test_monitor_of_foreign_tables_tells_the_generation_only),
		lab_test(test_monitor_does_not_tell_what_we_did),
		lab_test(test_monitor_is_not_overrun_by_a_large_commit),
		lab_test(test_monitor_listens_again_after_a_large_commit),
		lab_test(test_monitor_without_a_kernel_tells_all),
		lab_test(test_generation_after_a_commit_is_that_which_is_read),
		lab_test(test_plan_of_an_older_generation_is_good_for_the_one_that_was_told),
		cmocka_unit_test(test_generations_wrap_around),
		lab_test(test_monitor_that_is_overrun_says_so_and_goes_on),
		lab_test(test_monitor_tells_of_links_and_routes),
		lab_test(test_monitor_does_not_tell_of_other_routes),
		lab_test(test_monitor_leaves_no_descriptor),
		lab_test(test_monitor_may_be_closed_in_its_own_callback),
		lab_test(test_monitor_closed_lets_go_of_the_namespace),
	};

	return cmocka_run_group_tests_name("monitor", tests, group_begin, group_end);
}
