/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "docker_codec.h"
#include "docker_engine.h"
#include "dragoman/base/text.h"
#include "dragoman/container/container.h"

/*
 * Theory of operation
 *
 * What a name stands for is the engine's to say: it is asked for that one
 * container first, which also tells one that does not run from one that there
 * is not. Then a source of containers lives on a loop of its own until its
 * first listing is done with, and what it told is gathered.
 */

enum { NAME_MAX_LENGTH = 1024 };

struct reading {
	struct loop *loop;
	struct loop_source *timer;
	const char *url, *name;
	uint64_t timeout;
	struct docker_engine engine;
	struct http_request *request;
	struct containers *containers;
	struct docker_id id; /* of the one that was asked for */
	struct container_list list;
	int code;
	struct error *error;
};

void container_list_done(struct container_list *list)
{
	free(list->items);
	arena_free(list->arena);
	*list = (struct container_list){0};
}

static int list_add(struct container_list *list, const struct container *container)
{
	struct container copy = *container;

	if (array_reserve(&list->items, &list->capacity, list->count, 1, sizeof(*list->items)) < 0)
		return -ENOMEM;
	copy.id = arena_text(list->arena, container->id, strlen(container->id));
	copy.name = arena_text(list->arena, container->name, strlen(container->name));
	copy.environment = arena_text(list->arena, container->environment,
				      container->environment_length);
	if (!copy.id || !copy.name || !copy.environment)
		return -ENOMEM;
	list->items[list->count++] = copy;
	return 0;
}

static void finish(struct reading *reading, int code)
{
	reading->code = code;
	loop_stop(reading->loop);
}

static void on_running(const struct container *container, void *user)
{
	struct reading *reading = user;

	if (list_add(&reading->list, container) < 0)
		finish(reading, error_no_memory(reading->error));
}

static void on_listed(void *user)
{
	finish(user, 0);
}

/* Trying again is for whoever stays: an error ends it. */
static void on_state(enum container_state state, const struct error *error, void *user)
{
	struct reading *reading = user;

	(void)state;
	if (!error)
		return;
	if (reading->error)
		*reading->error = *error;
	finish(reading, error->code);
}

static void on_timeout(struct loop_source *source, void *user)
{
	struct reading *reading = user;

	(void)source;
	finish(reading, error_set(reading->error, -ETIMEDOUT, ERROR_TRANSIENT,
				  "%s: no answer within the time limit", reading->engine.url.name));
}

static int start_list(struct reading *reading)
{
	static const struct container_functions functions = {
		.on_running = on_running, .on_listed = on_listed, .on_state = on_state};

	return containers_new(reading->loop, reading->url, &functions, reading,
			      &reading->containers, reading->error);
}

static int take_named(struct reading *reading, const struct http_answer *answer,
		      const struct error *failure)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct docker_container found = {0};
	int code = docker_engine_check(&reading->engine, answer, failure, reading->error);

	if (code < 0)
		return code;
	if (!arena)
		return error_no_memory(reading->error);
	code = docker_decode_container(answer->body, answer->length, arena, &found, reading->error);
	if (code < 0)
		return reading->error ? error_wrap(reading->error, "%s", reading->engine.url.name)
				      : code;
	reading->id = found.id;
	if (!found.running)
		return error_set(reading->error, -ESRCH, ERROR_INVALID, "it does not run (%s)",
				 found.status);
	return 0;
}

static void on_named(struct http_request *request, const struct http_answer *answer,
		     const struct error *failure, void *user)
{
	struct reading *reading = user;
	int code = take_named(reading, answer, failure);

	(void)request;
	reading->request = NULL;
	if (code == 0)
		code = start_list(reading);
	if (code < 0)
		finish(reading, code);
}

static int start_named(struct reading *reading)
{
	CLEANUP(text_done) struct text path = {0};
	struct docker_get get = {.on_done = on_named, .user = reading};

	text_printf(&path, "containers/%s/json", reading->name);
	if (path.failed)
		return error_no_memory(reading->error);
	get.path = path.data;
	return docker_engine_get(&reading->engine, &get, &reading->request, reading->error);
}

static void on_version(struct http_request *request, const struct http_answer *answer,
		       const struct error *failure, void *user)
{
	struct reading *reading = user;
	int code = docker_engine_take_version(&reading->engine, answer, failure, reading->error);

	(void)request;
	reading->request = NULL;
	if (code == 0)
		code = start_named(reading);
	if (code < 0)
		finish(reading, code);
}

static int start(struct reading *reading)
{
	const struct docker_get get = {.path = "version", .on_done = on_version, .user = reading};
	int code = docker_engine_init(&reading->engine, reading->loop, reading->url,
				      reading->error);

	if (code < 0)
		return code;
	reading->list.arena = arena_new();
	if (!reading->list.arena ||
	    loop_add_timer(reading->loop, "docker read", loop_now(reading->loop) + reading->timeout,
			   on_timeout, reading, &reading->timer) < 0)
		return error_no_memory(reading->error);
	return docker_engine_get(&reading->engine, &get, &reading->request, reading->error);
}

static void reading_done(struct reading *reading)
{
	containers_free(reading->containers);
	docker_engine_done(&reading->engine);
	loop_source_free(reading->timer);
	loop_free(reading->loop);
	container_list_done(&reading->list);
}

static int give(struct reading *reading, struct container_list *ret, size_t *ret_index)
{
	for (size_t i = 0; i < reading->list.count; i++) {
		if (strcmp(reading->list.items[i].id, reading->id.text) != 0)
			continue;
		*ret_index = i;
		*ret = reading->list;
		reading->list = (struct container_list){0};
		return 0;
	}
	return error_set(reading->error, -ESRCH, ERROR_INVALID, "it has ended meanwhile");
}

/* What engines take for a name, or an ID: so it needs no escaping in a path either. */
static bool is_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	size_t length = strlen(name);

	return length > 0 && length <= NAME_MAX_LENGTH && !strchr("_.-", name[0]) &&
	       strspn(name, allowed) == length;
}

int containers_read(const char *url, const char *name, uint64_t timeout, struct container_list *ret,
		    size_t *ret_index, struct error *error)
{
	CLEANUP(reading_done)
	struct reading reading = {.url = url, .name = name, .timeout = timeout, .error = error};
	int code;

	/* The API writes names with a slash before them. */
	if (name[0] == '/')
		reading.name++;
	if (!is_name(reading.name))
		return error_set(error, -ENOENT, ERROR_INVALID,
				 "that is no name or ID of a container");
	code = loop_new(&reading.loop);
	if (code < 0)
		return error_set(error, code, ERROR_FATAL, "cannot make a loop: %s",
				 strerror(-code));
	code = start(&reading);
	if (code < 0)
		return code;
	code = loop_run(reading.loop);
	if (code < 0)
		return error_set(error, code, ERROR_FATAL, "cannot wait: %s", strerror(-code));
	return reading.code < 0 ? reading.code : give(&reading, ret, ret_index);
}
