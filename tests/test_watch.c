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
#include <unistd.h>

#include <cmocka.h>

#include "../src/registry/watch_private.h"
#include "http_server.h"

/*
 * A watch against an etcd v3 that does what each test wants: one server, which
 * answers reads with the content that it is given, and watchers with what the
 * test sends. What is told is written down, a line each; a test waits until
 * its log is what it should be.
 */

enum { MILLISECONDS = 1000000 };

struct fixture {
	struct loop *loop;
	struct loop_source *deadline;
	struct http_server *server;
	struct registry *registry;
	struct registry_watch *watch;
	char password_file[32];
	/* What the server holds. */
	const char *kvs; /* of the service /s */
	unsigned revision, cluster;
	bool fail_reads, hold_reads, hold_creates;
	const char *refuse;             /* the next create, with this reason */
	unsigned compacted;             /* creates below this revision are cancelled */
	struct http_connection *reader; /* whose read is held */
	struct http_connection *stream; /* the one that is open */
	unsigned streams, reads, tokens;
	uint64_t last_id;
	struct text requests; /* on streams: "create 1 from 3" */
	struct text log;
	const char *remove_in_update;
};

static void on_deadline(struct loop_source *source, void *user)
{
	const struct fixture *fixture = user;

	(void)source;
	fail_msg("in vain; told:\n%s\nasked:\n%s", fixture->log.data ? fixture->log.data : "",
		 fixture->requests.data ? fixture->requests.data : "");
}

/* The server */

static void read_answer_text(const struct fixture *fixture, const char *request,
			     struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};
	size_t count = 0;

	for (const char *at = request; (at = strstr(at, "request_range")); at++)
		count++;
	text_printf(&body,
		    "{\"header\":{\"cluster_id\":\"%u\",\"revision\":\"%u\"},"
		    "\"succeeded\":true,\"responses\":[",
		    fixture->cluster, fixture->revision);
	for (size_t i = 0; i < count; i++)
		text_printf(&body, "%s{\"response_range\":{\"kvs\":[%s]}}", i ? "," : "",
			    i == 1 ? fixture->kvs : "");
	text_puts(&body, "]}");
	http_server_answer(answer, "200 OK", body.data);
}

static bool serve_read(struct fixture *fixture, const char *request, struct text *answer)
{
	fixture->reads++;
	if (fixture->fail_reads) {
		http_server_answer(answer, "503 Busy", "busy");
	} else if (fixture->hold_reads) {
		fixture->reader = http_server_connection(fixture->server);
		loop_stop(fixture->loop);
	} else {
		read_answer_text(fixture, request, answer);
	}
	return true;
}

static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	struct fixture *fixture = user;

	if (strstr(request, "POST /v3/kv/txn "))
		return serve_read(fixture, request, answer);
	if (strstr(request, "POST /v3/auth/authenticate ")) {
		char token[64];

		(void)snprintf(token, sizeof(token), "{\"token\":\"t%u\"}", ++fixture->tokens);
		http_server_answer(answer, "200 OK", token);
		return true;
	}
	assert_non_null(strstr(request, "POST /v3/watch "));
	assert_non_null(strstr(request, "Connection: close\r\n"));
	/* Else a member without a leader goes on serving what it knows. */
	assert_non_null(strstr(request, "Grpc-Metadata-hasleader: true\r\n"));
	fixture->streams++;
	fixture->stream = http_server_connection(server);
	text_puts(answer, "HTTP/1.1 200 OK\r\n\r\n");
	return true;
}

/* Sends an answer of the stream: its fields behind the header. */
static void stream_says(const struct fixture *fixture, const char *fields)
{
	CLEANUP(text_done) struct text answer = {0};

	text_printf(&answer,
		    "{\"result\":{\"header\":{\"cluster_id\":\"%u\",\"revision\":\"%u\"},%s}}",
		    fixture->cluster, fixture->revision, fields);
	assert_non_null(fixture->stream);
	http_connection_send(fixture->stream, answer.data, answer.length);
}

static void stream_says_of(const struct fixture *fixture, uint64_t id, const char *fields)
{
	CLEANUP(text_done) struct text text = {0};

	text_printf(&text, "\"watch_id\":\"%" PRIu64 "\",%s", id, fields);
	stream_says(fixture, text.data);
}

static uint64_t number_behind(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtoull(at + strlen(name), NULL, 10);
}

static void serve_create(struct fixture *fixture, const char *chunk)
{
	uint64_t from = number_behind(chunk, "start_revision\":\"");
	char text[256];

	fixture->last_id = number_behind(chunk, "watch_id\":\"");
	text_printf(&fixture->requests, "create%s from %" PRIu64 "\n",
		    strstr(chunk, "range_end") ? "" : " of one key", from);
	if (fixture->hold_creates)
		return;
	if (fixture->refuse) {
		(void)snprintf(text, sizeof(text),
			       "\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,"
			       "\"cancel_reason\":\"%s\"",
			       TAKE(fixture->refuse));
		stream_says(fixture, text);
		return;
	}
	stream_says_of(fixture, fixture->last_id, "\"created\":true");
	if (from < fixture->compacted) {
		(void)snprintf(text, sizeof(text), "\"canceled\":true,\"compact_revision\":\"%u\"",
			       fixture->compacted);
		stream_says_of(fixture, fixture->last_id, text);
	}
}

static void on_chunk(struct http_connection *connection, const char *chunk, void *user)
{
	struct fixture *fixture = user;

	(void)connection;
	if (strstr(chunk, "create_request"))
		serve_create(fixture, chunk);
	else if (strstr(chunk, "cancel_request"))
		text_puts(&fixture->requests, "cancel\n");
	else
		text_puts(&fixture->requests, "progress\n");
	loop_stop(fixture->loop);
}

static void on_close(struct http_connection *connection, void *user)
{
	struct fixture *fixture = user;

	if (fixture->stream == connection)
		fixture->stream = NULL;
	if (fixture->reader == connection)
		fixture->reader = NULL;
}

/* What is told */

static void on_update(const struct registry_update *update, void *user)
{
	struct fixture *fixture = user;
	struct text *log = &fixture->log;

	text_printf(log, "%s%s%s", update->key, update->whole ? " whole" : "",
		    update->restored ? " restored" : "");
	if (update->error)
		text_puts(log, " error");
	else
		text_printf(log, " @%" PRIu64, update->revision);
	for (size_t i = 0; i < update->count; i++)
		text_printf(log, " +%s=%.*s", update->documents[i].key,
			    (int)update->documents[i].length, update->documents[i].value);
	for (size_t i = 0; i < update->removed_count; i++)
		text_printf(log, " -%s", update->removed[i]);
	text_puts(log, "\n");
	if (fixture->remove_in_update)
		registry_watch_remove(fixture->watch, TAKE(fixture->remove_in_update));
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

static void open_watch(struct fixture *fixture, bool with_user)
{
	static const struct registry_watch_functions functions = {on_update, on_state, on_restored};
	struct registry_options options = {.timeout = 5000UL * MILLISECONDS};
	struct error error;
	char url[64];

	(void)snprintf(url, sizeof(url), "etcd://%s", http_server_address(fixture->server));
	options.url = url;
	options.user = with_user ? "alice" : NULL;
	options.password_file = with_user ? fixture->password_file : NULL;
	assert_int_equal(registry_open(fixture->loop, &options, &fixture->registry, &error), 0);
	assert_int_equal(
		registry_watch_new(fixture->registry, &functions, fixture, &fixture->watch, &error),
		0);
	fixture->watch->times.pause_first = MILLISECONDS;
	fixture->watch->times.pause_max = 5UL * MILLISECONDS;
}

static int setup(void **state)
{
	static const struct http_server_functions functions = {on_chunk, on_close};
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fd;

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	*state = fixture;
	strcpy(fixture->password_file, "/tmp/dragoman-test-XXXXXX");
	fd = mkstemp(fixture->password_file);
	if (fd < 0 || write(fd, "secret\n", 7) != 7 || close(fd) < 0)
		return -1;
	fixture->kvs = "";
	fixture->revision = 2;
	fixture->cluster = 1;
	fixture->server = http_server_new(fixture->loop, serve, fixture);
	http_server_set_functions(fixture->server, &functions);
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
	text_done(&fixture->requests);
	text_done(&fixture->log);
	(void)unlink(fixture->password_file);
	free(fixture);
	return 0;
}

/* Runs until the log is `expected`, and empties it. */
static void expect(struct fixture *fixture, const char *expected)
{
	while (!fixture->log.data || strcmp(fixture->log.data, expected) != 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	text_done(&fixture->log);
}

static void expect_requests(struct fixture *fixture, const char *expected)
{
	while (!fixture->requests.data || strcmp(fixture->requests.data, expected) != 0)
		assert_int_equal(loop_run(fixture->loop), 0);
	text_done(&fixture->requests);
}

/* /s/a is "1", /s/b is "2" (base64 of both). */
#define KV(key, value) "{\"key\":\"" key "\",\"value\":\"" value "\"}"
#define KEY_A "L3MvYQ=="
#define KEY_B "L3MvYg=="
#define ONE "MQ=="
#define TWO "Mg=="
#define PUT(key, value, revision) \
	"{\"kv\":{\"key\":\"" key "\",\"value\":\"" value "\",\"mod_revision\":\"" revision "\"}}"
#define GONE(key, revision) \
	"{\"type\":\"DELETE\",\"kv\":{\"key\":\"" key "\",\"mod_revision\":\"" revision "\"}}"

/* /s is followed, from revision 2 on. */
static void follow(struct fixture *fixture)
{
	if (!fixture->watch)
		open_watch(fixture, false);
	fixture->kvs = KV(KEY_A, ONE);
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	assert_null(fixture->log.data);
	expect(fixture, "/s whole @2 +/s/a=1\nlive\n");
	expect_requests(fixture, "create from 3\n");
}

static void says_events(struct fixture *fixture, unsigned revision, const char *events)
{
	char text[1024];

	fixture->revision = revision;
	(void)snprintf(text, sizeof(text), "\"events\":[%s]", events);
	stream_says_of(fixture, fixture->last_id, text);
}

static void test_watch_of_a_service_tells_it_whole_and_then_its_events(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow(fixture);
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_LIVE);
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), -EEXIST);
	says_events(fixture, 3, PUT(KEY_B, TWO, "3"));
	expect(fixture, "/s @3 +/s/b=2\n");
	says_events(fixture, 6, PUT(KEY_A, TWO, "4") "," GONE(KEY_B, "5") "," PUT(KEY_A, ONE, "6"));
	expect(fixture, "/s @6 +/s/a=1 -/s/b\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(counts.events, 3);
	assert_int_equal(counts.revision, 6);
	assert_int_equal(counts.errors, 0);
}

static void test_watch_of_services_added_together_reads_once_and_creates_in_turn(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	fixture->hold_creates = true;
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	assert_int_equal(registry_watch_add(fixture->watch, "/t"), 0);
	assert_int_equal(registry_watch_add(fixture->watch, "/u"), 0);
	expect(fixture, "/s whole @2\n/t whole @2\n/u whole @2\n");
	assert_int_equal(fixture->reads, 1);
	expect_requests(fixture, "create from 3\n");
	fixture->hold_creates = false;
	stream_says_of(fixture, fixture->last_id, "\"created\":true");
	expect_requests(fixture, "create from 3\ncreate from 3\n");
	assert_int_equal(fixture->streams, 1);
	registry_watch_remove(fixture->watch, "/t");
	expect_requests(fixture, "cancel\n");
}

/* Its header is older than events that came before it, and no member lags behind. */
static void test_watch_of_a_create_overtaken_by_events_reads_nothing_more(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;
	uint64_t first;

	open_watch(fixture, false);
	fixture->hold_creates = true;
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	assert_int_equal(registry_watch_add(fixture->watch, "/t"), 0);
	expect(fixture, "/s whole @2\n/t whole @2\n");
	expect_requests(fixture, "create from 3\n");
	first = fixture->last_id;
	stream_says_of(fixture, first, "\"created\":true");
	expect_requests(fixture, "create from 3\n");
	fixture->revision = 90;
	stream_says_of(fixture, first, "\"events\":[" PUT(KEY_A, TWO, "90") "]");
	expect(fixture, "live\n/s @90 +/s/a=2\n");
	fixture->revision = 80;
	stream_says_of(fixture, fixture->last_id, "\"created\":true");
	fixture->revision = 91;
	stream_says_of(fixture, first, "\"events\":[" PUT(KEY_A, ONE, "91") "]");
	expect(fixture, "/s @91 +/s/a=1\n");
	/* A read would have begun before this is there. */
	registry_watch_remove(fixture->watch, "/t");
	expect_requests(fixture, "cancel\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(fixture->streams, 1);
}

static void test_watch_of_a_lost_stream_resumes_where_it_stopped(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow(fixture);
	says_events(fixture, 7, PUT(KEY_B, TWO, "7"));
	expect(fixture, "/s @7 +/s/b=2\n");
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlive\n");
	/* At what it knows already: had a compaction taken that, it would be refused. */
	expect_requests(fixture, "create from 7\n");
	says_events(fixture, 7, PUT(KEY_B, TWO, "7"));
	says_events(fixture, 8, GONE(KEY_A, "8"));
	expect(fixture, "/s @8 -/s/a\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(counts.reconnects, 1);
	assert_int_equal(fixture->streams, 2);
}

static void test_watch_of_an_event_cut_off_tells_it_once_it_is_whole(void **state)
{
	static const char half[] =
		"{\"result\":{\"header\":{\"revision\":\"3\"},\"watch_id\":\"1\","
		"\"events\":[" PUT(KEY_B, TWO, "3") "]";
	struct fixture *fixture = *state;

	follow(fixture);
	http_connection_send(fixture->stream, half, strlen(half));
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlive\n");
	expect_requests(fixture, "create from 2\n");
	says_events(fixture, 3, PUT(KEY_B, TWO, "3"));
	expect(fixture, "/s @3 +/s/b=2\n");
}

static void test_watch_of_fragments_tells_them_when_the_last_is_there(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	fixture->revision = 4;
	stream_says_of(fixture, fixture->last_id,
		       "\"fragment\":true,\"events\":[" PUT(KEY_B, TWO, "3") "]");
	says_events(fixture, 4, GONE(KEY_B, "4"));
	expect(fixture, "/s @4 -/s/b\n");
	/* A fragment without its last is of no use: all of it comes again. */
	stream_says_of(fixture, fixture->last_id,
		       "\"fragment\":true,\"events\":[" PUT(KEY_B, TWO, "5") "]");
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlive\n");
	expect_requests(fixture, "create from 4\n");
}

static void test_watch_of_a_compacted_revision_reads_anew(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow(fixture);
	fixture->kvs = KV(KEY_B, TWO);
	fixture->revision = fixture->compacted = 9;
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlive\n/s whole @9 +/s/b=2\n");
	expect_requests(fixture, "create from 2\ncreate from 10\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.compactions, 1);
	assert_int_equal(counts.reads, 2);
}

/* What is refused again and again is not asked again without a pause. */
static void test_watch_of_revisions_compacted_again_and_again_pauses_in_between(void **state)
{
	struct fixture *fixture = *state;
	uint64_t begun;

	open_watch(fixture, false);
	fixture->watch->times.pause_first = 40UL * MILLISECONDS;
	fixture->watch->times.pause_max = 40UL * MILLISECONDS;
	fixture->compacted = 1000;
	begun = loop_now(fixture->loop);
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	while (fixture->reads < 6)
		assert_int_equal(loop_run(fixture->loop), 0);
	/* The second is at once, and the others are after half a pause at least. */
	assert_true(loop_now(fixture->loop) - begun >= 4 * 20UL * MILLISECONDS);
}

struct feeder {
	const struct fixture *fixture;
	const char *part;
	size_t left;
};

/* A part in each round of the loop: both ends of the connection are on it. */
static void on_feed(struct loop_source *source, void *user)
{
	struct feeder *feeder = user;

	stream_says_of(feeder->fixture, feeder->fixture->last_id, feeder->part);
	if (--feeder->left > 0)
		loop_source_arm(source, loop_now(feeder->fixture->loop));
}

/* One answer in parts that together are more than a service may hold. */
static void test_watch_of_changes_beyond_the_cap_cancels_and_reads_anew(void **state)
{
	enum { IN_A_PART = 1024 };
	struct fixture *fixture = *state;
	CLEANUP(text_done) struct text part = {0};
	struct feeder feeder = {fixture, NULL, SERVICE_DOCUMENTS_MAX / IN_A_PART + 1};
	struct loop_source *source;

	/* 18 MB, of which both ends are here: a busy machine may take a while. */
	loop_source_arm(fixture->deadline, loop_now(fixture->loop) + 60000UL * MILLISECONDS);
	follow(fixture);
	text_puts(&part, "\"fragment\":true,\"events\":[" PUT(KEY_A, TWO, "3"));
	for (size_t i = 1; i < IN_A_PART; i++)
		text_puts(&part, "," PUT(KEY_A, TWO, "3"));
	text_puts(&part, "]");
	feeder.part = part.data;
	fixture->kvs = KV(KEY_B, TWO);
	fixture->revision = 9;
	assert_int_equal(loop_add_timer(fixture->loop, "feeder", 0, on_feed, &feeder, &source), 0);
	expect(fixture, "/s whole @9 +/s/b=2\n");
	expect_requests(fixture, "cancel\ncreate from 10\n");
	loop_source_free(source);
}

static void test_watch_of_a_silent_stream_asks_and_then_leaves_it(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	fixture->watch->times.quiet = 20UL * MILLISECONDS;
	/* A busy machine may take a while to answer what is asked. */
	fixture->watch->times.silence = 500UL * MILLISECONDS;
	follow(fixture);
	expect_requests(fixture, "progress\n");
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_LIVE);
	/* An answer to that is a sign of life: it is asked once more before it is left. */
	stream_says(fixture, "\"watch_id\":\"-1\"");
	expect(fixture, "lost\nlive\n");
	assert_non_null(strstr(fixture->requests.data, "progress\ncreate from 2\n"));
}

/* What it is too busy to tell is read. */
static void test_watch_of_streams_that_go_silent_reads_anew(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	fixture->watch->times.quiet = 20UL * MILLISECONDS;
	fixture->watch->times.silence = 40UL * MILLISECONDS;
	follow(fixture);
	fixture->kvs = KV(KEY_B, TWO);
	fixture->revision = 9;
	expect(fixture, "lost\nlive\nlost\nlive\n/s whole @9 +/s/b=2\n");
}

static void test_watch_of_a_create_without_an_answer_leaves_the_stream(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	fixture->watch->times.answer = 50UL * MILLISECONDS;
	fixture->hold_creates = true;
	fixture->kvs = KV(KEY_A, ONE);
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	expect(fixture, "/s whole @2 +/s/a=1\nlost\n");
	fixture->hold_creates = false;
	expect(fixture, "live\n");
}

static void test_watch_of_a_refused_create_fails_that_service_and_tries_again(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	fixture->kvs = "";
	fixture->refuse = "out of watchers";
	assert_int_equal(registry_watch_add(fixture->watch, "/t"), 0);
	expect(fixture, "/t whole @2\n/t error\n/t whole @2\n");
	expect_requests(fixture, "create from 3\ncreate from 3\n");
	assert_int_equal(fixture->streams, 1);
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_LIVE);
}

static void test_watch_of_a_forbidden_range_follows_its_two_parts(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	fixture->kvs = KV(KEY_A, ONE);
	fixture->refuse = "etcdserver: permission denied";
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	expect_requests(fixture, "create from 3\ncreate of one key from 3\ncreate from 3\n");
	expect(fixture, "/s whole @2 +/s/a=1\nlive\n");
	says_events(fixture, 5, PUT(KEY_B, TWO, "5"));
	expect(fixture, "/s @5 +/s/b=2\n");
	/* The other one is not ordered with it: what is older is news as well. */
	fixture->last_id--;
	says_events(fixture, 5, PUT("L3M=", ONE, "4"));
	expect(fixture, "/s @5 +/s=1\n");
	http_connection_close(fixture->stream);
	expect_requests(fixture, "create of one key from 4\ncreate from 5\n");
}

static void test_watch_of_a_refused_token_opens_the_stream_with_another(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, true);
	fixture->kvs = KV(KEY_A, ONE);
	fixture->refuse = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	expect(fixture, "/s whole @2 +/s/a=1\n/s whole @2 +/s/a=1\nlive\n");
	assert_int_equal(fixture->tokens, 2);
	assert_int_equal(fixture->streams, 2);
}

static void test_watch_of_a_failed_read_tells_the_error_and_tries_again(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	fixture->fail_reads = true;
	registry_watch_resync(fixture->watch);
	expect(fixture, "/s error\n/s error\n");
	/* The stream is not lost, and goes on. */
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_LIVE);
	fixture->fail_reads = false;
	expect(fixture, "/s whole @2 +/s/a=1\n");
	assert_int_equal(fixture->streams, 1);
}

static void test_watch_of_no_registry_is_lost_until_there_is_one(void **state)
{
	struct fixture *fixture = *state;

	open_watch(fixture, false);
	assert_int_equal(registry_watch_state(fixture->watch), REGISTRY_CONNECTING);
	fixture->fail_reads = true;
	assert_int_equal(registry_watch_add(fixture->watch, "/s"), 0);
	expect(fixture, "/s error\nlost\n");
	fixture->fail_reads = false;
	while (registry_watch_state(fixture->watch) != REGISTRY_LIVE)
		assert_int_equal(loop_run(fixture->loop), 0);
	assert_non_null(strstr(fixture->log.data, "/s whole @2\nlive\n"));
}

static void answer_held_read(struct fixture *fixture, const char *kvs, unsigned revision)
{
	CLEANUP(text_done) struct text answer = {0};
	struct fixture then = {.kvs = kvs, .revision = revision, .cluster = 1};

	read_answer_text(&then, "request_range request_range", &answer);
	assert_non_null(fixture->reader);
	http_connection_send(fixture->reader, answer.data, answer.length);
}

static void hold_a_read(struct fixture *fixture)
{
	fixture->hold_reads = true;
	registry_watch_resync(fixture->watch);
	while (!fixture->reader)
		assert_int_equal(loop_run(fixture->loop), 0);
}

static void test_watch_of_a_read_overtaken_by_events_tells_both_as_one(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	hold_a_read(fixture);
	says_events(fixture, 4, PUT(KEY_B, TWO, "3") "," GONE(KEY_A, "4"));
	expect(fixture, "/s @4 +/s/b=2 -/s/a\n");
	/* As of 3: /s/a is still there, /s/b is already. */
	answer_held_read(fixture, KV(KEY_A, ONE) "," KV(KEY_B, TWO), 3);
	expect(fixture, "/s whole @4 +/s/b=2\n");
}

static void test_watch_of_events_overtaken_by_a_read_drops_them(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	hold_a_read(fixture);
	answer_held_read(fixture, KV(KEY_B, TWO), 4);
	expect(fixture, "/s whole @4 +/s/b=2\n");
	says_events(fixture, 5, PUT(KEY_B, TWO, "3") "," GONE(KEY_A, "4"));
	/* Of one answer, those that are old. */
	says_events(fixture, 5, GONE(KEY_B, "4") "," PUT(KEY_A, ONE, "5"));
	expect(fixture, "/s @5 +/s/a=1\n");
}

static void test_watch_of_a_registry_that_went_back_reads_everything_anew(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow(fixture);
	says_events(fixture, 90, PUT(KEY_A, TWO, "90"));
	expect(fixture, "/s @90 +/s/a=2\n");
	fixture->revision = 40;
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlive\nrestored: its revision is 40, and was 90 already\n"
			"/s whole restored @40 +/s/a=1\n");
	says_events(fixture, 41, PUT(KEY_B, TWO, "41"));
	while (fixture->streams < 3)
		assert_int_equal(loop_run(fixture->loop), 0);
	expect_requests(fixture, "create from 90\ncreate from 41\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 1);
	assert_int_equal(counts.revision, 40);
}

static void test_watch_of_another_cluster_reads_everything_anew(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	fixture->cluster = 2;
	fixture->revision = 500;
	fixture->kvs = KV(KEY_B, TWO);
	http_connection_close(fixture->stream);
	expect(fixture, "lost\nlost\nrestored: it is cluster 2 now, and was cluster 1\n"
			"/s whole restored @500 +/s/b=2\nlive\n");
	expect_requests(fixture, "create from 2\ncreate from 501\n");
}

static void test_watch_of_a_lagging_member_reads_and_follows_on(void **state)
{
	struct fixture *fixture = *state;
	struct registry_counts counts;

	follow(fixture);
	says_events(fixture, 90, PUT(KEY_A, TWO, "90"));
	expect(fixture, "/s @90 +/s/a=2\n");
	fixture->hold_creates = true;
	http_connection_close(fixture->stream);
	expect_requests(fixture, "create from 90\n");
	fixture->revision = 80;
	stream_says_of(fixture, fixture->last_id, "\"created\":true");
	fixture->revision = 95;
	expect(fixture, "lost\nlive\n/s whole @95 +/s/a=1\n");
	registry_watch_counts(fixture->watch, &counts);
	assert_int_equal(counts.restorations, 0);
	assert_int_equal(fixture->streams, 2);
}

static void test_watch_of_a_service_removed_while_it_is_told_tells_no_more(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	fixture->remove_in_update = "/s";
	says_events(fixture, 4, PUT(KEY_B, TWO, "3"));
	says_events(fixture, 5, PUT(KEY_B, TWO, "5"));
	expect(fixture, "/s @3 +/s/b=2\n");
}

static const struct {
	const char *says;
} nonsense[] = {
	{"<html>"},
	{"{}"},
	{"{\"result\":{\"header\":{},\"watch_id\":\"77\",\"created\":true}}"},
	{"{\"error\":{\"message\":\"etcdserver: no leader\"}}"},
	{"{\"error\":{\"message\":\"etcdserver: invalid auth token\"}}"},
};

static void test_watch_of_nonsense_leaves_the_stream_and_resumes(void **state)
{
	struct fixture *fixture = *state;

	follow(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		http_connection_send(fixture->stream, nonsense[i].says, strlen(nonsense[i].says));
		expect(fixture, "lost\nlive\n");
		expect_requests(fixture, "create from 2\n");
	}
	assert_int_equal(fixture->reads, 1);
}

static void test_watch_pause_doubles_up_to_its_cap_within_half(void **state)
{
	struct fixture *fixture = *state;
	const struct registry_watch *watch;

	open_watch(fixture, false);
	watch = fixture->watch;
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t first = watch_pause(watch, 1), third = watch_pause(watch, 3);
		uint64_t last = watch_pause(watch, 1000);

		assert_in_range(first, MILLISECONDS / 2, MILLISECONDS * 3 / 2 + 1);
		assert_in_range(third, MILLISECONDS * 2, MILLISECONDS * 6 + 1);
		assert_in_range(last, MILLISECONDS * 5 / 2, MILLISECONDS * 15 / 2 + 1);
	}
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_watch_of_a_service_tells_it_whole_and_then_its_events),
		TEST(test_watch_of_services_added_together_reads_once_and_creates_in_turn),
		TEST(test_watch_of_a_create_overtaken_by_events_reads_nothing_more),
		TEST(test_watch_of_a_lost_stream_resumes_where_it_stopped),
		TEST(test_watch_of_an_event_cut_off_tells_it_once_it_is_whole),
		TEST(test_watch_of_fragments_tells_them_when_the_last_is_there),
		TEST(test_watch_of_a_compacted_revision_reads_anew),
		TEST(test_watch_of_revisions_compacted_again_and_again_pauses_in_between),
		TEST(test_watch_of_changes_beyond_the_cap_cancels_and_reads_anew),
		TEST(test_watch_of_a_silent_stream_asks_and_then_leaves_it),
		TEST(test_watch_of_streams_that_go_silent_reads_anew),
		TEST(test_watch_of_a_create_without_an_answer_leaves_the_stream),
		TEST(test_watch_of_a_refused_create_fails_that_service_and_tries_again),
		TEST(test_watch_of_a_forbidden_range_follows_its_two_parts),
		TEST(test_watch_of_a_refused_token_opens_the_stream_with_another),
		TEST(test_watch_of_a_failed_read_tells_the_error_and_tries_again),
		TEST(test_watch_of_no_registry_is_lost_until_there_is_one),
		TEST(test_watch_of_a_read_overtaken_by_events_tells_both_as_one),
		TEST(test_watch_of_events_overtaken_by_a_read_drops_them),
		TEST(test_watch_of_a_registry_that_went_back_reads_everything_anew),
		TEST(test_watch_of_another_cluster_reads_everything_anew),
		TEST(test_watch_of_a_lagging_member_reads_and_follows_on),
		TEST(test_watch_of_a_service_removed_while_it_is_told_tells_no_more),
		TEST(test_watch_of_nonsense_leaves_the_stream_and_resumes),
		TEST(test_watch_pause_doubles_up_to_its_cap_within_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
