/* SPDX-License-Identifier: MIT */
/*
 * drift mend AGENT_PID PORT TRIALS PAUSE_US
 * drift fight PORT DAMAGE
 *
 * Theory of operation: runs inside a network namespace that an agent keeps,
 * and does damage to its table: one transaction of netlink, of a socket of its
 * own, so that nothing but the damage itself is in what is measured.
 *
 * `mend` does so TRIALS times, each sort of damage in turn. A trial is over
 * when a client's connect to 127.0.0.1:PORT succeeds, and then one line says,
 * in microseconds from just before the damage was sent, when its message was
 * heard (NFNLGRP_NFTABLES) and when the connect succeeded; and, as a control,
 * for how long meanwhile the agent and this program stood ready to run and
 * were not run (/proc/PID/schedstat). That time is the machine's, of others
 * that are busy on it. PAUSE_US is the pause between trials; 0: none.
 *
 * Whoever listens has the kernel make a message of each element, which would
 * make the repair slow: so the group is left as soon as the damage was heard.
 *
 * The service at PORT is to have one endpoint, so that each sort of damage is
 * felt: a connect in the gap is refused, or its packet goes astray; a try is
 * given up soon and made again.
 *
 * `fight` does one sort of damage, as fast as it can, until its input ends,
 * and prints how often it did.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

#define TABLE "dragoman"

enum {
	BUFFER_SIZE = 64 * 1024,
	TRY_MS = 2,         /* until a connect is given up */
	TRY_PAUSE_US = 100, /* between two, so that the agent has the processor */
	GIVE_UP_US = 10 * 1000 * 1000,
	TRIALS_MAX = 1000000,
	QUEUE_SIZE = 64 * 1024 * 1024,
};

enum damage { FLUSH_RULESET, DELETE_TABLE, DELETE_ELEMENT, DELETE_SLOT, FLUSH_CHAIN, DAMAGES };

static const char *const names[DAMAGES] = {
	[FLUSH_RULESET] = "flush-ruleset",   [DELETE_TABLE] = "delete-table",
	[DELETE_ELEMENT] = "delete-element", [DELETE_SLOT] = "delete-slot",
	[FLUSH_CHAIN] = "flush-chain",
};

/* What nf_tables tells of each. */
static const uint16_t messages[DAMAGES] = {
	[FLUSH_RULESET] = NFT_MSG_DELTABLE,    [DELETE_TABLE] = NFT_MSG_DELTABLE,
	[DELETE_ELEMENT] = NFT_MSG_DELSETELEM, [DELETE_SLOT] = NFT_MSG_DELSETELEM,
	[FLUSH_CHAIN] = NFT_MSG_DELRULE,
};

struct probe {
	struct mnl_socket *writer, *listener;
	uint32_t sequence;
	uint16_t port; /* of the service */
	pid_t agent;
};

static int die(const char *what)
{
	(void)fprintf(stderr, "drift: %s: %s\n", what, strerror(errno));
	return -1;
}

static uint64_t now_us(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void pause_us(uint64_t us)
{
	const struct timespec time = {.tv_sec = (time_t)(us / 1000000),
				      .tv_nsec = (long)(us % 1000000) * 1000};

	(void)nanosleep(&time, NULL);
}

/* --- The damage ------------------------------------------------------------ */

static struct nlmsghdr *put_message(struct mnl_nlmsg_batch *batch, unsigned type, unsigned family,
				    unsigned flags, uint32_t sequence)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(mnl_nlmsg_batch_current(batch));
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	message->nlmsg_type = (uint16_t)type;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	message->nlmsg_seq = sequence;
	*header = (struct nfgenmsg){.nfgen_family = (uint8_t)family};
	if (type <= NFNL_MSG_BATCH_END)
		header->res_id = htons(NFNL_SUBSYS_NFTABLES);
	return message;
}

/* 127.0.0.1 . tcp . PORT, and, where there are four, slot 0. */
static void put_key(struct nlmsghdr *message, const struct probe *probe, size_t fields)
{
	uint32_t key[4] = {htonl(INADDR_LOOPBACK), 0, 0, 0};
	const uint8_t protocol = IPPROTO_TCP;
	const uint16_t port = htons(probe->port);
	struct nlattr *list, *element, *value;

	memcpy(&key[1], &protocol, sizeof(protocol));
	memcpy(&key[2], &port, sizeof(port));
	list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	value = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
	mnl_attr_put(message, NFTA_DATA_VALUE, fields * sizeof(key[0]), key);
	mnl_attr_nest_end(message, value);
	mnl_attr_nest_end(message, element);
	mnl_attr_nest_end(message, list);
}

static void put_damage(struct mnl_nlmsg_batch *batch, const struct probe *probe, enum damage damage)
{
	const unsigned family = damage == FLUSH_RULESET ? NFPROTO_UNSPEC : NFPROTO_INET;
	struct nlmsghdr *message = put_message(batch, NFNL_SUBSYS_NFTABLES << 8 | messages[damage],
					       family, NLM_F_ACK, probe->sequence);

	/* The table's name is the same attribute everywhere. */
	if (damage != FLUSH_RULESET)
		mnl_attr_put_strz(message, NFTA_TABLE_NAME, TABLE);
	switch (damage) {
	case DELETE_ELEMENT:
		mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, "services4");
		put_key(message, probe, 3);
		break;
	case DELETE_SLOT:
		mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, "endpoints4");
		put_key(message, probe, 4);
		break;
	case FLUSH_CHAIN:
		mnl_attr_put_strz(message, NFTA_RULE_CHAIN, "output");
		break;
	case FLUSH_RULESET:
	case DELETE_TABLE:
	case DAMAGES:
		break;
	}
	(void)mnl_nlmsg_batch_next(batch);
}

/* 0, or -1 with errno: what the kernel answered. */
static int read_answer(const struct probe *probe)
{
	char buffer[BUFFER_SIZE];
	ssize_t length = mnl_socket_recvfrom(probe->writer, buffer, sizeof(buffer));

	if (length < 0)
		return -1;
	return mnl_cb_run(buffer, (size_t)length, probe->sequence,
			  mnl_socket_get_portid(probe->writer), NULL, NULL) < 0
		       ? -1
		       : 0;
}

static int do_damage(struct probe *probe, enum damage damage)
{
	char buffer[2 * BUFFER_SIZE];
	struct mnl_nlmsg_batch *batch = mnl_nlmsg_batch_start(buffer, BUFFER_SIZE);
	ssize_t sent;

	probe->sequence++;
	(void)put_message(batch, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, 0, probe->sequence);
	(void)mnl_nlmsg_batch_next(batch);
	put_damage(batch, probe, damage);
	(void)put_message(batch, NFNL_MSG_BATCH_END, AF_UNSPEC, 0, probe->sequence);
	(void)mnl_nlmsg_batch_next(batch);
	sent = mnl_socket_sendto(probe->writer, mnl_nlmsg_batch_head(batch),
				 mnl_nlmsg_batch_size(batch));
	mnl_nlmsg_batch_stop(batch);
	return sent < 0 ? -1 : read_answer(probe);
}

/* --- Hearing of it --------------------------------------------------------- */

static int set_listening(const struct probe *probe, bool listens)
{
	int group = NFNLGRP_NFTABLES;

	return mnl_socket_setsockopt(probe->listener,
				     listens ? NETLINK_ADD_MEMBERSHIP : NETLINK_DROP_MEMBERSHIP,
				     &group, sizeof(group));
}

/* What is still there of the agent's own. */
static void discard(const struct probe *probe)
{
	char buffer[BUFFER_SIZE];

	while (recv(mnl_socket_get_fd(probe->listener), buffer, sizeof(buffer), MSG_DONTWAIT) > 0 ||
	       errno == ENOBUFS)
		;
}

/* Waits for the message of the damage that was just done. */
static int hear(const struct probe *probe, enum damage damage)
{
	const uint32_t port = mnl_socket_get_portid(probe->writer);
	char buffer[BUFFER_SIZE];

	for (;;) {
		ssize_t length = mnl_socket_recvfrom(probe->listener, buffer, sizeof(buffer));
		int left = (int)length;

		if (length < 0)
			return -1;
		for (const struct nlmsghdr *message = (const void *)buffer;
		     mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
			if (message->nlmsg_pid == port &&
			    (message->nlmsg_type & 0xff) == messages[damage])
				return 0;
		}
	}
}

/* --- The client ------------------------------------------------------------ */

/* Whether a connection came about. A reset ends it, or the ports would run out. */
static bool connects(const struct probe *probe)
{
	static const struct linger reset = {.l_onoff = 1};
	const struct sockaddr_in service = {.sin_family = AF_INET,
					    .sin_port = htons(probe->port),
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	socklen_t length = sizeof(int);
	int code = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)&service, sizeof(service)) == 0)
		return true;
	if (errno != EINPROGRESS || poll(&ready, 1, TRY_MS) <= 0)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 && code == 0;
}

/* How many connects failed before one succeeded; -1: none did. */
static int connect_until(const struct probe *probe, uint64_t start)
{
	int failed = 0;

	while (!connects(probe)) {
		failed++;
		if (now_us() - start > GIVE_UP_US)
			return -1;
		pause_us(TRY_PAUSE_US);
	}
	return failed;
}

/* --- Trials ---------------------------------------------------------------- */

/* For how long a process has stood ready to run and was not, in microseconds. */
static uint64_t waited_us(pid_t pid)
{
	unsigned long long ran = 0, waited = 0;
	char path[64], text[128] = "";
	CLEANUP(fd_close) int fd = -1;

	(void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ||
	    sscanf(text, "%llu %llu", &ran, &waited) != 2)
		return 0;
	return waited / 1000;
}

static int trial(struct probe *probe, enum damage damage)
{
	const uint64_t agent_waited = waited_us(probe->agent), waited = waited_us(getpid());
	uint64_t start, heard, whole;
	int failed;

	discard(probe);
	if (set_listening(probe, true) < 0)
		return die("joining the group");
	start = now_us();
	if (do_damage(probe, damage) < 0)
		return die(names[damage]);
	if (hear(probe, damage) < 0)
		return die("listening");
	heard = now_us();
	if (set_listening(probe, false) < 0)
		return die("leaving the group");
	failed = connect_until(probe, start);
	whole = now_us();
	if (failed < 0) {
		errno = ETIMEDOUT;
		return die(names[damage]);
	}
	printf("{\"damage\": \"%s\", \"heard\": %llu, \"whole\": %llu, \"failed\": %d, "
	       "\"agent_waited\": %llu, \"waited\": %llu}\n",
	       names[damage], (unsigned long long)(heard - start),
	       (unsigned long long)(whole - start), failed,
	       (unsigned long long)(waited_us(probe->agent) - agent_waited),
	       (unsigned long long)(waited_us(getpid()) - waited));
	return 0;
}

static int mend(struct probe *probe, uint64_t trials, uint64_t pause)
{
	if (connect_until(probe, now_us()) < 0) {
		errno = ETIMEDOUT;
		return die("before the first damage");
	}
	for (uint64_t i = 0; i < trials; i++) {
		if (trial(probe, (enum damage)(i % DAMAGES)) < 0)
			return -1;
		if (pause)
			pause_us(pause);
	}
	return 0;
}

/* What is not there yet again, cannot be damaged again. */
static int fight(struct probe *probe, enum damage damage)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned long done = 0;

	printf("ready\n");
	(void)fflush(stdout);
	while (poll(&input, 1, 0) == 0) {
		if (do_damage(probe, damage) == 0)
			done++;
		else if (errno != ENOENT)
			return die(names[damage]);
	}
	printf("{\"done\": %lu}\n", done);
	return 0;
}

/* --- Both ------------------------------------------------------------------ */

static struct mnl_socket *open_socket(void)
{
	struct mnl_socket *opened = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);

	if (opened && mnl_socket_bind(opened, 0, MNL_SOCKET_AUTOPID) < 0) {
		(void)mnl_socket_close(opened);
		return NULL;
	}
	return opened;
}

static int prepare(struct probe *probe)
{
	const int size = QUEUE_SIZE;

	probe->writer = open_socket();
	probe->listener = open_socket();
	if (!probe->writer || !probe->listener)
		return die("netlink");
	if (setsockopt(mnl_socket_get_fd(probe->listener), SOL_SOCKET, SO_RCVBUFFORCE, &size,
		       sizeof(size)) < 0)
		return die("receive buffer");
	return 0;
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	return text_parse_number(text, strlen(text), max, ret) == 0;
}

static int run_mend(struct probe *probe, char **arguments)
{
	uint64_t agent, port, trials, pause;

	if (!number(arguments[0], INT32_MAX, &agent) || !number(arguments[1], UINT16_MAX, &port) ||
	    !number(arguments[2], TRIALS_MAX, &trials) ||
	    !number(arguments[3], GIVE_UP_US, &pause)) {
		errno = EINVAL;
		return die("mend");
	}
	probe->agent = (pid_t)agent;
	probe->port = (uint16_t)port;
	return mend(probe, trials, pause);
}

static int run_fight(struct probe *probe, const char *port_text, const char *damage)
{
	uint64_t port;

	if (!number(port_text, UINT16_MAX, &port)) {
		errno = EINVAL;
		return die("fight");
	}
	probe->port = (uint16_t)port;
	for (unsigned i = 0; i < DAMAGES; i++) {
		if (strcmp(damage, names[i]) == 0)
			return fight(probe, (enum damage)i);
	}
	errno = EINVAL;
	return die(damage);
}

static void probe_done(struct probe *probe)
{
	if (probe->writer)
		(void)mnl_socket_close(probe->writer);
	if (probe->listener)
		(void)mnl_socket_close(probe->listener);
}

int main(int argc, char **argv)
{
	CLEANUP(probe_done) struct probe probe = {0};

	if (prepare(&probe) < 0)
		return 1;
	if (argc == 6 && strcmp(argv[1], "mend") == 0)
		return run_mend(&probe, argv + 2) < 0;
	if (argc == 4 && strcmp(argv[1], "fight") == 0)
		return run_fight(&probe, argv[2], argv[3]) < 0;
	(void)fprintf(stderr, "usage: drift mend AGENT_PID PORT TRIALS PAUSE_US\n"
			      "       drift fight PORT DAMAGE\n");
	return 2;
}
