/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_CONTAINER_H
#define DRAGOMAN_CONTAINER_CONTAINER_H

/*
 * Where containers come from: a Docker engine's API (or one that speaks it,
 * such as Podman's socket), https://docs.docker.com/reference/api/engine/
 *
 * The source subscribes to the engine's events first and lists second, so that
 * no start is missed. Each running container is told once with all that is
 * needed of it; when it is gone, that is told by its ID.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"

enum {
	CONTAINER_ID_MAX = 64, /* hexadecimal digits */
	CONTAINER_ENVIRONMENT_MAX = 16 * 1024 * 1024,
};

/* A running container. Borrowed for the call. */
struct container {
	const char *id;   /* hexadecimal digits */
	const char *name; /* without the slash; printable */
	uint64_t created; /* nanoseconds since 1970 */
	pid_t pid;        /* of its first process, as the engine's namespace of PIDs has it */
	const char *environment; /* strings "NAME=value", each ended by a NUL */
	size_t environment_length;
	bool host_network; /* --net=host */
	bool disabled;     /* label dragoman.enable=false */
	uint64_t event;    /* when the engine's event came in (loop_now()); 0: found by listing */
};

enum container_state { CONTAINERS_CONNECTING, CONTAINERS_LIVE, CONTAINERS_LOST };
const char *container_state_name(enum container_state state);

struct container_functions {
	/* It runs: told again when its name, or its process (restart), has changed. */
	void (*on_running)(const struct container *container, void *user);
	/* It does not run any more. */
	void (*on_gone)(const char *id, void *user);
	/* After a listing: everything that runs has been told, what was missing is gone. */
	void (*on_listed)(void *user);
	void (*on_state)(enum container_state state, const struct error *error, void *user);
};

struct containers;

/*
 * url: unix:///path, tcp://host:port (http://). Connects by itself, and again
 * with capped, jittered pauses. Returns 0 or -errno with error set (-EINVAL: the URL).
 */
int containers_new(struct loop *loop, const char *url, const struct container_functions *functions,
		   void *user, struct containers **ret, struct error *error);
void containers_free(struct containers *containers);

/* Lists anew: what was missed by whatever chance is told. */
void containers_resync(struct containers *containers);

enum container_state containers_state(const struct containers *containers);

#endif
