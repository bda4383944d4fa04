/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Memory that runs out (exhaust.h) in what rules are made of, from the plan to
 * the kernel and back, in a namespace for each test. Whatever could not be done
 * was not begun: what stood stands, and with memory the next try is right.
 */
#include "exhaust.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "../src/cmd/sync.h"
#include "../src/kernel/encode.h"
#include "dragoman/kernel/flows.h"
#include "dragoman/kernel/monitor.h"
#include "dragoman/model/standing.h"
#include "dragoman/plan/plan.h"
#include "dragoman/plan/stale.h"
#include "dump.h"
#include "kernel_lab.h"
#include "plan_model.h"

/* --- Rules -------------------------------------------------------------------------- */

struct rules {
	struct arena *arena;
	struct model *before;
	struct ruleset desired;
};

static int plan(void *user, struct error *error)
{
	const struct rules *rules = user;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct verdicts verdicts;
	struct stale *stale;
	size_t count;

	if (!arena ||
	    plan_make(arena, &rules->desired, &rules->before->observed, 0, &verdicts) < 0 ||
	    stale_after(arena, &verdicts, true, &stale, &count) < 0)
		return error_no_memory(error);
	assert_true(verdicts.table_add);
	assert_int_equal(verdicts.endpoint_count > 0, true);
	return 0;
}

static int plan_and_encode(void *user, struct error *error)
{
	const struct rules *rules = user;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(batch_done) struct batch batch = {0};
	struct verdicts verdicts;
	uint32_t last_seq;

	if (!arena ||
	    plan_make(arena, &rules->desired, &rules->before->observed, 0, &verdicts) < 0 ||
	    encode_verdicts(&batch, &verdicts, &last_seq) < 0)
		return error_no_memory(error);
	assert_true(batch.messages > 10);
	return 0;
}

/* What was encoded, read as a dump would be. */
static int decode(void *user, struct error *error)
{
	static const int types[] = {NFT_MSG_NEWTABLE, NFT_MSG_NEWSET, NFT_MSG_NEWCHAIN,
				    NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM};
	const struct batch *batch = user;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct observed observed = {.generation = GENERATION, .saved_localnet = -1};
	CLEANUP(decoder_done) struct decoder decoder = {.arena = arena, .observed = &observed};
	int r = arena ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(types) && r == 0; i++) {
		int length = (int)batch->length;

		for (const struct nlmsghdr *message = (const void *)batch->data;
		     mnl_nlmsg_ok(message, length) && r == 0;
		     message = mnl_nlmsg_next(message, &length)) {
			if (NFNL_MSG_TYPE(message->nlmsg_type) != types[i] ||
			    NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES)
				continue;
			if (types[i] == NFT_MSG_NEWSETELEM)
				decoder.set = SET_ENDPOINTS4;
			r = dump_feed(&decoder, message);
			if (r == -EAGAIN) /* elements of all sets are taken for those of one */
				r = 0;
		}
		if (types[i] == NFT_MSG_NEWCHAIN)
			decode_chains_end(&decoder);
		if (types[i] == NFT_MSG_NEWRULE)
			decode_rules_end(&decoder);
	}
	if (r == 0)
		r = decode_finish(&decoder);
	if (r < 0) {
		assert_int_equal(r, -ENOMEM);
		return error_no_memory(error);
	}
	assert_null(observed.foreign);
	for (size_t i = 0; i < observed.chain_count; i++)
		assert_true(observed.chains[i].intact);
	return 0;
}

static int remember(void *user, struct error *error)
{
	const struct rules *rules = user;
	CLEANUP(standing_freep) struct standing *standing = standing_new();
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct verdicts verdicts;
	struct observed view;
	struct listen *listens;
	int r = standing && arena ? standing_take(standing, &rules->before->observed) : -ENOMEM;

	if (r == 0)
		r = plan_make(arena, &rules->desired, &rules->before->observed, 0, &verdicts);
	if (r == 0)
		r = standing_apply(standing, &verdicts);
	listens = r == 0 ? arena_array(arena, rules->desired.count, sizeof(*listens)) : NULL;
	if (!listens)
		return error_no_memory(error);
	for (size_t i = 0; i < rules->desired.count; i++)
		listens[i] = rules->desired.services[i].listen;
	if (standing_view(standing, arena, listens, rules->desired.count, &view) < 0)
		return error_no_memory(error);
	assert_true(standing_count(standing) > 0);
	return 0;
}

static int rules_begin(void **state)
{
	static struct rules rules;
	struct random random = {.state = 7};

	rules.arena = arena_new();
	rules.before = model_new();
	if (!rules.arena || !rules.before)
		return -1;
	do {
		rules.desired = model_random_ruleset(rules.arena, &random);
	} while (rules.desired.count < 3);
	*state = &rules;
	return 0;
}

static int rules_end(void **state)
{
	struct rules *rules = *state;

	arena_free(rules->arena);
	model_free(rules->before);
	return 0;
}

/* --- The kernel -------------------------------------------------------------------------- */

struct place {
	struct lab *lab;
	struct ruleset a, b;
	struct netns netns;
};

static bool stands(struct lab *lab, const struct ruleset *desired)
{
	lab_plan(lab, desired);
	return lab_is_empty(&lab->verdicts);
}

/* One of the two rulesets takes the place of the other: whole, or not at all. */
static int replace(void *user, struct error *error)
{
	const struct deadline deadline = deadline_start(UINT64_C(20000000000));
	struct sync_result result = {0};
	struct place *place = user;
	struct sync sync = {.netns = &place->netns, .deadline = &deadline};
	const struct ruleset *old;
	bool was = exhaust_pause();
	int r;

	old = stands(place->lab, &place->a) ? &place->a : &place->b;
	sync.desired = old == &place->a ? &place->b : &place->a;
	exhaust_go_on(was);
	r = sync_run(&sync, &result, error);
	sync_result_done(&result);
	was = exhaust_pause();
	/* The table may be done when memory is out, and the rest is said not to be. */
	if (!stands(place->lab, sync.desired))
		assert_true(r < 0 && stands(place->lab, old));
	exhaust_go_on(was);
	return r;
}

static void on_news(const struct kernel_news *news, void *user)
{
	(void)news;
	(void)user;
}

static int watch(void *user, struct error *error)
{
	const struct place *place = user;
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(kernel_closep) struct kernel *kernel = NULL;
	CLEANUP(kernel_monitor_closep) struct kernel_monitor *monitor = NULL;
	int r = loop_new(&loop);

	if (r < 0)
		return error_no_memory(error);
	r = kernel_open(&place->netns, &kernel, error);
	if (r == 0)
		r = kernel_monitor_open(loop, &place->netns, kernel, on_news, NULL, &monitor,
					error);
	return r;
}

static int sweep(void *user, struct error *error)
{
	const struct endpoint gone = model_endpoint(FAMILY_IPV4, 0);
	const struct flow_filter filters[] = {
		{.listen = {PROTOCOL_UDP, 53}, .endpoints = &gone, .count = 1},
		{.listen = {PROTOCOL_TCP, 80}, .endpoints = &gone, .count = 1},
	};
	const struct place *place = user;
	CLEANUP(flows_closep) struct flows *flows = NULL;
	int r = flows_open(&place->netns, filters, ARRAY_SIZE(filters), &flows, error);

	return r < 0 ? r : flows_sweep(flows, error);
}

/* --- Tests ---------------------------------------------------------------------------- */

static void test_memory_exhausted_while_rules_are_planned_says_so(void **state)
{
	SURVIVES(plan, *state);
	SURVIVES(plan_and_encode, *state);
	SURVIVES(remember, *state);
}

static void test_memory_exhausted_while_a_dump_is_read_is_no_foreign_table(void **state)
{
	const struct rules *rules = *state;
	CLEANUP(batch_done) struct batch batch = {0};
	struct verdicts verdicts;
	uint32_t last_seq;
	int length;

	assert_int_equal(
		plan_make(rules->arena, &rules->desired, &rules->before->observed, 0, &verdicts),
		0);
	assert_int_equal(encode_verdicts(&batch, &verdicts, &last_seq), 0);
	length = (int)batch.length;
	for (struct nlmsghdr *message = (void *)batch.data; mnl_nlmsg_ok(message, length);
	     message = mnl_nlmsg_next(message, &length))
		((struct nfgenmsg *)mnl_nlmsg_get_payload(message))->res_id = htons(
			(uint16_t)GENERATION);
	SURVIVES(decode, &batch);
}

static void place_begin(struct place *place, struct lab *lab)
{
	*place = (struct place){.lab = lab, .netns = NETNS_NONE};
	place->a = lab_service(lab, FAMILY_IPV4, 3);
	place->b = lab_service(lab, FAMILY_IPV6, 2);
	if (place->b.services)
		place->b.services[0].listen.port = 81;
	lab_sync(lab, &place->b);
	assert_int_equal(netns_open("/proc/self/ns/net", &place->netns, &lab->error), 0);
}

static void test_memory_exhausted_while_rules_are_committed_leaves_old_or_new(void **state)
{
	struct place place;

	place_begin(&place, *state);
	SURVIVES(replace, &place);
	netns_done(&place.netns);
}

static void test_memory_exhausted_while_a_namespace_is_opened_leaves_nothing_open(void **state)
{
	struct place place;

	place_begin(&place, *state);
	SURVIVES(watch, &place);
	SURVIVES(sweep, &place);
	netns_done(&place.netns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_memory_exhausted_while_rules_are_planned_says_so, rules_begin,
			rules_end),
		cmocka_unit_test_setup_teardown(
			test_memory_exhausted_while_a_dump_is_read_is_no_foreign_table, rules_begin,
			rules_end),
		lab_test(test_memory_exhausted_while_rules_are_committed_leaves_old_or_new),
		lab_test(test_memory_exhausted_while_a_namespace_is_opened_leaves_nothing_open),
	};

	return cmocka_run_group_tests_name("memory of rules", tests, lab_group_begin,
					   lab_group_end);
}
