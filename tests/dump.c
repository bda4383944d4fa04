/* SPDX-License-Identifier: MIT */
#include "dump.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

void dump_begin(struct dump *dump)
{
	memset(dump, 0, sizeof(*dump));
	dump->arena = arena_new();
	assert_non_null(dump->arena);
	dump->observed = (struct observed){.generation = GENERATION, .saved_localnet = -1};
	dump->decoder = (struct decoder){.arena = dump->arena, .observed = &dump->observed};
}

void dump_done(struct dump *dump)
{
	decoder_done(&dump->decoder);
	arena_free(dump->arena);
}

struct nlmsghdr *dump_message(struct dump *dump, uint16_t type)
{
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	memset(dump->buffer, 0, sizeof(dump->buffer));
	message = mnl_nlmsg_put_header(dump->buffer);
	message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = NFPROTO_INET;
	header->res_id = htons((uint16_t)GENERATION);
	return message;
}

/* Gives a message to the function that it is for. */
int dump_feed(struct decoder *decoder, const struct nlmsghdr *message)
{
	switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
	case NFT_MSG_NEWTABLE:
		return decode_table(message, decoder);
	case NFT_MSG_NEWSET:
		return decode_set(message, decoder);
	case NFT_MSG_NEWCHAIN:
		return decode_chain(message, decoder);
	case NFT_MSG_NEWRULE:
		return decode_rule(message, decoder);
	case NFT_MSG_NEWSETELEM:
		return decode_elements(message, decoder);
	default:
		return 0;
	}
}
