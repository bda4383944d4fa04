/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_FAULTY_CALLS_H
#define DRAGOMAN_TESTS_FAULTY_CALLS_H

/*
 * System calls that fail when a test wants them to: those by which the kernel
 * module and libmnl talk to the kernel. To be included by one file of a test
 * program, since it defines them for the whole of it, libraries included.
 *
 * A fault is armed for the Nth call of a kind, and what the kernel would have
 * done for that call it does or does not:
 *
 *     fails      it does not, and the error is told
 *     lost       recv: an answer is thrown away, and ENOBUFS is told
 *     stuck      recv: the same, and nothing more comes of that dump, nor of
 *                another one on that socket: no memory for its next part
 *     changed    recv: the messages say that the dump was interrupted
 *     refused    send: of a batch, nothing of which is done, and the error is
 *                in an answer, as the kernel gives it
 *     overtaken  send: somebody else's transaction comes first
 */

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fault_call {
	CALL_SEND,
	CALL_RECEIVE,
	CALL_SOCKET,
	CALL_BIND,
	CALL_CONNECT,
	CALL_OPTION,
	CALL_OPEN,
	CALL_SETNS,
	CALL_READ,
	CALL_WRITE,
	CALL_IOCTL,
	CALL_COUNT,
};

enum fault_way { WAY_FAILS, WAY_LOST, WAY_STUCK, WAY_CHANGED, WAY_REFUSED, WAY_OVERTAKEN };

static struct {
	bool armed, hit;
	enum fault_call call;
	enum fault_way way;
	int code;
	unsigned count, at;
	int stuck;               /* socket; -1: none */
	int refusing;            /* socket for which there is an answer; -1: none */
	struct nlmsghdr refused; /* the message that it is to */
	uint16_t refused_type;   /* the first of this type; 0: the first behind the begin */
	void (*overtake)(void);
} fault = {.stuck = -1, .refusing = -1};

/* Counts a call; whether it is the one. */
static bool fault_is_due(enum fault_call call, bool counts)
{
	if (!fault.armed || fault.call != call || !counts || ++fault.count != fault.at)
		return false;
	fault.hit = true;
	errno = fault.code;
	return true;
}

static bool fault_is_batch(const void *data, size_t length)
{
	const struct nlmsghdr *message = data;

	return length >= sizeof(*message) && message->nlmsg_type == NFNL_MSG_BATCH_BEGIN;
}

static bool fault_is_dump(const void *data, size_t length)
{
	const struct nlmsghdr *message = data;

	return length >= sizeof(*message) && (message->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP &&
	       message->nlmsg_type >= NLMSG_MIN_TYPE;
}

/* The message of a batch that is refused. */
static const struct nlmsghdr *fault_message(const struct nlmsghdr *message, int left)
{
	const struct nlmsghdr *first = mnl_nlmsg_next(message, &left);

	message = first;
	while (fault.refused_type && message->nlmsg_type != fault.refused_type &&
	       mnl_nlmsg_ok(message, left))
		message = mnl_nlmsg_next(message, &left);
	return mnl_nlmsg_ok(message, left) ? message : first;
}

static ssize_t fault_send(int fd, const void *data, size_t length)
{
	const bool of_batch = fault.way == WAY_REFUSED || fault.way == WAY_OVERTAKEN;

	if (fd == fault.stuck && fault_is_dump(data, length)) {
		errno = EBUSY; /* the kernel says so in an answer; what counts is that it does */
		return -1;
	}
	if (!fault_is_due(CALL_SEND, !of_batch || fault_is_batch(data, length)))
		return 0;
	if (fault.way == WAY_FAILS)
		return -1;
	if (fault.way == WAY_OVERTAKEN) {
		fault.overtake();
		return 0;
	}
	fault.refusing = fd;
	fault.refused = *fault_message(data, (int)length);
	return (ssize_t)length;
}

ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr,
	       socklen_t addr_len)
{
	ssize_t r = fault_send(fd, buf, n);

	return r ? r : syscall(SYS_sendto, fd, buf, n, flags, addr, addr_len);
}

static ssize_t fault_answer(void *data)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer = {
		.header = {.nlmsg_len = sizeof(answer),
			   .nlmsg_type = NLMSG_ERROR,
			   .nlmsg_seq = fault.refused.nlmsg_seq},
		.error = {.error = -fault.code, .msg = fault.refused},
	};

	fault.refusing = -1;
	memcpy(data, &answer, sizeof(answer));
	return sizeof(answer);
}

static void fault_interrupt(void *data, ssize_t received)
{
	int left = (int)received;

	for (struct nlmsghdr *message = data; mnl_nlmsg_ok(message, left);
	     message = mnl_nlmsg_next(message, &left))
		message->nlmsg_flags |= message->nlmsg_flags & NLM_F_MULTI ? NLM_F_DUMP_INTR : 0;
}

/* recvfrom(2) of what glibc calls recv(3). */
ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	ssize_t received;

	if (fd == fault.stuck) {
		errno = EAGAIN;
		return -1;
	}
	if (fd == fault.refusing)
		return fault_answer(buf);
	if (!fault_is_due(CALL_RECEIVE, true))
		return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
	if (fault.way == WAY_FAILS)
		return -1;
	received = syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
	if (received < 0)
		return received;
	if (fault.way == WAY_CHANGED) {
		fault_interrupt(buf, received);
		return received;
	}
	if (fault.way == WAY_STUCK)
		fault.stuck = fd;
	errno = ENOBUFS;
	return -1;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return fault_is_due(CALL_RECEIVE, true) ? -1 : syscall(SYS_recvmsg, fd, message, flags);
}

int socket(int domain, int type, int protocol)
{
	return fault_is_due(CALL_SOCKET, true) ? -1
					       : (int)syscall(SYS_socket, domain, type, protocol);
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return fault_is_due(CALL_BIND, true) ? -1 : (int)syscall(SYS_bind, fd, addr, len);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return fault_is_due(CALL_CONNECT, true) ? -1 : (int)syscall(SYS_connect, fd, addr, len);
}

int setsockopt(int fd, int level, int optname, const void *optval, socklen_t optlen)
{
	return fault_is_due(CALL_OPTION, true)
		       ? -1
		       : (int)syscall(SYS_setsockopt, fd, level, optname, optval, optlen);
}

int getsockopt(int fd, int level, int optname, void *optval, socklen_t *optlen)
{
	return fault_is_due(CALL_OPTION, true)
		       ? -1
		       : (int)syscall(SYS_getsockopt, fd, level, optname, optval, optlen);
}

int open(const char *file, int oflag, ...)
{
	return fault_is_due(CALL_OPEN, true) ? -1
					     : (int)syscall(SYS_openat, AT_FDCWD, file, oflag, 0);
}

/* Who does not come back ends the process: that is another test's. */
int setns(int fd, int type)
{
	static bool away;

	if (!away && fault_is_due(CALL_SETNS, true))
		return -1;
	away = fault.armed && !away;
	return (int)syscall(SYS_setns, fd, type);
}

ssize_t pread(int fd, void *buf, size_t nbytes, off_t offset)
{
	return fault_is_due(CALL_READ, true) ? -1 : syscall(SYS_pread64, fd, buf, nbytes, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	return fault_is_due(CALL_WRITE, true) ? -1 : syscall(SYS_pwrite64, fd, buf, n, offset);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return fault_is_due(CALL_IOCTL, true) ? -1 : (int)syscall(SYS_ioctl, fd, request, argument);
}

/* A closed number may be somebody else's next. */
int close(int fd)
{
	if (fd == fault.stuck)
		fault.stuck = -1;
	if (fd == fault.refusing)
		fault.refusing = -1;
	return (int)syscall(SYS_close, fd);
}

static inline void fault_arm(enum fault_call call, enum fault_way way, int code, unsigned at)
{
	fault.call = call;
	fault.way = way;
	fault.code = code;
	fault.at = at;
	fault.count = 0;
	fault.hit = false;
	fault.armed = true;
}

/* Returns whether it struck. */
static inline bool fault_disarm(void)
{
	fault.armed = false;
	fault.stuck = fault.refusing = -1;
	fault.refused_type = 0;
	return fault.hit;
}

#endif
