/* SPDX-License-Identifier: MIT */
#include "planner.h"

#include <assert.h>
#include <stdlib.h>

/*
 * Who sits where.
 *
 * A site with N slots has the elements 0..N-1. Slots are given so that as few
 * elements as possible change: an endpoint that stays keeps its slot when that
 * is below the new N; one beyond moves into the first hole, and takes its
 * counter along; what is still empty then goes to the endpoints that are new,
 * in their order. So a replacement is one element, and a removal is the last
 * slot moved into the hole.
 */

static int compare_shares(const void *a, const void *b)
{
	const struct share *x = a, *y = b;

	return endpoint_compare(&x->endpoint, &y->endpoint);
}

/* What stands becomes what is wanted: one share for each endpoint observed. */
static void keep_shares(struct planner *planner, struct site *site)
{
	struct share *shares = planner->kept_shares;
	size_t count = 0, slots = 0;

	for (size_t i = 0; i < site->endpoint_count && slots < SLOTS_MAX; i++, slots++)
		shares[i] = (struct share){.endpoint = site->endpoints[i]->endpoint, .slots = 1};
	qsort(shares, slots, sizeof(*shares), compare_shares);
	for (size_t i = 0; i < slots; i++) {
		if (count && compare_shares(&shares[count - 1], &shares[i]) == 0)
			shares[count - 1].slots++;
		else
			shares[count++] = shares[i];
	}
	site->shares = shares;
	site->share_count = count;
	site->slots = slots;
}

static void decide(struct planner *planner, struct site *site)
{
	if (!site->desired)
		return;
	switch (site->desired->mode) {
	case RULESET_SET:
		site->shares = site->desired->shares[site->family];
		site->share_count = site->desired->share_count[site->family];
		for (size_t i = 0; i < site->share_count; i++)
			site->slots += site->shares[i].slots;
		site->want_unavailable = site->slots == 0;
		break;
	case RULESET_KEEP:
		keep_shares(planner, site);
		site->want_unavailable = site->slots == 0 && site->unavailable;
		break;
	case RULESET_HOLD:
		keep_shares(planner, site);
		site->want_unavailable = site->slots == 0;
		break;
	}
}

/* Whether the endpoint of an observed element has a slot left to get. */
static bool has_more(const struct planner *planner, size_t element)
{
	return planner->matches[element] && planner->remaining[planner->matches[element] - 1];
}

/* Seats it at a slot. */
static void take_seat(struct planner *planner, const struct site *site, size_t slot, size_t number)
{
	const struct observed_endpoint *element = site->endpoints[number];
	const size_t share = planner->matches[number] - 1U;

	planner->remaining[share]--;
	planner->seats[slot] = (struct seat){
		.endpoint = &site->shares[share].endpoint,
		.packets = element->packets,
		.bytes = element->bytes,
		.kept = slot == element->slot,
		.moved = slot != element->slot,
		.from = element->slot,
	};
}

static size_t next_hole(const struct planner *planner, size_t slot)
{
	while (planner->seats[slot].endpoint)
		slot++;
	return slot;
}

static void assign(struct planner *planner, const struct site *site)
{
	size_t hole = 0;

	for (size_t i = 0; i < site->slots; i++)
		planner->seats[i] = (struct seat){0};
	for (size_t i = 0; i < site->share_count; i++)
		planner->remaining[i] = site->shares[i].slots;
	for (size_t i = 0; i < site->endpoint_count; i++) {
		if (site->endpoints[i]->slot < site->slots && has_more(planner, i))
			take_seat(planner, site, site->endpoints[i]->slot, i);
	}
	for (size_t i = 0; i < site->endpoint_count; i++) {
		if (site->endpoints[i]->slot < site->slots || !has_more(planner, i))
			continue;
		hole = next_hole(planner, hole);
		take_seat(planner, site, hole, i);
	}
	for (size_t i = 0; i < site->share_count; i++) {
		for (; planner->remaining[i]; planner->remaining[i]--) {
			hole = next_hole(planner, hole);
			planner->seats[hole].endpoint = &site->shares[i].endpoint;
		}
	}
}

static void give_endpoint(struct planner *planner, const struct site *site, enum verdict verdict,
			  size_t slot, const struct seat *seat)
{
	struct verdicts *verdicts = planner->verdicts;

	verdicts->endpoints[verdicts->endpoint_count++] = (struct endpoint_verdict){
		.verdict = verdict,
		.slot = (uint16_t)slot,
		.listen = site->listen,
		.endpoint = *seat->endpoint,
		.packets = seat->packets,
		.bytes = seat->bytes,
		.moved = seat->moved,
		.from = seat->from,
	};
}

/* Seats against elements, both by slot. */
static void give_endpoints(struct planner *planner, const struct site *site)
{
	size_t element = 0;

	for (size_t slot = 0; slot < site->slots; slot++) {
		const struct seat *seat = &planner->seats[slot];
		bool taken = element < site->endpoint_count &&
			     site->endpoints[element]->slot == slot;

		element += taken;
		if (seat->kept && !planner->rebuild)
			continue;
		/* assign() fills every seat: a site has as many slots as its shares come to. */
		assert(seat->endpoint);
		give_endpoint(planner, site,
			      taken && !planner->rebuild ? VERDICT_REPLACE : VERDICT_ADD, slot,
			      seat);
	}
	for (; element < site->endpoint_count && !planner->rebuild; element++) {
		const struct seat gone = {.endpoint = &site->endpoints[element]->endpoint};

		give_endpoint(planner, site, VERDICT_REMOVE, site->endpoints[element]->slot, &gone);
	}
}

/* The chain that a site with slots goes to. */
static struct chain target_of(const struct planner *planner, const struct site *site)
{
	bool nth = planner->desired->balance == BALANCE_NTH;

	/* What is kept is kept as it was found. */
	if (site->desired->mode != RULESET_SET && site->service &&
	    site->service->target.kind != CHAIN_FOREIGN)
		nth = site->service->target.kind == CHAIN_NTH;
	if (nth)
		return (struct chain){.kind = CHAIN_NTH,
				      .family = (uint8_t)site->family,
				      .slots = (uint16_t)site->slots,
				      .listen = site->listen};
	return (struct chain){.kind = CHAIN_BALANCE,
			      .family = (uint8_t)site->family,
			      .slots = (uint16_t)site->slots};
}

static void note_used(struct planner *planner, const struct observed_service *service)
{
	if (service->target.kind == CHAIN_BALANCE)
		planner->balance_used[service->target.family][service->target.slots] = true;
	else if (service->target.kind == CHAIN_NTH)
		planner->nth_used[planner->nth_used_count++] = service;
}

static void note_wanted(struct planner *planner, const struct chain *target)
{
	if (target->kind == CHAIN_NTH) {
		planner->nth_wanted[planner->nth_wanted_count++] = *target;
		return;
	}
	if (planner->balance_wanted[target->family][target->slots])
		return;
	planner->balance_wanted[target->family][target->slots] = true;
	planner->balances[planner->balance_count++] = *target;
}

static void give_service(struct planner *planner, const struct site *site)
{
	struct verdicts *verdicts = planner->verdicts;
	struct service_verdict verdict = {.family = (uint8_t)site->family, .listen = site->listen};
	bool stands = site->service && !planner->rebuild;

	if (site->service)
		note_used(planner, site->service);
	if (site->slots) {
		verdict.target = target_of(planner, site);
		note_wanted(planner, &verdict.target);
	}
	if (stands && site->slots && chain_equal(&site->service->target, &verdict.target))
		return;
	if (!stands && !site->slots)
		return;
	if (stands)
		verdict.verdict = site->slots ? VERDICT_REPLACE : VERDICT_REMOVE;
	else
		verdict.verdict = VERDICT_ADD;
	verdicts->services[verdicts->service_count++] = verdict;
}

static void give_unavailable(struct planner *planner, const struct site *site)
{
	struct verdicts *verdicts = planner->verdicts;
	bool stands = site->unavailable && !planner->rebuild;

	if (stands == site->want_unavailable)
		return;
	verdicts->unavailable[verdicts->unavailable_count++] = (struct unavailable_verdict){
		.verdict = stands ? VERDICT_REMOVE : VERDICT_ADD,
		.family = (uint8_t)site->family,
		.listen = site->listen,
	};
}

void slots_plan(struct planner *planner, struct site *site)
{
	const struct verdicts *verdicts = planner->verdicts;
	size_t endpoints = verdicts->endpoint_count, services = verdicts->service_count;

	decide(planner, site);
	matching_find(planner, site);
	assign(planner, site);
	give_endpoints(planner, site);
	give_service(planner, site);
	give_unavailable(planner, site);
	changes_of_site(planner, site,
			verdicts->endpoint_count != endpoints ||
				verdicts->service_count != services);
}
