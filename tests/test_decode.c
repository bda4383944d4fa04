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
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../src/kernel/attr.h"
#include "../src/kernel/encode.h"
#include "dragoman/plan/plan.h"
#include "dump.h"
#include "plan_model.h"

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
		assert_int_equal(dump_feed(&dump->decoder, message), 0);
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
	struct random random = {.state = seed};
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
		{"guard", "01234", true},        {"guard", "", false},
		{"guard", "01", false},          {"guard", "0123", false},
		{"guard", "01324", false},       {"guard", "00123", false},
		{"guard", "012344", false},      {"output", "01", true},
		{"output", "11", false},         {"postrouting", "01234", true},
		{"postrouting", "0123", false},  {"unavailable", "0123", true},
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
			assert_int_equal(
				dump_feed(&dump.decoder, find_rule(&batch, cases[i].chain,
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
	(void)dump_feed(&dump.decoder, spoiled);
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
	struct random random = {.state = 11};
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
		message = dump_message(&dump, types[i]);
		header = mnl_nlmsg_get_payload(message);
		header->res_id = htons((uint16_t)(GENERATION + 1));
		assert_int_equal(dump_feed(&dump.decoder, message), -EAGAIN);
		message->nlmsg_len = sizeof(*message);
		assert_int_equal(dump_feed(&dump.decoder, message), -EBADMSG);
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
		message = dump_message(&dump, NFT_MSG_NEWSET);
		mnl_attr_put_strz(message, NFTA_SET_TABLE, tables[i]);
		mnl_attr_put_strz(message, NFTA_SET_NAME, "services4");
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
		message = dump_message(&dump, NFT_MSG_NEWCHAIN);
		mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, tables[i]);
		mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "output");
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
	message = dump_message(&dump, NFT_MSG_NEWCHAIN);
	header = mnl_nlmsg_get_payload(message);
	header->nfgen_family = NFPROTO_IPV4;
	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "output");
	assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
		message = dump_message(&dump, cases[at].type);
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
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
		message = dump_message(&dump, NFT_MSG_NEWTABLE);
		mnl_attr_put_strz(message, NFTA_TABLE_NAME, "dragoman");
		mnl_attr_put_u32(message, NFTA_TABLE_FLAGS, htonl(cases[i].flags));
		if (cases[i].length)
			mnl_attr_put(message, NFTA_TABLE_USERDATA, cases[i].length, cases[i].udata);
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
		message = dump_message(&dump, NFT_MSG_NEWSET);
		put_set(message, &cases[i]);
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
	message = dump_message(&dump, NFT_MSG_NEWSET);
	put_set(message, &theirs);
	assert_int_equal(dump_feed(&dump.decoder, message), 0);
	message = dump_message(&dump, NFT_MSG_NEWSET);
	put_set(message, &anonymous);
	assert_int_equal(dump_feed(&dump.decoder, message), 0);
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
		message = dump_message(&dump, NFT_MSG_NEWCHAIN);
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
		assert_int_equal(dump_feed(&dump.decoder, message), 0);
		assert_int_equal(dump.observed.chain_count, 1);
		if (cases[i].foreign)
			assert_string_equal(dump.observed.foreign, cases[i].foreign);
		else
			assert_null(dump.observed.foreign);
		dump_done(&dump);
	}
}

/* A chain on devices with a wildcard, as kernels since 6.18 tell of it. */
static struct nlmsghdr *wildcard_chain(struct dump *dump, const char *table)
{
	struct nlmsghdr *message = dump_message(dump, NFT_MSG_NEWCHAIN);
	struct nlattr *hook, *devices;

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "theirs");
	hook = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(5));
	mnl_attr_put_u32(message, NFTA_HOOK_PRIORITY, 0);
	devices = mnl_attr_nest_start(message, 4); /* NFTA_HOOK_DEVS */
	mnl_attr_put_strz(message, 2, "eth");      /* NFTA_DEVICE_PREFIX */
	mnl_attr_nest_end(message, devices);
	mnl_attr_nest_end(message, hook);
	return message;
}

static void test_decode_of_a_chain_that_cannot_be_read_is_foreign_in_our_table_only(void **state)
{
	struct dump dump;

	(void)state;
	dump_begin(&dump);
	assert_int_equal(dump_feed(&dump.decoder, wildcard_chain(&dump, "other")), 0);
	assert_null(dump.observed.foreign);
	assert_int_equal(dump_feed(&dump.decoder, wildcard_chain(&dump, "dragoman")), 0);
	assert_non_null(dump.observed.foreign);
	dump_done(&dump);
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
		cmocka_unit_test(
			test_decode_of_a_chain_that_cannot_be_read_is_foreign_in_our_table_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
