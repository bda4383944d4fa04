/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_BATCH_H
#define DRAGOMAN_BENCH_BATCH_H

/*
 * An nfnetlink batch by hand, with nothing but libmnl: made beforehand, so that
 * what is measured is one sendmsg(2) and the answer. Memory that is wanting
 * ends the program.
 */

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

struct batch {
	char *data;
	size_t length, capacity, last;
	uint32_t seq, acknowledged; /* the message that asks for an answer */
};

void batch_done(struct batch *batch);

/* Empties it, and begins. */
void batch_begin(struct batch *batch);
void batch_end(struct batch *batch);

/* A message of nf_tables (NFT_MSG_...), family inet, with room for whatever it may hold. */
struct nlmsghdr *batch_open(struct batch *batch, uint16_t type, uint16_t flags);
void batch_close(struct batch *batch, const struct nlmsghdr *message);

/* Makes the socket's buffers large enough for it. Returns 0 or -1 with errno. */
int batch_prepare(const struct batch *batch, const struct mnl_socket *socket);

/* Sends it, and reads the answer: 0, or -1 with the kernel's errno. */
int batch_send(const struct batch *batch, const struct mnl_socket *socket);

#endif
