/* SPDX-License-Identifier: MIT */
/*
 * watch_probe URL [USER PASSWORD_FILE]
 *
 * Theory of operation: follows services of a registry through the program's
 * own watch, and prints each update and each change of state as one JSON line.
 * What it follows comes by lines of input: "add KEY", "remove KEY", "resync",
 * and "counts", which prints those. "patience SECONDS" shortens the times: that
 * is how long a stream may be quiet before it is asked for a sign of life; what
 * does not answer for twice that is given up.
 * It ends with its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/registry/watch_private.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/watch.h"

enum { COMMAND_MAX = 4096 };

struct probe {
	struct loop *loop;
	struct registry *registry;
	struct registry_watch *watch;
	char input[COMMAND_MAX];
	size_t length;
};

static void print(json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	if (!text || puts(text) < 0 || fflush(stdout) != 0)
		abort();
	free(text);
	json_decref(line);
}

static json_t *text_of(const char *data, size_t length)
{
	CLEANUP(text_done) struct text text = {0};

	text_add_printable(&text, data, length);
	return json_string(text.data ? text.data : "");
}

static void on_update(const struct registry_update *update, void *user)
{
	json_t *put = json_object(), *removed = json_array();

	(void)user;
	for (size_t i = 0; i < update->count; i++)
		json_object_set_new_nocheck(
			put, update->documents[i].key,
			text_of(update->documents[i].value, update->documents[i].length));
	for (size_t i = 0; i < update->removed_count; i++)
		json_array_append_new(removed, json_string_nocheck(update->removed[i]));
	print(json_pack("{s:s, s:o?, s:b, s:o, s:o, s:I, s:I}", "key", update->key, "error",
			update->error ? json_string(update->error->message) : NULL, "whole",
			update->whole, "put", put, "removed", removed, "revision",
			(json_int_t)update->revision, "received", (json_int_t)update->received));
}

static void on_state(enum registry_state state, const struct error *error, void *user)
{
	(void)user;
	print(json_pack("{s:s, s:s?}", "state", registry_state_name(state), "error",
			error ? error->message : NULL));
}

static void print_counts(const struct probe *probe)
{
	struct registry_counts counts;

	registry_watch_counts(probe->watch, &counts);
	print(json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}}", "counts", "events",
			(json_int_t)counts.events, "reads", (json_int_t)counts.reads, "reconnects",
			(json_int_t)counts.reconnects, "compactions",
			(json_int_t)counts.compactions, "restorations",
			(json_int_t)counts.restorations, "errors", (json_int_t)counts.errors,
			"revision", (json_int_t)counts.revision));
}

static void set_patience(struct registry_watch *watch, const char *seconds)
{
	watch->times.quiet = (uint64_t)(strtod(seconds, NULL) * 1e9);
	watch->times.silence = watch->times.answer = 2 * watch->times.quiet;
}

static void obey(struct probe *probe, const char *command)
{
	if (strncmp(command, "add ", 4) == 0)
		(void)registry_watch_add(probe->watch, command + 4);
	else if (strncmp(command, "remove ", 7) == 0)
		registry_watch_remove(probe->watch, command + 7);
	else if (strncmp(command, "patience ", 9) == 0)
		set_patience(probe->watch, command + 9);
	else if (strcmp(command, "resync") == 0)
		registry_watch_resync(probe->watch);
	else if (strcmp(command, "counts") == 0)
		print_counts(probe);
	else
		abort();
}

static void on_input(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct probe *probe = user;
	ssize_t length = read(fd, probe->input + probe->length, COMMAND_MAX - 1 - probe->length);
	char *end;

	(void)source;
	(void)events;
	if (length <= 0) {
		loop_stop(probe->loop);
		return;
	}
	probe->length += (size_t)length;
	probe->input[probe->length] = '\0';
	while ((end = strchr(probe->input, '\n'))) {
		*end = '\0';
		obey(probe, probe->input);
		probe->length -= (size_t)(end + 1 - probe->input);
		memmove(probe->input, end + 1, probe->length + 1);
	}
}

static int run(struct probe *probe, const struct registry_options *options, struct error *error)
{
	static const struct registry_watch_functions functions = {.on_update = on_update,
								  .on_state = on_state};
	struct loop_source *input;
	int code = loop_new(&probe->loop);

	if (code < 0)
		return code;
	code = registry_open(probe->loop, options, &probe->registry, error);
	if (code == 0)
		code = registry_watch_new(probe->registry, &functions, probe, &probe->watch, error);
	if (code == 0)
		code = loop_add_io(probe->loop, "input", STDIN_FILENO, LOOP_READ, on_input, probe,
				   &input);
	return code == 0 ? loop_run(probe->loop) : code;
}

int main(int count, char **arguments)
{
	struct registry_options options = {.timeout = 10000000000};
	struct error error = {0};
	struct probe probe = {0};
	int code;

	if (count != 2 && count != 4)
		return 2;
	options.url = arguments[1];
	if (count == 4) {
		options.user = arguments[2];
		options.password_file = arguments[3];
	}
	code = run(&probe, &options, &error);
	if (code < 0)
		(void)fprintf(stderr, "%s\n", error.message);
	registry_watch_free(probe.watch);
	registry_free(probe.registry);
	loop_free(probe.loop);
	return code < 0;
}
