/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is a sequence of records, a type, a length and as many bytes, each
 * made into a message of a dump. Elements get the bytes as they are, behind
 * the family header. What libnftnl takes apart gets attributes of the lengths
 * that the kernel gives them, since the library ends the process at any other,
 * with values from the input: names, numbers, expressions, and a table's user
 * data, which is whatever somebody wrote there.
 *
 * Besides not crashing, what was decoded keeps to its bounds, and can be
 * planned with, encoded and flushed: nothing that somebody put into a kernel
 * may stop us from putting it right.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../../src/kernel/decode.h"
#include "../../src/kernel/encode.h"
#include "dragoman/model/document.h"
#include "dragoman/plan/plan.h"

enum { ROOM = 4096, ZEROS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What is left of the input. */
struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t take(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

static uint32_t take_number(struct input *input)
{
	uint32_t number = 0;

	for (unsigned i = 0; i < 4; i++)
		number = number << 8 | take(input);
	return number;
}

/* One of the words that matter, or one of the input's own. */
static void put_word(struct nlmsghdr *message, uint16_t attribute, struct input *input)
{
	static const char *const words[] = {
		"dragoman",    "output",     "guard",        "postrouting",
		"unavailable", "balance4-2", "balance6-300", "nth4-1-tcp",
		"services4",   "services6",  "endpoints4",   "endpoints6",
		"numgen",      "counter",    "unavailable6", "unavailable4"};
	uint8_t which = take(input);
	char own[16];

	if (which / 16 % 2 == 0) {
		mnl_attr_put_strz(message, attribute, words[which % 16]);
		return;
	}
	for (unsigned i = 0; i < which % 16; i++)
		own[i] = (char)take(input);
	own[which % 16] = '\0';
	mnl_attr_put_strz(message, attribute, own);
}

static void put_number(struct nlmsghdr *message, uint16_t attribute, struct input *input)
{
	mnl_attr_put_u32(message, attribute, htonl(take_number(input)));
}

static void make_table(struct nlmsghdr *message, struct input *input)
{
	size_t length = input->size < 256 ? input->size : 256;

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, "dragoman");
	if (take(input) % 4 == 0)
		put_number(message, NFTA_TABLE_FLAGS, input);
	length = input->size < length ? input->size : length;
	mnl_attr_put(message, NFTA_TABLE_USERDATA, length, input->data);
}

static void make_set(struct nlmsghdr *message, struct input *input)
{
	static const uint16_t numbers[] = {NFTA_SET_FLAGS, NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN,
					   NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN};
	struct nlattr *nest;

	mnl_attr_put_strz(message, NFTA_SET_TABLE, "dragoman");
	put_word(message, NFTA_SET_NAME, input);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (take(input) % 4)
			mnl_attr_put_u32(message, numbers[i], htonl(take(input)));
	}
	if (take(input) % 2) {
		nest = mnl_attr_nest_start(message, NFTA_SET_EXPR);
		put_word(message, NFTA_EXPR_NAME, input);
		mnl_attr_nest_end(message, nest);
	}
}

static void make_chain(struct nlmsghdr *message, struct input *input)
{
	struct nlattr *hook;

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "dragoman");
	put_word(message, NFTA_CHAIN_NAME, input);
	if (take(input) % 2)
		return;
	hook = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(take(input)));
	put_number(message, NFTA_HOOK_PRIORITY, input);
	mnl_attr_nest_end(message, hook);
	mnl_attr_put_u32(message, NFTA_CHAIN_POLICY, htonl(take(input)));
	put_word(message, NFTA_CHAIN_TYPE, input);
}

static void make_rule(struct nlmsghdr *message, struct input *input)
{
	struct nlattr *list, *element, *data;

	mnl_attr_put_strz(message, NFTA_RULE_TABLE, "dragoman");
	put_word(message, NFTA_RULE_CHAIN, input);
	list = mnl_attr_nest_start(message, NFTA_RULE_EXPRESSIONS);
	for (unsigned i = take(input) % 8; i > 0; i--) {
		const bool numgen = take(input) % 2;

		element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
		mnl_attr_put_strz(message, NFTA_EXPR_NAME, numgen ? "numgen" : "masq");
		data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
		if (numgen)
			put_number(message, NFTA_NG_MODULUS, input);
		mnl_attr_nest_end(message, data);
		mnl_attr_nest_end(message, element);
	}
	mnl_attr_nest_end(message, list);
}

/* Bytes as they are. */
static void make_raw(struct nlmsghdr *message, const struct input *input)
{
	memcpy((char *)message + message->nlmsg_len, input->data, input->size);
	message->nlmsg_len += (uint32_t)input->size;
}

static int feed(struct decoder *decoder, struct nlmsghdr *message, uint8_t type,
		struct input *input)
{
	switch (type % 8) {
	case 0:
		make_table(message, input);
		return decode_table(message, decoder);
	case 1:
		make_set(message, input);
		return decode_set(message, decoder);
	case 2:
		make_chain(message, input);
		return decode_chain(message, decoder);
	case 3:
		make_rule(message, input);
		return decode_rule(message, decoder);
	default:
		decoder->set = (enum set_kind)(type / 8 % SET_COUNT);
		make_raw(message, input);
		return decode_elements(message, decoder);
	}
}

/* One message in memory that ends where it does, but for the zeros of netlink.c. */
static int feed_record(struct decoder *decoder, uint8_t type, struct input *input)
{
	char room[ROOM] = {0};
	struct nlmsghdr *message = mnl_nlmsg_put_header(room);
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->nfgen_family = NFPROTO_INET;
	header->res_id = htons((uint16_t)decoder->observed->generation);
	return feed(decoder, message, type, input);
}

/* Tables, sets and chains come before rules, and these before elements, as in kernel.c. */
static void feed_stage(struct decoder *decoder, const uint8_t *data, size_t size, unsigned from,
		       unsigned to)
{
	struct input all = {data, size};

	while (all.size) {
		uint8_t type = take(&all);
		size_t length = take(&all);
		struct input record;

		record = (struct input){all.data, length < all.size ? length : all.size};
		all.data += record.size;
		all.size -= record.size;
		if (type % 8 < from || type % 8 > to)
			continue;
		(void)feed_record(decoder, type, &record);
	}
}

static void check(const struct observed *observed)
{
	for (size_t i = 0; i < observed->chain_count; i++)
		require(observed->chains[i].name && observed->chains[i].chain.slots <= SLOTS_MAX);
	for (size_t i = 0; i < observed->endpoint_count; i++)
		require(observed->endpoints[i].slot < SLOTS_MAX &&
			observed->endpoints[i].listen.port);
	for (size_t i = 0; i < observed->service_count; i++)
		require(observed->services[i].target.slots <= SLOTS_MAX);
	for (size_t i = 0; i < observed->stray_count; i++)
		require(observed->strays[i].key_length <= ELEMENT_KEY_MAX &&
			observed->strays[i].set < SET_COUNT);
}

/* What the kernel cannot have - one key twice - is no use to plan with. */
static bool has_twins(const struct observed *observed)
{
	return observed->service_count > 1 || observed->endpoint_count > 1 ||
	       observed->unavailable_count > 1 || observed->chain_count > 1;
}

static void plan_with(struct arena *arena, const struct observed *observed)
{
	struct ruleset_service service = {.listen = {PROTOCOL_TCP, 80}, .mode = RULESET_HOLD};
	const struct ruleset desired = {.services = &service, .count = 1};
	struct verdicts verdicts;
	struct batch batch = {0};
	uint32_t last_seq;

	require(plan_make(arena, &desired, observed, 0, &verdicts) == 0);
	require(encode_verdicts(&batch, &verdicts, &last_seq) == 0);
	batch_done(&batch);
	require(plan_flush(arena, observed, &verdicts) == 0);
	require(encode_verdicts(&batch, &verdicts, &last_seq) == 0);
	batch_done(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct observed observed = {.generation = 7, .saved_localnet = -1};
	struct arena *arena = arena_new();
	struct decoder decoder = {.arena = arena, .observed = &observed};

	require(arena != NULL);
	feed_stage(&decoder, data, size, 0, 2);
	decode_chains_end(&decoder);
	feed_stage(&decoder, data, size, 3, 3);
	decode_rules_end(&decoder);
	feed_stage(&decoder, data, size, 4, 7);
	require(decode_finish(&decoder) == 0);
	check(&observed);
	if (!has_twins(&observed))
		plan_with(arena, &observed);
	decoder_done(&decoder);
	arena_free(arena);
	return 0;
}
