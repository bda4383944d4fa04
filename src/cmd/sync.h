/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_SYNC_H
#define DRAGOMAN_CMD_SYNC_H

/*
 * Read, plan, commit; and again, a bounded number of times, where somebody
 * else was faster. What reconcile, plan and flush share.
 */

#include <stdbool.h>

#include "deadline.h"
#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/verdict.h"

enum { SYNC_TRIES = 128 };

struct sync {
	const struct netns *netns;
	const struct ruleset *desired; /* NULL: take every trace out */
	bool only_plan;
	bool only_add; /* what stands of other ports stays */
	const struct deadline *deadline;
};

/* The verdicts that were found or applied. Zero-initialise. */
struct sync_result {
	struct arena *arena;
	struct observed observed; /* what they were planned against, in the arena */
	struct verdicts verdicts; /* in the arena */
};

void sync_result_done(struct sync_result *result);

/*
 * Makes the namespace true, or says what that would take. Returns 0, or -errno
 * with error set, and then nothing was changed, but for what the message says.
 */
int sync_run(const struct sync *sync, struct sync_result *ret, struct error *error);

#endif
