/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Plans as properties: whatever is desired and however what stands was
 * damaged, applying the plan to a model of the kernel (plan_model.h) gives
 * what is desired, and planning again gives nothing. A failure prints the seed
 * of its round; `SEED=N ROUNDS=1` in the environment runs just that one.
 *
 * Besides, single changes cost what they have to, and nothing of any other
 * service.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan_round.h"

static unsigned long rounds(unsigned long otherwise)
{
	const char *wanted = getenv("ROUNDS");

	return wanted ? strtoul(wanted, NULL, 0) : otherwise;
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

static void check_sync(const struct round *round)
{
	if (round_is_idle(&round->verdicts) != (round->verdicts.change_count == 0))
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
		if (!round_is_idle(&round.verdicts))
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
		if (!round_is_idle(&round.verdicts))
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
		if (!round_is_idle(&round.verdicts))
			round_fail(&round, "flushing again gives something");
		round_done(&round);
	}
}

/* --- What a single change costs ---------------------------------------------- */

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
			      share_compare);
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
		qsort(shares, old + 1, sizeof(*shares), share_compare);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
