/* SPDX-License-Identifier: MIT */
#include "console.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_MAX_LENGTH = 256 };

uint64_t console_now(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void console_list(const char *name, const uint64_t *values, size_t count, int first)
{
	printf("%s\"%s\": [", first ? "" : ", ", name);
	for (size_t i = 0; i < count; i++)
		printf("%s%" PRIu64, i ? ", " : "", values[i]);
	printf("]");
}

void *console_memory(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (memory)
		return memory;
	(void)console_fail("memory");
	exit(1);
}

int console_fail(const char *what)
{
	(void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return -1;
}

static int call(const struct console_verb *verb, void *user, char **rest)
{
	unsigned numbers[CONSOLE_NUMBERS_MAX] = {0};
	char *end;

	for (size_t i = 0; i < verb->numbers; i++) {
		const char *word = strtok_r(NULL, " \n", rest);

		if (!word) {
			(void)fprintf(stderr, "%s: takes %zu numbers\n", verb->name, verb->numbers);
			return -1;
		}
		numbers[i] = (unsigned)strtoul(word, &end, 10);
		if (*end) {
			(void)fprintf(stderr, "%s: %s is no number\n", verb->name, word);
			return -1;
		}
	}
	printf("{");
	if (verb->function(user, numbers) < 0)
		return -1;
	printf("}\n");
	return fflush(stdout);
}

static int serve(const struct console_verb *verbs, size_t count, void *user, char *line)
{
	char *rest = NULL;
	const char *word = strtok_r(line, " \n", &rest);

	for (size_t i = 0; word && i < count; i++) {
		if (strcmp(word, verbs[i].name) == 0)
			return call(&verbs[i], user, &rest);
	}
	(void)fprintf(stderr, "%s: no such verb\n", word ? word : "");
	return -1;
}

int console_run(const struct console_verb *verbs, size_t count, void *user)
{
	char line[LINE_MAX_LENGTH];

	printf("ready\n");
	(void)fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (serve(verbs, count, user, line) < 0)
			return 1;
	}
	return 0;
}
