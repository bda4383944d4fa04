/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Elements made by hand: keys, verdicts and data that we would never write,
 * and more of them than we would keep. And the way back: what a message of a
 * batch is called when the kernel refuses it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../src/kernel/encode.h"
#include "dump.h"

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
	message = dump_message(dump, NFT_MSG_NEWSETELEM);
	put_element(message, element);
	assert_int_equal(dump_feed(&dump->decoder, message), 0);
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

static int feed_again(struct dump *dump, const struct element_case *element)
{
	struct nlmsghdr *message = dump_message(dump, NFT_MSG_NEWSETELEM);

	dump->decoder.set = element->set;
	put_element(message, element);
	return dump_feed(&dump->decoder, message);
}

static void test_decode_of_an_element_twice_is_no_dump(void **state)
{
	static const struct element_case cases[] = {
		{.set = SET_SERVICES4, .key_length = 12, .key = {127, 0, 0, 1, 6, [9] = 80}},
		{.set = SET_UNAVAILABLE4, .key_length = 12, .key = {127, 0, 0, 1, 6, [9] = 80}},
		{.set = SET_UNAVAILABLE4, .key_length = 12, .key = {127, 0, 0, 1, 17, [9] = 80}},
		{.set = SET_UNAVAILABLE4, .key_length = 12, .key = {127, 0, 0, 1, 6, [9] = 81}},
		{.set = SET_ENDPOINTS4, .key_length = 16, .key = {127, 0, 0, 1, 6, [9] = 80}},
		{.set = SET_ENDPOINTS4,
		 .key_length = 16,
		 .key = {127, 0, 0, 1, 6, [9] = 80, [13] = 0x0f}},
		{.set = SET_ENDPOINTS6, .key_length = 28, .key = {LOCALHOST6, 6, [21] = 80}},
	};
	struct dump dump;

	(void)state;
	dump_begin(&dump);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(feed_again(&dump, &cases[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(feed_again(&dump, &cases[i]), -EAGAIN);
	dump_done(&dump);
}

static void test_decode_of_many_elements_finds_the_one_that_comes_twice(void **state)
{
	struct element_case element = {
		.set = SET_ENDPOINTS4, .key_length = 16, .key = {127, 0, 0, 1, 6}};
	enum { MANY = 5000 };
	struct dump dump;

	(void)state;
	dump_begin(&dump);
	for (unsigned i = 0; i <= MANY; i++) {
		unsigned number = i % MANY + 1;

		element.key[8] = (uint8_t)(number >> 8);
		element.key[9] = (uint8_t)number;
		assert_int_equal(feed_again(&dump, &element), i < MANY ? 0 : -EAGAIN);
	}
	assert_int_equal(dump.observed.endpoint_count, MANY);
	dump_done(&dump);
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
		struct nlmsghdr *message = dump_message(&chains, NFT_MSG_NEWCHAIN);
		char name[32];

		assert_null(chains.observed.foreign);
		assert_null(sets.observed.foreign);
		assert_null(strays.observed.foreign);
		(void)snprintf(name, sizeof(name), "theirs-%u", i);
		mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
		mnl_attr_put_strz(message, NFTA_CHAIN_NAME, name);
		assert_int_equal(dump_feed(&chains.decoder, message), 0);
		message = dump_message(&sets, NFT_MSG_NEWSET);
		mnl_attr_put_strz(message, NFTA_SET_TABLE, "dragoman");
		mnl_attr_put_strz(message, NFTA_SET_NAME, name);
		assert_int_equal(dump_feed(&sets.decoder, message), 0);
		memcpy(element.key + 8, &i, sizeof(i));
		message = dump_message(&strays, NFT_MSG_NEWSETELEM);
		put_element(message, &element);
		assert_int_equal(dump_feed(&strays.decoder, message), 0);
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
		message = dump_message(&dump, cases[i].type);
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
		cmocka_unit_test(test_decode_of_odd_keys_makes_strays),
		cmocka_unit_test(test_decode_of_an_element_twice_is_no_dump),
		cmocka_unit_test(test_decode_of_many_elements_finds_the_one_that_comes_twice),
		cmocka_unit_test(test_decode_of_elements_without_a_key_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_very_many_foreign_things_makes_the_table_foreign),
		cmocka_unit_test(test_decode_of_verdicts_knows_only_goto_to_our_chains),
		cmocka_unit_test(test_decode_of_endpoints_takes_address_and_port),
		cmocka_unit_test(test_describe_names_each_kind_of_message),
		cmocka_unit_test(test_describe_names_the_element_at_an_offset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
