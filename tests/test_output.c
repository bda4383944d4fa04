/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Results, held against golden text and golden JSON: the lines and keys that
 * scripts rely on. Text from outside must never cost the document.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/cmd/output.h"
#include "dragoman/base/memory.h"

/* Releases of clang-format differ about these. */
/* clang-format off */
#define LISTEN(protocol_value, port_value)                         \
	{                                                          \
		.protocol = (protocol_value), .port = (port_value) \
	}
#define V4(a, b, c, d, port_value)                                                            \
	{                                                                                     \
		.family = FAMILY_IPV4, .port = (port_value), .address = {(a), (b), (c), (d)}, \
	}
/* clang-format on */

static const struct change changes[] = {
	{
		.verdict = VERDICT_ADD,
		.is_object = true,
		.object = "chain balance4-3",
	},
	{
		.verdict = VERDICT_ADD,
		.listen = LISTEN(PROTOCOL_TCP, 80),
		.has_endpoint = true,
		.endpoint = V4(10, 0, 0, 2, 49161),
		.slots = 1,
	},
	{
		.verdict = VERDICT_REPLACE,
		.listen = LISTEN(PROTOCOL_TCP, 6379),
		.has_endpoint = true,
		.endpoint = V4(10, 0, 0, 9, 49161),
		.has_was = true,
		.was = V4(10, 0, 0, 2, 49161),
		.slots = 3,
	},
	{
		.verdict = VERDICT_REMOVE,
		.listen = LISTEN(PROTOCOL_UDP, 53),
		.family = FAMILY_IPV6,
		.has_endpoint = true,
		.endpoint = {.family = FAMILY_IPV6,
			     .port = 53,
			     .address = {0x20, 0x01, 0x0d, 0xb8, [15] = 2}},
		.slots = 1,
	},
	{
		.verdict = VERDICT_ADD,
		.listen = LISTEN(PROTOCOL_UDP, 53),
		.family = FAMILY_IPV6,
	},
};

static const struct outcome outcome = {
	.target = "web",
	.done = " made",
	.still = "in sync",
	.netns = 4026532281,
	.valid = true,
	.changes = changes,
	.change_count = ARRAY_SIZE(changes),
};

static struct complaint complaints[] = {
	{.variable = "BACKEND_X", .message = "column 7: no \"port\""},
	{.variable = NULL, .message = "standard output: \xff"},
};
static const struct report two_complaints = {
	.complaints = complaints,
	.count = ARRAY_SIZE(complaints),
	.failed = true,
};
static const struct report no_complaints;

static void test_outcome_text_of_every_change_is_a_line(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	outcome_print_text(&text, &outcome, false);
	assert_string_equal(text.data,
			    "+ chain balance4-3\n"
			    "+ 127.0.0.1:80/tcp   -> 10.0.0.2:49161\n"
			    "~ 127.0.0.1:6379/tcp -> 10.0.0.9:49161 (was 10.0.0.2:49161, 3 slots)\n"
			    "- [::1]:53/udp       -> [2001:db8::2]:53\n"
			    "+ [::1]:53/udp       unavailable\n"
			    "web: 5 changes made\n");
}

static void test_outcome_text_in_colour_is_the_same_between_escapes(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct outcome one = outcome;

	(void)state;
	one.change_count = 1;
	one.done = "";
	outcome_print_text(&text, &one, true);
	assert_string_equal(text.data, "\033[32m+ chain balance4-3\033[0m\nweb: 1 change\n");
}

static void test_outcome_text_without_changes_says_so(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct outcome none = outcome;

	(void)state;
	none.change_count = 0;
	outcome_print_text(&text, &none, false);
	assert_string_equal(text.data, "web: in sync\n");
}

static void test_outcome_text_of_a_failure_is_empty(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct outcome failed = {.target = "web"};

	(void)state;
	outcome_print_text(&text, &failed, false);
	assert_int_equal(text.length, 0);
	assert_false(text.failed);
}

static void assert_json(const struct text *text, const char *expected)
{
	json_t *actual = json_loads(text->data, 0, NULL), *wanted = json_loads(expected, 0, NULL);

	assert_non_null(wanted);
	assert_non_null(actual);
	if (!json_equal(actual, wanted))
		fail_msg("not as expected: %s", text->data);
	json_decref(actual);
	json_decref(wanted);
}

static void test_outcome_json_has_the_promised_keys(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	outcome_print_json(&text, &outcome, &two_complaints);
	assert_false(text.failed);
	assert_json(&text,
		    "{\"netns\": 4026532281, \"in_sync\": false, \"changes\": ["
		    "{\"verdict\": \"add\", \"object\": \"chain balance4-3\"},"
		    "{\"verdict\": \"add\", \"listen\": \"127.0.0.1:80/tcp\","
		    " \"endpoint\": \"10.0.0.2:49161\", \"slots\": 1},"
		    "{\"verdict\": \"replace\", \"listen\": \"127.0.0.1:6379/tcp\","
		    " \"endpoint\": \"10.0.0.9:49161\", \"was\": \"10.0.0.2:49161\", \"slots\": 3},"
		    "{\"verdict\": \"remove\", \"listen\": \"[::1]:53/udp\","
		    " \"endpoint\": \"[2001:db8::2]:53\", \"slots\": 1},"
		    "{\"verdict\": \"add\", \"listen\": \"[::1]:53/udp\", \"endpoint\": null}],"
		    "\"errors\": ["
		    "{\"variable\": \"BACKEND_X\", \"message\": \"column 7: no \\\"port\\\"\"},"
		    "{\"variable\": null, \"message\": \"standard output: \\\\xff\"}]}");
}

static void test_outcome_json_without_changes_is_in_sync(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct outcome none = outcome;

	(void)state;
	none.change_count = 0;
	outcome_print_json(&text, &none, &no_complaints);
	assert_json(&text, "{\"netns\": 4026532281, \"in_sync\": true, \"changes\": [],"
			   " \"errors\": []}");
}

static void test_outcome_json_of_a_failure_is_a_whole_document(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	struct outcome failed = {.target = "web"};

	(void)state;
	outcome_print_json(&text, &failed, &no_complaints);
	assert_json(&text, "{\"netns\": null, \"in_sync\": null, \"changes\": [], \"errors\": []}");
}

static char *tag_names[] = {"prod", "stats"};
static struct candidate candidates[] = {
	{
		.key = "/services/redis/a",
		.endpoint = V4(10, 0, 0, 2, 80),
		.weight = 1,
		.tags = {.names = tag_names, .count = 2},
	},
	{.key = "/services/redis/bb", .endpoint = V4(10, 0, 0, 20, 49161), .weight = 256},
};
static struct skipped skipped[] = {{.key = "/services/redis/c", .reason = "port 0"}};
static const struct selection selection = {
	.endpoints = candidates,
	.endpoint_count = ARRAY_SIZE(candidates),
	.skipped = skipped,
	.skipped_count = ARRAY_SIZE(skipped),
};
static const struct tags wanted_tags = {.names = tag_names, .count = 1};
static const struct listen listen_redis = LISTEN(PROTOCOL_TCP, 6379);
static const struct resolution resolution = {
	.service = "/services/redis",
	.tags = &wanted_tags,
	.listen = &listen_redis,
	.selection = &selection,
};

static void test_resolution_text_lists_endpoints_and_skipped_documents(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	resolution_print_text(&text, &resolution);
	assert_string_equal(text.data,
			    "10.0.0.2:80      weight 1    /services/redis/a  [prod,stats]\n"
			    "10.0.0.20:49161  weight 256  /services/redis/bb\n"
			    "skipped /services/redis/c: port 0\n"
			    "/services/redis [prod] for 6379/tcp: 2 endpoints, 1 skipped\n");
}

static void test_resolution_text_without_endpoints_says_why(void **state)
{
	static const struct selection none;
	struct resolution empty = resolution;
	CLEANUP(text_done) struct text text = {0}, hinted = {0};

	(void)state;
	empty.selection = &none;
	empty.lack = "the registry holds nothing there";
	resolution_print_text(&text, &empty);
	assert_string_equal(text.data,
			    "/services/redis [prod] for 6379/tcp: 0 endpoints, 0 skipped\n"
			    "no endpoint: the registry holds nothing there\n");
	empty.hint = "did you mean /services/rediss?";
	resolution_print_text(&hinted, &empty);
	assert_non_null(strstr(hinted.data,
			       "\nno endpoint: the registry holds nothing there; did you "
			       "mean /services/rediss?\n"));
}

static void test_resolution_json_has_the_promised_keys(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	resolution_print_json(&text, &resolution, &no_complaints);
	assert_json(&text,
		    "{\"service\": \"/services/redis\", \"tags\": [\"prod\"],"
		    " \"listen\": \"6379/tcp\", \"endpoints\": ["
		    "{\"key\": \"/services/redis/a\", \"address\": \"10.0.0.2\", \"port\": 80,"
		    " \"weight\": 1, \"tags\": [\"prod\", \"stats\"]},"
		    "{\"key\": \"/services/redis/bb\", \"address\": \"10.0.0.20\", \"port\": 49161,"
		    " \"weight\": 256, \"tags\": []}],"
		    " \"skipped\": [{\"key\": \"/services/redis/c\", \"reason\": \"port 0\"}],"
		    " \"reason\": null, \"hint\": null, \"errors\": []}");
}

static void test_resolution_json_of_a_failure_is_a_whole_document(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	const struct resolution failed = {0};

	(void)state;
	resolution_print_json(&text, &failed, &no_complaints);
	assert_json(&text, "{\"service\": null, \"tags\": [], \"listen\": null,"
			   " \"endpoints\": [], \"skipped\": [], \"reason\": null, "
			   "\"hint\": null, \"errors\": []}");
}

static void test_output_write_to_a_full_disk_fails_by_name(void **state)
{
	CLEANUP(text_done) struct text text = {0};
	CLEANUP(fd_close) int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct error error = {0};

	(void)state;
	assert_true(full >= 0);
	text_puts(&text, "x\n");
	assert_int_equal(output_write(full, &text, &error), -ENOSPC);
	assert_string_equal(error.message, "standard output: No space left on device");
}

static void test_output_write_without_memory_fails(void **state)
{
	const struct text text = {.failed = true};
	struct error error = {0};

	(void)state;
	assert_int_equal(output_write(STDOUT_FILENO, &text, &error), -ENOMEM);
	assert_int_equal(error.class, ERROR_FATAL);
}

static void test_report_keeps_what_it_says(void **state)
{
	CLEANUP(report_done) struct report report = {0};
	int saved = dup(STDERR_FILENO), pipes[2];
	char said[256] = {0};

	(void)state;
	assert_true(saved >= 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_true(dup2(pipes[1], STDERR_FILENO) >= 0);
	report_add(&report, "BACKEND_X", "column %d: %s", 7, "port");
	report_add(&report, NULL, "no registry");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(read(pipes[0], said, sizeof(said) - 1) > 0);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	(void)close(saved);
	assert_string_equal(said, "dragoman: BACKEND_X: column 7: port\ndragoman: no registry\n");
	assert_true(report.failed);
	assert_int_equal(report.count, 2);
	assert_string_equal(report.complaints[0].variable, "BACKEND_X");
	assert_string_equal(report.complaints[0].message, "column 7: port");
	assert_null(report.complaints[1].variable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outcome_text_of_every_change_is_a_line),
		cmocka_unit_test(test_outcome_text_in_colour_is_the_same_between_escapes),
		cmocka_unit_test(test_outcome_text_without_changes_says_so),
		cmocka_unit_test(test_outcome_text_of_a_failure_is_empty),
		cmocka_unit_test(test_outcome_json_has_the_promised_keys),
		cmocka_unit_test(test_outcome_json_without_changes_is_in_sync),
		cmocka_unit_test(test_outcome_json_of_a_failure_is_a_whole_document),
		cmocka_unit_test(test_resolution_text_lists_endpoints_and_skipped_documents),
		cmocka_unit_test(test_resolution_text_without_endpoints_says_why),
		cmocka_unit_test(test_resolution_json_has_the_promised_keys),
		cmocka_unit_test(test_resolution_json_of_a_failure_is_a_whole_document),
		cmocka_unit_test(test_output_write_to_a_full_disk_fails_by_name),
		cmocka_unit_test(test_output_write_without_memory_fails),
		cmocka_unit_test(test_report_keeps_what_it_says),
	};

	return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
