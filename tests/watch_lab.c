/* SPDX-License-Identifier: MIT */
#include "watch_lab.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void on_deadline(struct loop_source *source, void *user)
{
	const struct watch_lab *lab = user;

	(void)source;
	fail_msg("in vain; told:\n%s\nasked:\n%s", lab->log.data ? lab->log.data : "",
		 lab->requests.data ? lab->requests.data : "");
}

static void read_answer_text(const struct watch_lab *lab, const char *request, struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};
	size_t count = 0;

	for (const char *at = request; (at = strstr(at, "request_range")); at++)
		count++;
	text_printf(&body,
		    "{\"header\":{\"cluster_id\":\"%u\",\"revision\":\"%u\"},"
		    "\"succeeded\":true,\"responses\":[",
		    lab->cluster, lab->revision);
	for (size_t i = 0; i < count; i++)
		text_printf(&body, "%s{\"response_range\":{\"kvs\":[%s]}}", i ? "," : "",
			    i == 1 ? lab->kvs : "");
	text_puts(&body, "]}");
	http_server_answer(answer, "200 OK", body.data);
}

static bool serve_read(struct watch_lab *lab, const char *request, struct text *answer)
{
	lab->reads++;
	if (lab->fail_reads) {
		http_server_answer(answer, "503 Busy", "busy");
	} else if (lab->hold_reads) {
		lab->reader = http_server_connection(lab->server);
		loop_stop(lab->loop);
	} else {
		read_answer_text(lab, request, answer);
	}
	return true;
}

static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	struct watch_lab *lab = user;

	if (strstr(request, "POST /v3/kv/txn "))
		return serve_read(lab, request, answer);
	if (strstr(request, "POST /v3/auth/authenticate ")) {
		char token[64];

		(void)snprintf(token, sizeof(token), "{\"token\":\"t%u\"}", ++lab->tokens);
		http_server_answer(answer, "200 OK", token);
		return true;
	}
	assert_non_null(strstr(request, "POST /v3/watch "));
	assert_non_null(strstr(request, "Connection: close\r\n"));
	assert_non_null(strstr(request, "Expect: 100-continue\r\n"));
	if (lab->no_streams) {
		http_server_answer(answer, "503 Busy", "busy");
		return true;
	}
	/* Else a member without a leader goes on serving what it knows. */
	assert_non_null(strstr(request, "Grpc-Metadata-hasleader: true\r\n"));
	lab->streams++;
	lab->stream = http_server_connection(server);
	text_puts(answer, "HTTP/1.1 200 OK\r\n\r\n");
	return true;
}

void watch_lab_says(const struct watch_lab *lab, const char *fields)
{
	CLEANUP(text_done) struct text answer = {0};

	text_printf(&answer,
		    "{\"result\":{\"header\":{\"cluster_id\":\"%u\",\"revision\":\"%u\"},%s}}",
		    lab->cluster, lab->revision, fields);
	assert_non_null(lab->stream);
	http_connection_send(lab->stream, answer.data, answer.length);
}

void watch_lab_says_of(const struct watch_lab *lab, uint64_t id, const char *fields)
{
	CLEANUP(text_done) struct text text = {0};

	text_printf(&text, "\"watch_id\":\"%" PRIu64 "\",%s", id, fields);
	watch_lab_says(lab, text.data);
}

static uint64_t number_behind(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtoull(at + strlen(name), NULL, 10);
}

static void serve_create(struct watch_lab *lab, const char *chunk)
{
	uint64_t from = number_behind(chunk, "start_revision\":\"");
	char text[256];

	lab->last_id = number_behind(chunk, "watch_id\":\"");
	text_printf(&lab->requests, "create%s from %" PRIu64 "\n",
		    strstr(chunk, "range_end") ? "" : " of one key", from);
	if (lab->hold_creates)
		return;
	if (lab->refuse) {
		(void)snprintf(text, sizeof(text),
			       "\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,"
			       "\"cancel_reason\":\"%s\"",
			       TAKE(lab->refuse));
		watch_lab_says(lab, text);
		return;
	}
	watch_lab_says_of(lab, lab->last_id, "\"created\":true");
	if (from < lab->compacted) {
		(void)snprintf(text, sizeof(text), "\"canceled\":true,\"compact_revision\":\"%u\"",
			       lab->compacted);
		watch_lab_says_of(lab, lab->last_id, text);
	}
}

static void on_chunk(struct http_connection *connection, const char *chunk, void *user)
{
	struct watch_lab *lab = user;

	(void)connection;
	if (strstr(chunk, "create_request"))
		serve_create(lab, chunk);
	else if (strstr(chunk, "cancel_request"))
		text_puts(&lab->requests, "cancel\n");
	else
		text_puts(&lab->requests, "progress\n");
	loop_stop(lab->loop);
}

static void on_close(struct http_connection *connection, void *user)
{
	struct watch_lab *lab = user;

	if (lab->stream == connection)
		lab->stream = NULL;
	if (lab->reader == connection)
		lab->reader = NULL;
}

static void on_update(const struct registry_update *update, void *user)
{
	struct watch_lab *lab = user;
	struct text *log = &lab->log;

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
	if (lab->remove_in_update)
		registry_watch_remove(lab->watch, TAKE(lab->remove_in_update));
	loop_stop(lab->loop);
}

static void on_state(enum registry_state state, const struct error *error, void *user)
{
	struct watch_lab *lab = user;

	text_printf(&lab->log, "%s\n", registry_state_name(state));
	assert_true((state == REGISTRY_LOST) == (error != NULL));
	loop_stop(lab->loop);
}

static void on_restored(const char *what, void *user)
{
	struct watch_lab *lab = user;

	text_printf(&lab->log, "restored: %s\n", what);
}

void watch_lab_open(struct watch_lab *lab, bool with_user)
{
	static const struct registry_watch_functions functions = {on_update, on_state, on_restored};
	struct registry_options options = {.timeout = 5000UL * MILLISECONDS};
	struct error error;
	char url[64];

	(void)snprintf(url, sizeof(url), "etcd://%s", http_server_address(lab->server));
	options.url = url;
	options.user = with_user ? "alice" : NULL;
	options.password_file = with_user ? lab->password_file : NULL;
	assert_int_equal(registry_open(lab->loop, &options, &lab->registry, &error), 0);
	assert_int_equal(registry_watch_new(lab->registry, &functions, lab, &lab->watch, &error),
			 0);
	lab->watch->times.pause_first = MILLISECONDS;
	lab->watch->times.pause_max = 5UL * MILLISECONDS;
}

int watch_lab_begin(void **state)
{
	static const struct http_server_functions functions = {on_chunk, on_close};
	struct watch_lab *lab = calloc(1, sizeof(*lab));
	int fd;

	if (!lab || loop_new(&lab->loop) < 0)
		return -1;
	*state = lab;
	strcpy(lab->password_file, "/tmp/dragoman-test-XXXXXX");
	fd = mkstemp(lab->password_file);
	if (fd < 0 || write(fd, "secret\n", 7) != 7 || close(fd) < 0)
		return -1;
	lab->kvs = "";
	lab->revision = 2;
	lab->cluster = 1;
	lab->server = http_server_new(lab->loop, serve, lab);
	http_server_set_functions(lab->server, &functions);
	return loop_add_timer(lab->loop, "deadline", loop_now(lab->loop) + 10000UL * MILLISECONDS,
			      on_deadline, lab, &lab->deadline);
}

int watch_lab_end(void **state)
{
	struct watch_lab *lab = *state;

	registry_watch_free(lab->watch);
	registry_free(lab->registry);
	http_server_free(lab->server);
	loop_source_free(lab->deadline);
	loop_free(lab->loop);
	text_done(&lab->requests);
	text_done(&lab->log);
	(void)unlink(lab->password_file);
	free(lab);
	return 0;
}

void watch_lab_expect(struct watch_lab *lab, const char *expected)
{
	while (!lab->log.data || strcmp(lab->log.data, expected) != 0)
		assert_int_equal(loop_run(lab->loop), 0);
	text_done(&lab->log);
}

void watch_lab_expect_requests(struct watch_lab *lab, const char *expected)
{
	while (!lab->requests.data || strcmp(lab->requests.data, expected) != 0)
		assert_int_equal(loop_run(lab->loop), 0);
	text_done(&lab->requests);
}

void watch_lab_follow(struct watch_lab *lab)
{
	if (!lab->watch)
		watch_lab_open(lab, false);
	lab->kvs = KV(KEY_A, ONE);
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	assert_null(lab->log.data);
	watch_lab_expect(lab, "/s whole @2 +/s/a=1\nlive\n");
	watch_lab_expect_requests(lab, "create from 3\n");
}

void watch_lab_says_events(struct watch_lab *lab, unsigned revision, const char *events)
{
	char text[1024];

	lab->revision = revision;
	(void)snprintf(text, sizeof(text), "\"events\":[%s]", events);
	watch_lab_says_of(lab, lab->last_id, text);
}

void watch_lab_answer_read(struct watch_lab *lab, const char *kvs, unsigned revision)
{
	CLEANUP(text_done) struct text answer = {0};
	struct watch_lab then = {.kvs = kvs, .revision = revision, .cluster = 1};

	read_answer_text(&then, "request_range request_range", &answer);
	assert_non_null(lab->reader);
	http_connection_send(lab->reader, answer.data, answer.length);
}
