/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_WATCH_H
#define DRAGOMAN_REGISTRY_WATCH_H

/*
 * Following a registry: any number of services on one watch.
 *
 * A service that is added is read, and told whole; from the revision of that
 * read on each change of it is told as it comes. When the connection is lost,
 * everything stays as last told; the watch comes back by itself, at the next
 * host, after a pause that doubles up to a cap and is jittered, and resumes
 * where it stopped, or, where the registry does not have that revision any
 * more, reads everything anew and tells it whole. What is told whole replaces
 * all that was told before. No removal is told that the registry did not make.
 *
 * A registry that went back (a cluster restored from a backup, or another one
 * in its place) is found out by its revisions or indexes and its identity, and then
 * everything is read anew, and told as `restored`: what is missing in that was
 * lost, and not removed. While some host is still of the cluster that is known,
 * one that is of another is left for it. Values that were written again unchanged are told
 * like any other change. Where there are no services nothing is connected.
 *
 *     etcd v3   one stream for all services (POST /v3/watch): a create request
 *               for each, one outstanding at a time; cancelled when it is
 *               removed; progress requests find a stream that has gone silent
 *     etcd v2   a long poll for each service, by the index of its read + 1
 *     Consul    a blocking query for each service, answered whole; a bounded
 *               number at a time: where there are more services, they take turns
 *     file      inotify(7) on the directory, since editors replace the file;
 *               services are told whole, and only those that changed
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/registry/registry.h"

struct registry_watch;

enum registry_state {
	REGISTRY_CONNECTING, /* never was connected yet */
	REGISTRY_LIVE,
	REGISTRY_LOST, /* trying again */
};

/* "connecting", "live", "lost". */
const char *registry_state_name(enum registry_state state);

/* News of one service. Borrowed for the call. */
struct registry_update {
	const char *key; /* as it was added */
	/* NULL, or why the service could not be read: nothing is known anew, what is known stays.
	 */
	const struct error *error;
	bool whole; /* documents are all there are; else those that were put, and removed those gone
		     */
	bool is_event; /* the registry told it by itself, and not for a read */
	bool restored; /* whole, and the first since the registry went back or became another */
	const struct document *documents; /* each key once, in any order */
	size_t count;
	const char *const *removed; /* keys, none of them in documents */
	size_t removed_count;
	uint64_t revision; /* of the registry; 0: it has none */
	uint64_t received; /* when it came in: loop_now() */
};

struct registry_watch_functions {
	/* Updates of one service come in order. May add and remove services, but not free the
	 * watch. */
	void (*on_update)(const struct registry_update *update, void *user);
	/*
	 * The state has changed (or NULL). error: what lost it, or NULL. While it
	 * stays lost, each further kind of error (its code) is told once.
	 */
	void (*on_state)(enum registry_state state, const struct error *error, void *user);
	/* The registry went back, or became another: what says so (or NULL). */
	void (*on_restored)(const char *what, void *user);
};

/* Counts since the watch was made. */
struct registry_counts {
	uint64_t events;       /* changes told, of keys, or of whole services by Consul */
	uint64_t reads;        /* reads started, each of any number of services */
	uint64_t reconnects;   /* lost, and live again */
	uint64_t compactions;  /* services read anew for want of the revision to go on from */
	uint64_t restorations; /* times that the registry went back, or became another */
	uint64_t errors;       /* told: of services, and of the connection */
	uint64_t revision;     /* the newest seen */
};

/* One a registry. Functions are copied. Returns 0 or -errno with error set. */
int registry_watch_new(struct registry *registry, const struct registry_watch_functions *functions,
		       void *user, struct registry_watch **ret, struct error *error);

/* Ends everything without a call; NULL is fine. Before the registry is freed. */
void registry_watch_free(struct registry_watch *watch);

/*
 * Adds a service by its canonical key, which is copied; adding what is there
 * already is -EEXIST. Services added in one wake-up are read together.
 */
int registry_watch_add(struct registry_watch *watch, const char *key);

/* No more is told of it, from now on. */
void registry_watch_remove(struct registry_watch *watch, const char *key);

/* Reads every service anew, and tells it whole: at the resync interval, and on SIGHUP. */
void registry_watch_resync(struct registry_watch *watch);

enum registry_state registry_watch_state(const struct registry_watch *watch);
void registry_watch_counts(const struct registry_watch *watch, struct registry_counts *ret);

#endif
