/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_PLAN_MODEL_H
#define DRAGOMAN_TESTS_PLAN_MODEL_H

/*
 * A kernel in memory: a struct observed that verdicts can be applied to, as
 * strict as nf_tables is, and one naive idea of what should stand afterwards
 * to compare it with.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/memory.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/verdict.h"
#include "random.h"

/* Room for that many of each thing. */
enum { MODEL_MAX = 1024 };

struct model {
	struct observed observed;
	char failure[256]; /* why the last batch was refused */
};

struct model *model_new(void);
void model_free(struct model *model);
void model_freep(struct model **model);

/* A copy that lives by itself, also of one that is not model_new()'s; names are shared. */
struct model *model_copy(const struct model *model);

/*
 * Applies verdicts. False, with a failure in words, where the kernel would
 * refuse them; the model is then half changed and of no further use.
 */
bool model_apply(struct model *model, const struct verdicts *verdicts);

/* The kernel lists things in no order: puts all of them into another one. */
void model_shuffle(struct model *model, struct random *random);

/*
 * Whether `after` is what `desired` asks for, where `before` stood. Returns
 * NULL, or what is wrong, in a buffer that the next call overwrites.
 */
const char *model_differs(const struct ruleset *desired, const struct model *before,
			  const struct model *after);

/*
 * Whether the same stands in two, in whatever order; generations aside. Returns
 * NULL or what does not, as above.
 */
const char *model_disagree(const struct model *model, const struct model *other);

/* What the two functions below make up comes from this. */
struct endpoint model_endpoint(enum family family, unsigned number);

/* A random ruleset of some ports out of a few, so that two of them overlap. */
struct ruleset model_random_ruleset(struct arena *arena, struct random *random);

/* Changes a few things, as somebody with nft(8) or another program would. */
void model_damage(struct model *model, struct random *random);

#endif
