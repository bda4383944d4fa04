/* SPDX-License-Identifier: MIT */
#include "encode.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "element.h"
#include "schema.h"

/*
 * Theory of operation
 *
 * The order of a batch: what is to be pointed to comes before what points to
 * it, and leaves after it.
 *
 *     table    removed, added
 *     sets     added
 *     rules    of chains that are refilled or leave: removed
 *     chains   added, and filled
 *     elements strays removed; of each set: old ones removed, new ones added
 *     sets     removed
 *     chains   removed
 *
 * An element cannot be changed, only removed and added under the same key; in
 * one transaction no packet sees the gap. Elements of one set and direction
 * share messages; a message is closed before its list of elements, an
 * attribute, outgrows what 16 bits of length can say.
 *
 * Additions say NLM_F_EXCL: what stands already although the plan did not see
 * it is an error, not a success.
 */

enum {
	ELEMENTS_MAX = 60 * 1024,
	/* Of the first message of a batch, which the kernel may have to send back (batch_echo()).
	 */
	ELEMENTS_FIRST = 2 * 1024,
	/* Of one element, with all that can be in it. */
	ELEMENT_ROOM = 512,
};

enum { NEW = NLM_F_CREATE | NLM_F_EXCL };

static void fail_unless(struct batch *batch, bool ok)
{
	if (!ok)
		batch->failed = true;
}

static void put_table(struct batch *batch, const struct verdicts *verdicts)
{
	struct nlmsghdr *message;
	struct nftnl_table *table;

	if (verdicts->table_remove) {
		message = batch_open(batch, NFT_MSG_DELTABLE, 0);
		if (!message)
			return;
		mnl_attr_put_strz(message, NFTA_TABLE_NAME, SCHEMA_TABLE);
		batch_close(batch, message);
	}
	if (!verdicts->table_add)
		return;
	table = schema_table(verdicts->saved_localnet);
	message = batch_open(batch, NFT_MSG_NEWTABLE, NEW);
	fail_unless(batch, table);
	if (table && message) {
		nftnl_table_nlmsg_build_payload(message, table);
		batch_close(batch, message);
	}
	if (table)
		nftnl_table_free(table);
}

static void put_set(struct batch *batch, enum set_kind kind)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWSET, NEW);
	struct nftnl_set *set = schema_set(kind);

	fail_unless(batch, set);
	if (set && message) {
		nftnl_set_nlmsg_build_payload(message, set);
		batch_close(batch, message);
	}
	if (set)
		nftnl_set_free(set);
}

/* A message that names one object of our table. */
static void put_named(struct batch *batch, uint16_t type, uint16_t table_attribute,
		      uint16_t name_attribute, const char *name)
{
	struct nlmsghdr *message = batch_open(batch, type, 0);

	if (!message)
		return;
	mnl_attr_put_strz(message, table_attribute, SCHEMA_TABLE);
	mnl_attr_put_strz(message, name_attribute, name);
	batch_close(batch, message);
}

static void put_sets(struct batch *batch, const struct verdicts *verdicts, enum verdict verdict)
{
	for (size_t i = 0; i < verdicts->set_count; i++) {
		const struct set_verdict *set = &verdicts->sets[i];

		if (set->verdict != verdict)
			continue;
		if (verdict == VERDICT_REMOVE)
			put_named(batch, NFT_MSG_DELSET, NFTA_SET_TABLE, NFTA_SET_NAME,
				  set->name ? set->name : set_name(set->set));
		else
			put_set(batch, set->set);
	}
}

static const char *name_of(const struct chain_verdict *chain, char *into)
{
	return chain->name ? chain->name : chain_format(&chain->chain, into);
}

/* Without a handle, DELRULE takes all rules of a chain. */
static void put_rule_removals(struct batch *batch, const struct verdicts *verdicts)
{
	char name[CHAIN_NAME_MAX];

	for (size_t i = 0; i < verdicts->chain_count; i++) {
		if (verdicts->chains[i].verdict != VERDICT_ADD)
			put_named(batch, NFT_MSG_DELRULE, NFTA_RULE_TABLE, NFTA_RULE_CHAIN,
				  name_of(&verdicts->chains[i], name));
	}
}

static void put_chain(struct batch *batch, const struct chain *chain)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWCHAIN, NEW);
	struct nftnl_chain *object = schema_chain(chain);

	fail_unless(batch, object);
	if (object && message) {
		nftnl_chain_nlmsg_build_payload(message, object);
		batch_close(batch, message);
	}
	if (object)
		nftnl_chain_free(object);
}

static void put_rule(struct batch *batch, const struct chain *chain, unsigned index)
{
	struct nlmsghdr *message = batch_open(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	struct nftnl_rule *rule = schema_rule(chain, index);

	fail_unless(batch, rule);
	if (rule && message) {
		nftnl_rule_nlmsg_build_payload(message, rule);
		batch_close(batch, message);
	}
	if (rule)
		nftnl_rule_free(rule);
}

static void put_chains(struct batch *batch, const struct verdicts *verdicts)
{
	for (size_t i = 0; i < verdicts->chain_count; i++) {
		const struct chain_verdict *chain = &verdicts->chains[i];

		if (chain->verdict == VERDICT_REMOVE)
			continue;
		if (chain->verdict == VERDICT_ADD)
			put_chain(batch, &chain->chain);
		for (unsigned rule = 0; rule < schema_rule_count(&chain->chain); rule++)
			put_rule(batch, &chain->chain, rule);
	}
}

static void put_chain_removals(struct batch *batch, const struct verdicts *verdicts)
{
	char name[CHAIN_NAME_MAX];

	for (size_t i = 0; i < verdicts->chain_count; i++) {
		if (verdicts->chains[i].verdict == VERDICT_REMOVE)
			put_named(batch, NFT_MSG_DELCHAIN, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME,
				  name_of(&verdicts->chains[i], name));
	}
}

/* Elements of one set in one direction, as many to a message as fit. */
struct elements {
	struct batch *batch;
	enum set_kind set;
	uint16_t type, flags;
	struct nlmsghdr *message;
	size_t list;  /* where it begins in the message */
	size_t limit; /* of the list, in bytes */
};

static void elements_close(struct elements *elements)
{
	if (!elements->message)
		return;
	mnl_attr_nest_end(elements->message, (void *)((char *)elements->message + elements->list));
	batch_close(elements->batch, elements->message);
	elements->message = NULL;
}

/* Room for one more element; false when memory is exhausted. */
static bool elements_room(struct elements *elements)
{
	struct nlattr *list;

	if (elements->message && elements->message->nlmsg_len - elements->list < elements->limit) {
		elements->message = batch_extend(elements->batch, elements->message, ELEMENT_ROOM);
		return elements->message;
	}
	elements_close(elements);
	elements->limit = batch_is_empty(elements->batch) ? ELEMENTS_FIRST : ELEMENTS_MAX;
	elements->message = batch_open(elements->batch, elements->type, elements->flags);
	if (!elements->message)
		return false;
	mnl_attr_put_strz(elements->message, NFTA_SET_ELEM_LIST_TABLE, SCHEMA_TABLE);
	mnl_attr_put_strz(elements->message, NFTA_SET_ELEM_LIST_SET, set_name(elements->set));
	list = mnl_attr_nest_start(elements->message, NFTA_SET_ELEM_LIST_ELEMENTS);
	elements->list = (size_t)((char *)list - (char *)elements->message);
	return true;
}

static struct nlattr *put_key(struct elements *elements, const void *key, size_t length)
{
	struct nlattr *element = mnl_attr_nest_start(elements->message, NFTA_LIST_ELEM);
	struct nlattr *nest = mnl_attr_nest_start(elements->message, NFTA_SET_ELEM_KEY);

	mnl_attr_put(elements->message, NFTA_DATA_VALUE, length, key);
	mnl_attr_nest_end(elements->message, nest);
	return element;
}

static struct nlattr *put_listen(struct elements *elements, const struct listen *listen,
				 unsigned slot)
{
	uint8_t key[ELEMENT_KEY_MAX];

	return put_key(elements, key, element_key(elements->set, listen, slot, key));
}

static void put_goto(struct nlmsghdr *message, const struct chain *target)
{
	struct nlattr *data = mnl_attr_nest_start(message, NFTA_SET_ELEM_DATA);
	struct nlattr *verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
	char name[CHAIN_NAME_MAX];

	mnl_attr_put_u32(message, NFTA_VERDICT_CODE, htonl((uint32_t)NFT_GOTO));
	mnl_attr_put_strz(message, NFTA_VERDICT_CHAIN, chain_format(target, name));
	mnl_attr_nest_end(message, verdict);
	mnl_attr_nest_end(message, data);
}

/* address . port, the port padded to 4 bytes */
static void put_endpoint(struct nlmsghdr *message, const struct endpoint *endpoint)
{
	struct nlattr *data = mnl_attr_nest_start(message, NFTA_SET_ELEM_DATA);
	size_t address = endpoint->family == FAMILY_IPV4 ? KEY_ADDRESS4 : KEY_ADDRESS6;
	uint8_t value[KEY_ADDRESS6 + KEY_PORT] = {0};
	const uint16_t port = htons(endpoint->port);

	memcpy(value, endpoint->address, address);
	memcpy(value + address, &port, sizeof(port));
	mnl_attr_put(message, NFTA_DATA_VALUE, address + KEY_PORT, value);
	mnl_attr_nest_end(message, data);
}

/* Only where there is something to carry over: the set's own counter starts at 0. */
static void put_counter(struct nlmsghdr *message, uint64_t packets, uint64_t bytes)
{
	struct nlattr *expression, *data;

	if (!packets && !bytes)
		return;
	expression = mnl_attr_nest_start(message, NFTA_SET_ELEM_EXPR);
	mnl_attr_put_strz(message, NFTA_EXPR_NAME, "counter");
	data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
	mnl_attr_put_u64(message, NFTA_COUNTER_BYTES, htobe64(bytes));
	mnl_attr_put_u64(message, NFTA_COUNTER_PACKETS, htobe64(packets));
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, expression);
}

static struct elements removals(struct batch *batch, enum set_kind set)
{
	return (struct elements){.batch = batch, .set = set, .type = NFT_MSG_DELSETELEM};
}

static struct elements additions(struct batch *batch, enum set_kind set)
{
	return (struct elements){
		.batch = batch, .set = set, .type = NFT_MSG_NEWSETELEM, .flags = NEW};
}

static void put_strays(struct batch *batch, const struct verdicts *verdicts)
{
	for (size_t i = 0; i < verdicts->stray_count; i++) {
		const struct observed_stray *stray = &verdicts->strays[i];
		struct elements elements = removals(batch, (enum set_kind)stray->set);

		if (!elements_room(&elements))
			return;
		mnl_attr_nest_end(elements.message,
				  put_key(&elements, stray->key, stray->key_length));
		elements_close(&elements);
	}
}

static void put_endpoints(struct batch *batch, const struct verdicts *verdicts, enum family family,
			  bool adding)
{
	enum set_kind set = SET_OF(SET_ENDPOINTS4, family);
	struct elements elements = adding ? additions(batch, set) : removals(batch, set);

	for (size_t i = 0; i < verdicts->endpoint_count; i++) {
		const struct endpoint_verdict *endpoint = &verdicts->endpoints[i];
		struct nlattr *element;

		if (endpoint->endpoint.family != family ||
		    endpoint->verdict == (adding ? VERDICT_REMOVE : VERDICT_ADD))
			continue;
		if (!elements_room(&elements))
			return;
		element = put_listen(&elements, &endpoint->listen, endpoint->slot);
		if (adding) {
			put_endpoint(elements.message, &endpoint->endpoint);
			put_counter(elements.message, endpoint->packets, endpoint->bytes);
		}
		mnl_attr_nest_end(elements.message, element);
	}
	elements_close(&elements);
}

static void put_services(struct batch *batch, const struct verdicts *verdicts, enum family family,
			 bool adding)
{
	enum set_kind set = SET_OF(SET_SERVICES4, family);
	struct elements elements = adding ? additions(batch, set) : removals(batch, set);

	for (size_t i = 0; i < verdicts->service_count; i++) {
		const struct service_verdict *service = &verdicts->services[i];
		struct nlattr *element;

		if (service->family != family ||
		    service->verdict == (adding ? VERDICT_REMOVE : VERDICT_ADD))
			continue;
		if (!elements_room(&elements))
			return;
		element = put_listen(&elements, &service->listen, 0);
		if (adding)
			put_goto(elements.message, &service->target);
		mnl_attr_nest_end(elements.message, element);
	}
	elements_close(&elements);
}

static void put_unavailable(struct batch *batch, const struct verdicts *verdicts,
			    enum family family, bool adding)
{
	enum set_kind set = SET_OF(SET_UNAVAILABLE4, family);
	struct elements elements = adding ? additions(batch, set) : removals(batch, set);

	for (size_t i = 0; i < verdicts->unavailable_count; i++) {
		const struct unavailable_verdict *unavailable = &verdicts->unavailable[i];

		if (unavailable->family != family ||
		    unavailable->verdict == (adding ? VERDICT_REMOVE : VERDICT_ADD))
			continue;
		if (!elements_room(&elements))
			return;
		mnl_attr_nest_end(elements.message, put_listen(&elements, &unavailable->listen, 0));
	}
	elements_close(&elements);
}

int encode_verdicts(struct batch *batch, const struct verdicts *verdicts, uint32_t *ret_last_seq)
{
	batch_begin(batch, verdicts->generation);
	put_table(batch, verdicts);
	put_sets(batch, verdicts, VERDICT_ADD);
	put_rule_removals(batch, verdicts);
	put_chains(batch, verdicts);
	put_strays(batch, verdicts);
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		for (unsigned adding = 0; adding < 2; adding++) {
			put_endpoints(batch, verdicts, (enum family)family, adding);
			put_services(batch, verdicts, (enum family)family, adding);
			put_unavailable(batch, verdicts, (enum family)family, adding);
		}
	}
	/* A foreign map may hold verdicts that go to a foreign chain. */
	put_sets(batch, verdicts, VERDICT_REMOVE);
	put_chain_removals(batch, verdicts);
	*ret_last_seq = batch_end(batch);
	return batch->failed ? -ENOMEM : 0;
}
