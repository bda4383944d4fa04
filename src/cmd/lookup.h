/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_LOOKUP_H
#define DRAGOMAN_CMD_LOOKUP_H

/*
 * The registry's side of a one-shot command: what each descriptor that is
 * used stands for, read once.
 */

#include <stdbool.h>
#include <stddef.h>

#include "deadline.h"
#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/model/descriptor.h"
#include "dragoman/model/document.h"
#include "dragoman/model/ruleset.h"
#include "options.h"
#include "report.h"

/* One descriptor and its answer. */
struct wanted {
	const struct descriptor *descriptor;
	char *key; /* canonical */
	bool answered;
	const char *failure; /* why its read failed; NULL: the selection is true */
	struct selection selection;
};

struct lookup {
	struct wanted *wanted;
	size_t count;
	size_t failed; /* of them, reads that failed */
};

/*
 * Reads the services of all descriptors in state USED, each key once, within
 * the deadline but for a part of it that is left to what follows. Memory comes
 * from the arena. Reads that failed are in *ret, and nobody has been told of
 * them yet. Returns 0, or -errno with error set where the registry could not
 * be asked, or gave no answer at all.
 */
int lookup_run(struct arena *arena, const struct options *options, const struct deadline *deadline,
	       const struct descriptor_set *set, struct lookup *ret, struct error *error);

/* Reports the reads that failed, by descriptor. */
void lookup_report(const struct lookup *lookup, struct report *report);

/*
 * Warns of documents that cannot be used, and of services that have no
 * endpoint, with hint.h's hint for a few of them: that asks the registry once
 * more, so whatever is urgent comes first.
 */
void lookup_warn(struct arena *arena, const struct options *options,
		 const struct deadline *deadline, const struct lookup *lookup);

/* The ruleset that the answers come to: a failed read keeps what stands. Returns 0 or -ENOMEM. */
int lookup_ruleset(struct arena *arena, const struct options *options, const struct lookup *lookup,
		   struct ruleset *ret);

#endif
