/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The server and its clients stand on one loop. Clients are sockets that send
 * bytes as a test gives them and keep what comes back until the other side
 * closes, since much of what has to be seen here no library would send.
 */
#include "dragoman/http/server.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"

enum { MILLISECONDS = 1000000, LARGE = 8 * 1024 * 1024 };
static const uint64_t PATIENCE = UINT64_C(8000000000);

struct fixture {
	struct loop *loop;
	struct server *server;
	char directory[40], path[100];
	size_t calls;
	char asked[128]; /* the path of the last call */
	bool ran_out;
};

struct client {
	struct fixture *fixture;
	struct loop_source *source, *drip;
	struct text to_send, received;
	size_t sent, dripped;
	bool closed, lazy;
	int fd;
};

static void answer(const char *path, struct http_reply *reply, void *user)
{
	struct fixture *fixture = user;

	fixture->calls++;
	(void)snprintf(fixture->asked, sizeof(fixture->asked), "%s", path);
	if (strcmp(path, "/status") == 0) {
		reply->status = 200;
		reply->type = "application/json";
		text_puts(&reply->body, "{}\n");
	} else if (strcmp(path, "/large") == 0) {
		reply->status = 200;
		for (size_t i = 0; i < LARGE / 64; i++)
			text_printf(&reply->body, "%063d\n", 0);
	} else if (strcmp(path, "/failed") == 0) {
		reply->status = 200;
		text_puts(&reply->body, "half");
		reply->body.failed = true;
	}
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	(void)snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/dragoman-http-XXXXXX");
	if (!mkdtemp(fixture->directory))
		return -1;
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/run/socket", fixture->directory);
	*state = fixture;
	return server_new_unix(fixture->loop, fixture->path, 0660, answer, fixture,
			       &fixture->server, NULL);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char directory[64];

	server_free(fixture->server);
	loop_free(fixture->loop);
	(void)snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	/* That it is empty shows that the socket is gone. */
	if (rmdir(directory) < 0 || rmdir(fixture->directory) < 0)
		return -1;
	free(fixture);
	return 0;
}

static void on_patience(struct loop_source *source, void *user)
{
	struct fixture *fixture = user;

	(void)source;
	fixture->ran_out = true;
	loop_stop(fixture->loop);
}

/* Until something stops the loop. */
static void run(struct fixture *fixture)
{
	struct loop_source *timer;

	assert_int_equal(loop_add_timer(fixture->loop, "patience",
					loop_now(fixture->loop) + PATIENCE, on_patience, fixture,
					&timer),
			 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	loop_source_free(timer);
	assert_false(fixture->ran_out);
}

static void client_end(struct client *client)
{
	client->closed = true;
	loop_source_free(TAKE(client->source));
	loop_stop(client->fixture->loop);
}

static void client_write(struct client *client)
{
	ssize_t length = send(client->fd, client->to_send.data + client->sent,
			      client->to_send.length - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (length > 0)
		client->sent += (size_t)length;
	/* Refused: what the server has said can be read still. */
	if ((length < 0 && errno != EAGAIN) || client->sent == client->to_send.length)
		(void)loop_source_set_events(client->source, client->lazy ? 0 : LOOP_READ);
}

static void on_client(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct client *client = user;
	char piece[65536];
	ssize_t length;

	(void)source;
	if (events & LOOP_WRITE && !(events & LOOP_HANGUP)) {
		client_write(client);
		return;
	}
	if (client->lazy && events & LOOP_HANGUP) {
		client_end(client);
		return;
	}
	length = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
	if (length > 0)
		text_add(&client->received, piece, (size_t)length);
	else if (length == 0 || errno != EAGAIN)
		client_end(client);
}

static void client_open(struct client *client, struct fixture *fixture, const char *bytes,
			size_t length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	client->fixture = fixture;
	text_add(&client->to_send, bytes, length);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(loop_add_io(fixture->loop, "client", client->fd,
				     length ? LOOP_WRITE : LOOP_READ, on_client, client,
				     &client->source),
			 0);
}

static void client_done(struct client *client)
{
	loop_source_free(client->source);
	loop_source_free(client->drip);
	if (client->fd > 0)
		fd_close(&client->fd);
	text_done(&client->to_send);
	text_done(&client->received);
}

static void client_wait(struct client *client)
{
	while (!client->closed)
		run(client->fixture);
}

/* What the server says to these bytes, until it closes; "" when nothing. */
static void exchange(struct fixture *fixture, struct client *client, const char *bytes,
		     size_t length)
{
	client_open(client, fixture, bytes, length);
	client_wait(client);
	text_puts(&client->received, "");
}

static void assert_begins(const struct client *client, const char *start)
{
	if (strncmp(client->received.data, start, strlen(start)) != 0)
		fail_msg("'%.60s' does not begin with '%s'", client->received.data, start);
}

static void assert_contains(const struct client *client, const char *part)
{
	if (!strstr(client->received.data, part))
		fail_msg("no '%s' in '%.400s'", part, client->received.data);
}

static const char well_formed[] = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";

static void assert_serves(struct fixture *fixture)
{
	CLEANUP(client_done) struct client client = {0};

	exchange(fixture, &client, well_formed, strlen(well_formed));
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
}

static void test_server_get_gives_the_document_and_closes(void **state)
{
	CLEANUP(client_done) struct client client = {0};

	exchange(*state, &client, well_formed, strlen(well_formed));
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
	assert_contains(&client, "\r\nContent-Type: application/json\r\n");
	assert_contains(&client, "\r\nContent-Length: 3\r\n");
	assert_contains(&client, "\r\nConnection: close\r\n");
	assert_contains(&client, "\r\n\r\n{}\n");
}

static void test_server_head_gives_the_headers_alone(void **state)
{
	static const char request[] = "HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(client_done) struct client client = {0};

	exchange(*state, &client, request, strlen(request));
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
	assert_contains(&client, "\r\nContent-Length: 3\r\n");
	assert_string_equal(strstr(client.received.data, "\r\n\r\n"), "\r\n\r\n");
}

static void test_server_unknown_path_is_not_found(void **state)
{
	static const char request[] = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(client_done) struct client client = {0};

	exchange(*state, &client, request, strlen(request));
	assert_begins(&client, "HTTP/1.1 404 ");
	assert_contains(&client, "\r\n\r\nnot found\n");
}

static void test_server_path_is_decoded_and_without_query(void **state)
{
	static const char request[] = "GET /st%61tus?a=b HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(client_done) struct client client = {0};
	struct fixture *fixture = *state;

	exchange(fixture, &client, request, strlen(request));
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
	assert_string_equal(fixture->asked, "/status");
}

static void test_server_failed_body_is_an_error(void **state)
{
	static const char request[] = "GET /failed HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(client_done) struct client client = {0};

	exchange(*state, &client, request, strlen(request));
	assert_begins(&client, "HTTP/1.1 500 ");
	assert_null(strstr(client.received.data, "half"));
}

static void test_server_large_document_comes_whole(void **state)
{
	static const char request[] = "GET /large HTTP/1.0\r\n\r\n";
	CLEANUP(client_done) struct client client = {0};

	exchange(*state, &client, request, strlen(request));
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
	assert_int_equal(strlen(strstr(client.received.data, "\r\n\r\n") + 4), LARGE);
}

static void test_server_other_methods_are_refused_before_their_body(void **state)
{
	static const char *const requests[] = {
		"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
		"PUT /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"DELETE /status HTTP/1.1\r\nHost: x\r\n\r\n",
		"BREW /status HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		CLEANUP(client_done) struct client client = {0};

		exchange(fixture, &client, requests[i], strlen(requests[i]));
		assert_begins(&client, "HTTP/1.1 405 ");
		assert_contains(&client, "\r\nAllow: GET, HEAD\r\n");
	}
	assert_int_equal(fixture->calls, 0);
	assert_serves(fixture);
}

static void test_server_body_of_a_get_is_refused_unread(void **state)
{
	static const char *const requests[] = {
		"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc",
		"GET /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		CLEANUP(client_done) struct client client = {0};

		exchange(fixture, &client, requests[i], strlen(requests[i]));
		assert_begins(&client, "HTTP/1.1 413 ");
	}
	assert_int_equal(fixture->calls, 0);
	assert_serves(fixture);
}

/* Whatever it says, it says it, and closes. */
static void test_server_malformed_request_ends_without_a_call(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} requests[] = {
#define BYTES(literal) {literal, sizeof(literal) - 1}
		BYTES("nonsense\r\n\r\n"),
		BYTES("\0\0\0\0\r\n\r\n"),
		BYTES("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"),
		BYTES("GET\r\n\r\n"),
		BYTES("GET /status HTTP/9.9\r\nHost: x\r\n\r\n"),
		BYTES("GET /status SMTP/1.1\r\nHost: x\r\n\r\n"),
		BYTES("GET /status HTTP/1.1\r\n\r\n"),
		BYTES("GET /status HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
		BYTES("GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
#undef BYTES
	};
	struct fixture *fixture = *state;

	/* Some leave the server waiting for more, until the time is over. */
	server_set_timeout(fixture->server, 200 * MILLISECONDS);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		CLEANUP(client_done) struct client client = {0};

		exchange(fixture, &client, requests[i].bytes, requests[i].length);
		if (strncmp(client.received.data, "HTTP/1.1 200", 12) == 0)
			fail_msg("request %zu was answered", i);
	}
	assert_int_equal(fixture->calls, 0);
	assert_serves(fixture);
}

static void add_many(struct text *text, const char *piece, size_t length)
{
	while (text->length < length)
		text_puts(text, piece);
}

static void test_server_huge_request_is_cut_off(void **state)
{
	static const struct {
		const char *start, *piece;
	} requests[] = {
		{"GET /", "aaaaaaaaaaaaaaaa"},
		{"", "GETGETGETGETGET"},
		{"GET /status HTTP/1.1\r\nHost: x\r\nX: ", "bbbbbbbbbbbbbbbb"},
		{"GET /status HTTP/1.1\r\nHost: x\r\n", "Name: value\r\n"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		CLEANUP(client_done) struct client client = {0};
		CLEANUP(text_done) struct text request = {0};

		text_puts(&request, requests[i].start);
		add_many(&request, requests[i].piece, (size_t)1024 * 1024);
		exchange(fixture, &client, request.data, request.length);
		if (client.received.length > 0 &&
		    strncmp(client.received.data, "HTTP/1.1 4", 10) != 0)
			fail_msg("request %zu: %.60s", i, client.received.data);
		/* Not all of it was taken: the socket's own buffer holds a part. */
		assert_true(client.sent < request.length);
	}
	assert_int_equal(fixture->calls, 0);
	assert_serves(fixture);
}

static void on_drip(struct loop_source *source, void *user)
{
	static const char header[] = "X: y\r\n";
	struct client *client = user;

	if (client->closed)
		return;
	(void)send(client->fd, &header[client->dripped++ % strlen(header)], 1,
		   MSG_NOSIGNAL | MSG_DONTWAIT);
	loop_source_arm(source, loop_now(client->fixture->loop) + UINT64_C(10) * MILLISECONDS);
}

static void test_server_slow_request_is_bounded_as_a_whole(void **state)
{
	static const char start[] = "GET /status HTTP/1.1\r\nHost: x\r\n";
	struct fixture *fixture = *state;
	CLEANUP(client_done) struct client silent = {0}, dripping = {0};
	uint64_t begin = loop_now(fixture->loop);

	server_set_timeout(fixture->server, UINT64_C(300) * MILLISECONDS);
	client_open(&silent, fixture, "", 0);
	client_open(&dripping, fixture, start, strlen(start));
	assert_int_equal(loop_add_timer(fixture->loop, "drip", begin + UINT64_C(50) * MILLISECONDS,
					on_drip, &dripping, &dripping.drip),
			 0);
	client_wait(&silent);
	client_wait(&dripping);
	assert_true(loop_now(fixture->loop) - begin >= UINT64_C(300) * MILLISECONDS);
	assert_true(loop_now(fixture->loop) - begin < UINT64_C(5000) * MILLISECONDS);
	assert_int_equal(fixture->calls, 0);
	assert_serves(fixture);
}

/* The server finds the bytes and their end at once. */
static void test_server_half_a_request_that_has_ended_ends_the_connection(void **state)
{
	static const char *const parts[] = {"", "G", "GET", "GET / HTTP/1.1\r\nHost: x\r\n"};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		CLEANUP(client_done) struct client client = {0};

		client_open(&client, fixture, "", 0);
		assert_int_equal(send(client.fd, parts[i], strlen(parts[i]), 0), strlen(parts[i]));
		assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
		client_wait(&client);
		assert_int_equal(client.received.length, 0);
	}
	assert_int_equal(fixture->calls, 0);
}

static void test_server_whole_request_that_has_ended_is_answered(void **state)
{
	struct fixture *fixture = *state;
	CLEANUP(client_done) struct client client = {0};

	client_open(&client, fixture, "", 0);
	assert_int_equal(send(client.fd, well_formed, strlen(well_formed), 0), strlen(well_formed));
	assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
	client_wait(&client);
	text_puts(&client.received, "");
	assert_begins(&client, "HTTP/1.1 200 OK\r\n");
}

static void test_server_slow_reader_is_bounded(void **state)
{
	static const char request[] = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(client_done) struct client client = {.lazy = true};
	struct fixture *fixture = *state;

	server_set_timeout(fixture->server, UINT64_C(200) * MILLISECONDS);
	client_open(&client, fixture, request, strlen(request));
	client_wait(&client);
	assert_int_equal(fixture->calls, 1);
	assert_serves(fixture);
}

static void on_enough(struct loop_source *source, void *user)
{
	(void)source;
	loop_stop(user);
}

/* Lets everything happen that is about to: rounds until 50 ms are over. */
static void settle(struct fixture *fixture)
{
	struct loop_source *timer;

	assert_int_equal(loop_add_timer(fixture->loop, "enough",
					loop_now(fixture->loop) + UINT64_C(50) * MILLISECONDS,
					on_enough, fixture->loop, &timer),
			 0);
	run(fixture);
	loop_source_free(timer);
}

static void test_server_full_house_lets_the_next_in_when_one_leaves(void **state)
{
	struct fixture *fixture = *state;
	struct client idle[SERVER_CONNECTION_MAX] = {{0}};
	CLEANUP(client_done) struct client last = {0};
	uint64_t begin;

	for (size_t i = 0; i < SERVER_CONNECTION_MAX; i++)
		client_open(&idle[i], fixture, "GET", 3);
	settle(fixture);
	client_open(&last, fixture, well_formed, strlen(well_formed));
	settle(fixture);
	assert_int_equal(last.received.length, 0);
	begin = loop_now(fixture->loop);
	client_done(&idle[7]);
	idle[7] = (struct client){0};
	client_wait(&last);
	/* Not by anybody's time limit. */
	assert_true(loop_now(fixture->loop) - begin < UINT64_C(5000) * MILLISECONDS);
	text_puts(&last.received, "");
	assert_begins(&last, "HTTP/1.1 200 OK\r\n");
	for (size_t i = 0; i < SERVER_CONNECTION_MAX; i++)
		client_done(&idle[i]);
}

static size_t count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	/* Of this process alone, which has one thread. */
	while (readdir(directory)) /* NOLINT(concurrency-mt-unsafe) */
		count++;
	closedir(directory);
	return count;
}

static void test_server_free_with_clients_leaves_no_descriptor(void **state)
{
	struct fixture *fixture = *state;
	struct client clients[4] = {{0}};
	size_t before;

	server_free(TAKE(fixture->server));
	before = count_descriptors();
	assert_int_equal(server_new_unix(fixture->loop, fixture->path, 0600, answer, fixture,
					 &fixture->server, NULL),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		client_open(&clients[i], fixture, "GET /", 5);
	settle(fixture);
	server_free(TAKE(fixture->server));
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		client_done(&clients[i]);
	assert_int_equal(count_descriptors(), before);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_server_get_gives_the_document_and_closes),
		TEST(test_server_head_gives_the_headers_alone),
		TEST(test_server_unknown_path_is_not_found),
		TEST(test_server_path_is_decoded_and_without_query),
		TEST(test_server_failed_body_is_an_error),
		TEST(test_server_large_document_comes_whole),
		TEST(test_server_other_methods_are_refused_before_their_body),
		TEST(test_server_body_of_a_get_is_refused_unread),
		TEST(test_server_malformed_request_ends_without_a_call),
		TEST(test_server_huge_request_is_cut_off),
		TEST(test_server_slow_request_is_bounded_as_a_whole),
		TEST(test_server_half_a_request_that_has_ended_ends_the_connection),
		TEST(test_server_whole_request_that_has_ended_is_answered),
		TEST(test_server_slow_reader_is_bounded),
		TEST(test_server_full_house_lets_the_next_in_when_one_leaves),
		TEST(test_server_free_with_clients_leaves_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
