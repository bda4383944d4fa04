/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_PLAN_PLANNER_H
#define DRAGOMAN_PLAN_PLANNER_H

/*
 * What the files of this room share: a plan in the making.
 *
 * A site is one port and protocol in one family: the unit that a service is
 * made of in the kernel. sites.c brings the desired and the observed half of
 * each site together, matching.c finds the share of each element, slots.c
 * decides who sits in which slot, structure.c looks after table, sets and
 * chains, changes.c says it for people.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/memory.h"
#include "dragoman/plan/plan.h"

struct site {
	struct listen listen;
	enum family family;
	const struct ruleset_service *desired; /* NULL: nobody asks for it */
	const struct observed_service *service;
	const struct observed_unavailable *unavailable;
	const struct observed_endpoint *const *endpoints; /* by slot */
	size_t endpoint_count;

	/* Decided by slots.c. */
	const struct share *shares; /* by endpoint_compare() */
	size_t share_count;
	size_t slots; /* how many it is to have */
	bool want_unavailable;
};

/* An endpoint on its way through a plan: how many slots it has, and will have. */
struct tally {
	struct endpoint endpoint;
	unsigned before, after;
};

/* A slot as it will be. */
struct seat {
	const struct endpoint *endpoint; /* NULL: still empty */
	uint64_t packets, bytes;
	bool kept;
	bool moved; /* from another slot */
	uint16_t from;
};

struct planner {
	struct arena *arena;
	const struct ruleset *desired;
	const struct observed *observed;
	bool rebuild; /* the table is removed and added in one transaction */
	bool stands;  /* there will be a table */
	bool part;    /* chains may be of use to ports that are not in here */
	bool add;     /* what nobody asks for stays */

	/* Room for the largest site. */
	struct seat *seats;
	unsigned *remaining;
	struct share *kept_shares;
	struct tally *tallies;
	uint16_t *places;  /* matching.c's own */
	uint16_t *matches; /* of each element of the site, its share, from 1 on; 0: none */

	/* The chains that the services will point to, and that they point to now. */
	bool balance_wanted[FAMILY_COUNT][SLOTS_MAX + 1];
	struct chain *balances; /* the same as a list, in no order */
	size_t balance_count;
	bool balance_used[FAMILY_COUNT][SLOTS_MAX + 1];
	struct chain *nth_wanted; /* by (family, listen) */
	size_t nth_wanted_count;
	bool *nth_stands;                         /* of nth_wanted, which ones are there already */
	const struct observed_service **nth_used; /* the same order */
	size_t nth_used_count;

	struct verdicts *verdicts;
};

/* By family, port, protocol. */
int site_compare(uint8_t a_family, const struct listen *a, uint8_t b_family,
		 const struct listen *b);

/* sites.c: walks all sites and plans each. Returns 0 or -ENOMEM. */
int sites_plan(struct planner *planner);

/* slots.c: decides what a site is to have, and gives the verdicts for its elements. */
void slots_plan(struct planner *planner, struct site *site);

/* matching.c: sets planner->matches for a site whose shares are decided. */
void matching_find(struct planner *planner, const struct site *site);
/* How many places it needs for so many shares. */
size_t matching_room(size_t shares);

/*
 * structure.c: table, sets and chains. The first before, the second after the
 * sites, whose needs it serves.
 */
void structure_begin(struct planner *planner);
void structure_end(struct planner *planner);

/*
 * plan.c: the value of route_localnet before we came: as the table's comment
 * has it, or somebody who read that once; 0 where the comment is gone; where
 * the table is gone too, as it is, unless routes of ours tell that we have
 * been here.
 */
int localnet_before_us(const struct observed *observed);

/* changes.c: what slots_plan() decided, for people; element: some verdict was given. */
void changes_of_site(struct planner *planner, const struct site *site, bool element);
void changes_object(struct planner *planner, enum verdict verdict, const char *object);

#endif
