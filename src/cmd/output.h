/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_OUTPUT_H
#define DRAGOMAN_CMD_OUTPUT_H

/*
 * Results: text for people, or one JSON document for programs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"
#include "dragoman/model/descriptor.h"
#include "dragoman/model/document.h"
#include "dragoman/model/verdict.h"
#include "report.h"

/* What came of reconcile, plan or flush. */
struct outcome {
	const char *target; /* for people: "web", "process 4711"; printable */
	const char *done;   /* said after the number of changes: " made", or "" for plan */
	const char *still;  /* said when there are none: "in sync", "nothing to remove" */
	ino_t netns;        /* 0: not known */
	bool valid;         /* the changes are what was found, or made */
	const struct change *changes;
	size_t change_count;
};

/* What came of resolve. */
struct resolution {
	const char *service; /* the canonical key; NULL: the descriptor did not parse */
	const struct tags *tags;
	const struct listen *listen;
	const struct selection *selection; /* NULL: not known */
	const char *lack; /* why there is no endpoint that takes connections; or NULL */
	const char *hint; /* what may have been meant; or NULL */
};

/* Add to out; a lack of memory is latched there. */
void outcome_print_json(struct text *out, const struct outcome *outcome,
			const struct report *report);
void outcome_print_text(struct text *out, const struct outcome *outcome, bool colour);
void resolution_print_json(struct text *out, const struct resolution *resolution,
			   const struct report *report);
void resolution_print_text(struct text *out, const struct resolution *resolution);

/* A document of nothing but the errors, where there is no result. */
void report_print_json(struct text *out, const struct report *report);

/* Whether results on this descriptor shall have colours: a terminal, and no NO_COLOR. */
bool output_wants_colour(int fd);

/*
 * Writes all of it. Returns 0, -ENOMEM where out has failed, or -errno of
 * write(2), with error set.
 */
int output_write(int fd, const struct text *out, struct error *error);

#endif
