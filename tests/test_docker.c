/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/container/container.h"
#include "http_server.h"

/*
 * Theory of operation
 *
 * An engine on the test's own loop, as wrong as a test wants it, and a source
 * of containers that looks at it. What the engine was asked, and what the
 * source told, are written down as words; a test waits until the words that it
 * expects are there.
 */

#define SECONDS UINT64_C(1000000000)
enum { CONTAINERS = 24 };

struct box {
	char id[CONTAINER_ID_MAX + 1];
	char name[16];
	int pid; /* 0: it does not run; -1: there is none */
	bool unlisted;
};

struct fixture {
	struct loop *loop;
	struct loop_source *deadline;
	char directory[32], path[64], url[80];
	struct http_server *server;
	struct http_connection *events;
	struct containers *containers;
	struct text asked, told; /* words, each with a blank behind it */
	const char *awaited;
	struct box boxes[CONTAINERS];
	size_t box_count;
	uint64_t event; /* of the last that was told to run */
	struct error error;

	/* What the engine does instead. */
	const char *version, *list, *inspect; /* whole answers */
	bool hold;                            /* looks are not answered before release() */
	struct http_connection *held[CONTAINERS];
	struct box *held_boxes[CONTAINERS];
	size_t held_count, held_most;
	bool silent; /* no head of the events */
	const char *free_in;
};

/* --- The engine ------------------------------------------------------------------ */

static void stop_when_awaited(struct fixture *fixture)
{
	if (fixture->awaited &&
	    ((fixture->told.data && strstr(fixture->told.data, fixture->awaited)) ||
	     (fixture->asked.data && strstr(fixture->asked.data, fixture->awaited))))
		loop_stop(fixture->loop);
}

static struct box *find_box(struct fixture *fixture, const char *id)
{
	for (size_t i = 0; i < fixture->box_count; i++) {
		if (strncmp(fixture->boxes[i].id, id, strlen(fixture->boxes[i].id)) == 0)
			return &fixture->boxes[i];
	}
	return NULL;
}

static void answer_list(struct fixture *fixture, struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};

	text_puts(&body, "[");
	for (size_t i = 0; i < fixture->box_count; i++) {
		if (fixture->boxes[i].pid > 0 && !fixture->boxes[i].unlisted)
			text_printf(&body, "%s{\"Id\":\"%s\"}", body.length > 1 ? "," : "",
				    fixture->boxes[i].id);
	}
	text_puts(&body, "]");
	http_server_answer(answer, "200 OK", body.data);
}

static void answer_inspect(const struct box *box, struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};

	if (!box || box->pid < 0) {
		http_server_answer(answer, "404 Not Found", "{\"message\":\"No such container\"}");
		return;
	}
	text_printf(&body,
		    "{\"Id\":\"%s\",\"Name\":\"/%s\",\"Created\":\"2026-11-22T16:29:34Z\","
		    "\"State\":{\"Running\":%s,\"Pid\":%d},\"HostConfig\":{\"NetworkMode\":"
		    "\"none\"},\"Config\":{\"Env\":[\"A=1\"]}}",
		    box->id, box->name, box->pid > 0 ? "true" : "false", box->pid);
	http_server_answer(answer, "200 OK", body.data);
}

static void hold_inspect(struct fixture *fixture, struct box *box)
{
	fixture->held[fixture->held_count] = http_server_connection(fixture->server);
	fixture->held_boxes[fixture->held_count++] = box;
	if (fixture->held_count > fixture->held_most)
		fixture->held_most = fixture->held_count;
}

static void serve_inspect(struct fixture *fixture, const char *id, struct text *answer)
{
	struct box *box = find_box(fixture, id);

	text_printf(&fixture->asked, "inspect:%s ", box ? box->name : "?");
	if (fixture->inspect)
		text_puts(answer, fixture->inspect);
	else if (fixture->hold)
		hold_inspect(fixture, box);
	else
		answer_inspect(box, answer);
}

static void serve_events(struct fixture *fixture, const char *request, struct text *answer)
{
	assert_non_null(strstr(request, "since=1795364972&"));
	text_puts(&fixture->asked, "events ");
	fixture->events = http_server_connection(fixture->server);
	if (!fixture->silent)
		text_puts(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	struct fixture *fixture = user;

	(void)server;
	if (begins(request, "GET /version ")) {
		text_puts(&fixture->asked, "version ");
		text_puts(answer, fixture->version);
	} else if (begins(request, "GET /v1.41/events?")) {
		serve_events(fixture, request, answer);
	} else if (begins(request, "GET /v1.41/containers/json ")) {
		text_puts(&fixture->asked, "list ");
		if (fixture->list)
			text_puts(answer, fixture->list);
		else
			answer_list(fixture, answer);
	} else if (begins(request, "GET /v1.41/containers/")) {
		serve_inspect(fixture, request + strlen("GET /v1.41/containers/"), answer);
	} else {
		fail_msg("what is this: %s", request);
	}
	stop_when_awaited(fixture);
	return true;
}

static void on_close(struct http_connection *connection, void *user)
{
	struct fixture *fixture = user;

	if (connection == fixture->events)
		fixture->events = NULL;
}

static void release(struct fixture *fixture)
{
	for (size_t i = 0; i < fixture->held_count; i++) {
		CLEANUP(text_done) struct text answer = {0};

		answer_inspect(fixture->held_boxes[i], &answer);
		http_connection_send(fixture->held[i], answer.data, answer.length);
	}
	fixture->held_count = 0;
}

static void send_chunk(struct fixture *fixture, const char *data, size_t length)
{
	CLEANUP(text_done) struct text chunk = {0};

	if (length == 0)
		return;
	text_printf(&chunk, "%zx\r\n", length);
	text_add(&chunk, data, length);
	text_puts(&chunk, "\r\n");
	assert_non_null(fixture->events);
	http_connection_send(fixture->events, chunk.data, chunk.length);
}

static void write_event(struct text *into, const char *action, const struct box *box)
{
	text_printf(into,
		    "{\"Type\":\"container\",\"Action\":\"%s\",\"Actor\":{\"ID\":\"%s\","
		    "\"Attributes\":{\"name\":\"}%s{\"}}}",
		    action, box->id, box->name);
}

static void send_event(struct fixture *fixture, const char *action, const struct box *box)
{
	CLEANUP(text_done) struct text event = {0};

	write_event(&event, action, box);
	send_chunk(fixture, event.data, event.length);
}

static struct box *add_box(struct fixture *fixture, const char *name, int pid)
{
	struct box *box = &fixture->boxes[fixture->box_count++];

	box->pid = pid;
	(void)snprintf(box->name, sizeof(box->name), "%s", name);
	/* Some in the same bucket. */
	(void)snprintf(box->id, sizeof(box->id), "%02zx00000000%054zx", fixture->box_count % 3,
		       fixture->box_count);
	return box;
}

/* --- The source ------------------------------------------------------------------ */

static void after_told(struct fixture *fixture, const char *what)
{
	if (fixture->free_in && strcmp(fixture->free_in, what) == 0) {
		containers_free(TAKE(fixture->containers));
		text_puts(&fixture->told, "freed ");
	}
	stop_when_awaited(fixture);
}

static void on_running(const struct container *container, void *user)
{
	struct fixture *fixture = user;

	text_printf(&fixture->told, "running:%s:%d ", container->name, (int)container->pid);
	assert_int_equal(container->environment_length, sizeof("A=1"));
	fixture->event = container->event;
	after_told(fixture, "running");
}

static void on_gone(const char *id, void *user)
{
	struct fixture *fixture = user;

	text_printf(&fixture->told, "gone:%s ", find_box(fixture, id)->name);
	after_told(fixture, "gone");
}

static void on_listed(void *user)
{
	struct fixture *fixture = user;

	text_puts(&fixture->told, "listed ");
	after_told(fixture, "listed");
}

static void on_state(enum container_state state, const struct error *error, void *user)
{
	struct fixture *fixture = user;

	text_printf(&fixture->told, "%s ", container_state_name(state));
	fixture->error = error ? *error : (struct error){0};
	after_told(fixture, container_state_name(state));
}

static void on_deadline(struct loop_source *source, void *user)
{
	const struct fixture *fixture = user;

	(void)source;
	fail_msg("waited for \"%s\"; asked: %s; told: %s; error: %s", fixture->awaited,
		 fixture->asked.data, fixture->told.data, fixture->error.message);
}

/* Waits until the words are there, in one row. */
static void wait_for(struct fixture *fixture, const char *words)
{
	fixture->awaited = words;
	loop_source_arm(fixture->deadline, loop_now(fixture->loop) + 20 * SECONDS);
	stop_when_awaited(fixture);
	assert_int_equal(loop_run(fixture->loop), 0);
	loop_source_arm(fixture->deadline, UINT64_MAX);
	fixture->awaited = NULL;
}

static void forget(struct fixture *fixture)
{
	text_done(&fixture->asked);
	text_done(&fixture->told);
}

static const char *told(const struct fixture *fixture)
{
	return fixture->told.data ? fixture->told.data : "";
}

static void server_up(struct fixture *fixture)
{
	static const struct http_server_functions functions = {.on_close = on_close};

	fixture->server = http_server_new_unix(fixture->loop, fixture->path, serve, fixture);
	http_server_set_functions(fixture->server, &functions);
}

static void server_down(struct fixture *fixture)
{
	http_server_free(TAKE(fixture->server));
	fixture->held_count = 0;
}

static void source_up(struct fixture *fixture)
{
	static const struct container_functions functions = {on_running, on_gone, on_listed,
							     on_state};

	assert_int_equal(containers_new(fixture->loop, fixture->url, &functions, fixture,
					&fixture->containers, NULL),
			 0);
	assert_string_equal(told(fixture), "");
}

/* Both, and wait until the source is done with its listing. */
static void all_up(struct fixture *fixture)
{
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "listed ");
	assert_int_equal(containers_state(fixture->containers), CONTAINERS_LIVE);
	forget(fixture);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture || loop_new(&fixture->loop) < 0 ||
	    loop_add_timer(fixture->loop, "test deadline", UINT64_MAX, on_deadline, fixture,
			   &fixture->deadline) < 0)
		return -1;
	(void)snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/dgm-docker-XXXXXX");
	if (!mkdtemp(fixture->directory))
		return -1;
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->directory);
	(void)snprintf(fixture->url, sizeof(fixture->url), "unix://%s", fixture->path);
	fixture->version = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 16:29:34 GMT\r\n"
			   "Content-Length: 21\r\n\r\n{\"ApiVersion\":\"1.41\"}";
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	containers_free(fixture->containers);
	http_server_free(fixture->server);
	loop_source_free(fixture->deadline);
	loop_free(fixture->loop);
	(void)rmdir(fixture->directory);
	text_done(&fixture->asked);
	text_done(&fixture->told);
	free(fixture);
	return 0;
}

/* --- Starting -------------------------------------------------------------------- */

static void test_source_subscribes_before_it_lists(void **state)
{
	struct fixture *fixture = *state;

	(void)add_box(fixture, "web", 101);
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "listed ");
	assert_string_equal(fixture->asked.data, "version events list inspect:web ");
	assert_string_equal(told(fixture), "running:web:101 live listed ");
	assert_int_equal(fixture->event, 0);
}

static void test_source_of_an_engine_without_containers_is_live(void **state)
{
	struct fixture *fixture = *state;

	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "listed ");
	assert_string_equal(told(fixture), "live listed ");
}

static void test_source_lists_though_the_head_of_the_events_is_late(void **state)
{
	struct fixture *fixture = *state;

	fixture->silent = true;
	all_up(fixture);
}

static void test_source_asks_for_eight_containers_at_once(void **state)
{
	struct fixture *fixture = *state;

	for (size_t i = 0; i < 20; i++)
		(void)add_box(fixture, (char[]){(char)('a' + i), '\0'}, 100);
	fixture->hold = true;
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "inspect:h ");
	release(fixture);
	wait_for(fixture, "inspect:p ");
	assert_int_equal(fixture->held_most, 8);
	fixture->hold = false;
	release(fixture);
	wait_for(fixture, "listed ");
	for (size_t i = 0; i < 20; i++) {
		char words[32];

		(void)snprintf(words, sizeof(words), "running:%c:100 ", (char)('a' + i));
		assert_non_null(strstr(told(fixture), words));
	}
}

/* --- Events ---------------------------------------------------------------------- */

static void test_event_of_a_start_is_told_with_its_time(void **state)
{
	struct fixture *fixture = *state;
	uint64_t before;

	all_up(fixture);
	before = loop_now(fixture->loop);
	send_event(fixture, "start", add_box(fixture, "web", 101));
	wait_for(fixture, "running:web:101 ");
	assert_true(fixture->event >= before && fixture->event <= loop_now(fixture->loop));
}

static void test_event_before_the_listing_is_told_once(void **state)
{
	struct fixture *fixture = *state;
	struct box *box = add_box(fixture, "web", 101);

	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "events ");
	send_event(fixture, "start", box);
	wait_for(fixture, "listed ");
	send_event(fixture, "start", add_box(fixture, "last", 102));
	wait_for(fixture, "running:last:102 ");
	assert_string_equal(told(fixture), "running:web:101 live listed running:last:102 ");
}

static void test_event_cut_at_any_byte_is_understood(void **state)
{
	struct fixture *fixture = *state;
	struct box *box = add_box(fixture, "web", 1000);
	CLEANUP(text_done) struct text event = {0};

	all_up(fixture);
	write_event(&event, "restart", box);
	for (size_t cut = 1; cut < event.length; cut++) {
		char words[32];

		box->pid++;
		(void)snprintf(words, sizeof(words), "running:web:%d ", box->pid);
		forget(fixture);
		send_chunk(fixture, event.data, cut);
		/* An answer to something else says that the first part was read. */
		containers_resync(fixture->containers);
		box->pid--;
		wait_for(fixture, "listed ");
		assert_string_equal(told(fixture), "listed ");
		box->pid++;
		send_chunk(fixture, event.data + cut, event.length - cut);
		wait_for(fixture, words);
	}
}

static void write_chunk(struct text *into, const struct text *data)
{
	text_printf(into, "%zx\r\n", data->length);
	text_add(into, data->data, data->length);
	text_puts(into, "\r\n");
}

static void test_stream_that_ends_at_any_byte_loses_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct box *box = add_box(fixture, "web", 1000);
	CLEANUP(text_done) struct text event = {0};
	CLEANUP(text_done) struct text chunk = {0};

	all_up(fixture);
	write_event(&event, "restart", box);
	write_chunk(&chunk, &event);
	for (size_t end = 0; end <= chunk.length; end++) {
		char words[32];

		forget(fixture);
		box->pid++;
		(void)snprintf(words, sizeof(words), "running:web:%d ", box->pid);
		if (end)
			http_connection_send(fixture->events, chunk.data, end);
		http_connection_close(fixture->events);
		wait_for(fixture, "lost ");
		/* Without the pause between sessions. */
		containers_resync(fixture->containers);
		wait_for(fixture, "listed ");
		assert_non_null(strstr(told(fixture), words));
	}
}

static void test_event_of_an_end_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101), *db = add_box(fixture, "db", 102);

	all_up(fixture);
	web->pid = 0;
	send_event(fixture, "die", web);
	wait_for(fixture, "gone:web ");
	db->pid = -1;
	send_event(fixture, "destroy", db);
	wait_for(fixture, "gone:db ");
	send_event(fixture, "destroy", web);
	send_event(fixture, "start", add_box(fixture, "last", 103));
	wait_for(fixture, "running:last:103 ");
	assert_string_equal(told(fixture), "gone:web gone:db running:last:103 ");
}

static void test_event_that_is_late_or_doubled_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	send_event(fixture, "die", web);
	send_event(fixture, "start", web);
	send_event(fixture, "start", web);
	send_event(fixture, "start", add_box(fixture, "last", 103));
	wait_for(fixture, "running:last:103 ");
	assert_string_equal(told(fixture), "running:last:103 ");
}

static void test_event_of_another_name_or_process_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	(void)snprintf(web->name, sizeof(web->name), "www");
	send_event(fixture, "rename", web);
	wait_for(fixture, "running:www:101 ");
	web->pid = 102;
	send_event(fixture, "restart", web);
	wait_for(fixture, "running:www:102 ");
}

static void test_events_of_one_container_are_one_look_and_another(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	fixture->hold = true;
	send_event(fixture, "restart", web);
	wait_for(fixture, "inspect:web ");
	for (int i = 0; i < 10; i++)
		send_event(fixture, "restart", web);
	send_event(fixture, "start", add_box(fixture, "last", 103));
	wait_for(fixture, "inspect:last ");
	/* What the engine says now is older than those events. */
	release(fixture);
	wait_for(fixture, "inspect:web inspect:last inspect:web ");
	web->pid = 102;
	release(fixture);
	wait_for(fixture, "running:web:102 ");
	assert_string_equal(fixture->asked.data, "inspect:web inspect:last inspect:web ");
}

static void test_event_that_cannot_be_used_makes_it_list(void **state)
{
	static const char *const events[] = {"{}", "{\"Type\":7}",
					     "{\"Type\":\"container\",\"Action\":\"start\"}"};
	struct fixture *fixture = *state;

	all_up(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		forget(fixture);
		send_chunk(fixture, events[i], strlen(events[i]));
		wait_for(fixture, "listed ");
		assert_string_equal(fixture->asked.data, "list ");
	}
}

static void test_event_longer_than_the_cap_makes_it_list(void **state)
{
	struct fixture *fixture = *state;
	char piece[16 * 1024];

	all_up(fixture);
	memset(piece, 'x', sizeof(piece));
	send_chunk(fixture, "{\"a\":\"", 6);
	for (int i = 0; i < 80; i++) {
		send_chunk(fixture, piece, sizeof(piece));
		/* So that it is read: the socket's buffer is small. */
		containers_resync(fixture->containers);
		forget(fixture);
		wait_for(fixture, "listed ");
	}
	forget(fixture);
	send_chunk(fixture, "\"}", 2);
	wait_for(fixture, "listed ");
	send_event(fixture, "start", add_box(fixture, "last", 103));
	wait_for(fixture, "running:last:103 ");
	assert_null(strstr(told(fixture), "lost"));
}

/* --- Listing --------------------------------------------------------------------- */

static void test_resync_tells_what_was_missed_and_nothing_else(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101), *db = add_box(fixture, "db", 102);

	(void)add_box(fixture, "same", 103);
	all_up(fixture);
	web->pid = -1;
	db->pid = 112;
	containers_resync(fixture->containers);
	containers_resync(fixture->containers);
	wait_for(fixture, "listed ");
	assert_non_null(strstr(told(fixture), "gone:web "));
	assert_non_null(strstr(told(fixture), "running:db:112 "));
	assert_null(strstr(told(fixture), "same"));
	assert_null(strstr(told(fixture), "live"));
}

static void test_resync_while_listing_lists_again(void **state)
{
	struct fixture *fixture = *state;

	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "list ");
	containers_resync(fixture->containers);
	wait_for(fixture, "listed listed ");
}

static void test_container_missing_in_a_listing_is_asked_for_before_it_is_gone(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	web->unlisted = true;
	containers_resync(fixture->containers);
	wait_for(fixture, "listed ");
	assert_string_equal(fixture->asked.data, "list inspect:web ");
	assert_string_equal(told(fixture), "listed ");
}

static void test_listing_that_fails_loses_nothing(void **state)
{
	static const struct {
		const char *answer, *message;
	} cases[] = {
		{"HTTP/1.1 500 Oops\r\nContent-Length: 21\r\n\r\n{\"message\":\"no disk\"}",
		 "status 500: no disk"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no list of containers"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[{}", "is not JSON"},
	};
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	web->pid = -1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fixture->list = cases[i].answer;
		containers_resync(fixture->containers);
		wait_for(fixture, "lost ");
		if (!strstr(fixture->error.message, cases[i].message))
			fail_msg("%s", fixture->error.message);
		assert_string_equal(told(fixture), "lost ");
		forget(fixture);
	}
	fixture->list = NULL;
	wait_for(fixture, "listed ");
	assert_string_equal(told(fixture), "gone:web live listed ");
}

/* --- One container that cannot be looked at ---------------------------------------- */

static void test_looks_that_take_long_make_room_for_others(void **state)
{
	struct fixture *fixture = *state;
	char name[24];

	all_up(fixture);
	fixture->hold = true;
	for (int i = 0; i < 12; i++) {
		(void)snprintf(name, sizeof(name), "stuck%d", i);
		send_event(fixture, "start", add_box(fixture, name, 200 + i));
	}
	wait_for(fixture, "inspect:stuck7 ");
	fixture->hold = false;
	send_event(fixture, "start", add_box(fixture, "good", 101));
	wait_for(fixture, "running:good:101 ");
	/* Those before it came first. */
	assert_non_null(strstr(told(fixture), "running:stuck11:211 "));
	release(fixture);
	wait_for(fixture, "running:stuck7:207 ");
	assert_null(strstr(told(fixture), "lost "));
}

static void test_start_is_looked_at_before_what_a_listing_named(void **state)
{
	struct fixture *fixture = *state;
	char name[24];

	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "old%d", i);
		(void)add_box(fixture, name, 200 + i);
	}
	all_up(fixture);
	fixture->hold = true;
	containers_resync(fixture->containers);
	wait_for(fixture, "inspect:old");
	fixture->hold = false;
	send_event(fixture, "start", add_box(fixture, "new", 101));
	wait_for(fixture, "list ");
	release(fixture);
	wait_for(fixture, "running:new:101 ");
	assert_null(strstr(told(fixture), "listed "));
}

static void test_container_that_is_doubted_is_told_again(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	for (int i = 0; i < 2; i++) {
		forget(fixture);
		containers_ask_again(fixture->containers, web->id);
		wait_for(fixture, "running:web:101 ");
		assert_string_equal(fixture->asked.data, "inspect:web ");
	}
	/* Once for each doubt. */
	forget(fixture);
	containers_resync(fixture->containers);
	wait_for(fixture, "listed ");
	assert_string_equal(told(fixture), "listed ");
	containers_ask_again(fixture->containers, "0123456789ab");
}

static void test_look_that_fails_is_tried_again_before_all_was_listed(void **state)
{
	struct fixture *fixture = *state;

	(void)add_box(fixture, "web", 101);
	fixture->inspect = "HTTP/1.1 500 Oops\r\nContent-Length: 18\r\n\r\n{\"message\":\"oops\"}";
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "inspect:web inspect:web ");
	fixture->inspect = NULL;
	wait_for(fixture, "listed ");
	assert_string_equal(told(fixture), "running:web:101 live listed ");
}

static void test_look_that_fails_for_good_is_told_and_loses_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	all_up(fixture);
	fixture->inspect = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	send_event(fixture, "die", web);
	wait_for(fixture, "live ");
	assert_non_null(strstr(fixture->error.message,
			       "container 010000000000: answer has a container without an ID"));
	assert_string_equal(told(fixture), "live ");
	fixture->inspect = NULL;
	web->pid = 0;
	send_event(fixture, "die", web);
	wait_for(fixture, "gone:web ");
}

static void test_look_answered_for_another_container_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101), *db = add_box(fixture, "db", 102);
	CLEANUP(text_done) struct text answer = {0};

	all_up(fixture);
	answer_inspect(db, &answer);
	fixture->inspect = answer.data;
	web->pid = 0;
	send_event(fixture, "die", web);
	wait_for(fixture, "live ");
	assert_non_null(strstr(fixture->error.message, "about another container"));
	assert_string_equal(told(fixture), "live ");
}

/* --- The engine goes, and comes ------------------------------------------------------ */

static void test_engine_that_restarts_is_listed_anew(void **state)
{
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	(void)add_box(fixture, "same", 102);
	all_up(fixture);
	server_down(fixture);
	wait_for(fixture, "lost ");
	assert_int_equal(containers_state(fixture->containers), CONTAINERS_LOST);
	assert_string_equal(told(fixture), "lost ");
	web->pid = -1;
	(void)add_box(fixture, "new", 103);
	server_up(fixture);
	wait_for(fixture, "listed ");
	assert_non_null(strstr(told(fixture), "gone:web "));
	assert_non_null(strstr(told(fixture), "running:new:103 "));
	assert_null(strstr(told(fixture), "same"));
	assert_non_null(strstr(fixture->asked.data, "version events list "));
	forget(fixture);
	web->pid = 104;
	send_event(fixture, "start", web);
	wait_for(fixture, "running:web:104 ");
}

static void test_engine_that_goes_while_it_is_listed_is_listed_whole(void **state)
{
	struct fixture *fixture = *state;

	(void)add_box(fixture, "web", 101);
	(void)add_box(fixture, "db", 102);
	fixture->hold = true;
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "inspect:db ");
	server_down(fixture);
	wait_for(fixture, "lost ");
	fixture->hold = false;
	server_up(fixture);
	wait_for(fixture, "listed ");
	assert_non_null(strstr(told(fixture), "running:web:101 "));
	assert_non_null(strstr(told(fixture), "running:db:102 "));
}

static void test_engine_that_ends_its_events_is_connected_again(void **state)
{
	struct fixture *fixture = *state;

	all_up(fixture);
	send_chunk(fixture, "{\"Type\":", 8);
	http_connection_send(fixture->events, "0\r\n\r\n", 5);
	wait_for(fixture, "lost ");
	assert_non_null(strstr(fixture->error.message, "has ended its stream of events"));
	wait_for(fixture, "listed ");
	/* Nothing is left of the event that was cut off. */
	send_event(fixture, "start", add_box(fixture, "web", 101));
	wait_for(fixture, "running:web:101 ");
}

static void test_engine_that_sends_no_events_is_connected_again(void **state)
{
	struct fixture *fixture = *state;

	all_up(fixture);
	send_chunk(fixture, "<html>", 6);
	wait_for(fixture, "lost ");
	assert_non_null(strstr(fixture->error.message, "events: the stream holds what is no JSON"));
	wait_for(fixture, "listed ");
}

static void test_engine_that_is_not_there_is_told_with_a_hint(void **state)
{
	static const struct {
		const char *version, *message;
	} cases[] = {
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
		 "status 404: this is not a Docker engine (--docker names another)"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
		 "this is not a Docker engine (--docker names another): answer is not JSON"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"ApiVersion\":\"1.23\"}",
		 "API is 1.23, 1.24 or later is needed"},
	};
	struct fixture *fixture = *state;

	source_up(fixture);
	wait_for(fixture, "lost ");
	assert_non_null(strstr(fixture->error.message, fixture->url));
	assert_non_null(strstr(fixture->error.message, "is Docker running?"));
	server_up(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fixture->version = cases[i].version;
		forget(fixture);
		wait_for(fixture, "lost ");
		if (!strstr(fixture->error.message, cases[i].message))
			fail_msg("%s", fixture->error.message);
	}
}

static void test_engine_that_stays_away_is_told_once(void **state)
{
	struct fixture *fixture = *state;

	server_up(fixture);
	fixture->version = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	source_up(fixture);
	wait_for(fixture, "version version version ");
	assert_string_equal(told(fixture), "lost ");
}

/* --- Freeing --------------------------------------------------------------------------- */

static void test_containers_may_be_freed_in_any_function(void **state)
{
	static const char *const functions[] = {"running", "live", "listed", "gone", "lost"};
	struct fixture *fixture = *state;
	struct box *web = add_box(fixture, "web", 101);

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		web->pid = 101;
		fixture->free_in = functions[i];
		server_up(fixture);
		source_up(fixture);
		if (i >= 3)
			wait_for(fixture, "listed ");
		web->pid = i == 3 ? 0 : 101;
		if (i == 3)
			send_event(fixture, "die", web);
		if (i == 4)
			server_down(fixture);
		wait_for(fixture, "freed ");
		assert_null(fixture->containers);
		http_server_free(TAKE(fixture->server));
		forget(fixture);
	}
}

static void test_containers_freed_under_way_leave_nothing(void **state)
{
	struct fixture *fixture = *state;

	(void)add_box(fixture, "web", 101);
	fixture->hold = true;
	server_up(fixture);
	source_up(fixture);
	wait_for(fixture, "inspect:web ");
	containers_free(TAKE(fixture->containers));
	assert_string_equal(told(fixture), "");
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(test_source_subscribes_before_it_lists),
		WITH_FIXTURE(test_source_of_an_engine_without_containers_is_live),
		WITH_FIXTURE(test_source_lists_though_the_head_of_the_events_is_late),
		WITH_FIXTURE(test_source_asks_for_eight_containers_at_once),
		WITH_FIXTURE(test_event_of_a_start_is_told_with_its_time),
		WITH_FIXTURE(test_event_before_the_listing_is_told_once),
		WITH_FIXTURE(test_event_cut_at_any_byte_is_understood),
		WITH_FIXTURE(test_stream_that_ends_at_any_byte_loses_nothing),
		WITH_FIXTURE(test_event_of_an_end_is_told),
		WITH_FIXTURE(test_event_that_is_late_or_doubled_changes_nothing),
		WITH_FIXTURE(test_event_of_another_name_or_process_is_told),
		WITH_FIXTURE(test_events_of_one_container_are_one_look_and_another),
		WITH_FIXTURE(test_event_that_cannot_be_used_makes_it_list),
		WITH_FIXTURE(test_event_longer_than_the_cap_makes_it_list),
		WITH_FIXTURE(test_resync_tells_what_was_missed_and_nothing_else),
		WITH_FIXTURE(test_resync_while_listing_lists_again),
		WITH_FIXTURE(test_container_missing_in_a_listing_is_asked_for_before_it_is_gone),
		WITH_FIXTURE(test_listing_that_fails_loses_nothing),
		WITH_FIXTURE(test_looks_that_take_long_make_room_for_others),
		WITH_FIXTURE(test_start_is_looked_at_before_what_a_listing_named),
		WITH_FIXTURE(test_container_that_is_doubted_is_told_again),
		WITH_FIXTURE(test_look_that_fails_is_tried_again_before_all_was_listed),
		WITH_FIXTURE(test_look_that_fails_for_good_is_told_and_loses_nothing),
		WITH_FIXTURE(test_look_answered_for_another_container_is_refused),
		WITH_FIXTURE(test_engine_that_restarts_is_listed_anew),
		WITH_FIXTURE(test_engine_that_goes_while_it_is_listed_is_listed_whole),
		WITH_FIXTURE(test_engine_that_ends_its_events_is_connected_again),
		WITH_FIXTURE(test_engine_that_sends_no_events_is_connected_again),
		WITH_FIXTURE(test_engine_that_is_not_there_is_told_with_a_hint),
		WITH_FIXTURE(test_engine_that_stays_away_is_told_once),
		WITH_FIXTURE(test_containers_may_be_freed_in_any_function),
		WITH_FIXTURE(test_containers_freed_under_way_leave_nothing),
	};

	return cmocka_run_group_tests_name("docker", tests, NULL, NULL);
}
