/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_LOOP_H
#define DRAGOMAN_BASE_LOOP_H

/*
 * One thread, one epoll(7).
 *
 * A source is a descriptor with interest (io), a point in time (timer), or
 * work for the end of this wake-up (deferred). Each has a name, and each call
 * is a line at debug level: "loop: timer resync" is what woke the program up.
 * Any source may be freed in any callback, its own included: a freed source is
 * marked, never called again, and reaped when no callback runs.
 *
 * Sources belong to whoever made them; loop_free() with sources left names
 * them at debug level and frees them.
 */

#include <stdint.h>

struct loop;
struct loop_source;

/*
 * Bits of interest and of what happened. LOOP_HANGUP (EPOLLHUP or EPOLLERR of
 * epoll_ctl(2)) is always of interest and need not be asked for.
 */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };

typedef void loop_io_function(struct loop_source *source, int fd, unsigned events, void *user);
typedef void loop_function(struct loop_source *source, void *user);

/* Returns 0, -ENOMEM, or an -errno of epoll_create1(2). */
int loop_new(struct loop **ret);

/* Not from within a callback of this loop; NULL is fine. */
void loop_free(struct loop *loop);
void loop_freep(struct loop **loop);

/* Monotonic time in nanoseconds (CLOCK_MONOTONIC), as of the call. */
uint64_t loop_now(const struct loop *loop);

/*
 * Watches fd, which stays the caller's, for events (LOOP_READ|LOOP_WRITE).
 * name is borrowed for the life of the source; string literals are meant.
 * Returns 0, -ENOMEM, or an -errno of epoll_ctl(2).
 */
int loop_add_io(struct loop *loop, const char *name, int fd, unsigned events,
		loop_io_function *function, void *user, struct loop_source **ret);

/* Changes the interest of an io source. Returns 0, or an -errno of epoll_ctl(2). */
int loop_source_set_events(struct loop_source *source, unsigned events);

/*
 * Calls function once at `when` (nanoseconds of loop_now(); the past means in
 * the next round). The source stays, disarmed, until it is armed again or
 * freed. UINT64_MAX leaves it disarmed. Timers are never early, and late by up
 * to a millisecond. Returns 0 or -ENOMEM.
 */
int loop_add_timer(struct loop *loop, const char *name, uint64_t when, loop_function *function,
		   void *user, struct loop_source **ret);
void loop_source_arm(struct loop_source *source, uint64_t when);

/*
 * Calls function once at the end of each wake-up in which
 * loop_source_trigger() was called, after all io and timers: a thousand
 * triggers are one call. A trigger from within a deferred function, or from
 * outside loop_run(), is for the next wake-up, which then does not wait.
 * Returns 0 or -ENOMEM.
 */
int loop_add_deferred(struct loop *loop, const char *name, loop_function *function, void *user,
		      struct loop_source **ret);
void loop_source_trigger(struct loop_source *source);

/* Frees a source, from anywhere; NULL is fine. */
void loop_source_free(struct loop_source *source);

/*
 * Runs until loop_stop(). Returns 0, or an -errno of epoll_wait(2). It may be
 * called again, but not from within a callback.
 */
int loop_run(struct loop *loop);

/*
 * Ends the run under way, or the next one where none is: no further source is
 * called. What would have been called is not lost to a later run.
 */
void loop_stop(struct loop *loop);

#endif
