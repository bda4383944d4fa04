/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_RULESET_H
#define DRAGOMAN_MODEL_RULESET_H

/*
 * The desired ruleset of one namespace: what plan compares with what was
 * observed there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/document.h"

enum balance { BALANCE_RANDOM, BALANCE_NTH };

/* An endpoint and the number of slots it takes (at least 1). */
struct share {
	struct endpoint endpoint;
	unsigned slots;
};

enum ruleset_mode {
	RULESET_SET,  /* the shares are what shall stand */
	RULESET_KEEP, /* the read failed: what stands stays, and if nothing does, nothing */
	RULESET_HOLD, /* --on-empty hold: what stands stays, and if nothing does, unavailable */
};

/* One port and protocol of the namespace. */
struct ruleset_service {
	struct listen listen;
	enum ruleset_mode mode;
	/* By family; no shares in a family means unavailable there. Of RULESET_SET only. */
	struct share *shares[FAMILY_COUNT];
	size_t share_count[FAMILY_COUNT];
	/* Endpoints of weight 0: no new connections, but those that are there go on. */
	struct endpoint *drained[FAMILY_COUNT];
	size_t drained_count[FAMILY_COUNT];
};

struct ruleset {
	enum balance balance;
	struct ruleset_service *services; /* in the order of listen_compare(), each once */
	size_t count;
};

/*
 * Turns a selection into the shares of a service: weights divided by their
 * common divisor and scaled down where they would need more than SLOTS_MAX
 * slots in a family, weight 0 apart, in the order of endpoint_compare().
 * The selection holds each endpoint once, and ENDPOINTS_MAX at most. Leaves
 * listen and mode alone. Memory comes from the arena. Returns 0 or -ENOMEM.
 */
int ruleset_service_fill(struct arena *arena, const struct selection *selection,
			 struct ruleset_service *service);

/*
 * The same from weights, as selection_shares() gives them: they become the
 * shares, where they are.
 */
int ruleset_service_share(struct arena *arena, struct share *weights, size_t count,
			  struct ruleset_service *service);

/*
 * The endpoints of a selection, as many as it has, by endpoint_compare(), with
 * their weights in place of slots. Returns 0 or -ENOMEM.
 */
int selection_shares(struct arena *arena, const struct selection *selection, struct share **ret);

/* The greatest divisor that two weights have in common; of 0 and another that one. */
unsigned weights_common_divisor(unsigned a, unsigned b);

#endif
