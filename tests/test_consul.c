/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/consul_codec.h"

/* What Consul's health API is asked, and what is made of its answers. */

static void test_consul_encode_question_escapes_all_but_unreserved_bytes(void **state)
{
	static const struct {
		struct consul_question question;
		const char *path;
	} cases[] = {
		{{.service = "web"}, "/v1/health/service/web?consistent"},
		{{.service = "redis.master-1_x~"},
		 "/v1/health/service/redis.master-1_x~?consistent"},
		{{.service = "a/b?c#d e%\xff"},
		 "/v1/health/service/a%2Fb%3Fc%23d%20e%25%FF?consistent"},
		{{.service = "web", .stale = true}, "/v1/health/service/web?stale"},
		{{.service = "web", .datacenter = "eu&x", .namespace = "team=1"},
		 "/v1/health/service/web?consistent&dc=eu%26x&ns=team%3D1"},
		{{.service = "web", .index = 7, .wait = 60000},
		 "/v1/health/service/web?consistent&index=7&wait=60000ms"},
		{{.service = "web", .wait = 60000}, "/v1/health/service/web?consistent"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(text_done) struct text path = {0};

		consul_encode_question(&cases[i].question, &path);
		assert_string_equal(path.data, cases[i].path);
	}
}

/* "key=value", and "key!why" of one that fails, a line each. */
static char *decoded(struct arena *arena, const char *body)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(text_done) struct text text = {0};
	struct error error = {0};

	text_puts(&text, "");
	if (consul_decode_instances(body, strlen(body), "web", &list, &error) < 0) {
		assert_int_equal(error.code, -EBADMSG);
		assert_int_equal(error.class, ERROR_TRANSIENT);
		return arena_printf(arena, "%s", error.message);
	}
	for (size_t i = 0; i < list.count; i++) {
		const struct document *document = &list.items[i];

		text_printf(&text, "%s%c%.*s\n", document->key, document->is_failing ? '!' : '=',
			    (int)document->length, document->value);
	}
	return arena_text(arena, text.data, text.length);
}

#define NODE "\"Node\":{\"Node\":\"one\",\"Address\":\"10.0.0.9\",\"ModifyIndex\":12}"
#define SERVICE(members) "\"Service\":{\"ID\":\"web-1\",\"Service\":\"web\"," members "}"
#define CHECK(name, status)                                                    \
	"{\"CheckID\":\"id\",\"Name\":\"" name "\",\"Status\":\"" status "\"," \
	"\"Output\":\"HTTP GET: 200 OK\"}"
#define PASSING "\"Checks\":[" CHECK("Serf", "passing") "," CHECK("web", "passing") "]"
#define INSTANCE(members) "{" NODE "," SERVICE(members) "," PASSING "}"

static void test_consul_instances_become_documents(void **state)
{
	static const struct {
		const char *body, *documents;
	} cases[] = {
		{"[]", ""},
		{" [ ] \n", ""},
		{"[" INSTANCE("\"Address\":\"10.0.0.1\",\"Port\":80,\"Tags\":[\"prod\",\"x y\"],"
			      "\"Weights\":{\"Passing\":3,\"Warning\":1}") "]",
		 "web/one/web-1={\"host\":\"10.0.0.1\",\"port\":80,\"tags\":[\"prod\",\"x y\"],"
		 "\"weight\":3}\n"},
		/* The address of the node, where the service has none. */
		{"[" INSTANCE("\"Address\":\"\",\"Port\":80,\"Tags\":[]") "]",
		 "web/one/web-1={\"host\":\"10.0.0.9\",\"port\":80,\"tags\":[],\"weight\":null}\n"},
		{"[" INSTANCE("\"Address\":null,\"Port\":80") "]",
		 "web/one/web-1={\"host\":\"10.0.0.9\",\"port\":80,\"tags\":null,"
		 "\"weight\":null}\n"},
		/* What is of another type is for those who read documents to name. */
		{"[" INSTANCE(
			 "\"Address\":7,\"Port\":\"http\",\"Tags\":\"prod\",\"Weights\":3") "]",
		 "web/one/web-1={\"host\":7,\"port\":\"http\",\"tags\":\"prod\","
		 "\"weight\":null}\n"},
		/* None is passing as well. */
		{"[{" NODE
		 "," SERVICE("\"Port\":80") ",\"Checks\":[]},{" NODE
					    ",\"Service\":{\"ID\":\"b/2\"},\"Checks\":null}]",
		 "web/one/web-1={\"host\":\"10.0.0.9\",\"port\":80,\"tags\":null,\"weight\":null}\n"
		 "web/one/b/2={\"host\":\"10.0.0.9\",\"port\":null,\"tags\":null,"
		 "\"weight\":null}\n"},
		/* A NUL ends no key. */
		{"[{\"Node\":{\"Node\":\"o\\u0000ne\"},\"Service\":{\"ID\":\"\"},\"Checks\":[]}]",
		 "web/o\\x00ne/={\"host\":null,\"port\":null,\"tags\":null,\"weight\":null}\n"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(decoded(arena, cases[i].body), cases[i].documents);
}

static void test_consul_instances_whose_checks_do_not_pass_say_which(void **state)
{
	static const struct {
		const char *checks, *why;
	} cases[] = {
		{CHECK("Serf", "passing") "," CHECK("web alive", "critical"),
		 "check \"web alive\" is critical"},
		{CHECK("web", "warning"), "check \"web\" is warning"},
		{CHECK("", "critical"), "check \"id\" is critical"},
		{CHECK("web", "Passing"), "check \"web\" is Passing"},
		{"{\"CheckID\":\"_service_maintenance:web-1\",\"Status\":\"critical\","
		 "\"Notes\":\"disk swap\"}",
		 "in maintenance mode: disk swap"},
		{"{\"CheckID\":\"_node_maintenance\",\"Status\":\"critical\"}",
		 "in maintenance mode"},
		{"{\"Name\":\"web\"}", "check \"web\" is of no status"},
		{"7", "check \"\" is of no status"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(
			decoded(arena, arena_printf(arena,
						    "[{" NODE
						    "," SERVICE("\"Port\":80") ",\"Checks\":[%s]}]",
						    cases[i].checks)),
			arena_printf(arena, "web/one/web-1!%s\n", cases[i].why));
}

/* Their relation is what counts: those of an instance that fails, too, which may pass soon. */
static void test_consul_weights_beyond_ours_are_scaled_together(void **state)
{
	static const struct {
		const char *given[3], *made[3];
	} cases[] = {
		{{"256", "1", "128"}, {"256", "1", "128"}},
		{{"3000", "1000", "500"}, {"6", "2", "1"}},
		{{"512", "256", "1"}, {"256", "128", "1"}},
		{{"65535", "1000", "1"}, {"256", "4", "1"}},
		/* What Consul would not take is not ours to mend. */
		{{"65536", "1000", "-1"}, {"65536", "1", "-1"}},
		{{"\"9\"", "1000", "0"}, {"\"9\"", "1", "0"}},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *body = arena_printf(arena, "["), *documents;

		for (size_t n = 0; n < 3; n++)
			body = arena_printf(arena, "%s%s" INSTANCE("\"Weights\":{\"Passing\":%s}"),
					    body, n ? "," : "", cases[i].given[n]);
		documents = decoded(arena, arena_printf(arena, "%s]", body));
		for (size_t n = 0; n < 3; n++) {
			char *weight = arena_printf(arena, "\"weight\":%s}\n", cases[i].made[n]);

			documents = strstr(documents, weight);
			assert_non_null(documents);
			documents++;
		}
	}
}

static void test_consul_answer_that_is_wrong_says_what_is_wrong(void **state)
{
	static const struct {
		const char *body, *message;
	} cases[] = {
		{"", "answer is no JSON array (starts with \"\")"},
		{"Bad request", "answer is no JSON array (starts with \"Bad request\")"},
		{"[" INSTANCE("\"Port\":80"),
		 "answer is no JSON array (starts with \"[{\"Node\":{\"Node\":\"one\",\"\")"},
		{"[" INSTANCE("\"Port\":80") ",]", "answer ends, or is no JSON, in an instance"},
		{"[" INSTANCE("\"Port\":80") "]]",
		 "answer is no JSON array (starts with \"[{\"Node\":{\"Node\":\"one\",\"\")"},
		{"[{\"Node\":", "answer ends, or is no JSON, in an instance"},
		{"[{\"Node\" 1}]", "answer is not JSON (starts with \"{\"Node\" 1}\")"},
		{"{\"a\":1}", "answer is no JSON array (starts with \"{\"a\":1}\")"},
		{"[1]", "answer ends, or is no JSON, in an instance"},
		{"[{}]", "answer has an instance without a node or an ID"},
		{"[{" NODE "," PASSING "}]", "answer has an instance without a node or an ID"},
		{"[{" SERVICE("\"Port\":80") "," PASSING "}]",
		 "answer has an instance without a node or an ID"},
		{"[{" NODE "," SERVICE("\"Port\":80") "}]",
		 "answer has an instance without its checks"},
		{"[{" NODE "," SERVICE("\"Port\":80") ",\"Checks\":{}}]",
		 "answer has an instance without its checks"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(decoded(arena, cases[i].body), cases[i].message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_consul_encode_question_escapes_all_but_unreserved_bytes),
		cmocka_unit_test(test_consul_instances_become_documents),
		cmocka_unit_test(test_consul_instances_whose_checks_do_not_pass_say_which),
		cmocka_unit_test(test_consul_weights_beyond_ours_are_scaled_together),
		cmocka_unit_test(test_consul_answer_that_is_wrong_says_what_is_wrong),
	};

	return cmocka_run_group_tests_name("consul", tests, NULL, NULL);
}
