/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_FLOW_H
#define DRAGOMAN_KERNEL_FLOW_H

/*
 * An entry of conntrack as ctnetlink tells it (linux/netfilter/
 * nfnetlink_conntrack.h), and the questions about it.
 */

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "dragoman/model/flow.h"

/* One of TCP or UDP. */
struct flow {
	struct endpoint from, to;      /* as its sender sees it */
	struct endpoint endpoint;      /* who answers: where it was led to */
	uint32_t id;                   /* as the kernel wrote it */
	uint16_t zone, tuple_zone;     /* likewise */
	bool has_zone, has_tuple_zone; /* else: the namespace's own */
	uint8_t protocol;              /* enum protocol */
};

/*
 * Of the message of a dump. Returns false for what is no whole entry of TCP or
 * UDP: no business of ours.
 */
bool flow_decode(const struct nlmsghdr *message, struct flow *ret);

/* What the kernel shall leave out of a dump: it may give more, never less. */
struct flow_question {
	enum family family;
	uint8_t protocol;
	bool has_port, has_address, has_endpoint_port;
	uint16_t port;            /* sent to, on localhost */
	struct endpoint endpoint; /* led to: its address, its port */
};

enum { FLOW_MESSAGE_MAX = 256 };

/* These make one message of ctnetlink at `into`, of FLOW_MESSAGE_MAX zeroed bytes. */
struct nlmsghdr *flow_encode_count(void *into);
struct nlmsghdr *flow_encode_dump(void *into, const struct flow_question *question);

/*
 * Removes exactly this entry. It always names the whole flow: a kernel takes a
 * removal that names none for one of all there are.
 */
struct nlmsghdr *flow_encode_remove(void *into, const struct flow *flow);

/* Entries of the namespace, of the answer to flow_encode_count(); false: none told. */
bool flow_decode_count(const struct nlmsghdr *message, uint32_t *ret);

#endif
