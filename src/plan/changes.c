/* SPDX-License-Identifier: MIT */
#include "planner.h"

#include <stdlib.h>

/*
 * The same for people: by endpoint. What an endpoint had and will have in
 * slots is tallied; endpoints that leave are paired with ones that come, as
 * replacements.
 */

void changes_object(struct planner *planner, enum verdict verdict, const char *object)
{
	struct verdicts *verdicts = planner->verdicts;

	verdicts->changes[verdicts->change_count++] = (struct change){
		.verdict = verdict, .is_object = true, .object = object};
}

static struct change *add_change(struct planner *planner, const struct site *site,
				 enum verdict verdict)
{
	struct change *change = &planner->verdicts->changes[planner->verdicts->change_count++];

	*change = (struct change){
		.verdict = verdict, .listen = site->listen, .family = (uint8_t)site->family};
	return change;
}

static int compare_tallies(const void *a, const void *b)
{
	const struct tally *x = a, *y = b;

	return endpoint_compare(&x->endpoint, &y->endpoint);
}

/*
 * One tally for each endpoint of the site: first those of its shares, in their
 * order, then those that are of none, in theirs. Returns how many.
 */
static size_t tally(struct planner *planner, const struct site *site)
{
	struct tally *tallies = planner->tallies, *others = tallies + site->share_count;
	size_t all = 0, count = 0;

	for (size_t i = 0; i < site->share_count; i++)
		tallies[i] = (struct tally){.endpoint = site->shares[i].endpoint,
					    .after = site->shares[i].slots};
	for (size_t i = 0; i < site->endpoint_count; i++) {
		const struct endpoint *endpoint = &site->endpoints[i]->endpoint;

		if (planner->matches[i])
			tallies[planner->matches[i] - 1].before++;
		else
			others[all++] = (struct tally){.endpoint = *endpoint, .before = 1};
	}
	sort_unless_sorted(others, all, sizeof(*others), compare_tallies);
	for (size_t i = 0; i < all; i++) {
		if (count && compare_tallies(&others[count - 1], &others[i]) == 0)
			others[count - 1].before++;
		else
			others[count++] = others[i];
	}
	return site->share_count + count;
}

/* The next endpoint, from *at on, that leaves (or, with `comes`, that is new); or NULL. */
static const struct tally *next_tally(const struct planner *planner, size_t count, size_t *at,
				      bool comes)
{
	while (*at < count) {
		const struct tally *tally = &planner->tallies[(*at)++];

		if (comes ? !tally->before && tally->after : tally->before && !tally->after)
			return tally;
	}
	return NULL;
}

static void tell_endpoint(struct planner *planner, const struct site *site,
			  const struct tally *gone, const struct tally *come)
{
	enum verdict verdict = gone && come ? VERDICT_REPLACE : come ? VERDICT_ADD : VERDICT_REMOVE;
	struct change *change = add_change(planner, site, verdict);

	change->has_endpoint = true;
	change->endpoint = come ? come->endpoint : gone->endpoint;
	change->slots = come ? come->after : gone->before;
	if (verdict == VERDICT_REPLACE) {
		change->has_was = true;
		change->was = gone->endpoint;
	}
}

static void tell_endpoints(struct planner *planner, const struct site *site)
{
	size_t count = tally(planner, site);
	size_t gone_at = 0, come_at = 0;

	for (size_t i = 0; i < count; i++) {
		const struct tally *same = &planner->tallies[i];

		if (same->before && same->after && same->before != same->after)
			tell_endpoint(planner, site, same, same);
	}
	for (;;) {
		const struct tally *gone = next_tally(planner, count, &gone_at, false);
		const struct tally *come = next_tally(planner, count, &come_at, true);

		if (!gone && !come)
			return;
		tell_endpoint(planner, site, gone, come);
	}
}

void changes_of_site(struct planner *planner, const struct site *site, bool element)
{
	const struct verdicts *verdicts = planner->verdicts;
	size_t before = verdicts->change_count;
	bool was_unavailable = site->unavailable;
	char name[ENDPOINT_TEXT_MAX];

	if (was_unavailable && !site->want_unavailable)
		add_change(planner, site, VERDICT_REMOVE);
	if (element)
		tell_endpoints(planner, site);
	if (!was_unavailable && site->want_unavailable)
		add_change(planner, site, VERDICT_ADD);
	/* Slots out of order or a service element gone: nothing that an endpoint would show. */
	if (element && verdicts->change_count == before && !planner->rebuild)
		changes_object(planner, site->desired ? VERDICT_REPLACE : VERDICT_REMOVE,
			       arena_printf(planner->arena, "elements of %s",
					    listen_format(&site->listen, site->family, name)));
}
