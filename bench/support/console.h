/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_CONSOLE_H
#define DRAGOMAN_BENCH_CONSOLE_H

/*
 * How a program that is measured is spoken to: a line "VERB NUMBER..." in, a
 * line of JSON out. So it stays as it is between two measures, with its sockets
 * open, while others have their turn.
 */

#include <stddef.h>
#include <stdint.h>

enum { CONSOLE_NUMBERS_MAX = 4 };

struct console_verb {
	const char *name;
	size_t numbers; /* that it takes */
	int (*function)(void *user, const unsigned *numbers);
};

/* Says "ready", and serves until the input ends. Returns the exit status. */
int console_run(const struct console_verb *verbs, size_t count, void *user);

/* Monotonic time in nanoseconds. */
uint64_t console_now(void);

/* Prints "NAME": [...], with a comma before it where it is not the first. */
void console_list(const char *name, const uint64_t *values, size_t count, int first);

/* Zeroed memory for count items; where there is none the program ends. */
void *console_memory(size_t count, size_t size) __attribute__((returns_nonnull));

/* The errno as a message on standard error. Returns -1. */
int console_fail(const char *what);

#endif
