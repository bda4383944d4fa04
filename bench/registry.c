/* SPDX-License-Identifier: MIT */
/*
 * registry URL SERVICES ROUNDS
 *
 * Reads the services s0, s1... below /services, as the agent does at its start,
 * and stops the time from the question to the last answer. Prints one JSON
 * object: nanoseconds of each round, those of them that it was at work, and how
 * many documents there were.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dragoman/base/loop.h"
#include "dragoman/base/memory.h"
#include "dragoman/registry/registry.h"
#include "support/console.h"

enum { KEY_SIZE = 32, ROUNDS_MAX = 1000 };

struct reading {
	struct loop *loop;
	size_t answers, documents;
	bool failed;
};

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct reading *reading = user;

	(void)index;
	reading->answers++;
	reading->documents += answer->count;
	reading->failed |= answer->error != NULL;
}

static void on_done(const struct error *unreachable, void *user)
{
	struct reading *reading = user;

	if (unreachable)
		(void)fprintf(stderr, "registry: %s\n", unreachable->message);
	reading->failed |= unreachable != NULL;
	loop_stop(reading->loop);
}

/* Nanoseconds that this process was at work so far. */
static uint64_t processor_now(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Nanoseconds; 0 where it failed. */
static uint64_t read_once(struct registry *registry, const char *const *keys, size_t count,
			  struct reading *reading)
{
	struct registry_read *read;
	struct error error;
	uint64_t began = console_now();

	*reading = (struct reading){.loop = reading->loop};
	if (registry_read_start(registry, keys, count, on_answer, on_done, reading, &read, &error) <
	    0) {
		(void)fprintf(stderr, "registry: %s\n", error.message);
		return 0;
	}
	if (loop_run(reading->loop) < 0 || reading->failed || reading->answers != count)
		return 0;
	return console_now() - began;
}

static const char **make_keys(size_t count)
{
	const char **keys = console_memory(count, sizeof(*keys));
	char *names = console_memory(count, KEY_SIZE);

	for (size_t i = 0; i < count; i++) {
		(void)snprintf(names + i * KEY_SIZE, KEY_SIZE, "/services/s%zu", i);
		keys[i] = names + i * KEY_SIZE;
	}
	return keys;
}

int main(int argc, char **argv)
{
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(registry_freep) struct registry *registry = NULL;
	struct registry_options options = {0};
	struct reading reading = {0};
	uint64_t took[ROUNDS_MAX], used[ROUNDS_MAX];
	struct error error;
	const char **keys;
	size_t count, rounds;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: registry URL SERVICES ROUNDS\n");
		return 2;
	}
	options.url = argv[1];
	count = strtoul(argv[2], NULL, 10);
	rounds = strtoul(argv[3], NULL, 10);
	keys = make_keys(count);
	if (count == 0 || rounds > ROUNDS_MAX || loop_new(&loop) < 0)
		return console_fail("registry") < 0;
	if (registry_open(loop, &options, &registry, &error) < 0) {
		(void)fprintf(stderr, "registry: %s\n", error.message);
		return 1;
	}
	reading.loop = loop;
	for (size_t i = 0; i < rounds; i++) {
		used[i] = processor_now();
		took[i] = read_once(registry, keys, count, &reading);
		used[i] = processor_now() - used[i];
		if (took[i] == 0)
			return 1;
	}
	printf("{\"documents\": %zu, ", reading.documents);
	console_list("read", took, rounds, 1);
	console_list("processor", used, rounds, 0);
	printf("}\n");
	return 0;
}
