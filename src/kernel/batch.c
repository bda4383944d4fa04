/* SPDX-License-Identifier: MIT */
#include "batch.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"

enum {
	BATCH_FRAME = 2, /* messages: begin and end */
	ECHO_LENGTH_MAX = 4096,
};

void batch_done(struct batch *batch)
{
	free(batch->data);
	*batch = (struct batch){0};
}

static size_t aligned(size_t length)
{
	return (length + MNL_ALIGNTO - 1) & ~(size_t)(MNL_ALIGNTO - 1);
}

/*
 * The buffer grows before a message is built, so that building needs no check.
 * It is zeroed, since older libmnl leaves the padding behind an attribute as it
 * is, and what goes to the kernel shall hold nothing of this process's memory.
 */
static bool make_room(struct batch *batch, size_t room)
{
	size_t before = batch->capacity;

	if (!batch->failed &&
	    array_reserve(&batch->data, &batch->capacity, batch->length, room, 1) < 0)
		batch->failed = true;
	if (batch->capacity > before)
		memset(batch->data + before, 0, batch->capacity - before);
	return !batch->failed;
}

/* One message behind the last. */
static struct nlmsghdr *append(struct batch *batch, uint16_t type, uint16_t flags, uint8_t family,
			       uint16_t resource)
{
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	if (!make_room(batch, BATCH_ROOM))
		return NULL;
	message = mnl_nlmsg_put_header(batch->data + batch->length);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = batch->seq++;
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	header->res_id = htons(resource);
	return message;
}

void batch_close(struct batch *batch, const struct nlmsghdr *message)
{
	batch->last = batch->length;
	batch->length += aligned(message->nlmsg_len);
	batch->messages++;
}

void batch_begin(struct batch *batch, uint32_t generation)
{
	struct nlmsghdr *message = append(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC,
					  NFNL_SUBSYS_NFTABLES);

	if (!message)
		return;
	if (generation)
		mnl_attr_put_u32(message, NFNL_BATCH_GENID, htonl(generation));
	batch_close(batch, message);
}

struct nlmsghdr *batch_open(struct batch *batch, uint16_t type, uint16_t flags)
{
	return append(batch, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);
}

struct nlmsghdr *batch_extend(struct batch *batch, const struct nlmsghdr *message, size_t room)
{
	if (!make_room(batch, message->nlmsg_len + room))
		return NULL;
	return (struct nlmsghdr *)(void *)(batch->data + batch->length);
}

uint32_t batch_end(struct batch *batch)
{
	struct nlmsghdr *last, *message;
	uint32_t seq;

	if (batch->failed)
		return 0;
	last = (struct nlmsghdr *)(void *)(batch->data + batch->last);
	last->nlmsg_flags |= NLM_F_ACK;
	seq = last->nlmsg_seq;
	message = append(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	if (message)
		batch_close(batch, message);
	return seq;
}

bool batch_is_empty(const struct batch *batch)
{
	return batch->messages <= 1;
}

/*
 * NLM_F_ECHO has the kernel send its notifications to the sender, too. It
 * looks at the flag of a message for what became of that message, and at that
 * of the first one behind the begin for the new generation (nf_tables_commit()
 * of the kernel). So that one shall stand for little.
 */
static bool is_small(const struct nlmsghdr *message)
{
	return (message->nlmsg_type & 0xff) != NFT_MSG_DELTABLE &&
	       message->nlmsg_len <= ECHO_LENGTH_MAX;
}

void batch_echo(struct batch *batch)
{
	const struct nlmsghdr *begin = (const struct nlmsghdr *)(const void *)batch->data;
	struct nlmsghdr *first;

	if (batch->failed || batch->messages <= BATCH_FRAME)
		return;
	first = (struct nlmsghdr *)(void *)(batch->data + aligned(begin->nlmsg_len));
	if (is_small(first))
		first->nlmsg_flags |= NLM_F_ECHO;
}

const struct nlmsghdr *batch_find(const struct batch *batch, uint32_t seq)
{
	const struct nlmsghdr *message;

	for (size_t at = 0; at < batch->length; at += aligned(message->nlmsg_len)) {
		message = (const struct nlmsghdr *)(const void *)(batch->data + at);
		if (message->nlmsg_seq == seq)
			return message;
	}
	return NULL;
}
