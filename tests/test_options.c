/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The command line: what becomes of each option, where a value comes from
 * that was not given, and the words that a wrong one is refused with. The help
 * is held against the table: whatever it shows is taken, and it fits a
 * terminal.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/help.h"
#include "../src/cmd/options.h"
#include "../src/cmd/suggest.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

static const struct command reconcile = {
	.name = "reconcile",
	.bit = COMMAND_RECONCILE,
	.has_target = true,
	.summary = "summary",
	.description = "A description that is long enough to be broken into two lines, as any "
		       "description in a real help will be.",
	.examples = "example",
	.status = "0  done",
};
static const struct command flush = {
	.name = "flush",
	.bit = COMMAND_FLUSH,
	.has_target = true,
	.description = "",
	.examples = "",
	.status = "",
};
static const struct command resolve = {
	.name = "resolve",
	.bit = COMMAND_RESOLVE,
	.argument = "DESCRIPTOR",
	.description = "",
	.examples = "",
	.status = "",
};

enum { WORDS_MAX = 12 };

static const struct command run = {
	.name = "run",
	.bit = COMMAND_RUN,
	.has_targets = true,
};

static int parse(const struct command *command, char *const *words, struct options *ret,
		 struct error *error)
{
	int count = 0;

	while (words[count])
		count++;
	*error = (struct error){0};
	return options_parse(ret, command, count, (char **)words, error);
}

#define WORDS(...) ((char *[WORDS_MAX]){__VA_ARGS__, NULL})

static void clear_environment(void)
{
	size_t count;
	const struct option *table = options_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (table[i].variable)
			assert_int_equal(unsetenv(table[i].variable), 0);
	}
}

static int setup(void **state)
{
	(void)state;
	clear_environment();
	return 0;
}

static void test_options_without_any_given_are_the_defaults(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&reconcile, WORDS("--netns", "web"), &options, &error), 0);
	assert_string_equal(options.netns, "web");
	assert_int_equal(options.pid, 0);
	assert_string_equal(options.env_prefix, "BACKEND_");
	assert_string_equal(options.registry, "etcd://127.0.0.1:2379");
	assert_string_equal(options.root, "/services");
	assert_null(options.tls_ca);
	assert_null(options.registry_user);
	assert_int_equal(options.admission.count, 0);
	assert_int_equal(options.balance, BALANCE_RANDOM);
	assert_false(options.hold_when_empty);
	assert_false(options.allow_host_netns);
	assert_false(options.force);
	assert_false(options.json);
	assert_int_equal(options.timeout, UINT64_C(10000000000));
	assert_int_equal(options.log_level, LOG_INFO);
}

static void test_options_given_in_every_way_are_taken(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&reconcile,
			       WORDS("--json", "--pid=17", "-bA=a;1", "-b", "B=b;2",
				     "--backend=C=", "--root=/x/y/", "--on-empty=hold", "--balance",
				     "nth", "--log-level=debug"),
			       &options, &error),
			 0);
	assert_true(options.json);
	assert_int_equal(options.pid, 17);
	assert_int_equal(options.backend_count, 3);
	assert_int_equal(options.backends[0].name_length, 1);
	assert_memory_equal(options.backends[0].name, "A", 1);
	assert_string_equal(options.backends[0].value, "a;1");
	assert_string_equal(options.backends[1].value, "b;2");
	assert_string_equal(options.backends[2].value, "");
	assert_string_equal(options.root, "/x/y");
	assert_true(options.hold_when_empty);
	assert_int_equal(options.balance, BALANCE_NTH);
	assert_int_equal(options.log_level, LOG_DEBUG);
}

static void test_options_of_a_consul_are_taken_and_leave_no_root(void **state)
{
	CLEANUP(options_done) struct options options, wrong;
	struct error error;

	(void)state;
	assert_int_equal(
		parse(&run,
		      WORDS("--registry=consul://h", "--root=/x", "--consul-datacenter", "east",
			    "--consul-namespace=team", "--consul-stale", "--consul-connections=7"),
		      &options, &error),
		0);
	assert_null(options.root);
	assert_string_equal(options.consul_datacenter, "east");
	assert_string_equal(options.consul_namespace, "team");
	assert_true(options.consul_stale);
	assert_int_equal(options.consul_connections, 7);
	assert_int_equal(parse(&run, WORDS("--consul-connections=0"), &wrong, &error), -EINVAL);
	assert_string_equal(error.message,
			    "--consul-connections: '0' is not a number from 1 to 4096");
}

static void test_options_of_addresses_given_twice_are_both_admitted(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&resolve,
			       WORDS("--allow-endpoints=10.0.0.0/8", "a;1",
				     "--allow-endpoints=fd00::/8,127.0.0.1"),
			       &options, &error),
			 0);
	assert_int_equal(options.admission.count, 3);
}

static void test_options_argument_stands_before_after_and_behind_dashes(void **state)
{
	char *const *const cases[] = {
		WORDS("a;1", "--json"),
		WORDS("--json", "a;1"),
		WORDS("--json", "--", "a;1"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(options_done) struct options options;
		struct error error;

		assert_int_equal(parse(&resolve, cases[i], &options, &error), 0);
		assert_string_equal(options.argument, "a;1");
		assert_true(options.json);
	}
}

static void test_options_behind_dashes_are_arguments(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&resolve, WORDS("--", "--json"), &options, &error), 0);
	assert_string_equal(options.argument, "--json");
	assert_false(options.json);
}

static void test_options_timeout_in_parts_of_a_second_is_exact(void **state)
{
	static const struct {
		char *text;
		uint64_t nanoseconds;
	} cases[] = {
		{"1", UINT64_C(1000000000)},         {"0.25", UINT64_C(250000000)},
		{"0.001", UINT64_C(1000000)},        {"2.000000001", UINT64_C(2000000001)},
		{"86400", UINT64_C(86400000000000)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(options_done) struct options options;
		struct error error;

		assert_int_equal(parse(&flush, WORDS("--netns=x", "--timeout", cases[i].text),
				       &options, &error),
				 0);
		assert_true(options.timeout == cases[i].nanoseconds);
	}
}

static void test_options_from_the_environment_are_beaten_by_flags(void **state)
{
	CLEANUP(options_done) struct options from_environment;
	CLEANUP(options_done) struct options from_flags;
	struct error error;

	(void)state;
	assert_int_equal(setenv("DRAGOMAN_REGISTRY", "file:///env.json", 1), 0);
	assert_int_equal(setenv("DRAGOMAN_BALANCE", "nth", 1), 0);
	assert_int_equal(setenv("DRAGOMAN_ROOT", "", 1), 0);
	assert_int_equal(parse(&reconcile, WORDS("--netns=x"), &from_environment, &error), 0);
	assert_string_equal(from_environment.registry, "file:///env.json");
	assert_int_equal(from_environment.balance, BALANCE_NTH);
	assert_string_equal(from_environment.root, "/services");
	assert_int_equal(setenv("DRAGOMAN_BALANCE", "wrong", 1), 0);
	assert_int_equal(
		parse(&reconcile,
		      WORDS("--netns=x", "--registry=file:///flag.json", "--balance=random"),
		      &from_flags, &error),
		0);
	assert_string_equal(from_flags.registry, "file:///flag.json");
	assert_int_equal(from_flags.balance, BALANCE_RANDOM);
}

static void test_options_of_several_targets_belong_to_the_one_before_them(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&run,
			       WORDS("-bA=x;1", "--netns=a", "-bB=y;2", "--pid=7", "--netns=b"),
			       &options, &error),
			 0);
	assert_int_equal(options.target_count, 3);
	assert_string_equal(options.targets[0].netns, "a");
	assert_int_equal(options.targets[0].backend_first, 1);
	assert_int_equal(options.targets[1].pid, 7);
	assert_int_equal(options.targets[1].backend_first, 2);
	assert_string_equal(options.targets[2].netns, "b");
	assert_int_equal(options.targets[2].backend_first, 2);
	assert_false(options_given(&options, "docker"));
	assert_true(options_given(&options, "pid"));
}

static void test_options_wrong_in_the_environment_are_refused_by_variable(void **state)
{
	CLEANUP(options_done) struct options options;
	CLEANUP(options_done) struct options untouched;
	struct error error;

	(void)state;
	assert_int_equal(setenv("DRAGOMAN_ON_EMPTY", "often", 1), 0);
	assert_int_equal(parse(&reconcile, WORDS("--netns=x"), &options, &error), -EINVAL);
	assert_string_equal(error.message, "DRAGOMAN_ON_EMPTY: 'often' is neither reject nor hold");
	/* flush has no such option: the variable is none of its business. */
	assert_int_equal(parse(&flush, WORDS("--netns=x"), &untouched, &error), 0);
}

static const struct {
	const struct command *command;
	char *words[WORDS_MAX];
	const char *message;
} refusals[] = {
	{&reconcile, {"--netsn=x"}, "unknown option --netsn, did you mean --netns?"},
	{&reconcile, {"--time=3"}, "unknown option --time, did you mean --timeout?"},
	{&reconcile, {"--nonsense"}, "unknown option --nonsense"},
	{&reconcile, {"--a\x1b[1m"}, "unknown option --a\\x1b[1m"},
	{&reconcile, {"-x"}, "unknown option '-x'"},
	{&flush, {"--regist=x"}, "unknown option --regist"},
	{&flush, {"--registry=x"}, "flush does not take --registry"},
	{&reconcile, {"--container="}, "--container needs a value: NAME|ID"},
	{&reconcile, {"--container=a", "--container=b"}, "--container: given twice"},
	{&reconcile, {"--netns"}, "--netns needs a value: NAME|PATH"},
	{&reconcile, {"--netns="}, "--netns needs a value: NAME|PATH"},
	{&reconcile, {"--netns", ""}, "--netns needs a value: NAME|PATH"},
	{&reconcile, {"--json=yes"}, "--json takes no value"},
	{&reconcile, {"-hx"}, "--help takes no value"},
	{&reconcile, {"web"}, "unexpected argument 'web'"},
	{&reconcile, {"-"}, "unexpected argument '-'"},
	{&reconcile, {"--json"}, "no target: one of --netns, --pid and --container is needed"},
	{&reconcile, {"--netns=a", "--pid=1"}, "--netns, --pid, --container: one target is enough"},
	{&flush, {"--container=a", "--pid=1"}, "--netns, --pid, --container: one target is enough"},
	{&reconcile, {"--netns=a", "--netns=b"}, "--netns: given twice"},
	{&reconcile, {"--pid=1", "--pid=1"}, "--pid: given twice"},
	{&reconcile, {"--pid=0"}, "--pid: '0' is not a process ID"},
	{&reconcile, {"--pid=-1"}, "--pid: '-1' is not a process ID"},
	{&reconcile, {"--pid=2147483648"}, "--pid: '2147483648' is not a process ID"},
	{&reconcile, {"-b", "A"}, "--backend: 'A' has no '=': NAME=DESCRIPTOR is wanted"},
	{&reconcile, {"-b=a;1"}, "--backend: '=a;1' has no name before the '='"},
	{&reconcile,
	 {"--env-prefix=A="},
	 "--env-prefix: 'A=' cannot begin the name of a "
	 "variable"},
	{&reconcile,
	 {"--env-prefix=A B"},
	 "--env-prefix: 'A B' cannot begin the name of a "
	 "variable"},
	{&reconcile,
	 {"--registry=garbage"},
	 "--registry: registry URL: no scheme (as in etcd://127.0.0.1:2379)"},
	{&reconcile, {"--balance=rr"}, "--balance: 'rr' is neither random nor nth"},
	{&reconcile,
	 {"--log-level=loud"},
	 "--log-level: 'loud' is none of error, warn, "
	 "info, debug"},
	{&reconcile,
	 {"--allow-endpoints=10.0.0.0/8,x"},
	 "--allow-endpoints: '10.0.0.0/8,x': column 12: neither an address nor a CIDR "
	 "prefix"},
	{&reconcile,
	 {"--timeout=0"},
	 "--timeout: '0' is not a number of seconds from "
	 "0.001 to 86400"},
	{&reconcile,
	 {"--timeout=86401"},
	 "--timeout: '86401' is not a number of seconds "
	 "from 0.001 to 86400"},
	{&reconcile,
	 {"--timeout=1."},
	 "--timeout: '1.' is not a number of seconds from "
	 "0.001 to 86400"},
	{&reconcile,
	 {"--timeout=0.0009"},
	 "--timeout: '0.0009' is not a number of seconds from "
	 "0.001 to 86400"},
	{&reconcile,
	 {"--timeout=86400.5"},
	 "--timeout: '86400.5' is not a number of seconds from "
	 "0.001 to 86400"},
	{&resolve, {"--json"}, "no DESCRIPTOR was given"},
	{&resolve, {"a;1", "b;2"}, "one argument is enough, what is 'b;2'"},
	{&resolve, {"--netns=x"}, "resolve does not take --netns"},
};

static void test_options_that_are_wrong_are_refused_in_words(void **state)
{

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		CLEANUP(options_done) struct options options;
		struct error error;

		assert_int_equal(parse(refusals[i].command, refusals[i].words, &options, &error),
				 -EINVAL);
		assert_string_equal(error.message, refusals[i].message);
		assert_int_equal(error.class, ERROR_INVALID);
	}
}

static void test_options_root_that_is_no_path_is_refused_with_a_reason(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&resolve, WORDS("--root=a//b", "x;1"), &options, &error), -EINVAL);
	assert_memory_equal(error.message, "--root: 'a//b': ", 16);
	assert_true(strlen(error.message) > 16);
}

static void test_options_help_beats_what_stands_behind_it(void **state)
{
	CLEANUP(options_done) struct options options;
	struct error error;

	(void)state;
	assert_int_equal(parse(&reconcile, WORDS("-h", "--nonsense"), &options, &error), 0);
	assert_true(options.help);
}

static void test_suggestion_of_a_misspelt_word_is_the_nearest(void **state)
{
	static const char *const words[] = {"reconcile", "plan", "resolve", "flush"};
	static const struct {
		const char *word, *expected;
	} cases[] = {
		{"reconcil", "reconcile"},
		{"reocncile", "reconcile"},
		{"rec", "reconcile"},
		{"resolv", "resolve"},
		{"pln", "plan"},
		{"flsuh", "flush"},
		{"run", NULL},
		{"", NULL},
		{"status", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct suggestion suggestion = {0};

		for (size_t n = 0; n < ARRAY_SIZE(words); n++)
			suggestion_offer(&suggestion, cases[i].word, strlen(cases[i].word),
					 words[n]);
		if (cases[i].expected)
			assert_string_equal(suggestion.best, cases[i].expected);
		else
			assert_null(suggestion.best);
	}
}

static void assert_fits(const char *text)
{
	while (*text) {
		size_t length = strcspn(text, "\n");

		assert_true(length <= 79);
		assert_true(length == 0 || text[length - 1] != ' ');
		text += length + 1;
	}
}

static void test_help_of_a_command_shows_its_options_and_no_others(void **state)
{
	static const struct command *const commands[] = {&reconcile, &flush, &resolve};
	size_t count;
	const struct option *table = options_table(&count);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		CLEANUP(text_done) struct text text = {0};

		help_command(&text, commands[i]);
		assert_false(text.failed);
		assert_fits(text.data);
		for (size_t n = 0; n < count; n++) {
			CLEANUP(text_done) struct text name = {0};

			text_printf(&name, "--%s%s%s\n", table[n].name,
				    table[n].argument ? " " : "",
				    table[n].argument ? table[n].argument : "");
			name.data[name.length - 1] = '\0';
			assert_int_equal(strstr(text.data, name.data) != NULL,
					 (table[n].commands & commands[i]->bit) != 0);
		}
	}
}

static void test_help_of_an_option_names_variable_and_default(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	help_command(&text, &reconcile);
	assert_non_null(strstr(
		text.data, "  --root PATH             The key below which bare service names are "
			   "looked up.\n"
			   "                          (DRAGOMAN_ROOT, default /services)\n"));
	assert_non_null(strstr(text.data, "(DRAGOMAN_TLS_CA)\n"));
	assert_non_null(strstr(text.data, "(default 10)\n"));
	assert_non_null(strstr(text.data, "  -b, --backend NAME=DESCRIPTOR\n"
					  "                          A descriptor"));
}

static void test_help_of_the_program_lists_its_commands(void **state)
{
	static const struct command *const commands[] = {&reconcile};
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	help_program(&text, commands, ARRAY_SIZE(commands));
	assert_fits(text.data);
	assert_non_null(strstr(text.data, "\n  reconcile   summary\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_without_any_given_are_the_defaults),
		cmocka_unit_test(test_options_given_in_every_way_are_taken),
		cmocka_unit_test(test_options_of_a_consul_are_taken_and_leave_no_root),
		cmocka_unit_test(test_options_of_addresses_given_twice_are_both_admitted),
		cmocka_unit_test(test_options_argument_stands_before_after_and_behind_dashes),
		cmocka_unit_test(test_options_behind_dashes_are_arguments),
		cmocka_unit_test(test_options_timeout_in_parts_of_a_second_is_exact),
		cmocka_unit_test_setup(test_options_from_the_environment_are_beaten_by_flags,
				       setup),
		cmocka_unit_test_setup(
			test_options_of_several_targets_belong_to_the_one_before_them, setup),
		cmocka_unit_test_setup(
			test_options_wrong_in_the_environment_are_refused_by_variable, setup),
		cmocka_unit_test_setup(test_options_that_are_wrong_are_refused_in_words, setup),
		cmocka_unit_test(test_options_root_that_is_no_path_is_refused_with_a_reason),
		cmocka_unit_test(test_options_help_beats_what_stands_behind_it),
		cmocka_unit_test(test_suggestion_of_a_misspelt_word_is_the_nearest),
		cmocka_unit_test(test_help_of_a_command_shows_its_options_and_no_others),
		cmocka_unit_test(test_help_of_an_option_names_variable_and_default),
		cmocka_unit_test(test_help_of_the_program_lists_its_commands),
	};

	return cmocka_run_group_tests_name("options", tests, setup, NULL);
}
