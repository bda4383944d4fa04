/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * As fuzz_plan, against a real kernel: the input is where the random numbers
 * come from, for what is wanted one after the other, and for what somebody does
 * to the table in between: with nft(8) and ip(8) (kernel_damage.h), and with
 * transactions of bytes that no program would send, as whoever has
 * CAP_NET_ADMIN in a container can. What is read then is planned with; the plan
 * goes to a model of it, which must take it, and to the kernel, which must take
 * it as well; what is read from the kernel has to be what the model has, and
 * what is desired, and planning again gives nothing. Some plans are made without
 * the counters, as the agent makes them. In the end what is taken away leaves
 * nothing. Root is needed: the namespace is the fuzzer's own.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nf_tables.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/kernel/batch.h"
#include "../../src/kernel/element.h"
#include "../../src/kernel/netlink.h"
#include "../kernel_damage.h"
#include "../kernel_lab.h"
#include "../plan_model.h"

enum { STEPS_MAX = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lab *lab;
static struct netlink stranger;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "%s\n", what);
	abort();
}

/* --- What a stranger does ------------------------------------------------------ */

static void spoil_bytes(struct random *random, uint8_t *bytes, size_t length)
{
	for (unsigned i = random_below(random, 3); i > 0; i--)
		bytes[random_below(random, length)] = (uint8_t)random_next(random);
}

static void put_value(struct nlmsghdr *message, uint16_t attribute, const void *value,
		      size_t length)
{
	struct nlattr *nest = mnl_attr_nest_start(message, attribute);

	mnl_attr_put(message, NFTA_DATA_VALUE, length, value);
	mnl_attr_nest_end(message, nest);
}

static void put_some_key(struct nlmsghdr *message, enum set_kind set, struct random *random)
{
	static const uint16_t ports[] = {53, 80, 6379, 65535, 9};
	const struct listen listen = {random_once_in(random, 2) ? PROTOCOL_TCP : PROTOCOL_UDP,
				      ports[random_below(random, ARRAY_SIZE(ports))]};
	uint8_t key[ELEMENT_KEY_MAX];
	size_t length = element_key(set, &listen, random_below(random, 12), key);

	if (random_once_in(random, 16)) {
		mnl_attr_put_u32(message, NFTA_SET_ELEM_FLAGS, htonl(NFT_SET_ELEM_CATCHALL));
		return;
	}
	spoil_bytes(random, key, length);
	put_value(message, NFTA_SET_ELEM_KEY, key, length);
}

static void put_some_verdict(struct nlmsghdr *message, struct random *random)
{
	static const int codes[] = {NFT_GOTO, NFT_GOTO, NFT_JUMP, NFT_RETURN, NFT_CONTINUE, 0, 1};
	static const char *const chains[] = {"balance4-1", "balance4-2", "balance6-1",
					     "nth4-80-tcp", "theirs"};
	const int code = codes[random_below(random, ARRAY_SIZE(codes))];
	struct nlattr *data = mnl_attr_nest_start(message, NFTA_SET_ELEM_DATA);
	struct nlattr *verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);

	mnl_attr_put_u32(message, NFTA_VERDICT_CODE, htonl((uint32_t)code));
	if (code == NFT_GOTO || code == NFT_JUMP)
		mnl_attr_put_strz(message, NFTA_VERDICT_CHAIN,
				  chains[random_below(random, ARRAY_SIZE(chains))]);
	mnl_attr_nest_end(message, verdict);
	mnl_attr_nest_end(message, data);
}

static void put_some_counter(struct nlmsghdr *message, struct random *random)
{
	struct nlattr *expression = mnl_attr_nest_start(message, NFTA_SET_ELEM_EXPR);
	struct nlattr *data;

	mnl_attr_put_strz(message, NFTA_EXPR_NAME, "counter");
	data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
	mnl_attr_put_u64(message, NFTA_COUNTER_BYTES, htobe64(random_next(random)));
	mnl_attr_put_u64(message, NFTA_COUNTER_PACKETS, htobe64(random_next(random)));
	mnl_attr_nest_end(message, data);
	mnl_attr_nest_end(message, expression);
}

static void put_some_endpoint(struct nlmsghdr *message, enum family family, struct random *random)
{
	const struct endpoint endpoint = model_endpoint(family, random_below(random, 8));
	const size_t address = family == FAMILY_IPV4 ? 4 : 16;
	const uint16_t port = htons(endpoint.port);
	uint8_t value[16 + 4] = {0};

	memcpy(value, endpoint.address, address);
	memcpy(value + address, &port, sizeof(port));
	spoil_bytes(random, value, address + 4);
	put_value(message, NFTA_SET_ELEM_DATA, value, address + 4);
	if (random_once_in(random, 2))
		put_some_counter(message, random);
}

static void put_some_element(struct nlmsghdr *message, enum set_kind set, bool adding,
			     struct random *random)
{
	struct nlattr *list, *element;

	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, "dragoman");
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set_name(set));
	list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	put_some_key(message, set, random);
	if (adding && set <= SET_SERVICES6)
		put_some_verdict(message, random);
	else if (adding && set <= SET_ENDPOINTS6)
		put_some_endpoint(message, set == SET_ENDPOINTS6 ? FAMILY_IPV6 : FAMILY_IPV4,
				  random);
	if (adding && random_once_in(random, 8))
		mnl_attr_put(message, NFTA_SET_ELEM_USERDATA, 7, "\0\5hello");
	mnl_attr_nest_end(message, element);
	mnl_attr_nest_end(message, list);
}

static int ignore(const struct nlmsghdr *message, void *user)
{
	(void)message;
	(void)user;
	return 0;
}

/* The kernel may refuse it. */
static void write_some_element(struct random *random)
{
	const enum set_kind set = (enum set_kind)random_below(random, SET_COUNT);
	const bool adding = !random_once_in(random, 3);
	CLEANUP(batch_done) struct batch batch = {0};
	struct netlink_refusal refusal;
	struct nlmsghdr *message;
	uint32_t last;

	batch_begin(&batch, 0);
	message = batch_open(&batch, adding ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
			     adding ? NLM_F_CREATE : 0);
	require(message, "no memory");
	put_some_element(message, set, adding, random);
	batch_close(&batch, message);
	last = batch_end(&batch);
	(void)netlink_send_batch(&stranger, batch.data, batch.length, last, batch.messages, ignore,
				 NULL, &refusal);
}

/* As connections would: an element gets a counter. It may be gone by now. */
static void count_something(struct random *random)
{
	const struct observed *observed = &lab->observed;
	struct endpoint_verdict verdict = {.verdict = VERDICT_REPLACE};
	const struct verdicts verdicts = {.endpoints = &verdict, .endpoint_count = 1};
	const struct observed_endpoint *endpoint;
	struct error error;

	if (!observed->endpoint_count)
		return;
	endpoint = &observed->endpoints[random_below(random, observed->endpoint_count)];
	verdict.listen = endpoint->listen;
	verdict.slot = endpoint->slot;
	verdict.endpoint = endpoint->endpoint;
	verdict.packets = 1 + random_below(random, 256);
	verdict.bytes = 60 * verdict.packets;
	(void)kernel_commit(lab->kernel, &verdicts, &error);
}

/* Whether a command was run, after which the world may not be what it was. */
static bool spoil(struct random *random)
{
	bool any = false;

	for (unsigned i = random_below(random, 7); i > 0; i--) {
		if (random_once_in(random, 2))
			count_something(random);
		else if (random_once_in(random, 4))
			any |= lab_try_run(
				kernel_damages[random_below(random, kernel_damage_count)]);
		else
			write_some_element(random);
	}
	return any;
}

/* --- What we do ----------------------------------------------------------------- */

static void forget_counters(struct observed *observed)
{
	observed->uncounted = true;
	for (size_t i = 0; i < observed->endpoint_count; i++)
		observed->endpoints[i].packets = observed->endpoints[i].bytes = 0;
}

static void agree(const struct model *model, const struct observed *observed)
{
	const struct model read = {.observed = *observed};
	const char *what = model_disagree(model, &read);

	require(!what, what);
}

/* To the model by a plan that knows the counters, to the kernel by one that may not. */
static void change(struct model *model, const struct ruleset *desired, struct random *random)
{
	const unsigned flags = random_once_in(random, 6) ? PLAN_REBUILD : 0;
	struct verdicts counted;

	require(plan_make(lab->arena, desired, &lab->observed, flags, &counted) == 0, "no memory");
	require(model_apply(model, &counted), model->failure);
	/* What is remembered can be changed in place. */
	if (!counted.table_remove && random_once_in(random, 2))
		forget_counters(&lab->observed);
	require(plan_make(lab->arena, desired, &lab->observed, flags, &lab->verdicts) == 0,
		"no memory");
	require(kernel_read_counters(lab->kernel, &lab->verdicts, &lab->error) == 0,
		lab->error.message);
	lab_commit(lab);
}

static void step(struct random *random)
{
	struct ruleset desired = model_random_ruleset(lab->arena, random);
	CLEANUP(model_freep) struct model *before = NULL;
	CLEANUP(model_freep) struct model *after = NULL;
	const char *what;

	lab_read(lab);
	before = model_copy(&(struct model){.observed = lab->observed});
	after = model_copy(before);
	change(after, &desired, random);
	lab_plan(lab, &desired);
	agree(after, &lab->observed);
	what = model_differs(&desired, before, after);
	require(!what, what);
	require(lab_is_empty(&lab->verdicts), "planning again gives something");
}

static void flush(void)
{
	CLEANUP(model_freep) struct model *model = NULL;

	lab_read(lab);
	model = model_copy(&(struct model){.observed = lab->observed});
	require(plan_flush(lab->arena, &lab->observed, &lab->verdicts) == 0, "no memory");
	require(model_apply(model, &lab->verdicts), model->failure);
	lab_commit(lab);
	lab_read(lab);
	agree(model, &lab->observed);
	require(!lab->observed.table, "a flush leaves the table");
}

static void close_lab(void)
{
	netlink_close(&stranger);
	(void)lab_end((void **)&lab);
	(void)lab_group_end(NULL);
}

static void open_lab(void)
{
	struct error error;

	/* What fails there is no test here, and would be an orderly exit. */
	require(setenv("CMOCKA_TEST_ABORT", "1", 1) == 0, "setenv");
	require(lab_group_begin(NULL) == 0 && lab_begin((void **)&lab) == 0, "no namespace");
	require(netlink_open(&stranger, NETLINK_NETFILTER, &error) == 0, "no socket");
	require(atexit(close_lab) == 0, "atexit");
}

static void restore(void)
{
	lab_run("nft flush ruleset; ip link del d1; ip link set d0 up; echo 0 >" LOCALNET
		"; ip -6 route flush proto 213 table local; true");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct random random = {.bytes = data, .left = size};
	bool spoiled = false;

	if (!lab)
		open_lab();
	arena_free(lab->arena);
	lab->arena = arena_new();
	require(lab->arena, "no memory");
	for (unsigned i = 0; i < STEPS_MAX && random.left; i++) {
		step(&random);
		spoiled |= spoil(&random);
	}
	flush();
	if (spoiled)
		restore();
	return 0;
}
