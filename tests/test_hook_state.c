/* SPDX-License-Identifier: MIT */
/* What a container runtime tells a hook: the state, and the bundle's config.json. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/hook_state.h"

static void test_hook_state_is_taken_whole(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const char *text = "{\"ociVersion\": \"1.0.2\", \"id\": \"c1\", \"status\": \"creating\", "
			   "\"pid\": 4711, \"bundle\": \"/b\", \"annotations\": {\"a\": \"b\"}}";
	struct hook_state found;
	struct error error;

	(void)state;
	assert_int_equal(hook_parse_state(arena, text, strlen(text), &found, &error), 0);
	assert_string_equal(found.id, "c1");
	assert_string_equal(found.bundle, "/b");
	assert_int_equal(found.pid, 4711);
	assert_false(found.disabled);
}

static const struct {
	const char *text, *message;
} wrong[] = {
	{"", "no state on standard input: a container runtime is to run this"},
	{"\"a\"", "the state on standard input is no JSON: '[' or '{' expected near '\"a\"'"},
	{"[1]", "the state on standard input is no JSON object"},
	{"{\"id\": 1}", "the state has no \"id\""},
	{"{\"id\": \"a\"}", "the state has no \"bundle\" that is a path"},
	{"{\"id\": \"a\", \"bundle\": \"b\"}", "the state has no \"bundle\" that is a path"},
	{"{\"id\": \"a\", \"bundle\": \"/b\", \"pid\": 0}",
	 "the state has no \"pid\": this is a hook for the stage createRuntime"},
	{"{\"id\": \"a\", \"bundle\": \"/b\", \"pid\": -1}",
	 "the state has no \"pid\": this is a hook for the stage createRuntime"},
	{"{\"id\": \"a\", \"bundle\": \"/b\", \"pid\": 4294967297}",
	 "the state has no \"pid\": this is a hook for the stage createRuntime"},
};

static void test_hook_state_that_is_wrong_is_refused_with_a_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct hook_state found;
		struct error error;

		assert_int_equal(hook_parse_state(arena, wrong[i].text, strlen(wrong[i].text),
						  &found, &error),
				 -EBADMSG);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, wrong[i].message);
	}
}

static const struct {
	const char *text;
	const char *environment; /* with a line's end for each NUL */
	int code;
	bool disabled;
} configs[] = {
	{"{\"process\": {\"env\": [\"A=1\", \"B=\"]}}", "A=1\nB=\n", 0, false},
	{"{\"process\": {}}", "", 0, false},
	{"{}", "", 0, false},
	{"{\"annotations\": {\"dragoman.enable\": \"False\"}}", "", 0, true},
	{"{\"annotations\": {\"dragoman.enable\": \"true\"}}", "", 0, false},
	{"{\"annotations\": {\"dragoman.enable\": false}}", "", 0, false},
	{"{\"process\": {\"env\": [\"A=1\", 2]}}", NULL, -EBADMSG, false},
	{"{\"process\": {\"env\": [\"A=\\u0000\"]}}", NULL, -EBADMSG, false},
	{"{", NULL, -EBADMSG, false},
};

static void test_hook_config_gives_the_environment_and_who_opts_out(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		CLEANUP(text_done) struct text environment = {0};
		struct hook_state found = {0};
		struct error error;

		assert_int_equal(hook_parse_config(configs[i].text, strlen(configs[i].text), &found,
						   &environment, &error),
				 configs[i].code);
		if (configs[i].code < 0)
			continue;
		for (size_t n = 0; n < environment.length; n++) {
			if (!environment.data[n])
				environment.data[n] = '\n';
		}
		assert_string_equal(environment.data ? environment.data : "",
				    configs[i].environment);
		assert_int_equal(found.disabled, configs[i].disabled);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hook_state_is_taken_whole),
		cmocka_unit_test(test_hook_state_that_is_wrong_is_refused_with_a_reason),
		cmocka_unit_test(test_hook_config_gives_the_environment_and_who_opts_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
