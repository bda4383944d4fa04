/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_OBSERVED_H
#define DRAGOMAN_MODEL_OBSERVED_H

/*
 * What stands in a namespace, as read from its kernel in one generation.
 * src/kernel fills it, src/plan compares it; everything lives in one arena.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/endpoint.h"

/* The chains of the table. Those before CHAIN_BALANCE are there once, with a hook. */
enum chain_kind {
	CHAIN_OUTPUT,
	CHAIN_POSTROUTING,
	CHAIN_GUARD,
	CHAIN_UNAVAILABLE,
	CHAIN_BALANCE, /* balance4-3: shared by every service with 3 slots */
	CHAIN_NTH,     /* nth4-6379-tcp: one service's own */
	CHAIN_FOREIGN, /* not one of ours */
};
enum { CHAIN_BASE_COUNT = CHAIN_BALANCE };

/* A chain of ours, by what it is for. Fields that its kind does not use are 0. */
struct chain {
	uint8_t kind;         /* enum chain_kind */
	uint8_t family;       /* enum family, of balance and nth */
	uint16_t slots;       /* of balance: in its name; of nth: in its rules */
	struct listen listen; /* of nth */
};

/* The sets and maps of the table, each there once. */
enum set_kind {
	SET_SERVICES4,
	SET_SERVICES6,
	SET_ENDPOINTS4,
	SET_ENDPOINTS6,
	SET_UNAVAILABLE4,
	SET_UNAVAILABLE6,
	SET_FOREIGN, /* not one of ours */
};
enum { SET_COUNT = SET_FOREIGN };

enum { OBJECT_NAME_MAX = 256 }; /* NFT_NAME_MAXLEN of linux/netfilter/nf_tables.h */

struct observed_chain {
	struct chain chain;
	const char *name; /* as the kernel has it */
	bool intact;      /* its rules are exactly those of our schema */
};

/* A named set or map; the anonymous ones of rules are not listed. */
struct observed_set {
	uint8_t kind; /* enum set_kind */
	const char *name;
};

/* An element of services4 or services6 that has one of our keys. */
struct observed_service {
	struct listen listen;
	uint8_t family;
	struct chain target; /* kind CHAIN_FOREIGN where the verdict is none of ours */
};

/* An element of endpoints4 or endpoints6. */
struct observed_endpoint {
	struct listen listen;
	uint16_t slot;
	struct endpoint endpoint;
	uint64_t packets, bytes; /* its counter: connections, and bytes of their first packets */
};

/* An element of unavailable4 or unavailable6. */
struct observed_unavailable {
	struct listen listen;
	uint8_t family;
};

enum { ELEMENT_KEY_MAX = 32 };

/* An element of one of our sets that we would never write: to be removed by its key. */
struct observed_stray {
	uint8_t set; /* enum set_kind */
	uint8_t key_length;
	uint8_t key[ELEMENT_KEY_MAX]; /* as in the kernel */
};

/* An interface, other than lo, that can have a route to ::1. */
struct observed_link {
	unsigned index;
	const char *name; /* printable */
	bool routed;      /* the route stands, with our protocol number */
};

/* A route to ::1 of our protocol number that is of no use: wrong metric, interface, table. */
struct observed_route {
	unsigned index; /* of its interface */
	const char *name;
	uint32_t metric;
	uint32_t table;
};

struct observed {
	uint32_t generation; /* of the nftables ruleset; NFNL_BATCH_GENID */

	bool table;          /* there is a table inet dragoman */
	const char *foreign; /* why it cannot be changed in place; NULL: it can */
	/*
	 * route_localnet as remembered in its comment; -1: not there. Who has
	 * read it once, and finds the table gone, may fill it in.
	 */
	int saved_localnet;

	bool has_set[SET_COUNT]; /* in the shape of our schema */
	struct observed_chain *chains;
	size_t chain_count;
	struct observed_set *foreign_sets;
	size_t foreign_set_count;

	struct observed_service *services;
	size_t service_count;
	struct observed_endpoint *endpoints; /* in no order */
	size_t endpoint_count;
	bool uncounted; /* their counters are not known */
	struct observed_unavailable *unavailable;
	size_t unavailable_count;
	struct observed_stray *strays;
	size_t stray_count;

	int localnet; /* net.ipv4.conf.all.route_localnet as it is: 0, or 1 for all else */
	bool ipv6;    /* ::1 is usable: IPv6 is on, on lo too */
	struct observed_link *links;
	size_t link_count;
	struct observed_route *routes; /* the useless ones */
	size_t route_count;
};

enum { CHAIN_NAME_MAX = 32 };

/* "output", "balance4-3", "nth6-53-udp"; "?" of foreign. Returns into, of CHAIN_NAME_MAX bytes. */
char *chain_format(const struct chain *chain, char *into);

/* The chain that a name stands for; kind CHAIN_FOREIGN where it is none of ours. */
struct chain chain_parse(const char *name);

/* Whether two are the same chain by name (an nth chain's slots do not count). */
bool chain_equal(const struct chain *a, const struct chain *b);

/* "services4"...; and back: SET_FOREIGN where it is none of ours. */
const char *set_name(enum set_kind set);
enum set_kind set_parse(const char *name);

/* SET_SERVICES4 + FAMILY_IPV6 is SET_SERVICES6, and so on. */
#define SET_OF(set4, family) ((enum set_kind)((unsigned)(set4) + (unsigned)(family)))

#endif
