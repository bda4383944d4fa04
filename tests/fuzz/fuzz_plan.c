/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is where the random numbers of tests/plan_model.h come from: what
 * is wanted, what stands, and what somebody damaged. Whatever that was, the
 * plan can be applied to a kernel as strict as the real one, comes to what is
 * wanted, and planning again gives nothing; what is taken away leaves nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../plan_model.h"
#include "dragoman/plan/plan.h"

enum { STEPS_MAX = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "%s\n", what);
	abort();
}

static bool is_idle(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

/* What stands after a plan; the model that it was planned for lives on. */
static struct model *applied(struct arena *arena, const struct ruleset *desired,
			     const struct model *before, unsigned flags, struct verdicts *verdicts)
{
	struct model *after = model_copy(before);

	require(plan_make(arena, desired, &before->observed, flags, verdicts) == 0, "no memory");
	require(model_apply(after, verdicts), after->failure);
	return after;
}

static void step(struct arena *arena, struct model **model, struct random *random)
{
	struct ruleset desired = model_random_ruleset(arena, random);
	unsigned flags = random_once_in(random, 6) ? PLAN_REBUILD : 0;
	struct model *after, *again;
	struct verdicts verdicts;
	const char *wrong;

	if (random_once_in(random, 3))
		model_damage(*model, random);
	model_shuffle(*model, random);
	after = applied(arena, &desired, *model, flags, &verdicts);
	wrong = model_differs(&desired, *model, after);
	require(!wrong, wrong);
	again = applied(arena, &desired, after, 0, &verdicts);
	require(is_idle(&verdicts), "planning again gives something");
	model_free(again);
	model_free(*model);
	*model = after;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct random random = {.bytes = data, .left = size};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(model_freep) struct model *model = model_new();
	struct verdicts verdicts;

	require(arena, "no memory");
	model->observed.ipv6 = !random_once_in(&random, 4);
	for (unsigned i = 0; i < STEPS_MAX && random.left; i++)
		step(arena, &model, &random);
	require(plan_flush(arena, &model->observed, &verdicts) == 0, "no memory");
	require(model_apply(model, &verdicts), model->failure);
	require(!model->observed.table, "a flush leaves the table");
	return 0;
}
