/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Shares come in the order of their endpoints, elements in that of their slots,
 * and after some replacements the one says nothing about the other. So the
 * shares of a site are hashed, with open addressing, and each element is looked
 * up once: of thousands of endpoints one has changed, and what it takes to find
 * out is most of what it takes to plan.
 *
 * Where the planner happens to lie seeds the hash, so that nobody who writes to
 * a registry can choose endpoints that all collide. What is found does not
 * depend on it.
 */
#include <string.h>

#include "planner.h"

static uint64_t hash(const struct planner *planner, const struct endpoint *endpoint)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t first, second, number = (uintptr_t)planner;
	uint32_t rest;

	memcpy(&first, (const char *)endpoint, sizeof(first));
	memcpy(&second, (const char *)endpoint + sizeof(first), sizeof(second));
	memcpy(&rest, (const char *)endpoint + sizeof(first) + sizeof(second), sizeof(rest));
	number = (number ^ first) * odd;
	number = (number ^ number >> 32 ^ second) * odd;
	number = (number ^ number >> 32 ^ rest) * odd;
	return number ^ number >> 32;
}

/* A power of two, with half of it empty at least. */
static size_t size_for(size_t count)
{
	size_t size = 2;

	while (size < 2 * count)
		size *= 2;
	return size;
}

size_t matching_room(size_t shares)
{
	return size_for(shares);
}

/* Where the endpoint's share is noted, or would be: its number, from 1 on; or 0. */
static uint16_t *place_of(const struct planner *planner, const struct site *site, size_t size,
			  const struct endpoint *endpoint)
{
	size_t place = hash(planner, endpoint) & (size - 1);

	while (planner->places[place] && memcmp(&site->shares[planner->places[place] - 1].endpoint,
						endpoint, sizeof(*endpoint)) != 0)
		place = (place + 1) & (size - 1);
	return &planner->places[place];
}

void matching_find(struct planner *planner, const struct site *site)
{
	const size_t size = size_for(site->share_count);

	memset(planner->places, 0, size * sizeof(*planner->places));
	for (size_t i = 0; i < site->share_count; i++)
		*place_of(planner, site, size, &site->shares[i].endpoint) = (uint16_t)(i + 1);
	for (size_t i = 0; i < site->endpoint_count; i++)
		planner->matches[i] = *place_of(planner, site, size, &site->endpoints[i]->endpoint);
}
