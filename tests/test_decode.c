/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What a dump holds are the messages that made the objects, with the
 * generation in their header. So a batch that is fed to the decoder reads as
 * the table that it makes; and each of its messages, cut off at every length,
 * must be survived. Besides there are messages made by hand, for what we would
 * never write.
 *
 * Bytes are changed in elements only, which we take apart ourselves: libnftnl
 * ends the process ("kernel ABI is broken") where a known attribute of a table,
 * set, chain or rule has another length than the kernel has ever given it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <libmnl/libmnl.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../src/kernel/attr.h"
#include "../src/kernel/decode.h"
#include "../src/kernel/encode.h"
#include "dragoman/plan/plan.h"
#include "plan_model.h"

enum { GENERATION = 0x12345 };

/* A dump that is being read, and room to make messages in. */
struct dump {
	struct arena *arena;
	struct observed observed;
	struct decoder decoder;
	char buffer[8192];
};

static void dump_begin(struct dump *dump)
{
	memset(dump, 0, sizeof(*dump));
	dump->arena = arena_new();
	assert_non_null(dump->arena);
	dump->observed = (struct observed){.generation = GENERATION, .saved_localnet = -1};
	dump->decoder = (struct decoder){.arena = dump->arena, .observed = &dump->observed};
}

static void dump_done(struct dump *dump)
{
	decoder_done(&dump->decoder);
	arena_free(dump->arena);
}

static struct nlmsghdr *message_of(struct dump *dump, uint16_t type)
{
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	memset(dump->buffer, 0, sizeof(dump->buffer));
	message = mnl_nlmsg_put_header(dump->buffer);
	message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = NFPROTO_INET;
	header->res_id = htons((uint16_t)GENERATION);
	return message;
}

/* Gives a message to the function that it is for. */
static int feed(struct decoder *decoder, const struct nlmsghdr *message)
{
	switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
	case NFT_MSG_NEWTABLE:
		return decode_table(message, decoder);
	case NFT_MSG_NEWSET:
		return decode_set(message, decoder);
	case NFT_MSG_NEWCHAIN:
		return decode_chain(message, decoder);
	case NFT_MSG_NEWRULE:
		return decode_rule(message, decoder);
	case NFT_MSG_NEWSETELEM:
		return decode_elements(message, decoder);
	default:
		return 0;
	}
}

/* --- What was encoded ----------------------------------------------------------- */

/* Stamps a batch's messages as those of a dump. */
static void stamp(const struct batch *batch)
{
	int length = (int)batch->length;

	for (struct nlmsghdr *message = (void *)batch->data; mnl_nlmsg_ok(message, length);
	     message = mnl_nlmsg_next(message, &length)) {
		struct nfgenmsg *header = mnl_nlmsg_get_payload(message);

		header->res_id = htons((uint16_t)GENERATION);
	}
}

static void set_of_elements(struct decoder *decoder, const struct nlmsghdr *message)
{
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_SET)
			decoder->set = set_parse(mnl_attr_get_str(attr));
	}
}

/* All messages of one type; the kernel dumps rules chain by chain, as we write them. */
static void feed_type(struct dump *dump, const struct batch *batch, unsigned type)
{
	int length = (int)batch->length;

	for (const struct nlmsghdr *message = (const void *)batch->data;
	     mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length)) {
		if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | type))
			continue;
		if (type == NFT_MSG_NEWSETELEM)
			set_of_elements(&dump->decoder, message);
		assert_int_equal(feed(&dump->decoder, message), 0);
	}
}

static void feed_batch(struct dump *dump, const struct batch *batch)
{
	stamp(batch);
	feed_type(dump, batch, NFT_MSG_NEWTABLE);
	feed_type(dump, batch, NFT_MSG_NEWSET);
	feed_type(dump, batch, NFT_MSG_NEWCHAIN);
	decode_chains_end(&dump->decoder);
	feed_type(dump, batch, NFT_MSG_NEWRULE);
	decode_rules_end(&dump->decoder);
	feed_type(dump, batch, NFT_MSG_NEWSETELEM);
	assert_int_equal(decode_finish(&dump->decoder), 0);
}

/* The batch that makes a ruleset out of nothing. */
static struct ruleset encode_random(struct arena *arena, unsigned seed, struct batch *ret)
{
	CLEANUP(model_freep) struct model *empty = model_new();
	struct random random = {seed};
	struct ruleset desired;
	struct verdicts verdicts;
	uint32_t last_seq;

	do {
		desired = model_random_ruleset(arena, &random);
	} while (!desired.count);
	assert_int_equal(plan_make(arena, &desired, &empty->observed, 0, &verdicts), 0);
	/* Counters, to be read back. */
	for (size_t i = 0; i < verdicts.endpoint_count; i++) {
		verdicts.endpoints[i].packets = i << 33;
		verdicts.endpoints[i].bytes = i << 34;
	}
	assert_int_equal(encode_verdicts(ret, &verdicts, &last_seq), 0);
	return desired;
}

static void test_decode_of_what_was_encoded_is_the_same(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 60; seed++) {
		CLEANUP(batch_done) struct batch batch = {0};
		CLEANUP(model_freep) struct model *empty = model_new();
		struct model after;
		struct ruleset desired;
		struct dump dump;
		const char *what;

		dump_begin(&dump);
		desired = encode_random(dump.arena, seed, &batch);
		feed_batch(&dump, &batch);
		dump.observed.localnet = 1;
		after = (struct model){.observed = dump.observed};
		what = dump.observed.foreign ? dump.observed.foreign
					     : model_differs(&desired, empty, &after);
		if (what)
			fail_msg("seed %u: %s", seed, what);
		assert_int_equal(dump.observed.saved_localnet, 0);
		for (size_t i = 0; i < dump.observed.endpoint_count; i++)
			assert_int_equal(dump.observed.endpoints[i].bytes,
					 dump.observed.endpoints[i].packets * 2);
		dump_done(&dump);
	}
}

/* The index-th rule of a chain in a batch. */
static const struct nlmsghdr *find_rule(const struct batch *batch, const char *chain,
					unsigned index)
{
	int length = (int)batch->length;

	for (const struct nlmsghdr *message = (const void *)batch->data;
	     mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length)) {
		if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE))
			continue;
		attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
			if (mnl_attr_get_type(attr) == NFTA_RULE_CHAIN &&
			    strcmp(mnl_attr_get_str(attr), chain) == 0 && index-- == 0)
				return message;
		}
	}
	fail_msg("no such rule of %s", chain);
	return NULL;
}

/* Chains are intact with just their rules, in just their order. */
static void test_decode_of_rules_tells_whether_a_chain_is_intact(void **state)
{
	static const struct {
		const char *chain, *rules; /* as indices of those that ours has */
		bool intact;
	} cases[] = {
		{"guard", "01", true},           {"guard", "", false},
		{"guard", "0", false},           {"guard", "1", false},
		{"guard", "10", false},          {"guard", "00", false},
		{"guard", "011", false},         {"output", "01", true},
		{"output", "11", false},         {"postrouting", "01", true},
		{"postrouting", "0", false},     {"unavailable", "0123", true},
		{"unavailable", "012", false},   {"unavailable", "0132", false},
		{"unavailable", "01230", false},
	};
	CLEANUP(batch_done) struct batch batch = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_non_null(arena);
	(void)encode_random(arena, 3, &batch);
	stamp(&batch);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dump dump;

		print_message("%s %s\n", cases[i].chain, cases[i].rules);
		dump_begin(&dump);
		feed_type(&dump, &batch, NFT_MSG_NEWCHAIN);
		decode_chains_end(&dump.decoder);
		for (const char *rule = cases[i].rules; *rule; rule++)
			assert_int_equal(feed(&dump.decoder, find_rule(&batch, cases[i].chain,
								       (unsigned)(*rule - '0'))),
					 0);
		decode_rules_end(&dump.decoder);
		assert_int_equal(decode_finish(&dump.decoder), 0);
		for (size_t n = 0; n < dump.observed.chain_count; n++) {
			const struct observed_chain *chain = &dump.observed.chains[n];

			assert_int_equal(chain->intact,
					 cases[i].intact &&
						 strcmp(chain->name, cases[i].chain) == 0);
		}
		dump_done(&dump);
	}
}

/* A copy of a message in memory of its own, with the zeros behind that netlink.c promises. */
static struct nlmsghdr *message_copy(const struct nlmsghdr *message)
{
	char *copy = calloc(1, message->nlmsg_len + 8);

	assert_non_null(copy);
	memcpy(copy, message, message->nlmsg_len);
	return (struct nlmsghdr *)(void *)copy;
}

/* Feeds one message that was spoiled, between whole ones; it may do anything but harm. */
static void feed_spoiled(const struct batch *batch, const struct nlmsghdr *spoiled)
{
	struct dump dump;

	dump_begin(&dump);
	feed_type(&dump, batch, NFT_MSG_NEWCHAIN);
	decode_chains_end(&dump.decoder);
	dump.decoder.set = SET_ENDPOINTS4;
	if (NFNL_MSG_TYPE(spoiled->nlmsg_type) == NFT_MSG_NEWSETELEM)
		set_of_elements(&dump.decoder, spoiled);
	if (dump.decoder.set == SET_FOREIGN)
		dump.decoder.set = SET_SERVICES6;
	(void)feed(&dump.decoder, spoiled);
	decode_rules_end(&dump.decoder);
	(void)decode_finish(&dump.decoder);
	dump_done(&dump);
}

static void test_decode_of_cut_messages_does_no_harm(void **state)
{
	CLEANUP(batch_done) struct batch batch = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	int length;

	(void)state;
	assert_non_null(arena);
	(void)encode_random(arena, 3, &batch);
	stamp(&batch);
	length = (int)batch.length;
	for (const struct nlmsghdr *message = (const void *)batch.data;
	     mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length)) {
		struct nlmsghdr *copy = message_copy(message);

		for (uint32_t cut = sizeof(*message); cut < message->nlmsg_len; cut += 4) {
			copy->nlmsg_len = cut;
			feed_spoiled(&batch, copy);
		}
		free(copy);
	}
}

static void test_decode_of_elements_with_changed_bytes_does_no_harm(void **state)
{
	CLEANUP(batch_done) struct batch batch = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct random random = {11};
	int length;

	(void)state;
	assert_non_null(arena);
	(void)encode_random(arena, 5, &batch);
	stamp(&batch);
	length = (int)batch.length;
	for (const struct nlmsghdr *message = (const void *)batch.data;
	     mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length)) {
		for (unsigned i = 0; i < 2000; i++) {
			struct nlmsghdr *copy = message_copy(message);
			size_t at = 20 + random_below(&random, message->nlmsg_len - 19);

			if (NFNL_MSG_TYPE(message->nlmsg_type) != NFT_MSG_NEWSETELEM) {
				free(copy);
				break;
			}
			((unsigned char *)copy)[at] = (unsigned char)random_next(&random);
			feed_spoiled(&batch, copy);
			free(copy);
		}
	}
}

/* --- Generation, and other tables ---------------------------------------------- */

static void test_decode_of_another_generation_asks_to_read_again(void **state)
{
	static const uint16_t types[] = {NFT_MSG_NEWTABLE, NFT_MSG_NEWSET, NFT_MSG_NEWCHAIN,
					 NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct dump dump;
		struct nlmsghdr *message;
		struct nfgenmsg *header;

		dump_begin(&dump);
		message = message_of(&dump, types[i]);
		header = mnl_nlmsg_get_payload(message);
		header->res_id = htons((uint16_t)(GENERATION + 1));
		assert_int_equal(feed(&dump.decoder, message), -EAGAIN);
		message->nlmsg_len = sizeof(*message);
		assert_int_equal(feed(&dump.decoder, message), -EBADMSG);
		assert_false(dump.observed.table);
		dump_done(&dump);
	}
}

static void test_decode_passes_over_other_tables(void **state)
{
	static const char *const tables[] = {"dragoman2", "drago", "", "Dragoman"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct dump dump;
		struct nlmsghdr *message;

		dump_begin(&dump);
		message = message_of(&dump, NFT_MSG_NEWSET);
		mnl_attr_put_strz(message, NFTA_SET_TABLE, tables[i]);
		mnl_attr_put_strz(message, NFTA_SET_NAME, "services4");
		assert_int_equal(feed(&dump.decoder, message), 0);
		message = message_of(&dump, NFT_MSG_NEWCHAIN);
		mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, tables[i]);
		mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "output");
		assert_int_equal(feed(&dump.decoder, message), 0);
		assert_int_equal(dump.observed.chain_count, 0);
		assert_int_equal(dump.observed.foreign_set_count, 0);
		assert_false(dump.observed.has_set[SET_SERVICES4]);
		assert_null(dump.observed.foreign);
		dump_done(&dump);
	}
}

static void test_decode_passes_over_chains_of_another_family(void **state)
{
	struct dump dump;
	struct nlmsghdr *message;
	struct nfgenmsg *header;

	(void)state;
	dump_begin(&dump);
	message = message_of(&dump, NFT_MSG_NEWCHAIN);
	header = mnl_nlmsg_get_payload(message);
	header->nfgen_family = NFPROTO_IPV4;
	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "output");
	assert_int_equal(feed(&dump.decoder, message), 0);
	assert_int_equal(dump.observed.chain_count, 0);
	dump_done(&dump);
}

static void test_decode_of_missing_and_endless_names_does_no_harm(void **state)
{
	static const struct {
		uint16_t type, table, name;
	} cases[] = {
		{NFT_MSG_NEWSET, NFTA_SET_TABLE, NFTA_SET_NAME},
		{NFT_MSG_NEWCHAIN, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME},
		{NFT_MSG_NEWRULE, NFTA_RULE_TABLE, NFTA_RULE_CHAIN},
	};

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_SIZE(cases); i++) {
		const size_t at = i / 4;
		struct dump dump;
		struct nlmsghdr *message;

		dump_begin(&dump);
		message = message_of(&dump, cases[at].type);
		if (i % 4 == 1)
			mnl_attr_put_strz(message, cases[at].name, "output");
		if (i % 4 == 2)
			mnl_attr_put_strz(message, cases[at].table, "dragoman");
		if (i % 4 == 3) {
			mnl_attr_put(message, cases[at].name, 8, "services");
			mnl_attr_put(message, cases[at].table, 8, "dragoman");
			message->nlmsg_len -= 4;
		}
		message = message_copy(message);
		assert_int_equal(feed(&dump.decoder, message), 0);
		assert_int_equal(decode_finish(&dump.decoder), 0);
		assert_int_equal(dump.observed.chain_count, 0);
		assert_int_equal(dump.observed.foreign_set_count, 0);
		free(message);
		dump_done(&dump);
	}
}

/* --- The table ------------------------------------------------------------------- */

static void test_decode_of_a_table_says_what_is_foreign(void **state)
{
#define OURS "dragoman schema=1 route_localnet="
#define THEIRS "dragoman schema=2 route_localnet=0"
#define NOT_OURS "table: the comment is not ours"
	static const struct {
		size_t length; /* of the user data; 0: none */
		const char *udata;
		const char *foreign;
		int saved;
		uint32_t flags;
	} cases[] = {
		{37, "\x00\x23" OURS "0", NULL, 0, 0},
		{37, "\x00\x23" OURS "1", NULL, 1, 0},
		{40, "\x05\x01-\x00\x23" OURS "1", NULL, 1, 0},
		{37, "\x00\x23" OURS "0", "table: it has flags", 0, 2},
		{0, "", NOT_OURS, -1, 0},
		{36, "\x00\x22" OURS "0", NOT_OURS, -1, 0},
		{37, "\x00\xff" OURS "0", NOT_OURS, -1, 0},
		{1, "\x00", NOT_OURS, -1, 0},
		{2, "\x00\x00", NOT_OURS, -1, 0},
		{3, "\x00\x01\x00", NOT_OURS, -1, 0},
		{38, "\x00\x24" OURS "-1", NOT_OURS, -1, 0},
		{38, "\x00\x24" OURS "1x", NOT_OURS, -1, 0},
		{37, "\x00\x23" THEIRS, NOT_OURS, -1, 0},
		{8, "\x00\x06hello", NOT_OURS, -1, 0},
	};
#undef OURS
#undef THEIRS
#undef NOT_OURS

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dump dump;
		struct nlmsghdr *message;

		print_message("case %zu\n", i);
		dump_begin(&dump);
		message = message_of(&dump, NFT_MSG_NEWTABLE);
		mnl_attr_put_strz(message, NFTA_TABLE_NAME, "dragoman");
		mnl_attr_put_u32(message, NFTA_TABLE_FLAGS, htonl(cases[i].flags));
		if (cases[i].length)
			mnl_attr_put(message, NFTA_TABLE_USERDATA, cases[i].length, cases[i].udata);
		assert_int_equal(feed(&dump.decoder, message), 0);
		assert_true(dump.observed.table);
		assert_int_equal(dump.observed.saved_localnet, cases[i].saved);
		if (cases[i].foreign)
			assert_string_equal(dump.observed.foreign, cases[i].foreign);
		else
			assert_null(dump.observed.foreign);
		dump_done(&dump);
	}
}

/* --- Sets and chains --------------------------------------------------------------- */

/* A set's message: lengths of 0 leave the attribute out. */
struct set_case {
	const char *name;
	uint32_t flags, key, data_type, data;
	bool counter;
	const char *foreign; /* what the table is called, or NULL */
};

static void put_set(struct nlmsghdr *message, const struct set_case *set)
{
	mnl_attr_put_strz(message, NFTA_SET_TABLE, "dragoman");
	mnl_attr_put_strz(message, NFTA_SET_NAME, set->name);
	mnl_attr_put_u32(message, NFTA_SET_FLAGS, htonl(set->flags));
	if (set->key)
		mnl_attr_put_u32(message, NFTA_SET_KEY_LEN, htonl(set->key));
	if (set->data_type)
		mnl_attr_put_u32(message, NFTA_SET_DATA_TYPE, htonl(set->data_type));
	if (set->data)
		mnl_attr_put_u32(message, NFTA_SET_DATA_LEN, htonl(set->data));
	if (set->counter) {
		struct nlattr *nest = mnl_attr_nest_start(message, NFTA_SET_EXPR);

		mnl_attr_put_strz(message, NFTA_EXPR_NAME, "counter");
		mnl_attr_nest_end(message, nest);
	}
}

static void test_decode_of_a_set_of_another_shape_makes_the_table_foreign(void **state)
{
	static const struct set_case cases[] = {
		{"services4", NFT_SET_MAP, 12, NFT_DATA_VERDICT, 0, false, NULL},
		{"services4", NFT_SET_MAP, 28, NFT_DATA_VERDICT, 0, false,
		 "map services4: the key differs"},
		{"services4", NFT_SET_MAP, 0, NFT_DATA_VERDICT, 0, false,
		 "map services4: the key differs"},
		{"services4", 0, 12, 0, 0, false, "map services4: the flags differ"},
		{"services6", NFT_SET_MAP, 24, 7, 4, false, "map services6: the data differs"},
		{"endpoints4", NFT_SET_MAP, 16, 461, 8, true, NULL},
		{"endpoints4", NFT_SET_MAP, 16, 461, 8, false,
		 "map endpoints4: the counter differs"},
		{"endpoints4", NFT_SET_MAP, 16, 461, 20, true, "map endpoints4: the data differs"},
		{"endpoints4", NFT_SET_MAP, 16, NFT_DATA_VERDICT, 0, true,
		 "map endpoints4: the data differs"},
		{"endpoints6", NFT_SET_MAP | NFT_SET_EXPR, 28, 525, 20, true, NULL},
		{"unavailable4", 0, 12, 0, 0, false, NULL},
		{"unavailable4", NFT_SET_TIMEOUT, 12, 0, 0, false,
		 "set unavailable4: the flags differ"},
		{"unavailable6", NFT_SET_INTERVAL, 24, 0, 0, false,
		 "set unavailable6: the flags differ"},
		{"unavailable6", 0, 24, 0, 0, true, "set unavailable6: the counter differs"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum set_kind kind = set_parse(cases[i].name);
		struct nlmsghdr *message;
		struct dump dump;

		print_message("case %zu: %s\n", i, cases[i].foreign ? cases[i].foreign : "ours");
		dump_begin(&dump);
		message = message_of(&dump, NFT_MSG_NEWSET);
		put_set(message, &cases[i]);
		assert_int_equal(feed(&dump.decoder, message), 0);
		assert_int_equal(dump.observed.has_set[kind], cases[i].foreign == NULL);
		if (cases[i].foreign)
			assert_string_equal(dump.observed.foreign, cases[i].foreign);
		else
			assert_null(dump.observed.foreign);
		dump_done(&dump);
	}
}

static void test_decode_of_foreign_sets_lists_those_with_a_name(void **state)
{
	static const struct set_case theirs = {"blocklist", 0, 4, 0, 0, false, NULL};
	static const struct set_case anonymous = {
		"__set0", NFT_SET_ANONYMOUS | NFT_SET_CONSTANT, 4, 0, 0, false, NULL};
	struct nlmsghdr *message;
	struct dump dump;

	(void)state;
	dump_begin(&dump);
	message = message_of(&dump, NFT_MSG_NEWSET);
	put_set(message, &theirs);
	assert_int_equal(feed(&dump.decoder, message), 0);
	message = message_of(&dump, NFT_MSG_NEWSET);
	put_set(message, &anonymous);
	assert_int_equal(feed(&dump.decoder, message), 0);
	assert_int_equal(decode_finish(&dump.decoder), 0);
	assert_null(dump.observed.foreign);
	assert_int_equal(dump.observed.foreign_set_count, 1);
	assert_string_equal(dump.observed.foreign_sets[0].name, "blocklist");
	dump_done(&dump);
}

static void test_decode_of_a_chain_with_another_hook_makes_the_table_foreign(void **state)
{
	static const struct {
		const char *name, *type;
		uint32_t hook, priority;
		const char *foreign;
	} cases[] = {
		{"output", "nat", NF_INET_LOCAL_OUT, (uint32_t)-100, NULL},
		{"output", NULL, 0, 0, "chain output: it has no hook"},
		{"output", "filter", NF_INET_LOCAL_OUT, (uint32_t)-100,
		 "chain output: the type differs"},
		{"output", "nat", NF_INET_PRE_ROUTING, (uint32_t)-100,
		 "chain output: the hook differs"},
		{"guard", "filter", NF_INET_PRE_ROUTING, (uint32_t)-299,
		 "chain guard: the priority differs"},
		{"balance4-3", NULL, 0, 0, NULL},
		{"balance4-3", "nat", NF_INET_LOCAL_OUT, 0, "chain balance4-3: it has a hook"},
		{"theirs", "nat", NF_INET_LOCAL_OUT, 0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct nlmsghdr *message;
		struct nlattr *hook;
		struct dump dump;

		print_message("case %zu\n", i);
		dump_begin(&dump);
		message = message_of(&dump, NFT_MSG_NEWCHAIN);
		mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
		mnl_attr_put_strz(message, NFTA_CHAIN_NAME, cases[i].name);
		if (cases[i].type) {
			hook = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
			mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(cases[i].hook));
			mnl_attr_put_u32(message, NFTA_HOOK_PRIORITY, htonl(cases[i].priority));
			mnl_attr_nest_end(message, hook);
			mnl_attr_put_u32(message, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
			mnl_attr_put_strz(message, NFTA_CHAIN_TYPE, cases[i].type);
		}
		assert_int_equal(feed(&dump.decoder, message), 0);
		assert_int_equal(dump.observed.chain_count, 1);
		if (cases[i].foreign)
			assert_string_equal(dump.observed.foreign, cases[i].foreign);
		else
			assert_null(dump.observed.foreign);
		dump_done(&dump);
	}
}

/* --- Elements -------------------------------------------------------------------- */

/* An element in the making: what is left out is not there. */
struct element_case {
	enum set_kind set;
	uint32_t flags;
	size_t key_length;
	uint8_t key[32];
	size_t data_length;
	uint8_t data[24];
	const char *chain; /* of a verdict */
	size_t chain_length;
	uint32_t code;
};

static void put_element(struct nlmsghdr *message, const struct element_case *element)
{
	struct nlattr *list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	struct nlattr *item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	struct nlattr *nest, *verdict;

	if (element->key_length) {
		nest = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
		mnl_attr_put(message, NFTA_DATA_VALUE, element->key_length, element->key);
		mnl_attr_nest_end(message, nest);
	}
	if (element->flags)
		mnl_attr_put_u32(message, NFTA_SET_ELEM_FLAGS, htonl(element->flags));
	nest = mnl_attr_nest_start(message, NFTA_SET_ELEM_DATA);
	if (element->data_length)
		mnl_attr_put(message, NFTA_DATA_VALUE, element->data_length, element->data);
	if (element->code) {
		verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
		mnl_attr_put_u32(message, NFTA_VERDICT_CODE, htonl(element->code));
		if (element->chain)
			mnl_attr_put(message, NFTA_VERDICT_CHAIN, element->chain_length,
				     element->chain);
		mnl_attr_nest_end(message, verdict);
	}
	mnl_attr_nest_end(message, nest);
	mnl_attr_nest_end(message, item);
	mnl_attr_nest_end(message, list);
}

static void feed_element(struct dump *dump, const struct element_case *element)
{
	struct nlmsghdr *message;

	dump_begin(dump);
	dump->decoder.set = element->set;
	message = message_of(dump, NFT_MSG_NEWSETELEM);
	put_element(message, element);
	assert_int_equal(feed(&dump->decoder, message), 0);
	assert_int_equal(decode_finish(&dump->decoder), 0);
}

#define LOCALHOST6 [15] = 1

static void test_decode_of_odd_keys_makes_strays(void **state)
{
	static const struct element_case cases[] = {
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 2, 6, [9] = 80}},
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 1, 132, [9] = 80}},
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 1, 6}},
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 1, 6, 1, [9] = 80}},
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 1, 6, [9] = 80, 1}},
		{.set = SET_SERVICES4, .key_length = 16, .key = {127, 0, 0, 1, 6, [9] = 80}},
		{.set = SET_SERVICES4, .key_length = 4, .key = {127, 0, 0, 1}},
		{.set = SET_SERVICES6, .key_length = 24, .key = {[14] = 1, 1, 6, [21] = 80}},
		{.set = SET_ENDPOINTS4,
		 .key_length = 16,
		 .key = {127, 0, 0, 1, 6, [9] = 80, [12] = 0x00, 0x10}},
		{.set = SET_ENDPOINTS4,
		 .key_length = 16,
		 .key = {127, 0, 0, 1, 6, [9] = 80, [12] = 0xff, 0xff, 0xff, 0xff}},
		{.set = SET_ENDPOINTS6,
		 .key_length = 28,
		 .key = {LOCALHOST6, 6, [21] = 80, [27] = 1}},
		{.set = SET_UNAVAILABLE4, .key_length = 12, .key = {10, 0, 0, 1, 6, [9] = 80}},
		{.set = SET_UNAVAILABLE6, .key_length = 32, .key = {LOCALHOST6, 6, [21] = 80}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dump dump;
		const struct observed *observed = &dump.observed;

		print_message("case %zu\n", i);
		feed_element(&dump, &cases[i]);
		assert_int_equal(observed->stray_count, 1);
		assert_int_equal(observed->strays[0].set, cases[i].set);
		assert_int_equal(observed->strays[0].key_length, cases[i].key_length);
		assert_memory_equal(observed->strays[0].key, cases[i].key, cases[i].key_length);
		assert_int_equal(observed->service_count + observed->endpoint_count +
					 observed->unavailable_count,
				 0);
		assert_null(observed->foreign);
		dump_done(&dump);
	}
}

static void test_decode_of_elements_without_a_key_makes_the_table_foreign(void **state)
{
	static const struct element_case cases[] = {
		{.set = SET_SERVICES4, .flags = NFT_SET_ELEM_CATCHALL},
		{.set = SET_SERVICES4,
		 .key_length = 12,
		 .key = {127, 0, 0, 1, 6, [9] = 80},
		 .flags = NFT_SET_ELEM_CATCHALL},
		{.set = SET_UNAVAILABLE6},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dump dump;

		feed_element(&dump, &cases[i]);
		assert_string_equal(dump.observed.foreign,
				    "a map with an element for everything (*)");
		assert_int_equal(dump.observed.stray_count + dump.observed.service_count, 0);
		dump_done(&dump);
	}
}

/* What somebody fills a table of ours with costs no memory beyond a bound. */
static void test_decode_of_very_many_foreign_things_makes_the_table_foreign(void **state)
{
	struct dump chains, sets, strays;

	(void)state;
	dump_begin(&chains);
	dump_begin(&sets);
	dump_begin(&strays);
	strays.decoder.set = SET_UNAVAILABLE4;
	for (unsigned i = 0; i <= DECODE_FOREIGN_MAX; i++) {
		struct element_case element = {.key_length = 12, .key = {9, 9, 9, 9}};
		struct set_case set = {.key = 4};
		struct nlmsghdr *message = message_of(&chains, NFT_MSG_NEWCHAIN);
		char name[32];

		assert_null(chains.observed.foreign);
		assert_null(sets.observed.foreign);
		assert_null(strays.observed.foreign);
		(void)snprintf(name, sizeof(name), "theirs-%u", i);
		mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
		mnl_attr_put_strz(message, NFTA_CHAIN_NAME, name);
		assert_int_equal(feed(&chains.decoder, message), 0);
		set.name = name;
		message = message_of(&sets, NFT_MSG_NEWSET);
		put_set(message, &set);
		assert_int_equal(feed(&sets.decoder, message), 0);
		memcpy(element.key + 8, &i, sizeof(i));
		message = message_of(&strays, NFT_MSG_NEWSETELEM);
		put_element(message, &element);
		assert_int_equal(feed(&strays.decoder, message), 0);
	}
	assert_string_equal(chains.observed.foreign, "table: too much in it is not ours");
	assert_string_equal(sets.observed.foreign, "table: too much in it is not ours");
	assert_string_equal(strays.observed.foreign, "table: too much in it is not ours");
	assert_int_equal(chains.observed.chain_count, DECODE_FOREIGN_MAX);
	assert_int_equal(sets.observed.foreign_set_count, DECODE_FOREIGN_MAX);
	assert_int_equal(strays.observed.stray_count, DECODE_FOREIGN_MAX);
	dump_done(&chains);
	dump_done(&sets);
	dump_done(&strays);
}

/* 127.0.0.1 . tcp . 80 : some verdict */
static void test_decode_of_verdicts_knows_only_goto_to_our_chains(void **state)
{
	static const struct {
		const char *chain;
		size_t length;
		uint32_t code;
		enum chain_kind kind;
	} cases[] = {
		{"balance4-3", 11, (uint32_t)NFT_GOTO, CHAIN_BALANCE},
		{"nth4-80-tcp", 12, (uint32_t)NFT_GOTO, CHAIN_NTH},
		{"balance4-3", 11, (uint32_t)NFT_JUMP, CHAIN_FOREIGN},
		{"balance4-3", 10, (uint32_t)NFT_GOTO, CHAIN_FOREIGN},
		{"balance4-4097", 14, (uint32_t)NFT_GOTO, CHAIN_FOREIGN},
		{"balance4-03", 12, (uint32_t)NFT_GOTO, CHAIN_FOREIGN},
		{"theirs", 7, (uint32_t)NFT_GOTO, CHAIN_FOREIGN},
		{NULL, 0, (uint32_t)NFT_GOTO, CHAIN_FOREIGN},
		{NULL, 0, (uint32_t)NF_ACCEPT, CHAIN_FOREIGN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct element_case element = {
			.set = SET_SERVICES4,
			.key_length = 12,
			.key = {127, 0, 0, 1, 6, [9] = 80},
			.code = cases[i].code,
			.chain = cases[i].chain,
			.chain_length = cases[i].length,
		};
		struct dump dump;

		print_message("case %zu\n", i);
		feed_element(&dump, &element);
		assert_int_equal(dump.observed.service_count, 1);
		assert_int_equal(dump.observed.services[0].listen.port, 80);
		assert_int_equal(dump.observed.services[0].target.kind, cases[i].kind);
		dump_done(&dump);
	}
}

static void test_decode_of_endpoints_takes_address_and_port(void **state)
{
	static const struct {
		struct element_case element;
		struct endpoint wanted;
		unsigned slot;
	} cases[] = {
		{{.set = SET_ENDPOINTS4,
		  .key_length = 16,
		  .key = {127, 0, 0, 1, 17, [9] = 53, [12] = 0xff, 0x0f},
		  .data_length = 8,
		  .data = {10, 1, 2, 3, 0x1f, 0x90}},
		 {.family = FAMILY_IPV4, .port = 8080, .address = {10, 1, 2, 3}},
		 4095},
		{{.set = SET_ENDPOINTS6,
		  .key_length = 28,
		  .key = {LOCALHOST6, 17, [21] = 53, [24] = 2},
		  .data_length = 20,
		  .data = {0x20, 0x01, [15] = 9, 0, 80}},
		 {.family = FAMILY_IPV6, .port = 80, .address = {0x20, 0x01, [15] = 9}},
		 2},
		/* Cut off: an endpoint that nobody wants. */
		{{.set = SET_ENDPOINTS4,
		  .key_length = 16,
		  .key = {127, 0, 0, 1, 17, [9] = 53},
		  .data_length = 5,
		  .data = {10, 1, 2, 3, 0x1f}},
		 {.family = FAMILY_IPV4},
		 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dump dump;
		const struct observed_endpoint *found;

		feed_element(&dump, &cases[i].element);
		assert_int_equal(dump.observed.endpoint_count, 1);
		found = &dump.observed.endpoints[0];
		assert_int_equal(found->listen.protocol, PROTOCOL_UDP);
		assert_int_equal(found->listen.port, 53);
		assert_int_equal(found->slot, cases[i].slot);
		assert_memory_equal(&found->endpoint, &cases[i].wanted, sizeof(cases[i].wanted));
		dump_done(&dump);
	}
}

/* --- What a refused message is called -------------------------------------------- */

static void test_describe_names_each_kind_of_message(void **state)
{
	static const struct {
		uint16_t type, attribute;
		const char *name, *text;
	} cases[] = {
		{NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, "dragoman", "adding table inet dragoman"},
		{NFT_MSG_DELTABLE, NFTA_TABLE_NAME, "dragoman", "removing table inet dragoman"},
		{NFT_MSG_NEWCHAIN, NFTA_CHAIN_NAME, "guard", "adding chain guard"},
		{NFT_MSG_DELCHAIN, NFTA_CHAIN_NAME, "a\tb", "removing chain a\\x09b"},
		{NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, "output", "adding a rule of chain output"},
		{NFT_MSG_DELRULE, NFTA_RULE_CHAIN, "output", "removing the rules of chain output"},
		{NFT_MSG_NEWSET, NFTA_SET_NAME, "services4", "adding set services4"},
		{NFT_MSG_DELSET, NFTA_SET_NAME, "blocklist", "removing set blocklist"},
		{NFT_MSG_NEWCHAIN, NFTA_CHAIN_HANDLE, "?", "adding chain"},
		{NFT_MSG_GETGEN, 0, "", "a message"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct nlmsghdr *message;
		struct dump dump;
		char text[256];

		dump_begin(&dump);
		message = message_of(&dump, cases[i].type);
		mnl_attr_put_strz(message, cases[i].attribute, cases[i].name);
		batch_describe(message, 0, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
		batch_describe(message, 0xfffffff0, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
		batch_describe(message, 0, text, 9);
		assert_int_equal(strlen(text) < 9, true);
		dump_done(&dump);
	}
}

static void test_describe_names_the_element_at_an_offset(void **state)
{
	static const struct endpoint endpoint = {.port = 80, .address = {10, 0, 0, 1}};
	CLEANUP(batch_done) struct batch batch = {0};
	struct endpoint_verdict endpoints[3];
	struct verdicts verdicts = {.generation = 1, .endpoints = endpoints, .endpoint_count = 3};
	const struct nlmsghdr *message;
	uint32_t last_seq, at = 0;
	char text[256], wanted[256];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		endpoints[i] = (struct endpoint_verdict){.verdict = VERDICT_ADD,
							 .slot = (uint16_t)i,
							 .listen = {PROTOCOL_UDP, 53},
							 .endpoint = endpoint};
	assert_int_equal(encode_verdicts(&batch, &verdicts, &last_seq), 0);
	message = batch_find(&batch, last_seq);
	assert_non_null(message);
	/* Each element is 44 bytes long: header, key, data. */
	at = message->nlmsg_len - 3 * 44;
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(wanted, sizeof(wanted),
			       "adding element 127.0.0.1:53/udp slot %u of endpoints4", i);
		for (unsigned inside = 0; inside < 44; inside += 4) {
			batch_describe(message, at + i * 44 + inside, text, sizeof(text));
			assert_string_equal(text, wanted);
		}
	}
	batch_describe(message, 0, text, sizeof(text));
	assert_string_equal(text, "adding elements of endpoints4");
	batch_describe(message, 20, text, sizeof(text));
	assert_string_equal(text, "adding elements of endpoints4");
	batch_describe(message, message->nlmsg_len, text, sizeof(text));
	assert_string_equal(text, "adding elements of endpoints4");
	batch_describe(batch_find(&batch, 0), 0, text, sizeof(text));
	assert_string_equal(text, "the transaction");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode_of_what_was_encoded_is_the_same),
		cmocka_unit_test(test_decode_of_rules_tells_whether_a_chain_is_intact),
		cmocka_unit_test(test_decode_of_cut_messages_does_no_harm),
		cmocka_unit_test(test_decode_of_elements_with_changed_bytes_does_no_harm),
		cmocka_unit_test(test_decode_of_another_generation_asks_to_read_again),
		cmocka_unit_test(test_decode_passes_over_other_tables),
		cmocka_unit_test(test_decode_passes_over_chains_of_another_family),
		cmocka_unit_test(test_decode_of_missing_and_endless_names_does_no_harm),
		cmocka_unit_test(test_decode_of_a_table_says_what_is_foreign),
		cmocka_unit_test(test_decode_of_a_set_of_another_shape_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_foreign_sets_lists_those_with_a_name),
		cmocka_unit_test(test_decode_of_a_chain_with_another_hook_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_odd_keys_makes_strays),
		cmocka_unit_test(test_decode_of_elements_without_a_key_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_very_many_foreign_things_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_verdicts_knows_only_goto_to_our_chains),
		cmocka_unit_test(test_decode_of_endpoints_takes_address_and_port),
		cmocka_unit_test(test_describe_names_each_kind_of_message),
		cmocka_unit_test(test_describe_names_the_element_at_an_offset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
