/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_DEADLINE_H
#define DRAGOMAN_CMD_DEADLINE_H

/*
 * The time limit of a one-shot command: --timeout bounds everything it does.
 * Monotonic, in nanoseconds.
 */

#include <stdint.h>

struct deadline {
	uint64_t at;
	uint64_t whole; /* as it was given, for messages */
};

struct deadline deadline_start(uint64_t timeout);

/* What is left; 0 once it has passed. */
uint64_t deadline_left(const struct deadline *deadline);

/* Waits between a half of `most` and `most`, at random, but not beyond the deadline. */
void deadline_pause(const struct deadline *deadline, uint64_t most);

#endif
