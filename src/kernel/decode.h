/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_DECODE_H
#define DRAGOMAN_KERNEL_DECODE_H

/*
 * Messages of nf_tables' dumps into a struct observed. Pure: bytes in, model
 * out; nothing in a message is trusted to be there or to have its length.
 *
 * The functions are called for each message of the dumps of table, sets,
 * chains, rules and elements, in this order; user is the decoder. What is not
 * of our table is passed over. They return 0, or -ENOMEM, or -EAGAIN where a
 * message is of another generation than the decoder's, or an element comes
 * twice.
 */

#include <libmnl/libmnl.h>

#include "dragoman/base/memory.h"
#include "dragoman/model/observed.h"

struct decoder {
	struct arena *arena;
	struct observed *observed;

	/* Growing arrays, malloc()ed; decode_finish() moves them into the arena. */
	struct observed_chain *chains;
	struct observed_set *foreign_sets;
	struct observed_service *services;
	struct observed_endpoint *endpoints;
	struct observed_unavailable *unavailable;
	struct observed_stray *strays;
	size_t chain_capacity, foreign_set_capacity, service_capacity, endpoint_capacity,
		unavailable_capacity, stray_capacity;

	size_t foreign_chains; /* among chains, and those beyond DECODE_FOREIGN_MAX */

	/* The rules of the chain at hand: how many there were, and whether all were right. */
	struct observed_chain *chain;
	unsigned rules;

	/* Sets by name are only known between decode_set() and the elements. */
	enum set_kind set; /* whose elements are being read */

	/* Elements so far, by what tells them apart; an open hash table, 0 is free. */
	uint32_t *seen;
	size_t seen_count, seen_size; /* a power of two, or 0 */
};

/* So many foreign chains, foreign sets and strays are listed; with more, the table is foreign. */
enum { DECODE_FOREIGN_MAX = 1024 };

/* Whether there are that many; then the table is foreign from now on. */
bool decode_too_much(struct decoder *decoder, size_t count);

/* For CLEANUP. */
void decoder_done(struct decoder *decoder);

int decode_table(const struct nlmsghdr *message, void *user);
int decode_set(const struct nlmsghdr *message, void *user);
int decode_chain(const struct nlmsghdr *message, void *user);
/* Between the chains and their rules. */
void decode_chains_end(struct decoder *decoder);
int decode_rule(const struct nlmsghdr *message, void *user);
/* Behind the rules. */
void decode_rules_end(struct decoder *decoder);
int decode_elements(const struct nlmsghdr *message, void *user);

/* Returns 0 or -ENOMEM. */
int decode_finish(struct decoder *decoder);

#endif
