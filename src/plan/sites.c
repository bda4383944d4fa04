/* SPDX-License-Identifier: MIT */
#include "planner.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Brings together, site by site, what is wanted and what stands: a merge of
 * four sequences in one order. Elements of the kernel come in no order, so
 * they are sorted first, through an index that leaves them where they are.
 */

int site_compare(uint8_t a_family, const struct listen *a, uint8_t b_family, const struct listen *b)
{
	if (a_family != b_family)
		return a_family < b_family ? -1 : 1;
	return listen_compare(a, b);
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct observed_endpoint *x = *(const struct observed_endpoint *const *)a;
	const struct observed_endpoint *y = *(const struct observed_endpoint *const *)b;
	int order = site_compare((uint8_t)x->endpoint.family, &x->listen,
				 (uint8_t)y->endpoint.family, &y->listen);

	return order ? order : x->slot - y->slot;
}

static int compare_services(const void *a, const void *b)
{
	const struct observed_service *x = *(const struct observed_service *const *)a;
	const struct observed_service *y = *(const struct observed_service *const *)b;

	return site_compare(x->family, &x->listen, y->family, &y->listen);
}

static int compare_unavailable(const void *a, const void *b)
{
	const struct observed_unavailable *x = *(const struct observed_unavailable *const *)a;
	const struct observed_unavailable *y = *(const struct observed_unavailable *const *)b;

	return site_compare(x->family, &x->listen, y->family, &y->listen);
}

/* Pointers to count items of an array, in the order of compare; NULL without memory. */
static void *sorted(struct arena *arena, const void *items, size_t count, size_t size,
		    int (*compare)(const void *, const void *))
{
	const void **index = arena_array(arena, count, sizeof(*index));

	if (!index)
		return NULL;
	for (size_t i = 0; i < count; i++)
		index[i] = (const char *)items + i * size;
	sort_unless_sorted(index, count, sizeof(*index), compare);
	return index;
}

struct cursors {
	const struct observed_service **services;
	const struct observed_unavailable **unavailable;
	const struct observed_endpoint **endpoints;
	size_t service, unavailable_at, endpoint, desired;
	enum family family; /* that the desired services are being walked for */
};

/* Keeps the smaller of two sites in *family and *listen. */
static void lower(bool *found, uint8_t *family, struct listen *listen, uint8_t other_family,
		  const struct listen *other)
{
	if (*found && site_compare(*family, listen, other_family, other) <= 0)
		return;
	*found = true;
	*family = other_family;
	*listen = *other;
}

/* The next site, from wherever it is mentioned first; false at the end. */
static bool next_site(const struct planner *planner, const struct cursors *at, uint8_t *ret_family,
		      struct listen *ret_listen)
{
	const struct observed *observed = planner->observed;
	bool found = false;

	if (at->service < observed->service_count)
		lower(&found, ret_family, ret_listen, at->services[at->service]->family,
		      &at->services[at->service]->listen);
	if (at->unavailable_at < observed->unavailable_count)
		lower(&found, ret_family, ret_listen, at->unavailable[at->unavailable_at]->family,
		      &at->unavailable[at->unavailable_at]->listen);
	if (at->endpoint < observed->endpoint_count)
		lower(&found, ret_family, ret_listen,
		      (uint8_t)at->endpoints[at->endpoint]->endpoint.family,
		      &at->endpoints[at->endpoint]->listen);
	if (at->desired < planner->desired->count)
		lower(&found, ret_family, ret_listen, (uint8_t)at->family,
		      &planner->desired->services[at->desired].listen);
	return found;
}

static bool here(const struct site *site, uint8_t family, const struct listen *listen)
{
	return site_compare((uint8_t)site->family, &site->listen, family, listen) == 0;
}

/* What is to be of a site that is none of those that were asked for, and stays. */
static const struct ruleset_service stays = {.mode = RULESET_KEEP};

/* Collects everything about one site and moves the cursors past it. */
static void gather(const struct planner *planner, struct cursors *at, struct site *site)
{
	const struct observed *observed = planner->observed;

	if (at->service < observed->service_count &&
	    here(site, at->services[at->service]->family, &at->services[at->service]->listen))
		site->service = at->services[at->service++];
	if (at->unavailable_at < observed->unavailable_count &&
	    here(site, at->unavailable[at->unavailable_at]->family,
		 &at->unavailable[at->unavailable_at]->listen))
		site->unavailable = at->unavailable[at->unavailable_at++];
	site->endpoints = at->endpoints + at->endpoint;
	while (at->endpoint < observed->endpoint_count &&
	       here(site, (uint8_t)at->endpoints[at->endpoint]->endpoint.family,
		    &at->endpoints[at->endpoint]->listen)) {
		at->endpoint++;
		site->endpoint_count++;
	}
	if (at->desired < planner->desired->count &&
	    here(site, (uint8_t)at->family, &planner->desired->services[at->desired].listen))
		site->desired = &planner->desired->services[at->desired++];
	else if (planner->add)
		site->desired = &stays;
	/* The services are walked once for each family. */
	if (at->desired == planner->desired->count && at->family == FAMILY_IPV4) {
		at->family = FAMILY_IPV6;
		at->desired = 0;
	}
}

int sites_plan(struct planner *planner)
{
	const struct observed *observed = planner->observed;
	struct cursors at = {
		.services = sorted(planner->arena, observed->services, observed->service_count,
				   sizeof(*observed->services), compare_services),
		.unavailable = sorted(planner->arena, observed->unavailable,
				      observed->unavailable_count, sizeof(*observed->unavailable),
				      compare_unavailable),
		.endpoints = sorted(planner->arena, observed->endpoints, observed->endpoint_count,
				    sizeof(*observed->endpoints), compare_endpoints),
		.family = planner->desired->count ? FAMILY_IPV4 : FAMILY_IPV6,
	};
	struct listen listen;
	uint8_t family;

	if (!at.services || !at.unavailable || !at.endpoints)
		return -ENOMEM;
	while (next_site(planner, &at, &family, &listen)) {
		struct site site = {.family = (enum family)family, .listen = listen};

		gather(planner, &at, &site);
		slots_plan(planner, &site);
	}
	return 0;
}
