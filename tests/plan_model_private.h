/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_PLAN_MODEL_PRIVATE_H
#define DRAGOMAN_TESTS_PLAN_MODEL_PRIVATE_H

/* Looking things up in a model: the index, or the count where there is none. */

#include "plan_model.h"

bool model_same_site(enum family a_family, const struct listen *a, enum family b_family,
		     const struct listen *b);
size_t model_find_service(const struct observed *observed, enum family family,
			  const struct listen *listen);
size_t model_find_unavailable(const struct observed *observed, enum family family,
			      const struct listen *listen);
size_t model_find_slot(const struct observed *observed, enum family family,
		       const struct listen *listen, unsigned slot);

/* By name where there is one, or else by what it is. */
size_t model_find_chain(const struct observed *observed, const struct chain *chain,
			const char *name);
bool model_chain_in_use(const struct observed *observed, const struct chain *chain);

/* The table goes, with all that is in it. */
void model_clear_table(struct observed *observed);

#endif
