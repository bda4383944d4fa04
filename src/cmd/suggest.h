/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_SUGGEST_H
#define DRAGOMAN_CMD_SUGGEST_H

/*
 * "Did you mean ...?": the word nearest to a misspelt one.
 */

#include <stddef.h>

struct suggestion {
	const char *best; /* NULL: nothing is near enough */
	size_t distance;  /* of best: characters added, left out, replaced or swapped */
};

/* Offers one candidate; call it for each. word need not be terminated. */
void suggestion_offer(struct suggestion *suggestion, const char *word, size_t length,
		      const char *candidate);

#endif
