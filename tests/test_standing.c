/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A kernel in memory (plan_model.h) is changed now as a whole, now by a part
 * that was planned from what is remembered. What is remembered has to be what
 * stands, every part has to be one that the kernel takes, and at the end there
 * has to be nothing left for a plan of the whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/model/standing.h"
#include "plan_round.h"

static const struct listen listens[] = {
	{PROTOCOL_TCP, 53},   {PROTOCOL_UDP, 53},   {PROTOCOL_TCP, 80},
	{PROTOCOL_TCP, 6379}, {PROTOCOL_UDP, 6379}, {PROTOCOL_TCP, 65535},
};

static int compare_services(const void *a, const void *b)
{
	const struct observed_service *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	return order ? order : x->family - y->family;
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct observed_endpoint *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	if (order)
		return order;
	return x->endpoint.family != y->endpoint.family ? x->endpoint.family - y->endpoint.family
							: x->slot - y->slot;
}

static int compare_unavailable(const void *a, const void *b)
{
	const struct observed_unavailable *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	return order ? order : x->family - y->family;
}

static void *sorted(const void *items, size_t count, size_t size,
		    int (*compare)(const void *, const void *))
{
	void *copy = calloc(count + 1, size);

	assert_non_null(copy);
	if (!count)
		return copy;
	memcpy(copy, items, count * size);
	qsort(copy, count, size, compare);
	return copy;
}

static const char *services_differ(const struct observed *a, const struct observed *b)
{
	CLEANUP(memory_free)
	struct observed_service *x = sorted(a->services, a->service_count, sizeof(*x),
					    compare_services);
	CLEANUP(memory_free)
	struct observed_service *y = sorted(b->services, b->service_count, sizeof(*y),
					    compare_services);

	if (a->service_count != b->service_count)
		return "not as many services";
	for (size_t i = 0; i < a->service_count; i++) {
		if (compare_services(&x[i], &y[i]) || !chain_equal(&x[i].target, &y[i].target))
			return "another service";
	}
	return NULL;
}

static const char *endpoints_differ(const struct observed *a, const struct observed *b)
{
	CLEANUP(memory_free)
	struct observed_endpoint *x = sorted(a->endpoints, a->endpoint_count, sizeof(*x),
					     compare_endpoints);
	CLEANUP(memory_free)
	struct observed_endpoint *y = sorted(b->endpoints, b->endpoint_count, sizeof(*y),
					     compare_endpoints);

	if (a->endpoint_count != b->endpoint_count)
		return "not as many endpoints";
	for (size_t i = 0; i < a->endpoint_count; i++) {
		if (compare_endpoints(&x[i], &y[i]) ||
		    endpoint_compare(&x[i].endpoint, &y[i].endpoint))
			return "another endpoint";
	}
	return NULL;
}

static const char *unavailable_differ(const struct observed *a, const struct observed *b)
{
	CLEANUP(memory_free)
	struct observed_unavailable *x = sorted(a->unavailable, a->unavailable_count, sizeof(*x),
						compare_unavailable);
	CLEANUP(memory_free)
	struct observed_unavailable *y = sorted(b->unavailable, b->unavailable_count, sizeof(*y),
						compare_unavailable);

	if (a->unavailable_count != b->unavailable_count)
		return "not as many unavailable";
	for (size_t i = 0; i < a->unavailable_count; i++) {
		if (compare_unavailable(&x[i], &y[i]))
			return "another unavailable";
	}
	return NULL;
}

static bool has_chain(const struct observed *observed, const struct chain *chain)
{
	for (size_t i = 0; i < observed->chain_count; i++) {
		if (chain_equal(&observed->chains[i].chain, chain) &&
		    observed->chains[i].chain.slots == chain->slots)
			return true;
	}
	return false;
}

static const char *chains_differ(const struct observed *a, const struct observed *b)
{
	for (size_t i = 0; i < a->chain_count; i++) {
		if (!has_chain(b, &a->chains[i].chain))
			return "another chain";
	}
	return a->chain_count == b->chain_count ? NULL : "not as many chains";
}

/* What is remembered, against what stands. */
static void check_memory(struct round *round, const struct standing *standing)
{
	const struct observed *stands = &round->before->observed;
	struct observed view;
	const char *what;

	assert_int_equal(standing_view(standing, round->arena, listens, ARRAY_SIZE(listens), &view),
			 0);
	if (standing_has_table(standing) != stands->table)
		round_fail(round, "the table");
	if (!stands->table)
		return;
	what = services_differ(&view, stands);
	what = what ? what : endpoints_differ(&view, stands);
	what = what ? what : unavailable_differ(&view, stands);
	what = what ? what : chains_differ(&view, stands);
	if (what)
		round_fail(round, what);
	assert_int_equal(standing_count(standing), stands->service_count + stands->endpoint_count +
							   stands->unavailable_count);
}

static const struct ruleset_service *find(const struct ruleset *ruleset,
					  const struct listen *listen)
{
	for (size_t i = 0; i < ruleset->count; i++) {
		if (listen_compare(&ruleset->services[i].listen, listen) == 0)
			return &ruleset->services[i];
	}
	return NULL;
}

static struct ruleset new_ruleset(struct round *round)
{
	struct ruleset ruleset = {
		.balance = round->desired.balance,
		.services = arena_array(round->arena, ARRAY_SIZE(listens),
					sizeof(*ruleset.services)),
	};

	assert_non_null(ruleset.services);
	return ruleset;
}

/* Some ports become what another ruleset says; the others stay as they were. */
static void change_part(struct round *round, struct standing *standing)
{
	const struct ruleset other = model_random_ruleset(round->arena, &round->random);
	struct ruleset part = new_ruleset(round), merged = new_ruleset(round);
	struct listen touched[ARRAY_SIZE(listens)];
	struct observed view;
	size_t count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(listens); i++) {
		bool touch = random_once_in(&round->random, 2);
		const struct ruleset_service *service = find(touch ? &other : &round->desired,
							     &listens[i]);

		if (touch)
			touched[count++] = listens[i];
		if (touch && service)
			part.services[part.count++] = *service;
		if (service)
			merged.services[merged.count++] = *service;
	}
	assert_int_equal(standing_view(standing, round->arena, touched, count, &view), 0);
	view.generation = round->before->observed.generation;
	round->desired = merged;
	assert_int_equal(plan_make(round->arena, &part, &view, PLAN_PART, &round->verdicts), 0);
	assert_int_equal(round->verdicts.route_count, 0);
	assert_false(round->verdicts.localnet_set);
	model_free(round->after);
	round->after = model_copy(round->before);
	if (!model_apply(round->after, &round->verdicts))
		round_fail(round, round->after->failure);
}

static void change_whole(struct round *round, struct standing *standing)
{
	struct ruleset desired = model_random_ruleset(round->arena, &round->random);

	/* nth stays nth, as in an agent's life. */
	desired.balance = round->desired.balance;
	round->desired = desired;
	if (random_once_in(&round->random, 2))
		model_damage(round->before, &round->random);
	assert_int_equal(standing_take(standing, &round->before->observed), 0);
	round_make(round, random_once_in(&round->random, 5) ? PLAN_REBUILD : 0);
}

static void test_parts_planned_from_memory_lead_to_the_whole(void **state)
{
	unsigned long first = random_first_seed(1), count = 1500, parts = 0, sent = 0;

	(void)state;
	print_message("seeds %lu and %lu more\n", first, count);
	for (unsigned long seed = first; seed < first + count; seed++) {
		CLEANUP(standing_freep) struct standing *standing = standing_new();
		struct round round;
		const char *what;

		assert_non_null(standing);
		round_begin(&round, seed);
		round.desired = model_random_ruleset(round.arena, &round.random);
		for (unsigned step = 0; step < 12; step++) {
			bool part = step && standing_has_table(standing) &&
				    !random_once_in(&round.random, 4);

			if (part)
				change_part(&round, standing);
			else
				change_whole(&round, standing);
			parts += part;
			sent += part && verdicts_have_batch(&round.verdicts);
			assert_int_equal(standing_apply(standing, &round.verdicts), 0);
			what = model_differs(&round.desired, round.before, round.after);
			if (what)
				round_fail(&round, what);
			round_step(&round);
			check_memory(&round, standing);
		}
		round_make(&round, 0);
		if (!round_is_idle(&round.verdicts))
			round_fail(&round, "the parts leave something for the whole");
		round_done(&round);
	}
	/* Else nothing was tested. */
	assert_true(parts > count && sent > count);
}

/* A slot that moves takes its counter along, wherever that comes from. */
static void test_part_says_which_counters_it_does_not_know(void **state)
{
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	const struct listen listen = {PROTOCOL_TCP, 80};
	struct observed view;
	struct round round;

	(void)state;
	round_begin(&round, 1);
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 3));
	assert_int_equal(standing_take(standing, &round.before->observed), 0);
	assert_int_equal(standing_view(standing, round.arena, &listen, 1, &view), 0);
	view.generation = round.before->observed.generation;
	round.desired = round_service(round.arena, BALANCE_RANDOM, 3);
	/* The first one leaves; the last slot moves into its place. */
	round.desired.services[0].shares[FAMILY_IPV4]++;
	round.desired.services[0].share_count[FAMILY_IPV4]--;
	assert_int_equal(plan_make(round.arena, &round.desired, &view, PLAN_PART, &round.verdicts),
			 0);
	assert_true(round.verdicts.uncounted);
	assert_int_equal(round.verdicts.endpoint_count, 2);
	assert_int_equal(round.verdicts.endpoints[0].slot, 0);
	assert_true(round.verdicts.endpoints[0].moved);
	assert_int_equal(round.verdicts.endpoints[0].from, 2);
	assert_false(round.verdicts.endpoints[1].moved);
	round_done(&round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_planned_from_memory_lead_to_the_whole),
		cmocka_unit_test(test_part_says_which_counters_it_does_not_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
