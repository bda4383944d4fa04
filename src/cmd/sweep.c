/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: what stood and what was committed tell the ports to look
 * at, and the endpoints to which flows there may lead (plan/stale.h). Twice,
 * since a flow whose first packet was under way comes into conntrack a moment
 * later.
 */
#include "sweep.h"

#include <errno.h>

#include "dragoman/base/log.h"
#include "dragoman/kernel/flows.h"
#include "dragoman/model/standing.h"
#include "dragoman/plan/stale.h"

static int find_filters(struct arena *arena, const struct sync_result *result,
			const struct ruleset *desired, bool reset, struct flow_filter **ret,
			size_t *ret_count)
{
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	struct stale *stale;
	int r;

	if (!standing || standing_take(standing, &result->observed) < 0 ||
	    standing_apply(standing, &result->verdicts) < 0)
		return -ENOMEM;
	r = desired ? stale_after(arena, &result->verdicts, reset, &stale, ret_count)
		    : stale_of_all(arena, &result->observed, reset, &stale, ret_count);
	if (r < 0)
		return r;
	return stale_filters(arena, stale, *ret_count, standing, desired, ret, ret_count);
}

int sweep_run(const struct netns *netns, const struct sync_result *result,
	      const struct ruleset *desired, bool reset, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(flows_closep) struct flows *flows = NULL;
	struct flow_filter *filters;
	struct flows_count done;
	size_t count;
	int r;

	if (!arena || find_filters(arena, result, desired, reset, &filters, &count) < 0)
		return error_no_memory(error);
	if (count == 0)
		return 0;
	r = flows_open(netns, filters, count, &flows, error);
	if (r == 0)
		r = flows_sweep(flows, error);
	if (r < 0)
		return r;
	flows_again(flows);
	r = flows_sweep(flows, error);
	done = flows_counted(flows);
	log_debug("%zu stale flows removed, %zu sockets closed", done.removed, done.closed);
	return r;
}
