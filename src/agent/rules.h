/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_AGENT_RULES_H
#define DRAGOMAN_AGENT_RULES_H

/*
 * The rules of one namespace: what is known to stand, and what it takes to make
 * something else of it. It knows of no agent, and belongs to one thread at a
 * time: the loop's, or that of a sync which goes on beside the loop.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dragoman/base/loop.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/kernel/monitor.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/standing.h"

struct rules {
	struct kernel *kernel;
	struct kernel_monitor *monitor;
	struct standing *standing; /* what is known to stand */
	uint32_t generation;       /* that standing is of; 0: it has to be read */
	int saved_localnet;        /* as the table has it, or had it; -1: not known */
	bool is_shared;            /* others may change the ruleset, and take their time */
	atomic_bool is_given_up;   /* nobody needs them any more; of any thread */
};

/* What came of it, in the arena that it was given. */
struct rules_outcome {
	bool committed; /* verdicts, as one transaction */
	struct verdicts verdicts;
	unsigned reads; /* of the whole namespace */
	bool held_up;   /* by others' transactions */
};

/*
 * Opens what is needed inside the namespace, and listens from then on: function
 * is told, on the loop. Errors: as kernel_open() and kernel_monitor_open().
 */
int rules_open(struct loop *loop, const struct netns *netns, kernel_monitor_function *function,
	       void *user, struct rules **ret, struct error *error);

/*
 * May have to wait for others' transactions in the namespace. On another thread
 * than the loop's only after kernel_monitor_mute(). NULL is fine.
 */
void rules_close(struct rules *rules);

/* Whether a part can be made true by itself: it is known what stands. */
bool rules_are_known(const struct rules *rules);

/*
 * Makes some services true, from what is known: reads nothing but counters that
 * move. desired holds just those services. After any error it is not known any
 * more what stands, and the whole has to be made true. Errors: as
 * kernel_commit(), -ENOMEM.
 */
int rules_sync_part(struct rules *rules, struct arena *arena, const struct ruleset *desired,
		    struct rules_outcome *ret, struct error *error);

/*
 * Makes the whole namespace true: reads, plans and commits, until it is so.
 * A commit that comes too late is tried again a few times; a refusal by the
 * kernel has the whole table replaced, once, before it is an error. Errors: as
 * kernel_read(), kernel_commit(), -ENOMEM; -ECANCELED where they were given up
 * before others were waited for.
 */
int rules_sync_whole(struct rules *rules, struct arena *arena, const struct ruleset *desired,
		     struct rules_outcome *ret, struct error *error);

/* Takes every trace out. Errors: as rules_sync_whole(). */
int rules_flush(struct rules *rules, struct error *error);

#endif
