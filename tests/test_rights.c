/* SPDX-License-Identifier: MIT */
/* Which rights a command line asks for: a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/cmd/rights.h"
#include "dragoman/base/memory.h"

enum { WORDS_MAX = 8 };

static const struct {
	const struct command *command;
	const char *words[WORDS_MAX];
	unsigned wanted;
} cases[] = {
	{&command_run, {NULL}, PRIVILEGE_KERNEL},
	{&command_run, {"--netns", "web", "-b", "A=b;1"}, PRIVILEGE_KERNEL},
	{&command_run, {"--netns", "web", "--env-file", "f"}, PRIVILEGE_KERNEL},
	{&command_run, {"--pid", "1"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_run, {"--pid", "1", "-b", "A=b;1"}, PRIVILEGE_KERNEL},
	{&command_run, {"-b", "A=b;1", "--pid", "1"}, PRIVILEGE_KERNEL},
	{&command_run, {"--env-file", "f", "--pid", "1"}, PRIVILEGE_KERNEL},
	{&command_run,
	 {"--pid", "1", "--pid", "2", "-b", "A=b;1"},
	 PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_run,
	 {"--pid", "1", "-b", "A=b;1", "--pid", "2"},
	 PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_run, {"--tls-key", "f", "--registry-password-file", "f"}, PRIVILEGE_KERNEL},
	{&command_plan, {"--netns", "web"}, PRIVILEGE_KERNEL},
	{&command_plan, {"--netns", "/run/user/1/ns"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--netns", "web", "--env-file", "f"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--netns", "web", "--tls-ca", "f"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--netns", "web", "--tls-cert", "f"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--netns", "web", "--tls-key", "f"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan,
	 {"--netns", "web", "--registry", "file:///f"},
	 PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--pid", "1"}, PRIVILEGE_KERNEL | PRIVILEGE_READ},
	{&command_plan, {"--pid", "1", "-b", "A=b;1"}, PRIVILEGE_KERNEL},
	{&command_plan, {"--container", "web"}, PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_reconcile, {"--netns", "web"}, PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_reconcile, {"--netns", "web", "--force"}, PRIVILEGE_KERNEL},
	{&command_flush, {"--pid", "1"}, PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_flush, {"--pid", "1", "--force"}, PRIVILEGE_KERNEL},
	{&command_resolve, {"a;1"}, 0},
	{&command_resolve, {"a;1", "--registry-password-file", "f"}, PRIVILEGE_READ},
	{&command_status, {NULL}, PRIVILEGE_CONNECT},
	{&command_status, {"--container", "web", "--watch"}, PRIVILEGE_CONNECT},
	{&command_hook, {NULL}, PRIVILEGE_KERNEL | PRIVILEGE_READ | PRIVILEGE_CONNECT},
	{&command_explain, {"80"}, PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_explain, {"80", "--netns", "web"}, PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_explain,
	 {"80", "--pid", "1", "-b", "A=b;1"},
	 PRIVILEGE_KERNEL | PRIVILEGE_CONNECT},
	{&command_explain,
	 {"80", "--pid", "1"},
	 PRIVILEGE_KERNEL | PRIVILEGE_READ | PRIVILEGE_CONNECT},
};

static void test_rights_needed_follow_the_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(options_done) struct options options;
		struct error error;
		char *words[WORDS_MAX];
		int count = 0;
		unsigned found;

		for (; count < WORDS_MAX && cases[i].words[count]; count++)
			words[count] = (char *)(uintptr_t)cases[i].words[count];
		if (options_parse(&options, cases[i].command, count, words, &error) < 0)
			fail_msg("case %zu: %s", i, error.message);
		found = rights_needed(cases[i].command, &options);
		if (found != cases[i].wanted)
			fail_msg("case %zu: %#x, not %#x", i, found, cases[i].wanted);
	}
}

/* What the environment of the tests has must not decide; cmocka's own it keeps. */
static void forget_settings(void)
{
	for (char **each = environ; *each;) {
		char name[128];
		size_t length = strcspn(*each, "=");

		if (strncmp(*each, "DRAGOMAN_", 9) != 0 && strncmp(*each, "DOCKER_", 7) != 0) {
			each++;
			continue;
		}
		assert_true(length < sizeof(name));
		memcpy(name, *each, length);
		name[length] = '\0';
		/* What stood behind it moves to its place. */
		assert_int_equal(unsetenv(name), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights_needed_follow_the_options),
	};

	forget_settings();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
