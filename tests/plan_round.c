/* SPDX-License-Identifier: MIT */
#include "plan_round.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

void round_fail(const struct round *round, const char *what)
{
	fail_msg("seed %lu: %s", round->seed, what);
}

/* Plans, and applies to a copy. */
void round_make(struct round *round, unsigned flags)
{
	assert_int_equal(plan_make(round->arena, &round->desired, &round->before->observed, flags,
				   &round->verdicts),
			 0);
	model_free(round->after);
	round->after = model_copy(round->before);
	if (!model_apply(round->after, &round->verdicts))
		round_fail(round, round->after->failure);
}

/* What was reached becomes what the next plan starts from. */
void round_step(struct round *round)
{
	model_free(round->before);
	round->before = TAKE(round->after);
	model_shuffle(round->before, &round->random);
}

void round_begin(struct round *round, unsigned long seed)
{
	*round = (struct round){.seed = seed, .random = {.state = seed}, .arena = arena_new()};
	assert_non_null(round->arena);
	round->before = model_new();
	round->before->observed.ipv6 = !random_once_in(&round->random, 4);
}

void round_done(struct round *round)
{
	model_free(round->before);
	model_free(round->after);
	arena_free(round->arena);
}

bool round_is_idle(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

int share_compare(const void *a, const void *b)
{
	const struct share *x = a, *y = b;

	return endpoint_compare(&x->endpoint, &y->endpoint);
}

/* A ruleset of one service with `slots` equal endpoints, in an arena. */
struct ruleset round_service(struct arena *arena, enum balance balance, unsigned slots)
{
	struct ruleset ruleset = {.balance = balance, .count = 1};
	struct share *shares = arena_array(arena, slots, sizeof(*shares));

	ruleset.services = arena_array(arena, 1, sizeof(*ruleset.services));
	assert_non_null(shares);
	assert_non_null(ruleset.services);
	for (unsigned i = 0; i < slots; i++)
		shares[i] = (struct share){model_endpoint(FAMILY_IPV4, i), 1};
	qsort(shares, slots, sizeof(*shares), share_compare);
	ruleset.services[0] = (struct ruleset_service){
		.listen = {PROTOCOL_TCP, 80},
		.shares = {shares},
		.share_count = {slots},
	};
	return ruleset;
}

void round_settle(struct round *round, struct ruleset desired)
{
	round->desired = desired;
	round_make(round, 0);
	round_step(round);
}
