/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_EXHAUST_H
#define DRAGOMAN_TESTS_EXHAUST_H

/*
 * Memory that runs out, at each place where it can: malloc() and its like of
 * the whole program, libraries included. To be included by one file of a test
 * program, since it defines them.
 *
 * A scenario is run again and again, each time with the next allocation failing:
 * just that one, and that one with all that follow. It says 0, and has looked
 * then whether what came of it is right, or -ENOMEM with an error that says so.
 * What it took it has to give back each time.
 *
 * Blocks of ASan's own strdup() and the like are not seen; those that are
 * seen are ASan's all the same, so it finds what is used after it was freed.
 */

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dragoman/base/error.h"
#include "random.h"

/* Of one thread: others go on as usual. */
static _Thread_local bool exhaust_armed;

static struct {
	unsigned long count, fail_at; /* of allocations; 0: none fails */
	bool lasting;                 /* what follows fails as well */
	bool hit;
	size_t live;
	void *blocks[1 << 15]; /* by address; NULL: free, FREED: was taken once */
} exhaust;

enum { EXHAUST_SLOTS = 1 << 15 };
#define EXHAUST_FREED ((void *)1)

/* ASan's own, where it is there. */
void *__interceptor_malloc(size_t size) __attribute__((weak));
void *__interceptor_calloc(size_t count, size_t size) __attribute__((weak));
void *__interceptor_realloc(void *block, size_t size) __attribute__((weak));
void __interceptor_free(void *block) __attribute__((weak));

#define EXHAUST_REAL(name)                                                         \
	__extension__({                                                            \
		static __typeof__(&(name)) real_;                                  \
		if (!real_ && __interceptor_##name)                                \
			real_ = __interceptor_##name;                              \
		if (!real_)                                                        \
			*(void **)&real_ = dlsym(RTLD_NEXT, #name); /* dlsym(3) */ \
		real_;                                                             \
	})

/* ASan's own start allocates, when nothing can be looked up in its shadow yet. */
#define EXHAUST_PLAIN __attribute__((no_sanitize("address", "undefined")))

EXHAUST_PLAIN static void **exhaust_slot(void *block, void *wanted)
{
	size_t at = ((uintptr_t)block >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 49;

	while (exhaust.blocks[at] && exhaust.blocks[at] != wanted)
		at = (at + 1) % EXHAUST_SLOTS;
	return &exhaust.blocks[at];
}

EXHAUST_PLAIN static bool exhaust_refuse(void)
{
	if (!exhaust_armed)
		return false;
	exhaust.count++;
	if (!exhaust.fail_at || exhaust.count < exhaust.fail_at ||
	    (exhaust.count > exhaust.fail_at && !exhaust.lasting))
		return false;
	exhaust.hit = true;
	errno = ENOMEM;
	return true;
}

EXHAUST_PLAIN static void *exhaust_note(void *block)
{
	if (!exhaust_armed || !block)
		return block;
	*exhaust_slot(block, NULL) = block;
	exhaust.live++;
	return block;
}

EXHAUST_PLAIN static void exhaust_forget(void *block)
{
	void **slot = block && exhaust.live ? exhaust_slot(block, block) : NULL;

	if (!slot || *slot != block)
		return;
	*slot = EXHAUST_FREED;
	exhaust.live--;
}

EXHAUST_PLAIN void *malloc(size_t size)
{
	return exhaust_refuse() ? NULL : exhaust_note(EXHAUST_REAL(malloc)(size));
}

EXHAUST_PLAIN void *calloc(size_t nmemb, size_t size)
{
	return exhaust_refuse() ? NULL : exhaust_note(EXHAUST_REAL(calloc)(nmemb, size));
}

EXHAUST_PLAIN void *realloc(void *ptr, size_t size)
{
	void *grown;

	if (exhaust_refuse())
		return NULL;
	exhaust_forget(ptr);
	grown = EXHAUST_REAL(realloc)(ptr, size);
	return exhaust_note(grown);
}

EXHAUST_PLAIN void free(void *ptr)
{
	exhaust_forget(ptr);
	EXHAUST_REAL(free)(ptr);
}

typedef int exhaust_scenario(void *user, struct error *error);

/* Allocations of others' code within a scenario, which do not count: from one call to the next. */
static inline bool exhaust_pause(void)
{
	bool was = exhaust_armed;

	exhaust_armed = false;
	return was;
}

static inline void exhaust_go_on(bool was)
{
	exhaust_armed = was;
}

/* Once. Returns what the scenario does; whether it was hit is in exhaust.hit. */
static inline int exhaust_once(exhaust_scenario *scenario, void *user, unsigned long fail_at,
			       bool lasting, struct error *error)
{
	int r;

	memset(exhaust.blocks, 0, sizeof(exhaust.blocks));
	exhaust.count = exhaust.live = 0;
	exhaust.fail_at = fail_at;
	exhaust.lasting = lasting;
	exhaust.hit = false;
	*error = (struct error){0};
	exhaust_armed = true;
	r = scenario(user, error);
	exhaust_armed = false;
	return r;
}

enum { EXHAUST_TRIES = 150 };

static unsigned long exhaust_seed;

/* From one failure to the next: 1, or more where there are very many. */
static inline unsigned long exhaust_step(unsigned long count)
{
	return random_every(1 + count / EXHAUST_TRIES);
}

/*
 * With each allocation failing, until there is none more; where there are very
 * many, with some of them, others in each run (EVERY=1 in the environment is all
 * of them, SEED=N repeats a run). Returns NULL, or what is wrong with it; which
 * allocation it was, or how many there are, is in *ret_count.
 */
static inline const char *exhaust_run(exhaust_scenario *scenario, void *user,
				      unsigned long *ret_count)
{
	static struct error error;
	unsigned long step;

	exhaust_seed = random_first_seed((unsigned long)time(NULL));
	/* Once as it is, for what libraries keep for ever. */
	if (exhaust_once(scenario, user, 0, false, &error) != 0)
		return error.code ? error.message : "fails without a fault";
	step = exhaust_step(exhaust.count);
	for (unsigned lasting = 0; lasting < 2; lasting++) {
		for (unsigned long at = 1 + exhaust_seed % step;; at += step) {
			int r = exhaust_once(scenario, user, at, lasting, &error);

			*ret_count = at;
			if (exhaust.live)
				return "leaks";
			if (!exhaust.hit && r == 0)
				break;
			if (!exhaust.hit)
				return "fails without a fault, behind others";
			if (r != 0 && (r != -ENOMEM || error.code != -ENOMEM ||
				       (!strstr(error.message, "out of memory") &&
					!strstr(error.message, strerror(ENOMEM)))))
				return error.message[0] ? error.message : "fails without a word";
		}
	}
	return NULL;
}

/* Tells how often, so that a scenario that allocates nothing is seen. */
static inline void exhaust_survives(exhaust_scenario *scenario, void *user, const char *name)
{
	unsigned long count = 0;
	const char *wrong = exhaust_run(scenario, user, &count);

	if (wrong)
		fail_msg("%s, at allocation %lu (SEED=%lu): %s", name, count, exhaust_seed, wrong);
	assert_true(count > 1);
	print_message("%s: %lu allocations\n", name, count - 1);
}

#define SURVIVES(scenario, user) exhaust_survives((scenario), (user), #scenario)

#endif
