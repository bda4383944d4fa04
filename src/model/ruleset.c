/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Weights become slots of a map that is looked up with a random number, so
 * only their ratios matter and every slot costs an element in the kernel.
 * They are divided by their common divisor; where that still needs more slots
 * than there may be, they are divided further, by the smallest number that
 * makes them fit, rounded down but never to nothing: an endpoint that was
 * given a weight gets some of the connections. That number is a fraction, held
 * in fixed point and found by bisection, for the sum only falls as it grows.
 * WEIGHT_MAX always fits: then each endpoint has one slot, and there are at
 * most ENDPOINTS_MAX of them.
 */
#include "dragoman/model/ruleset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { FIXED_ONE = 1 << 16 };

static_assert((int)ENDPOINTS_MAX <= (int)SLOTS_MAX, "one slot for each endpoint has to fit");
static_assert((uint64_t)WEIGHT_MAX * FIXED_ONE < UINT32_MAX, "fixed point has to hold a weight");

unsigned weights_common_divisor(unsigned a, unsigned b)
{
	while (b) {
		unsigned rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static void divide_by_common_divisor(struct share *shares, size_t count)
{
	unsigned divisor = 0;

	for (size_t i = 0; i < count && divisor != 1; i++)
		divisor = weights_common_divisor(divisor, shares[i].slots);
	for (size_t i = 0; i < count && divisor > 1; i++)
		shares[i].slots /= divisor;
}

/* slots divided by a fixed-point number of at least one. */
static unsigned scaled(unsigned slots, unsigned divisor)
{
	unsigned quotient = slots * FIXED_ONE / divisor;

	return quotient ? quotient : 1;
}

static size_t sum_scaled(const struct share *shares, size_t count, unsigned divisor)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += scaled(shares[i].slots, divisor);
	return sum;
}

static void scale_down(struct share *shares, size_t count)
{
	unsigned low = FIXED_ONE, high = WEIGHT_MAX * FIXED_ONE;
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += shares[i].slots;
	if (sum <= SLOTS_MAX)
		return;
	/* low does not fit, high does. */
	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (sum_scaled(shares, count, middle) <= SLOTS_MAX)
			high = middle;
		else
			low = middle;
	}
	for (size_t i = 0; i < count; i++)
		shares[i].slots = scaled(shares[i].slots, high);
}

static int compare_shares(const void *a, const void *b)
{
	const struct share *left = a, *right = b;

	return endpoint_compare(&left->endpoint, &right->endpoint);
}

int selection_shares(struct arena *arena, const struct selection *selection, struct share **ret)
{
	struct share *shares = arena_room(arena, selection->endpoint_count, sizeof(*shares));

	if (!shares)
		return -ENOMEM;
	for (size_t i = 0; i < selection->endpoint_count; i++)
		shares[i] = (struct share){selection->endpoints[i].endpoint,
					   selection->endpoints[i].weight};
	sort_unless_sorted(shares, selection->endpoint_count, sizeof(*shares), compare_shares);
	*ret = shares;
	return 0;
}

/* Those without a weight are taken out of the shares of a family. Returns 0 or -ENOMEM. */
static int take_drained(struct arena *arena, unsigned family, struct ruleset_service *service)
{
	struct share *shares = service->shares[family];
	size_t count = service->share_count[family], kept = 0, drained = 0;

	for (size_t i = 0; i < count; i++)
		drained += shares[i].slots == 0;
	service->drained[family] = arena_room(arena, drained, sizeof(struct endpoint));
	if (!service->drained[family])
		return -ENOMEM;
	for (size_t i = 0; i < count && drained; i++) {
		if (shares[i].slots)
			shares[kept++] = shares[i];
		else
			service->drained[family][service->drained_count[family]++] =
				shares[i].endpoint;
	}
	service->share_count[family] = count - drained;
	return 0;
}

static void weights_to_slots(struct share *shares, size_t count)
{
	divide_by_common_divisor(shares, count);
	scale_down(shares, count);
	/* Rounding down may have made them alike. */
	divide_by_common_divisor(shares, count);
}

int ruleset_service_share(struct arena *arena, struct share *weights, size_t count,
			  struct ruleset_service *service)
{
	size_t at = 0;

	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		size_t first = at;

		while (at < count && weights[at].endpoint.family == family)
			at++;
		service->shares[family] = weights + first;
		service->share_count[family] = at - first;
		service->drained_count[family] = 0;
		if (take_drained(arena, family, service) < 0)
			return -ENOMEM;
		weights_to_slots(service->shares[family], service->share_count[family]);
	}
	return 0;
}

int ruleset_service_fill(struct arena *arena, const struct selection *selection,
			 struct ruleset_service *service)
{
	struct share *shares;

	if (selection_shares(arena, selection, &shares) < 0)
		return -ENOMEM;
	return ruleset_service_share(arena, shares, selection->endpoint_count, service);
}
