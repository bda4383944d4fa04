/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Golden bytes: each case's batch is in tests/golden/NAME.txt, as hexadecimal
 * bytes, message by message, and must come out the same. Where a change of the
 * bytes is meant, `GOLDEN=write build/tests/test_encode` (from the top of the
 * tree) writes the files anew; the difference is then for git to show. They
 * are those of a little-endian machine: netlink's own headers are in the
 * machine's byte order, nf_tables' attributes in the network's.
 *
 * One batch is written out by hand, attribute by attribute, as a check of the
 * golden bytes themselves. A large batch is taken apart again with libmnl.
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
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../src/kernel/attr.h"
#include "../src/kernel/element.h"
#include "../src/kernel/encode.h"
#include "dragoman/base/text.h"
#include "dragoman/plan/plan.h"
#include "plan_model.h"

/* --- Worlds ---------------------------------------------------------------------- */

/* A namespace, and the batch that is about to change it. */
struct world {
	struct arena *arena;
	struct model *model;
	struct verdicts verdicts;
	struct batch batch;
	uint32_t last_seq;
};

static void world_begin(struct world *world)
{
	*world = (struct world){.arena = arena_new(), .model = model_new()};
	assert_non_null(world->arena);
}

static void world_done(struct world *world)
{
	batch_done(&world->batch);
	model_free(world->model);
	arena_free(world->arena);
}

static void world_encode(struct world *world)
{
	batch_done(&world->batch);
	assert_int_equal(encode_verdicts(&world->batch, &world->verdicts, &world->last_seq), 0);
}

static void world_plan(struct world *world, const struct ruleset *desired)
{
	assert_int_equal(
		plan_make(world->arena, desired, &world->model->observed, 0, &world->verdicts), 0);
	world_encode(world);
}

static void world_apply(struct world *world)
{
	struct model *next = model_copy(world->model);

	if (!model_apply(next, &world->verdicts))
		fail_msg("%s", next->failure);
	model_free(world->model);
	world->model = next;
}

/* redis on 6379/tcp: endpoints of one family by their last byte, one slot each. */
static struct ruleset redis(struct world *world, enum family family, const char *numbers)
{
	static const uint8_t prefix[FAMILY_COUNT][4] = {{10, 0, 0, 0}, {0x20, 0x01, 0x0d, 0xb8}};
	struct ruleset ruleset = {
		.services = arena_array(world->arena, 1, sizeof(*ruleset.services)),
		.count = 1,
	};
	size_t count = strlen(numbers);
	struct share *shares = arena_array(world->arena, count, sizeof(*shares));

	assert_non_null(shares);
	for (size_t i = 0; i < count; i++) {
		shares[i] = (struct share){.endpoint = {.family = (uint16_t)family, .port = 49161},
					   .slots = 1};
		memcpy(shares[i].endpoint.address, prefix[family], 4);
		shares[i].endpoint.address[family == FAMILY_IPV4 ? 3 : 15] = (uint8_t)(numbers[i] -
										       '0');
	}
	ruleset.services[0].listen = (struct listen){PROTOCOL_TCP, 6379};
	ruleset.services[0].shares[family] = shares;
	ruleset.services[0].share_count[family] = count;
	return ruleset;
}

/* --- Golden files -------------------------------------------------------------- */

static void add_message(struct text *text, const struct nlmsghdr *message)
{
	const unsigned char *bytes = (const unsigned char *)message;
	char what[256];

	batch_describe(message, 0, what, sizeof(what));
	text_printf(text, "# %s\n", what);
	for (uint32_t i = 0; i < message->nlmsg_len; i++)
		text_printf(text, "%02x%s", bytes[i],
			    i % 16 == 15 || i + 1 == message->nlmsg_len ? "\n" : " ");
}

/* The messages of a batch, one behind the other. */
#define for_each_message(message, length, batch)                           \
	int length = (int)(batch)->length;                                 \
	for (const struct nlmsghdr *message = (const void *)(batch)->data; \
	     mnl_nlmsg_ok(message, length); message = mnl_nlmsg_next(message, &length))

static void batch_text(const struct batch *batch, struct text *text)
{
	for_each_message(message, length, batch) add_message(text, message);
	assert_false(text->failed);
}

static void assert_golden(const struct world *world, const char *name)
{
	CLEANUP(text_done) struct text text = {0};
	CLEANUP(memory_free) char *wanted = NULL;
	const char *mode = getenv("GOLDEN");
	char path[128];
	size_t length;

	batch_text(&world->batch, &text);
	(void)snprintf(path, sizeof(path), "tests/golden/%s.txt", name);
	if (mode && strcmp(mode, "write") == 0) {
		FILE *file = fopen(path, "we");

		assert_non_null(file);
		assert_int_equal(fwrite(text.data, 1, text.length, file), text.length);
		assert_int_equal(fclose(file), 0);
	}
	if (text_read_file(path, 1 << 20, &wanted, &length) < 0)
		fail_msg("%s cannot be read: run from the top of the tree", path);
	assert_string_equal(text.data, wanted);
}

static void test_encode_of_a_first_load_is_golden(void **state)
{
	struct world world;
	struct ruleset desired;

	(void)state;
	world_begin(&world);
	desired = redis(&world, FAMILY_IPV4, "23");
	world_plan(&world, &desired);
	assert_golden(&world, "first-load");
	world_done(&world);
}

/* A namespace where redis stands already. */
static void world_settle(struct world *world, enum family family, const char *numbers)
{
	struct ruleset desired = redis(world, family, numbers);

	world_plan(world, &desired);
	world_apply(world);
}

static void test_encode_of_a_change_is_golden(void **state)
{
	static const struct {
		const char *name, *from, *to;
		enum family family;
		enum balance balance;
	} cases[] = {
		{"replaced", "23", "24", FAMILY_IPV4, BALANCE_RANDOM},
		{"removed", "234", "34", FAMILY_IPV4, BALANCE_RANDOM},
		{"added", "23", "234", FAMILY_IPV4, BALANCE_RANDOM},
		{"ipv6", "2", "34", FAMILY_IPV6, BALANCE_RANDOM},
		{"nth", "23", "23", FAMILY_IPV4, BALANCE_NTH},
		{"unavailable", "2", "", FAMILY_IPV4, BALANCE_RANDOM},
		{"available", "", "2", FAMILY_IPV4, BALANCE_RANDOM},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world world;
		struct ruleset desired;

		print_message("%s\n", cases[i].name);
		world_begin(&world);
		world_settle(&world, cases[i].family, cases[i].from);
		desired = redis(&world, cases[i].family, cases[i].to);
		desired.balance = cases[i].balance;
		world_plan(&world, &desired);
		assert_golden(&world, cases[i].name);
		world_done(&world);
	}
}

/* The last slot moves into the hole that the first one leaves, and counts on. */
static void test_encode_of_a_moved_endpoint_carries_its_counter(void **state)
{
	struct world world;
	struct ruleset desired;
	struct observed *observed;

	(void)state;
	world_begin(&world);
	world_settle(&world, FAMILY_IPV4, "23");
	observed = &world.model->observed;
	for (size_t i = 0; i < observed->endpoint_count; i++) {
		observed->endpoints[i].packets = 0x0102030405060708U + observed->endpoints[i].slot;
		observed->endpoints[i].bytes = 0x1112131415161718U + observed->endpoints[i].slot;
	}
	desired = redis(&world, FAMILY_IPV4, "3");
	world_plan(&world, &desired);
	assert_golden(&world, "counter");
	world_done(&world);
}

static void test_encode_of_a_repair_is_golden(void **state)
{
	struct world world;
	struct ruleset desired;
	struct observed *observed;

	(void)state;
	world_begin(&world);
	world_settle(&world, FAMILY_IPV4, "2");
	observed = &world.model->observed;
	observed->strays[observed->stray_count++] = (struct observed_stray){
		.set = SET_UNAVAILABLE4,
		.key_length = 12,
		.key = {127, 0, 0, 2, 6, 0, 0, 0, 0, 80}};
	observed->chains[observed->chain_count++] = (struct observed_chain){
		.chain = {.kind = CHAIN_FOREIGN}, .name = "theirs"};
	observed->foreign_sets[observed->foreign_set_count++] = (struct observed_set){
		.kind = SET_FOREIGN, .name = "blocklist"};
	desired = redis(&world, FAMILY_IPV4, "2");
	world_plan(&world, &desired);
	assert_golden(&world, "repair");
	world_done(&world);
}

static void test_encode_of_a_flush_is_golden(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	world_settle(&world, FAMILY_IPV4, "2");
	assert_int_equal(plan_flush(world.arena, &world.model->observed, &world.verdicts), 0);
	world_encode(&world);
	assert_golden(&world, "flush");
	world_done(&world);
}

/* --- By hand --------------------------------------------------------------------- */

/*
 * One endpoint replaced, read off linux/netlink.h, linux/netfilter/nfnetlink.h
 * and linux/netfilter/nf_tables.h: lengths and types of headers and attributes
 * in host order (0x8000: nested), values of attributes in network order.
 */
static const char by_hand[] =
	/* nlmsghdr: 28 bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, number 0, port 0 */
	"1c000000 1000 0100 00000000 00000000"
	/* nfgenmsg: AF_UNSPEC, version 0, NFNL_SUBSYS_NFTABLES in network order */
	"00 00 000a"
	/* NFNL_BATCH_GENID (1): 8 */
	"0800 0100 00000008"

	/* 84 bytes, subsystem 10, NFT_MSG_DELSETELEM (14), NLM_F_REQUEST; NFPROTO_INET */
	"54000000 0e0a 0100 01000000 00000000 01 00 0000"
	/* NFTA_SET_ELEM_LIST_TABLE (1) "dragoman", NFTA_SET_ELEM_LIST_SET (2) "endpoints4" */
	"0d00 0100 647261676f6d616e00 000000"
	"0f00 0200 656e64706f696e74733400 00"
	/* NFTA_SET_ELEM_LIST_ELEMENTS (3), NFTA_LIST_ELEM (1) */
	"2000 0380 1c00 0180"
	/* NFTA_SET_ELEM_KEY (1), NFTA_DATA_VALUE (1) */
	"1800 0180 1400 0100"
	/* 127.0.0.1, tcp, 6379, and slot 1 in host order */
	"7f000001 06000000 18eb0000 01000000"

	/* 100 bytes, NFT_MSG_NEWSETELEM (12): NLM_F_REQUEST, _ACK, _EXCL, _CREATE */
	"64000000 0c0a 0506 02000000 00000000 01 00 0000"
	"0d00 0100 647261676f6d616e00 000000"
	"0f00 0200 656e64706f696e74733400 00"
	"3000 0380 2c00 0180"
	"1800 0180 1400 0100"
	"7f000001 06000000 18eb0000 01000000"
	/* NFTA_SET_ELEM_DATA (2), NFTA_DATA_VALUE (1): 10.0.0.4, 49161 */
	"1000 0280 0c00 0100 0a000004 c0090000"

	/* NFNL_MSG_BATCH_END */
	"14000000 1100 0100 03000000 00000000 00 00 000a";

static size_t from_hexadecimal(const char *text, uint8_t *into, size_t size)
{
	size_t count = 0;

	for (; *text; text += 2) {
		char digits[3] = {0};

		text += strspn(text, " ");
		memcpy(digits, text, 2);
		assert_true(count < size);
		into[count++] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return count;
}

static void test_encode_of_a_replacement_is_as_written_by_hand(void **state)
{
	uint8_t wanted[512];
	size_t length = from_hexadecimal(by_hand, wanted, sizeof(wanted));
	struct world world;
	struct ruleset desired;

	(void)state;
	world_begin(&world);
	world_settle(&world, FAMILY_IPV4, "23");
	desired = redis(&world, FAMILY_IPV4, "24");
	world_plan(&world, &desired);
	assert_int_equal(world.last_seq, 2);
	assert_int_equal(world.batch.messages, 4);
	assert_int_equal(world.batch.length, length);
	assert_memory_equal(world.batch.data, wanted, length);
	world_done(&world);
}

/* --- A large batch ------------------------------------------------------------ */

enum { SERVICES = 10000, PER_SERVICE = 10 };

static void make_large(struct arena *arena, struct verdicts *verdicts)
{
	*verdicts = (struct verdicts){
		.generation = 1,
		.services = arena_array(arena, SERVICES, sizeof(*verdicts->services)),
		.endpoints = arena_array(arena, (size_t)SERVICES * PER_SERVICE,
					 sizeof(*verdicts->endpoints)),
	};
	assert_non_null(verdicts->services);
	assert_non_null(verdicts->endpoints);
	for (unsigned i = 0; i < SERVICES; i++) {
		const struct listen listen = {PROTOCOL_TCP, (uint16_t)(i + 1)};
		const uint8_t family = i % 2;

		verdicts->services[verdicts->service_count++] = (struct service_verdict){
			.verdict = VERDICT_REPLACE,
			.family = family,
			.listen = listen,
			.target = {.kind = CHAIN_BALANCE, .family = family, .slots = PER_SERVICE},
		};
		for (unsigned slot = 0; slot < PER_SERVICE; slot++)
			verdicts->endpoints[verdicts->endpoint_count++] = (struct endpoint_verdict){
				.verdict = VERDICT_REPLACE,
				.slot = (uint16_t)slot,
				.listen = listen,
				.endpoint = {.family = family,
					     .port = 80,
					     .address = {10, 1, 1, 1}},
				.packets = 1,
				.bytes = 60,
			};
	}
}

/* What was found in a large batch. */
struct census {
	unsigned char services[2][SERVICES + 1];
	unsigned char endpoints[2][SERVICES + 1][PER_SERVICE];
	size_t elements;
};

static void count_element(struct census *census, enum set_kind set, bool adding,
			  const struct nlattr *element)
{
	const struct nlattr *key = mnl_attr_get_payload(element);
	const struct nlattr *value = mnl_attr_get_payload(key);
	struct listen listen;
	unsigned slot;

	assert_int_equal(mnl_attr_get_type(key), NFTA_SET_ELEM_KEY);
	assert_true(element_parse_key(set, mnl_attr_get_payload(value),
				      mnl_attr_get_payload_len(value), &listen, &slot));
	assert_in_range(listen.port, 1, SERVICES);
	assert_in_range(slot, 0, PER_SERVICE - 1);
	assert_int_equal(set % 2, (listen.port - 1) % 2);
	census->elements++;
	if (set == SET_SERVICES4 || set == SET_SERVICES6)
		census->services[adding][listen.port]++;
	else
		census->endpoints[adding][listen.port][slot]++;
}

static void count_message(struct census *census, const struct nlmsghdr *message)
{
	const unsigned type = NFNL_MSG_TYPE(message->nlmsg_type);
	enum set_kind set = SET_FOREIGN;
	size_t used = sizeof(struct nfgenmsg);

	assert_true(type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM);
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		size_t inside = 0;

		used += (size_t)MNL_ALIGN(attr->nla_len);
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_SET)
			set = set_parse(mnl_attr_get_str(attr));
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		attr_for_each_nested (element, attr) {
			inside += (size_t)MNL_ALIGN(element->nla_len);
			count_element(census, set, type == NFT_MSG_NEWSETELEM, element);
		}
		/* A length that wrapped around would leave a rest. */
		assert_int_equal(inside, mnl_attr_get_payload_len(attr));
		assert_true(inside > 0);
	}
	assert_int_equal(used, mnl_nlmsg_get_payload_len(message));
}

/* In each family what is removed comes first, and the endpoints before those who go there. */
static unsigned rank_of(const struct nlmsghdr *message)
{
	const bool adding = NFNL_MSG_TYPE(message->nlmsg_type) == NFT_MSG_NEWSETELEM;
	enum set_kind set = SET_FOREIGN;

	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_SET)
			set = set_parse(mnl_attr_get_str(attr));
	}
	return (set % 2) * 4U + adding * 2U + (set == SET_SERVICES4 || set == SET_SERVICES6);
}

static void test_encode_of_a_large_load_splits_and_loses_nothing(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(batch_done) struct batch batch = {0};
	CLEANUP(memory_free) struct census *census = calloc(1, sizeof(*census));
	struct verdicts verdicts;
	uint32_t last_seq, seq = 0;
	unsigned rank = 0;

	(void)state;
	assert_non_null(arena);
	assert_non_null(census);
	make_large(arena, &verdicts);
	assert_int_equal(encode_verdicts(&batch, &verdicts, &last_seq), 0);
	for_each_message(message, length, &batch)
	{
		assert_int_equal(message->nlmsg_seq, seq);
		assert_ptr_equal(batch_find(&batch, seq), message);
		assert_int_equal((message->nlmsg_flags & NLM_F_ACK) != 0, seq == last_seq);
		seq++;
		if (seq == 1 || seq == batch.messages)
			continue;
		count_message(census, message);
		assert_true(rank_of(message) >= rank);
		rank = rank_of(message);
	}
	assert_int_equal(seq, batch.messages);
	assert_int_equal(last_seq, seq - 2);
	assert_null(batch_find(&batch, seq));
	assert_int_equal(census->elements, 2 * SERVICES * (1 + PER_SERVICE));
	for (unsigned port = 1; port <= SERVICES; port++) {
		for (unsigned adding = 0; adding < 2; adding++) {
			assert_int_equal(census->services[adding][port], 1);
			for (unsigned slot = 0; slot < PER_SERVICE; slot++)
				assert_int_equal(census->endpoints[adding][port][slot], 1);
		}
	}
}

/* The smallest messages that there are: what is in one, then in each of the six sets. */
static void test_encode_of_one_element_too_many_opens_a_message(void **state)
{
	enum { UNTIL = 3000 };
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct verdicts verdicts = {.generation = 1};
	size_t messages = 3;

	(void)state;
	assert_non_null(arena);
	verdicts.unavailable = arena_array(arena, UNTIL, sizeof(*verdicts.unavailable));
	assert_non_null(verdicts.unavailable);
	for (unsigned i = 0; i < UNTIL; i++)
		verdicts.unavailable[i] = (struct unavailable_verdict){
			.verdict = VERDICT_ADD, .listen = {PROTOCOL_UDP, (uint16_t)(i + 1)}};
	for (verdicts.unavailable_count = 1; verdicts.unavailable_count <= UNTIL;
	     verdicts.unavailable_count += 7) {
		CLEANUP(batch_done) struct batch batch = {0};
		size_t elements = 0;
		uint32_t last_seq;

		assert_int_equal(encode_verdicts(&batch, &verdicts, &last_seq), 0);
		assert_true(batch.messages == messages || batch.messages == messages + 1);
		messages = batch.messages;
		for_each_message(message, length, &batch)
		{
			attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
				if (NFNL_MSG_TYPE(message->nlmsg_type) == NFT_MSG_NEWSETELEM &&
				    mnl_attr_get_type(attr) == NFTA_SET_ELEM_LIST_ELEMENTS)
					elements += mnl_attr_get_payload_len(attr) / 24;
			}
		}
		assert_int_equal(elements, verdicts.unavailable_count);
	}
	assert_true(messages > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode_of_a_first_load_is_golden),
		cmocka_unit_test(test_encode_of_a_change_is_golden),
		cmocka_unit_test(test_encode_of_a_moved_endpoint_carries_its_counter),
		cmocka_unit_test(test_encode_of_a_repair_is_golden),
		cmocka_unit_test(test_encode_of_a_flush_is_golden),
		cmocka_unit_test(test_encode_of_a_replacement_is_as_written_by_hand),
		cmocka_unit_test(test_encode_of_a_large_load_splits_and_loses_nothing),
		cmocka_unit_test(test_encode_of_one_element_too_many_opens_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
