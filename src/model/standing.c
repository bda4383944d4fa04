/* SPDX-License-Identifier: MIT */
#include "dragoman/model/standing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Theory of operation
 *
 * A site is one port and protocol in one family. Sites are sorted by a number
 * made of these, so that one is found by halves, and verdicts, which come in
 * the same order, append on a first load. Each has its endpoints by slot.
 *
 * Chains that many share are a sorted list of their own; one that belongs to a
 * single site is noted there.
 */

enum { ABSENT = 0xffff }; /* in place of an endpoint's family: no element in this slot */

struct site {
	uint32_t key;
	uint8_t target; /* enum chain_kind: BALANCE, NTH, FOREIGN; else no element */
	bool unavailable;
	uint16_t target_slots; /* of BALANCE */
	uint16_t nth_slots;    /* of its own nth chain; 0: there is none */
	uint16_t count;
	struct endpoint *endpoints; /* by slot */
};

struct standing {
	bool table;
	struct site *sites;
	size_t site_count, site_capacity;
	uint32_t *chains; /* balance chains, sorted */
	size_t chain_count, chain_capacity;
	size_t last; /* the site that was asked for last: what comes next is often near it */
};

static uint32_t site_key(unsigned family, const struct listen *listen)
{
	return (uint32_t)family << 24 | (uint32_t)listen->port << 8 | (uint32_t)listen->protocol;
}

static enum family family_of(uint32_t key)
{
	return (enum family)(key >> 24);
}

static struct listen listen_of(uint32_t key)
{
	return (struct listen){.protocol = (enum protocol)(key & 0xff),
			       .port = (uint16_t)(key >> 8)};
}

static uint32_t chain_key(const struct chain *chain)
{
	return (uint32_t)chain->family << 16 | chain->slots;
}

struct standing *standing_new(void)
{
	return calloc(1, sizeof(struct standing));
}

static void clear(struct standing *standing)
{
	for (size_t i = 0; i < standing->site_count; i++)
		free(standing->sites[i].endpoints);
	free(standing->sites);
	free(standing->chains);
	*standing = (struct standing){0};
}

void standing_free(struct standing *standing)
{
	if (!standing)
		return;
	clear(standing);
	free(standing);
}

void standing_freep(struct standing **standing)
{
	standing_free(*standing);
	*standing = NULL;
}

bool standing_has_table(const struct standing *standing)
{
	return standing->table;
}

size_t standing_count(const struct standing *standing)
{
	size_t count = 0;

	for (size_t i = 0; i < standing->site_count; i++) {
		const struct site *site = &standing->sites[i];

		count += site->unavailable + (size_t)(site->target >= CHAIN_BALANCE);
		for (size_t slot = 0; slot < site->count; slot++)
			count += site->endpoints[slot].family != ABSENT;
	}
	return count;
}

/* --- Sites ------------------------------------------------------------------------ */

/* Where the site is, or would be. */
static size_t place_of(const struct standing *standing, uint32_t key)
{
	size_t low = 0, high = standing->site_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (standing->sites[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct site *site_find(const struct standing *standing, uint32_t key)
{
	size_t place = place_of(standing, key);

	return place < standing->site_count && standing->sites[place].key == key
		       ? &standing->sites[place]
		       : NULL;
}

/* That stands: of all that is looked for here make_sites() was told before. */
static struct site *site_get(struct standing *standing, uint32_t key)
{
	if (standing->last >= standing->site_count || standing->sites[standing->last].key != key)
		standing->last = place_of(standing, key);
	return &standing->sites[standing->last];
}

static int compare_keys(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int compare_sites(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return compare_keys(&x->key, &y->key);
}

/* One for each of these keys, which may come in any order, and more than once. */
static int make_sites(struct standing *standing, uint32_t *keys, size_t count)
{
	size_t before = standing->site_count, all = before;

	qsort(keys, count, sizeof(*keys), compare_keys);
	if (array_reserve(&standing->sites, &standing->site_capacity, before, count,
			  sizeof(*standing->sites)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if ((i == 0 || keys[i] != keys[i - 1]) && !site_find(standing, keys[i]))
			standing->sites[all++] = (struct site){.key = keys[i]};
	}
	standing->site_count = all;
	if (before && all > before)
		qsort(standing->sites, all, sizeof(*standing->sites), compare_sites);
	return 0;
}

/* Empty slots at the end are no slots. */
static void site_trim(struct site *site)
{
	while (site->count && site->endpoints[site->count - 1].family == ABSENT)
		site->count--;
	if (site->count)
		return;
	free(site->endpoints);
	site->endpoints = NULL;
}

/* Sites of which nothing is left go. */
static void sweep_sites(struct standing *standing)
{
	size_t kept = 0;

	for (size_t i = 0; i < standing->site_count; i++) {
		const struct site *site = &standing->sites[i];

		if (site->count || site->unavailable || site->nth_slots ||
		    site->target >= CHAIN_BALANCE)
			standing->sites[kept++] = *site;
	}
	standing->site_count = kept;
}

static int site_set_slot(struct site *site, unsigned slot, const struct endpoint *endpoint)
{
	if (slot >= site->count) {
		struct endpoint *grown = realloc(site->endpoints,
						 (slot + 1) * sizeof(*site->endpoints));

		if (!grown)
			return -ENOMEM;
		site->endpoints = grown;
		for (unsigned i = site->count; i < slot; i++)
			grown[i] = (struct endpoint){.family = ABSENT};
		site->count = (uint16_t)(slot + 1);
	}
	site->endpoints[slot] = *endpoint;
	return 0;
}

static void site_set_target(struct site *site, const struct chain *target)
{
	site->target = target->kind;
	site->target_slots = target->kind == CHAIN_BALANCE ? target->slots : 0;
}

/* --- Balance chains --------------------------------------------------------------- */

static size_t chain_place(const struct standing *standing, uint32_t key)
{
	size_t place = 0;

	while (place < standing->chain_count && standing->chains[place] < key)
		place++;
	return place;
}

static int chain_put(struct standing *standing, uint32_t key)
{
	size_t place = chain_place(standing, key);

	if (place < standing->chain_count && standing->chains[place] == key)
		return 0;
	if (array_reserve(&standing->chains, &standing->chain_capacity, standing->chain_count, 1,
			  sizeof(*standing->chains)) < 0)
		return -ENOMEM;
	memmove(&standing->chains[place + 1], &standing->chains[place],
		(standing->chain_count - place) * sizeof(*standing->chains));
	standing->chains[place] = key;
	standing->chain_count++;
	return 0;
}

static void chain_remove(struct standing *standing, uint32_t key)
{
	size_t place = chain_place(standing, key);

	if (place == standing->chain_count || standing->chains[place] != key)
		return;
	standing->chain_count--;
	memmove(&standing->chains[place], &standing->chains[place + 1],
		(standing->chain_count - place) * sizeof(*standing->chains));
}

static int set_chain(struct standing *standing, const struct chain *chain, bool stands)
{
	if (chain->kind == CHAIN_NTH)
		site_get(standing, site_key(chain->family, &chain->listen))
			->nth_slots = stands ? chain->slots : 0;
	if (chain->kind != CHAIN_BALANCE)
		return 0;
	if (stands)
		return chain_put(standing, chain_key(chain));
	chain_remove(standing, chain_key(chain));
	return 0;
}

/* --- From what was observed ------------------------------------------------------- */

static int make_observed_sites(struct standing *standing, const struct observed *observed)
{
	size_t most = observed->service_count + observed->endpoint_count +
		      observed->unavailable_count + observed->chain_count;
	CLEANUP(memory_free) uint32_t *keys = calloc(most + 1, sizeof(*keys));
	size_t count = 0;

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < observed->service_count; i++)
		keys[count++] = site_key(observed->services[i].family,
					 &observed->services[i].listen);
	for (size_t i = 0; i < observed->endpoint_count; i++)
		keys[count++] = site_key(observed->endpoints[i].endpoint.family,
					 &observed->endpoints[i].listen);
	for (size_t i = 0; i < observed->unavailable_count; i++)
		keys[count++] = site_key(observed->unavailable[i].family,
					 &observed->unavailable[i].listen);
	for (size_t i = 0; i < observed->chain_count; i++) {
		if (observed->chains[i].chain.kind == CHAIN_NTH)
			keys[count++] = site_key(observed->chains[i].chain.family,
						 &observed->chains[i].chain.listen);
	}
	return make_sites(standing, keys, count);
}

static int take_elements(struct standing *standing, const struct observed *observed)
{
	int r = 0;

	for (size_t i = 0; i < observed->service_count; i++) {
		const struct observed_service *service = &observed->services[i];

		site_set_target(site_get(standing, site_key(service->family, &service->listen)),
				&service->target);
	}
	for (size_t i = 0; i < observed->unavailable_count; i++) {
		const struct observed_unavailable *unavailable = &observed->unavailable[i];

		site_get(standing, site_key(unavailable->family, &unavailable->listen))
			->unavailable = true;
	}
	for (size_t i = 0; i < observed->endpoint_count && r == 0; i++) {
		const struct observed_endpoint *element = &observed->endpoints[i];

		r = site_set_slot(
			site_get(standing, site_key(element->endpoint.family, &element->listen)),
			element->slot, &element->endpoint);
	}
	return r;
}

int standing_take(struct standing *standing, const struct observed *observed)
{
	clear(standing);
	standing->table = observed->table;
	if (make_observed_sites(standing, observed) < 0 || take_elements(standing, observed) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < observed->chain_count; i++) {
		if (set_chain(standing, &observed->chains[i].chain, true) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* --- From what was committed ------------------------------------------------------ */

static int make_verdict_sites(struct standing *standing, const struct verdicts *verdicts)
{
	size_t most = verdicts->service_count + verdicts->endpoint_count +
		      verdicts->unavailable_count + verdicts->chain_count;
	CLEANUP(memory_free) uint32_t *keys = calloc(most + 1, sizeof(*keys));
	size_t count = 0;

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < verdicts->service_count; i++)
		keys[count++] = site_key(verdicts->services[i].family,
					 &verdicts->services[i].listen);
	for (size_t i = 0; i < verdicts->endpoint_count; i++)
		keys[count++] = site_key(verdicts->endpoints[i].endpoint.family,
					 &verdicts->endpoints[i].listen);
	for (size_t i = 0; i < verdicts->unavailable_count; i++)
		keys[count++] = site_key(verdicts->unavailable[i].family,
					 &verdicts->unavailable[i].listen);
	for (size_t i = 0; i < verdicts->chain_count; i++) {
		if (verdicts->chains[i].chain.kind == CHAIN_NTH)
			keys[count++] = site_key(verdicts->chains[i].chain.family,
						 &verdicts->chains[i].chain.listen);
	}
	return make_sites(standing, keys, count);
}

static int apply_endpoints(struct standing *standing, const struct verdicts *verdicts)
{
	static const struct endpoint absent = {.family = ABSENT};
	int r = 0;

	for (size_t i = 0; i < verdicts->endpoint_count && r == 0; i++) {
		const struct endpoint_verdict *verdict = &verdicts->endpoints[i];
		bool leaves = verdict->verdict == VERDICT_REMOVE;
		struct site *site = site_get(standing,
					     site_key(verdict->endpoint.family, &verdict->listen));

		r = site_set_slot(site, verdict->slot, leaves ? &absent : &verdict->endpoint);
		if (leaves)
			site_trim(site);
	}
	return r;
}

/* Returns whether something left: then nothing may be left of a site. */
static bool apply_verdicts(struct standing *standing, const struct verdicts *verdicts)
{
	static const struct chain none;
	bool left = false;

	for (size_t i = 0; i < verdicts->service_count; i++) {
		const struct service_verdict *verdict = &verdicts->services[i];
		bool leaves = verdict->verdict == VERDICT_REMOVE;

		site_set_target(site_get(standing, site_key(verdict->family, &verdict->listen)),
				leaves ? &none : &verdict->target);
		left |= leaves;
	}
	for (size_t i = 0; i < verdicts->unavailable_count; i++) {
		const struct unavailable_verdict *verdict = &verdicts->unavailable[i];
		bool leaves = verdict->verdict == VERDICT_REMOVE;

		site_get(standing, site_key(verdict->family, &verdict->listen))
			->unavailable = !leaves;
		left |= leaves;
	}
	return left;
}

int standing_apply(struct standing *standing, const struct verdicts *verdicts)
{
	bool left;

	if (verdicts->table_remove)
		clear(standing);
	standing->table |= verdicts->table_add;
	if (make_verdict_sites(standing, verdicts) < 0 || apply_endpoints(standing, verdicts) < 0)
		return -ENOMEM;
	left = apply_verdicts(standing, verdicts);
	for (size_t i = 0; i < verdicts->chain_count; i++) {
		bool leaves = verdicts->chains[i].verdict == VERDICT_REMOVE;

		if (set_chain(standing, &verdicts->chains[i].chain, !leaves) < 0)
			return -ENOMEM;
		left |= leaves;
	}
	if (left)
		sweep_sites(standing);
	return 0;
}

/* --- A part of it ----------------------------------------------------------------- */

/* How much room the view of these sites needs. */
struct room {
	size_t sites, endpoints;
};

static struct room room_of(const struct standing *standing, const struct listen *listens,
			   size_t count)
{
	struct room room = {0};

	for (size_t i = 0; i < count * FAMILY_COUNT; i++) {
		const struct site *site = site_find(standing, site_key((unsigned)(i % FAMILY_COUNT),
								       &listens[i / FAMILY_COUNT]));

		room.sites += site != NULL;
		room.endpoints += site ? site->count : 0;
	}
	return room;
}

static void view_chain(struct observed *view, const struct chain *chain)
{
	view->chains[view->chain_count++] = (struct observed_chain){
		.chain = *chain, .name = "of ours", .intact = true};
}

static void view_chains(const struct standing *standing, struct observed *view)
{
	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++)
		view_chain(view, &(struct chain){.kind = (uint8_t)kind});
	for (size_t i = 0; i < standing->chain_count; i++)
		view_chain(view, &(struct chain){.kind = CHAIN_BALANCE,
						 .family = (uint8_t)(standing->chains[i] >> 16),
						 .slots = (uint16_t)standing->chains[i]});
}

static void view_service(const struct site *site, struct observed *view)
{
	const struct listen listen = listen_of(site->key);
	const uint8_t family = (uint8_t)family_of(site->key);
	struct chain nth = {
		.kind = CHAIN_NTH, .family = family, .slots = site->nth_slots, .listen = listen};
	struct chain target = {.kind = site->target};

	if (site->nth_slots)
		view_chain(view, &nth);
	if (site->target == CHAIN_BALANCE) {
		target.family = family;
		target.slots = site->target_slots;
	} else if (site->target == CHAIN_NTH) {
		/* As it is read: a name tells no slots. */
		target = nth;
		target.slots = 0;
	}
	if (site->target >= CHAIN_BALANCE)
		view->services[view->service_count++] = (struct observed_service){
			.listen = listen, .family = family, .target = target};
}

/* Returns how many there are. */
static size_t view_endpoints(const struct site *site, struct observed_endpoint *into)
{
	const struct listen listen = listen_of(site->key);
	size_t count = 0;

	for (uint16_t slot = 0; slot < site->count; slot++) {
		if (site->endpoints[slot].family != ABSENT)
			into[count++] = (struct observed_endpoint){
				.listen = listen, .slot = slot, .endpoint = site->endpoints[slot]};
	}
	return count;
}

static void view_site(const struct site *site, struct observed *view)
{
	view_service(site, view);
	if (site->unavailable)
		view->unavailable[view->unavailable_count++] = (struct observed_unavailable){
			.listen = listen_of(site->key), .family = (uint8_t)family_of(site->key)};
	view->endpoint_count += view_endpoints(site, view->endpoints + view->endpoint_count);
}

int standing_endpoints(const struct standing *standing, struct arena *arena,
		       struct observed_endpoint **ret, size_t *ret_count)
{
	size_t room = 0;

	for (size_t i = 0; i < standing->site_count; i++)
		room += standing->sites[i].count;
	*ret_count = 0;
	*ret = arena_array(arena, room, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < standing->site_count; i++)
		*ret_count += view_endpoints(&standing->sites[i], *ret + *ret_count);
	return 0;
}

int standing_view(const struct standing *standing, struct arena *arena,
		  const struct listen *listens, size_t count, struct observed *ret)
{
	const struct room room = room_of(standing, listens, count);

	*ret = (struct observed){
		.table = standing->table,
		.saved_localnet = -1,
		.localnet = 1,
		.uncounted = true,
		.chains = arena_room(arena, CHAIN_BASE_COUNT + standing->chain_count + room.sites,
				     sizeof(*ret->chains)),
		.services = arena_room(arena, room.sites, sizeof(*ret->services)),
		.unavailable = arena_room(arena, room.sites, sizeof(*ret->unavailable)),
		.endpoints = arena_room(arena, room.endpoints, sizeof(*ret->endpoints)),
	};
	if (!ret->chains || !ret->services || !ret->unavailable || !ret->endpoints)
		return -ENOMEM;
	for (unsigned set = 0; set < SET_COUNT; set++)
		ret->has_set[set] = true;
	view_chains(standing, ret);
	for (size_t i = 0; i < count * FAMILY_COUNT; i++) {
		const struct site *site = site_find(standing, site_key((unsigned)(i % FAMILY_COUNT),
								       &listens[i / FAMILY_COUNT]));

		if (site)
			view_site(site, ret);
	}
	return 0;
}
