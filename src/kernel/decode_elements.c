/* SPDX-License-Identifier: MIT */
#include "decode.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "dragoman/model/document.h"
#include "element.h"
#include "schema.h"

static_assert((int)SLOTS_MAX <= 1 << 12 && (int)SET_COUNT <= 1 << 3,
	      "they share a number of 32 bits");

/*
 * Theory of operation
 *
 * The kernel keeps elements in a hash table, which it resizes in the
 * background, after a transaction that changed many of them. A dump goes
 * through it from its start for each message, and passes over as many elements
 * as it gave before: where the order has changed in between, some come twice,
 * and as many do not come at all. Neither the generation nor NLM_F_DUMP_INTR
 * tells of that, so an element that comes twice makes the dump void.
 */

enum { SEEN_SIZE_MIN = 256 };

/* An element, by the parts of it that are there. */
struct parts {
	const void *key;
	size_t key_length;
	const void *data;
	size_t data_length;
	uint32_t verdict;
	const char *chain; /* of a verdict */
	uint64_t packets, bytes;
	bool catchall;
};

static void read_data(const struct nlattr *nest, struct parts *parts)
{
	attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) == NFTA_DATA_VALUE) {
			parts->data = mnl_attr_get_payload(attr);
			parts->data_length = mnl_attr_get_payload_len(attr);
		}
		if (mnl_attr_get_type(attr) != NFTA_DATA_VERDICT)
			continue;
		attr_for_each_nested (verdict, attr) {
			if (mnl_attr_get_type(verdict) == NFTA_VERDICT_CODE)
				(void)attr_get_be32(verdict, &parts->verdict);
			else if (mnl_attr_get_type(verdict) == NFTA_VERDICT_CHAIN)
				parts->chain = attr_get_text(verdict);
		}
	}
}

/* An expression of the element: for us, its counter. */
static void read_expression(const struct nlattr *nest, struct parts *parts)
{
	attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) != NFTA_EXPR_DATA)
			continue;
		attr_for_each_nested (value, attr) {
			if (mnl_attr_get_type(value) == NFTA_COUNTER_PACKETS)
				(void)attr_get_be64(value, &parts->packets);
			else if (mnl_attr_get_type(value) == NFTA_COUNTER_BYTES)
				(void)attr_get_be64(value, &parts->bytes);
		}
	}
}

static void read_key(const struct nlattr *nest, struct parts *parts)
{
	attr_for_each_nested (attr, nest) {
		if (mnl_attr_get_type(attr) != NFTA_DATA_VALUE)
			continue;
		parts->key = mnl_attr_get_payload(attr);
		parts->key_length = mnl_attr_get_payload_len(attr);
	}
}

static void read_element(const struct nlattr *element, struct parts *parts)
{
	uint32_t flags;

	attr_for_each_nested (attr, element) {
		switch (mnl_attr_get_type(attr)) {
		case NFTA_SET_ELEM_KEY:
			read_key(attr, parts);
			break;
		case NFTA_SET_ELEM_DATA:
			read_data(attr, parts);
			break;
		case NFTA_SET_ELEM_EXPR:
			read_expression(attr, parts);
			break;
		case NFTA_SET_ELEM_FLAGS:
			parts->catchall = attr_get_be32(attr, &flags) &&
					  (flags & NFT_SET_ELEM_CATCHALL);
			break;
		default:
			break;
		}
	}
}

static int add_stray(struct decoder *decoder, const struct parts *parts)
{
	struct observed *observed = decoder->observed;
	struct observed_stray *stray;

	if (decode_too_much(decoder, observed->stray_count))
		return 0;
	if (array_reserve(&decoder->strays, &decoder->stray_capacity, observed->stray_count, 1,
			  sizeof(*decoder->strays)) < 0)
		return -ENOMEM;
	stray = &decoder->strays[observed->stray_count++];
	*stray = (struct observed_stray){.set = (uint8_t)decoder->set,
					 .key_length = (uint8_t)parts->key_length};
	memcpy(stray->key, parts->key, parts->key_length);
	return 0;
}

static int add_service(struct decoder *decoder, const struct parts *parts,
		       const struct listen *listen)
{
	struct observed *observed = decoder->observed;
	struct chain target = {.kind = CHAIN_FOREIGN};

	if (parts->chain && parts->verdict == (uint32_t)NFT_GOTO)
		target = chain_parse(parts->chain);
	if (array_reserve(&decoder->services, &decoder->service_capacity, observed->service_count,
			  1, sizeof(*decoder->services)) < 0)
		return -ENOMEM;
	decoder->services[observed->service_count++] = (struct observed_service){
		.listen = *listen, .family = decoder->set % 2, .target = target};
	return 0;
}

static int add_endpoint(struct decoder *decoder, const struct parts *parts,
			const struct listen *listen, unsigned slot)
{
	struct observed *observed = decoder->observed;
	size_t address = decoder->set % 2 ? KEY_ADDRESS6 : KEY_ADDRESS4;
	struct observed_endpoint *added;
	uint16_t port;

	if (array_reserve(&decoder->endpoints, &decoder->endpoint_capacity,
			  observed->endpoint_count, 1, sizeof(*decoder->endpoints)) < 0)
		return -ENOMEM;
	added = &decoder->endpoints[observed->endpoint_count++];
	*added = (struct observed_endpoint){
		.listen = *listen,
		.slot = (uint16_t)slot,
		.endpoint.family = decoder->set % 2,
		.packets = parts->packets,
		.bytes = parts->bytes,
	};
	/* Data of another length cannot be in a map of our shape; it reads as none of ours. */
	if (parts->data_length < address + sizeof(port))
		return 0;
	memcpy(added->endpoint.address, parts->data, address);
	memcpy(&port, (const char *)parts->data + address, sizeof(port));
	added->endpoint.port = ntohs(port);
	return 0;
}

static int add_unavailable(struct decoder *decoder, const struct listen *listen)
{
	struct observed *observed = decoder->observed;

	if (array_reserve(&decoder->unavailable, &decoder->unavailable_capacity,
			  observed->unavailable_count, 1, sizeof(*decoder->unavailable)) < 0)
		return -ENOMEM;
	decoder->unavailable[observed->unavailable_count++] = (struct observed_unavailable){
		.listen = *listen, .family = decoder->set % 2};
	return 0;
}

/* Where an element is in the table, or its free place. */
static uint32_t *seen_find(uint32_t *table, size_t size, uint32_t element)
{
	size_t at = element * UINT32_C(2654435761) >> 7 & (size - 1);

	while (table[at] && table[at] != element)
		at = (at + 1) & (size - 1);
	return &table[at];
}

static int seen_grow(struct decoder *decoder)
{
	size_t size = decoder->seen_size ? 4 * decoder->seen_size : SEEN_SIZE_MIN;
	uint32_t *table = calloc(size, sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < decoder->seen_size; i++) {
		if (decoder->seen[i])
			*seen_find(table, size, decoder->seen[i]) = decoder->seen[i];
	}
	free(decoder->seen);
	decoder->seen = table;
	decoder->seen_size = size;
	return 0;
}

/* -EAGAIN where the element came before. */
static int note_seen(struct decoder *decoder, const struct listen *listen, unsigned slot)
{
	uint32_t element = (uint32_t)decoder->set << 29 |
			   (uint32_t)(listen->protocol == PROTOCOL_UDP) << 28 |
			   (uint32_t)listen->port << 12 | slot;
	uint32_t *place;

	if (2 * decoder->seen_count >= decoder->seen_size && seen_grow(decoder) < 0)
		return -ENOMEM;
	/* No port is 0, so no element is either. */
	place = seen_find(decoder->seen, decoder->seen_size, element);
	if (*place)
		return -EAGAIN;
	*place = element;
	decoder->seen_count++;
	return 0;
}

static int take_element(struct decoder *decoder, const struct nlattr *element)
{
	struct parts parts = {0};
	struct listen listen;
	unsigned slot;
	int r;

	read_element(element, &parts);
	if (parts.catchall || !parts.key || parts.key_length > ELEMENT_KEY_MAX) {
		/* It has no key to remove it by. */
		if (!decoder->observed->foreign)
			decoder->observed->foreign = "a map with an element for everything (*)";
		return 0;
	}
	if (!element_parse_key(decoder->set, parts.key, parts.key_length, &listen, &slot))
		return add_stray(decoder, &parts);
	r = note_seen(decoder, &listen, slot);
	if (r < 0)
		return r;
	switch (decoder->set) {
	case SET_SERVICES4:
	case SET_SERVICES6:
		return add_service(decoder, &parts, &listen);
	case SET_ENDPOINTS4:
	case SET_ENDPOINTS6:
		return add_endpoint(decoder, &parts, &listen, slot);
	case SET_UNAVAILABLE4:
	case SET_UNAVAILABLE6:
		return add_unavailable(decoder, &listen);
	case SET_FOREIGN:
		break;
	}
	return 0;
}

int decode_elements(const struct nlmsghdr *message, void *user)
{
	struct decoder *decoder = user;
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	int r = 0;

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return -EBADMSG;
	if (ntohs(header->res_id) != (uint16_t)decoder->observed->generation)
		return -EAGAIN;
	attr_for_each_message (attr, message, sizeof(*header)) {
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		attr_for_each_nested (element, attr) {
			if (mnl_attr_get_type(element) == NFTA_LIST_ELEM && r == 0)
				r = take_element(decoder, element);
		}
	}
	return r;
}
