/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Sets of descriptors: how environment blocks and files are read, and who wins
 * a port. What a set has come to is compared as text, one line a descriptor:
 * "VARIABLE state reason".
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/model/descriptor.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static const struct origin nowhere = {0};

static void add(struct descriptor_set *set, const struct origin *origin, const char *variable,
		const char *value)
{
	assert_int_equal(
		descriptor_set_add(set, origin, variable, strlen(variable), value, strlen(value)),
		0);
}

static void assert_set(const struct descriptor_set *set, const char *expected)
{
	CLEANUP(text_done) struct text text = {0};

	for (size_t i = 0; i < set->count; i++) {
		const struct descriptor *item = set->items[i];

		text_printf(&text, "%s %s", item->variable, descriptor_state_name(item->state));
		if (item->service)
			text_printf(&text, " %s;%u", item->service, (unsigned)item->listen.port);
		if (item->reason[0])
			text_printf(&text, " %s", item->reason);
		text_puts(&text, "\n");
	}
	text_add(&text, "", 0);
	assert_string_equal(text.data, expected);
}

static void test_set_add_of_odd_names_is_invalid_unless_ignored(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena};
	char name[300];

	(void)state;
	memset(name, 'A', sizeof(name));
	add(&set, &nowhere, "", "a;1");
	add(&set, &nowhere, "", "a");
	assert_int_equal(descriptor_set_add(&set, &nowhere, name, 255, "a;1", 3), 0);
	assert_int_equal(descriptor_set_add(&set, &nowhere, name, 256, "a;2", 3), 0);
	assert_int_equal(descriptor_set_add(&set, &nowhere, name, 300, "a", 1), 0);
	assert_int_equal(descriptor_set_add(&set, &nowhere, BYTES("X\0\x1b\xff"), "b;3", 3), 0);
	assert_int_equal(set.items[0]->state, DESCRIPTOR_INVALID);
	assert_string_equal(set.items[0]->reason, "the variable has no name");
	assert_int_equal(set.items[0]->column, 0);
	assert_null(set.items[0]->service);
	assert_int_equal(set.items[1]->state, DESCRIPTOR_IGNORED);
	assert_int_equal(set.items[2]->state, DESCRIPTOR_USED);
	assert_int_equal(set.items[3]->state, DESCRIPTOR_INVALID);
	assert_string_equal(set.items[3]->reason, "name of 256 bytes, at most 255");
	assert_int_equal(set.items[4]->state, DESCRIPTOR_IGNORED);
	assert_int_equal(set.items[5]->state, DESCRIPTOR_USED);
	assert_string_equal(set.items[5]->variable, "X\\x00\\x1b\\xff");
}

static void test_set_add_block_takes_what_carries_the_prefix(void **state)
{
	static const struct {
		const char *prefix, *block;
		size_t length;
		const char *expected;
	} cases[] = {
		{"BACKEND_", "", 0, ""},
		{"BACKEND_", BYTES("\0\0\0"), ""},
		{"BACKEND_", BYTES("HOME=/\0BACKEND_A=a;1\0BACKEN=b;2\0xBACKEND_C=c;3\0"),
		 "BACKEND_A used a;1\n"},
		{"BACKEND_", BYTES("BACKEND_A=a;1\0BACKEND_B=b;2"),
		 "BACKEND_A used a;1\nBACKEND_B used b;2\n"},
		{"BACKEND_", BYTES("BACKEND_A\0BACKEND_=a;1\0"),
		 "BACKEND_ invalid no name after the prefix\n"},
		{"BACKEND_", BYTES("BACKEND_=a\0"),
		 "BACKEND_ ignored no ';' in it: not a descriptor\n"},
		{"BACKEND_", BYTES("BACKEND_A=\0BACKEND_B==;1\0"),
		 "BACKEND_A ignored no ';' in it: not a descriptor\n"
		 "BACKEND_B invalid '=' is not a character of a service name (letters, digits, "
		 ". _ -)\n"},
		{"backend_", BYTES("BACKEND_A=a;1\0backend_b=b;2\0"), "backend_b used b;2\n"},
		{"", BYTES("A=a;1\0=b;2\0"), "A used a;1\n invalid no name after the prefix\n"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor_set set = {.arena = arena};
		CLEANUP(memory_free) char *block = malloc(cases[i].length + 1);

		/* Of just that size, so that a read behind it is seen. */
		block = realloc(block, cases[i].length ? cases[i].length : 1);
		memcpy(block, cases[i].block, cases[i].length);
		assert_int_equal(descriptor_set_add_block(&set, &nowhere, cases[i].prefix, block,
							  cases[i].length),
				 0);
		if (set.count)
			assert_set(&set, cases[i].expected);
		else
			assert_string_equal(cases[i].expected, "");
	}
}

static void test_set_add_file_reads_as_docker_does(void **state)
{
	static const struct {
		const char *file;
		size_t length;
		const char *expected;
	} cases[] = {
		{BYTES(""), ""},
		{BYTES("\n\n# BACKEND_A=a;1\n   \n\t# x\n"), ""},
		{BYTES("BACKEND_A=a;1\nHOME=/;1\n"), "BACKEND_A used a;1\n"},
		{BYTES("BACKEND_A=a;1\r\n\r\nBACKEND_B=b;2\r\n"),
		 "BACKEND_A used a;1\nBACKEND_B used b;2\n"},
		{BYTES("\xef\xbb\xbf"
		       "BACKEND_A=a;1"),
		 "BACKEND_A used a;1\n"},
		{BYTES("  BACKEND_A=a;1"), "BACKEND_A used a;1\n"},
		{BYTES("A=a;1\nB=b;2\n"), "BACKEND_A used a;1\nBACKEND_B used b;2\n"},
		{BYTES("A=a;1\nBACKEND_B=b;2\n"), "BACKEND_B used b;2\n"},
		/* One name with the prefix is enough, wherever and however it stands. */
		{BYTES("A=a;1\nBACKEND_NOT_SET"), ""},
		{BYTES("BACKEND_A = a;1\n"), "BACKEND_A  invalid a blank in the variable's name\n"},
		{BYTES("export BACKEND_A=a;1\n"),
		 "BACKEND_export BACKEND_A invalid a blank in the variable's name\n"},
		{BYTES("=a;1\n"), "BACKEND_ invalid no name after the prefix\n"},
		{BYTES("BACKEND_=a;1\n"), "BACKEND_ invalid no name after the prefix\n"},
		{BYTES("BACKEND_A=\"a;1\"\n"),
		 "BACKEND_A invalid the value stands in quotes: write it without \"\n"},
		{BYTES("BACKEND_A=a;1 # x\n"), "BACKEND_A invalid a blank inside the port\n"},
		{BYTES("BACKEND_A=a;1\0\n"), "BACKEND_A invalid a NUL byte in the value\n"},
		{BYTES("BACKEND_SET\nBACKEND_NOT_SET\n"), "BACKEND_SET used set;7\n"},
		{BYTES("SET\nB=b;1\n"), "BACKEND_SET used set;7\nBACKEND_B used b;1\n"},
		{BYTES("BACKEND_SET\0\n"), ""},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_int_equal(setenv("BACKEND_SET", "set;7", 1), 0);
	assert_int_equal(unsetenv("BACKEND_NOT_SET"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor_set set = {.arena = arena};
		CLEANUP(memory_free) char *file = malloc(cases[i].length ? cases[i].length : 1);

		memcpy(file, cases[i].file, cases[i].length);
		assert_int_equal(
			descriptor_set_add_file(&set, &nowhere, "BACKEND_", file, cases[i].length),
			0);
		if (set.count)
			assert_set(&set, cases[i].expected);
		else
			assert_string_equal(cases[i].expected, "");
	}
}

static void test_settle_by_created_then_id_then_name(void **state)
{
	static const struct origin first = {.id = "ffff", .name = "first", .created = 1},
				   second = {.id = "aaaa", .name = "second", .created = 2},
				   third = {.id = "bbbb", .name = "third", .created = 2};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena};

	(void)state;
	add(&set, &third, "BACKEND_A", "c;1");
	add(&set, &third, "BACKEND_Z", "z;4");
	add(&set, &second, "BACKEND_B", "b;1");
	add(&set, &second, "BACKEND_B2", "b;2");
	add(&set, &second, "BACKEND_A2", "a;2");
	add(&set, &first, "BACKEND_C", "a;1");
	add(&set, &first, "BACKEND_D", "a;1/udp");
	descriptor_set_settle(&set);
	assert_set(&set, "BACKEND_C used a;1\n"
			 "BACKEND_D used a;1\n"
			 "BACKEND_A2 used a;2\n"
			 "BACKEND_B conflict b;1 port 1/tcp is taken by BACKEND_C (container "
			 "first)\n"
			 "BACKEND_B2 conflict b;2 port 2/tcp is taken by BACKEND_A2 (container "
			 "second)\n"
			 "BACKEND_A conflict c;1 port 1/tcp is taken by BACKEND_C (container "
			 "first)\n"
			 "BACKEND_Z used z;4\n");
}

static void test_settle_of_the_same_service_and_tags_merges(void **state)
{
	static const struct {
		const char *root, *first, *second;
		bool merges;
	} cases[] = {
		{NULL, "a;1", "a;1/tcp", true},
		{NULL, "a[x,y];1", " a[y,x,x] ;1", true},
		{NULL, "a[x];1", "a;1", false},
		{NULL, "a;1", "b;1", false},
		{"/services", "/r/a/;1", "/r/a;1", true},
		{"/services", "/services/a;1", "a;1", true},
		{"/services", "a;1", "/services/a;1", true},
		{"/services", "a;1", "/servicesa;1", false},
		{"/services", "a;1", "/services.a;1", false},
		{"/services", "a;1", "/services/x/a;1", false},
		{"/services", "a;1", "/services/ab;1", false},
		{"", "a;1", "/a;1", true},
		{"/", "a;1", "/a;1", true},
		{"", "a;1", "/x/a;1", false},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor_set set = {.arena = arena, .root = cases[i].root};

		add(&set, &nowhere, "BACKEND_A", cases[i].first);
		add(&set, &nowhere, "BACKEND_B", cases[i].second);
		descriptor_set_settle(&set);
		assert_int_equal(set.items[0]->state, DESCRIPTOR_USED);
		assert_int_equal(set.items[1]->state,
				 cases[i].merges ? DESCRIPTOR_MERGED : DESCRIPTOR_CONFLICT);
		assert_string_equal(set.items[1]->reason,
				    cases[i].merges ? "" : "port 1/tcp is taken by BACKEND_A");
	}
}

static void test_settle_conflict_names_the_winner_printably(void **state)
{
	static const struct {
		struct origin origin;
		const char *reason;
	} cases[] = {
		{{.id = NULL}, "port 9/udp is taken by BACKEND_A"},
		{{.id = "0123456789abcdef"},
		 "port 9/udp is taken by BACKEND_A (container 0123456789ab)"},
		{{.id = "0123",
		  .name = "we\x1b"
			  "b"},
		 "port 9/udp is taken by BACKEND_A (container we\\x1bb)"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor_set set = {.arena = arena};

		add(&set, &cases[i].origin, "BACKEND_A", "a;9/udp");
		add(&set, &cases[i].origin, "BACKEND_B", "b;9/udp");
		descriptor_set_settle(&set);
		assert_string_equal(set.items[1]->reason, cases[i].reason);
	}
}

static void test_settle_of_a_name_that_stands_twice_takes_the_first(void **state)
{
	static const struct {
		const char *block;
		size_t length;
		const char *expected;
	} cases[] = {
		{BYTES("BACKEND_A=a;1\0BACKEND_A=b;2\0"),
		 "BACKEND_A used a;1\nBACKEND_A conflict b;2 stands twice: the first counts\n"},
		{BYTES("BACKEND_A=b;1\0BACKEND_A=a;1\0"),
		 "BACKEND_A used b;1\nBACKEND_A conflict a;1 stands twice: the first counts\n"},
		{BYTES("BACKEND_A=a;1\0BACKEND_A= a ;1/tcp\0"),
		 "BACKEND_A used a;1\nBACKEND_A merged a;1\n"},
		{BYTES("BACKEND_A=a;1\0BACKEND_A=b;1\0BACKEND_A=a;1\0"),
		 "BACKEND_A used a;1\nBACKEND_A conflict b;1 stands twice: the first counts\n"
		 "BACKEND_A merged a;1\n"},
		/* What is out does not take a port from anybody. */
		{BYTES("BACKEND_A=a;1\0BACKEND_A=b;2\0BACKEND_B=c;2\0"),
		 "BACKEND_A used a;1\nBACKEND_A conflict b;2 stands twice: the first counts\n"
		 "BACKEND_B used c;2\n"},
		{BYTES("BACKEND_A=url\0BACKEND_A=a;1\0"),
		 "BACKEND_A ignored no ';' in it: not a descriptor\n"
		 "BACKEND_A conflict a;1 stands twice: the first counts\n"},
		{BYTES("BACKEND_A=a;x\0BACKEND_A=a;1\0BACKEND_A=;\0"),
		 "BACKEND_A invalid 'x' is not a digit of a port\n"
		 "BACKEND_A conflict a;1 stands twice: the first counts\n"
		 "BACKEND_A invalid no service before ';'\n"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor_set set = {.arena = arena};

		assert_int_equal(descriptor_set_add_block(&set, &nowhere, "BACKEND_",
							  cases[i].block, cases[i].length),
				 0);
		descriptor_set_settle(&set);
		assert_set(&set, cases[i].expected);
	}
}

static void test_settle_of_one_name_in_two_containers_is_no_repetition(void **state)
{
	static const struct origin first = {.id = "a", .created = 1},
				   second = {.id = "b", .created = 1};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena};

	(void)state;
	add(&set, &second, "BACKEND_A", "b;2");
	add(&set, &first, "BACKEND_A", "a;1");
	descriptor_set_settle(&set);
	assert_set(&set, "BACKEND_A used a;1\nBACKEND_A used b;2\n");
}

static void test_settle_again_after_more_was_added_is_as_at_once(void **state)
{
	static const struct origin old = {.id = "x", .created = 1},
				   newer = {.id = "y", .created = 2};
	static const char expected[] =
		"BACKEND_A used a;1\n"
		"BACKEND_B merged a;1\n"
		"BACKEND_A conflict b;1 port 1/tcp is taken by BACKEND_A (container x)\n"
		"BACKEND_A conflict b;2 stands twice: the first counts\n"
		"BACKEND_C used b;2\n";
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena};

	(void)state;
	add(&set, &newer, "BACKEND_A", "b;1");
	add(&set, &newer, "BACKEND_A", "b;2");
	add(&set, &newer, "BACKEND_C", "b;2");
	descriptor_set_settle(&set);
	assert_set(&set, "BACKEND_A used b;1\n"
			 "BACKEND_A conflict b;2 stands twice: the first counts\n"
			 "BACKEND_C used b;2\n");
	add(&set, &old, "BACKEND_B", "a;1");
	add(&set, &old, "BACKEND_A", "a;1");
	descriptor_set_settle(&set);
	assert_set(&set, expected);
	descriptor_set_settle(&set);
	assert_set(&set, expected);
}

static void test_settle_of_an_empty_set_is_empty(void **state)
{
	struct descriptor_set set = {0};

	(void)state;
	descriptor_set_settle(&set);
	assert_int_equal(set.count, 0);
}

/* Which descriptors of a set are used, and by which port, in a fixed notation. */
static void winners(const struct descriptor_set *set, struct text *ret)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct descriptor *item = set->items[i];

		text_printf(ret, "%s/%s/%s/%s\n", item->origin.id, item->variable,
			    descriptor_state_name(item->state), item->reason);
	}
	text_add(ret, "", 0);
}

static void test_settle_in_any_order_of_adding_gives_the_same(void **state)
{
	static const struct origin origins[] = {
		{.id = "c", .created = 5}, {.id = "a", .created = 7}, {.id = "b", .created = 7}};
	unsigned seed = 3;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(text_done) struct text first = {0};
	size_t order[30];

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		order[i] = i;
	for (int round = 0; round < 200; round++) {
		struct descriptor_set set = {.arena = arena};
		CLEANUP(text_done) struct text text = {0};

		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			char variable[16], value[16];

			(void)snprintf(variable, sizeof(variable), "BACKEND_%zu", order[i]);
			(void)snprintf(value, sizeof(value), "s%zu;%zu", order[i] % 4,
				       order[i] % 7 + 1);
			add(&set, &origins[order[i] % 3], variable, value);
		}
		descriptor_set_settle(&set);
		winners(&set, &text);
		if (round == 0)
			text_puts(&first, text.data);
		assert_string_equal(text.data, first.data);
		for (size_t i = ARRAY_SIZE(order) - 1; i > 0; i--) {
			size_t other = (size_t)rand() % (i + 1), kept = order[i];

			order[i] = order[other];
			order[other] = kept;
		}
	}
}

static void test_settle_of_many_is_quick(void **state)
{
	enum { MANY = 100000 };
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena};
	size_t used = 0, conflicts = 0;
	clock_t start;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		char variable[32], value[32];

		(void)snprintf(variable, sizeof(variable), "BACKEND_%d", i % (MANY / 2));
		(void)snprintf(value, sizeof(value), "s%d;%d", i, i % 100 + 1);
		add(&set, &nowhere, variable, value);
	}
	start = clock();
	descriptor_set_settle(&set);
	/* A loop over all pairs would take minutes. */
	assert_true(clock() - start < 10 * CLOCKS_PER_SEC);
	for (size_t i = 0; i < set.count; i++) {
		used += set.items[i]->state == DESCRIPTOR_USED;
		conflicts += set.items[i]->state == DESCRIPTOR_CONFLICT;
	}
	assert_int_equal(used, 100);
	assert_int_equal(conflicts, MANY - 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_add_of_odd_names_is_invalid_unless_ignored),
		cmocka_unit_test(test_set_add_block_takes_what_carries_the_prefix),
		cmocka_unit_test(test_set_add_file_reads_as_docker_does),
		cmocka_unit_test(test_settle_by_created_then_id_then_name),
		cmocka_unit_test(test_settle_of_the_same_service_and_tags_merges),
		cmocka_unit_test(test_settle_conflict_names_the_winner_printably),
		cmocka_unit_test(test_settle_of_a_name_that_stands_twice_takes_the_first),
		cmocka_unit_test(test_settle_of_one_name_in_two_containers_is_no_repetition),
		cmocka_unit_test(test_settle_again_after_more_was_added_is_as_at_once),
		cmocka_unit_test(test_settle_of_an_empty_set_is_empty),
		cmocka_unit_test(test_settle_in_any_order_of_adding_gives_the_same),
		cmocka_unit_test(test_settle_of_many_is_quick),
	};

	return cmocka_run_group_tests_name("descriptor_set", tests, NULL, NULL);
}
