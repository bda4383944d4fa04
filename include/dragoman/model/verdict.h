/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_VERDICT_H
#define DRAGOMAN_MODEL_VERDICT_H

/*
 * What is to become of each object of a namespace: the outcome of a plan, the
 * input of a commit. Objects that stay as they are do not appear.
 *
 * `changes` says the same to people: by endpoint, not by slot. An endpoint
 * whose slot was taken over by the last one is one line "remove", although it
 * is two elements of the kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/observed.h"

enum verdict { VERDICT_ADD, VERDICT_REPLACE, VERDICT_REMOVE };

/* "add", "replace", "remove". */
const char *verdict_name(enum verdict verdict);

struct chain_verdict {
	enum verdict verdict; /* replace: all of its rules, the chain itself stays */
	struct chain chain;
	const char *name; /* of a foreign chain; else NULL */
};

struct set_verdict {
	enum verdict verdict; /* add, or remove of a foreign one */
	enum set_kind set;
	const char *name; /* of a foreign set; else NULL */
};

struct service_verdict {
	enum verdict verdict;
	uint8_t family;
	struct listen listen;
	struct chain target; /* of add and replace */
};

struct endpoint_verdict {
	enum verdict verdict;
	uint16_t slot;
	struct listen listen;
	struct endpoint endpoint; /* new; of remove: the one that stood there */
	uint64_t packets, bytes;  /* that its counter starts with */
	bool moved;               /* it comes from another slot, along with its counter */
	uint16_t from;
};

struct unavailable_verdict {
	enum verdict verdict; /* add or remove */
	uint8_t family;
	struct listen listen;
};

struct route_verdict {
	enum verdict verdict; /* add or remove */
	unsigned index;
	const char *name;
	uint32_t metric;
	uint32_t table;
};

/* One line for people and for --json. */
struct change {
	enum verdict verdict;
	bool is_object;     /* object is set, and nothing below it */
	const char *object; /* "chain balance4-3", "sysctl net.ipv4...", printable */
	struct listen listen;
	uint8_t family;
	bool has_endpoint; /* false: the service is (no longer) unavailable */
	bool has_was;
	struct endpoint endpoint;
	struct endpoint was; /* of a replace: the one that it takes the place of */
	unsigned slots;      /* that the endpoint has from now on (remove: had) */
};

struct verdicts {
	uint32_t generation; /* planned against */
	bool uncounted;      /* the counters of what moved are to be read first */
	bool table_remove;   /* with all that is in it */
	bool table_add;
	int saved_localnet; /* for the comment of a table that is added */

	struct chain_verdict *chains;
	size_t chain_count;
	struct set_verdict *sets;
	size_t set_count;
	struct service_verdict *services;
	size_t service_count;
	struct endpoint_verdict *endpoints;
	size_t endpoint_count;
	struct unavailable_verdict *unavailable;
	size_t unavailable_count;
	struct observed_stray *strays; /* to remove */
	size_t stray_count;

	/* Outside of the nftables transaction; a commit applies them in a safe order. */
	bool localnet_set;
	int localnet; /* the value to write */
	/*
	 * Of a flush: route_localnet is on, and nothing that would tell whether it
	 * was us is left. It stays as it is, which somebody should know.
	 */
	bool localnet_unclaimed;
	struct route_verdict *routes;
	size_t route_count;

	struct change *changes;
	size_t change_count;
};

/* Whether anything is to be sent in an nftables batch. */
bool verdicts_have_batch(const struct verdicts *verdicts);

/* Whether there is nothing to commit: all is as it should be. */
bool verdicts_are_empty(const struct verdicts *verdicts);

#endif
