/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_NETLINK_H
#define DRAGOMAN_KERNEL_NETLINK_H

/*
 * A netlink socket (netlink(7)) and plain questions over it; nothing here
 * knows what they are about.
 */

#include <libmnl/libmnl.h>
#include <stdalign.h>
#include <stdbool.h>
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
	int bus;
	size_t send_room, receive_room; /* that its buffers are known to have */
	bool stuck;                     /* in a dump that the kernel does not go on with */
};

/*
 * Opens one in the namespace that the thread is in, which nobody but the kernel
 * can send to, notifications to groups aside. bus: NETLINK_NETFILTER,
 * NETLINK_ROUTE.
 */
int netlink_open(struct netlink *netlink, int bus, struct error *error);

/*
 * Puts another socket in the place of one that is stuck, of the same port if
 * that can be had. It has to be in the same namespace. Where it fails the old
 * one stays, or there is none, and it is stuck as before.
 */
int netlink_reopen(struct netlink *netlink, struct error *error);
void netlink_close(struct netlink *netlink);

/* One message of an answer. Returns 0, or -errno, which ends up with the asker. */
typedef int netlink_function(const struct nlmsghdr *message, void *user);

/* What the kernel says about one message that it did not take. */
struct netlink_refusal {
	uint32_t seq;
	int code;        /* -errno */
	uint32_t offset; /* of the attribute to blame in the message; 0: none named */
	char text[160];  /* the kernel's own words, or "" */
};

/*
 * Sends a request and takes all of its answer; function may be NULL. Its
 * sequence number and, where it is no dump, NLM_F_ACK are set here. `what`
 * says what it is for. Returns 0 or -errno with error set; -EINTR when the
 * kernel says that a dump was interrupted by a change (NLM_F_DUMP_INTR), and
 * -ENOBUFS when part of the answer was lost; with that netlink->stuck may be
 * set, and until netlink_reopen() every question is -EBUSY then.
 */
int netlink_ask(struct netlink *netlink, struct nlmsghdr *request, const char *what,
		netlink_function *function, void *user, struct error *error);

/*
 * The same in steps, a datagram each: netlink_start() sends the request, and
 * each netlink_take() waits for a datagram and hands its messages to function.
 * Set what, function and user before, and buffer, where there is one of
 * NETLINK_RECEIVE_SIZE bytes to borrow; the rest is not for others. No other
 * question goes over the socket meanwhile. What the kernel does for a step of
 * a dump it does within the call: it fills a datagram of 32 KiB at most, or
 * gets to the end of what it dumps.
 */
enum { NETLINK_RECEIVE_SIZE = 64 * 1024 + 8 };

struct netlink_question {
	const char *what;
	netlink_function *function;
	void *user;
	char *buffer, *owned;
	uint32_t seq, port;
	bool dump;
	bool done;
	bool interrupted;
	int result; /* of the function, or of the kernel */
	struct netlink_refusal refusal;
};

int netlink_start(struct netlink *netlink, struct nlmsghdr *request,
		  struct netlink_question *question, struct error *error);

/* Returns 1 when there is more to come, 0 when that was all, or as netlink_ask(). */
int netlink_take(struct netlink *netlink, struct netlink_question *question, struct error *error);

/* Frees what a question holds; fine on one that is zeroed, and twice. */
void netlink_question_done(struct netlink_question *question);

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

/*
 * Sends messages in one go and hands every answer that is there when the kernel
 * has gone through them to function, refusals and acknowledgements included;
 * its result is not looked at. There is room for `answers` bytes of them, as
 * the kernel counts, some 1,000 each above what they hold. Returns 0, or -errno
 * when nothing was sent.
 */
int netlink_send_all(struct netlink *netlink, const void *messages, size_t length, size_t answers,
		     netlink_function *function, void *user);

/* Takes an NLMSG_ERROR apart. Returns its code: 0 is an acknowledgement. */
int netlink_parse_refusal(const struct nlmsghdr *message, struct netlink_refusal *ret);

#endif
