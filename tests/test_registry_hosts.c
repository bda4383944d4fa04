/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Whom a read asks (registry_lab.h): the next host where one fails or is of
 * another cluster, whoever gives a token, and nobody whom the registry, or the
 * environment, would send it to.
 */
#include <errno.h>
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

static void test_registry_read_with_a_proxy_in_the_environment_does_not_use_it(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
	registry_lab_open(lab, "etcd", false);
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	registry_lab_read(lab, 1);
	assert_int_equal(unsetenv("http_proxy"), 0);
	assert_int_equal(lab->failed, 0);
	assert_int_equal(http_server_count(lab->servers[0]), 1);
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
	struct registry_lab *lab = *state;
	struct http_server *other = http_server_new(lab->loop, registry_lab_serve_empty, NULL);

	lab->servers[0] = http_server_new(lab->loop, serve_redirect, other);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 1);
	assert_non_null(strstr(lab->errors[0].data, "redirects are not followed"));
	assert_int_equal(http_server_count(other), 0);
	http_server_free(other);
}

static void test_registry_read_with_a_failing_host_goes_to_the_next_and_stays(void **state)
{
	static http_server_function *const failing[] = {registry_lab_serve_500,
							registry_lab_serve_cut_off};
	struct registry_lab *lab = *state;

	for (size_t i = 0; i < ARRAY_SIZE(failing); i++) {
		lab->answers = lab->done = 0;
		lab->servers[0] = http_server_new(lab->loop, failing[i], NULL);
		lab->servers[1] = http_server_new(lab->loop, registry_lab_serve_empty, NULL);
		registry_lab_open(lab, "etcd", false);
		registry_lab_read(lab, 3);
		lab->answers = 0;
		registry_lab_read(lab, 3);
		assert_int_equal(lab->failed, 0);
		assert_int_equal(http_server_count(lab->servers[0]), 1);
		assert_int_equal(http_server_count(lab->servers[1]), 2);
		registry_freep(&lab->registry);
		http_server_free(TAKE(lab->servers[0]));
		http_server_free(TAKE(lab->servers[1]));
	}
}

static void test_registry_read_without_any_good_host_names_each(void **state)
{
	struct registry_lab *lab = *state;
	char expected[256];

	lab->servers[0] = http_server_new(lab->loop, registry_lab_serve_500, NULL);
	lab->servers[1] = http_server_new(lab->loop, registry_lab_serve_cut_off, NULL);
	registry_lab_open(lab, "etcd", false);
	registry_lab_read(lab, 2);
	(void)snprintf(expected, sizeof(expected),
		       "http://%s: status 500 (starts with \"oops\"): is this an etcd?; "
		       "http://%s: the answer was cut off",
		       http_server_address(lab->servers[0]), http_server_address(lab->servers[1]));
	assert_int_equal(lab->failed, 2);
	assert_string_equal(lab->errors[1].data, expected);
	assert_int_equal(lab->unreachable.class, ERROR_TRANSIENT);
	assert_string_equal(lab->unreachable.message, expected);
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
	for (size_t i = 0; i < registry_lab_count(request, "request_range"); i++)
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
		struct registry_lab *lab;

		assert_int_equal(registry_lab_begin(state), 0);
		lab = *state;
		lab->servers[0] = http_server_new(lab->loop, serve_cluster, &other);
		lab->servers[1] = http_server_new(lab->loop, serve_cluster, &known);
		registry_lab_open(lab, schemes[i], false);
		lab->registry->cluster = known;
		registry_lab_read(lab, 3);
		assert_int_equal(lab->failed, 0);
		for (size_t j = 0; j < 3; j++)
			assert_int_equal(lab->revisions[j], known);
		assert_int_equal(registry_lab_end(state), 0);
	}
}

static void test_registry_read_without_the_known_cluster_takes_another(void **state)
{
	unsigned other = 8;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		struct registry_lab *lab;

		assert_int_equal(registry_lab_begin(state), 0);
		lab = *state;
		lab->servers[0] = http_server_new(lab->loop, serve_cluster, &other);
		lab->servers[1] = http_server_new(lab->loop, registry_lab_serve_500, NULL);
		registry_lab_open(lab, schemes[i], false);
		lab->registry->cluster = 7;
		registry_lab_read(lab, 100);
		assert_int_equal(lab->failed, 0);
		assert_int_equal(lab->answers, 100);
		for (size_t j = 0; j < 100; j++)
			assert_int_equal(lab->revisions[j], other);
		/* Each host once for the known one, and the first once more. */
		assert_true(http_server_count(lab->servers[1]) <=
			    http_server_count(lab->servers[0]));
		assert_int_equal(registry_lab_end(state), 0);
	}
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
		return registry_lab_serve_empty(server, request, answer, user);
	http_server_answer(answer, "401 Unauthorized",
			   "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}");
	return true;
}

static void test_registry_read_with_an_expired_token_authenticates_again_once(void **state)
{
	struct registry_lab *lab = *state;
	unsigned tokens = 0;

	lab->servers[0] = http_server_new(lab->loop, serve_tokens, &tokens);
	registry_lab_open(lab, "etcd", true);
	registry_lab_read(lab, 200);
	assert_int_equal(lab->answers, 200);
	assert_int_equal(lab->failed, 0);
	assert_int_equal(tokens, 2);
}

/* user: the answer to who asks for a token, or NULL. */
static bool serve_no_token(struct http_server *server, const char *request, struct text *answer,
			   void *user)
{
	if (!strstr(request, "/v3/auth/authenticate"))
		return registry_lab_serve_empty(server, request, answer, NULL);
	if (!user)
		return registry_lab_serve_500(server, request, answer, NULL);
	http_server_answer(answer, "400 Bad Request", user);
	return true;
}

static void test_registry_read_without_a_token_asks_the_next_host_for_one(void **state)
{
	static char off[] = "{\"error\":\"etcdserver: authentication is not enabled\",\"code\":9}";
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_no_token, NULL);
	lab->servers[1] = http_server_new(lab->loop, serve_no_token, off);
	registry_lab_open(lab, "etcd", true);
	registry_lab_read(lab, 70);
	assert_int_equal(lab->answers, 70);
	assert_int_equal(lab->failed, 0);
	/* Where there are no users none is needed. */
	assert_true(http_server_count(lab->servers[1]) > 0);
}

static void test_registry_read_where_nobody_gives_a_token_fails_whole(void **state)
{
	struct registry_lab *lab = *state;

	lab->servers[0] = http_server_new(lab->loop, serve_no_token, NULL);
	registry_lab_open(lab, "etcd", true);
	registry_lab_read(lab, 70);
	assert_int_equal(lab->failed, 70);
	assert_int_equal(lab->done, 1);
	assert_non_null(strstr(lab->errors[69].data, "status 500"));
	assert_int_equal(http_server_count(lab->servers[0]), 1);
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
	struct registry_lab *lab = *state;
	CLEANUP(text_done) struct text url = {0};
	struct registry_options options = {.timeout = SECONDS / 5};
	struct error error;
	uint64_t begin;

	lab->servers[0] = http_server_new(lab->loop, serve_silence, NULL);
	lab->servers[1] = http_server_new(lab->loop, serve_silence, NULL);
	text_printf(&url, "etcd2://%s,%s", http_server_address(lab->servers[0]),
		    http_server_address(lab->servers[1]));
	options.url = url.data;
	assert_int_equal(registry_open(lab->loop, &options, &lab->registry, &error), 0);
	begin = loop_now(lab->loop);
	/* More services than are ever under way: the rest must not wait its turn to time out. */
	registry_lab_read(lab, SERVICES_MAX);
	assert_int_equal(lab->failed, SERVICES_MAX);
	assert_int_equal(lab->unreachable.code, -ETIMEDOUT);
	assert_non_null(strstr(lab->unreachable.message, "; http://127.0.0.1:"));
	assert_true(loop_now(lab->loop) - begin < 2UL * SECONDS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		registry_test(test_registry_read_with_a_proxy_in_the_environment_does_not_use_it),
		registry_test(test_registry_read_with_a_redirect_does_not_follow_it),
		registry_test(test_registry_read_with_a_failing_host_goes_to_the_next_and_stays),
		registry_test(test_registry_read_without_any_good_host_names_each),
		cmocka_unit_test(
			test_registry_read_of_another_cluster_asks_for_the_one_that_is_known),
		cmocka_unit_test(test_registry_read_without_the_known_cluster_takes_another),
		registry_test(test_registry_read_with_an_expired_token_authenticates_again_once),
		registry_test(test_registry_read_without_a_token_asks_the_next_host_for_one),
		registry_test(test_registry_read_where_nobody_gives_a_token_fails_whole),
		registry_test(test_registry_read_from_silent_hosts_ends_within_its_timeout),
	};

	return cmocka_run_group_tests_name("registry_hosts", tests, NULL, NULL);
}
