/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_CONTENTION_H
#define DRAGOMAN_KERNEL_CONTENTION_H

/* Whether a system call had to wait, asleep, or was slow for other reasons. */

#include <stdbool.h>
#include <stdint.h>

struct moment {
	uint64_t clock; /* nanoseconds of CLOCK_MONOTONIC */
	long sleeps;    /* of this thread so far */
};

struct moment moment_now(void);

/* Whether the thread has slept since, and it has been so many nanoseconds. */
bool moment_slept_since(const struct moment *before, uint64_t nanoseconds);

#endif
