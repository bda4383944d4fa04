/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_STATUS_TEXT_H
#define DRAGOMAN_CMD_STATUS_TEXT_H

/*
 * What a running agent says of itself, for people. The document is the agent's,
 * maybe of another version than this program: members that are missing, null,
 * or of another type are left out.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"
#include "page.h"

/* A document of /status. Zero-initialise. */
struct status_document {
	json_t *root;
};

/* Returns 0, -ENOMEM, or -EINVAL with error set (ERROR_INVALID) where it is no JSON object. */
int status_parse(const char *document, size_t length, struct status_document *ret,
		 struct error *error);
void status_done(struct status_document *status);

/*
 * Leaves only namespaces with a container of that name, or whose ID begins so,
 * and their changes; a namespace by hand counts by its name. Returns 0, -ENOMEM, or -ENOENT
 * (ERROR_INVALID) with the names that there are in error.
 */
int status_narrow(struct status_document *status, const char *name, struct error *error);

/* What there was before, to tell how fast connections come in. */
struct status_before {
	const struct status_document *status; /* NULL: nothing */
	double seconds;                       /* ago; more than 0 */
};

/*
 * Adds the document as a table, problems first: namespaces that have one
 * before others, then by name, and in each its backends the same. A lack of
 * memory is latched in out.
 */
void status_print_text(struct text *out, const struct status_document *status,
		       const struct status_before *before, const struct page *page);

/* The parts of that, for those who put something between them. */
void status_print_head(struct text *out, const struct status_document *status,
		       const struct status_before *before, const struct page *page);
void status_print_namespaces(struct text *out, const struct status_document *status,
			     const struct status_before *before, const struct page *page);

/* Changes, the newest first, at most so many; `now` in seconds since 1970. */
void status_print_changes(struct text *out, const struct status_document *status, size_t most,
			  double now, const struct page *page);

/* "3 namespaces, 5 backends, 2 problems, 12.5 connections/s". */
void status_print_summary(struct text *line, const struct status_document *status,
			  const struct status_before *before);

/* For logs: a line for each change since `before`, and one with the summary. */
void status_print_news(struct text *out, const struct status_document *status,
		       const struct status_before *before, double now);

#endif
