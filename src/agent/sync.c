/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/plan/plan.h"

/*
 * Theory of operation
 *
 * A target is made true in one of two ways.
 *
 *   part    what stands is remembered (model/standing.h) from the last time,
 *           and nobody else has touched it, as the monitor would have told: the
 *           backends that changed are planned from that and committed. Nothing
 *           is read, and nothing is paid for the others.
 *   whole   the namespace is read, everything is planned, and what stands then
 *           is remembered. So it goes at first, after somebody else's change,
 *           when members or links come and go, and at each resync.
 *
 * What is remembered is of a generation of the ruleset, and the transaction is
 * stamped with it. If the monitor is late the kernel refuses it, and the target
 * is read.
 *
 * A commit that comes too late (the ruleset changed since it was read) is tried
 * again a few times; a refusal by the kernel has the whole table replaced,
 * once, before it is an error.
 */

enum { TRIES = 8 };

/* Of one commit; the others are told at debug level. */
enum { CHANGES_TOLD = 50 };

/* Repairs in between are counted, and told at debug level: a fight makes a hundred a second. */
static const uint64_t repair_pause = UINT64_C(60000000000);

int backend_select(struct arena *arena, const struct agent *agent, const struct backend *backend,
		   struct selection *ret)
{
	const struct descriptor *descriptor = backend->descriptor;

	return service_select(arena, backend->subscription->service, &descriptor->tags,
			      descriptor->listen.protocol, agent->options.admission, ret);
}

int backend_fill(struct arena *arena, const struct agent *agent, const struct backend *backend,
		 struct ruleset_service *ret)
{
	struct selection selection;

	*ret = (struct ruleset_service){.listen = backend->descriptor->listen,
					.mode = RULESET_KEEP};
	if (!backend->subscription->known)
		return 0;
	if (backend_select(arena, agent, backend, &selection) < 0 ||
	    ruleset_service_fill(arena, &selection, ret) < 0)
		return -ENOMEM;
	ret->mode = selection.endpoint_count == 0 && agent->options.hold_when_empty ? RULESET_HOLD
										    : RULESET_SET;
	return 0;
}

/* The same, and says where the last endpoint has gone. */
static int desire_backend(struct arena *arena, struct backend *backend, struct ruleset_service *ret)
{
	bool some = false;

	if (backend_fill(arena, backend->target->agent, backend, ret) < 0)
		return -ENOMEM;
	if (!backend->subscription->known)
		return 0;
	for (unsigned family = 0; family < FAMILY_COUNT; family++)
		some |= ret->share_count[family] || ret->drained_count[family];
	if (!some && backend->had_endpoints)
		log_warn("%s: %s: no endpoint is left", backend->descriptor->variable,
			 service_key(backend->subscription->service));
	backend->had_endpoints = some;
	return 0;
}

static int desire_whole(struct arena *arena, struct target *target, struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = target->agent->options.balance,
				.count = target->backend_count};
	ret->services = arena_array(arena, target->backend_count, sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < target->backend_count; i++) {
		if (desire_backend(arena, &target->backends[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compare_dirty(const void *a, const void *b)
{
	const struct backend *x = *(struct backend *const *)a, *y = *(struct backend *const *)b;

	return listen_compare(&x->descriptor->listen, &y->descriptor->listen);
}

static int desire_part(struct arena *arena, struct target *target, struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = target->agent->options.balance,
				.count = target->dirty_count};
	ret->services = arena_array(arena, target->dirty_count, sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	if (ret->count)
		qsort(target->dirty, target->dirty_count, sizeof(*target->dirty), compare_dirty);
	for (size_t i = 0; i < target->dirty_count; i++) {
		if (desire_backend(arena, target->dirty[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static bool is_repair(const struct target *target)
{
	return target->drifted || target->overtaken;
}

/* Whether a repair of this namespace was told a while ago, or never. */
static bool repair_is_news(const struct target *target)
{
	return !target->told || loop_now(target->agent->loop) - target->told >= repair_pause;
}

static void log_changes(const struct target *target, const struct verdicts *verdicts)
{
	bool quiet = is_repair(target) && !repair_is_news(target);
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

/*
 * Reads what stands. What route_localnet was before us goes with the table when
 * somebody takes that away; we, who have seen it, know better than the sysctl.
 */
static int read_whole(struct target *target, struct arena *arena, struct observed *ret,
		      struct error *error)
{
	int r;

	target->agent->metrics.reads++;
	r = kernel_read(target->kernel, arena, ret, error);
	if (r < 0)
		return r;
	if (ret->saved_localnet < 0)
		ret->saved_localnet = target->saved_localnet;
	target->saved_localnet = ret->saved_localnet;
	return 0;
}

/* Whatever comes of it, the generation is that of what is remembered, or 0. */
static int commit(struct target *target, struct arena *arena, struct verdicts *verdicts,
		  struct error *error)
{
	int r;

	target->generation = 0;
	r = kernel_read_counters(target->kernel, verdicts, error);
	if (r == 0)
		r = kernel_monitor_commit(target->monitor, target->kernel, verdicts, error);
	if (r < 0)
		return r;
	if (verdicts->table_add)
		target->saved_localnet = verdicts->saved_localnet;
	/* Without memory to remember it, it is read the next time. */
	if (standing_apply(target->standing, verdicts) == 0)
		target->generation = kernel_generation(target->kernel);
	metrics_commit(target->agent, verdicts, target->since);
	log_changes(target, verdicts);
	sweeper_note(target, arena, verdicts);
	return 0;
}

static int sync_part(struct target *target, struct arena *arena, struct error *error)
{
	struct listen *listens = arena_array(arena, target->dirty_count, sizeof(*listens));
	struct ruleset desired;
	struct observed observed;
	struct verdicts verdicts;

	if (!listens || desire_part(arena, target, &desired) < 0)
		return error_no_memory(error);
	for (size_t i = 0; i < desired.count; i++)
		listens[i] = desired.services[i].listen;
	if (standing_view(target->standing, arena, listens, desired.count, &observed) < 0)
		return error_no_memory(error);
	observed.generation = target->generation;
	if (plan_make(arena, &desired, &observed, PLAN_PART, &verdicts) < 0)
		return error_no_memory(error);
	return verdicts_are_empty(&verdicts) ? 0 : commit(target, arena, &verdicts, error);
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

/* Reads, plans and commits once. Sets *rebuild where the commit was refused. */
static int try_whole(struct target *target, const struct ruleset *desired, struct arena *arena,
		     bool *rebuild, struct error *error)
{
	struct observed observed;
	struct verdicts verdicts;
	int r;

	target->generation = 0;
	r = read_whole(target, arena, &observed, error);
	if (r < 0)
		return r;
	if (plan_whole(desired, arena, &observed, *rebuild, &verdicts) < 0 ||
	    standing_take(target->standing, &observed) < 0)
		return error_no_memory(error);
	if (verdicts_are_empty(&verdicts)) {
		target->generation = observed.generation;
		return 0;
	}
	r = commit(target, arena, &verdicts, error);
	if (r == 0 && is_repair(target))
		tell_repair(target);
	/* What was not even sent, for want of memory, is no refusal. */
	if (r == -EBUSY || (r < 0 && error->class == ERROR_INVALID))
		*rebuild = true;
	return r;
}

static int sync_whole(struct target *target, struct arena *arena, struct error *error)
{
	bool rebuild = false, rebuilt;
	struct ruleset desired;
	int r = -EAGAIN;

	if (desire_whole(arena, target, &desired) < 0)
		return error_no_memory(error);
	for (unsigned tries = 0; tries < TRIES; tries++) {
		rebuilt = rebuild;
		r = try_whole(target, &desired, arena, &rebuild, error);
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

int sync_target(struct target *target, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	if (!arena)
		return error_no_memory(error);
	if (!target->whole && target->generation && standing_has_table(target->standing) &&
	    sync_part(target, arena, error) == 0)
		return 0;
	return sync_whole(target, arena, error);
}

int sync_flush(struct target *target, struct error *error)
{
	int r = -EAGAIN;

	target->generation = 0;
	for (unsigned tries = 0; tries < TRIES && (r == -EAGAIN || r == -ERESTART); tries++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct observed observed;
		struct verdicts verdicts;

		if (!arena)
			return error_no_memory(error);
		r = read_whole(target, arena, &observed, error);
		if (r < 0)
			continue;
		if (plan_flush(arena, &observed, &verdicts) < 0)
			return error_no_memory(error);
		if (!verdicts_are_empty(&verdicts))
			r = kernel_commit(target->kernel, &verdicts, error);
	}
	return r;
}
