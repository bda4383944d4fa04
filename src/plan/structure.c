/* SPDX-License-Identifier: MIT */
#include "planner.h"

#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"

/*
 * The table, its sets and its chains: what does not depend on which services
 * there are, but for the chains that they go to.
 */

static void give_set(struct planner *planner, enum verdict verdict, enum set_kind set,
		     const char *name)
{
	struct verdicts *verdicts = planner->verdicts;

	verdicts->sets[verdicts->set_count++] = (struct set_verdict){
		.verdict = verdict, .set = set, .name = name};
}

/* Gives a verdict on a chain; name is that of a foreign one. */
static void give_chain(struct planner *planner, enum verdict verdict, const struct chain *chain,
		       const char *name)
{
	struct verdicts *verdicts = planner->verdicts;

	verdicts->chains[verdicts->chain_count++] = (struct chain_verdict){
		.verdict = verdict, .chain = *chain, .name = name};
}

/* "chain NAME", "set NAME", of any name that the kernel may have; NULL without memory. */
static const char *object_text(struct planner *planner, const char *kind, const char *name)
{
	char printable[4 * OBJECT_NAME_MAX + 1];

	text_printable(printable, sizeof(printable), name, strlen(name));
	return arena_printf(planner->arena, "%s %s", kind, printable);
}

static void tell_chain(struct planner *planner, enum verdict verdict, const struct chain *chain,
		       const char *name)
{
	char own[CHAIN_NAME_MAX];

	give_chain(planner, verdict, chain, name);
	changes_object(planner, verdict,
		       object_text(planner, "chain", name ? name : chain_format(chain, own)));
}

static void begin_table(struct planner *planner)
{
	const struct observed *observed = planner->observed;
	struct verdicts *verdicts = planner->verdicts;

	verdicts->table_remove = planner->rebuild;
	verdicts->table_add = true;
	verdicts->saved_localnet = localnet_before_us(observed);
	for (unsigned set = 0; set < SET_COUNT; set++)
		give_set(planner, VERDICT_ADD, (enum set_kind)set, NULL);
	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++)
		give_chain(planner, VERDICT_ADD, &(struct chain){.kind = (uint8_t)kind}, NULL);
	changes_object(planner, planner->rebuild ? VERDICT_REPLACE : VERDICT_ADD,
		       observed->foreign ? arena_printf(planner->arena, "table inet dragoman (%s)",
							observed->foreign)
					 : "table inet dragoman");
}

static void repair_sets(struct planner *planner)
{
	const struct observed *observed = planner->observed;

	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (observed->has_set[set])
			continue;
		give_set(planner, VERDICT_ADD, (enum set_kind)set, NULL);
		changes_object(planner, VERDICT_ADD,
			       object_text(planner, "set", set_name((enum set_kind)set)));
	}
	for (size_t i = 0; i < observed->foreign_set_count; i++) {
		give_set(planner, VERDICT_REMOVE, SET_FOREIGN, observed->foreign_sets[i].name);
		changes_object(planner, VERDICT_REMOVE,
			       object_text(planner, "set", observed->foreign_sets[i].name));
	}
}

static void repair_base_chains(struct planner *planner)
{
	const struct observed *observed = planner->observed;
	const struct observed_chain *stands[CHAIN_BASE_COUNT] = {NULL};

	for (size_t i = 0; i < observed->chain_count; i++) {
		if (observed->chains[i].chain.kind < CHAIN_BASE_COUNT)
			stands[observed->chains[i].chain.kind] = &observed->chains[i];
	}
	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++) {
		const struct chain chain = {.kind = (uint8_t)kind};

		if (!stands[kind])
			tell_chain(planner, VERDICT_ADD, &chain, NULL);
		else if (!stands[kind]->intact)
			tell_chain(planner, VERDICT_REPLACE, &chain, NULL);
	}
}

void structure_begin(struct planner *planner)
{
	const struct observed *observed = planner->observed;
	struct verdicts *verdicts = planner->verdicts;

	if (!observed->table || planner->rebuild) {
		begin_table(planner);
		return;
	}
	repair_sets(planner);
	repair_base_chains(planner);
	verdicts->strays = observed->strays;
	verdicts->stray_count = observed->stray_count;
	for (size_t i = 0; i < observed->stray_count; i++)
		changes_object(planner, VERDICT_REMOVE,
			       arena_printf(planner->arena, "unknown element of %s",
					    set_name((enum set_kind)observed->strays[i].set)));
}

static int compare_nth(const void *a, const void *b)
{
	const struct chain *x = a, *y = b;

	return site_compare(x->family, &x->listen, y->family, &y->listen);
}

static int compare_used(const void *a, const void *b)
{
	const struct observed_service *x = *(const struct observed_service *const *)a;
	const struct observed_service *y = *(const struct observed_service *const *)b;

	return site_compare(x->target.family, &x->target.listen, y->target.family,
			    &y->target.listen);
}

static int compare_nth_used(const void *a, const void *b)
{
	const struct chain *x = a;
	const struct observed_service *y = *(const struct observed_service *const *)b;

	return site_compare(x->family, &x->listen, y->target.family, &y->target.listen);
}

/* The wanted form of an observed chain, or NULL. Marks balance chains as provided. */
static const struct chain *wanted_chain(struct planner *planner, const struct chain *chain)
{
	if (chain->kind == CHAIN_BALANCE)
		return planner->balance_wanted[chain->family][chain->slots] ? chain : NULL;
	if (chain->kind == CHAIN_NTH && planner->nth_wanted_count)
		return bsearch(chain, planner->nth_wanted, planner->nth_wanted_count,
			       sizeof(*planner->nth_wanted), compare_nth);
	return NULL;
}

static bool used_chain(const struct planner *planner, const struct chain *chain)
{
	if (chain->kind == CHAIN_BALANCE)
		return planner->balance_used[chain->family][chain->slots];
	if (chain->kind == CHAIN_NTH && planner->nth_used_count)
		return bsearch(chain, planner->nth_used, planner->nth_used_count,
			       sizeof(*planner->nth_used), compare_nth_used) != NULL;
	return false;
}

static int compare_balances(const void *a, const void *b)
{
	const struct chain *x = a, *y = b;

	return x->family != y->family ? x->family - y->family : x->slots - y->slots;
}

/* Adds the chains that sites go to and that do not stand. */
static void add_missing_chains(struct planner *planner,
			       bool balance_stands[FAMILY_COUNT][SLOTS_MAX + 1])
{
	void (*add)(struct planner *, enum verdict, const struct chain *,
		    const char *) = planner->verdicts->table_add ? give_chain : tell_chain;

	qsort(planner->balances, planner->balance_count, sizeof(*planner->balances),
	      compare_balances);
	for (size_t i = 0; i < planner->balance_count; i++) {
		const struct chain *chain = &planner->balances[i];

		if (!balance_stands[chain->family][chain->slots])
			add(planner, VERDICT_ADD, chain, NULL);
	}
	for (size_t i = 0; i < planner->nth_wanted_count; i++) {
		if (!planner->nth_stands[i])
			add(planner, VERDICT_ADD, &planner->nth_wanted[i], NULL);
	}
}

/*
 * Chains that nobody goes to any more leave with a transaction that is sent
 * anyway, if they were out of use before it; see the theory of operation in
 * plan.c.
 */
static void sweep_chains(struct planner *planner)
{
	const struct observed *observed = planner->observed;

	if (planner->part || !verdicts_have_batch(planner->verdicts))
		return;
	for (size_t i = 0; i < observed->chain_count; i++) {
		const struct observed_chain *chain = &observed->chains[i];

		if ((chain->chain.kind == CHAIN_BALANCE || chain->chain.kind == CHAIN_NTH) &&
		    chain->intact && !wanted_chain(planner, &chain->chain) &&
		    !used_chain(planner, &chain->chain))
			tell_chain(planner, VERDICT_REMOVE, &chain->chain, NULL);
	}
}

static void repair_chains(struct planner *planner, bool balance_stands[FAMILY_COUNT][SLOTS_MAX + 1])
{
	const struct observed *observed = planner->observed;

	for (size_t i = 0; i < observed->chain_count; i++) {
		const struct observed_chain *stands = &observed->chains[i];
		const struct chain *wanted = wanted_chain(planner, &stands->chain);

		if (stands->chain.kind == CHAIN_FOREIGN)
			tell_chain(planner, VERDICT_REMOVE, &stands->chain, stands->name);
		if (stands->chain.kind != CHAIN_BALANCE && stands->chain.kind != CHAIN_NTH)
			continue;
		if (!wanted) {
			/* EBUSY of an old kernel, if it was in use, has all replaced. */
			if (!stands->intact)
				tell_chain(planner, VERDICT_REMOVE, &stands->chain, NULL);
			continue;
		}
		if (wanted->kind == CHAIN_NTH)
			planner->nth_stands[wanted - planner->nth_wanted] = true;
		else
			balance_stands[wanted->family][wanted->slots] = true;
		if (!stands->intact || stands->chain.slots != wanted->slots)
			tell_chain(planner, VERDICT_REPLACE, wanted, NULL);
	}
}

void structure_end(struct planner *planner)
{
	bool balance_stands[FAMILY_COUNT][SLOTS_MAX + 1];

	memset(balance_stands, 0, sizeof(balance_stands));
	/* A service that was tampered with may go to the chain of another. */
	if (planner->nth_used_count)
		qsort(planner->nth_used, planner->nth_used_count, sizeof(*planner->nth_used),
		      compare_used);
	if (!planner->verdicts->table_add)
		repair_chains(planner, balance_stands);
	add_missing_chains(planner, balance_stands);
	if (!planner->verdicts->table_add)
		sweep_chains(planner);
}
