/* SPDX-License-Identifier: MIT */
#include "layout.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "layout_rules.h"
#include "state.h"

/* Sizes in the kernel: a field of a concatenated key is padded to 4 bytes. */
enum { FIELD = 4, KEY4 = 3 * FIELD, KEY6 = 16 + 2 * FIELD, SLOT_KEY4 = 4 * FIELD };

/* An attribute's length has 16 bits. */
enum { LIST_MAX = 60 * 1024 };

enum { NEW = NLM_F_CREATE | NLM_F_EXCL };

static const char comment[] = "dragoman schema=1 route_localnet=0";

static const char *const names[] = {
	[LAYOUT_SERVICES] = "services4",
	[LAYOUT_ENDPOINTS] = "endpoints4",
	[LAYOUT_UNAVAILABLE6] = "unavailable6",
};

static void put_be32(struct nlmsghdr *message, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(message, type, htonl(value));
}

/* --- Table, sets, chains ----------------------------------------------------- */

static void put_table(struct batch *batch)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWTABLE, NEW);
	/* As nft(8) keeps a comment: type 0, length, text. */
	char data[sizeof(comment) + 2] = {0, sizeof(comment)};

	memcpy(data + 2, comment, sizeof(comment));
	mnl_attr_put_strz(message, NFTA_TABLE_NAME, LAYOUT_TABLE);
	mnl_attr_put(message, NFTA_TABLE_USERDATA, sizeof(data), data);
	batch_close(batch, message);
}

struct set_shape {
	const char *name;
	uint32_t flags, key_length, data_type, data_length;
	bool counter;
};

static void put_set(struct batch *batch, const struct set_shape *shape, uint32_t id)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWSET, NEW);
	struct nlattr *nest;

	mnl_attr_put_strz(message, NFTA_SET_TABLE, LAYOUT_TABLE);
	mnl_attr_put_strz(message, NFTA_SET_NAME, shape->name);
	put_be32(message, NFTA_SET_ID, id);
	put_be32(message, NFTA_SET_FLAGS, shape->flags);
	put_be32(message, NFTA_SET_KEY_TYPE, 0);
	put_be32(message, NFTA_SET_KEY_LEN, shape->key_length);
	if (shape->flags & NFT_SET_MAP) {
		put_be32(message, NFTA_SET_DATA_TYPE, shape->data_type);
		put_be32(message, NFTA_SET_DATA_LEN, shape->data_length);
	}
	if (shape->counter) {
		nest = mnl_attr_nest_start(message, NFTA_SET_EXPR);
		mnl_attr_put_strz(message, NFTA_EXPR_NAME, "counter");
		mnl_attr_nest_end(message, nest);
	}
	batch_close(batch, message);
}

static void put_sets(struct batch *batch)
{
	static const struct set_shape shapes[] = {
		{"services4", NFT_SET_MAP, KEY4, NFT_DATA_VERDICT, 0, false},
		{"services6", NFT_SET_MAP, KEY6, NFT_DATA_VERDICT, 0, false},
		{"endpoints4", NFT_SET_MAP, SLOT_KEY4, 0, 2 * FIELD, true},
		{"endpoints6", NFT_SET_MAP, KEY6 + FIELD, 0, 16 + FIELD, true},
		{"unavailable4", 0, KEY4, 0, 0, false},
		{"unavailable6", 0, KEY6, 0, 0, false},
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		put_set(batch, &shapes[i], (uint32_t)i + 1);
}

struct chain_shape {
	const char *name, *type;
	uint32_t hook;
	int32_t priority;
	unsigned rules;
	layout_rule *rule;
};

static void put_chain(struct batch *batch, const struct chain_shape *shape)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWCHAIN, NEW);
	struct nlattr *nest;

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, LAYOUT_TABLE);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, shape->name);
	if (shape->type) {
		nest = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
		put_be32(message, NFTA_HOOK_HOOKNUM, shape->hook);
		put_be32(message, NFTA_HOOK_PRIORITY, (uint32_t)shape->priority);
		mnl_attr_nest_end(message, nest);
		put_be32(message, NFTA_CHAIN_POLICY, NF_ACCEPT);
		mnl_attr_put_strz(message, NFTA_CHAIN_TYPE, shape->type);
	}
	batch_close(batch, message);
}

static void put_rules(struct batch *batch, const struct chain_shape *shape, unsigned slots)
{
	for (unsigned i = 0; i < shape->rules; i++) {
		struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWRULE,
						      NLM_F_CREATE | NLM_F_APPEND);
		struct nlattr *nest;

		mnl_attr_put_strz(message, NFTA_RULE_TABLE, LAYOUT_TABLE);
		mnl_attr_put_strz(message, NFTA_RULE_CHAIN, shape->name);
		nest = mnl_attr_nest_start(message, NFTA_RULE_EXPRESSIONS);
		shape->rule(message, i, slots);
		mnl_attr_nest_end(message, nest);
		batch_close(batch, message);
	}
}

void layout_structure(struct batch *batch)
{
	static const struct chain_shape shapes[] = {
		{"output", "nat", NF_INET_LOCAL_OUT, -100, 2, rule_output},
		{"postrouting", "nat", NF_INET_POST_ROUTING, 100, 5, rule_postrouting},
		{"guard", "filter", NF_INET_PRE_ROUTING, -300, 5, rule_guard},
		{"unavailable", "filter", NF_INET_LOCAL_OUT, 0, 4, rule_unavailable},
	};

	put_table(batch);
	put_sets(batch);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		put_chain(batch, &shapes[i]);
		put_rules(batch, &shapes[i], 0);
	}
}

static void chain_name(char *into, size_t size, unsigned slots)
{
	(void)snprintf(into, size, "balance4-%u", slots);
}

void layout_balance(struct batch *batch, unsigned slots)
{
	char name[32];
	const struct chain_shape shape = {.name = name, .rules = 2, .rule = rule_balance};

	chain_name(name, sizeof(name), slots);
	put_chain(batch, &shape);
	put_rules(batch, &shape, slots);
}

void layout_remove_table(struct batch *batch)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_DELTABLE, 0);

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, LAYOUT_TABLE);
	batch_close(batch, message);
}

/* --- Elements ---------------------------------------------------------------- */

struct layout_list layout_open(struct batch *batch, enum layout_set set, bool adding)
{
	return (struct layout_list){.batch = batch, .set = set, .adding = adding};
}

void layout_close(struct layout_list *list)
{
	if (!list->message)
		return;
	mnl_attr_nest_end(list->message, list->list);
	batch_close(list->batch, list->message);
	list->message = NULL;
}

static void begin_list(struct nlmsghdr *message, enum layout_set set)
{
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, LAYOUT_TABLE);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, names[set]);
}

static void make_room(struct layout_list *list)
{
	if (list->message &&
	    (const char *)mnl_nlmsg_get_payload_tail(list->message) - (const char *)list->list >
		    LIST_MAX)
		layout_close(list);
	if (list->message)
		return;
	list->message = batch_open(list->batch,
				   list->adding ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				   list->adding ? NEW : 0);
	begin_list(list->message, list->set);
	list->list = mnl_attr_nest_start(list->message, NFTA_SET_ELEM_LIST_ELEMENTS);
}

/* 127.0.0.1 or ::1, tcp, the port, and of endpoints the slot. Returns the length. */
static size_t make_key(uint8_t *into, enum layout_set set, uint16_t port, uint32_t slot)
{
	const uint32_t loopback = htonl(INADDR_LOOPBACK);
	const uint16_t wire = htons(port);
	size_t at = set == LAYOUT_UNAVAILABLE6 ? sizeof(in6addr_loopback) : sizeof(loopback);

	memset(into, 0, KEY6 + FIELD);
	if (set == LAYOUT_UNAVAILABLE6)
		memcpy(into, &in6addr_loopback, sizeof(in6addr_loopback));
	else
		memcpy(into, &loopback, sizeof(loopback));
	into[at] = IPPROTO_TCP;
	at += FIELD;
	memcpy(into + at, &wire, sizeof(wire));
	at += FIELD;
	if (set == LAYOUT_ENDPOINTS) {
		memcpy(into + at, &slot, sizeof(slot));
		at += FIELD;
	}
	return at;
}

static struct nlattr *open_element(struct nlmsghdr *message, enum layout_set set, uint16_t port,
				   uint32_t slot)
{
	struct nlattr *element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	struct nlattr *nest = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
	uint8_t key[KEY6 + FIELD];
	size_t length = make_key(key, set, port, slot);

	mnl_attr_put(message, NFTA_DATA_VALUE, length, key);
	mnl_attr_nest_end(message, nest);
	return element;
}

void layout_service(struct layout_list *list, uint16_t port, unsigned slots)
{
	struct nlattr *element, *data, *verdict;
	char name[32];

	make_room(list);
	element = open_element(list->message, list->set, port, 0);
	if (slots) {
		chain_name(name, sizeof(name), slots);
		data = mnl_attr_nest_start(list->message, NFTA_SET_ELEM_DATA);
		verdict = mnl_attr_nest_start(list->message, NFTA_DATA_VERDICT);
		put_be32(list->message, NFTA_VERDICT_CODE, (uint32_t)NFT_GOTO);
		mnl_attr_put_strz(list->message, NFTA_VERDICT_CHAIN, name);
		mnl_attr_nest_end(list->message, verdict);
		mnl_attr_nest_end(list->message, data);
	}
	mnl_attr_nest_end(list->message, element);
}

void layout_endpoint(struct layout_list *list, uint16_t port, unsigned slot, uint32_t address)
{
	struct nlattr *element, *data;
	uint8_t value[2 * FIELD] = {0};
	const uint32_t wire = htonl(address);
	const uint16_t wire_port = htons(STATE_ENDPOINT_PORT);

	make_room(list);
	element = open_element(list->message, list->set, port, slot);
	if (address) {
		memcpy(value, &wire, sizeof(wire));
		memcpy(value + FIELD, &wire_port, sizeof(wire_port));
		data = mnl_attr_nest_start(list->message, NFTA_SET_ELEM_DATA);
		mnl_attr_put(list->message, NFTA_DATA_VALUE, sizeof(value), value);
		mnl_attr_nest_end(list->message, data);
	}
	mnl_attr_nest_end(list->message, element);
}

void layout_unavailable6(struct layout_list *list, uint16_t port)
{
	make_room(list);
	mnl_attr_nest_end(list->message, open_element(list->message, list->set, port, 0));
}

/* --- Questions --------------------------------------------------------------- */

static struct nlmsghdr *ask(char *buffer, enum layout_set set, uint16_t flags)
{
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	memset(buffer, 0, LAYOUT_ASK);
	message = mnl_nlmsg_put_header(buffer);
	message->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = NFPROTO_INET;
	header->version = NFNETLINK_V0;
	begin_list(message, set);
	return message;
}

struct nlmsghdr *layout_ask_endpoint(char *buffer, uint16_t port, unsigned slot)
{
	struct nlmsghdr *message = ask(buffer, LAYOUT_ENDPOINTS, NLM_F_ACK);
	struct nlattr *list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);

	mnl_attr_nest_end(message, open_element(message, LAYOUT_ENDPOINTS, port, slot));
	mnl_attr_nest_end(message, list);
	return message;
}

struct nlmsghdr *layout_ask_all(char *buffer, enum layout_set set)
{
	return ask(buffer, set, NLM_F_DUMP);
}
