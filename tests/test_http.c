/* SPDX-License-Identifier: MIT */
#include "dragoman/http/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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
	bool keep_wrong;   /* and the connection stays */
	uint64_t timeout;
	size_t calls;
	long status;
	struct text body;
	char header[32];
	struct error error;
	enum { KEEP, CANCEL_ALL, FREE_CLIENT } in_done;
};

/* A stream: what came of it, and what is done on the way. */

struct stream {
	struct fixture *fixture;
	struct http_connection *connection;
	struct text chunks, data;
	size_t heads;
	long status;
	enum manner { READ_ON, CANCEL_IN_HEAD, CANCEL_IN_DATA, FREE_IN_DATA } manner;
	size_t data_calls;
};

static struct stream stream;

/* Echoes the request's body. */
static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	const struct fixture *fixture = user;
	const char *body = strstr(request, "\r\n\r\n");

	(void)server;
	if (fixture->wrong) {
		text_puts(answer, fixture->wrong);
		return fixture->keep_wrong;
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
	fixture->timeout = 5UL * SECONDS;
	fixture->server = http_server_new(fixture->loop, serve, fixture);
	*state = fixture;
	return http_client_new(fixture->loop, NULL, &fixture->client, NULL);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	http_client_free(fixture->client);
	http_server_free(fixture->server);
	text_done(&stream.chunks);
	text_done(&stream.data);
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
				 .timeout = fixture->timeout,
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

static void on_chunk(struct http_connection *connection, const char *chunk, void *user)
{
	(void)user;
	stream.connection = connection;
	text_printf(&stream.chunks, "[%s]", chunk);
	loop_stop(stream.fixture->loop);
}

static void on_head(struct http_request *request, long status, void *user)
{
	struct fixture *fixture = user;

	stream.heads++;
	stream.status = status;
	assert_string_equal(http_request_header(request, "x-index"), "9");
	if (stream.manner == CANCEL_IN_HEAD)
		http_cancel(request);
	loop_stop(fixture->loop);
}

static void on_data(struct http_request *request, const char *data, size_t length, void *user)
{
	struct fixture *fixture = user;

	stream.data_calls++;
	text_add(&stream.data, data, length);
	if (stream.manner == CANCEL_IN_DATA)
		http_cancel(request);
	else if (stream.manner == FREE_IN_DATA)
		http_client_free(TAKE(fixture->client));
	loop_stop(fixture->loop);
}

static void start_stream(struct fixture *fixture, const char *wrong, struct http_request **ret)
{
	const struct http_server_functions functions = {.on_chunk = on_chunk};
	char url[64];
	struct http_call call = {
		.name = "the server",
		.url = url,
		.headers = (const char *const[]){"Connection: close", "Expect:", NULL},
		.body = "first",
		.body_length = 5,
		.keep_upload_open = true,
		.answer_max = 16,
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
		.user_data = fixture};

	text_done(&stream.chunks);
	text_done(&stream.data);
	stream = (struct stream){.fixture = fixture, .manner = stream.manner};
	fixture->wrong = wrong;
	fixture->keep_wrong = true;
	http_server_set_functions(fixture->server, &functions);
	(void)snprintf(url, sizeof(url), "http://%s/x", http_server_address(fixture->server));
	assert_int_equal(http_start(fixture->client, &call, ret, NULL), 0);
}

static void run_until_chunks(struct fixture *fixture, const char *chunks)
{
	while (!stream.chunks.data || strcmp(stream.chunks.data, chunks) != 0)
		assert_int_equal(loop_run(fixture->loop), 0);
}

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nX-Index: 9\r\n\r\n"

static void test_http_stream_with_an_open_upload_goes_both_ways(void **state)
{
	struct fixture *fixture = *state;
	struct http_request *request;

	stream.manner = READ_ON;
	start_stream(fixture, STREAM_HEAD, &request);
	run_until_chunks(fixture, "[first]");
	while (stream.heads == 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(stream.status, 200);
	assert_int_equal(stream.data_calls, 0);
	assert_int_equal(http_send(request, "second", 6), 0);
	run_until_chunks(fixture, "[first][second]");
	/* More than answer_max, which is not of a stream. */
	http_connection_send(stream.connection, "0123456789abcdefghij", 20);
	while (stream.data.length < 20)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_string_equal(stream.data.data, "0123456789abcdefghij");
	assert_int_equal(http_send(request, "third", 5), 0);
	run_until_chunks(fixture, "[first][second][third]");
	assert_int_equal(fixture->calls, 0);
	http_connection_send(stream.connection, "end", 3);
	http_connection_close(stream.connection);
	while (fixture->calls == 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_string_equal(stream.data.data, "0123456789abcdefghijend");
	assert_int_equal(fixture->body.length, 0);
	assert_int_equal(stream.heads, 1);
}

static void on_late(struct loop_source *source, void *user)
{
	(void)source;
	*(bool *)user = true;
	loop_stop(stream.fixture->loop);
}

/* Both sides are quiet then, and nothing but this tells. */
static void test_http_stream_closed_without_an_answer_fails_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct http_request *request;
	struct loop_source *timer;
	bool late = false;

	for (unsigned round = 0; round < 50; round++) {
		stream.manner = READ_ON;
		fixture->calls = 0;
		start_stream(fixture, "", &request);
		run_until_chunks(fixture, "[first]");
		http_connection_close(stream.connection);
		assert_int_equal(loop_add_timer(fixture->loop, "late",
						loop_now(fixture->loop) + UINT64_C(5000000000),
						on_late, &late, &timer),
				 0);
		while (fixture->calls == 0 && !late)
			assert_int_equal(loop_run(fixture->loop), 0);
		loop_source_free(timer);
		assert_false(late);
		assert_int_equal(fixture->status, 0);
	}
}

static void test_http_stream_of_a_failure_gathers_its_body(void **state)
{
	struct fixture *fixture = *state;
	struct http_request *request;

	stream.manner = READ_ON;
	start_stream(fixture, "HTTP/1.1 503 No\r\nX-Index: 9\r\nContent-Length: 4\r\n\r\nbusy",
		     &request);
	while (fixture->calls == 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->status, 503);
	assert_string_equal(fixture->body.data, "busy");
	assert_int_equal(stream.data_calls, 0);
}

static void test_http_stream_ended_in_its_own_functions_calls_none_more(void **state)
{
	static const enum manner manners[] = {CANCEL_IN_HEAD, CANCEL_IN_DATA, FREE_IN_DATA};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(manners); i++) {
		struct http_request *request;

		stream.manner = manners[i];
		start_stream(fixture, STREAM_HEAD "data", &request);
		while (stream.heads == 0 ||
		       (stream.manner != CANCEL_IN_HEAD && stream.data_calls == 0))
			assert_int_equal(loop_run(fixture->loop), 0);
		assert_int_equal(stream.heads, 1);
		assert_int_equal(stream.data_calls, stream.manner == CANCEL_IN_HEAD ? 0 : 1);
	}
	assert_int_equal(fixture->calls, 0);
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
	{"", -ECONNABORTED, ERROR_TRANSIENT, "the server: Empty reply from server"},
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

static void test_http_answer_that_is_late_is_an_error(void **state)
{
	static const struct {
		const char *answer, *message;
	} late[] = {
		{"", "the server: no answer within 0.05 s"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n01234",
		 "the server: no end of the answer within 0.05 s"},
	};
	struct fixture *fixture = *state;

	fixture->keep_wrong = true;
	fixture->timeout = SECONDS / 20;
	for (size_t i = 0; i < ARRAY_SIZE(late); i++) {
		fixture->wrong = late[i].answer;
		fixture->calls = 0;
		start(fixture, "x", &fixture->requests[0]);
		assert_int_equal(loop_run(fixture->loop), 0);
		assert_int_equal(fixture->calls, 1);
		assert_int_equal(fixture->error.code, -ETIMEDOUT);
		assert_int_equal(fixture->error.class, ERROR_TRANSIENT);
		assert_string_equal(fixture->error.message, late[i].message);
	}
}

/* A listener that takes no more connections drops what would begin one. */
static void test_http_connection_that_is_late_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	CLEANUP(fd_close) int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP(fd_close) int first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct http_call call = {.name = "the server",
				 .timeout = SECONDS / 20,
				 .on_done = on_done,
				 .user_data = fixture};
	struct http_request *request;
	char url[64];

	assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	assert_int_equal(connect(first, (struct sockaddr *)&address, size), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", ntohs(address.sin_port));
	call.url = url;
	assert_int_equal(http_start(fixture->client, &call, &request, NULL), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->error.code, -ETIMEDOUT);
	assert_string_equal(fixture->error.message, "the server: no connection within 0.05 s");
	/* libcurl's own limit, on the way to a limit of ours that is longer. */
	call.connect_timeout = SECONDS / 20;
	call.timeout = 0;
	fixture->calls = 0;
	assert_int_equal(http_start(fixture->client, &call, &request, NULL), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->calls, 1);
	assert_int_equal(fixture->error.code, -ETIMEDOUT);
	assert_string_equal(fixture->error.message, "the server: no connection within 0.05 s");
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
		TEST(test_http_stream_with_an_open_upload_goes_both_ways),
		TEST(test_http_stream_closed_without_an_answer_fails_at_once),
		TEST(test_http_stream_of_a_failure_gathers_its_body),
		TEST(test_http_stream_ended_in_its_own_functions_calls_none_more),
		TEST(test_http_answer_that_is_not_whole_is_an_error),
		TEST(test_http_answer_that_is_late_is_an_error),
		TEST(test_http_connection_that_is_late_is_an_error),
		TEST(test_http_answer_with_endless_headers_is_an_error),
		TEST(test_http_requests_cancelled_in_on_done_are_never_called),
		TEST(test_http_client_freed_in_on_done_takes_its_requests_along),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
