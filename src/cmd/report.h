/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_REPORT_H
#define DRAGOMAN_CMD_REPORT_H

/*
 * What could not be done: each thing is a line on standard error as soon as
 * it is known, and an entry of "errors" in the JSON document later.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"

struct complaint {
	char *variable; /* the descriptor that it is about, or NULL; printable */
	char *message;
};

/* Zero-initialise. */
struct report {
	struct complaint *complaints;
	size_t count, capacity;
	bool failed; /* something was reported, even if memory did not suffice to keep it */
};

void report_done(struct report *report);

/* Says it and keeps it. variable may be NULL. */
void report_add(struct report *report, const char *variable, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same of an error that nobody has told yet. */
void report_error(struct report *report, const struct error *error);

#endif
