/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_NETLINK_H
#define DRAGOMAN_KERNEL_NETLINK_H

/*
 * A netlink socket (netlink(7)) and plain questions over it; nothing here
 * knows what they are about.
 */

#include <libmnl/libmnl.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"

/*
 * A request's buffer: aligned, and zeroed, since older libmnl leaves the
 * padding behind an attribute as it is.
 */
#define NETLINK_BUFFER(name, size) alignas(struct nlmsghdr) char name[size] = {0}

struct netlink {
	struct mnl_socket *socket;
	uint32_t seq;
	uint32_t port;
};

/* Opens one in the namespace that the thread is in. bus: NETLINK_NETFILTER, NETLINK_ROUTE. */
int netlink_open(struct netlink *netlink, int bus, struct error *error);
void netlink_close(struct netlink *netlink);

/* One message of an answer. Returns 0, or -errno, which ends up with the asker. */
typedef int netlink_function(const struct nlmsghdr *message, void *user);

/*
 * Sends a request and takes all of its answer; function may be NULL. Its
 * sequence number and, where it is no dump, NLM_F_ACK are set here. `what`
 * says what it is for. Returns 0 or -errno with error set; -EINTR when the
 * kernel says that a dump was interrupted by a change (NLM_F_DUMP_INTR), and
 * -ENOBUFS when part of the answer was lost.
 */
int netlink_ask(struct netlink *netlink, struct nlmsghdr *request, const char *what,
		netlink_function *function, void *user, struct error *error);

/* What the kernel says about one message that it did not take. */
struct netlink_refusal {
	uint32_t seq;
	int code;        /* -errno */
	uint32_t offset; /* of the attribute to blame in the message; 0: none named */
	char text[160];  /* the kernel's own words, or "" */
};

/*
 * Sends a batch of messages in one go and takes every answer that is there
 * when the kernel has gone through it. The last message but one, which is the
 * last real one, must carry NLM_F_ACK and the number last_seq. Returns
 *   0         it was acknowledged
 *   -EAGAIN   the answer was lost: nobody knows
 *   -errno    with the first refusal in *ret, or, ret->seq 0, of send itself
 * What else is in the answer (NLM_F_ECHO asks for it) goes to function, whose
 * result is not looked at.
 */
int netlink_send_batch(struct netlink *netlink, const void *batch, size_t length, uint32_t last_seq,
		       size_t messages, netlink_function *function, void *user,
		       struct netlink_refusal *ret);

#endif
