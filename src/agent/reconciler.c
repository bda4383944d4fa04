/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/plan/plan.h"

/*
 * Theory of operation
 *
 * At the end of a wake-up each dirty target is read, planned and committed
 * once. A commit that comes too late (the ruleset changed since it was read)
 * is tried again at once a few times, then after a pause that doubles; a
 * refusal by the kernel has the whole table replaced, once, before it is an
 * error that is tried again later.
 *
 * A service that was never read yet is waited for, so that a container's rules
 * come in one piece; one whose read failed is not: what stands of it stays.
 *
 * Somebody who changes our table again and again is answered a few times at
 * once, then at a bounded rate, so that two agents cannot keep each other, and
 * a processor, busy.
 */

enum {
	TRIES = 8,
	REPAIRS_AT_ONCE = 20,
};

static const uint64_t repair_pause = 10 * 1000 * 1000; /* nanoseconds between repairs after that */
static const uint64_t calm = 1000 * 1000 * 1000;
static const uint64_t pause_first = 20 * 1000 * 1000;
static const uint64_t pause_most = 10ULL * 1000 * 1000 * 1000;

int backend_select(struct arena *arena, const struct agent *agent, const struct backend *backend,
		   struct selection *ret)
{
	const struct descriptor *descriptor = backend->descriptor;

	return service_select(arena, backend->subscription->service, &descriptor->tags,
			      descriptor->listen.protocol, agent->options.admission, ret);
}

static int fill_service(struct arena *arena, const struct agent *agent, struct backend *backend,
			struct ruleset_service *ret)
{
	struct selection selection;

	ret->listen = backend->descriptor->listen;
	ret->mode = RULESET_KEEP;
	if (!backend->subscription->known)
		return 0;
	if (backend_select(arena, agent, backend, &selection) < 0 ||
	    ruleset_service_fill(arena, &selection, ret) < 0)
		return -ENOMEM;
	ret->mode = selection.endpoint_count == 0 && agent->options.hold_when_empty ? RULESET_HOLD
										    : RULESET_SET;
	if (selection.endpoint_count == 0 && backend->endpoint_count)
		log_warn("%s: %s: no endpoint is left", backend->descriptor->variable,
			 service_key(backend->subscription->service));
	backend->endpoint_count = selection.endpoint_count;
	return 0;
}

static int compare_services(const void *a, const void *b)
{
	const struct ruleset_service *x = a, *y = b;

	return listen_compare(&x->listen, &y->listen);
}

static int make_desired(struct arena *arena, struct target *target, struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = target->agent->options.balance,
				.count = target->backend_count};
	ret->services = arena_array(arena, target->backend_count, sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < target->backend_count; i++) {
		if (fill_service(arena, target->agent, &target->backends[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	if (ret->count)
		qsort(ret->services, ret->count, sizeof(*ret->services), compare_services);
	return 0;
}

static bool is_empty(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

static const char *target_name(const struct target *target)
{
	const struct member *member = TAILQ_FIRST(&target->members);

	return member ? member->name : "?";
}

static void log_changes(const struct target *target, const struct verdicts *verdicts)
{
	char listen[ENDPOINT_TEXT_MAX], endpoint[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < verdicts->change_count; i++) {
		const struct change *change = &verdicts->changes[i];

		if (change->is_object) {
			log_debug("%s: %s %s", target_name(target), verdict_name(change->verdict),
				  change->object);
			continue;
		}
		listen_format(&change->listen, (enum family)change->family, listen);
		log_info("%s: %s %s %s", target_name(target), verdict_name(change->verdict), listen,
			 change->has_endpoint ? endpoint_format(&change->endpoint, endpoint)
					      : "unavailable");
	}
}

/*
 * Reads what stands. What route_localnet was before us goes with the table when
 * somebody takes that away; we, who have seen it, know better than the sysctl.
 */
static int read_target(struct target *target, struct arena *arena, struct observed *ret,
		       struct error *error)
{
	int r = kernel_read(target->kernel, arena, ret, error);

	target->agent->metrics.reads++;
	if (r < 0)
		return r;
	if (ret->saved_localnet < 0)
		ret->saved_localnet = target->saved_localnet;
	target->saved_localnet = ret->saved_localnet;
	return 0;
}

/* Reads, plans and commits once. */
static int try_once(struct target *target, const struct ruleset *desired, struct arena *arena,
		    unsigned flags, struct error *error)
{
	struct agent *agent = target->agent;
	struct observed observed;
	struct verdicts verdicts;
	int r = read_target(target, arena, &observed, error);

	if (r < 0)
		return r;
	if (plan_make(arena, desired, &observed, flags, &verdicts) < 0)
		return error_no_memory(error);
	if (is_empty(&verdicts))
		return 0;
	r = kernel_monitor_commit(target->monitor, target->kernel, &verdicts, error);
	if (r < 0)
		return r;
	if (verdicts.table_add)
		target->saved_localnet = verdicts.saved_localnet;
	target->overtaken = kernel_generation(target->kernel) == 0;
	if (target->drifted) {
		agent->metrics.repairs++;
		log_warn("%s: somebody changed the table inet dragoman; put right",
			 target_name(target));
	}
	metrics_commit(agent, &verdicts, target->since);
	log_changes(target, &verdicts);
	return 0;
}

static int sync_target(struct target *target, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct ruleset desired;
	unsigned flags = 0;
	int r = -EAGAIN;

	if (!arena || make_desired(arena, target, &desired) < 0)
		return error_no_memory(error);
	for (unsigned tries = 0; tries < TRIES; tries++) {
		r = try_once(target, &desired, arena, flags, error);
		if (r == 0 || error->class == ERROR_FATAL)
			return r;
		if (r == -ERESTART || r == -EAGAIN)
			continue;
		if (flags)
			return r;
		flags = PLAN_REBUILD;
	}
	return r;
}

/* Nanoseconds for which a repair has to wait; 0: none. */
static uint64_t repair_wait(struct target *target, uint64_t now)
{
	if (!target->drifted)
		return 0;
	if (now - target->repaired > calm)
		target->repairs_in_a_row = 0;
	if (target->repairs_in_a_row < REPAIRS_AT_ONCE || now - target->repaired >= repair_pause)
		return 0;
	return repair_pause - (now - target->repaired);
}

static void take_success(struct target *target, uint64_t now)
{
	if (target->failure)
		log_info("%s: its rules are true again", target_name(target));
	free(target->failure);
	target->failure = NULL;
	target->pause = 0;
	target->synced = true;
	if (target->drifted) {
		target->repaired = now;
		target->repairs_in_a_row++;
	}
	target->drifted = false;
	target->since = 0;
	/* During a large commit nobody listens: what others did meanwhile is not told. */
	if (target->overtaken) {
		target->overtaken = false;
		target->drifted = true;
		target_mark(target, 0);
	}
}

static void take_failure(struct target *target, const struct error *error, uint64_t now)
{
	if (!target->failure)
		log_error("%s: %s", target_name(target), error->message);
	free(target->failure);
	target->failure = strdup(error->message);
	metrics_error(target->agent, error);
	target->pause = target->pause ? target->pause * 2 : pause_first;
	if (target->pause > pause_most)
		target->pause = pause_most;
	loop_source_arm(target->later, now + target->pause);
}

static void run_target(struct target *target)
{
	uint64_t now = loop_now(target->agent->loop);
	uint64_t wait = repair_wait(target, now);
	struct error error = {0};

	if (wait) {
		loop_source_arm(target->later, now + wait);
		return;
	}
	target->dirty = false;
	if (sync_target(target, &error) == 0)
		take_success(target, loop_now(target->agent->loop));
	else
		take_failure(target, &error, now);
}

static void check_ready(struct agent *agent)
{
	struct target *target;

	if (agent->ready || (agent->containers && !agent->listed))
		return;
	LIST_FOREACH(target, &agent->targets, entry)
	{
		if (!target->synced)
			return;
	}
	agent->ready = true;
	if (agent->on_ready)
		agent->on_ready(agent->on_ready_user);
}

void reconciler_run(struct agent *agent)
{
	struct target *target;

	LIST_FOREACH(target, &agent->targets, entry)
	{
		if (target->dirty && (target->synced || !target_is_pending(target)))
			run_target(target);
	}
	check_ready(agent);
}

int reconciler_flush(struct target *target, struct error *error)
{
	int r = -EAGAIN;

	for (unsigned tries = 0; tries < TRIES && (r == -EAGAIN || r == -ERESTART); tries++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct observed observed;
		struct verdicts verdicts;

		if (!arena)
			return error_no_memory(error);
		r = read_target(target, arena, &observed, error);
		if (r < 0)
			continue;
		if (plan_flush(arena, &observed, &verdicts) < 0)
			return error_no_memory(error);
		if (!is_empty(&verdicts))
			r = kernel_commit(target->kernel, &verdicts, error);
	}
	return r;
}
