/* SPDX-License-Identifier: MIT */
#include "dragoman/agent/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent_private.h"
#include "dragoman/base/log.h"

/*
 * Theory of operation: three sources (registry, containers, kernels) mark
 * targets as dirty; the deferred source runs the reconciler at the end of the
 * wake-up. A timer looks at everything anew at the resync interval: events can
 * be lost in ways that nobody sees, and then this is what mends it.
 */

static void on_update(const struct registry_update *update, void *user)
{
	subscriptions_update(user, update);
}

/* For who asks for the status; without memory for it there is none to show. */
static void keep_failure(char **failure, const struct error *error)
{
	free(*failure);
	*failure = error ? strdup(error->message) : NULL;
}

static void on_registry_state(enum registry_state state, const struct error *error, void *user)
{
	struct agent *agent = user;

	if (error)
		metrics_error(agent, error);
	switch (state) {
	case REGISTRY_CONNECTING:
		break;
	case REGISTRY_LIVE:
		log_info("registry %s: connected", registry_url(agent->registry));
		keep_failure(&agent->registry_failure, NULL);
		agent->live = UINT64_MAX;
		loop_source_trigger(agent->reconcile);
		break;
	case REGISTRY_LOST:
		log_warn("registry %s: %s: %s", registry_url(agent->registry),
			 agent->live ? "lost, what is known stays"
				     : "cannot be reached yet, trying again",
			 error ? error->message : "");
		keep_failure(&agent->registry_failure, error);
		if (agent->live == UINT64_MAX)
			agent->live = loop_now(agent->loop);
		break;
	}
}

static void on_registry_restored(const char *what, void *user)
{
	const struct agent *agent = user;

	log_warn("registry %s: it came back as another one, and all is read anew: %s",
		 registry_url(agent->registry), what);
}

bool agent_is_held(const struct agent *agent)
{
	return registry_watch_state(agent->watch) == REGISTRY_LOST && agent->live != UINT64_MAX &&
	       loop_now(agent->loop) - agent->live > agent->options.resync;
}

static void on_running(const struct container *container, void *user)
{
	member_running(user, container);
}

static void on_gone(const char *id, void *user)
{
	member_gone(user, id);
}

static void on_listed(void *user)
{
	struct agent *agent = user;

	agent->listed = true;
	loop_source_trigger(agent->reconcile);
}

static void on_container_state(enum container_state state, const struct error *error, void *user)
{
	struct agent *agent = user;

	if (error)
		metrics_error(agent, error);
	switch (state) {
	case CONTAINERS_CONNECTING:
		break;
	case CONTAINERS_LIVE:
		if (error) {
			log_warn("docker: %s", error->message);
			break;
		}
		log_info("docker: connected");
		agent->connected = true;
		keep_failure(&agent->containers_failure, NULL);
		break;
	case CONTAINERS_LOST:
		log_warn("docker: %s: %s",
			 agent->connected ? "lost, the rules stay"
					  : "cannot be reached yet, trying again",
			 error ? error->message : "");
		keep_failure(&agent->containers_failure, error);
		break;
	}
}

static void on_reconcile(struct loop_source *source, void *user)
{
	(void)source;
	reconciler_run(user);
}

static void on_sweep(struct loop_source *source, void *user)
{
	(void)source;
	sweeper_run(user);
}

void agent_arm_resync(struct agent *agent)
{
	if (agent->options.resync)
		loop_source_arm(agent->resync, loop_now(agent->loop) + agent->options.resync);
}

static void on_resync(struct loop_source *source, void *user)
{
	(void)source;
	agent_resync(user);
}

static void on_complain(struct loop_source *source, void *user)
{
	(void)source;
	documents_complain(user);
}

static int open_sources(struct agent *agent, struct error *error)
{
	static const struct registry_watch_functions functions = {
		.on_update = on_update,
		.on_state = on_registry_state,
		.on_restored = on_registry_restored,
	};
	int r = registry_open(agent->loop, &agent->options.registry, &agent->registry, error);

	if (r == 0)
		r = registry_watch_new(agent->registry, &functions, agent, &agent->watch, error);
	if (r < 0)
		return r;
	if (loop_add_deferred(agent->loop, "reconcile", on_reconcile, agent, &agent->reconcile) <
		    0 ||
	    loop_add_timer(agent->loop, "resync", UINT64_MAX, on_resync, agent, &agent->resync) <
		    0 ||
	    loop_add_timer(agent->loop, "sweep", UINT64_MAX, on_sweep, agent, &agent->sweep) < 0 ||
	    loop_add_timer(agent->loop, "documents", UINT64_MAX, on_complain, agent,
			   &agent->complain) < 0)
		return error_no_memory(error);
	return 0;
}

int agent_new(struct loop *loop, const struct agent_options *options, struct agent **ret,
	      struct error *error)
{
	CLEANUP(agent_freep) struct agent *agent = calloc(1, sizeof(*agent));
	int r;

	if (!agent)
		return error_no_memory(error);
	agent->loop = loop;
	agent->options = *options;
	LIST_INIT(&agent->targets);
	LIST_INIT(&agent->members);
	LIST_INIT(&agent->syncs);
	LIST_INIT(&agent->closings);
	TAILQ_INIT(&agent->dirty);
	TAILQ_INIT(&agent->stale);
	TAILQ_INIT(&agent->sweeping);
	TAILQ_INIT(&agent->untold);
	agent->sweep_due = UINT64_MAX;
	agent->started = agent->resynced = (uint64_t)time(NULL);
	r = open_sources(agent, error);
	if (r == 0)
		*ret = TAKE(agent);
	return r;
}

void agent_free(struct agent *agent)
{
	if (!agent)
		return;
	agent->is_ending = true;
	containers_free(agent->containers);
	members_free(agent);
	syncs_done(agent);
	closer_done(agent);
	sweeper_done(agent);
	subscriptions_free(agent);
	registry_watch_free(agent->watch);
	registry_free(agent->registry);
	loop_source_free(agent->reconcile);
	loop_source_free(agent->resync);
	loop_source_free(agent->sweep);
	loop_source_free(agent->complain);
	free(agent->registry_failure);
	free(agent->containers_failure);
	free(agent);
}

void agent_freep(struct agent **agent)
{
	agent_free(*agent);
	*agent = NULL;
}

int agent_add_target(struct agent *agent, const char *netns, pid_t pid, agent_source *source,
		     void *user, struct error *error)
{
	return member_by_hand(agent, netns, pid, source, user, error);
}

int agent_start(struct agent *agent, struct error *error)
{
	static const struct container_functions functions = {
		.on_running = on_running,
		.on_gone = on_gone,
		.on_listed = on_listed,
		.on_state = on_container_state,
	};

	agent_arm_resync(agent);
	loop_source_trigger(agent->reconcile);
	if (!agent->options.docker)
		return 0;
	return containers_new(agent->loop, agent->options.docker, &functions, agent,
			      &agent->containers, error);
}

void agent_resync(struct agent *agent)
{
	struct target *target;

	agent->resynced = (uint64_t)time(NULL);
	/* First, what is wanted: a service that is new is read once then. */
	LIST_FOREACH (target, &agent->targets, entry) {
		target_resync(target);
	}
	subscriptions_resync(agent);
	registry_watch_resync(agent->watch);
	if (agent->containers)
		containers_resync(agent->containers);
	agent_arm_resync(agent);
}

int agent_flush(struct agent *agent, struct error *error)
{
	struct target *target;
	struct error further;
	int first = 0;

	LIST_FOREACH (target, &agent->targets, entry) {
		int r = sync_flush(target, first ? &further : error);

		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

bool agent_is_ready(const struct agent *agent)
{
	return agent->ready;
}

void agent_on_ready(struct agent *agent, void (*function)(void *user), void *user)
{
	agent->on_ready = function;
	agent->on_ready_user = user;
}
