/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Applying is as strict as the kernel's transactions are with NLM_F_EXCL: what
 * is added must not stand, what is replaced or removed must; elements need
 * their set, verdict elements their chain, and a chain that something goes to
 * cannot leave. The order is that of a batch (src/kernel/encode.c).
 */
#include "plan_model.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"

static void *room(size_t size)
{
	void *items = calloc(MODEL_MAX, size);

	if (!items)
		abort();
	return items;
}

struct model *model_new(void)
{
	struct model *model = calloc(1, sizeof(*model));
	struct observed *observed;

	if (!model)
		abort();
	observed = &model->observed;
	*observed = (struct observed){.saved_localnet = -1, .generation = 7};
	observed->chains = room(sizeof(*observed->chains));
	observed->foreign_sets = room(sizeof(*observed->foreign_sets));
	observed->services = room(sizeof(*observed->services));
	observed->endpoints = room(sizeof(*observed->endpoints));
	observed->unavailable = room(sizeof(*observed->unavailable));
	observed->strays = room(sizeof(*observed->strays));
	observed->links = room(sizeof(*observed->links));
	observed->routes = room(sizeof(*observed->routes));
	return model;
}

void model_free(struct model *model)
{
	if (!model)
		return;
	free(model->observed.chains);
	free(model->observed.foreign_sets);
	free(model->observed.services);
	free(model->observed.endpoints);
	free(model->observed.unavailable);
	free(model->observed.strays);
	free(model->observed.links);
	free(model->observed.routes);
	free(model);
}

void model_freep(struct model **model)
{
	model_free(*model);
	*model = NULL;
}

struct model *model_copy(const struct model *model)
{
	struct model *copy = model_new();
	struct observed arrays = copy->observed;
	struct observed *to = &copy->observed;
	const struct observed *from = &model->observed;

	*to = *from;
	to->chains = arrays.chains;
	to->foreign_sets = arrays.foreign_sets;
	to->services = arrays.services;
	to->endpoints = arrays.endpoints;
	to->unavailable = arrays.unavailable;
	to->strays = arrays.strays;
	to->links = arrays.links;
	to->routes = arrays.routes;
	memcpy(to->chains, from->chains, MODEL_MAX * sizeof(*to->chains));
	memcpy(to->foreign_sets, from->foreign_sets, MODEL_MAX * sizeof(*to->foreign_sets));
	memcpy(to->services, from->services, MODEL_MAX * sizeof(*to->services));
	memcpy(to->endpoints, from->endpoints, MODEL_MAX * sizeof(*to->endpoints));
	memcpy(to->unavailable, from->unavailable, MODEL_MAX * sizeof(*to->unavailable));
	memcpy(to->strays, from->strays, MODEL_MAX * sizeof(*to->strays));
	memcpy(to->links, from->links, MODEL_MAX * sizeof(*to->links));
	memcpy(to->routes, from->routes, MODEL_MAX * sizeof(*to->routes));
	return copy;
}

static bool refuse(struct model *model, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool refuse(struct model *model, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	text_format_list(model->failure, sizeof(model->failure), format, arguments);
	va_end(arguments);
	return false;
}

/* --- Looking things up: the index, or the count where there is none. -------- */

static bool same_site(enum family a_family, const struct listen *a, enum family b_family,
		      const struct listen *b)
{
	return a_family == b_family && listen_compare(a, b) == 0;
}

static size_t find_service(const struct observed *observed, enum family family,
			   const struct listen *listen)
{
	size_t i = 0;

	while (i < observed->service_count &&
	       !same_site(observed->services[i].family, &observed->services[i].listen, family,
			  listen))
		i++;
	return i;
}

static size_t find_unavailable(const struct observed *observed, enum family family,
			       const struct listen *listen)
{
	size_t i = 0;

	while (i < observed->unavailable_count &&
	       !same_site(observed->unavailable[i].family, &observed->unavailable[i].listen, family,
			  listen))
		i++;
	return i;
}

static size_t find_slot(const struct observed *observed, enum family family,
			const struct listen *listen, unsigned slot)
{
	size_t i = 0;

	while (i < observed->endpoint_count &&
	       (observed->endpoints[i].slot != slot ||
		!same_site(observed->endpoints[i].endpoint.family, &observed->endpoints[i].listen,
			   family, listen)))
		i++;
	return i;
}

static size_t find_chain(const struct observed *observed, const struct chain *chain,
			 const char *name)
{
	size_t i = 0;

	while (i < observed->chain_count &&
	       (name ? strcmp(observed->chains[i].name, name) != 0
		     : !chain_equal(&observed->chains[i].chain, chain)))
		i++;
	return i;
}

static bool chain_in_use(const struct observed *observed, const struct chain *chain)
{
	for (size_t i = 0; i < observed->service_count; i++) {
		if (chain_equal(&observed->services[i].target, chain))
			return true;
	}
	return false;
}

/* --- Applying ----------------------------------------------------------------- */

static void clear_table(struct observed *observed)
{
	observed->table = false;
	observed->foreign = NULL;
	observed->saved_localnet = -1;
	memset(observed->has_set, 0, sizeof(observed->has_set));
	observed->chain_count = observed->foreign_set_count = observed->service_count = 0;
	observed->endpoint_count = observed->unavailable_count = observed->stray_count = 0;
}

static bool apply_table(struct model *model, const struct verdicts *verdicts)
{
	struct observed *observed = &model->observed;

	if (verdicts->table_remove) {
		if (!observed->table)
			return refuse(model, "no table to remove");
		clear_table(observed);
	}
	if (verdicts->table_add) {
		if (observed->table)
			return refuse(model, "the table stands");
		observed->table = true;
		observed->saved_localnet = verdicts->saved_localnet;
	}
	return true;
}

static bool apply_set(struct model *model, const struct set_verdict *verdict)
{
	struct observed *observed = &model->observed;
	size_t i = 0;

	if (verdict->verdict == VERDICT_ADD) {
		if (verdict->set >= SET_FOREIGN || observed->has_set[verdict->set])
			return refuse(model, "set %s stands", set_name(verdict->set));
		observed->has_set[verdict->set] = true;
		return true;
	}
	while (i < observed->foreign_set_count &&
	       strcmp(observed->foreign_sets[i].name, verdict->name) != 0)
		i++;
	if (verdict->verdict != VERDICT_REMOVE || i == observed->foreign_set_count)
		return refuse(model, "set %s", verdict->name);
	observed->foreign_sets[i] = observed->foreign_sets[--observed->foreign_set_count];
	return true;
}

static bool apply_chain(struct model *model, const struct chain_verdict *verdict)
{
	struct observed *observed = &model->observed;
	size_t at = find_chain(observed, &verdict->chain, verdict->name);
	bool stands = at < observed->chain_count;
	char name[CHAIN_NAME_MAX];

	if (stands != (verdict->verdict != VERDICT_ADD))
		return refuse(model, "%s chain %s", verdict_name(verdict->verdict),
			      verdict->name ? verdict->name : chain_format(&verdict->chain, name));
	if (verdict->verdict == VERDICT_REMOVE) {
		if (chain_in_use(observed, &verdict->chain))
			return refuse(model, "removing chain %s that is in use",
				      chain_format(&verdict->chain, name));
		observed->chains[at] = observed->chains[--observed->chain_count];
		return true;
	}
	if (verdict->chain.kind == CHAIN_FOREIGN || verdict->name)
		return refuse(model, "a foreign chain is added");
	if (verdict->chain.kind >= CHAIN_BALANCE && verdict->chain.slots == 0)
		return refuse(model, "numgen modulo 0");
	if (!stands)
		observed->chain_count++;
	observed->chains[at] = (struct observed_chain){
		.chain = verdict->chain, .name = "of ours", .intact = true};
	return true;
}

static bool apply_service(struct model *model, const struct service_verdict *verdict)
{
	struct observed *observed = &model->observed;
	size_t at = find_service(observed, verdict->family, &verdict->listen);
	bool stands = at < observed->service_count;
	char name[CHAIN_NAME_MAX];

	if (stands != (verdict->verdict != VERDICT_ADD) ||
	    !observed->has_set[SET_OF(SET_SERVICES4, verdict->family)])
		return refuse(model, "%s service %u", verdict_name(verdict->verdict),
			      verdict->listen.port);
	if (verdict->verdict == VERDICT_REMOVE) {
		observed->services[at] = observed->services[--observed->service_count];
		return true;
	}
	if (find_chain(observed, &verdict->target, NULL) == observed->chain_count)
		return refuse(model, "no chain %s", chain_format(&verdict->target, name));
	if (!stands)
		observed->service_count++;
	observed->services[at] = (struct observed_service){
		.listen = verdict->listen, .family = verdict->family, .target = verdict->target};
	/* What is read back of an nth chain is its name. */
	if (verdict->target.kind == CHAIN_NTH)
		observed->services[at].target.slots = 0;
	return true;
}

static bool apply_endpoint(struct model *model, const struct endpoint_verdict *verdict)
{
	struct observed *observed = &model->observed;
	size_t at = find_slot(observed, verdict->endpoint.family, &verdict->listen, verdict->slot);
	bool stands = at < observed->endpoint_count;

	if (stands != (verdict->verdict != VERDICT_ADD) ||
	    !observed->has_set[SET_OF(SET_ENDPOINTS4, verdict->endpoint.family)])
		return refuse(model, "%s slot %u of port %u", verdict_name(verdict->verdict),
			      verdict->slot, verdict->listen.port);
	if (verdict->verdict == VERDICT_REMOVE) {
		observed->endpoints[at] = observed->endpoints[--observed->endpoint_count];
		return true;
	}
	if (!stands)
		observed->endpoint_count++;
	observed->endpoints[at] = (struct observed_endpoint){
		.listen = verdict->listen,
		.slot = verdict->slot,
		.endpoint = verdict->endpoint,
		.packets = verdict->packets,
		.bytes = verdict->bytes,
	};
	return true;
}

static bool apply_unavailable(struct model *model, const struct unavailable_verdict *verdict)
{
	struct observed *observed = &model->observed;
	size_t at = find_unavailable(observed, verdict->family, &verdict->listen);
	bool stands = at < observed->unavailable_count;

	if (stands != (verdict->verdict == VERDICT_REMOVE) || verdict->verdict == VERDICT_REPLACE ||
	    !observed->has_set[SET_OF(SET_UNAVAILABLE4, verdict->family)])
		return refuse(model, "%s unavailable %u", verdict_name(verdict->verdict),
			      verdict->listen.port);
	if (stands)
		observed->unavailable[at] = observed->unavailable[--observed->unavailable_count];
	else
		observed->unavailable[observed->unavailable_count++] =
			(struct observed_unavailable){.listen = verdict->listen,
						      .family = verdict->family};
	return true;
}

static bool apply_stray(struct model *model, const struct observed_stray *verdict)
{
	struct observed *observed = &model->observed;

	for (size_t i = 0; i < observed->stray_count; i++) {
		if (memcmp(&observed->strays[i], verdict, sizeof(*verdict)) == 0) {
			observed->strays[i] = observed->strays[--observed->stray_count];
			return true;
		}
	}
	return refuse(model, "no such stray");
}

static bool apply_route_add(struct model *model, const struct route_verdict *verdict)
{
	struct observed *observed = &model->observed;

	for (size_t i = 0; i < observed->link_count; i++) {
		if (observed->links[i].index != verdict->index)
			continue;
		if (observed->links[i].routed || verdict->metric != 2048 || verdict->table != 255)
			break;
		observed->links[i].routed = true;
		return true;
	}
	return refuse(model, "route over link %u", verdict->index);
}

static bool apply_route_remove(struct model *model, const struct route_verdict *verdict)
{
	struct observed *observed = &model->observed;

	for (size_t i = 0; i < observed->route_count; i++) {
		const struct observed_route *route = &observed->routes[i];

		if (route->index == verdict->index && route->metric == verdict->metric &&
		    route->table == verdict->table) {
			observed->routes[i] = observed->routes[--observed->route_count];
			return true;
		}
	}
	for (size_t i = 0; i < observed->link_count; i++) {
		if (observed->links[i].index == verdict->index && observed->links[i].routed &&
		    verdict->metric == 2048 && verdict->table == 255) {
			observed->links[i].routed = false;
			return true;
		}
	}
	return refuse(model, "no route over link %u", verdict->index);
}

static bool apply_route(struct model *model, const struct route_verdict *verdict)
{
	if (verdict->verdict == VERDICT_ADD)
		return apply_route_add(model, verdict);
	return apply_route_remove(model, verdict);
}

/* Sets and chains: what comes, before the elements; what leaves, after them. */
static bool apply_structure(struct model *model, const struct verdicts *verdicts, bool leaving)
{
	bool ok = true;

	for (size_t i = 0; i < verdicts->set_count && ok && !leaving; i++) {
		if (verdicts->sets[i].verdict != VERDICT_REMOVE)
			ok = apply_set(model, &verdicts->sets[i]);
	}
	for (size_t i = 0; i < verdicts->chain_count && ok; i++) {
		if ((verdicts->chains[i].verdict == VERDICT_REMOVE) == leaving)
			ok = apply_chain(model, &verdicts->chains[i]);
	}
	for (size_t i = 0; i < verdicts->set_count && ok && leaving; i++) {
		if (verdicts->sets[i].verdict == VERDICT_REMOVE)
			ok = apply_set(model, &verdicts->sets[i]);
	}
	return ok;
}

static bool apply_elements(struct model *model, const struct verdicts *verdicts)
{
	bool ok = true;

	for (size_t i = 0; i < verdicts->stray_count && ok; i++)
		ok = apply_stray(model, &verdicts->strays[i]);
	for (size_t i = 0; i < verdicts->endpoint_count && ok; i++)
		ok = apply_endpoint(model, &verdicts->endpoints[i]);
	for (size_t i = 0; i < verdicts->service_count && ok; i++)
		ok = apply_service(model, &verdicts->services[i]);
	for (size_t i = 0; i < verdicts->unavailable_count && ok; i++)
		ok = apply_unavailable(model, &verdicts->unavailable[i]);
	return ok;
}

bool model_apply(struct model *model, const struct verdicts *verdicts)
{
	bool ok;

	if (verdicts->generation != model->observed.generation)
		return refuse(model, "another generation");
	ok = apply_table(model, verdicts) && apply_structure(model, verdicts, false) &&
	     apply_elements(model, verdicts) && apply_structure(model, verdicts, true);
	if (ok && verdicts_have_batch(verdicts))
		model->observed.generation++;
	if (ok && verdicts->localnet_set)
		model->observed.localnet = verdicts->localnet;
	for (size_t i = 0; i < verdicts->route_count && ok; i++)
		ok = apply_route(model, &verdicts->routes[i]);
	return ok;
}

/* --- Shuffling ------------------------------------------------------------------ */

static void shuffle(struct random *random, void *items, size_t count, size_t size)
{
	unsigned char held[256];
	unsigned char *bytes = items;

	for (size_t i = count; i > 1; i--) {
		size_t other = random_below(random, i);

		memcpy(held, bytes + (i - 1) * size, size);
		memmove(bytes + (i - 1) * size, bytes + other * size, size);
		memcpy(bytes + other * size, held, size);
	}
}

void model_shuffle(struct model *model, struct random *random)
{
	struct observed *observed = &model->observed;

	shuffle(random, observed->chains, observed->chain_count, sizeof(*observed->chains));
	shuffle(random, observed->services, observed->service_count, sizeof(*observed->services));
	shuffle(random, observed->endpoints, observed->endpoint_count,
		sizeof(*observed->endpoints));
	shuffle(random, observed->unavailable, observed->unavailable_count,
		sizeof(*observed->unavailable));
	shuffle(random, observed->strays, observed->stray_count, sizeof(*observed->strays));
}

/* --- What should stand -------------------------------------------------------- */

static char difference[256];

static const char *differs(const char *format, ...) __attribute__((format(printf, 1, 2)));

static const char *differs(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	text_format_list(difference, sizeof(difference), format, arguments);
	va_end(arguments);
	return difference;
}

static size_t count_site(const struct observed *observed, enum family family,
			 const struct listen *listen)
{
	size_t count = 0;

	for (size_t i = 0; i < observed->endpoint_count; i++)
		count += same_site(observed->endpoints[i].endpoint.family,
				   &observed->endpoints[i].listen, family, listen);
	return count;
}

static size_t count_endpoint(const struct observed *observed, const struct listen *listen,
			     const struct endpoint *endpoint)
{
	size_t count = 0;

	for (size_t i = 0; i < observed->endpoint_count; i++)
		count += listen_compare(&observed->endpoints[i].listen, listen) == 0 &&
			 endpoint_compare(&observed->endpoints[i].endpoint, endpoint) == 0;
	return count;
}

/* Whether each endpoint has as many slots as it should; the slots' sum is returned. */
static const char *shares_differ(const struct ruleset_service *service, enum family family,
				 const struct observed *before, const struct observed *after,
				 size_t *ret_slots)
{
	*ret_slots = 0;
	if (service->mode == RULESET_SET) {
		for (size_t i = 0; i < service->share_count[family]; i++) {
			const struct share *share = &service->shares[family][i];

			*ret_slots += share->slots;
			if (count_endpoint(after, &service->listen, &share->endpoint) !=
			    share->slots)
				return differs("port %u: an endpoint has not its slots",
					       service->listen.port);
		}
		return NULL;
	}
	for (size_t i = 0; i < before->endpoint_count; i++) {
		const struct observed_endpoint *kept = &before->endpoints[i];

		if (!same_site(kept->endpoint.family, &kept->listen, family, &service->listen))
			continue;
		++*ret_slots;
		if (count_endpoint(before, &service->listen, &kept->endpoint) !=
		    count_endpoint(after, &service->listen, &kept->endpoint))
			return differs("port %u: what was to be kept is not", service->listen.port);
	}
	return NULL;
}

static bool wants_unavailable(const struct ruleset_service *service, enum family family,
			      const struct observed *before, size_t slots)
{
	if (service->mode == RULESET_KEEP)
		return slots == 0 && find_unavailable(before, family, &service->listen) <
					     before->unavailable_count;
	return slots == 0;
}

static bool wants_nth(const struct ruleset *desired, const struct ruleset_service *service,
		      enum family family, const struct observed *before)
{
	size_t at = find_service(before, family, &service->listen);

	if (service->mode != RULESET_SET && at < before->service_count &&
	    before->services[at].target.kind != CHAIN_FOREIGN)
		return before->services[at].target.kind == CHAIN_NTH;
	return desired->balance == BALANCE_NTH;
}

/* The service's element, and the chain that it goes to. */
static const char *target_differs(const struct observed *after, enum family family,
				  const struct listen *listen, bool nth, size_t slots)
{
	const struct chain wanted = {.kind = nth ? CHAIN_NTH : CHAIN_BALANCE,
				     .family = (uint8_t)family,
				     .slots = (uint16_t)slots,
				     .listen = nth ? *listen : (struct listen){0}};
	size_t at = find_service(after, family, listen);
	size_t chain = find_chain(after, &wanted, NULL);

	if (slots == 0)
		return at < after->service_count ? differs("port %u: nowhere to go", listen->port)
						 : NULL;
	if (at == after->service_count)
		return differs("port %u: no service", listen->port);
	if (!chain_equal(&after->services[at].target, &wanted))
		return differs("port %u: another chain", listen->port);
	if (chain == after->chain_count || !after->chains[chain].intact ||
	    after->chains[chain].chain.slots != slots)
		return differs("port %u: the chain is not right", listen->port);
	return NULL;
}

static const char *service_differs(const struct ruleset *desired,
				   const struct ruleset_service *service, enum family family,
				   const struct observed *before, const struct observed *after)
{
	size_t slots;
	const char *what = shares_differ(service, family, before, after, &slots);
	bool unavailable = find_unavailable(after, family, &service->listen) <
			   after->unavailable_count;

	if (what)
		return what;
	if (count_site(after, family, &service->listen) != slots)
		return differs("port %u: other elements too", service->listen.port);
	for (unsigned slot = 0; slot < slots; slot++) {
		if (find_slot(after, family, &service->listen, slot) == after->endpoint_count)
			return differs("port %u: slot %u is empty", service->listen.port, slot);
	}
	if (unavailable != wants_unavailable(service, family, before, slots))
		return differs("port %u: unavailable is %d", service->listen.port, unavailable);
	return target_differs(after, family, &service->listen,
			      wants_nth(desired, service, family, before), slots);
}

static bool asked_for(const struct ruleset *desired, const struct listen *listen)
{
	for (size_t i = 0; i < desired->count; i++) {
		if (listen_compare(&desired->services[i].listen, listen) == 0)
			return true;
	}
	return false;
}

static const char *leftovers(const struct ruleset *desired, const struct observed *after)
{
	for (size_t i = 0; i < after->service_count; i++) {
		if (!asked_for(desired, &after->services[i].listen))
			return "a service that nobody asked for";
	}
	for (size_t i = 0; i < after->endpoint_count; i++) {
		if (!asked_for(desired, &after->endpoints[i].listen))
			return "an endpoint that nobody asked for";
	}
	for (size_t i = 0; i < after->unavailable_count; i++) {
		if (!asked_for(desired, &after->unavailable[i].listen))
			return "a service unavailable that nobody asked for";
	}
	if (after->stray_count || after->foreign_set_count || after->foreign)
		return "something foreign is left";
	return NULL;
}

static const char *structure_differs(const struct observed *after)
{
	if (!after->table)
		return "no table";
	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (!after->has_set[set])
			return differs("no set %s", set_name((enum set_kind)set));
	}
	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++) {
		const struct chain chain = {.kind = (uint8_t)kind};

		if (find_chain(after, &chain, NULL) == after->chain_count)
			return differs("no base chain %u", kind);
	}
	for (size_t i = 0; i < after->chain_count; i++) {
		if (after->chains[i].chain.kind == CHAIN_FOREIGN)
			return "a foreign chain";
		if (!after->chains[i].intact)
			return "a chain that is not intact";
	}
	return NULL;
}

static const char *surroundings_differ(const struct observed *after)
{
	if (after->localnet == 0)
		return "route_localnet is 0";
	for (size_t i = 0; i < after->link_count; i++) {
		if (after->links[i].routed != after->ipv6)
			return "a link's route";
	}
	return after->route_count ? "a useless route" : NULL;
}

const char *model_differs(const struct ruleset *desired, const struct model *before,
			  const struct model *after)
{
	const char *what = NULL;

	if (!before->observed.table && !desired->count)
		return after->observed.table ? "a table for nothing" : NULL;
	what = structure_differs(&after->observed);
	for (size_t i = 0; i < desired->count && !what; i++) {
		for (unsigned family = 0; family < FAMILY_COUNT && !what; family++)
			what = service_differs(desired, &desired->services[i], (enum family)family,
					       &before->observed, &after->observed);
	}
	if (!what)
		what = leftovers(desired, &after->observed);
	return what ? what : surroundings_differ(&after->observed);
}

/* --- Making things up ----------------------------------------------------------- */

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
	size_t at = find_service(observed, family, &listen);
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
	size_t at = find_slot(observed, family, &listen, slot);

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
	size_t at = find_unavailable(observed, family, &listen);

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
		    !chain_in_use(observed, &observed->chains[at].chain))
			observed->chains[at] = observed->chains[--observed->chain_count];
		break;
	case 2:
		if (find_chain(observed, NULL, "theirs") == observed->chain_count)
			observed->chains[observed->chain_count++] = (struct observed_chain){
				.chain = {.kind = CHAIN_FOREIGN}, .name = "theirs"};
		break;
	default:
		if (find_chain(observed, &chain, NULL) < observed->chain_count)
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
		clear_table(observed);
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
