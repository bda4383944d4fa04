/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the optimal string alignment distance (Levenshtein's,
 * with a swap of neighbours as one step), by rows of the usual table. A
 * candidate counts when a third of the word, at most, is wrong; or when the
 * word is its beginning, which is how people abbreviate.
 */
#include "suggest.h"

#include <string.h>

enum { WORD_MAX = 40 };

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t rows[3][WORD_MAX + 1] = {{0}};
	size_t *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t n = 0; n <= b_length; n++)
		last[n] = n;
	for (size_t i = 1; i <= a_length; i++) {
		size_t *next = before;

		row[0] = i;
		for (size_t n = 1; n <= b_length; n++) {
			size_t wrong = a[i - 1] == b[n - 1] ? 0 : 1;

			row[n] = least(last[n] + 1, row[n - 1] + 1, last[n - 1] + wrong);
			if (i > 1 && n > 1 && a[i - 1] == b[n - 2] && a[i - 2] == b[n - 1])
				row[n] = least(row[n], row[n], before[n - 2] + 1);
		}
		before = last;
		last = row;
		row = next;
	}
	return last[b_length];
}

void suggestion_offer(struct suggestion *suggestion, const char *word, size_t length,
		      const char *candidate)
{
	size_t candidate_length = strlen(candidate), found;

	if (length == 0 || length > WORD_MAX || candidate_length > WORD_MAX)
		return;
	found = distance(word, length, candidate, candidate_length);
	if (length > 1 && length < candidate_length && strncmp(word, candidate, length) == 0)
		found = 1;
	else if (found > (length + 2) / 3)
		return;
	if (suggestion->best && suggestion->distance <= found)
		return;
	suggestion->best = candidate;
	suggestion->distance = found;
}
