/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_PLAN_STALE_H
#define DRAGOMAN_PLAN_STALE_H

/*
 * Which flows outlive the rules that led them: after a change, the ports whose
 * flows are to be looked at, and then which of these are right. Pure, like the
 * plan; kernel/flows.h does what comes out.
 *
 * What is right is told as a whole (the endpoints that stand now, and those of
 * weight 0, whose flows may go on), not change by change: so it does not matter
 * what happened between the change and the look.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/memory.h"
#include "dragoman/model/flow.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/standing.h"
#include "dragoman/model/verdict.h"

/* A port in one family. */
struct stale {
	struct listen listen;
	enum family family;
};

/*
 * Those that verdicts, once committed, leave behind: of UDP where an endpoint
 * is gone, or the first one came; of TCP, with `reset`, where an endpoint is
 * gone. *ret lives in the arena, and is settled. Returns 0 or -ENOMEM.
 */
int stale_after(struct arena *arena, const struct verdicts *verdicts, bool reset,
		struct stale **ret, size_t *ret_count);

/* Sorts them, by port, and leaves each once. Returns how many are left. */
size_t stale_settle(struct stale *stale, size_t count);

/* All that lead anywhere: for a flush of what was observed, or where nobody knows. */
int stale_of_all(struct arena *arena, const struct observed *observed, bool reset,
		 struct stale **ret, size_t *ret_count);

/*
 * What to look for there, one filter each, in the arena: flows to anywhere but
 * what stands, and the endpoints that `desired` drains (NULL: nothing is
 * desired; it may be of some ports only). TCP that was led nowhere is left
 * alone: it reached what listens on localhost itself. Returns 0 or -ENOMEM.
 */
int stale_filters(struct arena *arena, const struct stale *stale, size_t count,
		  const struct standing *standing, const struct ruleset *desired,
		  struct flow_filter **ret);

#endif
