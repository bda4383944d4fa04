/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/kernel/netns.h"

/*
 * Theory of operation
 *
 * A commit leaves ports behind whose flows may lead to where nothing is any
 * more. They are noted with their target, and looked at a moment later, behind
 * everything that is dirty: rules first.
 *
 *   noted      ports wait for the timer
 *   sweeping   a sweep is under way, a step a turn; ports that are noted
 *              meanwhile wait for the next
 *   resting    the sweep is done, and will be done again once, for the flow
 *              whose first packet was under way during the commit
 *
 * A step may cost the kernel a look through all of its flows. So a pause
 * follows that is longer, and no more than a share of the time goes into it:
 * what comes in from outside never waits for more than one.
 *
 * When a target was made true for the first time nobody knows what happened
 * before: all of its ports are looked at.
 */

enum { PAUSES = 9 }; /* a pause lasts so many times its step */

static const uint64_t rest = UINT64_C(200000000); /* nanoseconds between the two */
static const uint64_t failure_pause = UINT64_C(1000000000);
enum { FAILURES_MAX = 3 };

static void arm(struct agent *agent, uint64_t when)
{
	if (agent->sweep_due && agent->sweep_due <= when)
		return;
	agent->sweep_due = when;
	loop_source_arm(agent->sweep, when);
}

static void enqueue(struct target *target, uint64_t when)
{
	struct agent *agent = target->agent;

	target->sweep_when = when;
	if (!target->is_sweeping)
		TAILQ_INSERT_TAIL(&agent->sweeping, target, of_sweeping);
	target->is_sweeping = true;
	arm(agent, when);
}

static int note(struct target *target, const struct stale *stale, size_t count)
{
	if (count == 0)
		return 0;
	if (array_reserve(&target->stale, &target->stale_capacity, target->stale_count, count,
			  sizeof(*target->stale)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		target->stale[target->stale_count++] = stale[i];
	/* One that changes again and again while a sweep is under way is noted once. */
	target->stale_count = stale_settle(target->stale, target->stale_count);
	if (!target->flows)
		enqueue(target, loop_now(target->agent->loop));
	return 0;
}

static int note_all(struct target *target, struct arena *arena)
{
	bool reset = target->agent->options.reset_when_removed;
	struct stale *stale = arena_array(arena, FAMILY_COUNT * target->backend_count,
					  sizeof(*stale));
	size_t count = 0;

	if (!stale)
		return -ENOMEM;
	for (size_t i = 0; i < target->backend_count; i++) {
		const struct listen *listen = &target->backends[i].descriptor->listen;

		if (listen->protocol != PROTOCOL_UDP && !reset)
			continue;
		for (unsigned family = 0; family < FAMILY_COUNT; family++)
			stale[count++] = (struct stale){*listen, (enum family)family};
	}
	return note(target, stale, count);
}

void sweeper_note(struct target *target, struct arena *arena, const struct verdicts *verdicts)
{
	struct stale *stale;
	size_t count;
	int r = stale_after(arena, verdicts, target->agent->options.reset_when_removed, &stale,
			    &count);

	if (r == 0)
		r = note(target, stale, count);
	if (r < 0)
		log_error("%s: out of memory: flows of before may go on", target_label(target));
}

void sweeper_note_first(struct target *target)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	if (!arena || note_all(target, arena) < 0)
		log_error("%s: out of memory: flows of before may go on", target_label(target));
}

/* The services of the noted ports, as they are desired now. */
static int desire(struct target *target, struct arena *arena, struct ruleset *ret)
{
	*ret = (struct ruleset){
		.services = arena_array(arena, target->stale_count, sizeof(*ret->services))};
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < target->stale_count; i++) {
		const struct listen *listen = &target->stale[i].listen;
		const struct backend *backend = target_backend(target, listen);

		if (!backend || !backend->subscription->known ||
		    (i && listen_compare(&target->stale[i - 1].listen, listen) == 0))
			continue;
		if (backend_fill(arena, target->agent, backend, &ret->services[ret->count]) < 0)
			return -ENOMEM;
		ret->count++;
	}
	return 0;
}

static int open_sweep(struct target *target, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	struct flow_filter *filters;
	struct ruleset desired;
	int r;

	if (!arena || desire(target, arena, &desired) < 0 ||
	    stale_filters(arena, target->stale, target->stale_count, target->standing, &desired,
			  &filters) < 0)
		return error_no_memory(error);
	r = kernel_netns(target->kernel, &netns, error);
	if (r == 0)
		r = flows_open(&netns, filters, target->stale_count, &target->flows, error);
	if (r < 0)
		return r;
	target->stale_count = 0;
	target->swept = (struct flows_count){0};
	target->sweep_again = true;
	return 0;
}

static void count(struct target *target)
{
	const struct flows_count done = flows_counted(target->flows);
	struct metrics *metrics = &target->agent->metrics;
	size_t removed = done.removed - target->swept.removed;
	size_t closed = done.closed - target->swept.closed;

	target->swept = done;
	metrics->flows_removed += removed;
	metrics->sockets_closed += closed;
	if (removed || closed)
		log_debug("%s: %zu stale flows removed, %zu sockets closed", target_label(target),
			  removed, closed);
}

static void end_sweep(struct target *target)
{
	flows_close(TAKE(target->flows));
	target->sweep_failures = 0;
}

static void take_failure(struct target *target, const struct error *error)
{
	uint64_t now = loop_now(target->agent->loop);

	metrics_error(target->agent, error);
	flows_close(TAKE(target->flows));
	if (++target->sweep_failures <= FAILURES_MAX && error->class != ERROR_FATAL) {
		log_debug("%s: flows of before: %s; again later", target_label(target),
			  error->message);
		sweeper_note_first(target);
		enqueue(target, now + failure_pause);
		return;
	}
	log_warn("%s: flows of before may go on: %s", target_label(target), error->message);
	target->sweep_failures = 0;
	target->stale_count = 0;
}

/* A turn of one target. */
static void step(struct target *target)
{
	struct agent *agent = target->agent;
	uint64_t started = loop_now(agent->loop), took;
	struct error error = {0};
	int r;

	/* What stands is not known at this moment. */
	if (!target->flows && !target->generation) {
		enqueue(target, started + failure_pause);
		return;
	}
	r = target->flows ? 0 : open_sweep(target, &error);
	if (r == 0)
		r = flows_step(target->flows, &error);
	took = loop_now(agent->loop) - started;
	if (target->flows)
		count(target);
	if (r < 0) {
		take_failure(target, &error);
	} else if (r > 0) {
		enqueue(target, started + took);
	} else if (target->sweep_again) {
		target->sweep_again = false;
		flows_again(target->flows);
		enqueue(target, started + rest);
	} else {
		end_sweep(target);
		if (target->stale_count)
			enqueue(target, started);
	}
	agent->sweep_free = started + (1 + PAUSES) * took;
}

void sweeper_run(struct agent *agent)
{
	uint64_t now = loop_now(agent->loop), next = UINT64_MAX;
	struct target *target, *due = NULL;

	agent->sweep_due = 0;
	TAILQ_FOREACH (target, &agent->sweeping, of_sweeping) {
		if (target->sweep_when <= now) {
			due = target;
			break;
		}
	}
	if (due && agent->sweep_free <= now) {
		sweeper_forget(due);
		step(due);
	}
	TAILQ_FOREACH (target, &agent->sweeping, of_sweeping) {
		if (target->sweep_when < next)
			next = target->sweep_when;
	}
	agent->sweep_due = 0;
	if (next != UINT64_MAX)
		arm(agent, next < agent->sweep_free ? agent->sweep_free : next);
}

void sweeper_forget(struct target *target)
{
	if (target->is_sweeping)
		TAILQ_REMOVE(&target->agent->sweeping, target, of_sweeping);
	target->is_sweeping = false;
}
