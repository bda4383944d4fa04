/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Rulesets come out of a few ports and a few endpoints, so that one has much
 * in common with the next. Damage keeps to what the kernel would let anybody
 * do: an element is in a set that stands, and a verdict goes to a chain that
 * stands.
 */
#include "plan_model.h"

#include <stdlib.h>
#include <string.h>

#include "plan_model_private.h"

static const struct listen listens[] = {
	{PROTOCOL_TCP, 53},   {PROTOCOL_UDP, 53},   {PROTOCOL_TCP, 80},
	{PROTOCOL_TCP, 6379}, {PROTOCOL_UDP, 6379}, {PROTOCOL_TCP, 65535},
};

enum { ENDPOINT_POOL = 7 };

struct endpoint model_endpoint(enum family family, unsigned number)
{
	struct endpoint endpoint = {.family = (uint16_t)family,
				    .port = (uint16_t)(8000 + number % 2)};

	if (family == FAMILY_IPV4)
		memcpy(endpoint.address, (uint8_t[]){10, 0, 0, (uint8_t)(number / 2 + 1)}, 4);
	else
		memcpy(endpoint.address,
		       (uint8_t[]){0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)(number / 2 + 1)}, 16);
	return endpoint;
}

static int compare_shares(const void *a, const void *b)
{
	const struct share *x = a, *y = b;

	return endpoint_compare(&x->endpoint, &y->endpoint);
}

static void random_shares(struct arena *arena, struct random *random, enum family family,
			  struct ruleset_service *service)
{
	struct share *shares = arena_array(arena, ENDPOINT_POOL, sizeof(*shares));
	size_t count = 0;
	bool none = random_once_in(random, 4);

	for (unsigned i = 0; i < ENDPOINT_POOL && !none; i++) {
		if (random_once_in(random, 2))
			shares[count++] = (struct share){
				.endpoint = model_endpoint(family, i),
				.slots = random_once_in(random, 3) ? 1 + random_below(random, 4)
								   : 1,
			};
	}
	if (count)
		qsort(shares, count, sizeof(*shares), compare_shares);
	service->shares[family] = shares;
	service->share_count[family] = count;
}

struct ruleset model_random_ruleset(struct arena *arena, struct random *random)
{
	struct ruleset ruleset = {
		.balance = random_once_in(random, 2) ? BALANCE_RANDOM : BALANCE_NTH,
		.services = arena_array(arena, ARRAY_SIZE(listens), sizeof(*ruleset.services)),
	};

	if (random_once_in(random, 12))
		return ruleset;
	for (size_t i = 0; i < ARRAY_SIZE(listens); i++) {
		struct ruleset_service *service = &ruleset.services[ruleset.count];

		if (random_once_in(random, 3))
			continue;
		*service = (struct ruleset_service){.listen = listens[i]};
		if (random_once_in(random, 4))
			service->mode = random_once_in(random, 2) ? RULESET_KEEP : RULESET_HOLD;
		for (unsigned family = 0; family < FAMILY_COUNT; family++) {
			if (service->mode == RULESET_SET)
				random_shares(arena, random, (enum family)family, service);
		}
		ruleset.count++;
	}
	return ruleset;
}

static struct chain random_chain(struct random *random)
{
	struct chain chain = {.kind = CHAIN_BALANCE, .family = random_below(random, 2) & 1};

	if (random_once_in(random, 2)) {
		chain.kind = CHAIN_NTH;
		chain.listen = listens[random_below(random, ARRAY_SIZE(listens))];
	}
	chain.slots = (uint16_t)(1 + random_below(random, 9));
	return chain;
}

static void damage_services(struct observed *observed, struct random *random)
{
	const struct listen listen = listens[random_below(random, ARRAY_SIZE(listens))];
	enum family family = random_once_in(random, 2) ? FAMILY_IPV4 : FAMILY_IPV6;
	size_t at = model_find_service(observed, family, &listen);
	struct chain target = {.kind = CHAIN_FOREIGN};

	if (at < observed->service_count && random_once_in(random, 3)) {
		observed->services[at] = observed->services[--observed->service_count];
		return;
	}
	if (!observed->has_set[SET_OF(SET_SERVICES4, family)])
		return;
	/* Only a chain that stands can be gone to. */
	if (observed->chain_count && random_once_in(random, 2)) {
		target = observed->chains[random_below(random, observed->chain_count)].chain;
		if (target.kind < CHAIN_BALANCE)
			target = (struct chain){.kind = CHAIN_FOREIGN};
		if (target.kind == CHAIN_NTH)
			target.slots = 0;
	}
	if (at == observed->service_count)
		observed->service_count++;
	observed->services[at] = (struct observed_service){listen, (uint8_t)family, target};
}

static void damage_endpoints(struct observed *observed, struct random *random)
{
	const struct listen listen = listens[random_below(random, ARRAY_SIZE(listens))];
	enum family family = random_once_in(random, 2) ? FAMILY_IPV4 : FAMILY_IPV6;
	unsigned slot = random_below(random, random_once_in(random, 8) ? 65536 : 12);
	size_t at = model_find_slot(observed, family, &listen, slot);

	if (observed->endpoint_count && random_once_in(random, 2)) {
		at = random_below(random, observed->endpoint_count);
		observed->endpoints[at] = observed->endpoints[--observed->endpoint_count];
		return;
	}
	if (!observed->has_set[SET_OF(SET_ENDPOINTS4, family)] ||
	    observed->endpoint_count == MODEL_MAX / 2)
		return;
	if (at == observed->endpoint_count)
		observed->endpoint_count++;
	observed->endpoints[at] = (struct observed_endpoint){
		.listen = listen,
		.slot = (uint16_t)slot,
		.endpoint = model_endpoint(family, random_below(random, ENDPOINT_POOL + 2)),
	};
}

static void damage_unavailable(struct observed *observed, struct random *random)
{
	const struct listen listen = listens[random_below(random, ARRAY_SIZE(listens))];
	enum family family = random_once_in(random, 2) ? FAMILY_IPV4 : FAMILY_IPV6;
	size_t at = model_find_unavailable(observed, family, &listen);

	if (at < observed->unavailable_count)
		observed->unavailable[at] = observed->unavailable[--observed->unavailable_count];
	else if (observed->has_set[SET_OF(SET_UNAVAILABLE4, family)])
		observed->unavailable[observed->unavailable_count++] =
			(struct observed_unavailable){listen, (uint8_t)family};
}

static void damage_chains(struct observed *observed, struct random *random)
{
	struct chain chain = random_chain(random);
	size_t at = observed->chain_count ? random_below(random, observed->chain_count) : 0;

	switch (random_below(random, 4)) {
	case 0:
		if (observed->chain_count)
			observed->chains[at].intact = false;
		break;
	case 1: /* the kernel keeps those that an element goes to */
		if (observed->chain_count && observed->chains[at].chain.kind != CHAIN_FOREIGN &&
		    !model_chain_in_use(observed, &observed->chains[at].chain))
			observed->chains[at] = observed->chains[--observed->chain_count];
		break;
	case 2:
		if (model_find_chain(observed, NULL, "theirs") == observed->chain_count)
			observed->chains[observed->chain_count++] = (struct observed_chain){
				.chain = {.kind = CHAIN_FOREIGN}, .name = "theirs"};
		break;
	default:
		if (model_find_chain(observed, &chain, NULL) < observed->chain_count)
			break;
		observed->chains[observed->chain_count++] = (struct observed_chain){
			.chain = chain, .name = "of ours", .intact = random_once_in(random, 2)};
		/* Nothing to be counted to in a chain that is empty. */
		if (chain.kind == CHAIN_NTH && !observed->chains[observed->chain_count - 1].intact)
			observed->chains[observed->chain_count - 1].chain.slots = 0;
	}
}

/* A set goes with all that is in it. */
static void remove_set(struct observed *observed, enum set_kind set)
{
	observed->has_set[set] = false;
	for (size_t i = observed->service_count; i-- > 0;) {
		if (SET_OF(SET_SERVICES4, observed->services[i].family) == set)
			observed->services[i] = observed->services[--observed->service_count];
	}
	for (size_t i = observed->endpoint_count; i-- > 0;) {
		if (SET_OF(SET_ENDPOINTS4, observed->endpoints[i].endpoint.family) == set)
			observed->endpoints[i] = observed->endpoints[--observed->endpoint_count];
	}
	for (size_t i = observed->unavailable_count; i-- > 0;) {
		if (SET_OF(SET_UNAVAILABLE4, observed->unavailable[i].family) == set)
			observed->unavailable[i] =
				observed->unavailable[--observed->unavailable_count];
	}
	for (size_t i = observed->stray_count; i-- > 0;) {
		if (observed->strays[i].set == set)
			observed->strays[i] = observed->strays[--observed->stray_count];
	}
}

static void damage_sets(struct observed *observed, struct random *random)
{
	unsigned set = random_below(random, SET_COUNT);

	if (random_once_in(random, 2)) {
		remove_set(observed, (enum set_kind)set);
	} else if (!observed->foreign_set_count) {
		observed->foreign_sets[observed->foreign_set_count++] = (struct observed_set){
			.kind = SET_FOREIGN, .name = "blocklist"};
	}
	if (observed->has_set[set] && observed->stray_count < 8) {
		struct observed_stray *stray = &observed->strays[observed->stray_count++];

		*stray = (struct observed_stray){.set = (uint8_t)set, .key_length = 12};
		stray->key[0] = (uint8_t)random_next(random);
		stray->key[1] = (uint8_t)random_next(random);
	}
}

static void damage_surroundings(struct observed *observed, struct random *random)
{
	observed->localnet = random_below(random, 2) & 1;
	observed->ipv6 = !random_once_in(random, 4);
	observed->link_count = random_below(random, 4);
	for (size_t i = 0; i < observed->link_count; i++)
		observed->links[i] = (struct observed_link){.index = (unsigned)i + 2,
							    .name = "eth",
							    .routed = random_once_in(random, 2)};
	observed->route_count = random_below(random, 3);
	for (size_t i = 0; i < observed->route_count; i++)
		observed->routes[i] = (struct observed_route){
			.index = (unsigned)i + 2, .name = "eth", .metric = 100, .table = 254};
}

void model_damage(struct model *model, struct random *random)
{
	static void (*const ways[])(struct observed *, struct random *) = {
		damage_services, damage_endpoints, damage_endpoints,    damage_unavailable,
		damage_chains,   damage_sets,      damage_surroundings,
	};
	struct observed *observed = &model->observed;

	observed->generation += random_below(random, 3);
	if (random_once_in(random, 30)) {
		model_clear_table(observed);
		return;
	}
	for (unsigned i = random_below(random, 9); i > 0; i--) {
		size_t way = random_below(random, ARRAY_SIZE(ways));

		if (observed->table || ways[way] == damage_surroundings)
			ways[way](observed, random);
	}
	if (observed->table && random_once_in(random, 10)) {
		observed->foreign = "it has flags";
		observed->saved_localnet = random_once_in(random, 2) ? -1 : 0;
	}
}
