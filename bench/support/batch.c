/* SPDX-License-Identifier: MIT */
#include "batch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MESSAGE_ROOM = 80 * 1024, ANSWER_SIZE = 8 * 1024, RECEIVE_QUEUE = 1024 * 1024 };

void batch_done(struct batch *batch)
{
	free(batch->data);
	*batch = (struct batch){0};
}

static void make_room(struct batch *batch)
{
	size_t wanted = batch->length + MESSAGE_ROOM;
	char *grown;

	if (wanted <= batch->capacity)
		return;
	wanted = wanted > 2 * batch->capacity ? wanted : 2 * batch->capacity;
	grown = realloc(batch->data, wanted);
	if (!grown) {
		perror("batch");
		exit(1);
	}
	memset(grown + batch->capacity, 0, wanted - batch->capacity);
	batch->data = grown;
	batch->capacity = wanted;
}

static struct nlmsghdr *append(struct batch *batch, uint16_t type, uint16_t flags, uint8_t family,
			       uint16_t resource)
{
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	make_room(batch);
	message = mnl_nlmsg_put_header(batch->data + batch->length);
	message->nlmsg_type = type;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	message->nlmsg_seq = ++batch->seq;
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	header->res_id = htons(resource);
	return message;
}

void batch_close(struct batch *batch, const struct nlmsghdr *message)
{
	batch->last = batch->length;
	batch->length += ((size_t)message->nlmsg_len + MNL_ALIGNTO - 1) &
			 ~(size_t)(MNL_ALIGNTO - 1);
}

void batch_begin(struct batch *batch)
{
	batch->length = 0;
	batch_close(batch, append(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

struct nlmsghdr *batch_open(struct batch *batch, uint16_t type, uint16_t flags)
{
	return append(batch, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);
}

void batch_end(struct batch *batch)
{
	struct nlmsghdr *last = (struct nlmsghdr *)(void *)(batch->data + batch->last);

	last->nlmsg_flags |= NLM_F_ACK;
	batch->acknowledged = last->nlmsg_seq;
	batch_close(batch, append(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

int batch_prepare(const struct batch *batch, const struct mnl_socket *socket)
{
	int fd = mnl_socket_get_fd(socket);
	int out = (int)batch->length + ANSWER_SIZE, in = RECEIVE_QUEUE;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &out, sizeof(out)) < 0)
		return -1;
	return setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &in, sizeof(in));
}

/* The kernel has worked through it by the time that sendmsg(2) returns: answers are there. */
int batch_send(const struct batch *batch, const struct mnl_socket *socket)
{
	char answer[ANSWER_SIZE];
	const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)answer;
	const struct nlmsgerr *result;
	ssize_t received;

	if (mnl_socket_sendto(socket, batch->data, batch->length) < 0)
		return -1;
	received = recv(mnl_socket_get_fd(socket), answer, sizeof(answer), MSG_DONTWAIT);
	if (received < 0)
		return -1;
	if (!mnl_nlmsg_ok(message, (int)received) || message->nlmsg_type != NLMSG_ERROR) {
		errno = EPROTO;
		return -1;
	}
	result = mnl_nlmsg_get_payload(message);
	if (result->error == 0 && message->nlmsg_seq == batch->acknowledged)
		return 0;
	errno = result->error ? -result->error : EPROTO;
	return -1;
}
