/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"
#include "dragoman/base/log.h"

/*
 * Theory of operation
 *
 * Events mark; at the end of the wake-up each marked target is made true once,
 * however many there were.
 *
 *   dirty   something happened: a service changed (its backend is marked), or
 *           members, links, or somebody else's hand (all of it is)
 *   stale   it is time to look whether all is as it should be. Those wait until
 *           nothing is dirty.
 *
 * First come, first served; and after a slice of time the loop has its turn, so
 * that a thousand namespaces to look at are no reason to leave an event, or
 * somebody who asks for /healthz, waiting.
 *
 * A target that was never true waits for services which are being read for the
 * first time, so that a container's rules come in one piece. It does not wait
 * for one whose read failed: what stands of that stays.
 *
 * Somebody who changes our table again and again is answered a few times at
 * once, then at a bounded rate, so that two agents cannot keep each other, and
 * a processor, busy. The same goes for links and routes that come and go
 * without end.
 *
 * And what that costs us is counted as the namespace's debt, which it pays off
 * by waiting: whoever makes a repair take long, with a table that has become
 * large, gets fewer of them. So does whoever makes us wait: the ruleset of a
 * namespace has one lock, which is held for as long as a transaction takes, and
 * who may make one may make one that takes seconds. That is why nobody else ever
 * waits for it (see sync.c): a namespace in which somebody may is synced beside
 * the loop, a few at a time, and of those who made us wait before even fewer.
 *
 * What the kernel refuses is tried again after a pause that doubles.
 */

enum { REPAIRS_AT_ONCE = 20 };

#define MILLISECONDS UINT64_C(1000000)
static const uint64_t slice = 10 * MILLISECONDS;
static const uint64_t repair_pause = 10 * MILLISECONDS; /* between repairs, after those at once */
static const uint64_t calm = 1000 * MILLISECONDS;
static const uint64_t credit = 2000 * MILLISECONDS;     /* of debt that nobody has to wait for */
static const uint64_t held_up = 100 * MILLISECONDS;     /* by others' locks, or a busy machine */
static const uint64_t suspicion = 60000 * MILLISECONDS; /* of who was in our way */
enum { SHARE = 4 };                                     /* of our time: a quarter at most */
static const uint64_t pause_first = 20 * MILLISECONDS;
static const uint64_t pause_conflict = 200 * MILLISECONDS;
static const uint64_t pause_most = 10000 * MILLISECONDS;

/* --- Marking ---------------------------------------------------------------------- */

static void enqueue(struct target *target, uint64_t since)
{
	struct agent *agent = target->agent;

	/* The oldest of several events is the one that waits. */
	if (since && (!target->since || since < target->since))
		target->since = since;
	loop_source_trigger(agent->reconcile);
	if (target->is_dirty)
		return;
	target->is_dirty = true;
	TAILQ_INSERT_TAIL(&agent->dirty, target, of_dirty);
}

void reconciler_mark(struct target *target, uint64_t since)
{
	target->whole = true;
	enqueue(target, since);
}

void reconciler_mark_backend(struct backend *backend, uint64_t since)
{
	struct target *target = backend->target;

	if (!backend->dirty)
		target->dirty[target->dirty_count++] = backend;
	backend->dirty = true;
	enqueue(target, since);
}

void reconciler_mark_stale(struct target *target)
{
	struct agent *agent = target->agent;

	loop_source_trigger(agent->reconcile);
	if (target->is_stale)
		return;
	target->is_stale = true;
	TAILQ_INSERT_TAIL(&agent->stale, target, of_stale);
}

static void unmark_dirty(struct target *target)
{
	if (target->is_dirty)
		TAILQ_REMOVE(&target->agent->dirty, target, of_dirty);
	target->is_dirty = false;
}

static void unmark_stale(struct target *target)
{
	if (target->is_stale)
		TAILQ_REMOVE(&target->agent->stale, target, of_stale);
	target->is_stale = false;
}

void reconciler_forget(struct target *target)
{
	unmark_dirty(target);
	unmark_stale(target);
}

/* --- One target ------------------------------------------------------------------- */

/* What is left of its debt: it is paid off by time, whether or not anybody looks. */
static uint64_t owed(const struct target *target, uint64_t now)
{
	uint64_t paid = (now - target->charged) / SHARE;

	return paid < target->debt ? target->debt - paid : 0;
}

static void charge(struct target *target, uint64_t cost, uint64_t now)
{
	target->debt = owed(target, now) + cost;
	target->charged = now;
}

/* What a namespace wants is ours to pay, however long that takes; waiting for it is not. */
static void charge_sync(struct target *target, const struct sync *sync, uint64_t now)
{
	/* Who cannot have done it has waited behind a lock of the whole host's. */
	if (sync->drifted || sync->disturbed || sync->overtaken ||
	    (sync->outcome.held_up && target_is_able(target)))
		charge(target, sync->took, now);
	if (sync->outcome.held_up)
		target->suspect = now + suspicion;
}

/* Nanoseconds for which it has to wait; 0: none. */
static uint64_t repair_wait(struct target *target, uint64_t now)
{
	charge(target, 0, now);
	if (target->debt > credit)
		return (target->debt - credit) * SHARE;
	if (!target_is_meddled_with(target))
		return 0;
	/* Where every try fails, that is a fight, too. */
	if (target->pause && target->failed + target->pause > now)
		return target->failed + target->pause - now;
	if (now - target->repaired > calm)
		target->repairs_in_a_row = 0;
	if (target->repairs_in_a_row < REPAIRS_AT_ONCE || now - target->repaired >= repair_pause)
		return 0;
	return repair_pause - (now - target->repaired);
}

static void take_success(struct target *target, const struct sync *sync, uint64_t now)
{
	if (target->failure)
		log_info("%s: its rules are true again", target_label(target));
	free(target->failure);
	target->failure = NULL;
	target->pause = 0;
	if (!target->synced)
		sweeper_note_first(target);
	target->synced = true;
	if (sync->drifted || sync->disturbed || sync->overtaken) {
		target->repaired = now;
		target->repairs_in_a_row++;
	}
	/* During a large commit nobody listens: what others did meanwhile is not told. */
	target->overtaken = target->rules->generation == 0;
	if (target->overtaken)
		reconciler_mark(target, 0);
}

/* What was marked is so again, for the next try. */
static void take_failure(struct target *target, const struct error *error, uint64_t now)
{
	uint64_t most;

	if (!target->failure)
		log_error("%s: %s", target_label(target), error->message);
	free(target->failure);
	target->failure = strdup(error->message);
	metrics_error(target->agent, error);
	target->pause = target->pause ? target->pause * 2 : pause_first;
	/* Who is in our way now may not be so for long; what the kernel refuses may. */
	most = error->class == ERROR_CONFLICT ? pause_conflict : pause_most;
	if (target->pause > most)
		target->pause = most;
	target->failed = now;
	loop_source_arm(target->later, now + target->pause);
}

void reconciler_synced(struct target *target, const struct sync *sync)
{
	uint64_t now = loop_now(target->agent->loop);

	charge_sync(target, sync, now);
	if (sync->code == 0)
		take_success(target, sync, now);
	else if (sync->part)
		reconciler_mark(target, 0); /* what stands has to be read, is all that it says */
	else
		take_failure(target, &sync->error, now);
}

static void run_target(struct target *target)
{
	uint64_t now = loop_now(target->agent->loop);
	uint64_t wait = repair_wait(target, now);
	struct error error = {0};

	unmark_dirty(target);
	/* Each service that it waits for marks it. */
	if (!target->synced && target_is_pending(target)) {
		unmark_stale(target);
		return;
	}
	if (wait) {
		loop_source_arm(target->later, now + wait);
		return;
	}
	if (target->whole)
		unmark_stale(target);
	if (sync_begin(target, &error) < 0)
		take_failure(target, &error, now);
}

/* --- All of them ------------------------------------------------------------------ */

static void check_ready(struct agent *agent)
{
	struct target *target;

	if (agent->ready || (agent->containers && !agent->listed))
		return;
	/* Rules that wait for a registry which was never there are not true yet. */
	if (agent->subscription_count && !agent->live)
		return;
	LIST_FOREACH (target, &agent->targets, entry) {
		if (!target->synced)
			return;
	}
	agent->ready = true;
	if (agent->on_ready)
		agent->on_ready(agent->on_ready_user);
}

static bool is_indebted(const struct target *target)
{
	return target->debt && owed(target, loop_now(target->agent->loop)) > held_up;
}

/* It is not being synced, and nothing keeps it from being so. */
static bool can_begin(const struct target *target)
{
	unsigned most = is_indebted(target) ? SYNCS_SLOW_MAX : SYNCS_BESIDE_MAX;

	return !target->sync && (!target_is_shared(target) || target->agent->syncs_beside < most);
}

static struct target *next_dirty(const struct agent *agent)
{
	struct target *target, *indebted = NULL;

	TAILQ_FOREACH (target, &agent->dirty, of_dirty) {
		if (!can_begin(target))
			continue;
		if (!is_indebted(target))
			return target;
		if (!indebted)
			indebted = target;
	}
	return indebted;
}

static struct target *next_target(struct agent *agent)
{
	struct target *target = next_dirty(agent);

	if (target)
		return target;
	TAILQ_FOREACH (target, &agent->stale, of_stale) {
		if (!can_begin(target))
			continue;
		target->whole = true;
		unmark_stale(target);
		return target;
	}
	return NULL;
}

void reconciler_run(struct agent *agent)
{
	uint64_t until = loop_now(agent->loop) + slice;
	struct target *target;

	while ((target = next_target(agent))) {
		run_target(target);
		if (loop_now(agent->loop) < until)
			continue;
		loop_source_trigger(agent->reconcile);
		break;
	}
	check_ready(agent);
}
