/* SPDX-License-Identifier: MIT */
#include "flow.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

#include "attr.h"

/*
 * Theory of operation
 *
 * An entry has two tuples. The original one is as the sender sees it: from some
 * port of its own to localhost. The other is what an answer looks like, so its
 * source is whoever the flow was led to, and localhost itself where it was led
 * nowhere.
 *
 * A dump takes a filter (CTA_FILTER, since 5.8): two tuples, and for each which
 * of their fields count. The kernel compares IPv6 addresses the wrong way round,
 * at least up to 6.18 (ctnetlink_filter_match_tuple(): an entry is passed over
 * when its address is the one asked for), so with IPv6 only protocol and ports
 * are asked for. Whatever comes is looked at once more by who asked.
 *
 * That is also why nothing is removed by filter, which kernels since 6.11
 * would do: with IPv6 it would hit all but what was meant. A removal names the
 * whole original tuple, the zone, and the entry's number (CTA_ID), so that it
 * cannot hit a flow that took the place of the one that was seen.
 */

/* Fields of a tuple in CTA_FILTER_ORIG_FLAGS and _REPLY_FLAGS; the kernel's headers have none. */
enum {
	FIELD_SOURCE = 1 << 0,
	FIELD_DESTINATION = 1 << 1,
	FIELD_PROTOCOL = 1 << 3,
	FIELD_SOURCE_PORT = 1 << 4,
	FIELD_DESTINATION_PORT = 1 << 5,
};

/* --- Decoding ----------------------------------------------------------------------- */

struct tuple {
	struct endpoint source, destination;
	unsigned fields; /* that were there */
	uint8_t protocol;
	uint16_t zone;
	bool has_zone;
};

static void take_address(const struct nlattr *attr, struct tuple *tuple)
{
	unsigned type = mnl_attr_get_type(attr);
	bool source = type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC;
	enum family family = type == CTA_IP_V4_SRC || type == CTA_IP_V4_DST ? FAMILY_IPV4
									    : FAMILY_IPV6;
	struct endpoint *endpoint = source ? &tuple->source : &tuple->destination;
	size_t length = family == FAMILY_IPV4 ? 4 : 16;

	if (type < CTA_IP_V4_SRC || type > CTA_IP_V6_DST ||
	    mnl_attr_get_payload_len(attr) != length)
		return;
	endpoint->family = (uint16_t)family;
	memset(endpoint->address, 0, sizeof(endpoint->address));
	memcpy(endpoint->address, mnl_attr_get_payload(attr), length);
	tuple->fields |= source ? FIELD_SOURCE : FIELD_DESTINATION;
}

static void take_protocol(const struct nlattr *attr, struct tuple *tuple)
{
	uint16_t port;

	switch (mnl_attr_get_type(attr)) {
	case CTA_PROTO_NUM:
		if (mnl_attr_get_payload_len(attr) != sizeof(tuple->protocol))
			return;
		tuple->protocol = *(const uint8_t *)mnl_attr_get_payload(attr);
		tuple->fields |= FIELD_PROTOCOL;
		return;
	case CTA_PROTO_SRC_PORT:
		if (!attr_get_u16(attr, &port))
			return;
		tuple->source.port = ntohs(port);
		tuple->fields |= FIELD_SOURCE_PORT;
		return;
	case CTA_PROTO_DST_PORT:
		if (!attr_get_u16(attr, &port))
			return;
		tuple->destination.port = ntohs(port);
		tuple->fields |= FIELD_DESTINATION_PORT;
		return;
	default:
		return;
	}
}

static bool take_tuple(const struct nlattr *nest, uint8_t family, struct tuple *tuple)
{
	const unsigned all = FIELD_SOURCE | FIELD_DESTINATION | FIELD_PROTOCOL | FIELD_SOURCE_PORT |
			     FIELD_DESTINATION_PORT;
	const uint16_t wanted = family == AF_INET6 ? FAMILY_IPV6 : FAMILY_IPV4;

	*tuple = (struct tuple){0};
	attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == CTA_TUPLE_IP) {
			attr_for_each_nested (address, attr)
				take_address(address, tuple);
		} else if (mnl_attr_get_type(attr) == CTA_TUPLE_PROTO) {
			attr_for_each_nested (field, attr)
				take_protocol(field, tuple);
		} else if (mnl_attr_get_type(attr) == CTA_TUPLE_ZONE) {
			tuple->has_zone = attr_get_u16(attr, &tuple->zone);
		}
	}
	return tuple->fields == all && tuple->source.family == wanted &&
	       tuple->destination.family == wanted &&
	       (tuple->protocol == PROTOCOL_TCP || tuple->protocol == PROTOCOL_UDP);
}

static const struct nfgenmsg *message_of(const struct nlmsghdr *message, uint16_t type)
{
	return message->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | type) &&
			       mnl_nlmsg_get_payload_len(message) >= sizeof(struct nfgenmsg)
		       ? mnl_nlmsg_get_payload(message)
		       : NULL;
}

bool flow_decode(const struct nlmsghdr *message, struct flow *ret)
{
	const struct nfgenmsg *header = message_of(message, IPCTNL_MSG_CT_NEW);
	struct tuple original = {0}, reply = {0};
	bool has_original = false, has_reply = false, has_id = false;

	*ret = (struct flow){0};
	if (!header || (header->nfgen_family != AF_INET && header->nfgen_family != AF_INET6))
		return false;
	attr_for_each_message (attr, message, sizeof(*header)) {
		if (mnl_attr_get_type(attr) == CTA_TUPLE_ORIG)
			has_original = take_tuple(attr, header->nfgen_family, &original);
		else if (mnl_attr_get_type(attr) == CTA_TUPLE_REPLY)
			has_reply = take_tuple(attr, header->nfgen_family, &reply);
		else if (mnl_attr_get_type(attr) == CTA_ID)
			has_id = attr_get_u32(attr, &ret->id);
		else if (mnl_attr_get_type(attr) == CTA_ZONE)
			ret->has_zone = attr_get_u16(attr, &ret->zone);
	}
	ret->from = original.source;
	ret->to = original.destination;
	ret->endpoint = reply.source;
	ret->protocol = original.protocol;
	ret->has_tuple_zone = original.has_zone;
	ret->tuple_zone = original.zone;
	return has_original && has_reply && has_id && original.protocol == reply.protocol;
}

bool flow_decode_count(const struct nlmsghdr *message, uint32_t *ret)
{
	bool found = false;

	if (!message_of(message, IPCTNL_MSG_CT_GET_STATS))
		return false;
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == CTA_STATS_GLOBAL_ENTRIES)
			found = attr_get_be32(attr, ret);
	}
	return found;
}

/* --- Encoding ----------------------------------------------------------------------- */

static struct nlmsghdr *begin(void *into, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(into);
	struct nfgenmsg *header;

	message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	return message;
}

static uint8_t address_family(enum family family)
{
	return family == FAMILY_IPV6 ? AF_INET6 : AF_INET;
}

static void put_address(struct nlmsghdr *message, const struct endpoint *endpoint, bool source)
{
	if (endpoint->family == FAMILY_IPV6)
		mnl_attr_put(message, source ? CTA_IP_V6_SRC : CTA_IP_V6_DST, 16,
			     endpoint->address);
	else
		mnl_attr_put(message, source ? CTA_IP_V4_SRC : CTA_IP_V4_DST, 4, endpoint->address);
}

/* The fields of a tuple that are named; no field of an address, no nest of addresses. */
static void put_tuple(struct nlmsghdr *message, uint16_t type, const struct tuple *tuple)
{
	struct nlattr *nest = mnl_attr_nest_start(message, type), *inner;

	if (tuple->fields & (FIELD_SOURCE | FIELD_DESTINATION)) {
		inner = mnl_attr_nest_start(message, CTA_TUPLE_IP);
		if (tuple->fields & FIELD_SOURCE)
			put_address(message, &tuple->source, true);
		if (tuple->fields & FIELD_DESTINATION)
			put_address(message, &tuple->destination, false);
		mnl_attr_nest_end(message, inner);
	}
	inner = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, tuple->protocol);
	if (tuple->fields & FIELD_SOURCE_PORT)
		mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(tuple->source.port));
	if (tuple->fields & FIELD_DESTINATION_PORT)
		mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(tuple->destination.port));
	mnl_attr_nest_end(message, inner);
	if (tuple->has_zone)
		mnl_attr_put_u16(message, CTA_TUPLE_ZONE, tuple->zone);
	mnl_attr_nest_end(message, nest);
}

struct nlmsghdr *flow_encode_count(void *into)
{
	return begin(into, IPCTNL_MSG_CT_GET_STATS, 0, AF_UNSPEC);
}

struct nlmsghdr *flow_encode_dump(void *into, const struct flow_question *question)
{
	struct nlmsghdr *message = begin(into, IPCTNL_MSG_CT_GET, NLM_F_DUMP,
					 address_family(question->family));
	const bool addresses = question->family == FAMILY_IPV4;
	struct tuple original = {.destination = flow_localhost(question->family, question->port),
				 .protocol = question->protocol,
				 .fields = FIELD_PROTOCOL};
	struct tuple reply = {.source = question->endpoint, .protocol = question->protocol};
	struct nlattr *nest;

	if (addresses)
		original.fields |= FIELD_DESTINATION;
	if (question->has_port)
		original.fields |= FIELD_DESTINATION_PORT;
	if (addresses && question->has_address)
		reply.fields |= FIELD_PROTOCOL | FIELD_SOURCE;
	if (question->has_endpoint_port)
		reply.fields |= FIELD_PROTOCOL | FIELD_SOURCE_PORT;
	put_tuple(message, CTA_TUPLE_ORIG, &original);
	if (reply.fields)
		put_tuple(message, CTA_TUPLE_REPLY, &reply);
	nest = mnl_attr_nest_start(message, CTA_FILTER);
	mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS, original.fields);
	if (reply.fields)
		mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS, reply.fields);
	mnl_attr_nest_end(message, nest);
	return message;
}

struct nlmsghdr *flow_encode_remove(void *into, const struct flow *flow)
{
	struct nlmsghdr *message = begin(into, IPCTNL_MSG_CT_DELETE, 0,
					 address_family((enum family)flow->to.family));
	const struct tuple original = {
		.source = flow->from,
		.destination = flow->to,
		.fields = FIELD_SOURCE | FIELD_DESTINATION | FIELD_SOURCE_PORT |
			  FIELD_DESTINATION_PORT,
		.protocol = flow->protocol,
		.zone = flow->tuple_zone,
		.has_zone = flow->has_tuple_zone,
	};

	put_tuple(message, CTA_TUPLE_ORIG, &original);
	if (flow->has_zone)
		mnl_attr_put_u16(message, CTA_ZONE, flow->zone);
	mnl_attr_put_u32(message, CTA_ID, flow->id);
	return message;
}
