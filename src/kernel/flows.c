/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/flows.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "flow.h"
#include "flow_filter.h"
#include "flow_socket.h"
#include "netlink.h"

/*
 * Theory of operation
 *
 * A sweep is a dump of conntrack for each family and protocol that the filters
 * name, with as much of a filter as the kernel can apply; what comes is looked
 * up in the filters, and what matches is removed, exactly that entry, before
 * the next datagram of the dump is read. So memory is that of a datagram's
 * worth of flows, whatever the size of the table.
 *
 * The kernel goes on with a dump at the entry that did not fit any more. None
 * that was not seen yet is removed, so none is passed over; one that is told
 * twice is gone the second time, which is no error.
 *
 * For the kernel a filter saves copying, not looking: its table is one for all
 * namespaces, and a dump that matches little goes through all of it within one
 * call, 12 ms for 262,144 buckets (6.18), since it takes a lock for each. That
 * is why a sweep is one dump for all filters, and none where the namespace has
 * no entry: asking for their number costs a microsecond. A removal by filter
 * passes over empty buckets, and costs 3 ms there, but for each filter, only
 * since 6.11, not with IPv6 (see flow.c), and without telling how many it hit.
 *
 * Dump and removals have a socket each, so that no answer stands in the other's
 * queue. Removals are sent many at a time, without asking for acknowledgements:
 * the kernel is through with them when the call returns, and only tells what it
 * refused.
 */

enum { CHUNK = 64, ANSWER_SIZE = 4096, SWEEP_TRIES = 8 };

struct flows {
	struct flow_table filters;
	struct netlink dumps, removals, sockets;
	struct netlink_question dump;
	bool dumping;
	size_t begin, end; /* of what is being asked for, in filters */
	unsigned tries;
	struct flow *found; /* in one datagram */
	size_t found_count, found_capacity;
	struct flows_count count;
};

/* --- Opening ------------------------------------------------------------------------ */

static int open_inside(void *user, struct error *error)
{
	struct flows *flows = user;
	int r;

	r = netlink_open(&flows->dumps, NETLINK_NETFILTER, error);
	if (r == 0)
		r = netlink_open(&flows->removals, NETLINK_NETFILTER, error);
	if (r == 0 && flow_table_has(&flows->filters, PROTOCOL_TCP))
		r = netlink_open(&flows->sockets, NETLINK_SOCK_DIAG, error);
	return r;
}

/* Whether sockets can be closed is found out before any has to be. */
static int probe_sockets(struct flows *flows, struct error *error)
{
	const struct flow nobody = {.from = flow_localhost(FAMILY_IPV4, 0),
				    .to = flow_localhost(FAMILY_IPV4, 0)};
	const struct flow_socket none = {{0, 0}};
	NETLINK_BUFFER(probe, FLOW_MESSAGE_MAX);
	NETLINK_BUFFER(closing, FLOW_MESSAGE_MAX);
	int r;

	r = netlink_ask(&flows->sockets, flow_socket_encode_probe(probe), "asking for sockets",
			NULL, NULL, error);
	if (r == -ENOENT || r == -EINVAL)
		return error_set(error, -EOPNOTSUPP, ERROR_FATAL,
				 "this kernel does not tell of sockets (CONFIG_INET_TCP_DIAG)");
	if (r < 0)
		return r;
	r = netlink_ask(&flows->sockets, flow_socket_encode_close(closing, &nobody, &none),
			"closing no socket", NULL, NULL, error);
	if (r == -EOPNOTSUPP)
		return error_set(error, -EOPNOTSUPP, ERROR_FATAL,
				 "this kernel cannot close sockets of others "
				 "(CONFIG_INET_DIAG_DESTROY)");
	return r == -ENOENT ? 0 : r;
}

int flows_open(const struct netns *netns, const struct flow_filter *filters, size_t count,
	       struct flows **ret, struct error *error)
{
	CLEANUP(flows_closep) struct flows *flows = calloc(1, sizeof(*flows));
	int r;

	if (!flows || flow_table_make(filters, count, &flows->filters) < 0)
		return error_no_memory(error);
	r = netns_call(netns, open_inside, flows, error);
	if (r == 0 && flows->sockets.socket)
		r = probe_sockets(flows, error);
	if (r == 0)
		*ret = TAKE(flows);
	return r;
}

void flows_close(struct flows *flows)
{
	if (!flows)
		return;
	netlink_close(&flows->dumps);
	netlink_close(&flows->removals);
	netlink_close(&flows->sockets);
	netlink_question_done(&flows->dump);
	flow_table_done(&flows->filters);
	free(flows->found);
	free(flows);
}

void flows_closep(struct flows **flows)
{
	flows_close(*flows);
	*flows = NULL;
}

struct flows_count flows_counted(const struct flows *flows)
{
	return flows->count;
}

/* --- Doing something about flows ----------------------------------------------------- */

/* Up to CHUNK messages that are sent in one go, one for each flow. */
struct burst {
	alignas(struct nlmsghdr) char data[CHUNK * FLOW_MESSAGE_MAX];
	size_t length;
	const struct flow *flows[CHUNK];
	struct flow_socket sockets[CHUNK];
	bool found[CHUNK]; /* the socket */
	uint32_t first_seq;
	size_t count, gone;
	struct netlink_refusal refusal; /* the first that is more than "gone" */
};

static void burst_begin(struct burst *burst, const struct netlink *netlink)
{
	memset(burst, 0, sizeof(*burst));
	burst->first_seq = netlink->seq + 1;
}

/* Where the next message goes. */
static void *burst_room(struct burst *burst)
{
	return burst->data + burst->length;
}

static void burst_add(struct burst *burst, struct nlmsghdr *message, const struct flow *flow)
{
	message->nlmsg_seq = burst->first_seq + (uint32_t)burst->count;
	burst->flows[burst->count++] = flow;
	burst->length += NLMSG_ALIGN(message->nlmsg_len);
}

static int take_answer(const struct nlmsghdr *message, void *user)
{
	struct burst *burst = user;
	uint32_t index = message->nlmsg_seq - burst->first_seq;
	struct netlink_refusal refusal;

	if (index >= burst->count)
		return 0;
	if (message->nlmsg_type != NLMSG_ERROR) {
		burst->found[index] = flow_socket_decode(message, burst->flows[index],
							 &burst->sockets[index]);
	} else if (netlink_parse_refusal(message, &refusal) == -ENOENT) {
		burst->gone++;
	} else if (refusal.code < 0 && burst->refusal.code == 0) {
		burst->refusal = refusal;
	}
	return 0;
}

static int burst_send(struct burst *burst, struct netlink *netlink, const char *what,
		      struct error *error)
{
	char listen[ENDPOINT_TEXT_MAX], endpoint[ENDPOINT_TEXT_MAX];
	const struct flow *flow;
	int r;

	if (burst->count == 0)
		return 0;
	netlink->seq += (uint32_t)burst->count;
	r = netlink_send_all(netlink, burst->data, burst->length, burst->count * ANSWER_SIZE,
			     take_answer, burst);
	if (r < 0)
		return error_set(error, r, error_class_of(r), "%s: %s", what, strerror(-r));
	r = burst->refusal.code;
	if (r == 0)
		return 0;
	flow = burst->flows[burst->refusal.seq - burst->first_seq];
	return error_set(
		error, r, error_class_of(r), "%s: %s led to %s: %s%s%s%s", what,
		listen_format(&(struct listen){(enum protocol)flow->protocol, flow->to.port},
			      (enum family)flow->to.family, listen),
		endpoint_format(&flow->endpoint, endpoint), strerror(-r),
		burst->refusal.text[0] ? " (the kernel: " : "", burst->refusal.text,
		burst->refusal.text[0] ? ")" : "");
}

static int close_sockets(struct flows *flows, const struct flow *found, size_t count,
			 struct error *error)
{
	struct burst asked, closing;
	int r;

	burst_begin(&asked, &flows->sockets);
	for (size_t i = 0; i < count; i++) {
		if (found[i].protocol == PROTOCOL_TCP)
			burst_add(&asked, flow_socket_encode_get(burst_room(&asked), &found[i]),
				  &found[i]);
	}
	r = burst_send(&asked, &flows->sockets, "looking for a socket", error);
	if (r < 0)
		return r;
	burst_begin(&closing, &flows->sockets);
	for (size_t i = 0; i < asked.count; i++) {
		if (asked.found[i])
			burst_add(&closing,
				  flow_socket_encode_close(burst_room(&closing), asked.flows[i],
							   &asked.sockets[i]),
				  asked.flows[i]);
	}
	r = burst_send(&closing, &flows->sockets, "closing a socket", error);
	if (r == 0)
		flows->count.closed += closing.count - closing.gone;
	return r;
}

static int remove_entries(struct flows *flows, const struct flow *found, size_t count,
			  struct error *error)
{
	struct burst burst;
	int r;

	burst_begin(&burst, &flows->removals);
	for (size_t i = 0; i < count; i++)
		burst_add(&burst, flow_encode_remove(burst_room(&burst), &found[i]), &found[i]);
	r = burst_send(&burst, &flows->removals, "removing a flow from conntrack", error);
	if (r == 0)
		flows->count.removed += burst.count - burst.gone;
	return r;
}

/*
 * Sockets first: closing one tells the endpoint so, and that message has to find
 * its way there.
 */
static int end_found(struct flows *flows, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < flows->found_count && r == 0; i += CHUNK) {
		const struct flow *found = flows->found + i;
		size_t left = flows->found_count - i, count = left < CHUNK ? left : CHUNK;

		if (flows->sockets.socket)
			r = close_sockets(flows, found, count, error);
		if (r == 0)
			r = remove_entries(flows, found, count, error);
	}
	flows->found_count = 0;
	return r;
}

/* --- Looking ------------------------------------------------------------------------- */

static int take_count(const struct nlmsghdr *message, void *user)
{
	(void)flow_decode_count(message, user);
	return 0;
}

/* Returns 1 when the namespace has entries, 0 when it has none. */
static int has_entries(struct flows *flows, struct error *error)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	uint32_t count = 1; /* where it is not told, look */
	int r = netlink_ask(&flows->dumps, flow_encode_count(buffer), "asking conntrack",
			    take_count, &count, error);

	if (r == -EINVAL || r == -EOPNOTSUPP)
		return error_set(error, -EPROTONOSUPPORT, ERROR_FATAL,
				 "asking conntrack: this kernel does not tell of its flows "
				 "(CONFIG_NF_CT_NETLINK, the module nf_conntrack_netlink)");
	if (r == -EPERM)
		return error_set(error, r, ERROR_FATAL,
				 "asking conntrack: %s (root, or CAP_NET_ADMIN, is needed)",
				 strerror(-r));
	return r < 0 ? r : count != 0;
}

static int take_flow(const struct nlmsghdr *message, void *user)
{
	struct flows *flows = user;
	struct flow flow;

	if (!flow_decode(message, &flow) || !flow_table_matches(&flows->filters, &flow))
		return 0;
	if (array_reserve(&flows->found, &flows->found_capacity, flows->found_count, 1,
			  sizeof(*flows->found)) < 0)
		return -ENOMEM;
	flows->found[flows->found_count++] = flow;
	return 0;
}

static int begin_dump(struct flows *flows, struct error *error)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	struct flow_question question;
	int r = flows->begin ? 1 : has_entries(flows, error);

	if (r <= 0)
		return r;
	flows->end = flow_table_ask(&flows->filters, flows->begin, &question);
	flows->dump = (struct netlink_question){
		.what = "listing flows", .function = take_flow, .user = flows};
	r = netlink_start(&flows->dumps, flow_encode_dump(buffer, &question), &flows->dump, error);
	flows->dumping = r == 0;
	return r < 0 ? r : 1;
}

static int interrupted(struct flows *flows, struct error *error)
{
	if (++flows->tries < SWEEP_TRIES)
		return 1;
	return error_set(error, -EAGAIN, ERROR_CONFLICT,
			 "listing flows: they changed meanwhile, %d times over", SWEEP_TRIES);
}

int flows_step(struct flows *flows, struct error *error)
{
	int more, r;

	if (flows->begin == flows->filters.count)
		return 0;
	if (!flows->dumping)
		return begin_dump(flows, error);
	more = netlink_take(&flows->dumps, &flows->dump, error);
	flows->dumping = more == 1;
	if (more < 0 && more != -EINTR)
		return more;
	r = end_found(flows, error);
	if (r < 0)
		return r;
	if (more == -EINTR)
		return interrupted(flows, error);
	if (more == 0)
		flows->begin = flows->end;
	return flows->begin < flows->filters.count;
}

int flows_sweep(struct flows *flows, struct error *error)
{
	int r;

	do {
		r = flows_step(flows, error);
	} while (r > 0);
	return r;
}

void flows_again(struct flows *flows)
{
	flows->begin = 0;
	flows->tries = 0;
}
