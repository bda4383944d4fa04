/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What is read of services (registry_lab.h): answers that are wrong, too large,
 * cut into pages, of one API or the other. Which host is asked for it is
 * test_registry_hosts.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "registry_lab.h"

static void test_registry_read_of_many_services_takes_one_request_for_64(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 130);
	assert_int_equal(lab->answers, 130);
	assert_int_equal(lab->failed, 0);
	assert_int_equal(lab->done, 1);
	assert_int_equal(lab->unreachable.code, 0);
	assert_int_equal(lab->revisions[129], 9);
	assert_int_equal(http_server_count(lab->servers[0]), 3);
}

static void test_registry_read_of_no_services_is_done_at_once(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 0);
	assert_int_equal(lab->done, 1);
	assert_int_equal(lab->unreachable.code, 0);
	assert_int_equal(http_server_count(lab->servers[0]), 0);
}

/* "/s0/a" and something that is wrong, or "/s0/b": by the server's own user pointer. */
static bool serve_half_right(struct http_server *server, const char *request, struct text *answer,
			     void *user)
{
	const bool *right = user;

	(void)server;
	(void)request;
	http_server_answer(answer, "200 OK",
			   *right ? "{\"header\":{\"revision\":\"9\"},\"succeeded\":true,"
				    "\"responses\":[{\"response_range\":{}},{\"response_range\":"
				    "{\"kvs\":[{\"key\":\"L3MwL2I=\"}]}}]}"
				  : "{\"header\":{\"revision\":\"9\"},\"succeeded\":true,"
				    "\"responses\":[{\"response_range\":{}},{\"response_range\":"
				    "{\"kvs\":[{\"key\":\"L3MwL2E=\"},7]}}]}");
	return true;
}

static void test_registry_read_of_a_wrong_answer_keeps_nothing_of_it(void **state)
{
	struct registry_lab *lab = *state;
	bool right = true, wrong = false;

	lab->servers[0] = http_server_new(lab->loop, serve_half_right, &wrong);
	lab->servers[1] = http_server_new(lab->loop, serve_half_right, &right);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 1);
	assert_string_equal(lab->documents[0].data, "/s0/b");
}

/* "/s5" in base64, as key and as the beginning of the range below it. */
static bool asks_for_s5(const char *request)
{
	return strstr(request, "\"L3M1\"") || strstr(request, "\"L3M1Lw==\"");
}

static bool serve_forbidden(struct http_server *server, const char *request, struct text *answer,
			    void *user)
{
	if (!asks_for_s5(request))
		return registry_lab_serve_empty(server, request, answer, user);
	http_server_answer(answer, "403 Forbidden",
			   "{\"error\":\"etcdserver: permission denied\",\"code\":7}");
	return true;
}

static void test_registry_read_with_one_forbidden_service_fails_that_one_alone(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_forbidden, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 64);
	assert_int_equal(lab->answers, 64);
	assert_int_equal(lab->failed, 1);
	assert_non_null(strstr(lab->errors[5].data, "etcdserver: permission denied"));
	assert_int_equal(lab->unreachable.code, 0);
}

/* More than the cap for whoever asks for more than one service, and "/s5" always. */
static bool serve_too_large(struct http_server *server, const char *request, struct text *answer,
			    void *user)
{
	if (registry_lab_count(request, "request_range") <= 2 && !asks_for_s5(request))
		return registry_lab_serve_empty(server, request, answer, user);
	text_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n{");
	return false;
}

static void test_registry_read_of_too_large_answers_asks_for_less(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_too_large, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 4);
	assert_int_equal(lab->failed, 0);
	/* 4, 2, 2, and 1 four times */
	assert_int_equal(http_server_count(lab->servers[0]), 7);
}

/* As a proxy may that gives up on a long answer: one range for many is refused. */
static bool serve_apart(struct http_server *server, const char *request, struct text *answer,
			void *user)
{
	if (registry_lab_count(request, "request_range") > 1)
		return registry_lab_serve_empty(server, request, answer, user);
	http_server_answer(answer, "502 Bad Gateway", "oops");
	return true;
}

static void test_registry_read_that_fails_for_many_at_once_asks_for_each(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_apart, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 130);
	assert_int_equal(lab->answers, 130);
	assert_int_equal(lab->failed, 0);
	assert_int_equal(lab->unreachable.code, 0);
	assert_true(http_server_count(lab->servers[0]) <= 6);
}

static void test_registry_read_of_an_answer_that_is_always_too_large_fails(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_too_large, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 6);
	assert_int_equal(lab->answers, 6);
	assert_non_null(strstr(lab->errors[5].data, "is longer than 16777216 bytes"));
}

/* Two pages: "/s0/a" and that there is more, then "/s0/b". */
static bool serve_pages(struct http_server *server, const char *request, struct text *answer,
			void *user)
{
	bool *compacted = user;

	(void)server;
	if (strstr(request, "request_range") && !strstr(request, "revision")) {
		http_server_answer(answer, "200 OK",
				   "{\"header\":{\"revision\":\"9\"},\"succeeded\":true,"
				   "\"responses\":[{\"response_range\":{}},{\"response_range\":"
				   "{\"kvs\":[{\"key\":\"L3MwL2E=\"}],\"more\":true}}]}");
		return true;
	}
	if (*compacted) {
		*compacted = false;
		http_server_answer(answer, "400 Bad Request",
				   "{\"error\":\"etcdserver: mvcc: required revision has been "
				   "compacted\",\"code\":11}");
		return true;
	}
	/* Behind "/s0/a": that and a NUL. */
	assert_non_null(strstr(request, "{\"request_range\":{\"key\":\"L3MwL2EA\","
					"\"range_end\":\"L3MwMA==\",\"limit\":\"1000\","
					"\"revision\":\"9\"}}"));
	http_server_answer(answer, "200 OK",
			   "{\"header\":{\"revision\":\"11\"},\"succeeded\":true,\"responses\":"
			   "[{\"response_range\":{\"kvs\":[{\"key\":\"L3MwL2I=\"}]}}]}");
	return true;
}

static void test_registry_read_of_pages_is_of_one_revision(void **state)
{
	struct registry_lab *lab = *state;
	bool compacted = false;

	lab->servers[0] = http_server_new(lab->loop, serve_pages, &compacted);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 1);
	assert_string_equal(lab->documents[0].data, "/s0/a /s0/b");
	assert_int_equal(lab->revisions[0], 9);
}

static void test_registry_read_of_a_compacted_revision_starts_anew(void **state)
{
	struct registry_lab *lab = *state;
	bool compacted = true;

	lab->servers[0] = http_server_new(lab->loop, serve_pages, &compacted);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 1);
	assert_string_equal(lab->documents[0].data, "/s0/a /s0/b");
	assert_int_equal(http_server_count(lab->servers[0]), 4);
}

struct refusal {
	const char *status, *body, *expected;
	bool with_user;
};

static bool serve_refusal(struct http_server *server, const char *request, struct text *answer,
			  void *user)
{
	const struct refusal *refusal = user;

	(void)server;
	(void)request;
	http_server_answer(answer, refusal->status, refusal->body);
	return true;
}

static void test_registry_read_of_v2_that_is_refused_says_why(void **state)
{
	static struct refusal cases[] = {
		{"403 Forbidden", "{\"errorCode\":110,\"message\":\"no\"}",
		 "no (give a user and a password file)", false},
		{"403 Forbidden", "{\"errorCode\":110,\"message\":\"no\"}",
		 "no (a wrong user or password, or no role that reads \"/s0*\")", true},
		{"400 Bad Request", "{\"errorCode\":209,\"message\":\"odd\"}", "odd (error 209)",
		 false},
		{"500 Busy", "{\"errorCode\":300,\"message\":\"raft\"}",
		 "status 500: raft (error 300)", false},
	};
	struct registry_lab *lab = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		lab->servers[0] = http_server_new(lab->loop, serve_refusal, &cases[i]);
		registry_lab_open(lab, "etcd2", cases[i].with_user);
		registry_lab_read(lab, 1);
		assert_non_null(strstr(lab->errors[0].data, cases[i].expected));
		registry_freep(&lab->registry);
		http_server_free(TAKE(lab->servers[0]));
		text_done(&lab->errors[0]);
		lab->answers = 0;
	}
}

/* "/s0" is there, "/s1" is not, "/s2" is forbidden, all others are no etcd's answers. */
static bool serve_v2(struct http_server *server, const char *request, struct text *answer,
		     void *user)
{
	const char *status = "404 Not Found", *body = "404 page not found";

	(void)server;
	(void)user;
	assert_non_null(strstr(request, "?recursive=true&quorum=true HTTP/1.1\r\n"));
	assert_non_null(strstr(request, "\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n"));
	if (strncmp(request, "GET /v2/keys/s0?", 16) == 0) {
		status = "200 OK";
		body = "{\"node\":{\"key\":\"/s0\",\"dir\":true,\"nodes\":[{\"key\":\"/s0/a\","
		       "\"value\":\"x\"}]}}";
	} else if (strncmp(request, "GET /v2/keys/s1?", 16) == 0) {
		body = "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/s1\"}";
	} else if (strncmp(request, "GET /v2/keys/s2?", 16) == 0) {
		status = "403 Forbidden";
		body = "{\"errorCode\":110,\"message\":\"Insufficient credentials\"}";
	}
	text_printf(answer, "HTTP/1.1 %s\r\nx-etcd-index: 42\r\nContent-Length: %zu\r\n\r\n%s",
		    status, strlen(body), body);
	return true;
}

static void test_registry_read_of_v2_tells_empty_from_failed(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_v2, NULL);
	registry_lab_open(lab, "etcd2", true);
	registry_lab_read(lab, 20);
	assert_int_equal(lab->answers, 20);
	assert_int_equal(lab->failed, 18);
	assert_string_equal(lab->documents[0].data, "/s0/a");
	assert_int_equal(lab->revisions[0], 42);
	assert_null(lab->errors[1].data);
	assert_int_equal(lab->revisions[1], 42);
	assert_non_null(strstr(lab->errors[2].data, "Insufficient credentials (a wrong user or "
						    "password, or no role that reads \"/s2*\")"));
	assert_non_null(strstr(lab->errors[3].data, "no v2 keys API here"));
	assert_int_equal(lab->unreachable.code, 0);
}

static void test_registry_read_of_a_missing_file_is_unreachable(void **state)
{
	struct registry_lab *lab = *state;
	struct registry_options options = {.url = "file:///nonexistent/x.json"};
	struct error error;

	assert_int_equal(registry_open(lab->loop, &options, &lab->registry, &error), 0);
	registry_lab_read(lab, 2);
	assert_int_equal(lab->failed, 2);
	assert_string_equal(lab->errors[1].data, "/nonexistent/x.json: No such file or directory");
	assert_string_equal(lab->unreachable.message,
			    "/nonexistent/x.json: No such file or directory");
}

static void test_registry_freed_in_an_answer_makes_no_further_call(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
	registry_lab_open(lab, "etcd", false);
	lab->free_in_answer = true;
	registry_lab_read(lab, 130);
	assert_int_equal(lab->answers, 1);
	assert_int_equal(lab->done, 0);
}

static void test_registry_freed_when_done_is_gone(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
	registry_lab_open(lab, "etcd", false);
	lab->free_in_done = true;
	registry_lab_read(lab, 3);
	assert_int_equal(lab->answers, 3);
	assert_int_equal(lab->done, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		registry_test(test_registry_read_of_many_services_takes_one_request_for_64),
		registry_test(test_registry_read_of_no_services_is_done_at_once),
		registry_test(test_registry_read_of_a_wrong_answer_keeps_nothing_of_it),
		registry_test(test_registry_read_with_one_forbidden_service_fails_that_one_alone),
		registry_test(test_registry_read_of_too_large_answers_asks_for_less),
		registry_test(test_registry_read_that_fails_for_many_at_once_asks_for_each),
		registry_test(test_registry_read_of_an_answer_that_is_always_too_large_fails),
		registry_test(test_registry_read_of_pages_is_of_one_revision),
		registry_test(test_registry_read_of_a_compacted_revision_starts_anew),
		registry_test(test_registry_read_of_v2_tells_empty_from_failed),
		registry_test(test_registry_read_of_v2_that_is_refused_says_why),
		registry_test(test_registry_read_of_a_missing_file_is_unreachable),
		registry_test(test_registry_freed_in_an_answer_makes_no_further_call),
		registry_test(test_registry_freed_when_done_is_gone),
	};

	return cmocka_run_group_tests_name("registry_read", tests, NULL, NULL);
}
