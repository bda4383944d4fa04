/* SPDX-License-Identifier: MIT */
/* The settings of an agent: lines as a service manager reads them, and words of a value. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/settings.h"

static const struct {
	const char *file;
	const char *a; /* what A is there; NULL: it is not */
} files[] = {
	{"A=1", "1"},
	{"A=1\n", "1"},
	{"B=2\nA=1\nB=3\n", "1"},
	{"A=1\nA=2\n", "2"},
	{"A=\n", ""},
	{"", NULL},
	{"\n\n", NULL},
	{"#A=1\n;A=2\n  # A=3\n", NULL},
	{"  A = 1 2 \t\r\n", "1 2"},
	{"A='1 \"2\\' \n", "1 \"2\\"},
	{"A=\"1 '\\\"2\"\n", "1 '\"2"},
	{"A=\"1\"'2'3\n", "123"},
	{"A=' 1 '\n", " 1 "},
	{"A=\"1\n2\"\nB=3\n", "1\n2"},
	{"A=1 \\\n  2\nB=3\n", "1   2"},
	{"A=\\ 1\n", " 1"},
	{"A=1=2#3\n", "1=2#3"},
	{"A=1\\", "1"},
	{"AA=1\n", NULL},
};

static void test_settings_are_read_as_a_service_manager_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct settings settings;
		struct error error;
		const char *found;

		if (settings_parse(arena, files[i].file, strlen(files[i].file), &settings, &error) <
		    0)
			fail_msg("%s: %s", files[i].file, error.message);
		found = settings_value(&settings, "A");
		if (!found != !files[i].a || (found && strcmp(found, files[i].a) != 0))
			fail_msg("%s: '%s'", files[i].file, found ? found : "nothing");
	}
}

static const struct {
	const char *file, *message;
} wrong[] = {
	{"A\n", "line 1: no '=': NAME=VALUE is wanted"},
	{"B=1\n\nA", "line 3: no '=': NAME=VALUE is wanted"},
	{"B=\"1\n2\"\nA\n", "line 3: no '=': NAME=VALUE is wanted"},
	{" =1", "line 1: no name before the '='"},
	{"\nA='1\nB=2\n", "line 2: a quote has no other"},
};

static void test_settings_with_a_nul_are_refused(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	static const char file[] = "B=1\nA=\0";
	struct settings settings;
	struct error error;

	(void)state;
	assert_int_equal(settings_parse(arena, file, sizeof(file) - 1, &settings, &error), -EINVAL);
	assert_string_equal(error.message, "line 2: a NUL byte in it");
}

static void test_settings_that_are_wrong_are_named_with_their_line(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct settings settings;
		struct error error;

		assert_int_equal(settings_parse(arena, wrong[i].file, strlen(wrong[i].file),
						&settings, &error),
				 -EINVAL);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, wrong[i].message);
	}
}

enum { WORDS_MAX = 4 };

static const struct {
	const char *value;
	int code;
	const char *words[WORDS_MAX];
} lines[] = {
	{"", 0, {NULL}},
	{"  ", 0, {NULL}},
	{"a", 0, {"a"}},
	{" a\tb\nc ", 0, {"a", "b", "c"}},
	{"'a b' c", 0, {"a b", "c"}},
	{"a\\ b", 0, {"a b"}},
	{"'' a", 0, {"", "a"}},
	{"a 'b", -EINVAL, {NULL}},
};

static void test_settings_words_are_kept_together_by_quotes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		const char **words;
		size_t count, wanted = 0;

		assert_int_equal(settings_words(arena, lines[i].value, &words, &count),
				 lines[i].code);
		if (lines[i].code < 0)
			continue;
		while (wanted < WORDS_MAX && lines[i].words[wanted])
			wanted++;
		assert_int_equal(count, wanted);
		for (size_t n = 0; n < count; n++)
			assert_string_equal(words[n], lines[i].words[n]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings_are_read_as_a_service_manager_does),
		cmocka_unit_test(test_settings_with_a_nul_are_refused),
		cmocka_unit_test(test_settings_that_are_wrong_are_named_with_their_line),
		cmocka_unit_test(test_settings_words_are_kept_together_by_quotes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
