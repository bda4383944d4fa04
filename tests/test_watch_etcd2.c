/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A watch against an etcd v2 that answers each poll with what the test wants,
 * at once. Whatever that is, it is asked again as often as it has news, and
 * after a pause where it has none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/watch_private.h"
#include "http_server.h"

enum { MILLISECONDS = 1000000, PAUSE = 40, TURNS = 6 };

struct fixture {
	struct loop *loop;
	struct loop_source *deadline;
	struct http_server *server;
	struct registry *registry;
	struct registry_watch *watch;
	const char *status, *body; /* of a poll's answer; NULL: none */
	unsigned reads, polls, events, errors, losses;
};

static void on_deadline(struct loop_source *source, void *user)
{
	const struct fixture *fixture = user;

	(void)source;
	fail_msg("in vain: %u reads, %u polls, %u events", fixture->reads, fixture->polls,
		 fixture->events);
}

static void answer(struct text *into, const char *status, const char *body)
{
	text_printf(into,
		    "HTTP/1.1 %s\r\nX-Etcd-Index: 5\r\nContent-Length: %zu\r\n"
		    "Content-Type: application/json\r\n\r\n%s",
		    status, strlen(body), body);
}

static bool serve(struct http_server *server, const char *request, struct text *into, void *user)
{
	struct fixture *fixture = user;

	(void)server;
	loop_stop(fixture->loop);
	if (strstr(request, "quorum=true")) {
		fixture->reads++;
		answer(into, "200 OK",
		       "{\"action\":\"get\",\"node\":{\"key\":\"/s\",\"dir\":true,\"nodes\":"
		       "[{\"key\":\"/s/a\",\"value\":\"1\"}]}}");
		return true;
	}
	assert_non_null(strstr(request, "wait=true"));
	fixture->polls++;
	if (fixture->body)
		answer(into, fixture->status, fixture->body);
	return true;
}

static void on_update(const struct registry_update *update, void *user)
{
	struct fixture *fixture = user;

	fixture->errors += update->error != NULL;
	fixture->events += !update->error && !update->whole;
	loop_stop(fixture->loop);
}

static void on_state(enum registry_state state, const struct error *error, void *user)
{
	struct fixture *fixture = user;

	(void)error;
	fixture->losses += state == REGISTRY_LOST;
}

static int setup(void **state)
{
	static const struct registry_watch_functions functions = {on_update, on_state, NULL};
	struct registry_options options = {.timeout = 5000UL * MILLISECONDS};
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error error;
	char url[64];

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	*state = fixture;
	fixture->server = http_server_new(fixture->loop, serve, fixture);
	(void)snprintf(url, sizeof(url), "etcd2://%s", http_server_address(fixture->server));
	options.url = url;
	if (registry_open(fixture->loop, &options, &fixture->registry, &error) < 0 ||
	    registry_watch_new(fixture->registry, &functions, fixture, &fixture->watch, &error) < 0)
		return -1;
	fixture->watch->times.pause_first = fixture->watch->times.pause_max = PAUSE * MILLISECONDS;
	return loop_add_timer(fixture->loop, "deadline",
			      loop_now(fixture->loop) + 10000UL * MILLISECONDS, on_deadline,
			      fixture, &fixture->deadline);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	registry_watch_free(fixture->watch);
	registry_free(fixture->registry);
	http_server_free(fixture->server);
	loop_source_free(fixture->deadline);
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

/* Nanoseconds until the count is TURNS, with that answer to each poll. */
static uint64_t time_of_turns(struct fixture *fixture, const unsigned *count, const char *status,
			      const char *body)
{
	uint64_t begun = loop_now(fixture->loop);

	fixture->status = status;
	fixture->body = body;
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	while (*count < TURNS)
		assert_int_equal(loop_run(fixture->loop), 0);
	return loop_now(fixture->loop) - begun;
}

#define EVENT(index)                                                                              \
	"{\"action\":\"set\",\"node\":{\"key\":\"/s/a\",\"value\":\"2\",\"modifiedIndex\":" index \
	"}}"

/* As a cache would do that stands in between. */
static void test_watch_etcd2_of_an_event_that_is_known_pauses_and_tells_nothing(void **state)
{
	struct fixture *fixture = *state;
	uint64_t time = time_of_turns(fixture, &fixture->polls, "200 OK", EVENT("5"));

	/* Half a pause, at least, before each but the first. */
	assert_true(time >= (TURNS - 1) * PAUSE / 2 * MILLISECONDS);
	assert_int_equal(fixture->events, 0);
	assert_true(fixture->losses > 0);
}

static void test_watch_etcd2_of_an_index_cleared_again_and_again_pauses(void **state)
{
	struct fixture *fixture = *state;
	uint64_t time = time_of_turns(fixture, &fixture->reads, "400 Bad Request",
				      "{\"errorCode\":401,\"message\":\"cleared\",\"index\":5}");

	/* The second read is at once. */
	assert_true(time >= (TURNS - 2) * PAUSE / 2 * MILLISECONDS);
	assert_int_equal(fixture->events, 0);
}

static void test_watch_etcd2_of_an_event_tells_it_and_asks_again_at_once(void **state)
{
	struct fixture *fixture = *state;

	fixture->watch->times.pause_first = fixture->watch->times.pause_max = 60000UL *
									      MILLISECONDS;
	fixture->status = "200 OK";
	fixture->body = EVENT("6");
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	while (fixture->events == 0) {
		assert_int_equal(loop_run(fixture->loop), 0);
		/* That event once; then nothing. */
		if (fixture->polls == 1)
			fixture->body = NULL;
	}
	while (fixture->polls < 2)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_int_equal(fixture->reads, 1);
}

/* What a poll can be answered with besides, and what is made of it; nothing of it is told. */
static void test_watch_etcd2_of_each_wrong_answer_pauses_and_goes_on(void **state)
{
	static const struct {
		const char *status, *body;
		bool loses, fails, reads;
	} cases[] = {
		{"200 OK", "nonsense", true, false, false},
		{"200 OK", "{\"action\":\"set\"}", true, false, false},
		{"200 OK", "", false, false, false},
		{"503 Busy", "busy", true, false, false},
		{"500 Busy", "{\"errorCode\":300,\"message\":\"raft\"}", true, false, false},
		{"403 No", "{\"errorCode\":110,\"message\":\"no\"}", false, true, true},
		{"404 No", "{\"errorCode\":100,\"message\":\"none\"}", false, true, true},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t time;

		print_message("%s: %s\n", cases[i].status, cases[i].body);
		fixture->polls = fixture->reads = fixture->errors = fixture->losses = 0;
		time = time_of_turns(fixture, &fixture->polls, cases[i].status, cases[i].body);
		registry_watch_remove(fixture->watch, "/s");
		assert_true(time >= (TURNS - 1) * PAUSE / 2 * MILLISECONDS);
		assert_int_equal(fixture->losses > 0, cases[i].loses);
		assert_int_equal(fixture->errors > 0, cases[i].fails);
		assert_int_equal(fixture->reads > 1, cases[i].reads);
	}
	assert_int_equal(fixture->events, 0);
}

/* It names one key, and takes away all that were below. */
static void test_watch_etcd2_of_a_directory_that_goes_reads_anew(void **state)
{
	struct fixture *fixture = *state;

	fixture->status = "200 OK";
	fixture->body = "{\"action\":\"delete\",\"node\":{\"key\":\"/s\",\"dir\":true,"
			"\"modifiedIndex\":6}}";
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	while (fixture->reads < 2) {
		assert_int_equal(loop_run(fixture->loop), 0);
		if (fixture->polls == 1)
			fixture->body = NULL;
	}
	assert_int_equal(fixture->events, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_watch_etcd2_of_an_event_that_is_known_pauses_and_tells_nothing),
		TEST(test_watch_etcd2_of_an_index_cleared_again_and_again_pauses),
		TEST(test_watch_etcd2_of_each_wrong_answer_pauses_and_goes_on),
		TEST(test_watch_etcd2_of_a_directory_that_goes_reads_anew),
		TEST(test_watch_etcd2_of_an_event_tells_it_and_asks_again_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
