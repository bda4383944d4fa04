/* SPDX-License-Identifier: MIT */
#include "schema.h"

#include <arpa/inet.h>
#include <libnftnl/expr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/model/document.h"

/*
 * The rules of each chain, expression by expression, in the registers that nft
 * itself would use for the same text, so that a listing that was loaded again
 * is the same to us. Registers are 4 bytes from NFT_REG32_00 on; NFT_REG_1 is
 * another name for the first four. A concatenated key lies in consecutive
 * ones: address, protocol, port, slot.
 *
 *     IPv4: reg 1, 9, 10, 11        IPv6: reg 1 (16 bytes), 2, 13, 14
 */

/* Offsets of addresses in an IPv4 header. */
enum { IP4_SOURCE = 12, IP4_DESTINATION = 16 };

/* Where the size is in TCP's option of the maximum segment size (RFC 9293, 3.2). */
enum { MAXSEG_SIZE = 2 };

/* A rule in the making; a failed allocation is latched. */
struct builder {
	struct nftnl_rule *rule;
	bool failed;
};

static struct nftnl_expr *add(struct builder *builder, const char *name)
{
	struct nftnl_expr *expression = nftnl_expr_alloc(name);

	if (!expression) {
		builder->failed = true;
		return NULL;
	}
	nftnl_rule_add_expr(builder->rule, expression);
	return expression;
}

static void add_meta(struct builder *builder, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *expression = add(builder, "meta");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, reg);
}

static void add_cmp(struct builder *builder, uint32_t op, const void *data, uint32_t length)
{
	struct nftnl_expr *expression = add(builder, "cmp");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_OP, op);
	if (nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, data, length) < 0)
		builder->failed = true;
}

static void add_cmp_u8(struct builder *builder, uint32_t op, uint8_t value)
{
	add_cmp(builder, op, &value, sizeof(value));
}

static void add_payload(struct builder *builder, uint32_t base, uint32_t offset, uint32_t length,
			uint32_t reg)
{
	struct nftnl_expr *expression = add(builder, "payload");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_LEN, length);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

/* map: the data goes to NFT_REG_1; a verdict acts by itself; a set only matches. */
enum lookup_kind { LOOKUP_SET, LOOKUP_VERDICT, LOOKUP_DATA };

static void add_lookup(struct builder *builder, enum set_kind set, enum lookup_kind kind)
{
	struct nftnl_expr *expression = add(builder, "lookup");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_FLAGS, 0);
	if (kind != LOOKUP_SET)
		nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_DREG,
				   kind == LOOKUP_DATA ? NFT_REG_1 : NFT_REG_VERDICT);
	if (nftnl_expr_set_str(expression, NFTNL_EXPR_LOOKUP_SET, set_name(set)) < 0)
		builder->failed = true;
}

static void add_family(struct builder *builder, enum family family)
{
	add_meta(builder, NFT_META_NFPROTO, NFT_REG_1);
	add_cmp_u8(builder, NFT_CMP_EQ, family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
}

/* daddr . meta l4proto . th dport. Returns the register behind it. */
static uint32_t add_key(struct builder *builder, enum family family)
{
	bool v4 = family == FAMILY_IPV4;

	add_family(builder, family);
	add_payload(builder, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24,
		    v4 ? KEY_ADDRESS4 : KEY_ADDRESS6, NFT_REG_1);
	add_meta(builder, NFT_META_L4PROTO, v4 ? NFT_REG32_01 : NFT_REG_2);
	add_payload(builder, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, v4 ? NFT_REG32_02 : NFT_REG32_05);
	return v4 ? NFT_REG32_03 : NFT_REG32_06;
}

static void add_numgen(struct builder *builder, uint32_t type, uint32_t modulus, uint32_t reg)
{
	struct nftnl_expr *expression = add(builder, "numgen");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_DREG, reg);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_MODULUS, modulus);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_TYPE, type);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NG_OFFSET, 0);
}

/* The flags and the upper ends are what the kernel adds by itself, and lists. */
static void add_dnat(struct builder *builder, enum family family)
{
	struct nftnl_expr *expression = add(builder, "nat");
	uint32_t port = family == FAMILY_IPV4 ? NFT_REG32_01 : NFT_REG_2;

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_FAMILY,
			   family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_ADDR_MAX, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN, port);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MAX, port);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_FLAGS,
			   NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
}

static void add_verdict(struct builder *builder, uint32_t verdict)
{
	struct nftnl_expr *expression = add(builder, "immediate");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_VERDICT, verdict);
}

/* iifname != "lo", oifname != "lo" */
static void add_not_lo(struct builder *builder, uint32_t key)
{
	static const char lo[IFNAMSIZ] = "lo";

	add_meta(builder, key, NFT_REG_1);
	add_cmp(builder, NFT_CMP_NEQ, lo, sizeof(lo));
}

static void add_ct(struct builder *builder, uint32_t key, int direction)
{
	struct nftnl_expr *expression = add(builder, "ct");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	if (direction >= 0)
		nftnl_expr_set_u8(expression, NFTNL_EXPR_CT_DIR, (uint8_t)direction);
}

/* ct state new: the state is a bit, by nft_ct of the kernel. */
static void add_state_new(struct builder *builder)
{
	const uint32_t mask = 1U << (IP_CT_NEW + 1), none = 0;
	struct nftnl_expr *expression;

	add_ct(builder, NFT_CT_STATE, -1);
	expression = add(builder, "bitwise");
	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, sizeof(mask));
	if (nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, &mask, sizeof(mask)) < 0 ||
	    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, &none, sizeof(none)) < 0)
		builder->failed = true;
	add_cmp(builder, NFT_CMP_NEQ, &none, sizeof(none));
}

static void add_reject(struct builder *builder, uint32_t type, uint8_t code)
{
	struct nftnl_expr *expression = add(builder, "reject");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_REJECT_TYPE, type);
	nftnl_expr_set_u8(expression, NFTNL_EXPR_REJECT_CODE, code);
}

/* ip daddr . meta l4proto . th dport vmap @services4; then the same for IPv6 */
static void build_output(struct builder *builder, unsigned index)
{
	enum family family = index == 0 ? FAMILY_IPV4 : FAMILY_IPV6;

	(void)add_key(builder, family);
	add_lookup(builder, SET_OF(SET_SERVICES4, family), LOOKUP_VERDICT);
}

/* ip daddr 127.0.0.0/8, ip saddr 127.0.0.0/8, by the offset of the address */
static void add_loopback4(struct builder *builder, uint32_t offset)
{
	add_family(builder, FAMILY_IPV4);
	add_payload(builder, NFT_PAYLOAD_NETWORK_HEADER, offset, 1, NFT_REG_1);
	add_cmp_u8(builder, NFT_CMP_EQ, IN_LOOPBACKNET);
}

/*
 * oifname != "lo" ip saddr 127.0.0.0/8 ct original ip daddr != 127.0.0.0/8 drop
 *
 * With route_localnet a process may send to the network as 127.0.0.1, which a
 * careless host takes for itself. What goes to the loopback is let through,
 * for those that translate it elsewhere. No flow begins that is dropped here,
 * so that each packet comes to this chain.
 */
static void build_no_loopback_source(struct builder *builder)
{
	add_not_lo(builder, NFT_META_OIFNAME);
	add_loopback4(builder, IP4_SOURCE);
	add_ct(builder, NFT_CT_DST_IP, IP_CT_DIR_ORIGINAL);
	add_cmp_u8(builder, NFT_CMP_NEQ, IN_LOOPBACKNET);
	add_verdict(builder, NF_DROP);
}

/* tcp option maxseg size set rt mtu: in network byte order, and never to more than it is */
static void add_segment_of_route(struct builder *builder)
{
	struct nftnl_expr *route = add(builder, "rt"), *order = add(builder, "byteorder");
	struct nftnl_expr *option = add(builder, "exthdr");

	if (!route || !order || !option)
		return;
	nftnl_expr_set_u32(route, NFTNL_EXPR_RT_KEY, NFT_RT_TCPMSS);
	nftnl_expr_set_u32(route, NFTNL_EXPR_RT_DREG, NFT_REG_1);
	nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SREG, NFT_REG_1);
	nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_DREG, NFT_REG_1);
	nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
	nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_LEN, sizeof(uint16_t));
	nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SIZE, sizeof(uint16_t));
	nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_SREG, NFT_REG_1);
	nftnl_expr_set_u8(option, NFTNL_EXPR_EXTHDR_TYPE, TCPOPT_MAXSEG);
	nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OFFSET, MAXSEG_SIZE);
	nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_LEN, sizeof(uint16_t));
	nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
}

/*
 * ct original ip daddr 127.0.0.1 oifname != "lo" tcp option maxseg size set rt mtu
 * the same, masquerade; then both for ::1; then the above
 *
 * A client on the loopback says that it takes segments of 64 KiB, which nobody
 * will send it through a link: hosts with a larger MTU than that link's send too
 * much then, and the others get into the way of what the kernel can put together
 * and take apart by itself.
 */
static void build_postrouting(struct builder *builder, unsigned index)
{
	const uint32_t loopback = htonl(INADDR_LOOPBACK);

	if (index == 4) {
		build_no_loopback_source(builder);
		return;
	}
	if (index < 2) {
		add_ct(builder, NFT_CT_DST_IP, IP_CT_DIR_ORIGINAL);
		add_cmp(builder, NFT_CMP_EQ, &loopback, sizeof(loopback));
	} else {
		add_ct(builder, NFT_CT_DST_IP6, IP_CT_DIR_ORIGINAL);
		add_cmp(builder, NFT_CMP_EQ, &in6addr_loopback, sizeof(in6addr_loopback));
	}
	add_not_lo(builder, NFT_META_OIFNAME);
	/* Who is masqueraded does not come to what is behind. */
	if (index % 2 == 0)
		add_segment_of_route(builder);
	else
		(void)add(builder, "masq");
}

/* ip option lsrr exists, exthdr rt exists */
static void add_exthdr_exists(struct builder *builder, uint32_t op, uint8_t type)
{
	struct nftnl_expr *expression = add(builder, "exthdr");

	if (!expression)
		return;
	nftnl_expr_set_u32(expression, NFTNL_EXPR_EXTHDR_DREG, NFT_REG_1);
	nftnl_expr_set_u8(expression, NFTNL_EXPR_EXTHDR_TYPE, type);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_EXTHDR_OFFSET, 0);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_EXTHDR_LEN, 1);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
	nftnl_expr_set_u32(expression, NFTNL_EXPR_EXTHDR_OP, op);
	add_cmp_u8(builder, NFT_CMP_EQ, 1);
}

/*
 * iifname != "lo" ip daddr 127.0.0.0/8 drop; then saddr
 * ip option lsrr exists iifname != "lo" drop; then ssrr, and exthdr rt
 *
 * A packet with a source route comes to an address that is open, and gets its
 * next destination behind all hooks: 127.0.0.1 where accept_source_route is on
 * (ip_options_rcv_srr() of the kernel), ::1 where seg6_enabled is
 * (ipv6_srh_rcv()), since there is a route to it on that interface now.
 */
static void build_guard(struct builder *builder, unsigned index)
{
	if (index < 2) {
		add_not_lo(builder, NFT_META_IIFNAME);
		add_loopback4(builder, index == 0 ? IP4_DESTINATION : IP4_SOURCE);
	} else {
		bool v4 = index < 4;

		/* First what hardly any packet has: each comes by here. */
		add_family(builder, v4 ? FAMILY_IPV4 : FAMILY_IPV6);
		if (v4)
			add_exthdr_exists(builder, NFT_EXTHDR_OP_IPV4,
					  index == 2 ? IPOPT_LSRR : IPOPT_SSRR);
		else
			add_exthdr_exists(builder, NFT_EXTHDR_OP_IPV6, IPPROTO_ROUTING);
		add_not_lo(builder, NFT_META_IIFNAME);
	}
	add_verdict(builder, NF_DROP);
}

/*
 * ct state new ip daddr . meta l4proto . th dport @unavailable4
 *	meta l4proto tcp reject with tcp reset
 * then udp with icmp port-unreachable; then both for IPv6
 */
static void build_unavailable(struct builder *builder, unsigned index)
{
	enum family family = index < 2 ? FAMILY_IPV4 : FAMILY_IPV6;
	bool tcp = index % 2 == 0;

	add_state_new(builder);
	(void)add_key(builder, family);
	add_lookup(builder, SET_OF(SET_UNAVAILABLE4, family), LOOKUP_SET);
	add_meta(builder, NFT_META_L4PROTO, NFT_REG_1);
	add_cmp_u8(builder, NFT_CMP_EQ, tcp ? IPPROTO_TCP : IPPROTO_UDP);
	if (tcp)
		add_reject(builder, NFT_REJECT_TCP_RST, 0);
	else /* ICMP code 3 (RFC 792), ICMPv6 code 4 (RFC 4443): port unreachable */
		add_reject(builder, NFT_REJECT_ICMP_UNREACH, family == FAMILY_IPV4 ? 3 : 4);
}

/*
 * dnat ip to ip daddr . meta l4proto . th dport . numgen random mod N map @endpoints4
 * and the same with mod 1, for a packet that came here by a verdict of the
 * generation before, when there were more slots
 */
static void build_balance(struct builder *builder, const struct chain *chain, unsigned index)
{
	bool nth = chain->kind == CHAIN_NTH && index == 0;
	uint32_t slot = add_key(builder, (enum family)chain->family);

	add_numgen(builder, nth ? NFT_NG_INCREMENTAL : NFT_NG_RANDOM, index == 0 ? chain->slots : 1,
		   slot);
	add_lookup(builder, SET_OF(SET_ENDPOINTS4, chain->family), LOOKUP_DATA);
	add_dnat(builder, (enum family)chain->family);
}

unsigned schema_rule_count(const struct chain *chain)
{
	switch ((enum chain_kind)chain->kind) {
	case CHAIN_GUARD:
	case CHAIN_POSTROUTING:
		return 5;
	case CHAIN_UNAVAILABLE:
		return 4;
	case CHAIN_OUTPUT:
	case CHAIN_BALANCE:
	case CHAIN_NTH:
		return 2;
	case CHAIN_FOREIGN:
		return 0;
	}
	return 0;
}

static void build(struct builder *builder, const struct chain *chain, unsigned index)
{
	switch ((enum chain_kind)chain->kind) {
	case CHAIN_OUTPUT:
		build_output(builder, index);
		break;
	case CHAIN_POSTROUTING:
		build_postrouting(builder, index);
		break;
	case CHAIN_GUARD:
		build_guard(builder, index);
		break;
	case CHAIN_UNAVAILABLE:
		build_unavailable(builder, index);
		break;
	case CHAIN_BALANCE:
	case CHAIN_NTH:
		build_balance(builder, chain, index);
		break;
	case CHAIN_FOREIGN:
		break;
	}
}

struct nftnl_rule *schema_rule(const struct chain *chain, unsigned index)
{
	struct builder builder = {.rule = nftnl_rule_alloc()};
	char name[CHAIN_NAME_MAX];

	if (!builder.rule)
		return NULL;
	nftnl_rule_set_u32(builder.rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	if (nftnl_rule_set_str(builder.rule, NFTNL_RULE_TABLE, SCHEMA_TABLE) < 0 ||
	    nftnl_rule_set_str(builder.rule, NFTNL_RULE_CHAIN, chain_format(chain, name)) < 0)
		builder.failed = true;
	build(&builder, chain, index);
	if (!builder.failed)
		return builder.rule;
	nftnl_rule_free(builder.rule);
	return NULL;
}

static int find_modulus(struct nftnl_expr *expression, void *user)
{
	unsigned *modulus = user;

	if (strcmp(nftnl_expr_get_str(expression, NFTNL_EXPR_NAME), "numgen") == 0)
		*modulus = nftnl_expr_get_u32(expression, NFTNL_EXPR_NG_MODULUS);
	return 0;
}

unsigned schema_rule_modulus(const struct nftnl_rule *rule)
{
	unsigned modulus = 0;

	/* The library's signature lacks a const that it keeps to. */
	(void)nftnl_expr_foreach((struct nftnl_rule *)(uintptr_t)rule, find_modulus, &modulus);
	return modulus <= SLOTS_MAX ? modulus : 0;
}

static int add_expression_text(struct nftnl_expr *expression, void *user)
{
	struct text *text = user;
	char words[1024];

	if (nftnl_expr_snprintf(words, sizeof(words), expression, NFTNL_OUTPUT_DEFAULT, 0) < 0)
		text->failed = true;
	text_puts(text, nftnl_expr_get_str(expression, NFTNL_EXPR_NAME));
	text_puts(text, " ");
	text_puts(text, words);
	text_puts(text, "\n");
	return 0;
}

void schema_rule_text(const struct nftnl_rule *rule, struct text *ret)
{
	text_add(ret, "", 0);
	(void)nftnl_expr_foreach((struct nftnl_rule *)(uintptr_t)rule, add_expression_text, ret);
}
