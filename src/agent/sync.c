/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/base/work.h"
#include "rules.h"

/*
 * Theory of operation
 *
 * A sync is one go at making a target true (rules.h): what is desired is
 * written down when it begins, and what came of it is told when it is done. In
 * between it has the target's rules to itself, and looks at nothing else of the
 * agent, so that it can go on beside the loop:
 *
 *   here     the usual way. Somewhat quicker, by what it takes to wake up a
 *            thread, and to be woken up by it.
 *   beside   where the kernel may keep us waiting (kernel_await_others()). A
 *            ruleset has one lock, held for as long as a transaction takes, and
 *            who has CAP_NET_ADMIN in a namespace can make one that takes
 *            seconds. Or where there is much to be read and planned. Others'
 *            changes go on meanwhile.
 *
 * What happens to the target while it is synced waits: marks stay marks, and
 * what the monitor tells is kept until it is known which generation it has to
 * be held against. A target that goes leaves its rules to the sync, and they are
 * closed as soon as the kernel lets go of it (closer.c).
 */

/* Of one commit; the others are told at debug level. */
enum { CHANGES_TOLD = 50 };

/* Elements that are worth a thread to read, plan or write them. */
enum { LARGE = 2000 };

/* Bytes of a whole sync that are given back to the system: the next one is far away. */
enum { TRIMMED = 1 << 20 };

/* Repairs in between are counted, and told at debug level: a fight makes a hundred a second. */
static const uint64_t repair_pause = UINT64_C(60000000000);

/* --- Telling ---------------------------------------------------------------------- */

/* Whether a repair of this namespace was told a while ago, or never. */
static bool repair_is_news(const struct target *target)
{
	return !target->told || loop_now(target->agent->loop) - target->told >= repair_pause;
}

static void log_changes(const struct target *target, const struct verdicts *verdicts, bool repair)
{
	bool quiet = repair && !repair_is_news(target);
	char listen[ENDPOINT_TEXT_MAX], endpoint[ENDPOINT_TEXT_MAX];
	size_t told = 0;

	for (size_t i = 0; i < verdicts->change_count; i++) {
		const struct change *change = &verdicts->changes[i];
		enum log_level level;

		if (change->is_object) {
			log_debug("%s: %s %s", target_label(target), verdict_name(change->verdict),
				  change->object);
			continue;
		}
		level = told++ < CHANGES_TOLD && !quiet ? LOG_INFO : LOG_DEBUG;
		if (!log_enabled(level))
			continue;
		listen_format(&change->listen, (enum family)change->family, listen);
		log_line(level, "%s: %s %s %s", target_label(target), verdict_name(change->verdict),
			 listen,
			 change->has_endpoint ? endpoint_format(&change->endpoint, endpoint)
					      : "unavailable");
	}
	if (told > CHANGES_TOLD && !quiet)
		log_info("%s: and %zu more changes", target_label(target), told - CHANGES_TOLD);
}

static void tell_repair(struct target *target)
{
	const char *what = "somebody changed the table inet dragoman; put right";

	target->agent->metrics.repairs++;
	target->untold++;
	if (!repair_is_news(target)) {
		log_debug("%s: %s", target_label(target), what);
		return;
	}
	if (target->untold == 1)
		log_warn("%s: %s", target_label(target), what);
	else
		log_warn("%s: %s (%u times since it was last said)", target_label(target), what,
			 target->untold);
	target->told = loop_now(target->agent->loop);
	target->untold = 0;
}

static void tell(struct target *target, const struct sync *sync)
{
	const struct verdicts *verdicts = &sync->outcome.verdicts;
	bool repair = sync->drifted || sync->overtaken;

	target->agent->metrics.reads += sync->outcome.reads;
	if (!sync->outcome.committed)
		return;
	metrics_commit(target->agent, verdicts, sync->since);
	log_changes(target, verdicts, repair);
	recent_changes(target->agent, target_label(target), verdicts);
	sweeper_note(target, sync->arena, verdicts);
	if (repair)
		tell_repair(target);
}

/* --- One sync --------------------------------------------------------------------- */

static void sync_free(struct sync *sync)
{
	bool large;

	if (!sync)
		return;
	large = !sync->part && sync->arena && arena_size(sync->arena) >= TRIMMED;
	arena_free(sync->arena);
	free(sync);
	if (large)
		memory_trim();
}

static void sync_freep(struct sync **sync)
{
	sync_free(*sync);
}

/* What was marked so far is this sync's, and no mark any more. */
static void take_marks(struct target *target, struct sync *sync)
{
	sync->drifted = target->drifted;
	sync->disturbed = target->disturbed;
	sync->overtaken = target->overtaken;
	sync->since = target->since;
	target->drifted = target->disturbed = target->overtaken = target->whole = false;
	target->since = 0;
	for (size_t i = 0; i < target->dirty_count; i++)
		target->dirty[i]->dirty = false;
	target->dirty_count = 0;
}

/* It came to nothing: it is all to be done, and what came since as well. */
static void give_marks_back(struct target *target, const struct sync *sync)
{
	target->drifted |= sync->drifted;
	target->disturbed |= sync->disturbed;
	target->overtaken |= sync->overtaken;
	target->whole = true;
	if (sync->since && (!target->since || sync->since < target->since))
		target->since = sync->since;
}

/* On whatever thread. */
static void run(void *user)
{
	struct sync *sync = user;
	uint64_t began = loop_now(sync->agent->loop);

	if (sync->part)
		sync->code = rules_sync_part(sync->rules, sync->arena, &sync->desired,
					     &sync->outcome, &sync->error);
	else
		sync->code = rules_sync_whole(sync->rules, sync->arena, &sync->desired,
					      &sync->outcome, &sync->error);
	sync->took = loop_now(sync->agent->loop) - began;
}

static void finish(struct sync *sync)
{
	struct target *target = sync->target;

	if (!target) {
		closer_rules(sync->agent, sync->rules);
		sync_free(sync);
		return;
	}
	target->sync = NULL;
	tell(target, sync);
	if (sync->code < 0)
		give_marks_back(target, sync);
	reconciler_synced(target, sync);
	target_take_news(target);
	sync_free(sync);
}

static void come_back(struct sync *sync)
{
	LIST_REMOVE(sync, of_agent);
	sync->agent->syncs_beside--;
	sync->work = NULL;
}

static void on_done(void *user)
{
	struct sync *sync = user;

	come_back(sync);
	/* Others may have waited for their turn. */
	loop_source_trigger(sync->agent->reconcile);
	finish(sync);
}

static size_t elements_of(const struct sync *sync)
{
	size_t count = sync->part ? 0 : standing_count(sync->rules->standing);

	for (size_t i = 0; i < sync->desired.count; i++) {
		const struct ruleset_service *service = &sync->desired.services[i];

		for (unsigned family = 0; family < FAMILY_COUNT; family++)
			count += 1 + service->share_count[family];
	}
	return count;
}

/* Returns whether it goes on beside the loop. */
static bool start_beside(struct sync *sync)
{
	struct agent *agent = sync->agent;

	/* As it was when its rules were told so: here, they must wait for nobody. */
	if (!sync->rules->is_shared &&
	    (elements_of(sync) < LARGE || agent->syncs_beside >= SYNCS_BESIDE_MAX))
		return false;
	/* Without a thread it has to be here. */
	if (work_start(agent->loop, "sync", run, on_done, sync, &sync->work) < 0)
		return false;
	LIST_INSERT_HEAD(&agent->syncs, sync, of_agent);
	agent->syncs_beside++;
	return true;
}

int sync_begin(struct target *target, struct error *error)
{
	CLEANUP(sync_freep) struct sync *sync = calloc(1, sizeof(*sync));
	int r;

	if (!sync || !(sync->arena = arena_new()))
		return error_no_memory(error);
	sync->agent = target->agent;
	sync->target = target;
	sync->rules = target->rules;
	sync->rules->is_shared = target_is_shared(target);
	sync->part = !target->whole && rules_are_known(target->rules);
	r = sync->part ? desired_part(sync->arena, target, &sync->desired)
		       : desired_whole(sync->arena, target, &sync->desired);
	if (r < 0)
		return error_no_memory(error);
	take_marks(target, sync);
	target->sync = TAKE(sync);
	if (!start_beside(target->sync)) {
		run(target->sync);
		finish(target->sync);
	}
	return 0;
}

void sync_leave(struct target *target)
{
	if (target->sync) {
		kernel_monitor_mute(target->rules->monitor);
		atomic_store(&target->rules->is_given_up, true);
		target->sync->target = NULL;
	} else {
		closer_rules(target->agent, target->rules);
	}
	target->sync = NULL;
	target->rules = NULL;
}

void sync_wait(struct sync *sync)
{
	work_join(sync->work);
	come_back(sync);
	finish(sync);
}

void syncs_done(struct agent *agent)
{
	while (!LIST_EMPTY(&agent->syncs))
		sync_wait(LIST_FIRST(&agent->syncs));
}

int sync_flush(struct target *target, struct error *error)
{
	if (target->sync) {
		atomic_store(&target->rules->is_given_up, true);
		sync_wait(target->sync);
	}
	return rules_flush(target->rules, error);
}
