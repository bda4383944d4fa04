/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_STANDING_H
#define DRAGOMAN_MODEL_STANDING_H

/*
 * What is known to stand in a namespace, kept small: what was observed there
 * once, and the verdicts that were committed since. Whoever keeps it plans a
 * change of some ports from those ports alone, and reads nothing.
 *
 * It holds what verdicts can change one by one: elements, and the chains that
 * they go to. What a transaction leaves as our schema has it (table, sets, base
 * chains, strays removed) is not kept, so it is taken from what was observed,
 * and then given the verdicts that put right what was wrong there.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/model/observed.h"
#include "dragoman/model/verdict.h"

struct standing;

struct standing *standing_new(void);           /* NULL when memory is exhausted */
void standing_free(struct standing *standing); /* NULL is fine */
void standing_freep(struct standing **standing);

/*
 * Begins anew from what was observed; nothing is borrowed. Returns 0, or
 * -ENOMEM, after which nothing is known of it: take it again.
 */
int standing_take(struct standing *standing, const struct observed *observed);

/* Verdicts that were planned from it were committed. Returns as standing_take(). */
int standing_apply(struct standing *standing, const struct verdicts *verdicts);

/* Whether our table stands; without it there is nothing to look at. */
bool standing_has_table(const struct standing *standing);

/* Elements that stand, of all sets. */
size_t standing_count(const struct standing *standing);

/*
 * The elements of all endpoints, in the order of listen_compare() within a family,
 * and of their slots, with counters of 0; in the arena. Returns 0 or -ENOMEM.
 */
int standing_endpoints(const struct standing *standing, struct arena *arena,
		       struct observed_endpoint **ret, size_t *ret_count);

/*
 * A part of it, as if it had been read: what stands of these ports, in both
 * families, with the chains that are there for them, links and routes left out,
 * route_localnet on, and the counters not known. The generation is left 0.
 * What is in *ret lives in the arena. Returns 0 or -ENOMEM.
 */
int standing_view(const struct standing *standing, struct arena *arena,
		  const struct listen *listens, size_t count, struct observed *ret);

#endif
