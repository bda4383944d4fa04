/* SPDX-License-Identifier: MIT */
#include "dragoman/http/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "http_server.h"

enum { SECONDS = 1000000000, REQUESTS = 4 };

struct fixture {
	struct loop *loop;
	struct http_server *server;
	struct http_client *client;
	struct http_request *requests[REQUESTS];
	const char *wrong; /* what serve() does instead of an echo */
	size_t calls;
	long status;
	struct text body;
	char header[32];
	struct error error;
	enum { KEEP, CANCEL_ALL, FREE_CLIENT } in_done;
};

/* Echoes the request's body. */
static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	const struct fixture *fixture = user;
	const char *body = strstr(request, "\r\n\r\n");

	(void)server;
	if (fixture->wrong) {
		text_puts(answer, fixture->wrong);
		return false;
	}
	text_printf(answer, "HTTP/1.1 201 Created\r\nX-Index: 7 \r\nContent-Length: %zu\r\n\r\n%s",
		    strlen(body + 4), body + 4);
	return true;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	fixture->server = http_server_new(fixture->loop, serve, fixture);
	*state = fixture;
	return http_client_new(fixture->loop, NULL, &fixture->client, NULL);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	http_client_free(fixture->client);
	http_server_free(fixture->server);
	loop_free(fixture->loop);
	text_done(&fixture->body);
	free(fixture);
	return 0;
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *error, void *user)
{
	struct fixture *fixture = user;
	const char *header = http_request_header(request, "x-index");

	fixture->calls++;
	fixture->status = answer->status;
	fixture->error = error ? *error : (struct error){0};
	text_done(&fixture->body);
	text_add(&fixture->body, answer->body, answer->length);
	(void)snprintf(fixture->header, sizeof(fixture->header), "%s", header ? header : "none");
	if (fixture->in_done == CANCEL_ALL) {
		for (size_t i = 0; i < REQUESTS; i++)
			http_cancel(fixture->requests[i]);
	} else if (fixture->in_done == FREE_CLIENT) {
		http_client_free(TAKE(fixture->client));
	}
	loop_stop(fixture->loop);
}

static void start(struct fixture *fixture, const char *body, struct http_request **ret)
{
	char url[64];
	struct http_call call = {.name = "the server",
				 .url = url,
				 .body = body,
				 .body_length = body ? strlen(body) : 0,
				 .answer_max = 16,
				 .timeout = 5UL * SECONDS,
				 .on_done = on_done,
				 .user_data = fixture};

	(void)snprintf(url, sizeof(url), "http://%s/x", http_server_address(fixture->server));
	assert_int_equal(http_start(fixture->client, &call, ret, NULL), 0);
	assert_int_equal(fixture->calls, 0);
}

static void test_http_post_of_a_body_gets_status_header_and_answer(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, "0123456789abcdef", &fixture->requests[0]);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->calls, 1);
	assert_int_equal(fixture->error.code, 0);
	assert_int_equal(fixture->status, 201);
	assert_string_equal(fixture->header, "7");
	assert_string_equal(fixture->body.data, "0123456789abcdef");
}

static void test_http_get_of_nothing_gets_an_empty_body(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, NULL, &fixture->requests[0]);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->error.code, 0);
	assert_string_equal(fixture->body.data, "");
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct {
	const char *answer;
	int code;
	enum error_class class;
	const char *message;
} wrong[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n0123456789abcdefg", -EFBIG, ERROR_INVALID,
	 "the server: the answer is longer than 16 bytes"},
	{CHUNKED "11\r\n0123456789abcdefg\r\n0\r\n\r\n", -EFBIG, ERROR_INVALID,
	 "the server: the answer is longer than 16 bytes"},
	{CHUNKED "8\r\n0123", -ECONNRESET, ERROR_TRANSIENT, "the server: the answer was cut off"},
	{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n01234", -ECONNRESET, ERROR_TRANSIENT,
	 "the server: the answer was cut off"},
	{"", -ECONNRESET, ERROR_TRANSIENT, "the server: Empty reply from server"},
	{"garbage\r\n", -EIO, ERROR_TRANSIENT, "the server: Received HTTP/0.9 when not allowed"},
};

static void test_http_answer_that_is_not_whole_is_an_error(void **state)
{
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		fixture->wrong = wrong[i].answer;
		fixture->calls = 0;
		start(fixture, "x", &fixture->requests[0]);
		assert_int_equal(loop_run(fixture->loop), 0);
		assert_int_equal(fixture->error.code, wrong[i].code);
		assert_int_equal(fixture->error.class, wrong[i].class);
		assert_string_equal(fixture->error.message, wrong[i].message);
	}
}

static void test_http_answer_with_endless_headers_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	CLEANUP(text_done) struct text answer = {0};

	text_puts(&answer, "HTTP/1.1 200 OK\r\n");
	for (size_t i = 0; i < 10000; i++)
		text_puts(&answer, "X-Header: 0123456789\r\n");
	fixture->wrong = answer.data;
	start(fixture, "x", &fixture->requests[0]);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_string_equal(fixture->error.message,
			    "the server: the answer's headers are longer than 65536 bytes");
}

static void test_http_requests_cancelled_in_on_done_are_never_called(void **state)
{
	struct fixture *fixture = *state;

	fixture->in_done = CANCEL_ALL;
	for (size_t i = 0; i < REQUESTS; i++)
		start(fixture, "x", &fixture->requests[i]);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->calls, 1);
}

static void test_http_client_freed_in_on_done_takes_its_requests_along(void **state)
{
	struct fixture *fixture = *state;

	fixture->in_done = FREE_CLIENT;
	for (size_t i = 0; i < REQUESTS; i++)
		start(fixture, "x", &fixture->requests[i]);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->calls, 1);
	assert_null(fixture->client);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_http_post_of_a_body_gets_status_header_and_answer),
		TEST(test_http_get_of_nothing_gets_an_empty_body),
		TEST(test_http_answer_that_is_not_whole_is_an_error),
		TEST(test_http_answer_with_endless_headers_is_an_error),
		TEST(test_http_requests_cancelled_in_on_done_are_never_called),
		TEST(test_http_client_freed_in_on_done_takes_its_requests_along),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
