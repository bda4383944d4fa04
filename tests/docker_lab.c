/* SPDX-License-Identifier: MIT */
#include "docker_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"

#define SECONDS UINT64_C(1000000000)

/* --- The engine ------------------------------------------------------------------ */

static void stop_when_awaited(struct docker_lab *lab)
{
	if (lab->awaited && ((lab->told.data && strstr(lab->told.data, lab->awaited)) ||
			     (lab->asked.data && strstr(lab->asked.data, lab->awaited))))
		loop_stop(lab->loop);
}

static struct docker_box *find_box(struct docker_lab *lab, const char *id)
{
	for (size_t i = 0; i < lab->box_count; i++) {
		if (strncmp(lab->boxes[i].id, id, strlen(lab->boxes[i].id)) == 0)
			return &lab->boxes[i];
	}
	return NULL;
}

static void answer_list(struct docker_lab *lab, struct text *answer)
{
	CLEANUP(text_done) struct text body = {0};

	text_puts(&body, "[");
	for (size_t i = 0; i < lab->box_count; i++) {
		if (lab->boxes[i].pid > 0 && !lab->boxes[i].unlisted)
			text_printf(&body, "%s{\"Id\":\"%s\"}", body.length > 1 ? "," : "",
				    lab->boxes[i].id);
	}
	text_puts(&body, "]");
	http_server_answer(answer, "200 OK", body.data);
}

void docker_answer_look(const struct docker_box *box, struct text *answer)
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

static void hold_inspect(struct docker_lab *lab, struct docker_box *box)
{
	lab->held[lab->held_count] = http_server_connection(lab->server);
	lab->held_boxes[lab->held_count++] = box;
	if (lab->held_count > lab->held_most)
		lab->held_most = lab->held_count;
}

static void serve_inspect(struct docker_lab *lab, const char *id, struct text *answer)
{
	struct docker_box *box = find_box(lab, id);

	text_printf(&lab->asked, "inspect:%s ", box ? box->name : "?");
	if (lab->inspect)
		text_puts(answer, lab->inspect);
	else if (lab->hold)
		hold_inspect(lab, box);
	else
		docker_answer_look(box, answer);
}

static void serve_events(struct docker_lab *lab, const char *request, struct text *answer)
{
	assert_non_null(strstr(request, "since=1795364972&"));
	text_puts(&lab->asked, "events ");
	lab->events = http_server_connection(lab->server);
	if (!lab->silent)
		text_puts(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool serve(struct http_server *server, const char *request, struct text *answer, void *user)
{
	struct docker_lab *lab = user;

	(void)server;
	if (begins(request, "GET /version ")) {
		text_puts(&lab->asked, "version ");
		text_puts(answer, lab->version);
	} else if (begins(request, "GET /v1.41/events?")) {
		serve_events(lab, request, answer);
	} else if (begins(request, "GET /v1.41/containers/json ")) {
		text_puts(&lab->asked, "list ");
		if (lab->list)
			text_puts(answer, lab->list);
		else
			answer_list(lab, answer);
	} else if (begins(request, "GET /v1.41/containers/")) {
		serve_inspect(lab, request + strlen("GET /v1.41/containers/"), answer);
	} else {
		fail_msg("what is this: %s", request);
	}
	stop_when_awaited(lab);
	return true;
}

static void on_close(struct http_connection *connection, void *user)
{
	struct docker_lab *lab = user;

	if (connection == lab->events)
		lab->events = NULL;
}

void docker_release(struct docker_lab *lab)
{
	for (size_t i = 0; i < lab->held_count; i++) {
		CLEANUP(text_done) struct text answer = {0};

		docker_answer_look(lab->held_boxes[i], &answer);
		http_connection_send(lab->held[i], answer.data, answer.length);
	}
	lab->held_count = 0;
}

void docker_send_chunk(struct docker_lab *lab, const char *data, size_t length)
{
	CLEANUP(text_done) struct text chunk = {0};

	if (length == 0)
		return;
	text_printf(&chunk, "%zx\r\n", length);
	text_add(&chunk, data, length);
	text_puts(&chunk, "\r\n");
	assert_non_null(lab->events);
	http_connection_send(lab->events, chunk.data, chunk.length);
}

void docker_write_event(struct text *into, const char *action, const struct docker_box *box)
{
	text_printf(into,
		    "{\"Type\":\"container\",\"Action\":\"%s\",\"Actor\":{\"ID\":\"%s\","
		    "\"Attributes\":{\"name\":\"}%s{\"}}}",
		    action, box->id, box->name);
}

void docker_send_event(struct docker_lab *lab, const char *action, const struct docker_box *box)
{
	CLEANUP(text_done) struct text event = {0};

	docker_write_event(&event, action, box);
	docker_send_chunk(lab, event.data, event.length);
}

struct docker_box *docker_add_box(struct docker_lab *lab, const char *name, int pid)
{
	struct docker_box *box = &lab->boxes[lab->box_count++];

	box->pid = pid;
	(void)snprintf(box->name, sizeof(box->name), "%s", name);
	/* Some in the same bucket. */
	(void)snprintf(box->id, sizeof(box->id), "%02zx00000000%054zx", lab->box_count % 3,
		       lab->box_count);
	return box;
}

/* --- The source ------------------------------------------------------------------ */

static void after_told(struct docker_lab *lab, const char *what)
{
	if (lab->free_in && strcmp(lab->free_in, what) == 0) {
		containers_free(TAKE(lab->containers));
		text_puts(&lab->told, "freed ");
	}
	stop_when_awaited(lab);
}

static void on_running(const struct container *container, void *user)
{
	struct docker_lab *lab = user;

	text_printf(&lab->told, "running:%s:%d ", container->name, (int)container->pid);
	assert_int_equal(container->environment_length, sizeof("A=1"));
	lab->event = container->event;
	after_told(lab, "running");
}

static void on_gone(const char *id, void *user)
{
	struct docker_lab *lab = user;

	text_printf(&lab->told, "gone:%s ", find_box(lab, id)->name);
	after_told(lab, "gone");
}

static void on_listed(void *user)
{
	struct docker_lab *lab = user;

	text_puts(&lab->told, "listed ");
	after_told(lab, "listed");
}

static void on_state(enum container_state state, const struct error *error, void *user)
{
	struct docker_lab *lab = user;

	text_printf(&lab->told, "%s ", container_state_name(state));
	lab->error = error ? *error : (struct error){0};
	after_told(lab, container_state_name(state));
}

static void on_deadline(struct loop_source *source, void *user)
{
	const struct docker_lab *lab = user;

	(void)source;
	fail_msg("waited for \"%s\"; asked: %s; told: %s; error: %s", lab->awaited, lab->asked.data,
		 lab->told.data, lab->error.message);
}

void docker_wait_for(struct docker_lab *lab, const char *words)
{
	lab->awaited = words;
	loop_source_arm(lab->deadline, loop_now(lab->loop) + 20 * SECONDS);
	stop_when_awaited(lab);
	assert_int_equal(loop_run(lab->loop), 0);
	loop_source_arm(lab->deadline, UINT64_MAX);
	lab->awaited = NULL;
}

void docker_forget(struct docker_lab *lab)
{
	text_done(&lab->asked);
	text_done(&lab->told);
}

const char *docker_told(const struct docker_lab *lab)
{
	return lab->told.data ? lab->told.data : "";
}

void docker_up(struct docker_lab *lab)
{
	static const struct http_server_functions functions = {.on_close = on_close};

	lab->server = http_server_new_unix(lab->loop, lab->path, serve, lab);
	http_server_set_functions(lab->server, &functions);
}

void docker_down(struct docker_lab *lab)
{
	http_server_free(TAKE(lab->server));
	lab->held_count = 0;
}

void docker_source_up(struct docker_lab *lab)
{
	static const struct container_functions functions = {on_running, on_gone, on_listed,
							     on_state};

	assert_int_equal(
		containers_new(lab->loop, lab->url, &functions, lab, &lab->containers, NULL), 0);
	assert_string_equal(docker_told(lab), "");
}

void docker_all_up(struct docker_lab *lab)
{
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "listed ");
	assert_int_equal(containers_state(lab->containers), CONTAINERS_LIVE);
	docker_forget(lab);
}

int docker_lab_begin(void **state)
{
	struct docker_lab *lab = calloc(1, sizeof(*lab));

	if (!lab || loop_new(&lab->loop) < 0 ||
	    loop_add_timer(lab->loop, "test deadline", UINT64_MAX, on_deadline, lab,
			   &lab->deadline) < 0)
		return -1;
	(void)snprintf(lab->directory, sizeof(lab->directory), "/tmp/dgm-docker-XXXXXX");
	if (!mkdtemp(lab->directory))
		return -1;
	(void)snprintf(lab->path, sizeof(lab->path), "%s/socket", lab->directory);
	(void)snprintf(lab->url, sizeof(lab->url), "unix://%s", lab->path);
	lab->version = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 16:29:34 GMT\r\n"
		       "Content-Length: 21\r\n\r\n{\"ApiVersion\":\"1.41\"}";
	*state = lab;
	return 0;
}

int docker_lab_end(void **state)
{
	struct docker_lab *lab = *state;

	containers_free(lab->containers);
	http_server_free(lab->server);
	loop_source_free(lab->deadline);
	loop_free(lab->loop);
	(void)rmdir(lab->directory);
	text_done(&lab->asked);
	text_done(&lab->told);
	free(lab);
	return 0;
}
