/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dragoman/plan/stale.h"
#include "plan_round.h"

/* Plans from one ruleset of a service to another, and gives what is stale then. */
struct fixture {
	struct round round;
	struct standing *standing;
	struct stale *stale;
	size_t count;
};

static void go(struct fixture *fixture, struct ruleset desired, bool reset)
{
	struct round *round = &fixture->round;

	round->desired = desired;
	round_make(round, 0);
	assert_int_equal(standing_take(fixture->standing, &round->before->observed), 0);
	assert_int_equal(standing_apply(fixture->standing, &round->verdicts), 0);
	assert_int_equal(stale_after(round->arena, &round->verdicts, reset, &fixture->stale,
				     &fixture->count),
			 0);
	round_step(round);
}

static struct ruleset service(struct fixture *fixture, enum protocol protocol, unsigned from,
			      unsigned slots)
{
	struct ruleset ruleset = round_service(fixture->round.arena, BALANCE_RANDOM, from + slots);

	ruleset.services[0].listen.protocol = protocol;
	ruleset.services[0].shares[FAMILY_IPV4] += from;
	ruleset.services[0].share_count[FAMILY_IPV4] = slots;
	return ruleset;
}

static int begin(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	round_begin(&fixture->round, 1);
	fixture->standing = standing_new();
	assert_non_null(fixture->standing);
	*state = fixture;
	return 0;
}

static int end(void **state)
{
	struct fixture *fixture = *state;

	standing_free(fixture->standing);
	round_done(&fixture->round);
	free(fixture);
	return 0;
}

static const struct ruleset nothing;

static void test_stale_is_what_endpoints_have_left(void **state)
{
	const struct {
		unsigned from, slots, next_from, next_slots;
		size_t udp, tcp_reset;
	} cases[] = {
		{0, 0, 0, 0, 0, 0}, /* nobody there, nobody comes */
		{0, 0, 0, 2, 1, 0}, /* the first: what was begun before leads nowhere */
		{0, 2, 0, 2, 0, 0}, /* as it was */
		{0, 2, 0, 3, 0, 0}, /* one more */
		{0, 3, 0, 2, 1, 1}, /* one less */
		{0, 2, 1, 2, 1, 1}, /* replaced */
		{0, 1, 0, 0, 1, 1}, /* the last */
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned tcp = 0; tcp < 2; tcp++) {
			enum protocol protocol = tcp ? PROTOCOL_TCP : PROTOCOL_UDP;

			print_message("case %zu, %s\n", i, protocol_name(protocol));
			go(fixture, nothing, true);
			go(fixture, service(fixture, protocol, cases[i].from, cases[i].slots),
			   false);
			go(fixture,
			   service(fixture, protocol, cases[i].next_from, cases[i].next_slots),
			   tcp);
			assert_int_equal(fixture->count, tcp ? cases[i].tcp_reset : cases[i].udp);
			if (fixture->count == 0)
				continue;
			assert_int_equal(fixture->stale[0].listen.port, 80);
			assert_int_equal(fixture->stale[0].listen.protocol, protocol);
			assert_int_equal(fixture->stale[0].family, FAMILY_IPV4);
		}
	}
}

static void test_stale_tcp_is_left_alone_unless_asked_for(void **state)
{
	struct fixture *fixture = *state;

	go(fixture, service(fixture, PROTOCOL_TCP, 0, 3), false);
	go(fixture, service(fixture, PROTOCOL_TCP, 1, 1), false);
	assert_int_equal(fixture->count, 0);
	go(fixture, nothing, false);
	assert_int_equal(fixture->count, 0);
}

static void test_stale_filters_spare_what_stands_and_what_is_drained(void **state)
{
	struct fixture *fixture = *state;
	struct ruleset desired = service(fixture, PROTOCOL_UDP, 0, 3);
	struct share *shares = desired.services[0].shares[FAMILY_IPV4];
	struct flow_filter *filters;
	size_t count;

	go(fixture, desired, false);
	desired.services[0].share_count[FAMILY_IPV4] = 1;
	desired.services[0].drained[FAMILY_IPV4] = &shares[2].endpoint;
	desired.services[0].drained_count[FAMILY_IPV4] = 1;
	go(fixture, desired, false);
	/* Two have left the rules, and one of them keeps its flows. */
	assert_int_equal(fixture->count, 2);
	assert_int_equal(stale_filters(fixture->round.arena, fixture->stale, 2, fixture->standing,
				       &desired, &filters, &count),
			 0);
	assert_int_equal(count, 1);
	assert_false(filters[0].others);
	assert_int_equal(filters[0].listen.port, 80);
	assert_int_equal(filters[0].count, 1);
	assert_int_equal(endpoint_compare(&filters[0].endpoints[0], &shares[1].endpoint), 0);
	/* With others, those that stand and are drained are the right ones. */
	fixture->stale[0].others = true;
	assert_int_equal(stale_filters(fixture->round.arena, fixture->stale, 1, fixture->standing,
				       &desired, &filters, &count),
			 0);
	assert_int_equal(filters[0].count, 2);
	assert_int_equal(endpoint_compare(&filters[0].endpoints[0], &shares[0].endpoint), 0);
	assert_int_equal(endpoint_compare(&filters[0].endpoints[1], &shares[2].endpoint), 0);
	/* Of a service that is gone, what it had. */
	go(fixture, nothing, false);
	assert_int_equal(fixture->count, 1);
	assert_int_equal(stale_filters(fixture->round.arena, fixture->stale, 1, fixture->standing,
				       NULL, &filters, &count),
			 0);
	assert_int_equal(count, 1);
	assert_int_equal(endpoint_compare(&filters[0].endpoints[0], &shares[0].endpoint), 0);
}

static void test_stale_filters_of_tcp_spare_what_listens_on_localhost(void **state)
{
	struct fixture *fixture = *state;
	struct ruleset desired = service(fixture, PROTOCOL_TCP, 0, 1);
	struct endpoint local = flow_untranslated(&desired.services[0].listen, FAMILY_IPV4);
	struct flow_filter *filters;
	size_t count;

	go(fixture, desired, true);
	assert_int_equal(stale_of_all(fixture->round.arena, &fixture->round.before->observed, true,
				      &fixture->stale, &fixture->count),
			 0);
	assert_int_equal(fixture->count, 1);
	assert_int_equal(stale_filters(fixture->round.arena, fixture->stale, 1, fixture->standing,
				       &desired, &filters, &count),
			 0);
	assert_int_equal(filters[0].count, 2);
	assert_int_equal(endpoint_compare(&filters[0].endpoints[1], &local), 0);
	assert_int_equal(stale_of_all(fixture->round.arena, &fixture->round.before->observed, false,
				      &fixture->stale, &fixture->count),
			 0);
	assert_int_equal(fixture->count, 0);
}

static void test_stale_settle_sorts_and_leaves_each_once(void **state)
{
	struct stale stale[] = {
		{.listen = {PROTOCOL_UDP, 90}, .family = FAMILY_IPV4, .due = 3},
		{.listen = {PROTOCOL_UDP, 53}, .family = FAMILY_IPV6},
		{.listen = {PROTOCOL_UDP, 90}, .family = FAMILY_IPV4, .due = 7},
		{.listen = {PROTOCOL_UDP, 53}, .family = FAMILY_IPV4},
		{.listen = {PROTOCOL_TCP, 53}, .family = FAMILY_IPV4},
		{.listen = {PROTOCOL_UDP, 53}, .family = FAMILY_IPV6},
	};

	(void)state;
	assert_int_equal(stale_settle(stale, ARRAY_SIZE(stale)), 4);
	assert_int_equal(stale[0].listen.protocol, PROTOCOL_TCP);
	assert_int_equal(stale[1].family, FAMILY_IPV4);
	assert_int_equal(stale[2].family, FAMILY_IPV6);
	assert_int_equal(stale[3].listen.port, 90);
	assert_int_equal(stale[3].due, 7);
	assert_int_equal(stale_settle(NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stale_is_what_endpoints_have_left, begin, end),
		cmocka_unit_test_setup_teardown(test_stale_tcp_is_left_alone_unless_asked_for,
						begin, end),
		cmocka_unit_test_setup_teardown(
			test_stale_filters_spare_what_stands_and_what_is_drained, begin, end),
		cmocka_unit_test_setup_teardown(
			test_stale_filters_of_tcp_spare_what_listens_on_localhost, begin, end),
		cmocka_unit_test(test_stale_settle_sorts_and_leaves_each_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
