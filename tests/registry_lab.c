/* SPDX-License-Identifier: MIT */
#include "registry_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"

static void on_deadline(struct loop_source *source, void *user)
{
	(void)source;
	(void)user;
	fail_msg("nothing came back within the deadline");
}

int registry_lab_begin(void **state)
{
	struct registry_lab *lab = calloc(1, sizeof(*lab));
	int fd;

	if (!lab || loop_new(&lab->loop) < 0)
		return -1;
	strcpy(lab->password_file, "/tmp/dragoman-test-XXXXXX");
	fd = mkstemp(lab->password_file);
	if (fd < 0 || write(fd, "secret\n", 7) != 7 || close(fd) < 0)
		return -1;
	*state = lab;
	return loop_add_timer(lab->loop, "deadline", loop_now(lab->loop) + 20UL * SECONDS,
			      on_deadline, NULL, &lab->deadline);
}

int registry_lab_end(void **state)
{
	struct registry_lab *lab = *state;

	registry_free(lab->registry);
	for (size_t i = 0; i < ARRAY_SIZE(lab->servers); i++)
		http_server_free(lab->servers[i]);
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		text_done(&lab->errors[i]);
		text_done(&lab->documents[i]);
	}
	loop_source_free(lab->deadline);
	loop_free(lab->loop);
	(void)unlink(lab->password_file);
	free(lab);
	return 0;
}

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct registry_lab *lab = user;

	lab->answers++;
	lab->revisions[index] = answer->position.revision;
	if (answer->error) {
		lab->failed++;
		text_puts(&lab->errors[index], answer->error->message);
	}
	for (size_t i = 0; i < answer->count; i++)
		text_printf(&lab->documents[index], "%s%s", i ? " " : "", answer->documents[i].key);
	if (lab->free_in_answer) {
		registry_freep(&lab->registry);
		loop_stop(lab->loop);
	}
}

static void on_done(const struct error *unreachable, void *user)
{
	struct registry_lab *lab = user;

	lab->done++;
	lab->unreachable = unreachable ? *unreachable : (struct error){0};
	if (lab->free_in_done)
		registry_freep(&lab->registry);
	loop_stop(lab->loop);
}

void registry_lab_open(struct registry_lab *lab, const char *scheme, bool with_user)
{
	CLEANUP(text_done) struct text url = {0};
	struct registry_options options = {.timeout = 10UL * SECONDS};
	struct error error;

	text_printf(&url, "%s://%s", scheme, http_server_address(lab->servers[0]));
	if (lab->servers[1])
		text_printf(&url, ",%s", http_server_address(lab->servers[1]));
	options.url = url.data;
	options.user = with_user ? "alice" : NULL;
	options.password_file = with_user ? lab->password_file : NULL;
	assert_int_equal(registry_open(lab->loop, &options, &lab->registry, &error), 0);
}

void registry_lab_read(struct registry_lab *lab, size_t count)
{
	char names[SERVICES_MAX][32];
	const char *keys[SERVICES_MAX];
	struct registry_read *read;
	struct error error;

	for (size_t i = 0; i < count; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "/s%zu", i);
		keys[i] = names[i];
	}
	assert_int_equal(registry_read_start(lab->registry, keys, count, on_answer, on_done, lab,
					     &read, &error),
			 0);
	assert_int_equal(lab->answers, 0);
	assert_int_equal(loop_run(lab->loop), 0);
}

size_t registry_lab_count(const char *text, const char *what)
{
	size_t count = 0;

	for (; (text = strstr(text, what)); text++)
		count++;
	return count;
}

bool registry_lab_serve_empty(struct http_server *server, const char *request, struct text *answer,
			      void *user)
{
	CLEANUP(text_done) struct text body = {0};
	size_t ranges = registry_lab_count(request, "request_range");

	(void)server;
	(void)user;
	text_puts(&body, "{\"header\":{\"revision\":\"9\"},\"succeeded\":true,\"responses\":[");
	for (size_t i = 0; i < ranges; i++)
		text_printf(&body, "%s{\"response_range\":{}}", i ? "," : "");
	text_puts(&body, "]}");
	http_server_answer(answer, "200 OK", body.data);
	return true;
}

bool registry_lab_serve_500(struct http_server *server, const char *request, struct text *answer,
			    void *user)
{
	(void)server;
	(void)request;
	(void)user;
	http_server_answer(answer, "500 Internal Server Error", "oops");
	return true;
}

bool registry_lab_serve_cut_off(struct http_server *server, const char *request,
				struct text *answer, void *user)
{
	(void)server;
	(void)request;
	(void)user;
	text_puts(answer, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"header\":");
	return false;
}
