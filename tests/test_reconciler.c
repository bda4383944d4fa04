/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Whose turn it is (agent/reconciler.c), among targets whose syncs are only
 * counted: what a target is asked, and what a sync does, is of the test's own,
 * which takes the place of the real ones when this program is linked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/agent/agent_private.h"

#define MILLISECONDS UINT64_C(1000000)

static struct {
	struct agent agent;
	struct target target;
	size_t begun;
	bool is_able;
} world;

int sync_begin(struct target *target, struct error *error)
{
	(void)target;
	(void)error;
	world.begun++;
	return 0;
}

bool target_is_able(const struct target *target)
{
	(void)target;
	return world.is_able;
}

bool target_is_shared(const struct target *target)
{
	(void)target;
	return true;
}

bool target_is_pending(const struct target *target)
{
	(void)target;
	return false;
}

bool target_is_meddled_with(const struct target *target)
{
	(void)target;
	return false;
}

const char *target_label(const struct target *target)
{
	(void)target;
	return "a target";
}

void metrics_error(struct agent *agent, const struct error *error)
{
	(void)agent;
	(void)error;
}

void sweeper_note_first(struct target *target)
{
	(void)target;
}

static void on_later(struct loop_source *source, void *user)
{
	(void)source;
	(void)user;
}

static int begin(void **state)
{
	struct agent *agent = &world.agent;

	(void)state;
	memset(&world, 0, sizeof(world));
	LIST_INIT(&agent->targets);
	TAILQ_INIT(&agent->dirty);
	TAILQ_INIT(&agent->stale);
	world.target.agent = agent;
	LIST_INSERT_HEAD(&agent->targets, &world.target, entry);
	if (loop_new(&agent->loop) < 0 ||
	    loop_add_deferred(agent->loop, "reconcile", on_later, NULL, &agent->reconcile) < 0 ||
	    loop_add_timer(agent->loop, "later", UINT64_MAX, on_later, NULL, &world.target.later) <
		    0)
		return -1;
	return 0;
}

static int end(void **state)
{
	(void)state;
	loop_source_free(world.target.later);
	loop_source_free(world.agent.reconcile);
	loop_free(world.agent.loop);
	return 0;
}

/* Marked, with that debt since that long ago, beside so many syncs. Whether it began. */
static bool begins(uint64_t debt, uint64_t ago, unsigned beside)
{
	world.target.debt = debt;
	world.target.charged = loop_now(world.agent.loop) - ago;
	world.agent.syncs_beside = beside;
	world.begun = 0;
	reconciler_mark(&world.target, 0);
	reconciler_run(&world.agent);
	return world.begun == 1;
}

static void test_reconciler_keeps_those_who_made_us_wait_to_a_few_syncs(void **state)
{
	(void)state;
	assert_true(begins(0, 0, SYNCS_SLOW_MAX));
	assert_false(begins(0, 0, SYNCS_BESIDE_MAX));
	assert_true(begins(500 * MILLISECONDS, 0, SYNCS_SLOW_MAX - 1));
	assert_false(begins(500 * MILLISECONDS, 0, SYNCS_SLOW_MAX));
}

static void test_reconciler_takes_a_debt_for_paid_when_time_has_paid_it(void **state)
{
	(void)state;
	/* Nobody looked at it meanwhile. */
	assert_true(begins(500 * MILLISECONDS, 4 * 500 * MILLISECONDS, SYNCS_SLOW_MAX));
}

/* One that cannot make transactions waited behind a lock of the host's: it owes nothing. */
static void test_reconciler_charges_for_waiting_who_can_have_done_it(void **state)
{
	const struct sync sync = {
		.outcome.held_up = true, .code = -1, .part = true, .took = 3000 * MILLISECONDS};

	(void)state;
	world.target.charged = loop_now(world.agent.loop);
	reconciler_synced(&world.target, &sync);
	assert_int_equal(world.target.debt, 0);
	assert_true(world.target.suspect > loop_now(world.agent.loop));
	world.is_able = true;
	reconciler_synced(&world.target, &sync);
	assert_true(world.target.debt > 2000 * MILLISECONDS);
}

#define reconciler_test(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		reconciler_test(test_reconciler_keeps_those_who_made_us_wait_to_a_few_syncs),
		reconciler_test(test_reconciler_takes_a_debt_for_paid_when_time_has_paid_it),
		reconciler_test(test_reconciler_charges_for_waiting_who_can_have_done_it),
	};

	return cmocka_run_group_tests_name("reconciler", tests, NULL, NULL);
}
