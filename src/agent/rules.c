/* SPDX-License-Identifier: MIT */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>

#include "dragoman/plan/plan.h"

/*
 * Theory of operation
 *
 * A namespace is made true in one of two ways.
 *
 *   part    what stands is remembered (model/standing.h) from the last time,
 *           and nobody else has touched it, as the monitor would have told: the
 *           services that changed are planned from that and committed. Nothing
 *           is read, and nothing is paid for the others.
 *   whole   the namespace is read, everything is planned, and what stands then
 *           is remembered. So it goes at first, after somebody else's change,
 *           when members or links come and go, and at each resync.
 *
 * What is remembered is of a generation of the ruleset, and the transaction is
 * stamped with it. If the monitor is late the kernel refuses it, and the
 * namespace is read.
 */

enum { TRIES = 8 };

static void rules_closep(struct rules **rules)
{
	rules_close(*rules);
}

int rules_open(struct loop *loop, const struct netns *netns, kernel_monitor_function *function,
	       void *user, struct rules **ret, struct error *error)
{
	CLEANUP(rules_closep) struct rules *rules = calloc(1, sizeof(*rules));
	int r;

	if (!rules || !(rules->standing = standing_new()))
		return error_no_memory(error);
	rules->saved_localnet = -1;
	r = kernel_open(netns, &rules->kernel, error);
	if (r == 0)
		r = kernel_monitor_open(loop, netns, rules->kernel, function, user, &rules->monitor,
					error);
	if (r == 0)
		*ret = TAKE(rules);
	return r;
}

void rules_close(struct rules *rules)
{
	if (!rules)
		return;
	kernel_monitor_close(rules->monitor);
	kernel_close(rules->kernel);
	standing_free(rules->standing);
	free(rules);
}

bool rules_are_known(const struct rules *rules)
{
	return rules->generation && standing_has_table(rules->standing);
}

/*
 * Reads what stands. What route_localnet was before us goes with the table when
 * somebody takes that away; we, who have seen it, know better than the sysctl.
 */
static int read_whole(struct rules *rules, struct arena *arena, struct observed *ret,
		      struct error *error)
{
	int r = kernel_read(rules->kernel, arena, ret, error);

	if (r < 0)
		return r;
	if (ret->saved_localnet < 0)
		ret->saved_localnet = rules->saved_localnet;
	rules->saved_localnet = ret->saved_localnet;
	return 0;
}

/*
 * What was planned is hardly true any more behind another's transaction, and
 * nobody else shall wait with us for the next.
 */
static int look_out(const struct rules *rules, struct rules_outcome *ret, struct error *error)
{
	int r;

	if (!rules->is_shared)
		return 0;
	/* Others may take their time again and again: for nobody that is too long. */
	if (atomic_load(&rules->is_given_up))
		return error_set(error, -ECANCELED, ERROR_FATAL, "its namespace was let go of");
	r = kernel_await_others(rules->kernel, error);
	ret->held_up |= r > 0;
	return r <= 0 ? r
		      : error_set(error, -EAGAIN, ERROR_CONFLICT,
				  "somebody else's transactions in the namespace leave no room");
}

/* Whatever comes of it, the generation is that of what is remembered, or 0. */
static int commit(struct rules *rules, struct rules_outcome *ret, struct error *error)
{
	struct verdicts *verdicts = &ret->verdicts;
	int r;

	rules->generation = 0;
	r = kernel_read_counters(rules->kernel, verdicts, error);
	if (r == 0)
		r = look_out(rules, ret, error);
	if (r < 0)
		return r;
	r = kernel_monitor_commit(rules->monitor, rules->kernel, verdicts, error);
	ret->held_up |= kernel_was_held_up(rules->kernel);
	if (r < 0)
		return r;
	if (verdicts->table_add)
		rules->saved_localnet = verdicts->saved_localnet;
	/* Without memory to remember it, it is read the next time. */
	if (standing_apply(rules->standing, verdicts) == 0)
		rules->generation = kernel_generation(rules->kernel);
	ret->committed = true;
	return 0;
}

int rules_sync_part(struct rules *rules, struct arena *arena, const struct ruleset *desired,
		    struct rules_outcome *ret, struct error *error)
{
	struct listen *listens = arena_array(arena, desired->count, sizeof(*listens));
	struct observed observed;

	*ret = (struct rules_outcome){0};
	if (!listens)
		return error_no_memory(error);
	for (size_t i = 0; i < desired->count; i++)
		listens[i] = desired->services[i].listen;
	if (standing_view(rules->standing, arena, listens, desired->count, &observed) < 0)
		return error_no_memory(error);
	observed.generation = rules->generation;
	if (plan_make(arena, desired, &observed, PLAN_PART, &ret->verdicts) < 0)
		return error_no_memory(error);
	return verdicts_are_empty(&ret->verdicts) ? 0 : commit(rules, ret, error);
}

/* The plan; a batch that has to be sent at all is that of another table, where one was refused. */
static int plan_whole(const struct ruleset *desired, struct arena *arena,
		      const struct observed *observed, bool rebuild, struct verdicts *ret)
{
	int r = plan_make(arena, desired, observed, 0, ret);

	if (r < 0 || !rebuild || !verdicts_have_batch(ret))
		return r;
	return plan_make(arena, desired, observed, PLAN_REBUILD, ret);
}

/* Reads, plans and commits once. Sets *rebuild where the commit was refused. */
static int try_whole(struct rules *rules, const struct ruleset *desired, struct arena *arena,
		     bool *rebuild, struct rules_outcome *ret, struct error *error)
{
	struct observed observed;
	int r;

	rules->generation = 0;
	ret->reads++;
	r = read_whole(rules, arena, &observed, error);
	if (r < 0)
		return r;
	if (plan_whole(desired, arena, &observed, *rebuild, &ret->verdicts) < 0 ||
	    standing_take(rules->standing, &observed) < 0)
		return error_no_memory(error);
	if (verdicts_are_empty(&ret->verdicts)) {
		rules->generation = observed.generation;
		return 0;
	}
	r = commit(rules, ret, error);
	/* What was not even sent, for want of memory, is no refusal. */
	if (r == -EBUSY || (r < 0 && error->class == ERROR_INVALID))
		*rebuild = true;
	return r;
}

int rules_sync_whole(struct rules *rules, struct arena *arena, const struct ruleset *desired,
		     struct rules_outcome *ret, struct error *error)
{
	bool rebuild = false, rebuilt;
	int r = -EAGAIN;

	*ret = (struct rules_outcome){0};
	for (unsigned tries = 0; tries < TRIES; tries++) {
		rebuilt = rebuild;
		r = try_whole(rules, desired, arena, &rebuild, ret, error);
		if (r == 0 || error->class == ERROR_FATAL)
			return r;
		if (r == -ERESTART || r == -EAGAIN)
			continue;
		/* What cannot be read is not mended by another table. */
		if (rebuilt || !rebuild)
			return r;
	}
	return r;
}

int rules_flush(struct rules *rules, struct error *error)
{
	int r = -EAGAIN;

	rules->generation = 0;
	for (unsigned tries = 0; tries < TRIES && (r == -EAGAIN || r == -ERESTART); tries++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct observed observed;
		struct verdicts verdicts;

		if (!arena)
			return error_no_memory(error);
		r = read_whole(rules, arena, &observed, error);
		if (r < 0)
			continue;
		if (plan_flush(arena, &observed, &verdicts) < 0)
			return error_no_memory(error);
		if (!verdicts_are_empty(&verdicts))
			r = kernel_commit(rules->kernel, &verdicts, error);
	}
	return r;
}
