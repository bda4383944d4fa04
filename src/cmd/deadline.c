/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a point of CLOCK_MONOTONIC. Pauses are jittered, so
 * that two commands which got into each other's way do not do so again in
 * step.
 */
#include "deadline.h"

#include <sys/random.h>
#include <time.h>

enum { NANOSECONDS = 1000 * 1000 * 1000 };

static uint64_t now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * NANOSECONDS + (uint64_t)time.tv_nsec;
}

struct deadline deadline_start(uint64_t timeout)
{
	return (struct deadline){.at = now() + timeout, .whole = timeout};
}

uint64_t deadline_left(const struct deadline *deadline)
{
	uint64_t time = now();

	return time < deadline->at ? deadline->at - time : 0;
}

void deadline_pause(const struct deadline *deadline, uint64_t most)
{
	uint64_t left = deadline_left(deadline), pause;
	uint32_t dice = 0;

	/* Without randomness (early in boot) the shorter pause will do. */
	(void)!getrandom(&dice, sizeof(dice), GRND_NONBLOCK);
	pause = most / 2 + dice % (most / 2 + 1);
	if (pause > left)
		pause = left;
	(void)nanosleep(&(struct timespec){.tv_sec = (time_t)(pause / NANOSECONDS),
					   .tv_nsec = (long)(pause % NANOSECONDS)},
			NULL);
}
