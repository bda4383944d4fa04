/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is what follows the header of a message, with its first byte left
 * out, which says what the message is of: conntrack or sock_diag. It stands in
 * memory that ends where it does. What is taken for a flow can be looked up, and
 * removed by a message that names all of it and fits where it is made.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>

#include "../../src/kernel/flow.h"
#include "../../src/kernel/flow_filter.h"
#include "../../src/kernel/flow_socket.h"
#include "../../src/kernel/netlink.h"

enum { INPUT_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_removal(const struct flow *flow)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	const struct nlmsghdr *message = flow_encode_remove(buffer, flow);
	const struct nlattr *first = mnl_nlmsg_get_payload_offset(message, sizeof(struct nfgenmsg));

	require(message->nlmsg_len <= FLOW_MESSAGE_MAX);
	require(mnl_attr_get_type(first) == CTA_TUPLE_ORIG);
}

/* Where everything is to go, this goes when it was sent to localhost, and only then. */
static void check_filters(const struct flow *flow)
{
	const struct endpoint localhost = flow_localhost((enum family)flow->to.family,
							 flow->to.port);
	const struct flow_filter all = {
		.listen = {(enum protocol)flow->protocol, flow->to.port},
		.family = (enum family)flow->to.family,
		.others = true,
	};
	struct flow_table table;

	require(flow_table_make(&all, 1, &table) == 0);
	require(flow_table_matches(&table, flow) == (endpoint_compare(&flow->to, &localhost) == 0));
	flow_table_done(&table);
}

static void feed_conntrack(struct nlmsghdr *message)
{
	struct flow flow;
	uint32_t count;

	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	if (flow_decode(message, &flow)) {
		check_removal(&flow);
		check_filters(&flow);
	}
	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS;
	(void)flow_decode_count(message, &count);
}

static void feed_socket(struct nlmsghdr *message)
{
	const struct flow flow = {.from = flow_localhost(FAMILY_IPV4, 40000),
				  .to = flow_localhost(FAMILY_IPV4, 53)};
	struct flow_socket found;

	message->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	(void)flow_socket_decode(message, &flow, &found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nlmsghdr *message;

	if (size < 1 || size > INPUT_MAX)
		return 0;
	message = malloc(sizeof(*message) + size - 1);
	require(message != NULL);
	*message = (struct nlmsghdr){.nlmsg_len = (uint32_t)(sizeof(*message) + size - 1)};
	memcpy(message + 1, data + 1, size - 1);
	if (data[0] % 2)
		feed_socket(message);
	else
		feed_conntrack(message);
	free(message);
	return 0;
}
