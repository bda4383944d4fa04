/* SPDX-License-Identifier: MIT */
#include "netlink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

#include "attr.h"

/*
 * Theory of operation
 *
 * The kernel works through what is sent to these families within sendmsg(2):
 * by the time that it returns, every answer is in the socket's queue, and what
 * is not there was lost for want of room (ENOBUFS). Of a dump the first part
 * is, and each recvmsg(2) that takes one puts the next there. That is why
 * nothing waits here, and why an acknowledgement that is missing means "read
 * the state again" and never "failed": the loss may have come after the commit.
 *
 * A dump is read until its end even where it was interrupted, so that the next
 * question finds an empty queue. Where the kernel has no memory for the next
 * part there is no end (netlink_recvmsg() of the kernel): it says ENOBUFS, goes
 * on with the dump at nobody's request, and refuses others on that socket. It
 * is stuck then, and another has to take its place.
 *
 * A socket is connected to the kernel, which keeps everybody else from sending
 * to it. Who has CAP_NET_ADMIN in the namespace could, and can see its port in
 * /proc/net/netlink: what is read here would be theirs.
 */

/*
 * The kernel fills at most 32 KiB a message when it dumps. Behind what was
 * received there are zeros, for libraries that take it on trust that a string
 * ends.
 *
 * Buffers for it are on the stack where they can be: one of this size that comes
 * from the heap and goes back has the C library give its pages back to the
 * kernel, and take them anew the next time, which costs as much as a change of
 * the rules does.
 */
enum { RECEIVE_ZEROS = 8, RECEIVE_SIZE = NETLINK_RECEIVE_SIZE - RECEIVE_ZEROS };

/* What an acknowledgement takes of a receive buffer, with the kernel's own overhead. */
enum { ACK_SIZE = 1024 };

static int fail_open(const char *what, struct error *error)
{
	int code = errno;

	return error_set(error, -code, error_class_of(code), "cannot %s a netlink socket: %s%s",
			 what, strerror(code),
			 code == EPROTONOSUPPORT ? " (a kernel without nf_tables: "
						   "CONFIG_NETFILTER_NETLINK, CONFIG_NF_TABLES)"
						 : "");
}

/* What there is to do to a socket when it has a port. */
static int set_up(struct netlink *netlink, struct error *error)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int on = 1;

	if (connect(mnl_socket_get_fd(netlink->socket), (const struct sockaddr *)&kernel,
		    sizeof(kernel)) < 0)
		return fail_open("connect", error);
	netlink->port = mnl_socket_get_portid(netlink->socket);
	/* Older kernels than these options have less to say; nothing else depends on them. */
	(void)mnl_socket_setsockopt(netlink->socket, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)mnl_socket_setsockopt(netlink->socket, NETLINK_CAP_ACK, &on, sizeof(on));
	if (netlink->bus == NETLINK_ROUTE)
		(void)mnl_socket_setsockopt(netlink->socket, NETLINK_GET_STRICT_CHK, &on,
					    sizeof(on));
	return 0;
}

int netlink_open(struct netlink *netlink, int bus, struct error *error)
{
	int r;

	*netlink = (struct netlink){.socket = mnl_socket_open2(bus, SOCK_CLOEXEC), .bus = bus};
	if (!netlink->socket)
		return fail_open("open", error);
	if (mnl_socket_bind(netlink->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		r = fail_open("bind", error);
	else
		r = set_up(netlink, error);
	if (r < 0)
		netlink_close(netlink);
	return r;
}

int netlink_reopen(struct netlink *netlink, struct error *error)
{
	struct mnl_socket *fresh = mnl_socket_open2(netlink->bus, SOCK_CLOEXEC);
	int r;

	if (!fresh)
		return fail_open("open", error);
	netlink_close(netlink);
	netlink->socket = fresh;
	netlink->send_room = netlink->receive_room = 0;
	if (mnl_socket_bind(fresh, 0, (pid_t)netlink->port) < 0 &&
	    mnl_socket_bind(fresh, 0, MNL_SOCKET_AUTOPID) < 0)
		r = fail_open("bind", error);
	else
		r = set_up(netlink, error);
	if (r < 0)
		netlink_close(netlink);
	netlink->stuck = r < 0;
	return r;
}

void netlink_close(struct netlink *netlink)
{
	if (netlink->socket)
		(void)mnl_socket_close(netlink->socket);
	netlink->socket = NULL;
}

int netlink_parse_refusal(const struct nlmsghdr *message, struct netlink_refusal *ret)
{
	const struct nlmsgerr *answer = mnl_nlmsg_get_payload(message);
	size_t length = mnl_nlmsg_get_payload_len(message);
	size_t skip = sizeof(*answer);

	*ret = (struct netlink_refusal){.seq = message->nlmsg_seq, .code = -EBADMSG};
	if (length < sizeof(*answer))
		return -EBADMSG;
	ret->code = answer->error;
	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS))
		return ret->code;
	/* The request's payload stands in between, unless it was left out. */
	if (!(message->nlmsg_flags & NLM_F_CAPPED))
		skip += (answer->msg.nlmsg_len - sizeof(answer->msg) + 3) & ~(size_t)3;
	if (skip > length)
		return ret->code;
	attr_for_each (attr, (const char *)answer + skip, length - skip) {
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			text_printable(
				ret->text, sizeof(ret->text), mnl_attr_get_str(attr),
				strnlen(mnl_attr_get_str(attr), mnl_attr_get_payload_len(attr)));
		else if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_OFFS &&
			 mnl_attr_get_payload_len(attr) == sizeof(uint32_t))
			ret->offset = mnl_attr_get_u32(attr);
	}
	return ret->code;
}

static void take_message(struct netlink_question *question, const struct nlmsghdr *message)
{
	if (message->nlmsg_seq != question->seq || message->nlmsg_pid != question->port)
		return; /* left over from a question that was given up */
	if (message->nlmsg_flags & NLM_F_DUMP_INTR)
		question->interrupted = true;
	if (message->nlmsg_type == NLMSG_ERROR) {
		question->done = true;
		if (netlink_parse_refusal(message, &question->refusal) < 0 && !question->result)
			question->result = question->refusal.code;
	} else if (message->nlmsg_type == NLMSG_DONE) {
		const int *code = mnl_nlmsg_get_payload(message);

		question->done = true;
		if (mnl_nlmsg_get_payload_len(message) >= sizeof(*code) && *code < 0 &&
		    !question->result)
			question->result = *code;
	} else if (message->nlmsg_type >= NLMSG_MIN_TYPE && question->function &&
		   !question->result) {
		question->result = question->function(message, question->user);
	}
}

static int receive(struct netlink *netlink, struct netlink_question *question)
{
	char *buffer = question->buffer;
	const struct nlmsghdr *message;
	ssize_t received = recv(mnl_socket_get_fd(netlink->socket), buffer, RECEIVE_SIZE,
				MSG_DONTWAIT | MSG_TRUNC);
	int length;

	/* What is not there by now will never be. */
	if (received < 0 && errno == EAGAIN) {
		netlink->stuck = question->dump;
		return -ENOBUFS;
	}
	/* Part of a dump was lost, and its end comes all the same; an acknowledgement may not. */
	if (received < 0 && errno == ENOBUFS && question->dump) {
		question->interrupted = true;
		return 0;
	}
	if (received < 0)
		return errno == EINTR ? 0 : -errno;
	if (received > RECEIVE_SIZE)
		return -ENOSPC;
	memset(buffer + received, 0, RECEIVE_ZEROS);
	length = (int)received;
	for (message = (const struct nlmsghdr *)buffer; mnl_nlmsg_ok(message, length);
	     message = mnl_nlmsg_next(message, &length))
		take_message(question, message);
	return 0;
}

static int fail_question(struct netlink_question *question, int r, struct error *error)
{
	const char *text = question->refusal.text;

	netlink_question_done(question);
	return error_set(error, r, error_class_of(r), "%s: %s%s%s%s", question->what, strerror(-r),
			 text[0] ? " (the kernel: " : "", text, text[0] ? ")" : "");
}

int netlink_start(struct netlink *netlink, struct nlmsghdr *request,
		  struct netlink_question *question, struct error *error)
{
	ssize_t sent;

	*question = (struct netlink_question){
		.what = question->what,
		.function = question->function,
		.user = question->user,
		.buffer = question->buffer,
		.seq = ++netlink->seq,
		.port = netlink->port,
		.dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP,
	};
	if (!question->buffer)
		question->buffer = question->owned = malloc(NETLINK_RECEIVE_SIZE);
	if (!question->buffer)
		return error_no_memory(error);
	request->nlmsg_seq = question->seq;
	request->nlmsg_flags |= (uint16_t)(NLM_F_REQUEST | (question->dump ? 0 : NLM_F_ACK));
	if (netlink->stuck)
		return fail_question(question, -EBUSY, error);
	do
		sent = mnl_socket_sendto(netlink->socket, request, request->nlmsg_len);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? fail_question(question, -errno, error) : 0;
}

int netlink_take(struct netlink *netlink, struct netlink_question *question, struct error *error)
{
	int r = receive(netlink, question);

	if (r == 0 && !question->done)
		return 1;
	if (r == 0)
		r = question->result;
	if (r == 0 && question->interrupted)
		r = -EINTR;
	if (r < 0)
		return fail_question(question, r, error);
	netlink_question_done(question);
	return 0;
}

void netlink_question_done(struct netlink_question *question)
{
	free(TAKE(question->owned));
	question->buffer = NULL;
}

int netlink_ask(struct netlink *netlink, struct nlmsghdr *request, const char *what,
		netlink_function *function, void *user, struct error *error)
{
	alignas(struct nlmsghdr) char buffer[NETLINK_RECEIVE_SIZE];
	struct netlink_question question = {
		.what = what, .function = function, .user = user, .buffer = buffer};
	int r = netlink_start(netlink, request, &question, error);

	if (r < 0)
		return r;
	do {
		r = netlink_take(netlink, &question, error);
	} while (r > 0);
	return r;
}

/*
 * Makes room, where *room is not known to be enough; a value that is refused
 * leaves what there is, and EMSGSIZE or ENOBUFS say so.
 */
static void reserve_buffer(const struct netlink *netlink, int forced, int plain, size_t wanted,
			   size_t *room)
{
	int fd = mnl_socket_get_fd(netlink->socket);
	int size = wanted > INT32_MAX / 2 ? INT32_MAX / 2 : (int)wanted;
	int present = 0;
	socklen_t length = sizeof(present);

	if (*room >= wanted)
		return;
	/* The kernel doubles what is asked for, and reports the doubled size. */
	if (getsockopt(fd, SOL_SOCKET, plain, &present, &length) < 0 || present / 2 < size) {
		if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof(size)) < 0)
			(void)setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
		present = 0;
		(void)getsockopt(fd, SOL_SOCKET, plain, &present, &length);
	}
	*room = present > 0 ? (size_t)present / 2 : 0;
}

/* What came back for a batch. */
struct answers {
	uint32_t last_seq;
	bool acknowledged; /* that message */
	netlink_function *function;
	void *user;
	struct netlink_refusal *first; /* refusal */
};

static int take_answer(const struct nlmsghdr *message, void *user)
{
	struct answers *answers = user;
	struct netlink_refusal refusal;

	if (message->nlmsg_type != NLMSG_ERROR) {
		if (message->nlmsg_type >= NLMSG_MIN_TYPE && answers->function)
			(void)answers->function(message, answers->user);
		return 0;
	}
	if (netlink_parse_refusal(message, &refusal) < 0) {
		if (answers->first->code == 0)
			*answers->first = refusal;
	} else if (refusal.seq == answers->last_seq) {
		answers->acknowledged = true;
	}
	return 0;
}

/* Reads answers as long as there are any. */
static void collect_answers(struct netlink *netlink, char *buffer, netlink_function *function,
			    void *user)
{
	int fd = mnl_socket_get_fd(netlink->socket);

	for (;;) {
		const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;
		ssize_t received = recv(fd, buffer, RECEIVE_SIZE, MSG_DONTWAIT);
		int length = (int)received;

		if (received < 0 && (errno == EINTR || errno == ENOBUFS))
			continue; /* a loss shows in the acknowledgement that is missing */
		if (received < 0)
			return;
		for (; mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length))
			(void)function(message, user);
	}
}

int netlink_send_all(struct netlink *netlink, const void *messages, size_t length, size_t answers,
		     netlink_function *function, void *user)
{
	alignas(struct nlmsghdr) char buffer[RECEIVE_SIZE];

	if (netlink->stuck)
		return -EBUSY;
	reserve_buffer(netlink, SO_SNDBUFFORCE, SO_SNDBUF, length + 4096, &netlink->send_room);
	reserve_buffer(netlink, SO_RCVBUFFORCE, SO_RCVBUF, answers, &netlink->receive_room);
	while (mnl_socket_sendto(netlink->socket, messages, length) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	collect_answers(netlink, buffer, function, user);
	return 0;
}

int netlink_send_batch(struct netlink *netlink, const void *batch, size_t length, uint32_t last_seq,
		       size_t messages, netlink_function *function, void *user,
		       struct netlink_refusal *ret)
{
	struct answers answers = {
		.last_seq = last_seq, .function = function, .user = user, .first = ret};
	int r;

	*ret = (struct netlink_refusal){0};
	/* In the worst case each message is answered with an error. */
	r = netlink_send_all(netlink, batch, length, messages * ACK_SIZE, take_answer, &answers);
	if (r < 0)
		ret->code = r;
	if (ret->code)
		return ret->code;
	return answers.acknowledged ? 0 : -EAGAIN;
}
