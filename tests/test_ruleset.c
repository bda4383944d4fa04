/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Weights into slots: exact shares where they are small, and as properties
 * where they are scaled - the slots fit, nobody is left without one, more
 * weight never means fewer slots, and the next smaller divisor would not fit.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/model/ruleset.h"

static struct candidate candidate(enum family family, size_t number, unsigned weight)
{
	struct candidate one = {
		.endpoint = {.family = (uint16_t)family, .port = 80},
		.weight = weight,
	};

	one.endpoint.address[0] = 10;
	one.endpoint.address[2] = (uint8_t)(number >> 8);
	one.endpoint.address[3] = (uint8_t)number;
	return one;
}

static size_t slots_of(const struct ruleset_service *service, enum family family)
{
	size_t sum = 0;

	for (size_t i = 0; i < service->share_count[family]; i++)
		sum += service->shares[family][i].slots;
	return sum;
}

static void test_fill_of_small_weights_is_exact(void **state)
{
	static const struct {
		size_t count;
		unsigned weights[6];
		const char *slots;
	} cases[] = {
		{0, {0}, ""},
		{1, {1}, "1 "},
		{1, {256}, "1 "},
		{1, {0}, ""},
		{3, {0, 0, 0}, ""},
		{3, {7, 7, 7}, "1 1 1 "},
		{2, {3, 1}, "3 1 "},
		{2, {30, 10}, "3 1 "},
		{3, {4, 6, 10}, "2 3 5 "},
		{4, {4, 0, 6, 0}, "2 3 "},
		{2, {256, 255}, "256 255 "},
		{3, {6, 10, 15}, "6 10 15 "},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(text_done) struct text text = {0};
		struct candidate all[6];
		struct selection selection = {.endpoints = all, .endpoint_count = cases[i].count};
		struct ruleset_service service = {
			.listen = {PROTOCOL_UDP, 53},
			.mode = RULESET_HOLD,
		};

		for (size_t n = 0; n < cases[i].count; n++)
			all[n] = candidate(FAMILY_IPV4, n, cases[i].weights[n]);
		assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
		for (size_t n = 0; n < service.share_count[FAMILY_IPV4]; n++)
			text_printf(&text, "%u ", service.shares[FAMILY_IPV4][n].slots);
		text_add(&text, "", 0);
		assert_string_equal(text.data, cases[i].slots);
		assert_int_equal(service.share_count[FAMILY_IPV6], 0);
		assert_int_equal(service.listen.port, 53);
		assert_int_equal(service.mode, RULESET_HOLD);
	}
}

static void test_fill_of_both_families_keeps_them_apart_and_sorted(void **state)
{
	struct candidate all[] = {
		candidate(FAMILY_IPV6, 9, 10), candidate(FAMILY_IPV4, 3, 3),
		candidate(FAMILY_IPV6, 1, 5),  candidate(FAMILY_IPV4, 1, 6),
		candidate(FAMILY_IPV4, 2, 0),
	};
	struct selection selection = {.endpoints = all, .endpoint_count = ARRAY_SIZE(all)};
	struct ruleset_service service = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
	assert_int_equal(service.share_count[FAMILY_IPV4], 2);
	assert_memory_equal(&service.shares[FAMILY_IPV4][0].endpoint, &all[3].endpoint,
			    sizeof(struct endpoint));
	assert_int_equal(service.shares[FAMILY_IPV4][0].slots, 2);
	assert_int_equal(service.shares[FAMILY_IPV4][1].slots, 1);
	assert_int_equal(service.share_count[FAMILY_IPV6], 2);
	assert_memory_equal(&service.shares[FAMILY_IPV6][0].endpoint, &all[2].endpoint,
			    sizeof(struct endpoint));
	assert_int_equal(service.shares[FAMILY_IPV6][0].slots, 1);
	assert_int_equal(service.shares[FAMILY_IPV6][1].slots, 2);
}

static void test_fill_of_the_most_endpoints_takes_every_slot(void **state)
{
	static struct candidate all[ENDPOINTS_MAX];
	struct selection selection = {.endpoints = all, .endpoint_count = ENDPOINTS_MAX};
	struct ruleset_service service = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ENDPOINTS_MAX; i++)
		all[i] = candidate(FAMILY_IPV6, i, i ? 1 : 256);
	assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
	assert_int_equal(service.share_count[FAMILY_IPV6], ENDPOINTS_MAX);
	assert_int_equal(slots_of(&service, FAMILY_IPV6), SLOTS_MAX);
}

static void test_fill_scaled_keeps_the_ratio_as_well_as_fits(void **state)
{
	struct candidate all[33];
	struct selection selection = {.endpoints = all, .endpoint_count = ARRAY_SIZE(all)};
	struct ruleset_service service = {0};
	const struct share *shares;
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		all[i] = candidate(FAMILY_IPV4, i, i == 0 ? 1 : i == 1 ? 128 : 256);
	assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
	shares = service.shares[FAMILY_IPV4];
	/* 31 * 256 + 128 + 1 = 8065: a divisor a little below 2 would be enough. */
	assert_int_equal(shares[0].slots, 1);
	assert_int_equal(shares[1].slots, 65);
	assert_int_equal(shares[2].slots, 130);
	assert_int_equal(slots_of(&service, FAMILY_IPV4), 31 * 130 + 65 + 1);
}

static void test_fill_scaled_to_the_same_is_reduced_again(void **state)
{
	struct candidate all[20];
	struct selection selection = {.endpoints = all, .endpoint_count = ARRAY_SIZE(all)};
	struct ruleset_service service = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		all[i] = candidate(FAMILY_IPV4, i, i ? 256 : 255);
	assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
	assert_int_equal(slots_of(&service, FAMILY_IPV4), ARRAY_SIZE(all));
}

static size_t sum_divided(const struct selection *selection, double divisor)
{
	size_t sum = 0;

	for (size_t i = 0; i < selection->endpoint_count; i++) {
		size_t slots = (size_t)((double)selection->endpoints[i].weight / divisor);

		sum += slots ? slots : 1;
	}
	return sum;
}

static void assert_shares_hold(const struct selection *selection,
			       const struct ruleset_service *service)
{
	const struct share *shares = service->shares[FAMILY_IPV4];
	size_t count = selection->endpoint_count, sum = slots_of(service, FAMILY_IPV4);

	assert_int_equal(service->share_count[FAMILY_IPV4], count);
	assert_true(sum <= SLOTS_MAX);
	for (size_t i = 0; i < count; i++) {
		size_t next = (i + 1) % count;
		unsigned weight = selection->endpoints[i].weight;

		assert_true(shares[i].slots >= 1);
		assert_memory_equal(&shares[i].endpoint, &selection->endpoints[i].endpoint,
				    sizeof(struct endpoint));
		if (weight == selection->endpoints[next].weight)
			assert_int_equal(shares[i].slots, shares[next].slots);
		if (weight < selection->endpoints[next].weight)
			assert_true(shares[i].slots <= shares[next].slots);
	}
}

static void test_fill_of_random_weights_fits_and_leaves_nobody_out(void **state)
{
	static struct candidate all[ENDPOINTS_MAX];
	unsigned seed = 5;
	size_t scaled = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 150; round++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		size_t count = (size_t)rand() % (round % 2 ? ENDPOINTS_MAX : 60) + 1;
		struct selection selection = {.endpoints = all, .endpoint_count = count};
		struct ruleset_service service = {0};
		unsigned top = (unsigned)rand() % WEIGHT_MAX + 1;

		for (size_t i = 0; i < count; i++)
			all[i] = candidate(FAMILY_IPV4, i, (unsigned)rand() % top + 1);
		assert_int_equal(ruleset_service_fill(arena, &selection, &service), 0);
		assert_shares_hold(&selection, &service);
		if (sum_divided(&selection, 1) <= SLOTS_MAX)
			continue;
		scaled++;
		/* A divisor that is two parts in a thousand larger makes no more of them. */
		for (unsigned part = 1000; part <= WEIGHT_MAX * 1000; part += part / 500) {
			double divisor = part / 1000.0;

			if (sum_divided(&selection, divisor) > SLOTS_MAX)
				continue;
			assert_true(slots_of(&service, FAMILY_IPV4) >=
				    sum_divided(&selection, divisor));
			break;
		}
	}
	assert_true(scaled > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill_of_small_weights_is_exact),
		cmocka_unit_test(test_fill_of_both_families_keeps_them_apart_and_sorted),
		cmocka_unit_test(test_fill_of_the_most_endpoints_takes_every_slot),
		cmocka_unit_test(test_fill_scaled_keeps_the_ratio_as_well_as_fits),
		cmocka_unit_test(test_fill_scaled_to_the_same_is_reduced_again),
		cmocka_unit_test(test_fill_of_random_weights_fits_and_leaves_nobody_out),
	};

	return cmocka_run_group_tests_name("ruleset", tests, NULL, NULL);
}
