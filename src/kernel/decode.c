/* SPDX-License-Identifier: MIT */
#include "decode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "element.h"
#include "schema.h"

/*
 * Theory of operation
 *
 * Names decide what an object is meant to be, the schema whether it is that.
 * One of another shape under a name of ours makes the whole table `foreign`,
 * with the reason: it is then replaced rather than mended.
 *
 * A chain is intact when its rules, in their order, do what those of the
 * schema do. Rules come chain by chain, so one chain at a time is looked at.
 *
 * libnftnl may be older than the kernel, and than what others have put into
 * the namespace: what it cannot read is none of ours, and in our table it is
 * foreign. Chains of other tables are not shown to it at all. That it could not
 * read something may also be for want of memory; only errno tells (unread()).
 *
 * There may be very many elements, so these are taken apart by hand, and
 * everything else by libnftnl.
 */

void decoder_done(struct decoder *decoder)
{
	free(decoder->chains);
	free(decoder->foreign_sets);
	free(decoder->services);
	free(decoder->endpoints);
	free(decoder->unavailable);
	free(decoder->strays);
	free(decoder->seen);
}

/* Each message of a dump carries the low half of its generation. */
static int check_generation(const struct decoder *decoder, const struct nlmsghdr *message)
{
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return -EBADMSG;
	return ntohs(header->res_id) == (uint16_t)decoder->observed->generation ? 0 : -EAGAIN;
}

static void set_foreign(struct decoder *decoder, const char *what, const char *name,
			const char *difference)
{
	struct observed *observed = decoder->observed;

	if (observed->foreign)
		return;
	observed->foreign = arena_printf(decoder->arena, "%s%s%s: %s", what, name ? " " : "",
					 name ? name : "", difference);
	if (!observed->foreign)
		observed->foreign = "it is not of our schema";
}

/*
 * Finds the comment in a table's user data: type, length and value, a byte each
 * for the first two. Whoever made the table wrote them, and libnftnl's own
 * walk takes the lengths on trust.
 */
static void read_comment(struct observed *observed, const uint8_t *data, size_t length)
{
	enum { HEADER = 2 };

	while (length >= HEADER && data[1] <= length - HEADER) {
		const char *value = (const char *)data + HEADER;

		if (data[0] == NFTNL_UDATA_TABLE_COMMENT && data[1] && value[data[1] - 1] == '\0' &&
		    !schema_comment_parse(value, &observed->saved_localnet))
			observed->saved_localnet = -1;
		length -= HEADER + data[1];
		data += HEADER + data[1];
	}
}

/*
 * What libnftnl's failing to read a message comes to: -ENOMEM, or 0, and it is
 * foreign. errno was 0 before.
 */
static int unread(struct decoder *decoder, const char *what, const char *name)
{
	if (errno == ENOMEM)
		return -ENOMEM;
	set_foreign(decoder, what, name, "it cannot be read");
	return 0;
}

/* One of a message's strings, or NULL. */
static const char *text_attr(const struct nlmsghdr *message, uint16_t type)
{
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == type)
			return attr_get_text(attr);
	}
	return NULL;
}

static bool is_in_our_table(const struct nlmsghdr *message, uint16_t table_attribute)
{
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	const char *table = text_attr(message, table_attribute);

	return header->nfgen_family == NFPROTO_INET && table && strcmp(table, SCHEMA_TABLE) == 0;
}

static void take_table(struct decoder *decoder, const struct nftnl_table *table)
{
	struct observed *observed = decoder->observed;
	uint32_t length;
	const void *udata = nftnl_table_get_data(table, NFTNL_TABLE_USERDATA, &length);

	if (udata)
		read_comment(observed, udata, length);
	if (nftnl_table_get_u32(table, NFTNL_TABLE_FLAGS))
		set_foreign(decoder, "table", NULL, "it has flags");
	else if (observed->saved_localnet < 0)
		set_foreign(decoder, "table", NULL, "the comment is not ours");
}

int decode_table(const struct nlmsghdr *message, void *user)
{
	struct decoder *decoder = user;
	struct nftnl_table *table;
	int r = check_generation(decoder, message);

	if (r < 0)
		return r;
	table = nftnl_table_alloc();
	if (!table)
		return -ENOMEM;
	decoder->observed->table = true;
	decoder->observed->saved_localnet = -1;
	errno = 0;
	if (nftnl_table_nlmsg_parse(message, table) < 0)
		r = unread(decoder, "table", NULL);
	else
		take_table(decoder, table);
	nftnl_table_free(table);
	return r;
}

bool decode_too_much(struct decoder *decoder, size_t count)
{
	if (count < DECODE_FOREIGN_MAX)
		return false;
	set_foreign(decoder, "table", NULL, "too much in it is not ours");
	return true;
}

static int add_foreign_set(struct decoder *decoder, const char *name)
{
	struct observed *observed = decoder->observed;
	char *copy;

	if (decode_too_much(decoder, observed->foreign_set_count))
		return 0;
	copy = arena_text(decoder->arena, name, strlen(name));
	if (!copy ||
	    array_reserve(&decoder->foreign_sets, &decoder->foreign_set_capacity,
			  observed->foreign_set_count, 1, sizeof(*decoder->foreign_sets)) < 0)
		return -ENOMEM;
	decoder->foreign_sets[observed->foreign_set_count++] = (struct observed_set){
		.kind = SET_FOREIGN, .name = copy};
	return 0;
}

static int take_set(struct decoder *decoder, const struct nftnl_set *set)
{
	const char *name = nftnl_set_get_str(set, NFTNL_SET_NAME);
	const char *difference;
	enum set_kind kind;

	if (!name || (nftnl_set_get_u32(set, NFTNL_SET_FLAGS) & NFT_SET_ANONYMOUS))
		return 0;
	kind = set_parse(name);
	if (kind == SET_FOREIGN)
		return add_foreign_set(decoder, name);
	difference = schema_set_differs(kind, set);
	if (difference)
		set_foreign(decoder, kind < SET_UNAVAILABLE4 ? "map" : "set", name, difference);
	decoder->observed->has_set[kind] = !difference;
	return 0;
}

int decode_set(const struct nlmsghdr *message, void *user)
{
	struct decoder *decoder = user;
	struct nftnl_set *set;
	int r = check_generation(decoder, message);

	if (r < 0 || !is_in_our_table(message, NFTA_SET_TABLE))
		return r;
	set = nftnl_set_alloc();
	if (!set)
		return -ENOMEM;
	errno = 0;
	if (nftnl_set_nlmsg_parse(message, set) < 0)
		r = unread(decoder, "set", text_attr(message, NFTA_SET_NAME));
	else
		r = take_set(decoder, set);
	nftnl_set_free(set);
	return r;
}

static int take_chain(struct decoder *decoder, const struct nftnl_chain *chain)
{
	struct observed *observed = decoder->observed;
	const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
	struct observed_chain *taken;
	const char *difference;
	struct chain parsed;

	if (!name)
		return 0;
	parsed = chain_parse(name);
	if (parsed.kind == CHAIN_FOREIGN && decode_too_much(decoder, decoder->foreign_chains++))
		return 0;
	if (array_reserve(&decoder->chains, &decoder->chain_capacity, observed->chain_count, 1,
			  sizeof(*decoder->chains)) < 0)
		return -ENOMEM;
	taken = &decoder->chains[observed->chain_count];
	*taken = (struct observed_chain){.chain = parsed,
					 .name = arena_text(decoder->arena, name, strlen(name))};
	if (!taken->name)
		return -ENOMEM;
	observed->chain_count++;
	if (taken->chain.kind == CHAIN_FOREIGN)
		return 0;
	difference = schema_chain_differs(&taken->chain, chain);
	if (difference)
		set_foreign(decoder, "chain", name, difference);
	return 0;
}

int decode_chain(const struct nlmsghdr *message, void *user)
{
	struct decoder *decoder = user;
	struct nftnl_chain *chain;
	int r = check_generation(decoder, message);

	if (r < 0 || !is_in_our_table(message, NFTA_CHAIN_TABLE))
		return r;
	chain = nftnl_chain_alloc();
	if (!chain)
		return -ENOMEM;
	errno = 0;
	if (nftnl_chain_nlmsg_parse(message, chain) < 0)
		r = unread(decoder, "chain", text_attr(message, NFTA_CHAIN_NAME));
	else
		r = take_chain(decoder, chain);
	nftnl_chain_free(chain);
	return r;
}

static int compare_chains(const void *a, const void *b)
{
	const struct observed_chain *x = a, *y = b;

	return strcmp(x->name, y->name);
}

void decode_chains_end(struct decoder *decoder)
{
	if (decoder->observed->chain_count)
		qsort(decoder->chains, decoder->observed->chain_count, sizeof(*decoder->chains),
		      compare_chains);
}

/* Closes the chain at hand: what was right so far is right if it was all of it. */
static void close_chain(struct decoder *decoder)
{
	struct observed_chain *chain = decoder->chain;

	if (chain)
		chain->intact = chain->intact && decoder->rules == schema_rule_count(&chain->chain);
	decoder->chain = NULL;
}

void decode_rules_end(struct decoder *decoder)
{
	close_chain(decoder);
}

static void open_chain(struct decoder *decoder, const char *name)
{
	const struct observed_chain wanted = {.name = name};

	if (decoder->chain && strcmp(decoder->chain->name, name) == 0)
		return;
	close_chain(decoder);
	if (!decoder->observed->chain_count)
		return;
	decoder->chain = bsearch(&wanted, decoder->chains, decoder->observed->chain_count,
				 sizeof(*decoder->chains), compare_chains);
	decoder->rules = 0;
	if (decoder->chain)
		decoder->chain->intact = decoder->chain->chain.kind != CHAIN_FOREIGN;
}

/* Whether an observed rule is the index-th of a chain's. Returns 1, 0 or -ENOMEM. */
static int rule_matches(struct chain *chain, unsigned index, const struct nftnl_rule *observed)
{
	CLEANUP(text_done) struct text wanted = {0};
	CLEANUP(text_done) struct text found = {0};
	struct nftnl_rule *rule;

	if (index >= schema_rule_count(chain))
		return 0;
	/* How far an nth chain counts stands in its rule, not in its name. */
	if (chain->kind == CHAIN_NTH && index == 0)
		chain->slots = (uint16_t)schema_rule_modulus(observed);
	rule = schema_rule(chain, index);
	if (!rule)
		return -ENOMEM;
	schema_rule_text(rule, &wanted);
	schema_rule_text(observed, &found);
	nftnl_rule_free(rule);
	if (wanted.failed || found.failed)
		return -ENOMEM;
	return strcmp(wanted.data, found.data) == 0;
}

static int take_rule(struct decoder *decoder, const struct nlmsghdr *message)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();
	int r = 0;

	if (!rule)
		return -ENOMEM;
	errno = 0;
	if (nftnl_rule_nlmsg_parse(message, rule) == 0)
		r = rule_matches(&decoder->chain->chain, decoder->rules, rule);
	else if (errno == ENOMEM)
		r = -ENOMEM;
	nftnl_rule_free(rule);
	if (r < 0)
		return r;
	decoder->chain->intact = decoder->chain->intact && r;
	decoder->rules++;
	return 0;
}

int decode_rule(const struct nlmsghdr *message, void *user)
{
	struct decoder *decoder = user;
	const char *table = NULL, *chain = NULL;
	int r = check_generation(decoder, message);

	if (r < 0)
		return r;
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_RULE_TABLE)
			table = attr_get_text(attr);
		else if (mnl_attr_get_type(attr) == NFTA_RULE_CHAIN)
			chain = attr_get_text(attr);
	}
	if (!table || !chain || strcmp(table, SCHEMA_TABLE) != 0)
		return 0;
	open_chain(decoder, chain);
	return decoder->chain ? take_rule(decoder, message) : 0;
}

/* Moves an array into the arena, and its memory back. */
static int settle(struct arena *arena, void *array, size_t count, size_t size, void *ret)
{
	void *from, *to = arena_array(arena, count, size);

	if (!to)
		return -ENOMEM;
	memcpy(&from, array, sizeof(from));
	if (count)
		memcpy(to, from, count * size);
	free(from);
	from = NULL;
	memcpy(array, &from, sizeof(from));
	memcpy(ret, &to, sizeof(to));
	return 0;
}

int decode_finish(struct decoder *decoder)
{
	struct observed *observed = decoder->observed;
	struct arena *arena = decoder->arena;

	if (settle(arena, &decoder->chains, observed->chain_count, sizeof(*decoder->chains),
		   &observed->chains) < 0 ||
	    settle(arena, &decoder->foreign_sets, observed->foreign_set_count,
		   sizeof(*decoder->foreign_sets), &observed->foreign_sets) < 0 ||
	    settle(arena, &decoder->services, observed->service_count, sizeof(*decoder->services),
		   &observed->services) < 0 ||
	    settle(arena, &decoder->endpoints, observed->endpoint_count,
		   sizeof(*decoder->endpoints), &observed->endpoints) < 0 ||
	    settle(arena, &decoder->unavailable, observed->unavailable_count,
		   sizeof(*decoder->unavailable), &observed->unavailable) < 0 ||
	    settle(arena, &decoder->strays, observed->stray_count, sizeof(*decoder->strays),
		   &observed->strays) < 0)
		return -ENOMEM;
	return 0;
}
