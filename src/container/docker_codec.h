/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_DOCKER_CODEC_H
#define DRAGOMAN_CONTAINER_DOCKER_CODEC_H

/*
 * What a Docker engine answers, taken apart and looked at
 * (https://docs.docker.com/reference/api/engine/). No input or output.
 *
 * Each decoder returns 0, -ENOMEM, or -EBADMSG with error set
 * (ERROR_TRANSIENT): what speaks there may be something else the next time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/container/container.h"

enum {
	DOCKER_API_MAX = sizeof("v18446744073709551615.18446744073709551615"),
	DOCKER_LIST_MAX = 65536,    /* containers in a listing */
	DOCKER_NAME_MAX = 255,      /* bytes of a container's name; longer ones are cut */
	DOCKER_FAILURE_MAX = 256,   /* bytes of an engine's message, as it is shown */
	DOCKER_EVENT_MAX = 1 << 20, /* bytes of one event: it holds the container's labels */
};

/* A container's ID, whole: digits and a NUL. */
struct docker_id {
	char text[CONTAINER_ID_MAX + 1];
};

/* Whether text is an ID as engines give them: 12 to 64 hexadecimal digits, in lower case. */
bool docker_id_is_valid(const char *text);

/*
 * GET /version: the version to speak, as the first segment of a path ("v1.41").
 * -EOPNOTSUPP (ERROR_INVALID): the engine is too old.
 */
int docker_decode_version(const char *body, size_t length, char ret[DOCKER_API_MAX],
			  struct error *error);

/* The value of the parameter `filters` of GET /events, ready for a URL. */
const char *docker_event_filters(void);

/* GET /events, one object: the container that it is about; an empty ID where it is about none. */
int docker_decode_event(const char *body, size_t length, struct docker_id *ret,
			struct error *error);

/* GET /containers/json: IDs, malloc()ed. */
int docker_decode_list(const char *body, size_t length, struct docker_id **ret, size_t *ret_count,
		       struct error *error);

/* GET /containers/ID/json. Strings live in the arena that it was decoded into. */
struct docker_container {
	struct docker_id id;
	bool running;       /* it has a process */
	const char *status; /* "running", "exited"...; printable */
	struct container container;
};

/*
 * A string of the environment that holds a NUL, which no process can be given
 * but Docker takes and shows, is left out: it would be two strings here. So is
 * what does not fit into CONTAINER_ENVIRONMENT_MAX.
 */
int docker_decode_container(const char *body, size_t length, struct arena *arena,
			    struct docker_container *ret, struct error *error);

/* The message of an answer with an error; printable; "" where there is none. */
void docker_decode_failure(const char *body, size_t length, char ret[DOCKER_FAILURE_MAX]);

/* "2026-11-22T16:30:00.123456789Z" (RFC 3339) in nanoseconds since 1970, 0 before. Returns 0 or
 * -EINVAL. */
int docker_parse_time(const char *text, uint64_t *ret);

/*
 * The header "Date" ("Sun, 22 Nov 2026 16:30:00 GMT", RFC 9110) in seconds
 * since 1970. Returns 0, or -EINVAL where there is none (NULL), or another.
 */
int docker_parse_http_date(const char *text, uint64_t *ret);

#endif
