/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_CONTAINER_H
#define DRAGOMAN_CONTAINER_CONTAINER_H

/*
 * Where containers come from: a Docker engine's API (or one that speaks it,
 * such as Podman's socket), https://docs.docker.com/reference/api/engine/
 *
 * The source subscribes to the engine's events first and lists second, so that
 * no start is missed. Each running container is told once with all that is
 * needed of it; when it is gone, that is told by its ID. Both are only ever
 * said of what the engine answered about that one container: events and
 * listings say where to look. So late, doubled and reordered events do no harm,
 * and while the engine cannot be reached nothing is gone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/base/memory.h"

enum {
	CONTAINER_ID_MAX = 64, /* hexadecimal digits */
	CONTAINER_ENVIRONMENT_MAX = 16 * 1024 * 1024,
};

/* A running container. Borrowed for the call. */
struct container {
	const char *id;   /* hexadecimal digits */
	const char *name; /* without the slash; printable */
	uint64_t created; /* nanoseconds since 1970 */
	uint64_t started; /* the last time, likewise; 0: not known */
	pid_t pid;        /* of its first process, as the engine's namespace of PIDs has it */
	const char *environment; /* strings "NAME=value", each ended by a NUL */
	size_t environment_length;
	/*
	 * Strings that were left out: those that hold a NUL, which Docker shows
	 * but no process is given, and those beyond CONTAINER_ENVIRONMENT_MAX.
	 */
	size_t environment_dropped;
	bool host_network; /* --net=host */
	bool disabled;     /* label dragoman.enable=false */
	uint64_t event;    /* when the engine's event came in (loop_now()); 0: found by listing */
};

enum container_state { CONTAINERS_CONNECTING, CONTAINERS_LIVE, CONTAINERS_LOST };
const char *container_state_name(enum container_state state);

/* Any of them may be NULL, and may free the containers. */
struct container_functions {
	/* It runs: told again when its name, or its process (restart), has changed. */
	void (*on_running)(const struct container *container, void *user);
	/* It does not run any more. id is borrowed for the call. */
	void (*on_gone)(const char *id, void *user);
	/* After a listing: everything that runs has been told, what was missing is gone. */
	void (*on_listed)(void *user);
	/*
	 * The state has changed, or is lost for another reason than before. With
	 * an error while live: one container could not be looked at, for the
	 * reason given; what was told of it before stands until the next listing.
	 */
	void (*on_state)(enum container_state state, const struct error *error, void *user);
};

struct containers;

/*
 * url: unix:///path, tcp://host:port (http://). Connects by itself, and again
 * with capped, jittered pauses. No function is called from within. functions
 * and url are copied. Returns 0 or -errno with error set (-EINVAL: the URL).
 */
int containers_new(struct loop *loop, const char *url, const struct container_functions *functions,
		   void *user, struct containers **ret, struct error *error);
void containers_free(struct containers *containers);

/* Lists anew: what was missed by whatever chance is told. While lost: connects now. */
void containers_resync(struct containers *containers);

/*
 * Asks for a container once more, a little later, and tells it again if it runs,
 * whatever has changed: for who doubts what was told. May be called from any
 * function.
 */
void containers_ask_again(struct containers *containers, const char *id);

enum container_state containers_state(const struct containers *containers);

/* What runs at one moment. Zero-initialise. */
struct container_list {
	struct arena *arena; /* of the strings */
	struct container *items;
	size_t count, capacity;
};
void container_list_done(struct container_list *list);

/*
 * Once, and waiting for it: everything that runs, and which of it is the one
 * with that name, ID, or unambiguous start of an ID. timeout is in
 * nanoseconds. Errors: -EINVAL (the URL), -ENOENT (no such container), -ESRCH
 * (it does not run), -ETIMEDOUT, or what the engine could not be reached for.
 */
int containers_read(const char *url, const char *name, uint64_t timeout, struct container_list *ret,
		    size_t *ret_index, struct error *error);

#endif
