/* SPDX-License-Identifier: MIT */
/*
 * crowd tcp|udp NAMESPACE [RATE]
 *
 * Theory of operation: connects to 127.0.0.1:80 of the network namespace that
 * it runs in, without a pause (or RATE times a second), each time from a new
 * source port, and counts who answered. It is every endpoint too: one socket in
 * NAMESPACE (a file of nsfs), port 7000 of whatever addresses are local there.
 * One thread does for both ends, so nothing waits for a scheduler; what goes
 * between them goes over the cable and through the rules all the same.
 *
 * Endpoints are 10.64.0.0 + number, up to 65535. Over TCP who answers is the
 * address at which the connection was accepted, and it ends in a reset at once,
 * or ports would run out in seconds. Over UDP it is what the answer says, with
 * the number of the request; ports are taken in turn there: one
 * comes again after 64,000 requests, when the flow it had before is long
 * forgotten (nf_conntrack_udp_timeout).
 *
 * Says "ready", begins with the first line of input, ends with the next, and
 * prints one JSON object: how many asked and failed, and for each endpoint that
 * answered its number, how often, and when the first and the last of those
 * connections were begun and the first was over (CLOCK_MONOTONIC, nanoseconds).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

enum {
	SERVICE_PORT = 80,
	ENDPOINT_PORT = 7000,
	ENDPOINT_FIRST = 0x0a400000, /* 10.64.0.0 */
	ENDPOINTS = 65536,
	BACKLOG = 4096,
	PORT_FIRST = 1024,
	PORT_LAST = 65535,
	RATE_MAX = 1000000,
	LOOK_EVERY = 64, /* connections between two looks at the input */
	ERRORS = 256
};

static const struct timeval limit = {.tv_sec = 5};

struct seen {
	uint64_t count, first, first_answered, last;
};

struct crowd {
	int server; /* of all endpoints */
	int type;   /* SOCK_STREAM or SOCK_DGRAM */
	uint16_t port;
	uint32_t asked;
	uint64_t pause; /* nanoseconds from one to the next; 0: none */
	uint64_t slowest;
	uint64_t failures[ERRORS]; /* by errno */
	uint64_t strangers;        /* answers of nobody that was asked */
	struct seen *seen;
};

struct answer {
	uint32_t address; /* network byte order */
	uint32_t asked;
};

static uint64_t now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static struct sockaddr_in ipv4(uint32_t address, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

static int set_limits(int fd)
{
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	return 0;
}

/* What socket timeouts are called is not what happened. */
static int failure(void)
{
	return errno == EAGAIN || errno == EINPROGRESS ? -ETIMEDOUT : -errno;
}

/* --- The endpoints ------------------------------------------------------------ */

static int open_server(int type, int *ret)
{
	const struct sockaddr_in any = ipv4(INADDR_ANY, ENDPOINT_PORT);
	const int on = 1;
	CLEANUP(fd_close) int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || set_limits(fd) < 0 ||
	    setsockopt(fd, SOL_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* The same in another namespace: a socket stays where it was made. */
static int open_server_in(const char *path, int type, int *ret)
{
	CLEANUP(fd_close) int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	CLEANUP(fd_close) int there = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
		return -errno;
	r = open_server(type, ret);
	return setns(home, CLONE_NEWNET) < 0 ? -errno : r;
}

/* The other end of the connection that was just made, and whom it was led to. */
static int accept_one(int listener, uint32_t *ret_address)
{
	struct sockaddr_in own = {0};
	socklen_t length = sizeof(own);
	CLEANUP(fd_close) int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &length) < 0)
		return failure();
	*ret_address = own.sin_addr.s_addr;
	return TAKE_FD(fd);
}

/* Answers from the address that the request was sent to. Old requests may lie before it. */
static int answer_udp(int server, uint32_t asked)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control;
	struct sockaddr_in client;
	struct answer answer;
	struct iovec data = {.iov_base = &answer.asked, .iov_len = sizeof(answer.asked)};
	struct msghdr message;
	struct in_pktinfo info = {0};

	do {
		message = (struct msghdr){.msg_name = &client,
					  .msg_namelen = sizeof(client),
					  .msg_iov = &data,
					  .msg_iovlen = 1,
					  .msg_control = &control,
					  .msg_controllen = sizeof(control)};
		if (recvmsg(server, &message, 0) < 0)
			return failure();
	} while (answer.asked != asked);
	if (!CMSG_FIRSTHDR(&message))
		return -EPROTO;
	memcpy(&info, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(info));
	answer.address = info.ipi_addr.s_addr;
	info = (struct in_pktinfo){.ipi_spec_dst.s_addr = answer.address};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &info, sizeof(info));
	data = (struct iovec){.iov_base = &answer, .iov_len = sizeof(answer)};
	return sendmsg(server, &message, 0) < 0 ? failure() : 0;
}

/* --- The client --------------------------------------------------------------- */

static int ask_tcp(struct crowd *crowd, uint32_t *ret)
{
	static const struct linger reset = {.l_onoff = 1};
	const struct sockaddr_in service = ipv4(INADDR_LOOPBACK, SERVICE_PORT);
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP(fd_close) int other = -1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
	    set_limits(fd) < 0 ||
	    connect(fd, (const struct sockaddr *)&service, sizeof(service)) < 0)
		return failure();
	other = accept_one(crowd->server, ret);
	if (other < 0)
		return other;
	/* The reset comes first: then nothing of the other end stays, either. */
	fd_close(&fd);
	return 0;
}

static int bind_next(struct crowd *crowd, int fd)
{
	struct sockaddr_in own;

	do {
		own = ipv4(INADDR_LOOPBACK, crowd->port);
		crowd->port = crowd->port == PORT_LAST ? PORT_FIRST : (uint16_t)(crowd->port + 1);
		if (bind(fd, (const struct sockaddr *)&own, sizeof(own)) == 0)
			return 0;
	} while (errno == EADDRINUSE);
	return -errno;
}

static int ask_udp(struct crowd *crowd, uint32_t *ret)
{
	const struct sockaddr_in service = ipv4(INADDR_LOOPBACK, SERVICE_PORT);
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t asked = crowd->asked++;
	struct answer answer = {0};
	int r;

	if (fd < 0 || set_limits(fd) < 0 || bind_next(crowd, fd) < 0 ||
	    connect(fd, (const struct sockaddr *)&service, sizeof(service)) < 0 ||
	    send(fd, &asked, sizeof(asked), MSG_NOSIGNAL) < 0)
		return failure();
	r = answer_udp(crowd->server, asked);
	if (r < 0)
		return r;
	if (recv(fd, &answer, sizeof(answer), 0) < 0)
		return failure();
	*ret = answer.address;
	return answer.asked == asked ? 0 : -EPROTO;
}

static void ask(struct crowd *crowd)
{
	uint32_t address = 0, number;
	uint64_t started = now(), took;
	int r = crowd->type == SOCK_STREAM ? ask_tcp(crowd, &address) : ask_udp(crowd, &address);
	struct seen *seen;

	took = now() - started;
	if (took > crowd->slowest)
		crowd->slowest = took;
	if (r < 0) {
		crowd->failures[-r < ERRORS ? -r : 0]++;
		return;
	}
	number = ntohl(address) - ENDPOINT_FIRST;
	if (number >= ENDPOINTS) {
		crowd->strangers++;
		return;
	}
	seen = &crowd->seen[number];
	if (seen->count++ == 0) {
		seen->first = started;
		seen->first_answered = started + took;
	}
	seen->last = started;
}

static bool is_told_to_end(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&input, 1, 0) != 0;
}

static void wait_for(uint64_t when)
{
	const struct timespec time = {.tv_sec = (time_t)(when / 1000000000),
				      .tv_nsec = (long)(when % 1000000000)};

	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void run(struct crowd *crowd)
{
	uint64_t next = now();

	do {
		for (int i = 0; i < (crowd->pause ? 1 : LOOK_EVERY); i++)
			ask(crowd);
		next += crowd->pause;
		if (crowd->pause)
			wait_for(next);
	} while (!is_told_to_end());
}

static void report(const struct crowd *crowd, uint64_t took)
{
	uint64_t asked = crowd->strangers, failed = 0;
	const char *comma = "";

	printf("{\"failures\": {");
	for (int i = 0; i < ERRORS; i++) {
		failed += crowd->failures[i];
		if (crowd->failures[i]) {
			printf("%s\"%s\": %" PRIu64, comma, strerrorname_np(i), crowd->failures[i]);
			comma = ", ";
		}
	}
	printf("}, \"seen\": [");
	comma = "";
	for (uint32_t i = 0; i < ENDPOINTS; i++) {
		const struct seen *seen = &crowd->seen[i];

		if (!seen->count)
			continue;
		asked += seen->count;
		printf("%s[%" PRIu32 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", comma,
		       i, seen->count, seen->first, seen->first_answered, seen->last);
		comma = ", ";
	}
	printf("], \"strangers\": %" PRIu64 ", \"asked\": %" PRIu64 ", \"seconds\": %.3f, "
	       "\"slowest\": %" PRIu64 "}\n",
	       crowd->strangers, asked + failed, (double)took / 1e9, crowd->slowest);
}

static int wait_for_line(void)
{
	char line[16];

	printf("ready\n");
	(void)fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 0 : -EPIPE;
}

int main(int argc, char **argv)
{
	struct crowd crowd = {.server = -1, .port = PORT_FIRST};
	uint64_t rate = 0, started;
	int r;

	if (argc < 3 || argc > 4 || (strcmp(argv[1], "tcp") != 0 && strcmp(argv[1], "udp") != 0) ||
	    (argc == 4 && (text_parse_number(argv[3], strlen(argv[3]), RATE_MAX, &rate) < 0))) {
		(void)fprintf(stderr, "usage: crowd tcp|udp NAMESPACE [RATE]\n");
		return 2;
	}
	crowd.type = argv[1][0] == 't' ? SOCK_STREAM : SOCK_DGRAM;
	crowd.pause = rate ? 1000000000 / rate : 0;
	crowd.seen = calloc(ENDPOINTS, sizeof(*crowd.seen));
	r = crowd.seen ? open_server_in(argv[2], crowd.type, &crowd.server) : -ENOMEM;
	if (r == 0)
		r = wait_for_line();
	if (r < 0) {
		(void)fprintf(stderr, "crowd: %s\n", strerror(-r));
	} else {
		started = now();
		run(&crowd);
		report(&crowd, now() - started);
	}
	fd_close(&crowd.server);
	free(crowd.seen);
	return r < 0;
}
