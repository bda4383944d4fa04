/* SPDX-License-Identifier: MIT */
/*
 * streams URL STREAMS FIRST SERVICES
 *
 * Follows services as STREAMS agents would, each with a connection and a watch of
 * its own: the SERVICES first ones of s0, s1... below /services, from sFIRST on.
 * Prints "ready" when all of them are read and watched. A line "N" of input is
 * answered with "seen" once N changes have been told, of all streams together. Ends
 * with its input.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dragoman/base/loop.h"
#include "dragoman/registry/registry.h"
#include "dragoman/registry/watch.h"
#include "support/console.h"

enum { KEY_SIZE = 32, LINE_SIZE = 64 };

struct crowd;

struct agent {
	struct crowd *crowd;
	struct registry *registry;
	struct registry_watch *watch;
};

struct crowd {
	struct loop *loop;
	struct agent *agents;
	unsigned long count, services, first;
	unsigned long live, whole, seen, awaited;
	int is_ready;
};

static void say(const char *word)
{
	if (puts(word) < 0 || fflush(stdout) != 0)
		abort();
}

static void look(struct crowd *crowd)
{
	if (!crowd->is_ready && crowd->live == crowd->count &&
	    crowd->whole >= crowd->count * crowd->services) {
		crowd->is_ready = 1;
		say("ready");
	}
	if (crowd->awaited && crowd->seen >= crowd->awaited) {
		crowd->awaited = 0;
		say("seen");
	}
}

static void on_update(const struct registry_update *update, void *user)
{
	const struct agent *agent = user;

	if (update->is_event)
		agent->crowd->seen += update->count + update->removed_count;
	else if (!update->error)
		agent->crowd->whole++;
	look(agent->crowd);
}

static void on_state(enum registry_state state, const struct error *error, void *user)
{
	const struct agent *agent = user;

	if (state == REGISTRY_LOST)
		(void)fprintf(stderr, "streams: %s\n", error ? error->message : "lost");
	agent->crowd->live += state == REGISTRY_LIVE;
	agent->crowd->live -= state == REGISTRY_LOST && agent->crowd->live;
	look(agent->crowd);
}

static void on_input(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct crowd *crowd = user;
	char line[LINE_SIZE];
	ssize_t length = read(fd, line, sizeof(line) - 1);

	(void)source;
	(void)events;
	if (length <= 0) {
		loop_stop(crowd->loop);
		return;
	}
	line[length] = '\0';
	crowd->awaited = strtoul(line, NULL, 10);
	look(crowd);
}

static int open_agent(struct agent *agent, const struct registry_options *options,
		      struct error *error)
{
	static const struct registry_watch_functions functions = {.on_update = on_update,
								  .on_state = on_state};
	const struct crowd *crowd = agent->crowd;
	int code = registry_open(crowd->loop, options, &agent->registry, error);

	if (code == 0)
		code = registry_watch_new(agent->registry, &functions, agent, &agent->watch, error);
	for (unsigned long i = 0; i < crowd->services && code == 0; i++) {
		char key[KEY_SIZE];

		(void)snprintf(key, sizeof(key), "/services/s%lu", crowd->first + i);
		code = registry_watch_add(agent->watch, key);
	}
	return code;
}

static int run(struct crowd *crowd, const char *url, struct error *error)
{
	const struct registry_options options = {.url = url, .timeout = 60000000000};
	struct loop_source *input;
	int code = loop_new(&crowd->loop);

	if (code == 0)
		code = loop_add_io(crowd->loop, "input", STDIN_FILENO, LOOP_READ, on_input, crowd,
				   &input);
	if (code < 0)
		return error_set(error, code, ERROR_FATAL, "%s", strerror(-code));
	for (unsigned long i = 0; i < crowd->count && code == 0; i++) {
		crowd->agents[i].crowd = crowd;
		code = open_agent(&crowd->agents[i], &options, error);
	}
	return code < 0 ? code : loop_run(crowd->loop);
}

int main(int argc, char **argv)
{
	struct rlimit limit = {0};
	struct crowd crowd = {0};
	struct error error = {0};
	int code;

	if (argc != 5) {
		(void)fprintf(stderr, "usage: streams URL STREAMS FIRST SERVICES\n");
		return 2;
	}
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	crowd.count = strtoul(argv[2], NULL, 10);
	crowd.first = strtoul(argv[3], NULL, 10);
	crowd.services = strtoul(argv[4], NULL, 10);
	crowd.agents = console_memory(crowd.count, sizeof(*crowd.agents));
	code = run(&crowd, argv[1], &error);
	if (code < 0)
		(void)fprintf(stderr, "streams: %s\n", error.message);
	for (unsigned long i = 0; i < crowd.count; i++) {
		registry_watch_free(crowd.agents[i].watch);
		registry_free(crowd.agents[i].registry);
	}
	free(crowd.agents);
	loop_free(crowd.loop);
	return code < 0;
}
