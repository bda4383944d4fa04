/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_WATCH_READ_H
#define DRAGOMAN_REGISTRY_WATCH_READ_H

/*
 * What watch.c (the services, and telling of them) and watch_read.c (reading
 * them) share, and kinds of registry need not know.
 */

#include <stdint.h>

struct error;
struct registry_update;
struct registry_watch;
struct watch_service;

/* Reads what is wanted and due, and sets watch->timer to when the next is. */
void watch_read_wanted(struct registry_watch *watch);
/* Gives up the read under way for this service, if there is one, and what was told meanwhile. */
void watch_read_abandon(struct watch_service *service);
/* Ends all reads without a call. */
void watch_reads_cancel(struct registry_watch *watch);

/* Wants the service to be read after a pause in nanoseconds. */
void watch_read_later(struct watch_service *service, uint64_t pause);
/* Gives the user an update, whose key and revision are filled in. */
void watch_tell(const struct watch_service *service, struct registry_update *update);
/* Counts it, and has the next answer told whatever it is. */
void watch_tell_error(struct watch_service *service, const struct error *error);
/* Something of this revision was seen. */
void watch_saw(struct registry_watch *watch, uint64_t revision);

#endif
