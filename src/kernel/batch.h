/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_BATCH_H
#define DRAGOMAN_KERNEL_BATCH_H

/*
 * An nfnetlink batch: one buffer of messages between NFNL_MSG_BATCH_BEGIN,
 * which carries the generation that it was planned against, and
 * NFNL_MSG_BATCH_END. The kernel applies all of it or nothing.
 */

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch {
	char *data;
	size_t length, capacity;
	size_t last; /* where the last message begins */
	uint32_t seq;
	size_t messages;
	bool failed; /* out of memory: latched */
};

/* Room that each message has to begin with: more than any object of ours needs, but lists. */
enum { BATCH_ROOM = 8 * 1024 };

void batch_done(struct batch *batch);

/* generation: of the ruleset, host byte order; 0: any (NFNL_BATCH_GENID is left out). */
void batch_begin(struct batch *batch, uint32_t generation);

/*
 * Opens a message of nf_tables (NFT_MSG_...), family inet. It is valid until
 * the next one is opened, and has BATCH_ROOM bytes. NULL when memory is
 * exhausted; the batch is then failed.
 */
struct nlmsghdr *batch_open(struct batch *batch, uint16_t type, uint16_t flags);

/*
 * The open message, which has `room` bytes behind what is in it from then on; it
 * may have moved, and whatever pointed into it is to be found again. NULL as
 * above.
 */
struct nlmsghdr *batch_extend(struct batch *batch, const struct nlmsghdr *message, size_t room);

/* Whether there is nothing yet but its begin. */
bool batch_is_empty(const struct batch *batch);

/* The message is complete. */
void batch_close(struct batch *batch, const struct nlmsghdr *message);

/*
 * Asks for an acknowledgement of the last message, and ends the batch. Returns
 * that message's sequence number.
 */
uint32_t batch_end(struct batch *batch);

/*
 * Asks the kernel to answer with the generation that the batch makes
 * (NFT_MSG_NEWGEN), where that does not bring a long answer with it.
 */
void batch_echo(struct batch *batch);

/* The message with that sequence number, or NULL. */
const struct nlmsghdr *batch_find(const struct batch *batch, uint32_t seq);

/*
 * Says what a message of a batch is for, and, with offset, which of its
 * elements stands there: "adding element 127.0.0.1:6379/tcp of services4".
 */
void batch_describe(const struct nlmsghdr *message, uint32_t offset, char *into, size_t size);

/*
 * What a kernel may have been built without that answers with `code` (-errno)
 * to a message, to be put behind its words; "" where nothing is known. message
 * may be NULL.
 */
const char *batch_lacking(const struct nlmsghdr *message, int code);

#endif
