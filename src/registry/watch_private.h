/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_WATCH_PRIVATE_H
#define DRAGOMAN_REGISTRY_WATCH_PRIVATE_H

/*
 * What watch.c, watch_read.c and the kinds of registry have in common.
 *
 * watch.c keeps the services and tells of them, watch_read.c reads them; a kind
 * follows a service from the revision on that it was read at, gives its
 * changes to watch_changes(), and says when it has to be read anew.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "changes.h"
#include "dragoman/registry/watch.h"
#include "registry_private.h"

/* Nanoseconds. Tests shorten them. */
struct watch_times {
	uint64_t pause_first, pause_max; /* before trying again: doubled from one to the other */
	uint64_t answer;                 /* for the first answer to a request of the watch */
	uint64_t quiet;                  /* until a sign of life is asked for */
	uint64_t silence;                /* until the other side is given up */
	uint64_t idle; /* that may have had somebody cut it off; and no sign of life sooner */
	uint64_t turn; /* of a query, where there are more than may be under way */
	uint64_t pace; /* from answer to answer of one service, once there were many */
};

struct watch_read;

struct watch_service {
	struct registry_watch *watch;
	TAILQ_ENTRY(watch_service) entry; /* in services, or in removed */
	char *key;
	size_t key_length;
	bool removed;
	bool wanted;   /* is to be read, */
	uint64_t when; /* not before */
	unsigned failures;
	unsigned overtakes; /* in a row: what it was to go on from was gone, */
	uint64_t overtaken; /* last at this time */
	bool known;         /* was read; below: all up to revision is told */
	bool tell;          /* the next answer, even if it is the same */
	bool restored;      /* what is told whole next is of a registry that came back as another */
	uint64_t revision;
	uint64_t read_at;             /* the revision of the last read */
	uint64_t index;               /* of the service alone: what is told */
	uint64_t read_index;          /* of the last read: less is one that was overtaken */
	struct watch_read *read;      /* under way for it */
	struct change_list meanwhile; /* what was told since that began */
	void *state;                  /* the kind's own */
};

TAILQ_HEAD(watch_services, watch_service);

/* How a kind of registry is followed. */
struct watch_ops {
	/* Sets watch->state. Returns 0 or -errno with error set. */
	int (*begin)(struct registry_watch *watch, struct error *error);
	void (*end)(struct registry_watch *watch);
	/* A read is about to start. NULL: nothing. */
	void (*reading)(struct registry_watch *watch);
	/*
	 * The service was read, at service->revision: gives its changes from there
	 * on. It may be followed already. A read at less than service->index was not
	 * told: what the service is now is to be found out.
	 */
	void (*follow)(struct watch_service *service);
	/* Forgets the service and frees service->state; it may not be followed. */
	void (*unfollow)(struct watch_service *service);
	/* Ends what is connected: it belongs to a past that is gone, or all ends. NULL: nothing. */
	void (*reset)(struct registry_watch *watch);
	bool is_live_by_reading; /* a read that succeeds says that the registry is there */
	/* Whether an answer is what was told last, and need not be told. NULL: it is not. */
	bool (*is_known)(struct watch_service *service, const struct document *documents,
			 size_t count);
};

extern const struct watch_ops etcd3_watch_ops, etcd2_watch_ops, consul_watch_ops, file_watch_ops;

struct registry_watch {
	struct registry *registry;
	struct loop *loop;
	const struct watch_ops *ops;
	struct registry_watch_functions functions;
	void *user;
	struct watch_times times;
	struct watch_services services, removed;
	size_t count;
	void *by_key;                 /* of tsearch(3) */
	struct loop_source *deferred; /* reads what is wanted, frees what was removed */
	struct loop_source *timer;    /* triggers deferred when a pause is over */
	LIST_HEAD(, watch_read) reads;
	enum registry_state state;
	int lost_codes[8]; /* of the errors told since it is lost; 0: no more */
	bool connected;    /* the kind has a stream, which knows better than a read */
	struct registry_counts counts;
	uint64_t cluster; /* 0: not known */
	unsigned era;     /* counts the clusters and restorations seen */
	void *kind;       /* the kind's own */
};

/*
 * Changes of a followed service, in order; those up to the revision `since`
 * are told already, and dropped. The list is used up. May have any effect that a user's function
 * has: the service may be removed, and so unfollowed.
 */
void watch_changes(struct watch_service *service, struct change_list *list, uint64_t since,
		   uint64_t received);

/*
 * The whole of a followed service, at answer->position.index, as a kind came by
 * it that is told no changes. May have any effect, as above.
 */
void watch_whole(struct watch_service *service, const struct registry_answer *answer);

/*
 * A service's own index is less than it was: the registry was restored. All is
 * unfollowed, and read anew.
 */
void watch_went_back(struct watch_service *service, uint64_t index);

/* The service has to be read anew, soon, and is told even if nothing changed. */
void watch_read_again(struct watch_service *service, bool is_told);

/*
 * What the service was to be followed from is gone: it is read anew, at once
 * the first time. A registry that says so again and again is not asked without
 * a pause.
 */
void watch_overtaken(struct watch_service *service);

/* The service is followed: failures from now on are no more in a row. */
void watch_followed(struct watch_service *service);

/* The service cannot be followed: tells so, and reads it anew after a pause. */
void watch_fail(struct watch_service *service, const struct error *error);

/* Whether a position is of another past than what is known. A revision may just lag behind. */
bool watch_is_foreign(const struct registry_watch *watch, uint64_t cluster);

void watch_live(struct registry_watch *watch);
void watch_lost(struct registry_watch *watch, const struct error *error);

/* How long to wait after so many failures in a row: doubled, capped, jittered by half. */
uint64_t watch_pause(const struct registry_watch *watch, unsigned failures);

#endif
