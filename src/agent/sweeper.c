/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/base/work.h"
#include "dragoman/kernel/netns.h"

/*
 * Theory of operation
 *
 * A commit leaves endpoints behind to which flows may still lead. They are
 * noted with their target, and looked at when the rules are
 * true, one target at a time:
 *
 *   noted      they wait for their turn, those of UDP a little longer: an answer
 *              may be under way, and would be lost with its flow
 *   sweeping   a thread goes through the flows, since that may take the kernel
 *              milliseconds (kernel/flows.h), and a change of rules shall not
 *              wait for it; what is noted meanwhile waits for the next
 *   resting    the sweep is done, and will be done again once, for the flow
 *              whose first packet was under way during the commit
 *
 * A target may go while it is swept: then the thread comes to its end for
 * nobody, which is a matter of milliseconds.
 *
 * When a target was made true for the first time nobody knows what happened
 * before: all of its ports are looked at.
 */

static const uint64_t grace = UINT64_C(100000000); /* nanoseconds for an answer */
static const uint64_t rest = UINT64_C(200000000);  /* nanoseconds between the two */
static const uint64_t failure_pause = UINT64_C(1000000000);
enum { FAILURES_MAX = 3 };

/* The sweep that is under way; the thread's until it is done, but for the target. */
struct sweep_job {
	struct agent *agent;
	struct target *target; /* NULL: it has gone */
	struct flows *flows;
	struct work *work;
	int result;
	struct error error;
};

/* When it is its turn: next is when that can be. */
static void arm(struct agent *agent, uint64_t when)
{
	if (when < agent->sweep_due) {
		agent->sweep_due = when;
		loop_source_arm(agent->sweep, when);
	}
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

static bool is_swept(const struct target *target)
{
	return target->flows || (target->agent->job && target->agent->job->target == target);
}

/* When the first of what is noted may be looked at. */
static uint64_t earliest(const struct target *target)
{
	uint64_t when = UINT64_MAX;

	for (size_t i = 0; i < target->stale_count; i++) {
		if (target->stale[i].due < when)
			when = target->stale[i].due;
	}
	return when;
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
	/* One that comes and goes again and again is noted once. */
	target->stale_count = stale_settle(target->stale, target->stale_count);
	if (!is_swept(target))
		enqueue(target, earliest(target));
	return 0;
}

static int note_all(struct target *target, struct arena *arena)
{
	bool reset = target->agent->options.reset_when_removed;
	uint64_t now = loop_now(target->agent->loop);
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
			stale[count++] = (struct stale){.listen = *listen,
							.family = (enum family)family,
							.others = true,
							.due = now + grace};
	}
	return note(target, stale, count);
}

void sweeper_note(struct target *target, struct arena *arena, const struct verdicts *verdicts)
{
	uint64_t now = loop_now(target->agent->loop);
	struct stale *stale;
	size_t count;
	int r = stale_after(arena, verdicts, target->agent->options.reset_when_removed, &stale,
			    &count);

	for (size_t i = 0; r == 0 && i < count; i++)
		stale[i].due = now + (stale[i].listen.protocol == PROTOCOL_UDP ? grace : 0);
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

/* Those whose time has come go in front. Returns how many. */
static size_t take_due(struct target *target, uint64_t now, struct stale *due)
{
	size_t count = 0, left = 0;

	for (size_t i = 0; i < target->stale_count; i++) {
		if (target->stale[i].due <= now)
			due[count++] = target->stale[i];
		else
			target->stale[left++] = target->stale[i];
	}
	target->stale_count = left;
	return count;
}

/* The services of these ports, as they are desired now. */
static int desire(struct target *target, struct arena *arena, const struct stale *stale,
		  size_t count, struct ruleset *ret)
{
	*ret = (struct ruleset){.services = arena_array(arena, count, sizeof(*ret->services))};
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct listen *listen = &stale[i].listen;
		const struct backend *backend = target_backend(target, listen);

		if (!backend || !backend->subscription->known ||
		    (i && listen_compare(&stale[i - 1].listen, listen) == 0))
			continue;
		if (backend_fill(arena, target->agent, backend, &ret->services[ret->count]) < 0)
			return -ENOMEM;
		ret->count++;
	}
	return 0;
}

/* What is due, as filters; what is not stays noted. */
static int find_filters(struct target *target, struct arena *arena, struct flow_filter **ret,
			size_t *ret_count)
{
	struct stale *due = arena_array(arena, target->stale_count, sizeof(*due));
	struct ruleset desired;
	size_t count;

	if (!due)
		return -ENOMEM;
	count = take_due(target, loop_now(target->agent->loop), due);
	/* What is another one then may be a right one a moment later. */
	target->sweep_again = true;
	for (size_t i = 0; i < count; i++)
		target->sweep_again &= !due[i].others;
	if (desire(target, arena, due, count, &desired) < 0)
		return -ENOMEM;
	return stale_filters(arena, due, count, target->rules->standing, &desired, ret, ret_count);
}

static int open_sweep(struct target *target, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	struct flow_filter *filters;
	size_t count;
	int r;

	if (!arena || find_filters(target, arena, &filters, &count) < 0)
		return error_no_memory(error);
	r = kernel_netns(target->rules->kernel, &netns, error);
	if (r == 0)
		r = flows_open(&netns, filters, count, &target->flows, error);
	if (r == 0)
		target->swept = (struct flows_count){0};
	return r;
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

/* What is left of the ports that it was for is looked at again, with all others. */
static void take_failure(struct target *target, const struct error *error)
{
	metrics_error(target->agent, error);
	if (++target->sweep_failures <= FAILURES_MAX && error->class != ERROR_FATAL) {
		log_debug("%s: flows of before: %s; again later", target_label(target),
			  error->message);
		sweeper_note_first(target);
		enqueue(target, loop_now(target->agent->loop) + failure_pause);
		return;
	}
	log_warn("%s: flows of before may go on: %s", target_label(target), error->message);
	target->sweep_failures = 0;
	target->stale_count = 0;
}

static void take_success(struct target *target)
{
	uint64_t now = loop_now(target->agent->loop);

	target->sweep_failures = 0;
	if (target->sweep_again) {
		target->sweep_again = false;
		flows_again(target->flows);
		enqueue(target, now + rest);
		return;
	}
	closer_flows(target->agent, TAKE(target->flows));
	if (target->stale_count)
		enqueue(target, earliest(target));
}

static void on_done(void *user)
{
	struct sweep_job *job = user;
	struct agent *agent = job->agent;
	struct target *target = job->target;

	agent->job = NULL;
	if (target) {
		target->flows = TAKE(job->flows);
		count(target);
		if (job->result < 0)
			closer_flows(target->agent, TAKE(target->flows));
		if (job->result < 0)
			take_failure(target, &job->error);
		else
			take_success(target);
	}
	closer_flows(agent, job->flows);
	free(job);
	arm(agent, loop_now(agent->loop));
}

static void on_thread(void *user)
{
	struct sweep_job *job = user;

	job->result = flows_sweep(job->flows, &job->error);
}

static int start_job(struct target *target, struct error *error)
{
	struct agent *agent = target->agent;
	struct sweep_job *job;
	int r = target->flows ? 0 : open_sweep(target, error);

	if (r < 0)
		return r;
	job = calloc(1, sizeof(*job));
	if (!job)
		return error_no_memory(error);
	*job = (struct sweep_job){.agent = agent, .target = target, .flows = target->flows};
	r = work_start(agent->loop, "sweep", on_thread, on_done, job, &job->work);
	if (r < 0) {
		free(job);
		return error_set(error, r, error_class_of(r), "a thread for it: %s", strerror(-r));
	}
	target->flows = NULL;
	agent->job = job;
	return 0;
}

/* The turn of one target. */
static void begin(struct target *target)
{
	struct error error = {0};

	/* What stands is not known at this moment. */
	if (!target->flows && (target->sync || !target->rules->generation)) {
		enqueue(target, loop_now(target->agent->loop) + failure_pause);
		return;
	}
	if (start_job(target, &error) == 0)
		return;
	closer_flows(target->agent, TAKE(target->flows));
	take_failure(target, &error);
}

static struct target *find_due(struct agent *agent, uint64_t now, uint64_t *ret_next)
{
	struct target *target, *due = NULL;

	TAILQ_FOREACH (target, &agent->sweeping, of_sweeping) {
		if (target->sweep_when <= now && !due)
			due = target;
		else if (target->sweep_when < *ret_next)
			*ret_next = target->sweep_when;
	}
	return due;
}

void sweeper_run(struct agent *agent)
{
	uint64_t next = UINT64_MAX;
	struct target *due;

	agent->sweep_due = UINT64_MAX;
	/* The end of a job looks for the next. */
	if (agent->job)
		return;
	due = find_due(agent, loop_now(agent->loop), &next);
	if (due) {
		TAILQ_REMOVE(&agent->sweeping, due, of_sweeping);
		due->is_sweeping = false;
		begin(due);
	}
	if (!agent->job)
		arm(agent, next);
}

void sweeper_forget(struct target *target)
{
	struct agent *agent = target->agent;

	if (target->is_sweeping)
		TAILQ_REMOVE(&agent->sweeping, target, of_sweeping);
	target->is_sweeping = false;
	if (agent->job && agent->job->target == target)
		agent->job->target = NULL;
	closer_flows(target->agent, TAKE(target->flows));
	free(TAKE(target->stale));
	target->stale_count = target->stale_capacity = 0;
}

void sweeper_done(struct agent *agent)
{
	struct sweep_job *job = TAKE(agent->job);

	if (!job)
		return;
	work_join(job->work);
	flows_close(job->flows);
	free(job);
}
