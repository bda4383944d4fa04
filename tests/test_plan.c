/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Plans as properties: whatever is desired and however what stands was
 * damaged, applying the plan to a model of the kernel (plan_model.h) gives
 * what is desired, and planning again gives nothing. A failure prints the seed
 * of its round; `SEED=N ROUNDS=1` in the environment runs just that one.
 *
 * Besides: single changes cost what design.md says that they cost, and the
 * list of changes for people, line by line.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/plan/plan.h"
#include "plan_model.h"

static unsigned long rounds(unsigned long otherwise)
{
	const char *wanted = getenv("ROUNDS");

	return wanted ? strtoul(wanted, NULL, 0) : otherwise;
}

/* One round: a world, what is wanted in it, and the plan that leads there. */
struct round {
	unsigned long seed;
	struct random random;
	struct arena *arena;
	struct model *before, *after;
	struct ruleset desired;
	struct verdicts verdicts;
};

static void round_fail(const struct round *round, const char *what)
{
	fail_msg("seed %lu: %s", round->seed, what);
}

/* Plans, and applies to a copy. */
static void round_make(struct round *round, unsigned flags)
{
	assert_int_equal(plan_make(round->arena, &round->desired, &round->before->observed, flags,
				   &round->verdicts),
			 0);
	model_free(round->after);
	round->after = model_copy(round->before);
	if (!model_apply(round->after, &round->verdicts))
		round_fail(round, round->after->failure);
}

/* What was reached becomes what the next plan starts from. */
static void round_step(struct round *round)
{
	model_free(round->before);
	round->before = TAKE(round->after);
	model_shuffle(round->before, &round->random);
}

static void round_begin(struct round *round, unsigned long seed)
{
	*round = (struct round){.seed = seed, .random = {seed}, .arena = arena_new()};
	assert_non_null(round->arena);
	round->before = model_new();
	round->before->observed.ipv6 = !random_once_in(&round->random, 4);
}

static void round_done(struct round *round)
{
	model_free(round->before);
	model_free(round->after);
	arena_free(round->arena);
}

/* Counters that tell elements apart. */
static void count_connections(struct round *round)
{
	struct observed *observed = &round->before->observed;

	for (size_t i = 0; i < observed->endpoint_count; i++) {
		observed->endpoints[i].packets = i + 1;
		observed->endpoints[i].bytes = (i + 1) * 60;
	}
}

/* A world where something else was wanted, and where things were then damaged. */
static void round_begin_damaged(struct round *round, unsigned long seed)
{
	round_begin(round, seed);
	for (unsigned i = random_below(&round->random, 3); i > 0; i--) {
		round->desired = model_random_ruleset(round->arena, &round->random);
		round_make(round, 0);
		round_step(round);
	}
	model_damage(round->before, &round->random);
	model_shuffle(round->before, &round->random);
	count_connections(round);
	/* Often the same is wanted still. */
	if (!random_once_in(&round->random, 3))
		round->desired = model_random_ruleset(round->arena, &round->random);
}

static bool nothing_to_do(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

static void check_sync(const struct round *round)
{
	if (nothing_to_do(&round->verdicts) != (round->verdicts.change_count == 0))
		round_fail(round, "the list of changes and the verdicts disagree");
}

/* Before Linux 6.2 a chain counts as in use still by an element that goes with it. */
static void check_chains_removed(const struct round *round)
{
	const struct observed *before = &round->before->observed;

	for (size_t i = 0; i < round->verdicts.chain_count; i++) {
		const struct chain_verdict *verdict = &round->verdicts.chains[i];
		bool intact = false, used = false;

		for (size_t n = 0; n < before->chain_count; n++)
			intact = intact || (before->chains[n].intact &&
					    chain_equal(&before->chains[n].chain, &verdict->chain));
		for (size_t n = 0; n < before->service_count; n++)
			used = used || chain_equal(&before->services[n].target, &verdict->chain);
		if (verdict->verdict == VERDICT_REMOVE && intact && used)
			round_fail(round, "a chain was removed with what went to it");
	}
}

static void test_plan_applied_to_anything_gives_what_is_desired(void **state)
{
	unsigned long first = random_first_seed(1), count = rounds(3000);

	(void)state;
	print_message("seeds %lu and %lu more\n", first, count);
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct round round;
		const char *what;

		round_begin_damaged(&round, seed);
		round_make(&round, 0);
		check_sync(&round);
		check_chains_removed(&round);
		what = model_differs(&round.desired, round.before, round.after);
		if (what)
			round_fail(&round, what);
		round_step(&round);
		round_make(&round, 0);
		check_sync(&round);
		if (!nothing_to_do(&round.verdicts))
			round_fail(&round, "planning again gives something");
		round_done(&round);
	}
}

static void test_rebuild_of_anything_gives_what_is_desired(void **state)
{
	unsigned long first = random_first_seed(100001), count = rounds(1500);

	(void)state;
	print_message("seeds %lu and %lu more\n", first, count);
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct round round;
		const char *what;

		round_begin_damaged(&round, seed);
		round_make(&round, PLAN_REBUILD);
		check_sync(&round);
		if (round.before->observed.table &&
		    (!round.verdicts.table_remove || !round.verdicts.table_add))
			round_fail(&round, "the table was not replaced");
		what = model_differs(&round.desired, round.before, round.after);
		if (what)
			round_fail(&round, what);
		round_step(&round);
		round_make(&round, 0);
		if (!nothing_to_do(&round.verdicts))
			round_fail(&round, "planning again gives something");
		round_done(&round);
	}
}

/* --- Elements stay, and keep their counters -------------------------------------- */

/* The slots of one endpoint of one service, in one model. */
struct tenure {
	size_t slots;   /* how many it has */
	size_t below;   /* in slots below the limit */
	size_t counted; /* whose counter is not 0 */
};

static struct tenure tenure_of(const struct model *model, const struct observed_endpoint *whose,
			       size_t limit)
{
	struct tenure tenure = {0};

	for (size_t i = 0; i < model->observed.endpoint_count; i++) {
		const struct observed_endpoint *other = &model->observed.endpoints[i];

		if (listen_compare(&other->listen, &whose->listen) != 0 ||
		    endpoint_compare(&other->endpoint, &whose->endpoint) != 0)
			continue;
		tenure.slots++;
		tenure.below += other->slot < limit;
		tenure.counted += other->packets != 0;
	}
	return tenure;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t slots_of(const struct model *model, const struct observed_endpoint *whose)
{
	size_t count = 0;

	for (size_t i = 0; i < model->observed.endpoint_count; i++) {
		const struct observed_endpoint *other = &model->observed.endpoints[i];

		count += listen_compare(&other->listen, &whose->listen) == 0 &&
			 other->endpoint.family == whose->endpoint.family;
	}
	return count;
}

/* How many elements of an endpoint are the very ones that stood before. */
static size_t untouched(const struct round *round, const struct observed_endpoint *whose)
{
	size_t count = 0;

	for (size_t i = 0; i < round->before->observed.endpoint_count; i++) {
		const struct observed_endpoint *old = &round->before->observed.endpoints[i];
		bool touched = false;

		if (listen_compare(&old->listen, &whose->listen) != 0 ||
		    endpoint_compare(&old->endpoint, &whose->endpoint) != 0)
			continue;
		for (size_t n = 0; n < round->verdicts.endpoint_count; n++) {
			const struct endpoint_verdict *verdict = &round->verdicts.endpoints[n];

			touched = touched || (verdict->slot == old->slot &&
					      verdict->endpoint.family == old->endpoint.family &&
					      listen_compare(&verdict->listen, &old->listen) == 0);
		}
		count += !touched;
	}
	return count;
}

/* The bytes were made to follow the packets: a counter is carried as a pair. */
static void check_pair(const struct round *round, const struct observed_endpoint *element)
{
	if (element->bytes != element->packets * 60)
		round_fail(round, "packets and bytes of different elements");
}

static void check_tenures(const struct round *round, bool rebuilt)
{
	for (size_t i = 0; i < round->after->observed.endpoint_count; i++) {
		const struct observed_endpoint *now = &round->after->observed.endpoints[i];
		size_t limit = slots_of(round->after, now);
		struct tenure was = tenure_of(round->before, now, limit);
		struct tenure is = tenure_of(round->after, now, limit);

		check_pair(round, now);
		if (is.counted != smaller(was.slots, is.slots))
			round_fail(round, "a counter was lost, or doubled");
		if (!rebuilt && untouched(round, now) != smaller(was.below, is.slots))
			round_fail(round, "an element was changed without need");
	}
}

/* Counters are all different, so none may stand twice. */
static void check_counters_single(const struct round *round)
{
	bool seen[MODEL_MAX + 1] = {false};

	for (size_t i = 0; i < round->after->observed.endpoint_count; i++) {
		uint64_t packets = round->after->observed.endpoints[i].packets;

		if (packets && seen[packets])
			round_fail(round, "one counter was carried to two elements");
		seen[packets] = true;
	}
}

static void test_elements_that_stay_keep_slot_and_counter(void **state)
{
	unsigned long first = random_first_seed(200001), count = rounds(2000);

	(void)state;
	print_message("seeds %lu and %lu more\n", first, count);
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct round round;
		unsigned flags = seed % 4 ? 0 : PLAN_REBUILD;

		round_begin_damaged(&round, seed);
		round_make(&round, flags);
		if (round.before->observed.table || round.desired.count) {
			check_tenures(&round, round.verdicts.table_add);
			check_counters_single(&round);
		}
		round_done(&round);
	}
}

static void test_flush_of_anything_leaves_nothing(void **state)
{
	unsigned long first = random_first_seed(300001), count = rounds(1000);

	(void)state;
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct round round;
		const struct observed *left;

		round_begin_damaged(&round, seed);
		assert_int_equal(plan_flush(round.arena, &round.before->observed, &round.verdicts),
				 0);
		check_sync(&round);
		model_free(round.after);
		round.after = model_copy(round.before);
		if (!model_apply(round.after, &round.verdicts))
			round_fail(&round, round.after->failure);
		left = &round.after->observed;
		if (left->table || left->route_count)
			round_fail(&round, "something is left");
		for (size_t i = 0; i < left->link_count; i++) {
			if (left->links[i].routed)
				round_fail(&round, "a route is left");
		}
		round_step(&round);
		assert_int_equal(plan_flush(round.arena, &round.before->observed, &round.verdicts),
				 0);
		if (!nothing_to_do(&round.verdicts))
			round_fail(&round, "flushing again gives something");
		round_done(&round);
	}
}

/* --- What a single change costs ---------------------------------------------- */

static int compare_shares(const void *a, const void *b)
{
	const struct share *x = a, *y = b;

	return endpoint_compare(&x->endpoint, &y->endpoint);
}

/*
 * A service of the desired ruleset, with shares of its own that may be changed;
 * NULL where there is none of RULESET_SET.
 */
static struct ruleset_service *pick_service(struct round *round, enum family family)
{
	struct ruleset_service *service;

	if (!round->desired.count)
		return NULL;
	service = &round->desired.services[random_below(&round->random, round->desired.count)];
	if (service->mode != RULESET_SET)
		return NULL;
	assert_non_null(service->shares[family]);
	return service;
}

static unsigned shares_slots(const struct ruleset_service *service, enum family family)
{
	unsigned slots = 0;

	for (size_t i = 0; i < service->share_count[family]; i++)
		slots += service->shares[family][i].slots;
	return slots;
}

/* Nothing of any other port is touched, nor anything that stands outside of services. */
static void check_only(const struct round *round, const struct listen *listen, enum family family)
{
	const struct verdicts *verdicts = &round->verdicts;
	bool only = !verdicts->table_add && !verdicts->table_remove && !verdicts->set_count &&
		    !verdicts->stray_count && !verdicts->route_count && !verdicts->localnet_set;

	for (size_t i = 0; i < verdicts->endpoint_count; i++)
		only = only && listen_compare(&verdicts->endpoints[i].listen, listen) == 0 &&
		       verdicts->endpoints[i].endpoint.family == family;
	for (size_t i = 0; i < verdicts->service_count; i++)
		only = only && listen_compare(&verdicts->services[i].listen, listen) == 0 &&
		       verdicts->services[i].family == family;
	for (size_t i = 0; i < verdicts->unavailable_count; i++)
		only = only && listen_compare(&verdicts->unavailable[i].listen, listen) == 0 &&
		       verdicts->unavailable[i].family == family;
	if (!only)
		round_fail(round, "more than the one service was touched");
}

static size_t count_endpoints(const struct verdicts *verdicts, enum verdict verdict)
{
	size_t count = 0;

	for (size_t i = 0; i < verdicts->endpoint_count; i++)
		count += verdicts->endpoints[i].verdict == verdict;
	return count;
}

/* A world that is as desired; false where it has no service to change in a family. */
static bool round_begin_settled(struct round *round, unsigned long seed, enum family *ret_family,
				struct ruleset_service **ret)
{
	round_begin(round, seed);
	do {
		round->desired = model_random_ruleset(round->arena, &round->random);
		*ret_family = random_once_in(&round->random, 2) ? FAMILY_IPV4 : FAMILY_IPV6;
		*ret = pick_service(round, *ret_family);
	} while (!*ret);
	round_make(round, 0);
	round_step(round);
	count_connections(round);
	return (*ret)->share_count[*ret_family] > 0;
}

static void plan_single(struct round *round, const struct ruleset_service *service,
			enum family family)
{
	const char *what;

	round_make(round, 0);
	check_only(round, &service->listen, family);
	what = model_differs(&round->desired, round->before, round->after);
	if (what)
		round_fail(round, what);
}

static void test_endpoint_replaced_is_one_element_replaced(void **state)
{
	unsigned long first = random_first_seed(400001), count = rounds(500);

	(void)state;
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct ruleset_service *service;
		enum family family;
		struct round round;

		if (round_begin_settled(&round, seed, &family, &service)) {
			struct share *share = &service->shares[family][random_below(
				&round.random, service->share_count[family])];
			unsigned slots = share->slots;

			share->endpoint = model_endpoint(family, 100);
			qsort(service->shares[family], service->share_count[family], sizeof(*share),
			      compare_shares);
			plan_single(&round, service, family);
			if (count_endpoints(&round.verdicts, VERDICT_REPLACE) != slots ||
			    round.verdicts.endpoint_count != slots ||
			    round.verdicts.service_count || round.verdicts.chain_count ||
			    round.verdicts.unavailable_count || round.verdicts.change_count != 1)
				round_fail(&round, "it took more than its slots");
		}
		round_done(&round);
	}
}

/* Neither the chain of before nor that of after: chains come, but only those that are needed. */
static void check_resized(const struct round *round, unsigned before, unsigned after)
{
	const struct verdicts *verdicts = &round->verdicts;
	bool nth = round->desired.balance == BALANCE_NTH;

	/* An nth service goes to its own chain still, which counts to another number. */
	if (verdicts->service_count != (nth && before && after ? 0 : 1))
		round_fail(round, "not one service element");
	if (verdicts->unavailable_count != (!before || !after))
		round_fail(round, "unavailable");
	if (verdicts->chain_count > 1)
		round_fail(round, "more than one chain");
	if (verdicts->chain_count && verdicts->chains[0].verdict == VERDICT_REMOVE)
		round_fail(round, "a chain was removed at once");
}

static void test_endpoint_removed_is_the_last_slot_moved(void **state)
{
	unsigned long first = random_first_seed(500001), count = rounds(500);

	(void)state;
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct ruleset_service *service;
		enum family family;
		struct round round;

		if (round_begin_settled(&round, seed, &family, &service)) {
			unsigned slots = shares_slots(service, family);
			struct share *shares = service->shares[family];
			size_t gone = random_below(&round.random, service->share_count[family]);
			unsigned fewer = shares[gone].slots;

			memmove(&shares[gone], &shares[gone + 1],
				(--service->share_count[family] - gone) * sizeof(*shares));
			plan_single(&round, service, family);
			check_resized(&round, slots, slots - fewer);
			if (count_endpoints(&round.verdicts, VERDICT_REMOVE) != fewer ||
			    count_endpoints(&round.verdicts, VERDICT_REPLACE) > fewer ||
			    count_endpoints(&round.verdicts, VERDICT_ADD))
				round_fail(&round, "it took too many elements");
		}
		round_done(&round);
	}
}

static void test_endpoint_added_is_one_slot_more(void **state)
{
	unsigned long first = random_first_seed(600001), count = rounds(500);

	(void)state;
	for (unsigned long seed = first; seed < first + count; seed++) {
		struct ruleset_service *service;
		enum family family;
		struct round round;
		struct share *shares;
		unsigned slots;
		size_t old;

		(void)round_begin_settled(&round, seed, &family, &service);
		slots = shares_slots(service, family);
		old = service->share_count[family];
		shares = arena_array(round.arena, old + 1, sizeof(*shares));
		assert_non_null(shares);
		memcpy(shares, service->shares[family], old * sizeof(*shares));
		shares[old] = (struct share){model_endpoint(family, 100), 1};
		qsort(shares, old + 1, sizeof(*shares), compare_shares);
		service->shares[family] = shares;
		service->share_count[family] = old + 1;
		plan_single(&round, service, family);
		check_resized(&round, slots, slots + 1);
		if (count_endpoints(&round.verdicts, VERDICT_ADD) != 1 ||
		    round.verdicts.endpoint_count != 1)
			round_fail(&round, "it took too many elements");
		round_done(&round);
	}
}

/* --- Chains that went out of use ----------------------------------------------- */

/* A ruleset of one service with `slots` equal endpoints, in an arena. */
static struct ruleset one_service(struct arena *arena, enum balance balance, unsigned slots)
{
	struct ruleset ruleset = {.balance = balance, .count = 1};
	struct share *shares = arena_array(arena, slots, sizeof(*shares));

	ruleset.services = arena_array(arena, 1, sizeof(*ruleset.services));
	assert_non_null(shares);
	assert_non_null(ruleset.services);
	for (unsigned i = 0; i < slots; i++)
		shares[i] = (struct share){model_endpoint(FAMILY_IPV4, i), 1};
	qsort(shares, slots, sizeof(*shares), compare_shares);
	ruleset.services[0] = (struct ruleset_service){
		.listen = {PROTOCOL_TCP, 80},
		.shares = {shares},
		.share_count = {slots},
	};
	return ruleset;
}

static bool has_chain(const struct model *model, const char *name)
{
	const struct chain chain = chain_parse(name);

	for (size_t i = 0; i < model->observed.chain_count; i++) {
		if (chain_equal(&model->observed.chains[i].chain, &chain))
			return true;
	}
	return false;
}

static void settle(struct round *round, struct ruleset desired)
{
	round->desired = desired;
	round_make(round, 0);
	round_step(round);
}

static void test_chain_out_of_use_leaves_with_a_later_transaction(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 3));
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 2));
	assert_true(has_chain(round.before, "balance4-3"));
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 2));
	assert_true(nothing_to_do(&round.verdicts));
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 1));
	assert_false(has_chain(round.before, "balance4-3"));
	assert_true(has_chain(round.before, "balance4-2"));
	settle(&round, one_service(round.arena, BALANCE_NTH, 1));
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 1));
	assert_true(has_chain(round.before, "nth4-80-tcp"));
	settle(&round, one_service(round.arena, BALANCE_RANDOM, 2));
	assert_false(has_chain(round.before, "nth4-80-tcp"));
	round_done(&round);
}

static void test_nth_chain_is_refilled_only_when_slots_change(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	settle(&round, one_service(round.arena, BALANCE_NTH, 3));
	round.desired = one_service(round.arena, BALANCE_NTH, 3);
	round.desired.services[0].shares[FAMILY_IPV4][2].endpoint = model_endpoint(FAMILY_IPV4, 50);
	round_make(&round, 0);
	assert_int_equal(round.verdicts.chain_count, 0);
	assert_int_equal(round.verdicts.endpoint_count, 1);
	round.desired = one_service(round.arena, BALANCE_NTH, 4);
	round_make(&round, 0);
	assert_int_equal(round.verdicts.chain_count, 1);
	assert_int_equal(round.verdicts.chains[0].verdict, VERDICT_REPLACE);
	assert_int_equal(round.verdicts.chains[0].chain.slots, 4);
	round_done(&round);
}

/* --- route_localnet, as it was found ------------------------------------------- */

static void test_saved_localnet_is_what_was_found_before_us(void **state)
{
	static const struct {
		const char *what;
		bool table, foreign, routed;
		int saved, localnet;
		int remembered, put_back; /* put back by a flush; -1: left alone */
	} cases[] = {
		{"nobody was here, off", false, false, false, -1, 0, 0, -1},
		{"nobody was here, on", false, false, false, -1, 1, 1, -1},
		{"our table is gone, our routes tell", false, false, true, -1, 1, 0, 0},
		{"remembered on", true, true, false, 1, 1, 1, -1},
		{"remembered off", true, true, false, 0, 1, 0, 0},
		{"the comment is gone", true, true, true, -1, 1, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;
		struct observed *observed;

		print_message("%s\n", cases[i].what);
		round_begin(&round, 1);
		observed = &round.before->observed;
		observed->table = cases[i].table;
		observed->foreign = cases[i].foreign ? "for a test" : NULL;
		observed->saved_localnet = cases[i].saved;
		observed->localnet = cases[i].localnet;
		observed->ipv6 = true;
		observed->link_count = 1;
		observed->links[0] = (struct observed_link){
			.index = 2, .name = "eth0", .routed = cases[i].routed};
		round.desired = one_service(round.arena, BALANCE_RANDOM, 1);
		round_make(&round, 0);
		assert_true(round.verdicts.table_add);
		assert_int_equal(round.verdicts.saved_localnet, cases[i].remembered);
		assert_int_equal(plan_flush(round.arena, observed, &round.verdicts), 0);
		assert_int_equal(round.verdicts.localnet_set ? round.verdicts.localnet : -1,
				 cases[i].put_back);
		round_done(&round);
	}
}

/* --- Changes for people -------------------------------------------------------- */

static void add_change(struct text *text, const struct change *change)
{
	char name[ENDPOINT_TEXT_MAX];

	text_printf(text, "%s ", verdict_name(change->verdict));
	if (change->is_object) {
		text_printf(text, "%s\n", change->object);
		return;
	}
	text_puts(text, listen_format(&change->listen, change->family, name));
	if (change->has_endpoint)
		text_printf(text, " %s x%u", endpoint_format(&change->endpoint, name),
			    change->slots);
	else
		text_puts(text, " unavailable");
	if (change->has_was)
		text_printf(text, " was %s", endpoint_format(&change->was, name));
	text_puts(text, "\n");
}

static void assert_changes(const struct verdicts *verdicts, const char *wanted)
{
	CLEANUP(text_done) struct text text = {0};

	text_add(&text, "", 0);
	for (size_t i = 0; i < verdicts->change_count; i++)
		add_change(&text, &verdicts->changes[i]);
	assert_false(text.failed);
	assert_string_equal(text.data, wanted);
}

/* "1x3 2": endpoints by number, and their slots. */
static struct ruleset ruleset_of(struct arena *arena, const char *shares)
{
	struct ruleset ruleset = one_service(arena, BALANCE_RANDOM, 9);
	struct ruleset_service *service = &ruleset.services[0];
	size_t count = 0;

	for (const char *at = shares; *at; at += strcspn(at, " "), at += *at == ' ') {
		service->shares[FAMILY_IPV4][count++] = (struct share){
			.endpoint = {.port = 8000, .address = {10, 0, 0, (uint8_t)(at[0] - '0')}},
			.slots = at[1] == 'x' ? (unsigned)(at[2] - '0') : 1,
		};
	}
	service->share_count[FAMILY_IPV4] = count;
	return ruleset;
}

/* From one set of shares to another, in a namespace that is right otherwise. */
static void test_changes_of_shares_are_told_by_endpoint(void **state)
{
	static const struct {
		const char *from, *to, *changes;
	} cases[] = {
		{"1 2", "1 2", ""},
		{"1 2", "1 3", "replace 127.0.0.1:80/tcp 10.0.0.3:8000 x1 was 10.0.0.2:8000\n"},
		{"2 3", "1 3", "replace 127.0.0.1:80/tcp 10.0.0.1:8000 x1 was 10.0.0.2:8000\n"},
		{"1 2 3", "3",
		 "remove 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "remove 127.0.0.1:80/tcp 10.0.0.2:8000 x1\n"
		 "add chain balance4-1\n"},
		{"1 2", "1 2 3",
		 "add 127.0.0.1:80/tcp 10.0.0.3:8000 x1\n"
		 "add chain balance4-3\n"},
		{"1 2", "3 4 5",
		 "replace 127.0.0.1:80/tcp 10.0.0.3:8000 x1 was 10.0.0.1:8000\n"
		 "replace 127.0.0.1:80/tcp 10.0.0.4:8000 x1 was 10.0.0.2:8000\n"
		 "add 127.0.0.1:80/tcp 10.0.0.5:8000 x1\n"
		 "add chain balance4-3\n"},
		{"1x3 2", "1x2 2x2",
		 "replace 127.0.0.1:80/tcp 10.0.0.1:8000 x2 was 10.0.0.1:8000\n"
		 "replace 127.0.0.1:80/tcp 10.0.0.2:8000 x2 was 10.0.0.2:8000\n"},
		{"1 2", "",
		 "remove 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "remove 127.0.0.1:80/tcp 10.0.0.2:8000 x1\n"
		 "add 127.0.0.1:80/tcp unavailable\n"},
		{"", "1",
		 "remove 127.0.0.1:80/tcp unavailable\n"
		 "add 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
		 "add chain balance4-1\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;

		print_message("%s -> %s\n", cases[i].from, cases[i].to);
		round_begin(&round, 1);
		settle(&round, ruleset_of(round.arena, cases[i].from));
		round.desired = ruleset_of(round.arena, cases[i].to);
		round_make(&round, 0);
		assert_changes(&round.verdicts, cases[i].changes);
		round_done(&round);
	}
}

static void test_changes_of_a_first_load_name_the_table_once(void **state)
{
	struct round round;

	(void)state;
	round_begin(&round, 1);
	round.before->observed.ipv6 = true;
	round.before->observed.link_count = 1;
	round.before->observed.links[0] = (struct observed_link){.index = 2, .name = "eth0"};
	round.desired = ruleset_of(round.arena, "1");
	round_make(&round, 0);
	assert_changes(&round.verdicts, "add table inet dragoman\n"
					"add 127.0.0.1:80/tcp 10.0.0.1:8000 x1\n"
					"add [::1]:80/tcp unavailable\n"
					"replace sysctl net.ipv4.conf.all.route_localnet = 1\n"
					"add route local ::1/128 dev eth0\n");
	round_step(&round);
	assert_int_equal(plan_flush(round.arena, &round.before->observed, &round.verdicts), 0);
	assert_changes(&round.verdicts, "remove route local ::1/128 dev eth0\n"
					"replace sysctl net.ipv4.conf.all.route_localnet = 0\n"
					"remove table inet dragoman\n");
	round_done(&round);
}

/* Spoils one thing of a settled namespace. */
static void spoil_chain(struct observed *observed)
{
	for (size_t i = 0; i < observed->chain_count; i++) {
		if (observed->chains[i].chain.kind == CHAIN_GUARD)
			observed->chains[i].intact = false;
	}
}

static void spoil_set(struct observed *observed)
{
	observed->has_set[SET_ENDPOINTS6] = false;
}

static void spoil_service(struct observed *observed)
{
	observed->service_count = 0;
}

static void spoil_slot(struct observed *observed)
{
	observed->endpoints[0].slot = 4000;
}

static void spoil_table(struct observed *observed)
{
	observed->foreign = "map services4: the key differs";
}

static void add_foreign_things(struct observed *observed)
{
	observed->chains[observed->chain_count++] = (struct observed_chain){
		.chain = {.kind = CHAIN_FOREIGN}, .name = "their\x1b[31m"};
	observed->foreign_sets[observed->foreign_set_count++] = (struct observed_set){
		.kind = SET_FOREIGN, .name = "block\nlist"};
	observed->strays[observed->stray_count++] = (struct observed_stray){.set = SET_UNAVAILABLE4,
									    .key_length = 12};
}

static void test_changes_of_repairs_name_the_object(void **state)
{
	static const struct {
		void (*spoil)(struct observed *observed);
		const char *changes;
	} cases[] = {
		{spoil_chain, "replace chain guard\n"},
		{spoil_set, "add set endpoints6\n"},
		{spoil_service, "replace elements of 127.0.0.1:80/tcp\n"},
		{spoil_slot, "replace elements of 127.0.0.1:80/tcp\n"},
		{spoil_table, "replace table inet dragoman (map services4: the key differs)\n"},
		{add_foreign_things, "remove set block\\x0alist\n"
				     "remove unknown element of unavailable4\n"
				     "remove chain their\\x1b[31m\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct round round;

		round_begin(&round, 1);
		settle(&round, ruleset_of(round.arena, "1"));
		cases[i].spoil(&round.before->observed);
		round_make(&round, 0);
		assert_changes(&round.verdicts, cases[i].changes);
		round_done(&round);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan_applied_to_anything_gives_what_is_desired),
		cmocka_unit_test(test_rebuild_of_anything_gives_what_is_desired),
		cmocka_unit_test(test_elements_that_stay_keep_slot_and_counter),
		cmocka_unit_test(test_flush_of_anything_leaves_nothing),
		cmocka_unit_test(test_endpoint_replaced_is_one_element_replaced),
		cmocka_unit_test(test_endpoint_removed_is_the_last_slot_moved),
		cmocka_unit_test(test_endpoint_added_is_one_slot_more),
		cmocka_unit_test(test_chain_out_of_use_leaves_with_a_later_transaction),
		cmocka_unit_test(test_nth_chain_is_refilled_only_when_slots_change),
		cmocka_unit_test(test_saved_localnet_is_what_was_found_before_us),
		cmocka_unit_test(test_changes_of_shares_are_told_by_endpoint),
		cmocka_unit_test(test_changes_of_a_first_load_name_the_table_once),
		cmocka_unit_test(test_changes_of_repairs_name_the_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
