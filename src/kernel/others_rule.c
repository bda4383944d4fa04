/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a rule is a sequence of expressions, and a packet that
 * fails one goes on to the next rule. Registers are followed as far as what is
 * loaded into them is known of the connection (its destination, protocol and
 * port), through bitwise masks, up to comparisons: one that is known to fail
 * says no. iptables writes ports as matches of its own, in both its forms.
 */
#include "others_rule.h"

#include <arpa/inet.h>
#include <stdio.h> /* of libnftnl, before it */

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "dragoman/base/memory.h"

enum { REGISTERS = 32, REGISTER_SIZE = 16, INVERTED_PORT = 2 };
enum { OFFSET_PROTOCOL = 9, OFFSET_DESTINATION = 16, OFFSET_PORT = 2 };

struct value {
	size_t length; /* 0: not known */
	uint8_t bytes[REGISTER_SIZE];
};

struct machine {
	const struct listen *listen;
	struct value registers[REGISTERS];
	bool failed; /* a comparison has */
};

static struct value value_of(const void *bytes, size_t length)
{
	struct value value = {.length = length};

	memcpy(value.bytes, bytes, length);
	return value;
}

static struct value destination(void)
{
	const uint32_t address = htonl(INADDR_LOOPBACK);

	return value_of(&address, sizeof(address));
}

static struct value protocol_of(const struct listen *listen)
{
	const uint8_t protocol = (uint8_t)listen->protocol;

	return value_of(&protocol, sizeof(protocol));
}

static struct value port_of(const struct listen *listen)
{
	const uint16_t port = htons(listen->port);

	return value_of(&port, sizeof(port));
}

static struct value *register_at(struct machine *machine, const struct nftnl_expr *expression,
				 uint16_t attribute)
{
	static struct value nowhere;
	uint32_t number = nftnl_expr_get_u32(expression, attribute);

	nowhere = (struct value){0};
	return number < REGISTERS ? &machine->registers[number] : &nowhere;
}

static void run_payload(struct machine *machine, const struct nftnl_expr *expression)
{
	struct value *into = register_at(machine, expression, NFTNL_EXPR_PAYLOAD_DREG);
	uint32_t base = nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_BASE);
	uint32_t offset = nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET);
	uint32_t length = nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_LEN);

	*into = (struct value){0};
	/* A prefix of whole bytes is loaded as far as it goes. */
	if (base == NFT_PAYLOAD_NETWORK_HEADER && offset == OFFSET_DESTINATION && length <= 4)
		*into = destination();
	else if (base == NFT_PAYLOAD_NETWORK_HEADER && offset == OFFSET_PROTOCOL && length == 1)
		*into = protocol_of(machine->listen);
	else if (base == NFT_PAYLOAD_TRANSPORT_HEADER && offset == OFFSET_PORT && length == 2)
		*into = port_of(machine->listen);
	if (into->length)
		into->length = length;
}

static void run_meta(struct machine *machine, const struct nftnl_expr *expression)
{
	struct value *into = register_at(machine, expression, NFTNL_EXPR_META_DREG);
	const uint8_t family = NFPROTO_IPV4;

	if (!nftnl_expr_is_set(expression, NFTNL_EXPR_META_DREG))
		return;
	*into = (struct value){0};
	switch (nftnl_expr_get_u32(expression, NFTNL_EXPR_META_KEY)) {
	case NFT_META_L4PROTO:
		*into = protocol_of(machine->listen);
		break;
	case NFT_META_NFPROTO:
		*into = value_of(&family, sizeof(family));
		break;
	default:
		break;
	}
}

static void run_bitwise(struct machine *machine, const struct nftnl_expr *expression)
{
	const struct value from = *register_at(machine, expression, NFTNL_EXPR_BITWISE_SREG);
	struct value *into = register_at(machine, expression, NFTNL_EXPR_BITWISE_DREG);
	uint32_t mask_length = 0, toggled_length = 0;
	const uint8_t *mask = nftnl_expr_get(expression, NFTNL_EXPR_BITWISE_MASK, &mask_length);
	const uint8_t *toggled = nftnl_expr_get(expression, NFTNL_EXPR_BITWISE_XOR,
						&toggled_length);

	*into = (struct value){0};
	if (!from.length || !mask || !toggled || mask_length != from.length ||
	    toggled_length != from.length)
		return;
	*into = from;
	for (size_t i = 0; i < from.length; i++)
		into->bytes[i] = (uint8_t)((from.bytes[i] & mask[i]) ^ toggled[i]);
}

static void run_compare(struct machine *machine, const struct nftnl_expr *expression)
{
	const struct value *from = register_at(machine, expression, NFTNL_EXPR_CMP_SREG);
	uint32_t op = nftnl_expr_get_u32(expression, NFTNL_EXPR_CMP_OP), length = 0;
	const void *data = nftnl_expr_get(expression, NFTNL_EXPR_CMP_DATA, &length);
	bool equal;

	if (!from->length || !data || length != from->length)
		return;
	equal = memcmp(from->bytes, data, length) == 0;
	machine->failed |= (op == NFT_CMP_EQ && !equal) || (op == NFT_CMP_NEQ && equal);
}

/* Source ports, then destination ports, is how both begin. */
static bool ports_may_match(const uint16_t ports[2], uint8_t inverted, const struct listen *listen)
{
	bool within = listen->port >= ports[0] && listen->port <= ports[1];

	return within != ((inverted & INVERTED_PORT) != 0);
}

/* A match of iptables, by its name. */
static bool match_may_match(const char *name, const void *data, size_t length,
			    const struct listen *listen)
{
	struct xt_tcp tcp;
	struct xt_udp udp;

	if (strcmp(name, "tcp") == 0 && length >= sizeof(tcp)) {
		memcpy(&tcp, data, sizeof(tcp));
		return listen->protocol == PROTOCOL_TCP &&
		       ports_may_match(tcp.dpts, tcp.invflags, listen);
	}
	if (strcmp(name, "udp") == 0 && length >= sizeof(udp)) {
		memcpy(&udp, data, sizeof(udp));
		return listen->protocol == PROTOCOL_UDP &&
		       ports_may_match(udp.dpts, udp.invflags, listen);
	}
	return true;
}

static void run_match(struct machine *machine, const struct nftnl_expr *expression)
{
	const char *name = nftnl_expr_get_str(expression, NFTNL_EXPR_MT_NAME);
	uint32_t length = 0;
	const void *data = nftnl_expr_get(expression, NFTNL_EXPR_MT_INFO, &length);

	if (name && data && !match_may_match(name, data, length, machine->listen))
		machine->failed = true;
}

static int run(struct nftnl_expr *expression, void *user)
{
	static const struct {
		const char *name;
		void (*run)(struct machine *machine, const struct nftnl_expr *expression);
	} known[] = {
		{"payload", run_payload}, {"meta", run_meta},   {"bitwise", run_bitwise},
		{"cmp", run_compare},     {"match", run_match},
	};
	const char *name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);

	for (size_t i = 0; name && i < ARRAY_SIZE(known); i++) {
		if (strcmp(name, known[i].name) == 0)
			known[i].run(user, expression);
	}
	return 0;
}

bool rule_may_match(const struct nftnl_rule *rule, const struct listen *listen)
{
	struct machine machine = {.listen = listen};

	/* The expressions are given as they can be changed, and stay as they are. */
	(void)nftnl_expr_foreach((struct nftnl_rule *)(uintptr_t)rule, run, &machine);
	return !machine.failed;
}

static bool address_may_match(const struct ipt_ip *ip)
{
	bool same = ((htonl(INADDR_LOOPBACK) ^ ip->dst.s_addr) & ip->dmsk.s_addr) == 0;

	return same != ((ip->invflags & IPT_INV_DSTIP) != 0);
}

static bool protocol_may_match(const struct ipt_ip *ip, const struct listen *listen)
{
	bool same = ip->proto == 0 || ip->proto == listen->protocol;

	return same != ((ip->invflags & XT_INV_PROTO) != 0);
}

bool entry_may_match(const void *entry, size_t length, const struct listen *listen)
{
	const char *bytes = entry;
	struct xt_entry_match match;
	struct ipt_entry head;
	size_t at = sizeof(head);

	if (length < sizeof(head))
		return true;
	memcpy(&head, bytes, sizeof(head));
	if (!address_may_match(&head.ip) || !protocol_may_match(&head.ip, listen))
		return false;
	while (at + sizeof(match) <= head.target_offset && head.target_offset <= length) {
		char name[sizeof(match.u.user.name) + 1] = "";
		size_t size;

		memcpy(&match, bytes + at, sizeof(match));
		size = match.u.match_size;
		if (size < sizeof(match) || at + size > head.target_offset)
			return true;
		memcpy(name, match.u.user.name, sizeof(match.u.user.name));
		if (!match_may_match(name, bytes + at + sizeof(match), size - sizeof(match),
				     listen))
			return false;
		at += size;
	}
	return true;
}
