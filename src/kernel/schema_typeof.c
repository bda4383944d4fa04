/* SPDX-License-Identifier: MIT */
#include "schema.h"

#include <libnftnl/udata.h>
#include <stdint.h>

/*
 * nft(8) keeps in a map's user data which expressions its key and data are
 * made of; with them `nft list` prints a `typeof` that loads again, without
 * them it has no name for a key that ends in a number generator's result. The
 * format is nft's own and written down nowhere: type, length and value, one
 * byte each for the first two, numbers in host byte order. This is what nft
 * 1.0.6 writes, read with `nft --debug=mnl`; 1.1.3 reads it as well.
 */

enum { UDATA_SIZE = 256 };

/* nft's numbers for expressions (its enum expr_types). */
enum { EXPR_VERDICT = 1, EXPR_PAYLOAD = 7, EXPR_META = 9, EXPR_CONCAT = 13, EXPR_NUMGEN = 23 };

/* nft's numbers for the header fields and meta keys that our keys are made of. */
enum {
	DESC_TH = 11,
	DESC_IP = 12,
	DESC_IP6 = 13,
	FIELD_TH_DPORT = 2,
	FIELD_IP_DADDR = 12,
	FIELD_IP6_DADDR = 9,
	META_L4PROTO = 16,
	NUMGEN_RANDOM = 1,
};

/* Which values stand below an expression, by their own types. */
enum { TYPEOF_EXPR = 0, TYPEOF_DATA = 1 };
enum { VALUE_FIRST, VALUE_SECOND, VALUE_THIRD };

static void put_payload(struct nftnl_udata_buf *buffer, uint8_t type, uint32_t desc, uint32_t field)
{
	struct nftnl_udata *part = nftnl_udata_nest_start(buffer, type);
	struct nftnl_udata *data;

	nftnl_udata_put_u32(buffer, TYPEOF_EXPR, EXPR_PAYLOAD);
	data = nftnl_udata_nest_start(buffer, TYPEOF_DATA);
	nftnl_udata_put_u32(buffer, VALUE_FIRST, desc);
	nftnl_udata_put_u32(buffer, VALUE_SECOND, field);
	nftnl_udata_nest_end(buffer, data);
	nftnl_udata_nest_end(buffer, part);
}

static void put_address(struct nftnl_udata_buf *buffer, uint8_t type, enum family family)
{
	if (family == FAMILY_IPV4)
		put_payload(buffer, type, DESC_IP, FIELD_IP_DADDR);
	else
		put_payload(buffer, type, DESC_IP6, FIELD_IP6_DADDR);
}

static void put_l4proto(struct nftnl_udata_buf *buffer, uint8_t type)
{
	struct nftnl_udata *part = nftnl_udata_nest_start(buffer, type);
	struct nftnl_udata *data;

	nftnl_udata_put_u32(buffer, TYPEOF_EXPR, EXPR_META);
	data = nftnl_udata_nest_start(buffer, TYPEOF_DATA);
	nftnl_udata_put_u32(buffer, VALUE_FIRST, META_L4PROTO);
	nftnl_udata_nest_end(buffer, data);
	nftnl_udata_nest_end(buffer, part);
}

/* numgen random mod 2: the modulus does not matter for the type, and 2 is the least usual. */
static void put_slot(struct nftnl_udata_buf *buffer, uint8_t type)
{
	struct nftnl_udata *part = nftnl_udata_nest_start(buffer, type);
	struct nftnl_udata *data;

	nftnl_udata_put_u32(buffer, TYPEOF_EXPR, EXPR_NUMGEN);
	data = nftnl_udata_nest_start(buffer, TYPEOF_DATA);
	nftnl_udata_put_u32(buffer, VALUE_FIRST, NUMGEN_RANDOM);
	nftnl_udata_put_u32(buffer, VALUE_SECOND, 2);
	nftnl_udata_put_u32(buffer, VALUE_THIRD, 0);
	nftnl_udata_nest_end(buffer, data);
	nftnl_udata_nest_end(buffer, part);
}

/* daddr . meta l4proto . th dport, and with `slots` . numgen random mod 2 */
static void put_key(struct nftnl_udata_buf *buffer, enum family family, bool slots)
{
	struct nftnl_udata *key = nftnl_udata_nest_start(buffer, NFTNL_UDATA_SET_KEY_TYPEOF);
	struct nftnl_udata *parts;

	nftnl_udata_put_u32(buffer, TYPEOF_EXPR, EXPR_CONCAT);
	parts = nftnl_udata_nest_start(buffer, TYPEOF_DATA);
	put_address(buffer, 0, family);
	put_l4proto(buffer, 1);
	put_payload(buffer, 2, DESC_TH, FIELD_TH_DPORT);
	if (slots)
		put_slot(buffer, 3);
	nftnl_udata_nest_end(buffer, parts);
	nftnl_udata_nest_end(buffer, key);
}

/* verdict, or with `slots` daddr . th dport */
static void put_data(struct nftnl_udata_buf *buffer, enum family family, bool slots)
{
	struct nftnl_udata *data = nftnl_udata_nest_start(buffer, NFTNL_UDATA_SET_DATA_TYPEOF);
	struct nftnl_udata *parts;

	nftnl_udata_put_u32(buffer, TYPEOF_EXPR, slots ? EXPR_CONCAT : EXPR_VERDICT);
	parts = nftnl_udata_nest_start(buffer, TYPEOF_DATA);
	if (slots) {
		put_address(buffer, 0, family);
		put_payload(buffer, 1, DESC_TH, FIELD_TH_DPORT);
	}
	nftnl_udata_nest_end(buffer, parts);
	nftnl_udata_nest_end(buffer, data);
}

struct nftnl_udata_buf *schema_typeof(enum set_kind set)
{
	enum family family = set % 2 ? FAMILY_IPV6 : FAMILY_IPV4;
	bool slots = set == SET_ENDPOINTS4 || set == SET_ENDPOINTS6;
	struct nftnl_udata_buf *buffer = nftnl_udata_buf_alloc(UDATA_SIZE);

	if (!buffer)
		return NULL;
	nftnl_udata_put_u32(buffer, NFTNL_UDATA_SET_KEYBYTEORDER, 0);
	nftnl_udata_put_u32(buffer, NFTNL_UDATA_SET_DATABYTEORDER, 0);
	put_key(buffer, family, slots);
	put_data(buffer, family, slots);
	nftnl_udata_put_u32(buffer, NFTNL_UDATA_SET_DATA_INTERVAL, 0);
	return buffer;
}
