/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/file.h"

static int decode(const char *data, struct document_list *list, struct error *error)
{
	*list = (struct document_list){.arena = arena_new()};
	assert_non_null(list->arena);
	return file_decode(data, strlen(data), list, error);
}

static void test_file_decode_of_values_keeps_strings_and_dumps_the_rest(void **state)
{
	struct document_list list;
	struct error error = {0};

	(void)state;
	assert_int_equal(decode("{\"/b/\": \"10.0.0.1:80\", \"/a\": { \"port\" : 5 },\n"
				"\"/c\": [1, 2], \"/d\": null, \"/e\": \"\\u0000\"}",
				&list, &error),
			 0);
	assert_int_equal(list.count, 5);
	assert_string_equal(list.items[0].key, "/a");
	assert_string_equal(list.items[0].value, "{\"port\":5.0}");
	assert_string_equal(list.items[1].key, "/b");
	assert_string_equal(list.items[1].value, "10.0.0.1:80");
	assert_string_equal(list.items[2].value, "[1.0,2.0]");
	assert_string_equal(list.items[3].value, "null");
	assert_int_equal(list.items[4].length, 1);
	document_list_done(&list);
}

static void test_file_decode_integer_too_big_spoils_nothing(void **state)
{
	struct document_list list = {0};
	struct error error = {0};

	(void)state;
	assert_int_equal(decode("{\"/a\": {\"id\": 1000000000000000000000000000000},"
				" \"/b\": \"10.0.0.1:80\"}",
				&list, &error),
			 0);
	assert_int_equal(list.count, 2);
	document_list_done(&list);
}

static const struct {
	const char *data, *message;
} wrong[] = {
	{"{\n  \"/a\": }", "not JSON: line 2, column 9: unexpected token near '}'"},
	{"[]", "no JSON object of key -> value"},
	{"{\"a\":1}", "key \"a\": it does not start with \"/\""},
	{"{\"\":1}", "key \"\": it does not start with \"/\""},
	{"{\"/\":1}", "key \"/\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/a//b\":1}", "key \"/a//b\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/a//\":1}", "key \"/a//\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/./b\":1}", "key \"/./b\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/a/../\":1}", "key \"/a/../\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/a\\n/..\":1}", "key \"/a\\x0a/..\": it has an empty, \".\" or \"..\" segment"},
	{"{\"/a\":1,\"/a/\":1}", "key \"/a\": it is there twice (a trailing slash means nothing)"},
};

static void test_file_decode_of_a_wrong_file_names_the_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct document_list list;
		struct error error = {0};

		assert_int_equal(decode(wrong[i].data, &list, &error), -EINVAL);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, wrong[i].message);
		document_list_done(&list);
	}
}

static void test_file_decode_accepts_dots_within_segments(void **state)
{
	struct document_list list;
	struct error error = {0};

	(void)state;
	assert_int_equal(decode("{\"/.a/..b/c./...\":\"\"}", &list, &error), 0);
	assert_string_equal(list.items[0].key, "/.a/..b/c./...");
	document_list_done(&list);
}

/* The keys of one service, joined by blanks. */
static const struct {
	const char *service, *keys;
} selections[] = {
	{"/s/app", "/s/app /s/app/1 /s/app/x/2"},
	{"/s/app-2", "/s/app-2"},
	{"/s/app2", "/s/app2/1"},
	{"/s/ap", ""},
	{"/s/app/x", "/s/app/x/2"},
	{"/zz", ""},
	{"/0", ""},
	{"/s", "/s/app /s/app-2 /s/app.x/1 /s/app/1 /s/app/x/2 /s/app0 /s/app2/1"},
};

static void test_file_select_matches_at_segment_borders_only(void **state)
{
	struct document_list all;
	struct error error = {0};

	(void)state;
	assert_int_equal(decode("{\"/s/app\":\"\",\"/s/app/1\":\"\",\"/s/app/x/2\":\"\","
				"\"/s/app2/1\":\"\",\"/s/app-2\":\"\",\"/s/app.x/1\":\"\","
				"\"/s/app0\":\"\"}",
				&all, &error),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(selections); i++) {
		CLEANUP(text_done) struct text keys = {0};
		struct document_list list = {.arena = arena_new()};

		assert_int_equal(file_select(&all, selections[i].service, &list), 0);
		for (size_t n = 0; n < list.count; n++)
			text_printf(&keys, "%s%s", n ? " " : "", list.items[n].key);
		assert_string_equal(keys.data ? keys.data : "", selections[i].keys);
		document_list_done(&list);
	}
	document_list_done(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_decode_of_values_keeps_strings_and_dumps_the_rest),
		cmocka_unit_test(test_file_decode_integer_too_big_spoils_nothing),
		cmocka_unit_test(test_file_decode_of_a_wrong_file_names_the_place),
		cmocka_unit_test(test_file_decode_accepts_dots_within_segments),
		cmocka_unit_test(test_file_select_matches_at_segment_borders_only),
	};

	return cmocka_run_group_tests_name("registry_file", tests, NULL, NULL);
}
