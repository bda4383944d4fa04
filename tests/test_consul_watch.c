/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
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

/*
 * A watch against Consuls that do what each test wants: they hold a blocking
 * query until its service changes, or the test has its time be over. What is
 * told and what is asked is written down; a test waits until it is what it
 * should be. Answers that a real Consul 1.8.7 gave are in tests/golden.
 */

enum { MILLISECONDS = 1000000, SERVICES = 8, HELD_MAX = 32 };

struct service {
	const char *name; /* NULL: none */
	uint64_t index;
	const char *instances;
};

struct held {
	struct http_connection *connection;
	char name[16];
	uint64_t index;
};

struct fixture {
	struct loop *loop;
	struct loop_source *deadline;
	struct http_server *servers[2];
	struct registry *registry;
	struct registry_watch *watch;
	struct service services[SERVICES];
	struct held held[HELD_MAX];
	size_t held_count, held_most;
	const char *recorded; /* the file of the answer to whatever is asked, or NULL */
	const char *header;   /* of each answer */
	const char *status;   /* of each answer; NULL: 200 */
	bool hold_reads;
	struct text requests, log;
};

static void on_deadline(struct loop_source *source, void *user)
{
	const struct fixture *fixture = user;

	(void)source;
	fail_msg("in vain; told:\n%s\nasked:\n%s", fixture->log.data ? fixture->log.data : "",
		 fixture->requests.data ? fixture->requests.data : "");
}

/* The server */

static struct service *service_of(struct fixture *fixture, const char *name)
{
	for (size_t i = 0; i < SERVICES; i++) {
		struct service *service = &fixture->services[i];

		if (service->name && strcmp(service->name, name) == 0)
			return service;
	}
	fail_msg("%s is not of the test", name);
	return NULL;
}

static void answer_with(const struct fixture *fixture, const struct service *service,
			struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};

	text_printf(&body, "[%s]", service->instances);
	text_printf(answer,
		    "HTTP/1.1 %s\r\nX-Consul-Index: %" PRIu64 "\r\n%sContent-Length: %zu\r\n\r\n%s",
		    fixture->status ? fixture->status : "200 OK", service->index,
		    fixture->header ? fixture->header : "", body.length, body.data);
}

static void answer_recorded(const char *name, struct text *answer)
{
	char path[64], bytes[8192];
	size_t length;
	FILE *file;

	(void)snprintf(path, sizeof(path), "tests/golden/%s.http", name);
	file = fopen(path, "r");
	assert_non_null(file);
	length = fread(bytes, 1, sizeof(bytes), file);
	assert_int_equal(fclose(file), 0);
	assert_in_range(length, 1, sizeof(bytes) - 1);
	text_add(answer, bytes, length);
}

static void hold(struct fixture *fixture, struct http_connection *connection, const char *name,
		 uint64_t index)
{
	struct held *held = &fixture->held[fixture->held_count++];

	assert_in_range(fixture->held_count, 1, HELD_MAX);
	if (fixture->held_count > fixture->held_most)
		fixture->held_most = fixture->held_count;
	held->connection = connection;
	held->index = index;
	(void)snprintf(held->name, sizeof(held->name), "%s", name);
}

static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	struct fixture *fixture = user;
	const struct service *service;
	const char *at;
	uint64_t index = 0;
	char name[16];

	assert_int_equal(sscanf(request, "GET /v1/health/service/%15[a-z]?", name), 1);
	service = service_of(fixture, name);
	at = strstr(request, "&index=");
	if (at)
		index = strtoull(at + strlen("&index="), NULL, 10);
	assert_int_equal(at != NULL, strstr(request, "ms HTTP/1.1") != NULL);
	text_printf(&fixture->requests, at ? "%s@%" PRIu64 " " : "%s ", name, index);
	loop_stop(fixture->loop);
	if (fixture->recorded && !at) {
		answer_recorded(fixture->recorded, answer);
		return false;
	}
	if ((at && index >= service->index) ||
	    (!at && fixture->hold_reads && strcmp(name, "barrier") != 0))
		hold(fixture, http_server_connection(server), name, index);
	else
		answer_with(fixture, service, answer);
	return true;
}

/* Answers what is held for that service, and whose index is that, or any. */
static void release(struct fixture *fixture, const char *name, uint64_t index)
{
	CLEANUP(text_done) struct text answer = {0};
	size_t kept = 0;

	answer_with(fixture, service_of(fixture, name), &answer);
	for (size_t i = 0; i < fixture->held_count; i++) {
		struct held held = fixture->held[i];

		if (strcmp(held.name, name) != 0 || (index != UINT64_MAX && held.index != index)) {
			fixture->held[kept++] = held;
			continue;
		}
		http_connection_send(held.connection, answer.data, answer.length);
	}
	fixture->held_count = kept;
}

static void change(struct fixture *fixture, const char *name, uint64_t index, const char *instances)
{
	struct service *service = service_of(fixture, name);

	service->index = index;
	service->instances = instances;
	release(fixture, name, UINT64_MAX);
}

static void on_close(struct http_connection *connection, void *user)
{
	struct fixture *fixture = user;
	size_t kept = 0;

	for (size_t i = 0; i < fixture->held_count; i++) {
		if (fixture->held[i].connection != connection)
			fixture->held[kept++] = fixture->held[i];
	}
	fixture->held_count = kept;
}

/* What is told */

static void on_update(const struct registry_update *update, void *user)
{
	struct fixture *fixture = user;
	struct text *log = &fixture->log;

	assert_true(update->error || update->whole);
	text_printf(log, "%s%s", update->key, update->restored ? " restored" : "");
	if (update->error)
		text_printf(log, " error: %s", strstr(update->error->message, ": ") + 2);
	for (size_t i = 0; i < update->count; i++)
		text_printf(log, " %s%s", strchr(update->documents[i].key, '/') + 1,
			    update->documents[i].is_failing ? "!" : "");
	text_puts(log, "\n");
	loop_stop(fixture->loop);
}

static void on_state(enum registry_state state, const struct error *error, void *user)
{
	struct fixture *fixture = user;

	text_printf(&fixture->log, "%s\n", registry_state_name(state));
	assert_true((state == REGISTRY_LOST) == (error != NULL));
	loop_stop(fixture->loop);
}

static void on_restored(const char *what, void *user)
{
	struct fixture *fixture = user;

	text_printf(&fixture->log, "restored: %s\n", what);
}

/* The test's side */

static void open_watch(struct fixture *fixture, struct registry_options options)
{
	static const struct registry_watch_functions functions = {on_update, on_state, on_restored};
	struct error error;
	char url[96];

	(void)snprintf(url, sizeof(url), "consul://%s,%s", http_server_address(fixture->servers[0]),
		       http_server_address(fixture->servers[1]));
	options.url = url;
	options.timeout = 5000UL * MILLISECONDS;
	assert_int_equal(registry_open(fixture->loop, &options, &fixture->registry, &error), 0);
	assert_int_equal(
		registry_watch_new(fixture->registry, &functions, fixture, &fixture->watch, &error),
		0);
	fixture->watch->times.pause_first = MILLISECONDS;
	fixture->watch->times.pause_max = 5UL * MILLISECONDS;
	fixture->watch->times.pace = MILLISECONDS;
}

static int setup(void **state)
{
	static const struct http_server_functions functions = {NULL, on_close};
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	*state = fixture;
	for (size_t i = 0; i < ARRAY_SIZE(fixture->servers); i++) {
		fixture->servers[i] = http_server_new(fixture->loop, serve, fixture);
		http_server_set_functions(fixture->servers[i], &functions);
	}
	return loop_add_timer(fixture->loop, "deadline",
			      loop_now(fixture->loop) + 10000UL * MILLISECONDS, on_deadline,
			      fixture, &fixture->deadline);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	registry_watch_free(fixture->watch);
	registry_free(fixture->registry);
	for (size_t i = 0; i < ARRAY_SIZE(fixture->servers); i++)
		http_server_free(fixture->servers[i]);
	loop_source_free(fixture->deadline);
	loop_free(fixture->loop);
	text_done(&fixture->requests);
	text_done(&fixture->log);
	free(fixture);
	return 0;
}

static void run_until(struct fixture *fixture, struct text *text, const char *expected)
{
	while (!text->data || strcmp(text->data, expected) != 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	text_done(text);
}

static void expect(struct fixture *fixture, const char *expected)
{
	run_until(fixture, &fixture->log, expected);
}

static void expect_requests(struct fixture *fixture, const char *expected)
{
	run_until(fixture, &fixture->requests, expected);
}

#define INSTANCE(id)                                                                    \
	"{\"Node\":{\"Node\":\"n\",\"Address\":\"10.0.0.1\"},\"Service\":{\"ID\":\"" id \
	"\",\"Port\":80},\"Checks\":[]}"

/* The service is there, and followed, unless the test does that. */
static void know(struct fixture *fixture, const char *name, uint64_t index, const char *instances)
{
	struct service *service = fixture->services;

	while (service->name)
		service++;
	service->name = name;
	service->index = index;
	service->instances = instances;
}

static void follow_web(struct fixture *fixture)
{
	if (!fixture->watch)
		open_watch(fixture, (struct registry_options){0});
	know(fixture, "web", 7, INSTANCE("a"));
	assert_int_equal(registry_watch_add(fixture->watch, "web"), 0);
	expect(fixture, "web n/a\nlive\n");
	expect_requests(fixture, "web web@7 ");
}

static void test_consul_watch_tells_what_it_waited_for(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow_web(fixture);
	change(fixture, "web", 9, INSTANCE("a") "," INSTANCE("b"));
	expect(fixture, "web n/a n/b\n");
	expect_requests(fixture, "web@9 ");
	change(fixture, "web", 12, "");
	expect(fixture, "web\n");
	expect_requests(fixture, "web@12 ");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.events, 2);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(counts.errors, 0);
}

static void test_consul_watch_of_an_unchanged_index_tells_nothing(void **state)
{
	struct fixture *fixture = *state;

	follow_web(fixture);
	/* The time is over; the body is not even looked at. */
	service_of(fixture, "web")->instances = "rubbish";
	release(fixture, "web", 7);
	expect_requests(fixture, "web@7 ");
	change(fixture, "web", 8, INSTANCE("b"));
	expect(fixture, "web n/b\n");
}

/* Consul's documentation: it is a bug, and must not make a loop. */
static void test_consul_watch_of_index_0_waits_for_1(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, (struct registry_options){0});
	know(fixture, "web", 0, INSTANCE("a"));
	assert_int_equal(registry_watch_add(fixture->watch, "web"), 0);
	expect(fixture, "web n/a\nlive\n");
	expect_requests(fixture, "web web@1 ");
}

static void test_consul_watch_of_a_recorded_index_that_goes_back_is_a_restoration(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	open_watch(fixture, (struct registry_options){0});
	fixture->recorded = "consul-known";
	know(fixture, "web", 15, "");
	know(fixture, "db", 15, "");
	assert_int_equal(registry_watch_add(fixture->watch, "web"), 0);
	expect(fixture, "web laboratory/web-1\nlive\n");
	expect_requests(fixture, "web web@15 ");
	assert_int_equal(registry_watch_add(fixture->watch, "db"), 0);
	expect(fixture, "db laboratory/web-1\n");
	expect_requests(fixture, "db db@15 ");
	/* The Consul is another, and the wait for the index of the first one ends. */
	fixture->recorded = "consul-wiped";
	service_of(fixture, "web")->index = 12;
	release(fixture, "web", 15);
	expect(fixture, "restored: the index of web is 12, and was 15 already\n"
			"web restored\ndb restored\n");
	/* Without an index first, as the rules want it; then everything anew. */
	assert_memory_equal(fixture->requests.data, "web web db ", strlen("web web db "));
	fixture->recorded = "consul-again";
	service_of(fixture, "web")->index = 13;
	service_of(fixture, "web")->instances = INSTANCE("x");
	release(fixture, "web", 12);
	expect(fixture, "web n/x\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 1);
}

/* The first answer was of a server that lagged: the second is what it was. */
static void test_consul_watch_of_an_index_that_only_seemed_to_go_back_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow_web(fixture);
	service_of(fixture, "web")->index = 5;
	release(fixture, "web", 7);
	service_of(fixture, "web")->index = 7;
	expect_requests(fixture, "web web@7 ");
	change(fixture, "web", 8, INSTANCE("b"));
	expect(fixture, "web n/b\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 0);
}

static void test_consul_watch_of_stale_answers_takes_an_older_one_as_it_is(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	open_watch(fixture, (struct registry_options){.consul_stale = true});
	follow_web(fixture);
	change(fixture, "web", 5, INSTANCE("b"));
	/* What is missing in it may be there all the same. */
	expect(fixture, "web restored n/b\n");
	expect_requests(fixture, "web web@5 ");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 0);
}

static void test_consul_watch_whose_answer_overtakes_a_read_does_not_go_back(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow_web(fixture);
	fixture->hold_reads = true;
	registry_watch_resync(fixture->watch);
	expect_requests(fixture, "web ");
	service_of(fixture, "web")->index = 9;
	service_of(fixture, "web")->instances = INSTANCE("b");
	release(fixture, "web", 7);
	expect(fixture, "web n/b\n");
	expect_requests(fixture, "web@9 ");
	/* Now the read, of what was before. */
	service_of(fixture, "web")->index = 7;
	service_of(fixture, "web")->instances = INSTANCE("a");
	release(fixture, "web", 0);
	/* It is not told; what is now is asked for, and then what was asked for already. */
	service_of(fixture, "web")->index = 9;
	service_of(fixture, "web")->instances = INSTANCE("b");
	fixture->hold_reads = false;
	expect_requests(fixture, "web ");
	change(fixture, "web", 10, INSTANCE("c"));
	expect(fixture, "web n/c\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 0);
}

static void test_consul_watch_that_is_lost_asks_for_one_service_until_it_is_back(void **state)
{
	static const char names[][4] = {"web", "a", "b", "c"};
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow_web(fixture);
	for (size_t i = 1; i < ARRAY_SIZE(names); i++) {
		know(fixture, names[i], 7, "");
		assert_int_equal(registry_watch_add(fixture->watch, names[i]), 0);
	}
	expect(fixture, "a\nb\nc\n");
	while (fixture->held_count < ARRAY_SIZE(names))
		assert_int_equal(loop_run(fixture->loop), 0);
	text_done(&fixture->requests);
	fixture->status = "500 Internal Server Error";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		release(fixture, names[i], UINT64_MAX);
	expect(fixture, "lost\n");
	/* One of them after the other, without an index. */
	fixture->hold_reads = true;
	fixture->held_most = 0;
	for (size_t turn = 0; turn < 6; turn++) {
		while (fixture->held_count == 0)
			assert_int_equal(loop_run(fixture->loop), 0);
		release(fixture, fixture->held[0].name, 0);
	}
	assert_string_equal(fixture->requests.data, "web a b c web a ");
	text_done(&fixture->requests);
	expect_requests(fixture, "b ");
	/* What was asked beyond that would be there before this is read. */
	know(fixture, "barrier", 7, "");
	fixture->status = NULL;
	assert_int_equal(registry_watch_add(fixture->watch, "barrier"), 0);
	expect_requests(fixture, "barrier ");
	assert_int_equal(fixture->held_most, 1);
	fixture->hold_reads = false;
	fixture->services[1].index = fixture->services[2].index = 9;
	release(fixture, "b", 0);
	/* Only what is new, or changed, is told. */
	while (fixture->held_count < ARRAY_SIZE(names) + 1)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_non_null(strstr(fixture->log.data, "live\n"));
	assert_non_null(strstr(fixture->log.data, "b\n"));
	assert_non_null(strstr(fixture->log.data, "a\n"));
	assert_null(strstr(fixture->log.data, "web"));
	assert_null(strstr(fixture->log.data, "c\n"));
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.reads, 3);
	assert_int_equal(counts.reconnects, 1);
}

static void test_consul_watch_whose_host_is_gone_goes_to_the_next(void **state)
{
	struct fixture *fixture = *state;

	follow_web(fixture);
	http_server_free(TAKE(fixture->servers[0]));
	expect(fixture, "lost\nlive\n");
	expect_requests(fixture, "web web@7 ");
	change(fixture, "web", 8, INSTANCE("b"));
	expect(fixture, "web n/b\n");
	assert_int_equal(http_server_count(fixture->servers[1]), 2);
}

static void test_consul_watch_of_what_may_not_be_read_keeps_what_is_known(void **state)
{
	static const struct {
		const char *status, *header, *error;
	} cases[] = {
		{"403 Forbidden", NULL, "web error: status 403: [{}]\n"},
		{NULL, "X-Consul-Results-Filtered-By-ACLs: true\r\n",
		 "web error: the token may not read all of it (service:read and node:read)\n"},
	};
	struct fixture *fixture = *state;
	char known[32];

	follow_web(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fixture->status = cases[i].status;
		fixture->header = cases[i].header;
		change(fixture, "web", 10 * (i + 1), "{}");
		expect(fixture, cases[i].error);
		fixture->status = fixture->header = NULL;
		service_of(fixture, "web")->instances = INSTANCE("b");
		/* Read again after a pause, by then or once more, and told whatever it is. */
		while (!fixture->log.data || !strstr(fixture->log.data, "web n/b\n"))
			assert_int_equal(loop_run(fixture->loop), 0);
		text_done(&fixture->log);
		(void)snprintf(known, sizeof(known), "web@%zu ", 10 * (i + 1));
		while (!strstr(fixture->requests.data, known))
			assert_int_equal(loop_run(fixture->loop), 0);
		text_done(&fixture->requests);
	}
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_LIVE);
}

static void test_consul_watch_of_a_wrong_answer_is_lost_and_keeps_what_is_known(void **state)
{
	struct fixture *fixture = *state;

	follow_web(fixture);
	change(fixture, "web", 8, "\"no instance\"");
	expect(fixture, "lost\n");
	change(fixture, "web", 8, INSTANCE("b"));
	expect(fixture, "live\nweb n/b\n");
}

static void test_consul_watch_of_more_services_than_may_be_asked_takes_turns(void **state)
{
	static const char names[][4] = {"a", "b", "c", "d", "e"};
	struct fixture *fixture = *state;

	open_watch(fixture, (struct registry_options){.consul_connections = 2});
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		know(fixture, names[i], 7, "");
		assert_int_equal(registry_watch_add(fixture->watch, names[i]), 0);
	}
	/* In the order in which they came, however often. */
	while (!fixture->log.data || !strstr(fixture->log.data, "live\n"))
		assert_int_equal(loop_run(fixture->loop), 0);
	while (fixture->held_count < 2)
		assert_int_equal(loop_run(fixture->loop), 0);
	/* What was asked beyond that would be there before the answers to these reads. */
	text_done(&fixture->log);
	registry_watch_resync(fixture->watch);
	expect(fixture, "a\nb\nc\nd\ne\n");
	assert_int_equal(fixture->held_count, 2);
	text_done(&fixture->requests);
	text_puts(&fixture->requests, "a@7 b@7 ");
	fixture->held_most = 0;
	for (size_t turn = 0; turn < 18; turn++) {
		release(fixture, fixture->held[0].name, UINT64_MAX);
		while (fixture->held_count < 2)
			assert_int_equal(loop_run(fixture->loop), 0);
	}
	assert_int_equal(fixture->held_most, 2);
	assert_string_equal(fixture->requests.data,
			    "a@7 b@7 c@7 d@7 e@7 a@7 b@7 c@7 d@7 e@7 a@7 b@7 c@7 d@7 e@7 a@7 b@7 "
			    "c@7 d@7 e@7 ");
}

/* Consul would not know that it was cancelled, and count its connection for a minute. */
static void test_consul_watch_of_a_service_that_comes_back_takes_its_question_over(void **state)
{
	struct fixture *fixture = *state;

	follow_web(fixture);
	for (int i = 0; i < 3; i++) {
		registry_watch_remove(fixture->watch, "web");
		assert_int_equal(registry_watch_add(fixture->watch, "web"), 0);
		expect(fixture, "web n/a\n");
		expect_requests(fixture, "web ");
	}
	/* By the time that this is told it is taken over again. */
	registry_watch_resync(fixture->watch);
	expect(fixture, "web n/a\n");
	expect_requests(fixture, "web ");
	assert_int_equal(fixture->held_count, 1);
	change(fixture, "web", 8, INSTANCE("b"));
	expect(fixture, "web n/b\n");
	expect_requests(fixture, "web@8 ");
	/* Nobody is told of one that nobody waits for. */
	registry_watch_remove(fixture->watch, "web");
	change(fixture, "web", 9, INSTANCE("c"));
	know(fixture, "db", 3, "");
	assert_int_equal(registry_watch_add(fixture->watch, "db"), 0);
	expect(fixture, "db\n");
	expect_requests(fixture, "db db@3 ");
}

static void test_consul_watch_of_answers_without_end_is_slowed_down(void **state)
{
	struct fixture *fixture = *state;
	uint64_t started;

	open_watch(fixture, (struct registry_options){0});
	fixture->watch->times.pace = 50UL * MILLISECONDS;
	follow_web(fixture);
	started = loop_now(fixture->loop);
	for (uint64_t i = 0; i < 12; i++) {
		char expected[32];

		change(fixture, "web", 8 + i, INSTANCE("b"));
		expect(fixture, "web n/b\n");
		(void)snprintf(expected, sizeof(expected), "web@%" PRIu64 " ", 8 + i);
		expect_requests(fixture, expected);
	}
	/* Ten at once, and two that waited. */
	assert_in_range(loop_now(fixture->loop) - started, 90UL * MILLISECONDS,
			5000UL * MILLISECONDS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_consul_watch_tells_what_it_waited_for),
		TEST(test_consul_watch_of_an_unchanged_index_tells_nothing),
		TEST(test_consul_watch_of_index_0_waits_for_1),
		TEST(test_consul_watch_of_a_recorded_index_that_goes_back_is_a_restoration),
		TEST(test_consul_watch_of_an_index_that_only_seemed_to_go_back_goes_on),
		TEST(test_consul_watch_of_stale_answers_takes_an_older_one_as_it_is),
		TEST(test_consul_watch_whose_answer_overtakes_a_read_does_not_go_back),
		TEST(test_consul_watch_that_is_lost_asks_for_one_service_until_it_is_back),
		TEST(test_consul_watch_whose_host_is_gone_goes_to_the_next),
		TEST(test_consul_watch_of_what_may_not_be_read_keeps_what_is_known),
		TEST(test_consul_watch_of_a_wrong_answer_is_lost_and_keeps_what_is_known),
		TEST(test_consul_watch_of_more_services_than_may_be_asked_takes_turns),
		TEST(test_consul_watch_of_a_service_that_comes_back_takes_its_question_over),
		TEST(test_consul_watch_of_answers_without_end_is_slowed_down),
	};

	return cmocka_run_group_tests_name("consul watch", tests, NULL, NULL);
}
