/* SPDX-License-Identifier: MIT */
#include "dragoman/plan/plan.h"

#include <errno.h>
#include <stdlib.h>

#include "planner.h"

/*
 * Theory of operation
 *
 * A plan is made in one pass over everything sorted by (family, port,
 * protocol): the services wanted, the verdict elements, the endpoint elements
 * and the unavailable elements that were observed. Each such site is planned
 * by itself, and says which chain it needs; after that the chains are
 * compared. Where the table cannot be changed in place, or PLAN_REBUILD says
 * so, the same decisions are taken, so that slots and counters survive, but
 * every verdict becomes an addition to a table that is removed and added in
 * the same transaction.
 *
 * Verdict arrays are allocated at the size that they can reach at most; memory
 * of an arena that is never touched costs nothing.
 *
 * What nothing points to any more: a chain that went out of use is left where
 * it is until a later transaction, since before Linux 6.2 its removal together
 * with the element that pointed to it fails with EBUSY, and since a service
 * that shrinks often grows again. It is no difference by itself: a plan is
 * empty, though such a chain stands.
 */

static const char localnet_object[] = "sysctl net.ipv4.conf.all.route_localnet";

static size_t desired_slots(const struct ruleset *desired, size_t *ret_largest)
{
	size_t total = 0;

	for (size_t i = 0; i < desired->count; i++) {
		const struct ruleset_service *service = &desired->services[i];

		for (unsigned family = 0; family < FAMILY_COUNT; family++) {
			size_t slots = 0;

			for (size_t n = 0; n < service->share_count[family]; n++)
				slots += service->shares[family][n].slots;
			if (slots > *ret_largest)
				*ret_largest = slots;
			total += slots;
		}
	}
	return total;
}

/* As many as may be needed, of everything; see above. */
static int planner_reserve(struct planner *planner)
{
	const struct observed *observed = planner->observed;
	struct verdicts *verdicts = planner->verdicts;
	struct arena *arena = planner->arena;
	size_t largest = 0;
	size_t services = observed->service_count + FAMILY_COUNT * planner->desired->count;
	size_t unavailable = observed->unavailable_count + FAMILY_COUNT * planner->desired->count;
	/* One that is kept but moved is an element removed and another added. */
	size_t endpoints = 2 * observed->endpoint_count + desired_slots(planner->desired, &largest);
	size_t chains = observed->chain_count + CHAIN_BASE_COUNT + services;
	size_t sets = observed->foreign_set_count + SET_COUNT;
	size_t routes = observed->link_count + observed->route_count;
	size_t seats = observed->endpoint_count + largest;

	verdicts->services = arena_room(arena, services, sizeof(*verdicts->services));
	verdicts->unavailable = arena_room(arena, unavailable, sizeof(*verdicts->unavailable));
	verdicts->endpoints = arena_room(arena, endpoints, sizeof(*verdicts->endpoints));
	verdicts->chains = arena_room(arena, chains, sizeof(*verdicts->chains));
	verdicts->sets = arena_room(arena, sets, sizeof(*verdicts->sets));
	verdicts->routes = arena_room(arena, routes, sizeof(*verdicts->routes));
	/* The table, the sysctl, and one for a service whose element alone is wrong. */
	verdicts->changes = arena_room(arena,
				       2 + endpoints + services + unavailable + chains + sets +
					       routes + observed->stray_count,
				       sizeof(*verdicts->changes));
	planner->seats = arena_room(arena, seats, sizeof(*planner->seats));
	planner->remaining = arena_room(arena, seats, sizeof(*planner->remaining));
	planner->kept_shares = arena_room(arena, seats, sizeof(*planner->kept_shares));
	planner->tallies = arena_room(arena, 2 * seats, sizeof(*planner->tallies));
	planner->places = arena_room(arena, matching_room(seats), sizeof(*planner->places));
	planner->matches = arena_room(arena, observed->endpoint_count, sizeof(*planner->matches));
	planner->balances = arena_room(arena, services, sizeof(*planner->balances));
	planner->nth_wanted = arena_room(arena, services, sizeof(*planner->nth_wanted));
	planner->nth_stands = arena_array(arena, services, sizeof(*planner->nth_stands));
	planner->nth_used = arena_room(arena, observed->service_count, sizeof(*planner->nth_used));
	if (!verdicts->services || !verdicts->unavailable || !verdicts->endpoints ||
	    !verdicts->chains || !verdicts->sets || !verdicts->routes || !verdicts->changes ||
	    !planner->seats || !planner->remaining || !planner->kept_shares || !planner->tallies ||
	    !planner->places || !planner->matches || !planner->balances || !planner->nth_wanted ||
	    !planner->nth_stands || !planner->nth_used)
		return -ENOMEM;
	return 0;
}

int localnet_before_us(const struct observed *observed)
{
	bool trace = observed->table || observed->route_count;

	if (observed->saved_localnet >= 0)
		return observed->saved_localnet;
	for (size_t i = 0; i < observed->link_count; i++)
		trace = trace || observed->links[i].routed;
	return trace ? 0 : observed->localnet;
}

static void plan_localnet(struct planner *planner, int value)
{
	struct verdicts *verdicts = planner->verdicts;

	verdicts->localnet_set = true;
	verdicts->localnet = value;
	changes_object(planner, VERDICT_REPLACE,
		       arena_printf(planner->arena, "%s = %d", localnet_object, value));
}

static void plan_route(struct planner *planner, const struct route_verdict *route)
{
	planner->verdicts->routes[planner->verdicts->route_count++] = *route;
	changes_object(planner, route->verdict,
		       arena_printf(planner->arena, "route local ::1/128 dev %s", route->name));
}

/* Routes of ours: those to the links that lack one, or, without `wanted`, all of them away. */
static void plan_routes(struct planner *planner, bool wanted)
{
	const struct observed *observed = planner->observed;
	const uint32_t local = 255, metric = 2048;

	for (size_t i = 0; i < observed->route_count; i++)
		plan_route(planner, &(struct route_verdict){
					    .verdict = VERDICT_REMOVE,
					    .index = observed->routes[i].index,
					    .name = observed->routes[i].name,
					    .metric = observed->routes[i].metric,
					    .table = observed->routes[i].table,
				    });
	for (size_t i = 0; i < observed->link_count; i++) {
		const struct observed_link *link = &observed->links[i];

		if (link->routed == (wanted && observed->ipv6))
			continue;
		plan_route(planner, &(struct route_verdict){
					    .verdict = link->routed ? VERDICT_REMOVE : VERDICT_ADD,
					    .index = link->index,
					    .name = link->name,
					    .metric = metric,
					    .table = local,
				    });
	}
}

static int planner_result(const struct planner *planner)
{
	const struct verdicts *verdicts = planner->verdicts;

	/* An object's name is the one thing that is allocated on the way. */
	for (size_t i = 0; i < verdicts->change_count; i++) {
		if (verdicts->changes[i].is_object && !verdicts->changes[i].object)
			return -ENOMEM;
	}
	return 0;
}

int plan_make(struct arena *arena, const struct ruleset *desired, const struct observed *observed,
	      unsigned flags, struct verdicts *ret)
{
	CLEANUP(memory_free) struct planner *planner = calloc(1, sizeof(*planner));
	int r;

	*ret = (struct verdicts){.generation = observed->generation,
				 .uncounted = observed->uncounted};
	if (!planner)
		return -ENOMEM;
	planner->arena = arena;
	planner->desired = desired;
	planner->observed = observed;
	planner->verdicts = ret;
	planner->part = flags & PLAN_PART;
	planner->add = flags & PLAN_ADD;
	planner->stands = observed->table || desired->count;
	planner->rebuild = observed->table && (observed->foreign || (flags & PLAN_REBUILD));
	/* Somebody took the table away: what is left of us would leave localhost open. */
	if (!planner->stands)
		return plan_flush(arena, observed, ret);
	r = planner_reserve(planner);
	if (r < 0)
		return r;
	structure_begin(planner);
	r = sites_plan(planner);
	if (r < 0)
		return r;
	structure_end(planner);
	if (observed->localnet == 0)
		plan_localnet(planner, 1);
	plan_routes(planner, true);
	return planner_result(planner);
}

int plan_flush(struct arena *arena, const struct observed *observed, struct verdicts *ret)
{
	static const struct ruleset nothing;
	struct planner planner = {
		.arena = arena, .observed = observed, .desired = &nothing, .verdicts = ret};
	int saved = localnet_before_us(observed);
	int r;

	*ret = (struct verdicts){.generation = observed->generation};
	r = planner_reserve(&planner);
	if (r < 0)
		return r;
	plan_routes(&planner, false);
	if (observed->localnet != saved)
		plan_localnet(&planner, saved);
	ret->localnet_unclaimed = !observed->table && observed->saved_localnet < 0 && saved;
	if (observed->table) {
		ret->table_remove = true;
		changes_object(&planner, VERDICT_REMOVE, "table inet dragoman");
	}
	return planner_result(&planner);
}
