/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_STATUS_TEXT_H
#define DRAGOMAN_CMD_STATUS_TEXT_H

/* What a running agent says of itself, for people. */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"

/*
 * Adds the document of /status as a table of at most 80 columns, problems
 * first: namespaces that have one before others, and in each its backends the
 * same. Members that are missing, null, or of another type are left out. A
 * lack of memory is latched in out. Returns 0, or -EINVAL with error set
 * (ERROR_INVALID) where it is no JSON object.
 */
int status_print_text(struct text *out, const char *document, size_t length, bool colour,
		      struct error *error);

#endif
