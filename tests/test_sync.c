/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Read, plan, commit, and again: driven here against a kernel, a planner and a
 * clock of the test's own, which take the place of the real ones when this
 * program is linked. Each case is a script: for each try, what the plan holds
 * and what the kernel says to it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/sync.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/plan/plan.h"

/* One try of a script. */
struct step {
	int read;    /* what kernel_read() returns */
	bool empty;  /* the plan holds nothing to do */
	bool routes; /* the plan holds routes and no batch */
	int commit;  /* what kernel_commit() returns */
};

static struct {
	const struct step *steps;
	size_t count; /* the last one is repeated */
	size_t reads, commits, rebuilds, flushes, pauses;
	unsigned open;
	uint64_t left; /* of the deadline, in pauses */
} world;

static const struct step *now(void)
{
	size_t index = world.reads - 1;

	return &world.steps[index < world.count ? index : world.count - 1];
}

struct kernel {
	int nothing;
};

int kernel_open(const struct netns *netns, struct kernel **ret, struct error *error)
{
	(void)netns;
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return error_no_memory(error);
	world.open++;
	return 0;
}

void kernel_close(struct kernel *kernel)
{
	if (kernel)
		world.open--;
	free(kernel);
}

void kernel_closep(struct kernel **kernel)
{
	kernel_close(*kernel);
}

int kernel_read(struct kernel *kernel, struct arena *arena, struct observed *ret,
		struct error *error)
{
	(void)kernel;
	(void)arena;
	(void)ret;
	world.reads++;
	if (now()->read < 0)
		return error_set(error, now()->read, error_class_of(now()->read), "read %zu",
				 world.reads);
	return 0;
}

/* Each plan says, in its one change, at which read it was made. */
static int make_plan(struct arena *arena, struct verdicts *ret)
{
	*ret = (struct verdicts){.generation = (uint32_t)world.reads};
	if (now()->empty)
		return 0;
	ret->changes = arena_array(arena, 1, sizeof(*ret->changes));
	if (!ret->changes)
		return -ENOMEM;
	ret->change_count = 1;
	ret->route_count = now()->routes ? 1 : 0;
	ret->table_add = !now()->routes;
	return 0;
}

int plan_make(struct arena *arena, const struct ruleset *desired, const struct observed *observed,
	      unsigned flags, struct verdicts *ret)
{
	(void)desired;
	(void)observed;
	if (flags & PLAN_REBUILD)
		world.rebuilds++;
	return make_plan(arena, ret);
}

int plan_flush(struct arena *arena, const struct observed *observed, struct verdicts *ret)
{
	(void)observed;
	world.flushes++;
	return make_plan(arena, ret);
}

int kernel_commit(struct kernel *kernel, const struct verdicts *verdicts, struct error *error)
{
	(void)kernel;
	assert_int_equal(verdicts->generation, world.reads);
	world.commits++;
	if (now()->commit < 0)
		return error_set(error, now()->commit, error_class_of(now()->commit), "commit %zu",
				 world.commits);
	return 0;
}

struct deadline deadline_start(uint64_t timeout)
{
	return (struct deadline){.whole = timeout};
}

uint64_t deadline_left(const struct deadline *deadline)
{
	(void)deadline;
	return world.left;
}

void deadline_pause(const struct deadline *deadline, uint64_t most)
{
	(void)deadline;
	assert_in_range(most, 1, 20 * 1000 * 1000);
	world.pauses++;
	world.left--;
}

static const struct ruleset something;

static int run(const struct step *steps, size_t count, struct sync sync, struct sync_result *ret,
	       struct error *error)
{
	const struct netns netns = NETNS_NONE;
	const struct deadline deadline = {0};
	uint64_t left = world.left ? world.left : 1000;
	int code;

	memset(&world, 0, sizeof(world));
	world.steps = steps;
	world.count = count;
	world.left = left;
	sync.netns = &netns;
	sync.deadline = &deadline;
	*error = (struct error){0};
	*ret = (struct sync_result){0};
	code = sync_run(&sync, ret, error);
	assert_int_equal(world.open, 0);
	world.left = 0;
	return code;
}

#define RUN(sync_value, ret, error, ...)                                                           \
	run((const struct step[]){__VA_ARGS__},                                                    \
	    sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step), (sync_value), (ret), \
	    (error))

static const struct sync reconcile = {.desired = &something};

static void test_sync_with_nothing_to_do_commits_nothing(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.empty = true}), 0);
	assert_int_equal(world.commits, 0);
	assert_int_equal(result.verdicts.change_count, 0);
}

static void test_sync_with_a_difference_commits_once(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {0}), 0);
	assert_int_equal(world.reads, 1);
	assert_int_equal(world.commits, 1);
	assert_int_equal(result.verdicts.change_count, 1);
}

static void test_sync_only_planning_commits_nothing(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	const struct sync plan = {.desired = &something, .only_plan = true};
	struct error error;

	(void)state;
	assert_int_equal(RUN(plan, &result, &error, {0}), 0);
	assert_int_equal(world.commits, 0);
	assert_int_equal(result.verdicts.change_count, 1);
}

static void test_sync_without_a_desired_ruleset_flushes(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	const struct sync flush = {0};
	struct error error;

	(void)state;
	assert_int_equal(RUN(flush, &result, &error, {0}), 0);
	assert_int_equal(world.flushes, 1);
	assert_int_equal(world.commits, 1);
}

static void test_sync_after_conflicts_reads_and_plans_again(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -ERESTART}, {.read = -EAGAIN},
			     {.commit = 0}),
			 0);
	assert_int_equal(world.reads, 3);
	assert_int_equal(world.pauses, 2);
	assert_int_equal(result.verdicts.generation, 3);
	assert_int_equal(world.rebuilds, 0);
}

static void test_sync_with_no_end_of_conflicts_gives_up(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -ERESTART}), -EAGAIN);
	assert_int_equal(world.commits, SYNC_TRIES);
	assert_int_equal(error.class, ERROR_CONFLICT);
	assert_string_equal(error.message,
			    "conflict: the ruleset changed under us 128 times, gave up");
	assert_null(result.arena);
}

static void test_sync_at_the_deadline_gives_up(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	world.left = 3;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -ERESTART}), -EAGAIN);
	assert_int_equal(world.commits, 3);
	assert_string_equal(error.message,
			    "conflict: the ruleset changed under us 3 times, gave up "
			    "when the time of --timeout was over");
}

static void test_sync_with_a_lost_answer_that_was_done_tells_what_was_changed(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -EAGAIN}, {.read = -EAGAIN},
			     {.empty = true}),
			 0);
	assert_int_equal(world.commits, 1);
	assert_int_equal(result.verdicts.generation, 1);
	assert_int_equal(result.verdicts.change_count, 1);
}

static void test_sync_with_a_lost_answer_that_was_not_done_commits_again(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -EAGAIN}, {.commit = 0}), 0);
	assert_int_equal(world.commits, 2);
	assert_int_equal(result.verdicts.generation, 2);
}

static void test_sync_with_a_refused_batch_rebuilds_once(void **state)
{
	CLEANUP(sync_result_done) struct sync_result done;
	CLEANUP(sync_result_done) struct sync_result failed;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &done, &error, {.commit = -EBUSY}, {.commit = 0}), 0);
	assert_int_equal(world.rebuilds, 1);
	assert_int_equal(RUN(reconcile, &failed, &error, {.commit = -EBUSY}), -EBUSY);
	assert_int_equal(world.rebuilds, 1);
	assert_int_equal(world.commits, 2);
	assert_string_equal(error.message, "commit 2");
}

static void test_sync_rebuilding_into_a_conflict_stays_with_it(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -EEXIST}, {.commit = -ERESTART},
			     {.commit = 0}),
			 0);
	assert_int_equal(world.rebuilds, 2);
}

static void test_sync_rebuilding_what_became_true_meanwhile_does_nothing(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -ENOENT}, {.empty = true}), 0);
	assert_int_equal(world.rebuilds, 0);
	assert_int_equal(result.verdicts.change_count, 0);
}

static void test_sync_with_a_refused_route_does_not_rebuild(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	struct error error;

	(void)state;
	assert_int_equal(RUN(reconcile, &result, &error, {.commit = -EINVAL}, {.routes = true}),
			 -EINVAL);
	assert_int_equal(world.rebuilds, 0);
	assert_int_equal(world.commits, 1);
	assert_string_equal(error.message, "commit 1");
}

static void test_sync_with_another_failure_ends_at_once(void **state)
{
	static const struct step cases[] = {
		{.read = -EPERM}, {.read = -EINVAL}, {.commit = -EPERM}, {.commit = -ENOMEM}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(sync_result_done) struct sync_result result;
		struct error error;
		int wanted = cases[i].read ? cases[i].read : cases[i].commit;

		assert_int_equal(run(&cases[i], 1, reconcile, &result, &error), wanted);
		assert_int_equal(world.reads, 1);
		assert_int_equal(world.rebuilds, 0);
		assert_null(result.arena);
	}
}

static void test_sync_flushing_is_never_a_rebuild(void **state)
{
	CLEANUP(sync_result_done) struct sync_result result;
	const struct sync flush = {0};
	struct error error;

	(void)state;
	assert_int_equal(RUN(flush, &result, &error, {.commit = -EBUSY}), -EBUSY);
	assert_int_equal(world.commits, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sync_with_nothing_to_do_commits_nothing),
		cmocka_unit_test(test_sync_with_a_difference_commits_once),
		cmocka_unit_test(test_sync_only_planning_commits_nothing),
		cmocka_unit_test(test_sync_without_a_desired_ruleset_flushes),
		cmocka_unit_test(test_sync_after_conflicts_reads_and_plans_again),
		cmocka_unit_test(test_sync_with_no_end_of_conflicts_gives_up),
		cmocka_unit_test(test_sync_at_the_deadline_gives_up),
		cmocka_unit_test(test_sync_with_a_lost_answer_that_was_done_tells_what_was_changed),
		cmocka_unit_test(test_sync_with_a_lost_answer_that_was_not_done_commits_again),
		cmocka_unit_test(test_sync_with_a_refused_batch_rebuilds_once),
		cmocka_unit_test(test_sync_rebuilding_into_a_conflict_stays_with_it),
		cmocka_unit_test(test_sync_rebuilding_what_became_true_meanwhile_does_nothing),
		cmocka_unit_test(test_sync_with_a_refused_route_does_not_rebuild),
		cmocka_unit_test(test_sync_with_another_failure_ends_at_once),
		cmocka_unit_test(test_sync_flushing_is_never_a_rebuild),
	};

	return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
