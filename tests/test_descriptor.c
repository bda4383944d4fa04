/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The grammar of descriptors as tables: what is accepted, and with what
 * meaning; what is ignored; what is refused, with the column and the words.
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
#include "dragoman/model/descriptor.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static struct descriptor parsed(struct arena *arena, const char *value, size_t length)
{
	struct descriptor descriptor = {.column = 99, .reason = "left over", .order = 3};

	assert_int_equal(descriptor_parse(arena, value, length, false, &descriptor), 0);
	assert_int_equal(descriptor.order, 3);
	return descriptor;
}

static const char *joined(struct arena *arena, const struct tags *tags)
{
	const char *text = "";

	for (size_t i = 0; i < tags->count; i++)
		text = arena_printf(arena, "%s%s%s", text, i ? "," : "", tags->names[i]);
	return text;
}

static void test_descriptor_well_formed_is_used(void **state)
{
	static const struct {
		const char *value, *service, *tags;
		uint16_t port;
		enum protocol protocol;
	} cases[] = {
		{"redis.master[prod,stats];6379/tcp", "redis.master", "prod,stats", 6379,
		 PROTOCOL_TCP},
		{"/services/prod/redis.master[prod,stats];6379/tcp", "/services/prod/redis.master",
		 "prod,stats", 6379, PROTOCOL_TCP},
		{"/services/prod/db/slaves;3306", "/services/prod/db/slaves", "", 3306,
		 PROTOCOL_TCP},
		{"redis_cache;6379", "redis_cache", "", 6379, PROTOCOL_TCP},
		{"/services/prod/app1/80[prod,app1];80", "/services/prod/app1/80", "app1,prod", 80,
		 PROTOCOL_TCP},
		{"dns;53/UDP", "dns", "", 53, PROTOCOL_UDP},
		{"dns;53/uDp", "dns", "", 53, PROTOCOL_UDP},
		{"a;1", "a", "", 1, PROTOCOL_TCP},
		{"a;65535", "a", "", 65535, PROTOCOL_TCP},
		{"a;00080", "a", "", 80, PROTOCOL_TCP},
		{"A-Z_0.9;1", "A-Z_0.9", "", 1, PROTOCOL_TCP},
		{"...;1", "...", "", 1, PROTOCOL_TCP},
		{".a;1", ".a", "", 1, PROTOCOL_TCP},
		{"/..a/b..;1", "/..a/b..", "", 1, PROTOCOL_TCP},
		{"/a/;1", "/a", "", 1, PROTOCOL_TCP},
		{"/a/b/ ;1", "/a/b", "", 1, PROTOCOL_TCP},
		{" \tredis\t [ prod ,\tstats ]\t ; 6379 / tcp ", "redis", "prod,stats", 6379,
		 PROTOCOL_TCP},
		{"redis[];1", "redis", "", 1, PROTOCOL_TCP},
		{"redis[ \t];1", "redis", "", 1, PROTOCOL_TCP},
		{"redis[b,a,b,a];1", "redis", "a,b", 1, PROTOCOL_TCP},
		{"redis[two words,a/b=c:d\\e'\"];1", "redis", "a/b=c:d\\e'\",two words", 1,
		 PROTOCOL_TCP},
		{"redis[gr\xc3\xbc\xc3\x9f"
		 "e,\xf0\x9f\x90\xab];1",
		 "redis",
		 "gr\xc3\xbc\xc3\x9f"
		 "e,\xf0\x9f\x90\xab",
		 1, PROTOCOL_TCP},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor got = parsed(arena, cases[i].value, strlen(cases[i].value));

		assert_string_equal(got.reason, "");
		assert_int_equal(got.state, DESCRIPTOR_USED);
		assert_int_equal(got.column, 0);
		assert_string_equal(got.service, cases[i].service);
		assert_string_equal(joined(arena, &got.tags), cases[i].tags);
		assert_int_equal(got.listen.port, cases[i].port);
		assert_int_equal(got.listen.protocol, cases[i].protocol);
	}
}

static void test_descriptor_without_semicolon_is_ignored(void **state)
{
	static const struct {
		const char *value;
		size_t length;
	} cases[] = {
		{BYTES("")},           {BYTES("https://example.org")},
		{BYTES("redis:6379")}, {BYTES("a\0b\x1b\xff")},
		{BYTES("\"quoted\"")},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor got = parsed(arena, cases[i].value, cases[i].length);

		assert_int_equal(got.state, DESCRIPTOR_IGNORED);
		assert_int_equal(got.column, 0);
		assert_string_equal(got.reason, "no ';' in it: not a descriptor");
		assert_null(got.service);
	}
}

#define NOT_NAME "is not a character of a service name (letters, digits, . _ -)"
#define NOT_PATH "is not a character of a key path (letters, digits, . _ - /)"

static const struct {
	const char *value;
	size_t length;
	size_t column;
	const char *reason;
} broken[] = {
	/* The service. */
	{BYTES(";6379"), 1, "no service before ';'"},
	{BYTES("  ;6379"), 3, "no service before ';'"},
	{BYTES("[prod];6379"), 1, "no service before '['"},
	{BYTES(" [prod];6379"), 2, "no service before '['"},
	{BYTES("mysql.master.%p;3306"), 14, "'%' " NOT_NAME},
	{BYTES("https://x;80"), 6, "':' " NOT_NAME},
	{BYTES("gr\xc3\xbcn;80"), 3, "'\xc3\xbc' " NOT_NAME},
	{BYTES("a\\b;80"), 2, "'\\\\' " NOT_NAME},
	{BYTES("/a/%p;80"), 4, "'%' " NOT_PATH},
	{BYTES("redis master;80"), 6, "a blank inside the service"},
	{BYTES("/a /b;80"), 3, "a blank inside the service"},
	{BYTES("a\tb;80"), 2, "a blank inside the service"},
	{BYTES("services/redis;80"), 9, "'/' in a bare name: a key path starts with '/'"},
	{BYTES("redis/;80"), 6, "'/' in a bare name: a key path starts with '/'"},
	{BYTES(".;80"), 1, "'.' is not a service name"},
	{BYTES(" ..;80"), 2, "'..' is not a service name"},
	{BYTES("/;80"), 1, "'/' alone is no service"},
	{BYTES(" / ;80"), 2, "'/' alone is no service"},
	{BYTES("//;80"), 2, "empty segment in the key path"},
	{BYTES("/a//b;80"), 4, "empty segment in the key path"},
	{BYTES("/a//;80"), 4, "empty segment in the key path"},
	{BYTES("//a;80"), 2, "empty segment in the key path"},
	{BYTES("/./a;80"), 2, "segment '.' in the key path"},
	{BYTES("/a/.;80"), 4, "segment '.' in the key path"},
	{BYTES("/a/../b;80"), 4, "segment '..' in the key path"},
	{BYTES("/a/../;80"), 4, "segment '..' in the key path"},
	/* The tags. */
	{BYTES("redis[prod;80"), 6, "'[' without ']'"},
	{BYTES("redis[;80"), 6, "'[' without ']'"},
	{BYTES("redis];80"), 6, "']' without '['"},
	{BYTES("redis]a[;80"), 6, "']' without '['"},
	{BYTES("redis[,];80"), 7, "empty tag"},
	{BYTES("redis[a,];80"), 9, "empty tag"},
	{BYTES("redis[a, ,b];80"), 10, "empty tag"},
	{BYTES("redis[,a];80"), 7, "empty tag"},
	{BYTES("redis[a[b];80"), 8, "'[' is not a character of a tag"},
	{BYTES("redis[a\tb];80"), 8, "a tab is not a character of a tag"},
	{BYTES("redis[a]b;80"), 9, "'b' after ']', where only ';' may stand"},
	{BYTES("redis[a][b];80"), 9, "'[' after ']', where only ';' may stand"},
	{BYTES("redis[a] \xc3\xbc;80"), 10, "'\xc3\xbc' after ']', where only ';' may stand"},
	/* The port and the protocol. */
	{BYTES("redis;"), 6, "no port after ';'"},
	{BYTES("redis;  "), 6, "no port after ';'"},
	{BYTES("redis;/tcp"), 7, "no port before '/'"},
	{BYTES("redis; /tcp"), 8, "no port before '/'"},
	{BYTES("redis;0"), 7, "port 0 is not 1..65535"},
	{BYTES("redis;00000"), 7, "port 00000 is not 1..65535"},
	{BYTES("redis; 65536"), 8, "port 65536 is not 1..65535"},
	{BYTES("redis;70000/udp"), 7, "port 70000 is not 1..65535"},
	{BYTES("redis;000080"), 7, "port 000080 is not 1..65535"},
	{BYTES("redis;99999999999999999999999999"), 7,
	 "port 99999999999999999999999999 is not 1..65535"},
	{BYTES("redis;-1"), 7, "'-' is not a digit of a port"},
	{BYTES("redis;http"), 7, "'h' is not a digit of a port"},
	{BYTES("redis;80x"), 9, "'x' is not a digit of a port"},
	{BYTES("redis;8 0"), 8, "a blank inside the port"},
	{BYTES("redis;\xd9\xa1"), 7, "'\xd9\xa1' is not a digit of a port"}, /* an Arabic one */
	{BYTES("redis;80/"), 9, "no protocol after '/'"},
	{BYTES("redis;80/ "), 9, "no protocol after '/'"},
	{BYTES("redis;80/sctp"), 10, "'sctp' is not tcp or udp"},
	{BYTES("redis;80/ tcp6"), 11, "'tcp6' is not tcp or udp"},
	{BYTES("redis;80/tcp/udp"), 10, "'tcp/udp' is not tcp or udp"},
	{BYTES("redis;80;81"), 9, "a second ';'"},
	{BYTES("redis[a;b];81"), 11, "a second ';'"},
	{BYTES(";;"), 2, "a second ';'"},
	/* The text. */
	{BYTES("a\0b;80"), 2, "a NUL byte in the value"},
	{BYTES("a;80\0"), 5, "a NUL byte in the value"},
	{BYTES("\x1b[31m;80"), 1, "control character \\x1b"},
	{BYTES("a;80\n"), 5, "control character \\x0a"},
	{BYTES("a[\x7f];80"), 3, "control character \\x7f"},
	{BYTES("a[\xc2\x85];80"), 3, "control character \\x85"},
	{BYTES("a[\xff];80"), 3, "byte \\xff is not UTF-8"},
	{BYTES("a[\xc3];80"), 3, "byte \\xc3 is not UTF-8"},
	{BYTES("a[\xff\x01];80"), 3, "byte \\xff is not UTF-8"},
	{BYTES("a;80\xed\xa0\x80"), 5, "byte \\xed is not UTF-8"},
	/* Quotes that a file or a shell left standing. */
	{BYTES("\"redis;6379\""), 1, "the value stands in quotes: write it without \""},
	{BYTES(" 'redis;6379' "), 2, "the value stands in quotes: write it without '"},
	{BYTES("\"redis;6379"), 1, "'\"' " NOT_NAME},
	{BYTES("\"redis;6379'"), 1, "'\"' " NOT_NAME},
};

static void test_descriptor_broken_is_invalid_with_column_and_reason(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct descriptor got = parsed(arena, broken[i].value, broken[i].length);

		assert_string_equal(got.reason, broken[i].reason);
		assert_int_equal(got.column, broken[i].column);
		assert_int_equal(got.state, DESCRIPTOR_INVALID);
		assert_null(got.service);
		assert_int_equal(got.tags.count, 0);
		assert_int_equal(got.listen.port, 0);
	}
}

static void test_descriptor_too_long_is_invalid_or_ignored(void **state)
{
	static const struct {
		size_t length;
		bool semicolon;
		enum descriptor_state state;
		const char *reason;
	} cases[] = {
		{4096, true, DESCRIPTOR_USED, ""},
		{4097, true, DESCRIPTOR_INVALID, "value of 4097 bytes, at most 4096"},
		{1048576, true, DESCRIPTOR_INVALID, "value of 1048576 bytes, at most 4096"},
		{1048576, false, DESCRIPTOR_IGNORED, "no ';' in it: not a descriptor"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(memory_free) char *value = malloc(cases[i].length);
		struct descriptor got;

		assert_non_null(value);
		memset(value, '8', cases[i].length);
		if (cases[i].semicolon)
			value[cases[i].length - 2] = ';';
		got = parsed(arena, value, cases[i].length);
		assert_int_equal(got.state, cases[i].state);
		assert_string_equal(got.reason, cases[i].reason);
		assert_int_equal(got.column, 0);
	}
}

static void test_descriptor_reason_of_long_input_is_cut(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	char value[512] = "redis;80/";
	struct descriptor got;

	(void)state;
	memset(value + 9, 'x', 500);
	got = parsed(arena, value, 509);
	assert_int_equal(got.column, 10);
	assert_string_equal(got.reason, "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is not "
					"tcp or udp");
}

/* Whatever the bytes: a known state, a printable reason, a column in the value. */
static void test_descriptor_random_is_never_half_parsed(void **state)
{
	static const char alphabet[] = "ab./[],; \t0189\"%\x1b\xc3\xbc\xff";
	unsigned seed = 7;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	size_t used = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 50000; round++) {
		char value[12];
		size_t length = (size_t)rand() % sizeof(value);
		struct descriptor got;

		for (size_t i = 0; i < length; i++)
			value[i] = alphabet[(size_t)rand() % sizeof(alphabet)];
		got = parsed(arena, value, length);
		assert_true(text_is_utf8(got.reason, strlen(got.reason)));
		assert_true(got.column <= length);
		assert_int_equal(got.state == DESCRIPTOR_USED, got.service != NULL);
		assert_int_equal(got.state == DESCRIPTOR_USED, got.reason[0] == '\0');
		assert_int_equal(got.state == DESCRIPTOR_INVALID, got.column > 0);
		used += got.state == DESCRIPTOR_USED;
	}
	assert_true(used > 0);
}

static void test_descriptor_key_puts_bare_names_below_the_root(void **state)
{
	static const struct {
		const char *service, *root, *key;
	} cases[] = {
		{"redis.master", "/services", "/services/redis.master"},
		{"redis", "/a/b", "/a/b/redis"},
		{"redis", "/", "/redis"},
		{"redis", "", "/redis"},
		{"/x/redis", "/services", "/x/redis"},
		{"redis", NULL, "redis"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct descriptor descriptor = {
			.service = arena_text(arena, cases[i].service, strlen(cases[i].service))};

		assert_string_equal(descriptor_key(arena, &descriptor, cases[i].root),
				    cases[i].key);
	}
}

static void test_descriptor_of_a_key_path_is_invalid_where_there_are_only_names(void **state)
{
	static const char path[] = " /services/web[prod];80", name[] = "web[prod];80";
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor descriptor = {0};

	(void)state;
	assert_int_equal(descriptor_parse(arena, path, strlen(path), true, &descriptor), 0);
	assert_int_equal(descriptor.state, DESCRIPTOR_INVALID);
	assert_int_equal(descriptor.column, 2);
	assert_string_equal(descriptor.reason, "a key path, where the registry knows services by "
					       "name alone (Consul)");
	assert_int_equal(descriptor_parse(arena, name, strlen(name), true, &descriptor), 0);
	assert_int_equal(descriptor.state, DESCRIPTOR_USED);
	assert_string_equal(descriptor.service, "web");
}

static void test_key_path_parse_of_a_root_is_canonical(void **state)
{
	static const struct {
		const char *path, *expected;
	} cases[] = {
		{"/services", "/services"},
		{"/services/", "/services"},
		{"/a/b.c/d-e_f", "/a/b.c/d-e_f"},
		{"/", ""},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *reason;
		char *path;

		assert_int_equal(key_path_parse(arena, cases[i].path, &path, &reason), 0);
		assert_string_equal(path, cases[i].expected);
	}
}

static void test_key_path_parse_of_else_says_why(void **state)
{
	static const struct {
		const char *path, *reason;
	} cases[] = {
		{"", "a key path starts with '/'"},
		{"services", "a key path starts with '/'"},
		{"//", "empty segment in the key path"},
		{"/a//b", "empty segment in the key path"},
		{"/a/./b", "segment '.' in the key path"},
		{"/a/..", "segment '..' in the key path"},
		{"/a b", "a character that is not of a key path (letters, digits, . _ - /)"},
		{"/a\n", "a character that is not of a key path (letters, digits, . _ - /)"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	char longer[DESCRIPTOR_VALUE_MAX + 2];
	const char *reason;
	char *path = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(key_path_parse(arena, cases[i].path, &path, &reason), -EINVAL);
		assert_string_equal(reason, cases[i].reason);
		assert_null(path);
	}
	memset(longer, 'a', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(key_path_parse(arena, longer, &path, &reason), -EINVAL);
	assert_string_equal(reason, "longer than 4096 bytes");
}

static void test_tags_of_two_lists_compare_and_contain(void **state)
{
	char *both[] = {(char *)"b", (char *)"a", (char *)"b"}, *one[] = {(char *)"a"};
	struct tags left = {both, 3}, right = {one, 1}, none = {NULL, 0};

	(void)state;
	tags_settle(&left);
	tags_settle(&none);
	assert_int_equal(left.count, 2);
	assert_string_equal(left.names[0], "a");
	assert_string_equal(left.names[1], "b");
	assert_true(tags_contain(&left, "b"));
	assert_false(tags_contain(&left, "c"));
	assert_false(tags_contain(&none, "a"));
	assert_false(tags_equal(&left, &right));
	assert_true(tags_equal(&right, &right));
	left.count = 1;
	assert_true(tags_equal(&left, &right));
	assert_true(tags_equal(&none, &none));
}

static void test_descriptor_state_name_is_the_contract(void **state)
{
	(void)state;
	assert_string_equal(descriptor_state_name(DESCRIPTOR_USED), "used");
	assert_string_equal(descriptor_state_name(DESCRIPTOR_MERGED), "merged");
	assert_string_equal(descriptor_state_name(DESCRIPTOR_IGNORED), "ignored");
	assert_string_equal(descriptor_state_name(DESCRIPTOR_INVALID), "invalid");
	assert_string_equal(descriptor_state_name(DESCRIPTOR_CONFLICT), "conflict");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptor_well_formed_is_used),
		cmocka_unit_test(test_descriptor_without_semicolon_is_ignored),
		cmocka_unit_test(test_descriptor_broken_is_invalid_with_column_and_reason),
		cmocka_unit_test(test_descriptor_too_long_is_invalid_or_ignored),
		cmocka_unit_test(test_descriptor_reason_of_long_input_is_cut),
		cmocka_unit_test(test_descriptor_random_is_never_half_parsed),
		cmocka_unit_test(test_descriptor_key_puts_bare_names_below_the_root),
		cmocka_unit_test(
			test_descriptor_of_a_key_path_is_invalid_where_there_are_only_names),
		cmocka_unit_test(test_key_path_parse_of_a_root_is_canonical),
		cmocka_unit_test(test_key_path_parse_of_else_says_why),
		cmocka_unit_test(test_tags_of_two_lists_compare_and_contain),
		cmocka_unit_test(test_descriptor_state_name_is_the_contract),
	};

	return cmocka_run_group_tests_name("descriptor", tests, NULL, NULL);
}
