/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_DOCKER_PRIVATE_H
#define DRAGOMAN_CONTAINER_DOCKER_PRIVATE_H

/*
 * What the two halves of the source have in common: docker.c keeps the session
 * with the engine, and says where to look; docker_look.c looks at containers,
 * one by one, and tells of them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "docker_codec.h"
#include "docker_engine.h"
#include "docker_splitter.h"
#include "dragoman/base/loop.h"
#include "dragoman/container/container.h"

enum {
	LOOKS_AT_ONCE = 8, /* containers that are asked for at the same time */
	LOOKS_SLOW = 56,   /* beside those: looks that take long */
	LOOK_TRIES = 5,    /* of one container, until it is given up */
	BUCKETS = 256,
};

/* Nanoseconds between two tries. */
#define PAUSE_MIN UINT64_C(100000000)
#define PAUSE_MAX UINT64_C(5000000000)
#define PAUSE_GIVEN_UP UINT64_C(5000000000)

/* For how long a look holds one of the places, where others wait for it. */
#define LOOK_PATIENCE UINT64_C(500000000)

LIST_HEAD(tracked_list, tracked);
TAILQ_HEAD(tracked_queue, tracked);

/* A container that was told, or is to be looked at. */
struct tracked {
	struct containers *containers;
	LIST_ENTRY(tracked) entry;
	TAILQ_ENTRY(tracked) waiting;
	struct docker_id id;
	struct http_request *request; /* the look under way */
	struct tracked_queue *queued; /* where it waits for a free place; or NULL */
	bool slow;                    /* the look under way has lost its place */
	bool again;                   /* something came while it was looked at */
	bool failed;                  /* waits for another try */
	bool given_up;                /* that was told; the tries go on, seldom */
	bool awaited;                 /* by the listing */
	bool retell;                  /* somebody doubts what was told of it */
	unsigned tries;
	uint64_t asked;       /* when the look under way began */
	uint64_t due;         /* the other try */
	uint64_t event;       /* the first that no look has answered for; 0: none */
	uint64_t asked_event; /* the one that the look under way answers for */

	bool told;
	pid_t pid;
	uint64_t started;
	char name[DOCKER_NAME_MAX + 1];
};

struct containers {
	struct loop *loop;
	struct container_functions functions;
	void *user;
	struct docker_engine engine;
	bool calling, freed; /* one of the user's functions runs; it freed us */

	/* The session. */
	enum container_state state;
	struct error lost; /* why, as it was told */
	struct loop_source *timer;
	struct http_request *version, *events, *list;
	struct docker_splitter splitter;
	uint64_t since;        /* the engine's clock, in seconds, at the session's start */
	uint64_t session_time; /* ours, when it began */
	uint64_t pause;
	bool list_again;

	/* Looking. */
	struct tracked_list buckets[BUCKETS];
	struct tracked_queue urgent, queue; /* after an event; for a listing, or another try */
	size_t looking;                     /* looks under way that hold a place */
	size_t slow;                        /* and those that do not any more */
	size_t awaiting;                    /* looks until the listing is done with */
	bool listing; /* a listing was read, and not all of it was looked at */
	struct loop_source *retry;
	uint64_t retry_due; /* UINT64_MAX: it is not armed */
	struct loop_source *patience;
	bool patience_armed;
};

/* Between a half of `most` and `most`, at random. */
uint64_t containers_jitter(uint64_t most);

/* The user's functions. Return whether the containers still stand: if not, touch nothing. */
bool containers_tell_running(struct containers *containers, const struct container *container);
bool containers_tell_gone(struct containers *containers, const char *id);
bool containers_tell_state(struct containers *containers, enum container_state state,
			   const struct error *error);

/* All that a listing named was looked at. */
void containers_listing_done(struct containers *containers);

int look_init(struct containers *containers);
void look_done(struct containers *containers);

/*
 * Looks at a container, now or when there is a free place; once more when it is
 * being looked at already. event: when one came in; 0: none did. Returns 0 or
 * -ENOMEM.
 */
int look_at(struct containers *containers, const char *id, uint64_t event);

/* Looks at all that a listing named, and all that was told. Returns 0 or -ENOMEM. */
int look_at_listing(struct containers *containers, const struct docker_id *ids, size_t count);

/* Tells that the listing is done with, where it is. The last thing that its caller does. */
void look_check_listing(struct containers *containers);

/* Starts what there are places for. */
void look_pump(struct containers *containers);

/* Ends the looks under way, and forgets those that were to come: the session is over. */
void look_stop(struct containers *containers);

#endif
