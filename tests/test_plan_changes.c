/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What a plan says to people, line by line; and what it does with things that
 * are not of one service: chains that go out of use, and route_localnet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "plan_round.h"

/* --- Chains that went out of use ----------------------------------------------- */

static bool has_chain(const struct model *model, const char *name)
{
	const struct chain chain = chain_parse(name);

	for (size_t i = 0; i < model->observed.chain_count; i++) {
		if (chain_equal(&model->observed.chains[i].chain, &chain))
			return true;
	}
	return false;
}

static void test_chain_out_of_use_leaves_with_a_later_transaction(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 3));
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 2));
	assert_true(has_chain(round.before, "balance4-3"));
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 2));
	assert_true(round_is_idle(&round.verdicts));
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 1));
	assert_false(has_chain(round.before, "balance4-3"));
	assert_true(has_chain(round.before, "balance4-2"));
	round_settle(&round, round_service(round.arena, BALANCE_NTH, 1));
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 1));
	assert_true(has_chain(round.before, "nth4-80-tcp"));
	round_settle(&round, round_service(round.arena, BALANCE_RANDOM, 2));
	assert_false(has_chain(round.before, "nth4-80-tcp"));
	round_done(&round);
}

static void test_nth_chain_is_refilled_only_when_slots_change(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	round_settle(&round, round_service(round.arena, BALANCE_NTH, 3));
	round.desired = round_service(round.arena, BALANCE_NTH, 3);
	round.desired.services[0].shares[FAMILY_IPV4][2].endpoint = model_endpoint(FAMILY_IPV4, 50);
	round_make(&round, 0);
	assert_int_equal(round.verdicts.chain_count, 0);
	assert_int_equal(round.verdicts.endpoint_count, 1);
	round.desired = round_service(round.arena, BALANCE_NTH, 4);
	round_make(&round, 0);
	assert_int_equal(round.verdicts.chain_count, 1);
	assert_int_equal(round.verdicts.chains[0].verdict, VERDICT_REPLACE);
	assert_int_equal(round.verdicts.chains[0].chain.slots, 4);
	round_done(&round);
}

/* --- Ports that nobody asks for ------------------------------------------------- */

/* Port 80 stands, of one balance; port 81 is asked for, with the other. */
static void check_that_another_port_stays(enum balance stands, enum balance asked, unsigned slots)
{
	struct round round;

	round_begin(&round, 1);
	round_settle(&round, round_service(round.arena, stands, slots));
	round.desired = round_service(round.arena, asked, 2);
	round.desired.services[0].listen.port = 81;
	round_make(&round, PLAN_ADD);
	for (size_t i = 0; i < round.verdicts.change_count; i++) {
		assert_int_equal(round.verdicts.changes[i].verdict, VERDICT_ADD);
		assert_true(round.verdicts.changes[i].is_object ||
			    round.verdicts.changes[i].listen.port == 81);
	}
	round_step(&round);
	assert_int_equal(round.before->observed.endpoint_count, slots + 2);
	round_make(&round, PLAN_ADD);
	assert_true(round_is_idle(&round.verdicts));
	/* What is wanted of all ports takes it away again. */
	round_make(&round, 0);
	assert_false(round_is_idle(&round.verdicts));
	round_done(&round);
}

static void test_port_that_nobody_asks_for_stays_where_others_are_added(void **state)
{
	(void)state;
	check_that_another_port_stays(BALANCE_RANDOM, BALANCE_RANDOM, 3);
	check_that_another_port_stays(BALANCE_NTH, BALANCE_RANDOM, 3);
	check_that_another_port_stays(BALANCE_RANDOM, BALANCE_NTH, 3);
	check_that_another_port_stays(BALANCE_RANDOM, BALANCE_RANDOM, 0);
}

/* --- route_localnet, as it was found ------------------------------------------- */

static void test_saved_localnet_is_what_was_found_before_us(void **state)
{
	static const struct {
		const char *what;
		bool table, foreign, routed;
		int saved, localnet;
		int remembered, put_back; /* put back by a flush; -1: left alone */
	} cases[] = {
		{"nobody was here, off", false, false, false, -1, 0, 0, -1},
		{"nobody was here, on", false, false, false, -1, 1, 1, -1},
		{"our table is gone, our routes tell", false, false, true, -1, 1, 0, 0},
		{"our table is gone, somebody remembers off", false, false, false, 0, 1, 0, 0},
		{"our table is gone, somebody remembers on", false, false, false, 1, 1, 1, -1},
		{"remembered on", true, true, false, 1, 1, 1, -1},
		{"remembered off", true, true, false, 0, 1, 0, 0},
		{"the comment is gone", true, true, true, -1, 1, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;
		struct observed *observed;

		print_message("%s\n", cases[i].what);
		round_begin(&round, 1);
		observed = &round.before->observed;
		observed->table = cases[i].table;
		observed->foreign = cases[i].foreign ? "for a test" : NULL;
		observed->saved_localnet = cases[i].saved;
		observed->localnet = cases[i].localnet;
		observed->ipv6 = true;
		observed->link_count = 1;
		observed->links[0] = (struct observed_link){
			.index = 2, .name = "eth0", .routed = cases[i].routed};
		round.desired = round_service(round.arena, BALANCE_RANDOM, 1);
		round_make(&round, 0);
		assert_true(round.verdicts.table_add);
		assert_int_equal(round.verdicts.saved_localnet, cases[i].remembered);
		assert_int_equal(plan_flush(round.arena, observed, &round.verdicts), 0);
		assert_int_equal(round.verdicts.localnet_set ? round.verdicts.localnet : -1,
				 cases[i].put_back);
		round_done(&round);
	}
}

/* --- Changes for people -------------------------------------------------------- */

static void add_change(struct text *text, const struct change *change)
{
	char name[ENDPOINT_TEXT_MAX];

	text_printf(text, "%s ", verdict_name(change->verdict));
	if (change->is_object) {
		text_printf(text, "%s\n", change->object);
		return;
	}
	text_puts(text, listen_format(&change->listen, change->family, name));
	if (change->has_endpoint)
		text_printf(text, " %s x%u", endpoint_format(&change->endpoint, name),
			    change->slots);
	else
		text_puts(text, " unavailable");
	if (change->has_was)
		text_printf(text, " was %s", endpoint_format(&change->was, name));
	text_puts(text, "\n");
}

static void assert_changes(const struct verdicts *verdicts, const char *wanted)
{
	CLEANUP(text_done) struct text text = {0};

	text_add(&text, "", 0);
	for (size_t i = 0; i < verdicts->change_count; i++)
		add_change(&text, &verdicts->changes[i]);
	assert_false(text.failed);
	assert_string_equal(text.data, wanted);
}

/* "1x3 2": endpoints by number, and their slots. */
static struct ruleset ruleset_of(struct arena *arena, const char *shares)
{
	struct ruleset ruleset = round_service(arena, BALANCE_RANDOM, 9);
	struct ruleset_service *service = &ruleset.services[0];
	size_t count = 0;

	for (const char *at = shares; *at; at += strcspn(at, " "), at += *at == ' ') {
		service->shares[FAMILY_IPV4][count++] = (struct share){
			.endpoint = {.port = 8000, .address = {10, 0, 0, (uint8_t)(at[0] - '0')}},
			.slots = at[1] == 'x' ? (unsigned)(at[2] - '0') : 1,
		};
	}
	service->share_count[FAMILY_IPV4] = count;
	return ruleset;
}

/* From one set of shares to another, in a namespace that is right otherwise. */
static void test_changes_of_shares_are_told_by_endpoint(void **state)
{
	static const struct {
		const char *from, *to, *changes;
	} cases[] = {
		{"1 2", "1 2", ""},
		{"1 2", "1 3", "replace 127.0.0.1:80/tcp 10.0.0.3:8000 x1 was 10.0.0.2:8000\n"},
		{"2 3", "1 3", "replace 127.0.0.1:80/tcp 10.0.0.1:8000 x1 was 10.0.0.2:8000\n"},
		{"1 2 3", "3",
		 "remove 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "remove 127.0.0.1:80/tcp 10.0.0.2:8000 x1\n"
		 "add chain balance4-1\n"},
		{"1 2", "1 2 3",
		 "add 127.0.0.1:80/tcp 10.0.0.3:8000 x1\n"
		 "add chain balance4-3\n"},
		{"1 2", "3 4 5",
		 "replace 127.0.0.1:80/tcp 10.0.0.3:8000 x1 was 10.0.0.1:8000\n"
		 "replace 127.0.0.1:80/tcp 10.0.0.4:8000 x1 was 10.0.0.2:8000\n"
		 "add 127.0.0.1:80/tcp 10.0.0.5:8000 x1\n"
		 "add chain balance4-3\n"},
		{"1x3 2", "1x2 2x2",
		 "replace 127.0.0.1:80/tcp 10.0.0.1:8000 x2 was 10.0.0.1:8000\n"
		 "replace 127.0.0.1:80/tcp 10.0.0.2:8000 x2 was 10.0.0.2:8000\n"},
		{"1 2", "",
		 "remove 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "remove 127.0.0.1:80/tcp 10.0.0.2:8000 x1\n"
		 "add 127.0.0.1:80/tcp unavailable\n"},
		{"", "1",
		 "remove 127.0.0.1:80/tcp unavailable\n"
		 "add 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "add chain balance4-1\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;

		print_message("%s -> %s\n", cases[i].from, cases[i].to);
		round_begin(&round, 1);
		round_settle(&round, ruleset_of(round.arena, cases[i].from));
		round.desired = ruleset_of(round.arena, cases[i].to);
		round_make(&round, 0);
		assert_changes(&round.verdicts, cases[i].changes);
		round_done(&round);
	}
}

static void test_changes_of_a_first_load_name_the_table_once(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	round.before->observed.ipv6 = true;
	round.before->observed.link_count = 1;
	round.before->observed.links[0] = (struct observed_link){.index = 2, .name = "eth0"};
	round.desired = ruleset_of(round.arena, "1");
	round_make(&round, 0);
	assert_changes(&round.verdicts, "add table inet dragoman\n"
					"add 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
					"add [::1]:80/tcp unavailable\n"
					"replace sysctl net.ipv4.conf.all.route_localnet = 1\n"
					"add route local ::1/128 dev eth0\n");
	round_step(&round);
	assert_int_equal(plan_flush(round.arena, &round.before->observed, &round.verdicts), 0);
	assert_changes(&round.verdicts, "remove route local ::1/128 dev eth0\n"
					"replace sysctl net.ipv4.conf.all.route_localnet = 0\n"
					"remove table inet dragoman\n");
	round_done(&round);
}

/* Spoils one thing of a settled namespace. */
static void spoil_chain(struct observed *observed)
{
	for (size_t i = 0; i < observed->chain_count; i++) {
		if (observed->chains[i].chain.kind == CHAIN_GUARD)
			observed->chains[i].intact = false;
	}
}

static void spoil_set(struct observed *observed)
{
	observed->has_set[SET_ENDPOINTS6] = false;
}

static void spoil_service(struct observed *observed)
{
	observed->service_count = 0;
}

static void spoil_slot(struct observed *observed)
{
	observed->endpoints[0].slot = 4000;
}

static void spoil_table(struct observed *observed)
{
	observed->foreign = "map services4: the key differs";
}

static void add_foreign_things(struct observed *observed)
{
	observed->chains[observed->chain_count++] = (struct observed_chain){
		.chain = {.kind = CHAIN_FOREIGN}, .name = "their\x1b[31m"};
	observed->foreign_sets[observed->foreign_set_count++] = (struct observed_set){
		.kind = SET_FOREIGN, .name = "block\nlist"};
	observed->strays[observed->stray_count++] = (struct observed_stray){.set = SET_UNAVAILABLE4,
									    .key_length = 12};
}

static void test_changes_of_repairs_name_the_object(void **state)
{
	static const struct {
		void (*spoil)(struct observed *observed);
		const char *changes;
	} cases[] = {
		{spoil_chain, "replace chain guard\n"},
		{spoil_set, "add set endpoints6\n"},
		{spoil_service, "replace elements of 127.0.0.1:80/tcp\n"},
		{spoil_slot, "replace elements of 127.0.0.1:80/tcp\n"},
		{spoil_table, "replace table inet dragoman (map services4: the key differs)\n"},
		{add_foreign_things, "remove set block\\x0alist\n"
				     "remove unknown element of unavailable4\n"
				     "remove chain their\\x1b[31m\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;

		round_begin(&round, 1);
		round_settle(&round, ruleset_of(round.arena, "1"));
		cases[i].spoil(&round.before->observed);
		round_make(&round, 0);
		assert_changes(&round.verdicts, cases[i].changes);
		round_done(&round);
	}
}

static void test_changes_of_a_table_taken_away_close_localhost(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct observed_link link = {.index = 2, .name = "eth0", .routed = true};
	const struct observed observed = {
		.saved_localnet = -1,
		.localnet = 1,
		.ipv6 = true,
		.links = &link,
		.link_count = 1,
	};
	const struct ruleset nothing = {0};
	struct verdicts verdicts;

	(void)state;
	assert_int_equal(plan_make(arena, &nothing, &observed, 0, &verdicts), 0);
	assert_changes(&verdicts, "remove route local ::1/128 dev eth0\n"
				  "replace sysctl net.ipv4.conf.all.route_localnet = 0\n");
	/* Where no route tells that we were here, the value is somebody else's. */
	link.routed = false;
	assert_int_equal(plan_make(arena, &nothing, &observed, 0, &verdicts), 0);
	assert_changes(&verdicts, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain_out_of_use_leaves_with_a_later_transaction),
		cmocka_unit_test(test_nth_chain_is_refilled_only_when_slots_change),
		cmocka_unit_test(test_port_that_nobody_asks_for_stays_where_others_are_added),
		cmocka_unit_test(test_saved_localnet_is_what_was_found_before_us),
		cmocka_unit_test(test_changes_of_shares_are_told_by_endpoint),
		cmocka_unit_test(test_changes_of_a_first_load_name_the_table_once),
		cmocka_unit_test(test_changes_of_repairs_name_the_object),
		cmocka_unit_test(test_changes_of_a_table_taken_away_close_localhost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
