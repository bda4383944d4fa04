/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_SETTINGS_H
#define DRAGOMAN_CMD_SETTINGS_H

/*
 * The file that a service manager reads an agent's settings from, as
 * EnvironmentFile= of systemd.exec(5) has it: lines NAME=VALUE, in which a value,
 * or a word of it, may stand in quotes; blank lines, and lines that begin with
 * # or ;. A backslash at a line's end joins the next one to it; before another
 * character it takes away what that means.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"

struct setting {
	const char *name, *value; /* in the arena */
};

struct settings {
	struct setting *items; /* in the arena, in their order */
	size_t count;
};

/*
 * Parses a whole file; what is there is taken as far as it is understood. Returns
 * 0, -EINVAL with the line in error, or -ENOMEM.
 */
int settings_parse(struct arena *arena, const char *data, size_t length, struct settings *ret,
		   struct error *error);

/* The value of a name, of the last line that has it; NULL: none. */
const char *settings_value(const struct settings *settings, const char *name);

/*
 * Words apart from each other by blanks; quotes keep one together. Returns 0,
 * -EINVAL where a quote has no other, or -ENOMEM.
 */
int settings_words(struct arena *arena, const char *value, const char ***ret, size_t *ret_count);

#endif
