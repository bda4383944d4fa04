/* SPDX-License-Identifier: MIT */
#include "schema.h"

#include <assert.h>
#include <libnftnl/expr.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/memory.h"

/*
 * Table, sets and chains. What is compared of an observed one is what the
 * kernel acts by; user data, which is for nft's listing, may differ.
 */

/* nft's type numbers (its enum datatypes), six bits each in a concatenation. */
enum {
	TYPE_INTEGER = 4,
	TYPE_IPADDR = 7,
	TYPE_IP6ADDR = 8,
	TYPE_INET_PROTOCOL = 12,
	TYPE_INET_SERVICE = 13,
	TYPE_BITS = 6,
};

struct set_shape {
	uint32_t flags;
	uint32_t key_type, key_length;
	uint32_t data_type, data_length;
	bool counter;
};

#define TYPES2(a, b) ((uint32_t)(a) << TYPE_BITS | (uint32_t)(b))
#define TYPES3(a, b, c) (TYPES2(a, b) << TYPE_BITS | (uint32_t)(c))
#define TYPES4(a, b, c, d) (TYPES3(a, b, c) << TYPE_BITS | (uint32_t)(d))

/* Releases of clang-format differ about these. */
/* clang-format off */
#define SERVICES(type, address)                                                                   \
	{                                                                                         \
		.flags = NFT_SET_MAP,                                                             \
		.key_type = TYPES3(type, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE),                  \
		.key_length = (address) + KEY_PROTOCOL + KEY_PORT, .data_type = NFT_DATA_VERDICT, \
	}
#define ENDPOINTS(type, address)                                                                   \
	{                                                                                          \
		.flags = NFT_SET_MAP, .counter = true,                                             \
		.key_type = TYPES4(type, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE, TYPE_INTEGER),     \
		.key_length = (address) + KEY_PROTOCOL + KEY_PORT + KEY_SLOT,                      \
		.data_type = TYPES2(type, TYPE_INET_SERVICE), .data_length = (address) + KEY_PORT, \
	}
/* clang-format on */
#define UNAVAILABLE(type, address)                                               \
	{                                                                        \
		.key_type = TYPES3(type, TYPE_INET_PROTOCOL, TYPE_INET_SERVICE), \
		.key_length = (address) + KEY_PROTOCOL + KEY_PORT,               \
	}

static const struct set_shape shapes[] = {
	[SET_SERVICES4] = SERVICES(TYPE_IPADDR, KEY_ADDRESS4),
	[SET_SERVICES6] = SERVICES(TYPE_IP6ADDR, KEY_ADDRESS6),
	[SET_ENDPOINTS4] = ENDPOINTS(TYPE_IPADDR, KEY_ADDRESS4),
	[SET_ENDPOINTS6] = ENDPOINTS(TYPE_IP6ADDR, KEY_ADDRESS6),
	[SET_UNAVAILABLE4] = UNAVAILABLE(TYPE_IPADDR, KEY_ADDRESS4),
	[SET_UNAVAILABLE6] = UNAVAILABLE(TYPE_IP6ADDR, KEY_ADDRESS6),
};
static_assert(ARRAY_SIZE(shapes) == SET_COUNT, "a shape for each set");

struct base_shape {
	const char *type;
	uint32_t hook;
	int32_t priority;
};

/* Priorities are those of include/uapi/linux/netfilter_ipv4.h (enum nf_ip_hook_priorities). */
static const struct base_shape bases[] = {
	[CHAIN_OUTPUT] = {"nat", NF_INET_LOCAL_OUT, -100},
	[CHAIN_POSTROUTING] = {"nat", NF_INET_POST_ROUTING, 100},
	[CHAIN_GUARD] = {"filter", NF_INET_PRE_ROUTING, -300},
	[CHAIN_UNAVAILABLE] = {"filter", NF_INET_LOCAL_OUT, 0},
};
static_assert(ARRAY_SIZE(bases) == CHAIN_BASE_COUNT, "a hook for each base chain");

unsigned schema_key_length(enum set_kind set)
{
	return shapes[set].key_length;
}

unsigned schema_data_length(enum set_kind set)
{
	return shapes[set].data_length;
}

struct nftnl_table *schema_table(int saved_localnet)
{
	struct nftnl_table *table = nftnl_table_alloc();
	struct nftnl_udata_buf *udata = nftnl_udata_buf_alloc(NFTNL_UDATA_COMMENT_MAXLEN);
	char comment[NFTNL_UDATA_COMMENT_MAXLEN / 2];

	if (!table || !udata)
		goto fail;
	(void)snprintf(comment, sizeof(comment), "dragoman schema=%d route_localnet=%d",
		       SCHEMA_VERSION, saved_localnet);
	nftnl_table_set_u32(table, NFTNL_TABLE_FAMILY, NFPROTO_INET);
	nftnl_udata_put_strz(udata, NFTNL_UDATA_TABLE_COMMENT, comment);
	if (nftnl_table_set_str(table, NFTNL_TABLE_NAME, SCHEMA_TABLE) < 0 ||
	    nftnl_table_set_data(table, NFTNL_TABLE_USERDATA, nftnl_udata_buf_data(udata),
				 nftnl_udata_buf_len(udata)) < 0)
		goto fail;
	nftnl_udata_buf_free(udata);
	return table;
fail:
	if (udata)
		nftnl_udata_buf_free(udata);
	if (table)
		nftnl_table_free(table);
	return NULL;
}

bool schema_comment_parse(const char *comment, int *ret_saved_localnet)
{
	int version, saved, end = 0;

	if (sscanf(comment, "dragoman schema=%d route_localnet=%d%n", &version, &saved, &end) != 2)
		return false;
	if (comment[end] != '\0' || version != SCHEMA_VERSION || saved < 0)
		return false;
	*ret_saved_localnet = saved;
	return true;
}

static int set_typeof(struct nftnl_set *set, enum set_kind kind)
{
	struct nftnl_udata_buf *udata = schema_typeof(kind);
	int r;

	if (!udata)
		return -1;
	r = nftnl_set_set_data(set, NFTNL_SET_USERDATA, nftnl_udata_buf_data(udata),
			       nftnl_udata_buf_len(udata));
	nftnl_udata_buf_free(udata);
	return r;
}

static int set_counter(struct nftnl_set *set)
{
	struct nftnl_expr *counter = nftnl_expr_alloc("counter");

	if (!counter)
		return -1;
	nftnl_set_add_expr(set, counter);
	return 0;
}

struct nftnl_set *schema_set(enum set_kind kind)
{
	const struct set_shape *shape = &shapes[kind];
	struct nftnl_set *set = nftnl_set_alloc();

	if (!set)
		return NULL;
	nftnl_set_set_u32(set, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, shape->flags);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, shape->key_type);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, shape->key_length);
	/* An id is wanted, though we refer to sets by name. */
	nftnl_set_set_u32(set, NFTNL_SET_ID, (uint32_t)kind + 1);
	if (shape->flags & NFT_SET_MAP) {
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, shape->data_type);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, shape->data_length);
	}
	if (nftnl_set_set_str(set, NFTNL_SET_TABLE, SCHEMA_TABLE) < 0 ||
	    nftnl_set_set_str(set, NFTNL_SET_NAME, set_name(kind)) < 0 ||
	    (shape->counter && set_counter(set) < 0) ||
	    ((shape->flags & NFT_SET_MAP) && set_typeof(set, kind) < 0)) {
		nftnl_set_free(set);
		return NULL;
	}
	return set;
}

static int count_expression(struct nftnl_expr *expression, void *user)
{
	int *counters = user;
	const char *name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);

	/* Anything but one counter makes it more than 1. */
	*counters += strcmp(name, "counter") == 0 ? 1 : 2;
	return 0;
}

const char *schema_set_differs(enum set_kind kind, const struct nftnl_set *observed)
{
	const struct set_shape *shape = &shapes[kind];
	/* Set by the kernel where elements have expressions (NFT_SET_EXPR, since 5.11). */
	uint32_t flags = nftnl_set_get_u32(observed, NFTNL_SET_FLAGS) & ~(uint32_t)NFT_SET_EXPR;
	int counters = 0;

	(void)nftnl_set_expr_foreach(observed, count_expression, &counters);
	if (flags != shape->flags)
		return "the flags differ";
	if (nftnl_set_get_u32(observed, NFTNL_SET_KEY_LEN) != shape->key_length)
		return "the key differs";
	if (counters != (shape->counter ? 1 : 0))
		return "the counter differs";
	if (nftnl_set_get_u32(observed, NFTNL_SET_DESC_SIZE) != 0)
		return "its size is limited";
	if (!(shape->flags & NFT_SET_MAP))
		return NULL;
	if ((nftnl_set_get_u32(observed, NFTNL_SET_DATA_TYPE) == NFT_DATA_VERDICT) !=
	    (shape->data_type == NFT_DATA_VERDICT))
		return "the data differs";
	if (shape->data_type != NFT_DATA_VERDICT &&
	    nftnl_set_get_u32(observed, NFTNL_SET_DATA_LEN) != shape->data_length)
		return "the data differs";
	return NULL;
}

struct nftnl_chain *schema_chain(const struct chain *chain)
{
	struct nftnl_chain *object = nftnl_chain_alloc();
	char name[CHAIN_NAME_MAX];
	int r;

	if (!object)
		return NULL;
	nftnl_chain_set_u32(object, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
	r = nftnl_chain_set_str(object, NFTNL_CHAIN_TABLE, SCHEMA_TABLE) < 0 ||
	    nftnl_chain_set_str(object, NFTNL_CHAIN_NAME, chain_format(chain, name)) < 0;
	if (chain->kind < CHAIN_BASE_COUNT) {
		const struct base_shape *base = &bases[chain->kind];

		nftnl_chain_set_u32(object, NFTNL_CHAIN_HOOKNUM, base->hook);
		nftnl_chain_set_s32(object, NFTNL_CHAIN_PRIO, base->priority);
		nftnl_chain_set_u32(object, NFTNL_CHAIN_POLICY, NF_ACCEPT);
		r = r || nftnl_chain_set_str(object, NFTNL_CHAIN_TYPE, base->type) < 0;
	}
	if (!r)
		return object;
	nftnl_chain_free(object);
	return NULL;
}

const char *schema_chain_differs(const struct chain *chain, const struct nftnl_chain *observed)
{
	bool hooked = nftnl_chain_is_set(observed, NFTNL_CHAIN_HOOKNUM);
	const struct base_shape *base;
	const char *type;

	if (chain->kind >= CHAIN_BASE_COUNT)
		return hooked ? "it has a hook" : NULL;
	if (!hooked)
		return "it has no hook";
	base = &bases[chain->kind];
	type = nftnl_chain_get_str(observed, NFTNL_CHAIN_TYPE);
	if (!type || strcmp(type, base->type) != 0)
		return "the type differs";
	if (nftnl_chain_get_u32(observed, NFTNL_CHAIN_HOOKNUM) != base->hook)
		return "the hook differs";
	if (nftnl_chain_get_s32(observed, NFTNL_CHAIN_PRIO) != base->priority)
		return "the priority differs";
	if (nftnl_chain_get_u32(observed, NFTNL_CHAIN_POLICY) != NF_ACCEPT)
		return "the policy differs";
	return NULL;
}
