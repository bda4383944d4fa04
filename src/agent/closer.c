/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "agent_private.h"
#include "dragoman/base/work.h"

/*
 * To close a socket of nfnetlink is to wait: for a transaction that is under way
 * in its namespace (see kernel/contention.c), and for the kernel to have freed
 * what earlier ones removed, anybody's. So it is done beside the loop; only an
 * agent that ends has nobody left to keep waiting.
 */

struct closing {
	struct agent *agent;
	void (*function)(void *what);
	void *what;
	struct work *work;
	LIST_ENTRY(closing) of_agent;
};

static void run(void *user)
{
	const struct closing *closing = user;

	closing->function(closing->what);
}

static void on_done(void *user)
{
	struct closing *closing = user;

	LIST_REMOVE(closing, of_agent);
	free(closing);
}

static void close_beside(struct agent *agent, void (*function)(void *what), void *what)
{
	struct closing *closing = agent->is_ending ? NULL : malloc(sizeof(*closing));

	if (closing) {
		*closing = (struct closing){.agent = agent, .function = function, .what = what};
		if (work_start(agent->loop, "close", run, on_done, closing, &closing->work) == 0) {
			LIST_INSERT_HEAD(&agent->closings, closing, of_agent);
			return;
		}
	}
	free(closing);
	function(what);
}

static void close_rules(void *what)
{
	rules_close(what);
}

static void close_flows(void *what)
{
	flows_close(what);
}

void closer_rules(struct agent *agent, struct rules *rules)
{
	if (!rules)
		return;
	kernel_monitor_mute(rules->monitor);
	close_beside(agent, close_rules, rules);
}

void closer_flows(struct agent *agent, struct flows *flows)
{
	if (flows)
		close_beside(agent, close_flows, flows);
}

void closer_done(struct agent *agent)
{
	struct closing *closing;

	while ((closing = LIST_FIRST(&agent->closings))) {
		work_join(closing->work);
		on_done(closing);
	}
}
