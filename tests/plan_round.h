/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_PLAN_ROUND_H
#define DRAGOMAN_TESTS_PLAN_ROUND_H

/* One plan in a world of its own (plan_model.h), applied. What fails names its seed. */

#include <stdbool.h>

#include "dragoman/plan/plan.h"
#include "plan_model.h"

/* One round: a world, what is wanted in it, and the plan that leads there. */
struct round {
	unsigned long seed;
	struct random random;
	struct arena *arena;
	struct model *before, *after;
	struct ruleset desired;
	struct verdicts verdicts;
};

void round_begin(struct round *round, unsigned long seed);
void round_done(struct round *round);
void round_fail(const struct round *round, const char *what);

/* Plans, and applies to a copy. */
void round_make(struct round *round, unsigned flags);

/* What was reached becomes what the next plan starts from. */
void round_step(struct round *round);

/* Both of them, for another ruleset. */
void round_settle(struct round *round, struct ruleset desired);

/* Whether there is nothing to send or write. */
bool round_is_idle(const struct verdicts *verdicts);

/* Port 80/tcp with `slots` equal endpoints of IPv4, in an arena. */
struct ruleset round_service(struct arena *arena, enum balance balance, unsigned slots);

/* For qsort(): the order that a ruleset wants its shares in. */
int share_compare(const void *a, const void *b);

#endif
