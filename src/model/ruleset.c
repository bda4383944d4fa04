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

static int fill_family(struct arena *arena, const struct selection *selection, uint16_t family,
		       struct ruleset_service *service)
{
	size_t count = 0, drained_count = 0;
	struct endpoint *drained;
	struct share *shares;

	for (size_t i = 0; i < selection->endpoint_count; i++) {
		const struct candidate *candidate = &selection->endpoints[i];

		count += candidate->endpoint.family == family && candidate->weight;
		drained_count += candidate->endpoint.family == family && !candidate->weight;
	}
	shares = arena_room(arena, count, sizeof(*shares));
	drained = arena_room(arena, drained_count, sizeof(*drained));
	if (!shares || !drained)
		return -ENOMEM;
	count = drained_count = 0;
	for (size_t i = 0; i < selection->endpoint_count; i++) {
		const struct candidate *candidate = &selection->endpoints[i];

		if (candidate->endpoint.family != family)
			continue;
		if (candidate->weight)
			shares[count++] = (struct share){candidate->endpoint, candidate->weight};
		else
			drained[drained_count++] = candidate->endpoint;
	}
	sort_unless_sorted(shares, count, sizeof(*shares), compare_shares);
	divide_by_common_divisor(shares, count);
	scale_down(shares, count);
	/* Rounding down may have made them alike. */
	divide_by_common_divisor(shares, count);
	service->shares[family] = shares;
	service->share_count[family] = count;
	service->drained[family] = drained;
	service->drained_count[family] = drained_count;
	return 0;
}

int ruleset_service_fill(struct arena *arena, const struct selection *selection,
			 struct ruleset_service *service)
{
	int r = 0;

	for (uint16_t family = 0; family < FAMILY_COUNT && r == 0; family++)
		r = fill_family(arena, selection, family, service);
	return r;
}
