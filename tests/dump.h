/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_DUMP_H
#define DRAGOMAN_TESTS_DUMP_H

/* Messages of a dump, made by hand, and the decoder that they are fed to. */

#include <libmnl/libmnl.h>
#include <stdint.h>

#include "../src/kernel/decode.h"

enum { GENERATION = 0x12345 };

/* A dump that is being read, and room to make messages in. */
struct dump {
	struct arena *arena;
	struct observed observed;
	struct decoder decoder;
	char buffer[8192];
};

void dump_begin(struct dump *dump);
void dump_done(struct dump *dump);

/* A message of nf_tables (NFT_MSG_...) and of our generation; the next one takes its place. */
struct nlmsghdr *dump_message(struct dump *dump, uint16_t type);

/* Gives a message to the function that it is for, and returns what that returns. */
int dump_feed(struct decoder *decoder, const struct nlmsghdr *message);

#endif
