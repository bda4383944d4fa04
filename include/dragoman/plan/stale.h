/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_PLAN_STALE_H
#define DRAGOMAN_PLAN_STALE_H

/*
 * Which flows outlive the rules that led them: after a change, where those may
 * have gone; and then what to look for. Pure, like the plan; kernel/flows.h
 * does what comes out.
 *
 * Between the two some time may pass, and other changes: an endpoint that has
 * come back meanwhile, or that stays with weight 0, keeps its flows.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/memory.h"
#include "dragoman/model/flow.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/standing.h"
#include "dragoman/model/verdict.h"

/* Flows to a port, in one family, that led to an endpoint; or to others than the right ones. */
struct stale {
	struct listen listen;
	enum family family;
	bool others; /* there is no endpoint then */
	struct endpoint endpoint;
	uint64_t due; /* of the caller: when to look for it */
};

/*
 * Those that verdicts, once committed, leave behind: of UDP where an endpoint
 * is gone, or the first one came; of TCP, with `reset`, where an endpoint is
 * gone. *ret lives in the arena. Returns 0 or -ENOMEM.
 */
int stale_after(struct arena *arena, const struct verdicts *verdicts, bool reset,
		struct stale **ret, size_t *ret_count);

/* Sorts them, by port, and leaves each once, the latest. Returns how many are left. */
size_t stale_settle(struct stale *stale, size_t count);

/* All that lead anywhere, with `others`: for a flush of what was observed. */
int stale_of_all(struct arena *arena, const struct observed *observed, bool reset,
		 struct stale **ret, size_t *ret_count);

/*
 * What to look for: of those that are settled, the endpoints that do not stand
 * now and that `desired` does not drain (NULL: nothing is desired; it may be of
 * some ports only). With others: flows to anywhere but what stands or is
 * drained; TCP that was led nowhere is left alone then, since it reached what
 * listens on localhost itself. *ret lives in the arena, and borrows from stale.
 * Returns 0 or -ENOMEM.
 */
int stale_filters(struct arena *arena, const struct stale *stale, size_t count,
		  const struct standing *standing, const struct ruleset *desired,
		  struct flow_filter **ret, size_t *ret_count);

#endif
