/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Random rulesets one after the other, each in a table that nft(8) has damaged
 * in between, in ways that a person or another program might. What comes of it
 * is looked at twice: by our own reading, and by nft's listing. Seeds are
 * printed: `SEED=N ROUNDS=1` in the environment runs just that one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernel_damage.h"
#include "kernel_lab.h"
#include "plan_model.h"

static void damage(struct random *random, bool *ret_any)
{
	*ret_any = false;
	for (unsigned i = random_below(random, 4); i > 0; i--) {
		if (lab_try_run(kernel_damages[random_below(random, kernel_damage_count)]))
			*ret_any = true;
	}
}

static void test_any_sequence_of_states_and_damage_ends_as_desired(void **state)
{
	const char *wanted = getenv("ROUNDS");
	unsigned long first = random_first_seed(1);
	unsigned long rounds = wanted ? strtoul(wanted, NULL, 0) : 150;
	struct lab *lab = *state;

	print_message("seeds %lu and %lu more\n", first, rounds);
	for (unsigned long seed = first; seed < first + rounds; seed++) {
		struct random random = {.state = seed};
		struct ruleset desired = model_random_ruleset(lab->arena, &random);
		bool damaged;

		print_message("seed %lu\n", seed);
		lab_sync(lab, &desired);
		damage(&random, &damaged);
		if (random_once_in(&random, 2))
			desired = model_random_ruleset(lab->arena, &random);
		lab_sync(lab, &desired);
	}
}

/* Our table in nft's words, in an order that does not depend on the kernel's. */
static void list_table(struct text *ret)
{
	lab_run_text(
		"nft -s list table inet dragoman | sed '/counter visits/,/}/d' | tr ',' '\\n' |"
		" sed 's/elements = {//; s/[{}]//g; s/^[ \t]*//; s/[ \t]*$//' | grep . | sort",
		ret);
}

/* Each damage by itself is put right, and not only in our own eyes. */
static void test_each_damage_is_put_right(void **state)
{
	struct lab *lab = *state;
	size_t applied = 0;

	for (size_t i = 0; i < kernel_damage_count; i++) {
		CLEANUP(text_done) struct text before = {0};
		CLEANUP(text_done) struct text after = {0};
		struct ruleset desired = lab_service(lab, i % 2 ? FAMILY_IPV6 : FAMILY_IPV4, 2);

		desired.balance = i % 4 < 2 ? BALANCE_RANDOM : BALANCE_NTH;
		lab_flush(lab);
		lab_sync(lab, &desired);
		list_table(&before);
		if (!lab_try_run(kernel_damages[i]))
			continue;
		print_message("%s\n", kernel_damages[i]);
		applied++;
		lab_sync(lab, &desired);
		list_table(&after);
		assert_string_equal(after.data, before.data);
	}
	/* A list that nothing of applies would prove nothing. */
	assert_true(applied > kernel_damage_count * 2 / 3);
}

static void test_rebuild_is_one_transaction_that_the_kernel_takes(void **state)
{
	struct lab *lab = *state;
	struct random random = {.state = 4};

	for (unsigned i = 0; i < 20; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);
		uint32_t generation;

		lab_sync(lab, &desired);
		generation = lab->observed.generation;
		assert_int_equal(plan_make(lab->arena, &desired, &lab->observed, PLAN_REBUILD,
					   &lab->verdicts),
				 0);
		if (!lab->observed.table)
			continue;
		lab_commit(lab);
		lab_plan(lab, &desired);
		assert_true(lab_is_empty(&lab->verdicts));
		assert_int_equal(lab->observed.generation, generation + 1);
	}
}

static void test_flush_leaves_no_trace(void **state)
{
	CLEANUP(text_done) struct text before = {0};
	CLEANUP(text_done) struct text after = {0};
	/* Not the link's own, which come a moment after it. */
	static const char everything[] = "nft list ruleset; ip -6 route show table all ::1;"
					 " cat " LOCALNET;
	struct lab *lab = *state;
	struct random random = {.state = 9};

	lab_run_text(everything, &before);
	for (unsigned i = 0; i < 5; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		lab_sync(lab, &desired);
	}
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	assert_false(lab_is_empty(&lab->verdicts));
	lab_commit(lab);
	lab_run_text(everything, &after);
	assert_string_equal(after.data, before.data);
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	assert_true(lab_is_empty(&lab->verdicts));
}

static void test_route_localnet_that_was_on_stays_on(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 1);
	static const char *const values[] = {"1", "7", "-1"};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		char command[128];

		print_message("%s\n", values[i]);
		(void)snprintf(command, sizeof(command), "echo %s >" LOCALNET, values[i]);
		lab_run(command);
		lab_sync(lab, &desired);
		lab_flush(lab);
		(void)snprintf(command, sizeof(command), "grep -qx -e %s " LOCALNET, values[i]);
		lab_run(command);
	}
}

static void test_listing_loads_again_and_is_the_same(void **state)
{
	struct lab *lab = *state;

	for (unsigned seed = 1; seed <= 25; seed++) {
		struct random random = {.state = seed};
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		print_message("seed %u\n", seed);
		lab_sync(lab, &desired);
		if (!lab->observed.table)
			continue;
		lab_run("nft list table inet dragoman >/dev/shm/dragoman-test-$PPID.nft &&"
			" nft delete table inet dragoman &&"
			" nft -f /dev/shm/dragoman-test-$PPID.nft;"
			" s=$?; rm -f /dev/shm/dragoman-test-$PPID.nft; exit $s");
		lab_plan(lab, &desired);
		if (!lab_is_empty(&lab->verdicts)) {
			lab_tell_changes(&lab->verdicts);
			fail_msg("what was loaded again is another table");
		}
	}
}

static void test_foreign_tables_are_not_touched(void **state)
{
	CLEANUP(text_done) struct text before = {0};
	CLEANUP(text_done) struct text after = {0};
	struct lab *lab = *state;
	struct random random = {.state = 5};

	lab_run("nft 'table ip dragoman { map services4 { type mark : verdict; elements = { 1 : drop } };"
		" chain output { type nat hook output priority -100; meta mark vmap @services4; };"
		" chain balance4-2 { counter; }; };"
		" table ip nat { chain DOCKER_OUTPUT { ip daddr 127.0.0.11 tcp dport 53 dnat to"
		" 127.0.0.11:43671; }; };"
		" table inet dragoman2 { set unavailable4 { type ipv4_addr; }; };"
		" table netdev filter { }'");
	lab_run_text("nft list ruleset", &before);
	for (unsigned i = 0; i < 10; i++) {
		struct ruleset desired = model_random_ruleset(lab->arena, &random);

		lab_sync(lab, &desired);
	}
	lab_flush(lab);
	lab_run_text("nft list ruleset", &after);
	assert_string_equal(after.data, before.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_any_sequence_of_states_and_damage_ends_as_desired),
		lab_test(test_each_damage_is_put_right),
		lab_test(test_rebuild_is_one_transaction_that_the_kernel_takes),
		lab_test(test_flush_leaves_no_trace),
		lab_test(test_route_localnet_that_was_on_stays_on),
		lab_test(test_listing_loads_again_and_is_the_same),
		lab_test(test_foreign_tables_are_not_touched),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
