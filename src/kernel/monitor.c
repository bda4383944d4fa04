/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/monitor.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "attr.h"
#include "kernel_private.h"
#include "netlink.h"
#include "schema.h"

/*
 * Theory of operation
 *
 * Two sockets that only listen: one of nfnetlink, one of rtnetlink. Questions
 * and transactions go through those of struct kernel.
 *
 * nf_tables tells of a transaction within the commit, still under its lock:
 * first the objects that changed, several messages to a datagram, then
 * NFT_MSG_NEWGEN with the new generation. So the messages before a NEWGEN are
 * what led to it, and whether one of them was of our table is known by then.
 * A transaction that comes to nothing makes no generation and no message.
 *
 * All of these carry the port of the socket that the transaction came from,
 * and ports are unique in a namespace. So our own are dropped by a filter in
 * the kernel (classic BPF, socket(7)), before they take room in the queue: a
 * first load has a hundred thousand elements, and would overrun any. What the
 * kernel does of its own accord, such as dropping routes of a link that goes
 * down, carries port 0. The same filter drops routes to anything but one
 * address, which come and go with router advertisements, and would wake up an
 * idle agent.
 *
 * The filter spares the queue, not the kernel: as long as anybody listens in a
 * namespace, nf_tables makes a message of each element, a page each, before it
 * drops them, and a first load takes four times as long. So nobody listens
 * during a large commit of ours, and the generation afterwards says whether
 * somebody else was there meanwhile.
 *
 * An overrun shows as ENOBUFS once; what is in the queue then is true, only
 * not all of it. A datagram of nf_tables that does not fit into the buffer
 * counts as lost, too; the kernel fills a page at most.
 *
 * A wake-up takes a bounded number of datagrams, so that a namespace in which
 * somebody is busy does not starve the others; the loop, being level
 * triggered, comes back for the rest. What was found is told at the end, in
 * one call, and nothing is touched after it: it may close the monitor.
 */

enum { RECEIVE_QUEUE = 64 * 1024, DATAGRAM_MAX = 8 * 1024, DATAGRAMS_A_TURN = 64 };

/* Verdicts from which on a commit is large. */
enum { COMMIT_LARGE = 256 };

/* The first attribute of all messages about something in a table. */
static_assert((int)NFTA_TABLE_NAME == (int)NFTA_CHAIN_TABLE &&
		      (int)NFTA_TABLE_NAME == (int)NFTA_RULE_TABLE &&
		      (int)NFTA_TABLE_NAME == (int)NFTA_SET_TABLE &&
		      (int)NFTA_TABLE_NAME == (int)NFTA_SET_ELEM_LIST_TABLE &&
		      (int)NFTA_TABLE_NAME == (int)NFTA_OBJ_TABLE &&
		      (int)NFTA_TABLE_NAME == (int)NFTA_FLOWTABLE_TABLE,
	      "the table is named alike everywhere");

struct kernel_monitor {
	struct netlink nfnl, route;
	struct loop_source *on_nfnl, *on_route;
	kernel_monitor_function *function;
	void *user;
	bool touched;                   /* our table, since the last generation */
	uint32_t nfnl_port, route_port; /* whose changes are our own */
};

/* --- Opening ---------------------------------------------------------------------- */

static int refuse_option(const char *what, struct error *error)
{
	int code = errno;

	return error_set(error, -code, error_class_of(code), "cannot listen to the kernel: %s: %s",
			 what, strerror(code));
}

static int attach(struct netlink *netlink, struct sock_filter *code, size_t count,
		  struct error *error)
{
	struct sock_fprog program = {.len = (unsigned short)count, .filter = code};

	if (setsockopt(mnl_socket_get_fd(netlink->socket), SOL_SOCKET, SO_ATTACH_FILTER, &program,
		       sizeof(program)) < 0)
		return refuse_option("its filter", error);
	return 0;
}

/* How a filter loads fields of a message: as if they were in network byte order. */
enum {
	AT_TYPE = offsetof(struct nlmsghdr, nlmsg_type),
	AT_PORT = offsetof(struct nlmsghdr, nlmsg_pid),
	AT_DST_LENGTH = sizeof(struct nlmsghdr) + offsetof(struct rtmsg, rtm_dst_len),
	ADDRESS_BITS = 128,
};

static int filter_nfnl(struct kernel_monitor *monitor, struct error *error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT_PORT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(monitor->nfnl_port), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};

	/* Port 0 is the kernel's own, and has to be heard. */
	return monitor->nfnl_port ? attach(&monitor->nfnl, code, ARRAY_SIZE(code), error) : 0;
}

static int filter_route(struct kernel_monitor *monitor, struct error *error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT_PORT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(monitor->route_port), 6, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, AT_TYPE),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, AT_DST_LENGTH),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ADDRESS_BITS, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	/* Without anything of our own it begins behind the comparison of ports. */
	size_t skip = monitor->route_port ? 0 : 2;

	return attach(&monitor->route, code + skip, ARRAY_SIZE(code) - skip, error);
}

static int join(struct netlink *netlink, int group, struct error *error)
{
	if (mnl_socket_setsockopt(netlink->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) <
	    0)
		return refuse_option("joining a group", error);
	return 0;
}

static int limit_queue(struct netlink *netlink, struct error *error)
{
	int size = RECEIVE_QUEUE;

	if (setsockopt(mnl_socket_get_fd(netlink->socket), SOL_SOCKET, SO_RCVBUF, &size,
		       sizeof(size)) < 0)
		return refuse_option("its receive buffer", error);
	return 0;
}

/* Filters stand before the groups are joined: nothing that they drop is ever queued. */
static int open_inside(void *user, struct error *error)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_IFINFO};
	struct kernel_monitor *monitor = user;
	int r = netlink_open(&monitor->nfnl, NETLINK_NETFILTER, error);

	if (r == 0)
		r = netlink_open(&monitor->route, NETLINK_ROUTE, error);
	if (r == 0)
		r = limit_queue(&monitor->nfnl, error);
	if (r == 0)
		r = limit_queue(&monitor->route, error);
	if (r == 0)
		r = filter_nfnl(monitor, error);
	if (r == 0)
		r = filter_route(monitor, error);
	if (r == 0)
		r = join(&monitor->nfnl, NFNLGRP_NFTABLES, error);
	for (size_t i = 0; i < ARRAY_SIZE(groups) && r == 0; i++)
		r = join(&monitor->route, groups[i], error);
	return r;
}

/* --- Listening -------------------------------------------------------------------- */

/* Takes a datagram; what it means goes into the news. */
typedef void datagram_function(struct kernel_monitor *monitor, const struct nlmsghdr *first,
			       size_t length, bool cut, struct kernel_news *news);

/* Takes what is there, up to a turn's share. */
static void drain(struct kernel_monitor *monitor, int fd, datagram_function *function,
		  struct kernel_news *news)
{
	alignas(struct nlmsghdr) char buffer[DATAGRAM_MAX];

	for (unsigned i = 0; i < DATAGRAMS_A_TURN; i++) {
		struct iovec vector = {buffer, sizeof(buffer)};
		struct sockaddr_nl sender = {0};
		struct msghdr datagram = {.msg_name = &sender,
					  .msg_namelen = sizeof(sender),
					  .msg_iov = &vector,
					  .msg_iovlen = 1};
		ssize_t received = recvmsg(fd, &datagram, MSG_DONTWAIT);

		if (received < 0 && errno == EAGAIN)
			return;
		if (received < 0)
			news->lost |= errno != EINTR;
		else if (sender.nl_pid == 0) /* who may can send to a group, too */
			function(monitor, (const struct nlmsghdr *)buffer, (size_t)received,
				 datagram.msg_flags & MSG_TRUNC, news);
	}
}

static bool is_any(const struct kernel_news *news)
{
	return news->lost || news->table || news->generation || news->links;
}

/* The last thing done in a callback of the loop. */
static void tell(const struct kernel_monitor *monitor, const struct kernel_news *news)
{
	if (is_any(news))
		monitor->function(news, monitor->user);
}

static bool is_of_our_table(const struct nlmsghdr *message)
{
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	const char *table;

	if (header->nfgen_family != NFPROTO_INET)
		return false;
	attr_for_each_message (attr, message, sizeof(*header)) {
		if (mnl_attr_get_type(attr) != NFTA_TABLE_NAME)
			continue;
		table = attr_get_text(attr);
		return table && strcmp(table, SCHEMA_TABLE) == 0;
	}
	return false;
}

static void take_generation(struct kernel_monitor *monitor, const struct nlmsghdr *message,
			    struct kernel_news *news)
{
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_GEN_ID)
			(void)attr_get_be32(attr, &news->generation);
	}
	if (!monitor->touched)
		return;
	monitor->touched = false;
	news->table = true;
	news->table_generation = news->generation;
}

static void take_ruleset(struct kernel_monitor *monitor, const struct nlmsghdr *first,
			 size_t length, bool cut, struct kernel_news *news)
{
	const struct nlmsghdr *message = first;
	int left = (int)length;

	news->lost |= cut;
	for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
		if (message->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		    mnl_nlmsg_get_payload_len(message) < sizeof(struct nfgenmsg))
			continue;
		if ((message->nlmsg_type & 0xff) == NFT_MSG_NEWGEN)
			take_generation(monitor, message, news);
		else
			monitor->touched |= is_of_our_table(message);
	}
}

static bool is_to_loopback(const struct nlmsghdr *message)
{
	attr_for_each_message (attr, message, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_DST)
			return mnl_attr_get_payload_len(attr) == sizeof(in6addr_loopback) &&
			       memcmp(mnl_attr_get_payload(attr), &in6addr_loopback,
				      sizeof(in6addr_loopback)) == 0;
	}
	return false;
}

/* One message a datagram. One that was cut is of a link, and that it is there is enough. */
static void take_links(struct kernel_monitor *monitor, const struct nlmsghdr *message,
		       size_t length, bool cut, struct kernel_news *news)
{
	(void)monitor;
	if (cut || !mnl_nlmsg_ok(message, (int)length)) {
		news->links = true;
		return;
	}
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		news->links = true;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		news->links |= mnl_nlmsg_get_payload_len(message) >= sizeof(struct rtmsg) &&
			       is_to_loopback(message);
		break;
	default:
		break;
	}
}

static void on_nfnl(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct kernel_monitor *monitor = user;
	struct kernel_news news = {0};

	(void)source;
	(void)events;
	drain(monitor, fd, take_ruleset, &news);
	tell(monitor, &news);
}

static void on_route(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct kernel_monitor *monitor = user;
	struct kernel_news news = {0};

	(void)source;
	(void)events;
	drain(monitor, fd, take_links, &news);
	tell(monitor, &news);
}

/* --- The whole -------------------------------------------------------------------- */

static int watch(struct loop *loop, struct kernel_monitor *monitor, struct error *error)
{
	int r = loop_add_io(loop, "kernel ruleset", mnl_socket_get_fd(monitor->nfnl.socket),
			    LOOP_READ, on_nfnl, monitor, &monitor->on_nfnl);

	if (r == 0)
		r = loop_add_io(loop, "kernel links", mnl_socket_get_fd(monitor->route.socket),
				LOOP_READ, on_route, monitor, &monitor->on_route);
	if (r == 0)
		return 0;
	return error_set(error, r, error_class_of(r), "cannot listen to the kernel: %s",
			 strerror(-r));
}

int kernel_monitor_open(struct loop *loop, const struct netns *netns, const struct kernel *kernel,
			kernel_monitor_function *function, void *user, struct kernel_monitor **ret,
			struct error *error)
{
	CLEANUP(kernel_monitor_closep) struct kernel_monitor *monitor = calloc(1, sizeof(*monitor));
	int r;

	if (!monitor)
		return error_no_memory(error);
	monitor->function = function;
	monitor->user = user;
	if (kernel)
		kernel_ports(kernel, &monitor->nfnl_port, &monitor->route_port);
	r = netns_call(netns, open_inside, monitor, error);
	if (r == 0)
		r = watch(loop, monitor, error);
	if (r == 0)
		*ret = TAKE(monitor);
	return r;
}

/* A table that is removed may hold anything. */
static bool is_large(const struct verdicts *verdicts)
{
	return verdicts->table_remove ||
	       verdicts->service_count + verdicts->endpoint_count + verdicts->unavailable_count +
			       verdicts->stray_count + verdicts->chain_count >=
		       COMMIT_LARGE;
}

int kernel_monitor_commit(struct kernel_monitor *monitor, struct kernel *kernel,
			  const struct verdicts *verdicts, struct error *error)
{
	int group = NFNLGRP_NFTABLES;
	struct error deaf;
	int r, joined;

	if (!is_large(verdicts) ||
	    mnl_socket_setsockopt(monitor->nfnl.socket, NETLINK_DROP_MEMBERSHIP, &group,
				  sizeof(group)) < 0)
		return kernel_commit(kernel, verdicts, error);
	r = kernel_commit(kernel, verdicts, error);
	joined = join(&monitor->nfnl, group, r < 0 ? &deaf : error);
	kernel_confirm_generation(kernel);
	return r < 0 ? r : joined;
}

void kernel_monitor_mute(struct kernel_monitor *monitor)
{
	loop_source_free(TAKE(monitor->on_nfnl));
	loop_source_free(TAKE(monitor->on_route));
}

void kernel_monitor_close(struct kernel_monitor *monitor)
{
	if (!monitor)
		return;
	kernel_monitor_mute(monitor);
	netlink_close(&monitor->nfnl);
	netlink_close(&monitor->route);
	free(monitor);
}

void kernel_monitor_closep(struct kernel_monitor **monitor)
{
	kernel_monitor_close(*monitor);
	*monitor = NULL;
}
