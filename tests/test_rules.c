/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What the agent does to the rules of one namespace (agent/rules.c), against a
 * kernel and a planner of the test's own, which take the place of the real ones
 * when this program is linked. Each case is a script: for each try, what the
 * kernel says to being read, what the plan holds, and what the kernel says to it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/agent/rules.h"
#include "dragoman/plan/plan.h"

struct step {
	int read;   /* what kernel_read() returns */
	bool empty; /* the plan holds nothing to do */
	int await;  /* what kernel_await_others() returns */
	int commit; /* what kernel_monitor_commit() returns */
};

static struct {
	const struct step *steps;
	size_t count; /* the last one is repeated */
	size_t plans, reads, awaits, commits, rebuilds, parts;
	bool held_up;
	uint32_t generation; /* that a commit makes */
	int saved_localnet;  /* as the table that is read has it */
} world;

enum { READ_GENERATION = 100, COMMIT_GENERATION = 200 };

static const struct step *now(void)
{
	size_t index = world.plans ? world.plans - 1 : 0;

	return &world.steps[index < world.count ? index : world.count - 1];
}

/* --- The kernel --------------------------------------------------------------------- */

int kernel_read(struct kernel *kernel, struct arena *arena, struct observed *ret,
		struct error *error)
{
	(void)kernel;
	(void)arena;
	world.plans++;
	world.reads++;
	*ret = (struct observed){.generation = READ_GENERATION + (uint32_t)world.reads,
				 .table = true,
				 .saved_localnet = world.saved_localnet};
	if (now()->read < 0)
		return error_set(error, now()->read, error_class_of(now()->read), "read %zu",
				 world.reads);
	return 0;
}

int kernel_read_counters(struct kernel *kernel, struct verdicts *verdicts, struct error *error)
{
	(void)kernel;
	(void)verdicts;
	(void)error;
	return 0;
}

int kernel_await_others(const struct kernel *kernel, struct error *error)
{
	(void)kernel;
	(void)error;
	world.awaits++;
	return now()->await;
}

bool kernel_was_held_up(const struct kernel *kernel)
{
	(void)kernel;
	return world.held_up;
}

uint32_t kernel_generation(const struct kernel *kernel)
{
	(void)kernel;
	return world.generation;
}

int kernel_monitor_commit(struct kernel_monitor *monitor, struct kernel *kernel,
			  const struct verdicts *verdicts, struct error *error)
{
	(void)monitor;
	(void)kernel;
	(void)verdicts;
	world.commits++;
	if (now()->commit < 0)
		return error_set(error, now()->commit, error_class_of(now()->commit), "commit %zu",
				 world.commits);
	return 0;
}

int kernel_commit(struct kernel *kernel, const struct verdicts *verdicts, struct error *error)
{
	return kernel_monitor_commit(NULL, kernel, verdicts, error);
}

int kernel_open(const struct netns *netns, struct kernel **ret, struct error *error)
{
	(void)netns;
	(void)ret;
	return error_no_memory(error);
}

void kernel_close(struct kernel *kernel)
{
	assert_null(kernel);
}

int kernel_monitor_open(struct loop *loop, const struct netns *netns, const struct kernel *kernel,
			kernel_monitor_function *function, void *user, struct kernel_monitor **ret,
			struct error *error)
{
	(void)loop;
	(void)netns;
	(void)kernel;
	(void)function;
	(void)user;
	(void)ret;
	return error_no_memory(error);
}

void kernel_monitor_close(struct kernel_monitor *monitor)
{
	assert_null(monitor);
}

/* --- The planner -------------------------------------------------------------------- */

/* One endpoint of port 80, for the standing to remember. */
int plan_make(struct arena *arena, const struct ruleset *desired, const struct observed *observed,
	      unsigned flags, struct verdicts *ret)
{
	(void)desired;
	if (flags & PLAN_PART) {
		world.plans++;
		world.parts++;
	}
	world.rebuilds += (flags & PLAN_REBUILD) != 0;
	*ret = (struct verdicts){.generation = observed->generation};
	if (now()->empty)
		return 0;
	ret->endpoints = arena_array(arena, 1, sizeof(*ret->endpoints));
	if (!ret->endpoints)
		return -ENOMEM;
	ret->endpoints[0] = (struct endpoint_verdict){
		.verdict = VERDICT_ADD, .listen = {PROTOCOL_TCP, 80}, .endpoint = {.port = 7000}};
	ret->endpoint_count = 1;
	return 0;
}

int plan_flush(struct arena *arena, const struct observed *observed, struct verdicts *ret)
{
	return plan_make(arena, NULL, observed, 0, ret);
}

/* --- Cases -------------------------------------------------------------------------- */

struct case_of {
	struct rules rules;
	struct arena *arena;
	struct rules_outcome outcome;
	struct error error;
};

static int begin(void **state)
{
	struct case_of *at = calloc(1, sizeof(*at));

	assert_non_null(at);
	at->arena = arena_new();
	at->rules.standing = standing_new();
	at->rules.saved_localnet = -1;
	assert_non_null(at->arena);
	assert_non_null(at->rules.standing);
	*state = at;
	return 0;
}

static int end(void **state)
{
	struct case_of *at = *state;

	standing_free(at->rules.standing);
	arena_free(at->arena);
	free(at);
	return 0;
}

static void script(const struct step *steps, size_t count)
{
	memset(&world, 0, sizeof(world));
	world.steps = steps;
	world.count = count;
	world.generation = COMMIT_GENERATION;
	world.saved_localnet = -1;
}

#define SCRIPT(...)                                \
	script((const struct step[]){__VA_ARGS__}, \
	       sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step))

static const struct ruleset something;

static int sync_whole(struct case_of *at)
{
	return rules_sync_whole(&at->rules, at->arena, &something, &at->outcome, &at->error);
}

static int sync_part(struct case_of *at)
{
	return rules_sync_part(&at->rules, at->arena, &something, &at->outcome, &at->error);
}

static void test_rules_that_are_true_are_known_and_nothing_is_sent(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.empty = true});
	assert_false(rules_are_known(&at->rules));
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.commits, 0);
	assert_false(at->outcome.committed);
	assert_int_equal(at->outcome.reads, 1);
	assert_int_equal(at->rules.generation, READ_GENERATION + 1);
	assert_true(rules_are_known(&at->rules));
}

static void test_rules_after_a_commit_are_remembered_as_of_its_generation(void **state)
{
	struct case_of *at = *state;

	SCRIPT({0});
	assert_int_equal(sync_whole(at), 0);
	assert_true(at->outcome.committed);
	assert_int_equal(at->rules.generation, COMMIT_GENERATION);
	assert_int_equal(standing_count(at->rules.standing), 1);
	/* And the next change is planned from that, without a read. */
	world.generation++;
	assert_int_equal(sync_part(at), 0);
	assert_int_equal(world.reads, 1);
	assert_int_equal(world.parts, 1);
	assert_int_equal(at->rules.generation, COMMIT_GENERATION + 1);
	assert_int_equal(at->outcome.verdicts.generation, COMMIT_GENERATION);
}

static void test_rules_of_a_part_that_fails_are_not_known_any_more(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.empty = true}, {.commit = -ERESTART});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(sync_part(at), -ERESTART);
	assert_int_equal(world.commits, 1);
	assert_false(at->outcome.committed);
	assert_false(rules_are_known(&at->rules));
}

static void test_rules_are_read_again_after_conflicts(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.commit = -ERESTART}, {.read = -EAGAIN}, {.commit = -EAGAIN}, {0});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.reads, 4);
	assert_int_equal(at->outcome.reads, 4);
	assert_int_equal(world.rebuilds, 0);
}

static void test_rules_with_no_end_of_conflicts_are_given_up(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.commit = -ERESTART});
	assert_int_equal(sync_whole(at), -ERESTART);
	assert_int_equal(world.commits, 8);
	assert_int_equal(at->error.class, ERROR_CONFLICT);
	assert_string_equal(at->error.message, "commit 8");
	assert_int_equal(at->rules.generation, 0);
}

static void test_rules_that_are_refused_are_replaced_whole_and_once(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.commit = -EBUSY}, {0});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.rebuilds, 1);
	SCRIPT({.commit = -EINVAL}, {.commit = -ERESTART}, {0});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.rebuilds, 2);
	SCRIPT({.commit = -EEXIST});
	assert_int_equal(sync_whole(at), -EEXIST);
	assert_int_equal(world.rebuilds, 1);
	assert_int_equal(world.commits, 2);
}

static void test_rules_that_cannot_be_read_or_changed_at_all_are_left_at_once(void **state)
{
	static const struct step cases[] = {
		{.read = -EPERM}, {.read = -ENOBUFS}, {.commit = -EPERM}, {.commit = -ENOMEM}};
	struct case_of *at = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		script(&cases[i], 1);
		assert_int_equal(sync_whole(at), cases[i].read ? cases[i].read : cases[i].commit);
		assert_int_equal(world.reads, 1);
		assert_int_equal(world.rebuilds, 0);
	}
}

static void test_rules_of_our_own_are_sent_without_asking(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.await = 1});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.awaits, 0);
	assert_false(at->outcome.held_up);
}

static void test_rules_that_are_shared_wait_for_others_and_nobody_waits_with_them(void **state)
{
	struct case_of *at = *state;

	at->rules.is_shared = true;
	SCRIPT({0});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.awaits, 1);
	assert_false(at->outcome.held_up);
	/* What was planned behind another's transaction is planned again. */
	SCRIPT({.await = 1}, {0});
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(world.reads, 2);
	assert_int_equal(world.commits, 1);
	assert_true(at->outcome.held_up);
	SCRIPT({.await = 1});
	assert_int_equal(sync_whole(at), -EAGAIN);
	assert_int_equal(world.commits, 0);
	assert_int_equal(at->error.class, ERROR_CONFLICT);
	assert_string_equal(at->error.message,
			    "somebody else's transactions in the namespace leave no room");
}

static void test_rules_that_nobody_needs_any_more_wait_for_nobody(void **state)
{
	struct case_of *at = *state;

	atomic_store(&at->rules.is_given_up, true);
	SCRIPT({0});
	assert_int_equal(sync_whole(at), 0);
	at->rules.is_shared = true;
	SCRIPT({.await = 1});
	assert_int_equal(sync_whole(at), -ECANCELED);
	assert_int_equal(world.reads, 1);
	assert_int_equal(world.awaits, 0);
	assert_int_equal(world.commits, 0);
	assert_int_equal(at->error.class, ERROR_FATAL);
}

static void test_rules_that_were_held_up_in_the_kernel_say_so(void **state)
{
	struct case_of *at = *state;

	SCRIPT({0});
	world.held_up = true;
	assert_int_equal(sync_whole(at), 0);
	assert_true(at->outcome.held_up);
}

/* The table's comment goes with the table; who has read it knows it still. */
static void test_rules_remember_what_route_localnet_was(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.empty = true});
	world.saved_localnet = 1;
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(at->rules.saved_localnet, 1);
	world.saved_localnet = -1;
	assert_int_equal(sync_whole(at), 0);
	assert_int_equal(at->rules.saved_localnet, 1);
}

static void test_rules_are_flushed_by_what_is_read(void **state)
{
	struct case_of *at = *state;

	SCRIPT({.commit = -ERESTART}, {.read = -EAGAIN}, {0});
	assert_int_equal(rules_flush(&at->rules, &at->error), 0);
	assert_int_equal(world.reads, 3);
	SCRIPT({.commit = -EBUSY});
	assert_int_equal(rules_flush(&at->rules, &at->error), -EBUSY);
	assert_int_equal(world.rebuilds, 0);
}

#define rules_test(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rules_test(test_rules_that_are_true_are_known_and_nothing_is_sent),
		rules_test(test_rules_after_a_commit_are_remembered_as_of_its_generation),
		rules_test(test_rules_of_a_part_that_fails_are_not_known_any_more),
		rules_test(test_rules_are_read_again_after_conflicts),
		rules_test(test_rules_with_no_end_of_conflicts_are_given_up),
		rules_test(test_rules_that_are_refused_are_replaced_whole_and_once),
		rules_test(test_rules_that_cannot_be_read_or_changed_at_all_are_left_at_once),
		rules_test(test_rules_of_our_own_are_sent_without_asking),
		rules_test(test_rules_that_are_shared_wait_for_others_and_nobody_waits_with_them),
		rules_test(test_rules_that_nobody_needs_any_more_wait_for_nobody),
		rules_test(test_rules_that_were_held_up_in_the_kernel_say_so),
		rules_test(test_rules_remember_what_route_localnet_was),
		rules_test(test_rules_are_flushed_by_what_is_read),
	};

	return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
