/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_STATUS_JSON_H
#define DRAGOMAN_CMD_STATUS_JSON_H

/*
 * What the parts of a status document mean: for its table, and for those who
 * ask it. jansson's getters answer NULL, or nothing, for whatever is not there
 * or is something else, and every function here takes that.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/text.h"
#include "page.h"

/* The order in which backends are shown. */
enum rank { RANK_PROBLEM, RANK_FINE, RANK_IGNORED };
enum { RANK_COUNT = RANK_IGNORED + 1 };

/* A state that we do not know is worth to be looked at. */
enum rank backend_rank(const json_t *backend);
enum page_colour backend_colour(const json_t *backend);

/* Whether it, or a backend of it, is not as it should be. */
bool namespace_has_problem(const json_t *namespace);

struct status_counts {
	size_t namespaces, backends, problems;
};
struct status_counts status_count(const json_t *root);

/* Sums of connections since the rules were made; -1 where it is not known. */
double endpoint_connections(const json_t *endpoint);
double backend_connections(const json_t *backend);

/* The same namespace, backend, endpoint in another document, or NULL; it is looked for at index
 * first. */
const json_t *namespace_in(const json_t *root, const json_t *namespace, size_t index);
const json_t *backend_in(const json_t *namespace, const json_t *backend, size_t index);
const json_t *endpoint_in(const json_t *backend, const json_t *endpoint, size_t index);

/*
 * An earlier one of the namespace's backends that is led to the same service, on the same port:
 * the kernel has one of the two. Or NULL.
 */
const json_t *backend_twin(const json_t *backends, size_t index);

/* Connections that have come in since an earlier document. */
double status_gained(const json_t *root, const json_t *before);

/* Whether a container of a document has that name, or an ID that begins so. */
bool container_is(const json_t *container, const char *name);

/* A string that is not empty, or an integer. */
bool json_has_text(const json_t *value);

/*
 * Adds a string, or an integer; nothing of anything else. What a terminal cannot
 * take is made printable; backslashes stay as they are.
 */
void json_add_text(struct text *line, const json_t *value);

/* "web", the beginning of an ID, or "?". */
void json_add_container(struct text *line, const json_t *container);

/* "10.0.0.2:80", "[2001:db8::2]:80". */
void json_add_address(struct text *line, const json_t *endpoint);

/* "/services/redis.master[prod,stats]" */
void json_add_service(struct text *line, const json_t *backend);

#endif
