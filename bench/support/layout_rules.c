/* SPDX-License-Identifier: MIT */
#include "layout_rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdbool.h>

struct expression {
	struct nlmsghdr *message;
	struct nlattr *element, *data;
};

static struct expression open_expression(struct nlmsghdr *message, const char *name)
{
	struct expression opened = {.message = message,
				    .element = mnl_attr_nest_start(message, NFTA_LIST_ELEM)};

	mnl_attr_put_strz(message, NFTA_EXPR_NAME, name);
	opened.data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
	return opened;
}

static void close_expression(const struct expression *opened)
{
	mnl_attr_nest_end(opened->message, opened->data);
	mnl_attr_nest_end(opened->message, opened->element);
}

static void put(struct nlmsghdr *message, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(message, type, htonl(value));
}

static void put_value(struct nlmsghdr *message, uint16_t type, const void *value, size_t length)
{
	struct nlattr *nest = mnl_attr_nest_start(message, type);

	mnl_attr_put(message, NFTA_DATA_VALUE, length, value);
	mnl_attr_nest_end(message, nest);
}

static void meta(struct nlmsghdr *message, uint32_t key, uint32_t reg)
{
	struct expression opened = open_expression(message, "meta");

	put(message, NFTA_META_KEY, key);
	put(message, NFTA_META_DREG, reg);
	close_expression(&opened);
}

static void cmp(struct nlmsghdr *message, uint32_t op, const void *value, size_t length)
{
	struct expression opened = open_expression(message, "cmp");

	put(message, NFTA_CMP_SREG, NFT_REG_1);
	put(message, NFTA_CMP_OP, op);
	put_value(message, NFTA_CMP_DATA, value, length);
	close_expression(&opened);
}

static void cmp_byte(struct nlmsghdr *message, uint32_t op, uint8_t value)
{
	cmp(message, op, &value, sizeof(value));
}

static void payload(struct nlmsghdr *message, uint32_t base, uint32_t offset, uint32_t length,
		    uint32_t reg)
{
	struct expression opened = open_expression(message, "payload");

	put(message, NFTA_PAYLOAD_DREG, reg);
	put(message, NFTA_PAYLOAD_BASE, base);
	put(message, NFTA_PAYLOAD_OFFSET, offset);
	put(message, NFTA_PAYLOAD_LEN, length);
	close_expression(&opened);
}

/* result: NFT_REG_1 of a map, NFT_REG_VERDICT of a verdict map, or -1 of a set. */
static void lookup(struct nlmsghdr *message, const char *set, int result)
{
	struct expression opened = open_expression(message, "lookup");

	mnl_attr_put_strz(message, NFTA_LOOKUP_SET, set);
	put(message, NFTA_LOOKUP_SREG, NFT_REG_1);
	if (result >= 0)
		put(message, NFTA_LOOKUP_DREG, (uint32_t)result);
	close_expression(&opened);
}

static void drop(struct nlmsghdr *message)
{
	struct expression opened = open_expression(message, "immediate");
	struct nlattr *data, *verdict;

	put(message, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = mnl_attr_nest_start(message, NFTA_IMMEDIATE_DATA);
	verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
	put(message, NFTA_VERDICT_CODE, NF_DROP);
	mnl_attr_nest_end(message, verdict);
	mnl_attr_nest_end(message, data);
	close_expression(&opened);
}

/* direction: -1 where the key has none. */
static void ct(struct nlmsghdr *message, uint32_t key, int direction)
{
	struct expression opened = open_expression(message, "ct");

	put(message, NFTA_CT_DREG, NFT_REG_1);
	put(message, NFTA_CT_KEY, key);
	if (direction >= 0)
		mnl_attr_put_u8(message, NFTA_CT_DIRECTION, (uint8_t)direction);
	close_expression(&opened);
}

static void state_new(struct nlmsghdr *message)
{
	const uint32_t mask = 1U << (IP_CT_NEW + 1), none = 0;
	struct expression opened;

	ct(message, NFT_CT_STATE, -1);
	opened = open_expression(message, "bitwise");
	put(message, NFTA_BITWISE_SREG, NFT_REG_1);
	put(message, NFTA_BITWISE_DREG, NFT_REG_1);
	put(message, NFTA_BITWISE_LEN, sizeof(mask));
	put_value(message, NFTA_BITWISE_MASK, &mask, sizeof(mask));
	put_value(message, NFTA_BITWISE_XOR, &none, sizeof(none));
	close_expression(&opened);
	cmp(message, NFT_CMP_NEQ, &none, sizeof(none));
}

static void not_lo(struct nlmsghdr *message, uint32_t key)
{
	static const char lo[IFNAMSIZ] = "lo";

	meta(message, key, NFT_REG_1);
	cmp(message, NFT_CMP_NEQ, lo, sizeof(lo));
}

static void protocol(struct nlmsghdr *message, bool v4)
{
	meta(message, NFT_META_NFPROTO, NFT_REG_1);
	cmp_byte(message, NFT_CMP_EQ, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
}

/* daddr . meta l4proto . th dport, in consecutive registers */
static void key(struct nlmsghdr *message, bool v4)
{
	protocol(message, v4);
	payload(message, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, v4 ? 4 : 16, NFT_REG_1);
	meta(message, NFT_META_L4PROTO, v4 ? NFT_REG32_01 : NFT_REG_2);
	payload(message, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, v4 ? NFT_REG32_02 : NFT_REG32_05);
}

/* daddr or saddr 127.0.0.0/8, by the offset in the header */
static void loopback4(struct nlmsghdr *message, uint32_t offset)
{
	protocol(message, true);
	payload(message, NFT_PAYLOAD_NETWORK_HEADER, offset, 1, NFT_REG_1);
	cmp_byte(message, NFT_CMP_EQ, IN_LOOPBACKNET);
}

void rule_output(struct nlmsghdr *message, unsigned index, unsigned slots)
{
	(void)slots;
	key(message, index == 0);
	lookup(message, index == 0 ? "services4" : "services6", NFT_REG_VERDICT);
}

/* tcp option maxseg size set rt mtu */
static void segment_of_route(struct nlmsghdr *message)
{
	struct expression opened = open_expression(message, "rt");

	put(message, NFTA_RT_KEY, NFT_RT_TCPMSS);
	put(message, NFTA_RT_DREG, NFT_REG_1);
	close_expression(&opened);
	opened = open_expression(message, "byteorder");
	put(message, NFTA_BYTEORDER_SREG, NFT_REG_1);
	put(message, NFTA_BYTEORDER_DREG, NFT_REG_1);
	put(message, NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
	put(message, NFTA_BYTEORDER_LEN, 2);
	put(message, NFTA_BYTEORDER_SIZE, 2);
	close_expression(&opened);
	opened = open_expression(message, "exthdr");
	put(message, NFTA_EXTHDR_SREG, NFT_REG_1);
	mnl_attr_put_u8(message, NFTA_EXTHDR_TYPE, TCPOPT_MAXSEG);
	put(message, NFTA_EXTHDR_OFFSET, 2);
	put(message, NFTA_EXTHDR_LEN, 2);
	put(message, NFTA_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
	close_expression(&opened);
}

void rule_postrouting(struct nlmsghdr *message, unsigned index, unsigned slots)
{
	const uint32_t loopback = htonl(INADDR_LOOPBACK);
	struct expression opened;

	(void)slots;
	if (index == 4) {
		not_lo(message, NFT_META_OIFNAME);
		loopback4(message, 12);
		ct(message, NFT_CT_DST_IP, IP_CT_DIR_ORIGINAL);
		cmp_byte(message, NFT_CMP_NEQ, IN_LOOPBACKNET);
		drop(message);
		return;
	}
	ct(message, index < 2 ? NFT_CT_DST_IP : NFT_CT_DST_IP6, IP_CT_DIR_ORIGINAL);
	if (index < 2)
		cmp(message, NFT_CMP_EQ, &loopback, sizeof(loopback));
	else
		cmp(message, NFT_CMP_EQ, &in6addr_loopback, sizeof(in6addr_loopback));
	not_lo(message, NFT_META_OIFNAME);
	if (index % 2 == 0) {
		segment_of_route(message);
		return;
	}
	opened = open_expression(message, "masq");
	close_expression(&opened);
}

static void header_exists(struct nlmsghdr *message, uint32_t op, uint8_t type)
{
	struct expression opened = open_expression(message, "exthdr");

	put(message, NFTA_EXTHDR_DREG, NFT_REG_1);
	mnl_attr_put_u8(message, NFTA_EXTHDR_TYPE, type);
	put(message, NFTA_EXTHDR_OFFSET, 0);
	put(message, NFTA_EXTHDR_LEN, 1);
	put(message, NFTA_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
	put(message, NFTA_EXTHDR_OP, op);
	close_expression(&opened);
	cmp_byte(message, NFT_CMP_EQ, 1);
}

void rule_guard(struct nlmsghdr *message, unsigned index, unsigned slots)
{
	bool v4 = index < 4;

	(void)slots;
	if (index < 2) {
		not_lo(message, NFT_META_IIFNAME);
		loopback4(message, index == 0 ? 16 : 12);
	} else {
		protocol(message, v4);
		if (v4)
			header_exists(message, NFT_EXTHDR_OP_IPV4,
				      index == 2 ? IPOPT_LSRR : IPOPT_SSRR);
		else
			header_exists(message, NFT_EXTHDR_OP_IPV6, IPPROTO_ROUTING);
		not_lo(message, NFT_META_IIFNAME);
	}
	drop(message);
}

void rule_unavailable(struct nlmsghdr *message, unsigned index, unsigned slots)
{
	bool v4 = index < 2, tcp = index % 2 == 0;
	struct expression opened;

	(void)slots;
	state_new(message);
	key(message, v4);
	lookup(message, v4 ? "unavailable4" : "unavailable6", -1);
	meta(message, NFT_META_L4PROTO, NFT_REG_1);
	cmp_byte(message, NFT_CMP_EQ, tcp ? IPPROTO_TCP : IPPROTO_UDP);
	opened = open_expression(message, "reject");
	put(message, NFTA_REJECT_TYPE, tcp ? NFT_REJECT_TCP_RST : NFT_REJECT_ICMP_UNREACH);
	/* Port unreachable: of ICMP, of ICMPv6. */
	mnl_attr_put_u8(message, NFTA_REJECT_ICMP_CODE, tcp ? 0 : v4 ? 3 : 4);
	close_expression(&opened);
}

void rule_balance(struct nlmsghdr *message, unsigned index, unsigned slots)
{
	struct expression opened;

	key(message, true);
	opened = open_expression(message, "numgen");
	put(message, NFTA_NG_DREG, NFT_REG32_03);
	put(message, NFTA_NG_MODULUS, index == 0 ? slots : 1);
	put(message, NFTA_NG_TYPE, NFT_NG_RANDOM);
	put(message, NFTA_NG_OFFSET, 0);
	close_expression(&opened);
	lookup(message, "endpoints4", NFT_REG_1);
	opened = open_expression(message, "nat");
	put(message, NFTA_NAT_TYPE, NFT_NAT_DNAT);
	put(message, NFTA_NAT_FAMILY, NFPROTO_IPV4);
	put(message, NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
	put(message, NFTA_NAT_REG_PROTO_MIN, NFT_REG32_01);
	close_expression(&opened);
}
