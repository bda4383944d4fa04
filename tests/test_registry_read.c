/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/registry/registry_private.h"
#include "dragoman/base/memory.h"
#include "dragoman/registry/registry.h"
#include "http_server.h"

/*
 * Reads against servers that are as wrong as each test wants them. Every
 * server runs on the loop of the read itself, so nothing here waits for
 * anything but an event.
 */

enum { SERVICES_MAX = 200, SECONDS = 1000000000 };

struct fixture {
	struct loop *loop;
	struct http_server *servers[2];
	struct registry *registry;
	struct loop_source *deadline;
	char password_file[32];
	/* What came back. */
	struct text errors[SERVICES_MAX];
	struct text documents[SERVICES_MAX]; /* keys, joined by blanks */
	uint64_t revisions[SERVICES_MAX];
	size_t answers, failed, done;
	struct error unreachable;
	bool free_in_answer, free_in_done;
};

static void on_deadline(struct loop_source *source, void *user)
{
	(void)source;
	(void)user;
	fail_msg("nothing came back within the deadline");
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fd;

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	strcpy(fixture->password_file, "/tmp/dragoman-test-XXXXXX");
	fd = mkstemp(fixture->password_file);
	if (fd < 0 || write(fd, "secret\n", 7) != 7 || close(fd) < 0)
		return -1;
	*state = fixture;
	return loop_add_timer(fixture->loop, "deadline", loop_now(fixture->loop) + 20UL * SECONDS,
			      on_deadline, NULL, &fixture->deadline);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	registry_free(fixture->registry);
	for (size_t i = 0; i < ARRAY_SIZE(fixture->servers); i++)
		http_server_free(fixture->servers[i]);
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		text_done(&fixture->errors[i]);
		text_done(&fixture->documents[i]);
	}
	loop_source_free(fixture->deadline);
	loop_free(fixture->loop);
	(void)unlink(fixture->password_file);
	free(fixture);
	return 0;
}

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct fixture *fixture = user;

	fixture->answers++;
	fixture->revisions[index] = answer->position.revision;
	if (answer->error) {
		fixture->failed++;
		text_puts(&fixture->errors[index], answer->error->message);
	}
	for (size_t i = 0; i < answer->count; i++)
		text_printf(&fixture->documents[index], "%s%s", i ? " " : "",
			    answer->documents[i].key);
	if (fixture->free_in_answer) {
		registry_freep(&fixture->registry);
		loop_stop(fixture->loop);
	}
}

static void on_done(const struct error *unreachable, void *user)
{
	struct fixture *fixture = user;

	fixture->done++;
	fixture->unreachable = unreachable ? *unreachable : (struct error){0};
	if (fixture->free_in_done)
		registry_freep(&fixture->registry);
	loop_stop(fixture->loop);
}

/* Opens a registry of the fixture's servers. */
static void open_registry(struct fixture *fixture, const char *scheme, bool with_user)
{
	CLEANUP(text_done) struct text url = {0};
	struct registry_options options = {.timeout = 10UL * SECONDS};
	struct error error;

	text_printf(&url, "%s://%s", scheme, http_server_address(fixture->servers[0]));
	if (fixture->servers[1])
		text_printf(&url, ",%s", http_server_address(fixture->servers[1]));
	options.url = url.data;
	options.user = with_user ? "alice" : NULL;
	options.password_file = with_user ? fixture->password_file : NULL;
	assert_int_equal(registry_open(fixture->loop, &options, &fixture->registry, &error), 0);
}

/* Reads "/s0", "/s1"... to the end. */
static void read_services(struct fixture *fixture, size_t count)
{
	char names[SERVICES_MAX][32];
	const char *keys[SERVICES_MAX];
	struct registry_read *read;
	struct error error;

	for (size_t i = 0; i < count; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "/s%zu", i);
		keys[i] = names[i];
	}
	assert_int_equal(registry_read_start(fixture->registry, keys, count, on_answer, on_done,
					     fixture, &read, &error),
			 0);
	assert_int_equal(fixture->answers, 0);
	assert_int_equal(loop_run(fixture->loop), 0);
}

static size_t count_of(const char *text, const char *what)
{
	size_t count = 0;

	for (; (text = strstr(text, what)); text++)
		count++;
	return count;
}

/* Nothing in any range. */
static bool serve_empty(struct http_server *server, const char *request, struct text *answer,
			void *user)
{
	CLEANUP(text_done) struct text body = {0};
	size_t ranges = count_of(request, "request_range");

	(void)server;
	(void)user;
	text_puts(&body, "{\"header\":{\"revision\":\"9\"},\"succeeded\":true,\"responses\":[");
	for (size_t i = 0; i < ranges; i++)
		text_printf(&body, "%s{\"response_range\":{}}", i ? "," : "");
	text_puts(&body, "]}");
	http_server_answer(answer, "200 OK", body.data);
	return true;
}

static bool serve_500(struct http_server *server, const char *request, struct text *answer,
		      void *user)
{
	(void)server;
	(void)request;
	(void)user;
	http_server_answer(answer, "500 Internal Server Error", "oops");
	return true;
}

static bool serve_cut_off(struct http_server *server, const char *request, struct text *answer,
			  void *user)
{
	(void)server;
	(void)request;
	(void)user;
	text_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"header\":");
	return false;
}

static void test_registry_read_of_many_services_takes_one_request_for_64(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_empty, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 130);
	assert_int_equal(fixture->answers, 130);
	assert_int_equal(fixture->failed, 0);
	assert_int_equal(fixture->done, 1);
	assert_int_equal(fixture->unreachable.code, 0);
	assert_int_equal(fixture->revisions[129], 9);
	assert_int_equal(http_server_count(fixture->servers[0]), 3);
}

static void test_registry_read_with_a_proxy_in_the_environment_does_not_use_it(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_empty, NULL);
	open_registry(fixture, "etcd", false);
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	read_services(fixture, 1);
	assert_int_equal(unsetenv("http_proxy"), 0);
	assert_int_equal(fixture->failed, 0);
	assert_int_equal(http_server_count(fixture->servers[0]), 1);
}

static bool serve_redirect(struct http_server *server, const char *request, struct text *answer,
			   void *user)
{
	(void)server;
	(void)request;
	text_printf(answer,
		    "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://%s/v3/kv/txn\r\n"
		    "Content-Length: 0\r\n\r\n",
		    http_server_address(user));
	return true;
}

static void test_registry_read_with_a_redirect_does_not_follow_it(void **state)
{
	struct fixture *fixture = *state;
	struct http_server *other = http_server_new(fixture->loop, serve_empty, NULL);

	fixture->servers[0] = http_server_new(fixture->loop, serve_redirect, other);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 1);
	assert_non_null(strstr(fixture->errors[0].data, "redirects are not followed"));
	assert_int_equal(http_server_count(other), 0);
	http_server_free(other);
}

static void test_registry_read_of_no_services_is_done_at_once(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_empty, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 0);
	assert_int_equal(fixture->done, 1);
	assert_int_equal(fixture->unreachable.code, 0);
	assert_int_equal(http_server_count(fixture->servers[0]), 0);
}

static void test_registry_read_with_a_failing_host_goes_to_the_next_and_stays(void **state)
{
	static http_server_function *const failing[] = {serve_500, serve_cut_off};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(failing); i++) {
		fixture->answers = fixture->done = 0;
		fixture->servers[0] = http_server_new(fixture->loop, failing[i], NULL);
		fixture->servers[1] = http_server_new(fixture->loop, serve_empty, NULL);
		open_registry(fixture, "etcd", false);
		read_services(fixture, 3);
		fixture->answers = 0;
		read_services(fixture, 3);
		assert_int_equal(fixture->failed, 0);
		assert_int_equal(http_server_count(fixture->servers[0]), 1);
		assert_int_equal(http_server_count(fixture->servers[1]), 2);
		registry_freep(&fixture->registry);
		http_server_free(TAKE(fixture->servers[0]));
		http_server_free(TAKE(fixture->servers[1]));
	}
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
	struct fixture *fixture = *state;
	bool right = true, wrong = false;

	fixture->servers[0] = http_server_new(fixture->loop, serve_half_right, &wrong);
	fixture->servers[1] = http_server_new(fixture->loop, serve_half_right, &right);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 1);
	assert_string_equal(fixture->documents[0].data, "/s0/b");
}

static void test_registry_read_without_any_good_host_names_each(void **state)
{
	struct fixture *fixture = *state;
	char expected[256];

	fixture->servers[0] = http_server_new(fixture->loop, serve_500, NULL);
	fixture->servers[1] = http_server_new(fixture->loop, serve_cut_off, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 2);
	(void)snprintf(expected, sizeof(expected),
		       "http://%s: status 500 (starts with \"oops\"): is this an etcd?; "
		       "http://%s: the answer was cut off",
		       http_server_address(fixture->servers[0]),
		       http_server_address(fixture->servers[1]));
	assert_int_equal(fixture->failed, 2);
	assert_string_equal(fixture->errors[1].data, expected);
	assert_int_equal(fixture->unreachable.class, ERROR_TRANSIENT);
	assert_string_equal(fixture->unreachable.message, expected);
}

/* Nothing in any range, by the cluster, and at the revision, of the server's user pointer. */
static bool serve_cluster(struct http_server *server, const char *request, struct text *answer,
			  void *user)
{
	const unsigned *cluster = user;
	CLEANUP(text_done) struct text body = {0};
	char head[64];

	(void)server;
	if (strstr(request, "GET /v2/")) {
		static const char none[] = "{\"errorCode\":100,\"message\":\"Key not found\"}";

		text_printf(answer,
			    "HTTP/1.1 404 Not Found\r\nX-Etcd-Cluster-Id: %x\r\n"
			    "X-Etcd-Index: %u\r\nContent-Length: %zu\r\n\r\n%s",
			    *cluster, *cluster, strlen(none), none);
		return true;
	}
	(void)snprintf(head, sizeof(head), "{\"cluster_id\":\"%u\",\"revision\":\"%u\"}", *cluster,
		       *cluster);
	text_printf(&body, "{\"header\":%s,\"succeeded\":true,\"responses\":[", head);
	for (size_t i = 0; i < count_of(request, "request_range"); i++)
		text_printf(&body, "%s{\"response_range\":{}}", i ? "," : "");
	text_puts(&body, "]}");
	http_server_answer(answer, "200 OK", body.data);
	return true;
}

static const char *const schemes[] = {"etcd", "etcd2"};

static void test_registry_read_of_another_cluster_asks_for_the_one_that_is_known(void **state)
{
	unsigned known = 7, other = 8;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		struct fixture *fixture;

		assert_int_equal(setup(state), 0);
		fixture = *state;
		fixture->servers[0] = http_server_new(fixture->loop, serve_cluster, &other);
		fixture->servers[1] = http_server_new(fixture->loop, serve_cluster, &known);
		open_registry(fixture, schemes[i], false);
		fixture->registry->cluster = known;
		read_services(fixture, 3);
		assert_int_equal(fixture->failed, 0);
		for (size_t j = 0; j < 3; j++)
			assert_int_equal(fixture->revisions[j], known);
		assert_int_equal(teardown(state), 0);
	}
}

static void test_registry_read_without_the_known_cluster_takes_another(void **state)
{
	unsigned other = 8;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		struct fixture *fixture;

		assert_int_equal(setup(state), 0);
		fixture = *state;
		fixture->servers[0] = http_server_new(fixture->loop, serve_cluster, &other);
		fixture->servers[1] = http_server_new(fixture->loop, serve_500, NULL);
		open_registry(fixture, schemes[i], false);
		fixture->registry->cluster = 7;
		read_services(fixture, 100);
		assert_int_equal(fixture->failed, 0);
		assert_int_equal(fixture->answers, 100);
		for (size_t j = 0; j < 100; j++)
			assert_int_equal(fixture->revisions[j], other);
		/* Each host once for the known one, and the first once more. */
		assert_true(http_server_count(fixture->servers[1]) <=
			    http_server_count(fixture->servers[0]));
		assert_int_equal(teardown(state), 0);
	}
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
		return serve_empty(server, request, answer, user);
	http_server_answer(answer, "403 Forbidden",
			   "{\"error\":\"etcdserver: permission denied\",\"code\":7}");
	return true;
}

static void test_registry_read_with_one_forbidden_service_fails_that_one_alone(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_forbidden, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 64);
	assert_int_equal(fixture->answers, 64);
	assert_int_equal(fixture->failed, 1);
	assert_non_null(strstr(fixture->errors[5].data, "etcdserver: permission denied"));
	assert_int_equal(fixture->unreachable.code, 0);
}

/* More than the cap for whoever asks for more than one service, and "/s5" always. */
static bool serve_too_large(struct http_server *server, const char *request, struct text *answer,
			    void *user)
{
	if (count_of(request, "request_range") <= 2 && !asks_for_s5(request))
		return serve_empty(server, request, answer, user);
	text_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n{");
	return false;
}

static void test_registry_read_of_too_large_answers_asks_for_less(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_too_large, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 4);
	assert_int_equal(fixture->failed, 0);
	/* 4, 2, 2, and 1 four times */
	assert_int_equal(http_server_count(fixture->servers[0]), 7);
}

/* As a proxy may that gives up on a long answer: one range for many is refused. */
static bool serve_apart(struct http_server *server, const char *request, struct text *answer,
			void *user)
{
	if (count_of(request, "request_range") > 1)
		return serve_empty(server, request, answer, user);
	http_server_answer(answer, "502 Bad Gateway", "oops");
	return true;
}

static void test_registry_read_that_fails_for_many_at_once_asks_for_each(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_apart, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 130);
	assert_int_equal(fixture->answers, 130);
	assert_int_equal(fixture->failed, 0);
	assert_int_equal(fixture->unreachable.code, 0);
	assert_true(http_server_count(fixture->servers[0]) <= 6);
}

static void test_registry_read_of_an_answer_that_is_always_too_large_fails(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_too_large, NULL);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 6);
	assert_int_equal(fixture->answers, 6);
	assert_non_null(strstr(fixture->errors[5].data, "is longer than 16777216 bytes"));
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
	struct fixture *fixture = *state;
	bool compacted = false;

	fixture->servers[0] = http_server_new(fixture->loop, serve_pages, &compacted);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 1);
	assert_string_equal(fixture->documents[0].data, "/s0/a /s0/b");
	assert_int_equal(fixture->revisions[0], 9);
}

static void test_registry_read_of_a_compacted_revision_starts_anew(void **state)
{
	struct fixture *fixture = *state;
	bool compacted = true;

	fixture->servers[0] = http_server_new(fixture->loop, serve_pages, &compacted);
	open_registry(fixture, "etcd", false);
	read_services(fixture, 1);
	assert_string_equal(fixture->documents[0].data, "/s0/a /s0/b");
	assert_int_equal(http_server_count(fixture->servers[0]), 4);
}

/* Gives tokens "t1", "t2"...; only the newest is good, and the first never is. */
static bool serve_tokens(struct http_server *server, const char *request, struct text *answer,
			 void *user)
{
	unsigned *tokens = user;
	char body[64], header[64];

	if (strstr(request, "/v3/auth/authenticate")) {
		assert_non_null(strstr(request, "{\"name\":\"alice\",\"password\":\"secret\"}"));
		(void)snprintf(body, sizeof(body), "{\"token\":\"t%u\"}", ++*tokens);
		http_server_answer(answer, "200 OK", body);
		return true;
	}
	(void)snprintf(header, sizeof(header), "\r\nAuthorization: t%u\r\n", *tokens);
	if (*tokens > 1 && strstr(request, header))
		return serve_empty(server, request, answer, user);
	http_server_answer(answer, "401 Unauthorized",
			   "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}");
	return true;
}

static void test_registry_read_with_an_expired_token_authenticates_again_once(void **state)
{
	struct fixture *fixture = *state;
	unsigned tokens = 0;

	fixture->servers[0] = http_server_new(fixture->loop, serve_tokens, &tokens);
	open_registry(fixture, "etcd", true);
	read_services(fixture, 200);
	assert_int_equal(fixture->answers, 200);
	assert_int_equal(fixture->failed, 0);
	assert_int_equal(tokens, 2);
}

/* v2: "/s0" is there, "/s1" is not, "/s2" is forbidden, all others are no etcd's answers. */
/* user: the answer to who asks for a token, or NULL. */
static bool serve_no_token(struct http_server *server, const char *request, struct text *answer,
			   void *user)
{
	if (!strstr(request, "/v3/auth/authenticate"))
		return serve_empty(server, request, answer, NULL);
	if (!user)
		return serve_500(server, request, answer, NULL);
	http_server_answer(answer, "400 Bad Request", user);
	return true;
}

static void test_registry_read_without_a_token_asks_the_next_host_for_one(void **state)
{
	static char off[] = "{\"error\":\"etcdserver: authentication is not enabled\",\"code\":9}";
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_no_token, NULL);
	fixture->servers[1] = http_server_new(fixture->loop, serve_no_token, off);
	open_registry(fixture, "etcd", true);
	read_services(fixture, 70);
	assert_int_equal(fixture->answers, 70);
	assert_int_equal(fixture->failed, 0);
	/* Where there are no users none is needed. */
	assert_true(http_server_count(fixture->servers[1]) > 0);
}

static void test_registry_read_where_nobody_gives_a_token_fails_whole(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_no_token, NULL);
	open_registry(fixture, "etcd", true);
	read_services(fixture, 70);
	assert_int_equal(fixture->failed, 70);
	assert_int_equal(fixture->done, 1);
	assert_non_null(strstr(fixture->errors[69].data, "status 500"));
	assert_int_equal(http_server_count(fixture->servers[0]), 1);
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
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fixture->servers[0] = http_server_new(fixture->loop, serve_refusal, &cases[i]);
		open_registry(fixture, "etcd2", cases[i].with_user);
		read_services(fixture, 1);
		assert_non_null(strstr(fixture->errors[0].data, cases[i].expected));
		registry_freep(&fixture->registry);
		http_server_free(TAKE(fixture->servers[0]));
		text_done(&fixture->errors[0]);
		fixture->answers = 0;
	}
}

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
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_v2, NULL);
	open_registry(fixture, "etcd2", true);
	read_services(fixture, 20);
	assert_int_equal(fixture->answers, 20);
	assert_int_equal(fixture->failed, 18);
	assert_string_equal(fixture->documents[0].data, "/s0/a");
	assert_int_equal(fixture->revisions[0], 42);
	assert_null(fixture->errors[1].data);
	assert_int_equal(fixture->revisions[1], 42);
	assert_non_null(strstr(fixture->errors[2].data,
			       "Insufficient credentials (a wrong user or "
			       "password, or no role that reads \"/s2*\")"));
	assert_non_null(strstr(fixture->errors[3].data, "no v2 keys API here"));
	assert_int_equal(fixture->unreachable.code, 0);
}

static bool serve_silence(struct http_server *server, const char *request, struct text *answer,
			  void *user)
{
	(void)server;
	(void)request;
	(void)answer;
	(void)user;
	return true;
}

static void test_registry_read_from_silent_hosts_ends_within_its_timeout(void **state)
{
	struct fixture *fixture = *state;
	CLEANUP(text_done) struct text url = {0};
	struct registry_options options = {.timeout = SECONDS / 5};
	struct error error;
	uint64_t begin;

	fixture->servers[0] = http_server_new(fixture->loop, serve_silence, NULL);
	fixture->servers[1] = http_server_new(fixture->loop, serve_silence, NULL);
	text_printf(&url, "etcd2://%s,%s", http_server_address(fixture->servers[0]),
		    http_server_address(fixture->servers[1]));
	options.url = url.data;
	assert_int_equal(registry_open(fixture->loop, &options, &fixture->registry, &error), 0);
	begin = loop_now(fixture->loop);
	/* More services than are ever under way: the rest must not wait its turn to time out. */
	read_services(fixture, SERVICES_MAX);
	assert_int_equal(fixture->failed, SERVICES_MAX);
	assert_int_equal(fixture->unreachable.code, -ETIMEDOUT);
	assert_non_null(strstr(fixture->unreachable.message, "; http://127.0.0.1:"));
	assert_true(loop_now(fixture->loop) - begin < 2UL * SECONDS);
}

static void test_registry_read_of_a_missing_file_is_unreachable(void **state)
{
	struct fixture *fixture = *state;
	struct registry_options options = {.url = "file:///nonexistent/x.json"};
	struct error error;

	assert_int_equal(registry_open(fixture->loop, &options, &fixture->registry, &error), 0);
	read_services(fixture, 2);
	assert_int_equal(fixture->failed, 2);
	assert_string_equal(fixture->errors[1].data,
			    "/nonexistent/x.json: No such file or directory");
	assert_string_equal(fixture->unreachable.message,
			    "/nonexistent/x.json: No such file or directory");
}

static void test_registry_freed_in_an_answer_makes_no_further_call(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_empty, NULL);
	open_registry(fixture, "etcd", false);
	fixture->free_in_answer = true;
	read_services(fixture, 130);
	assert_int_equal(fixture->answers, 1);
	assert_int_equal(fixture->done, 0);
}

static void test_registry_freed_when_done_is_gone(void **state)
{
	struct fixture *fixture = *state;

	fixture->servers[0] = http_server_new(fixture->loop, serve_empty, NULL);
	open_registry(fixture, "etcd", false);
	fixture->free_in_done = true;
	read_services(fixture, 3);
	assert_int_equal(fixture->answers, 3);
	assert_int_equal(fixture->done, 1);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_registry_read_of_many_services_takes_one_request_for_64),
		TEST(test_registry_read_with_a_proxy_in_the_environment_does_not_use_it),
		TEST(test_registry_read_with_a_redirect_does_not_follow_it),
		TEST(test_registry_read_of_no_services_is_done_at_once),
		TEST(test_registry_read_with_a_failing_host_goes_to_the_next_and_stays),
		TEST(test_registry_read_of_a_wrong_answer_keeps_nothing_of_it),
		TEST(test_registry_read_without_any_good_host_names_each),
		/* These two make a fixture for each API. */
		cmocka_unit_test(
			test_registry_read_of_another_cluster_asks_for_the_one_that_is_known),
		cmocka_unit_test(test_registry_read_without_the_known_cluster_takes_another),
		TEST(test_registry_read_with_one_forbidden_service_fails_that_one_alone),
		TEST(test_registry_read_of_too_large_answers_asks_for_less),
		TEST(test_registry_read_that_fails_for_many_at_once_asks_for_each),
		TEST(test_registry_read_of_an_answer_that_is_always_too_large_fails),
		TEST(test_registry_read_of_pages_is_of_one_revision),
		TEST(test_registry_read_of_a_compacted_revision_starts_anew),
		TEST(test_registry_read_with_an_expired_token_authenticates_again_once),
		TEST(test_registry_read_of_v2_tells_empty_from_failed),
		TEST(test_registry_read_without_a_token_asks_the_next_host_for_one),
		TEST(test_registry_read_where_nobody_gives_a_token_fails_whole),
		TEST(test_registry_read_of_v2_that_is_refused_says_why),
		TEST(test_registry_read_from_silent_hosts_ends_within_its_timeout),
		TEST(test_registry_read_of_a_missing_file_is_unreachable),
		TEST(test_registry_freed_in_an_answer_makes_no_further_call),
		TEST(test_registry_freed_when_done_is_gone),
	};

	return cmocka_run_group_tests_name("registry_read", tests, NULL, NULL);
}
