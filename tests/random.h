/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_RANDOM_H
#define DRAGOMAN_TESTS_RANDOM_H

/*
 * Random numbers that come again with their seed: SplitMix64. A test prints
 * the seed of each round that fails; SEED=N in the environment starts there.
 * A fuzzer gives bytes, which are used up first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct random {
	uint64_t state;
	const uint8_t *bytes;
	size_t left;
};

static inline uint64_t random_next(struct random *random)
{
	uint64_t z;

	if (random->left) {
		random->left--;
		return *random->bytes++;
	}
	z = (random->state += 0x9e3779b97f4a7c15U);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

/* 0..limit-1 */
static inline unsigned random_below(struct random *random, size_t limit)
{
	return (unsigned)(random_next(random) % limit);
}

/* True once in `times`. */
static inline bool random_once_in(struct random *random, unsigned times)
{
	return random_below(random, times) == 0;
}

static inline unsigned long random_first_seed(unsigned long otherwise)
{
	const char *wanted = getenv("SEED");

	return wanted ? strtoul(wanted, NULL, 0) : otherwise;
}

/* EVERY=N in the environment: of very many cases each Nth is tried; else `usual`. At least 1. */
static inline unsigned long random_every(unsigned long usual)
{
	const char *text = getenv("EVERY");
	unsigned long every = text ? strtoul(text, NULL, 0) : usual;

	return every ? every : 1;
}

#endif
