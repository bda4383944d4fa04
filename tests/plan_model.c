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
#include "plan_model_private.h"

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

static void *copy_of(const void *items, size_t count, size_t size)
{
	void *copy = room(size);

	if (count > MODEL_MAX)
		abort();
	if (count)
		memcpy(copy, items, count * size);
	return copy;
}

struct model *model_copy(const struct model *model)
{
	struct model *copy = calloc(1, sizeof(*copy));
	const struct observed *from = &model->observed;
	struct observed *to;

	if (!copy)
		abort();
	to = &copy->observed;
	*to = *from;
	to->chains = copy_of(from->chains, from->chain_count, sizeof(*to->chains));
	to->foreign_sets = copy_of(from->foreign_sets, from->foreign_set_count,
				   sizeof(*to->foreign_sets));
	to->services = copy_of(from->services, from->service_count, sizeof(*to->services));
	to->endpoints = copy_of(from->endpoints, from->endpoint_count, sizeof(*to->endpoints));
	to->unavailable = copy_of(from->unavailable, from->unavailable_count,
				  sizeof(*to->unavailable));
	to->strays = copy_of(from->strays, from->stray_count, sizeof(*to->strays));
	to->links = copy_of(from->links, from->link_count, sizeof(*to->links));
	to->routes = copy_of(from->routes, from->route_count, sizeof(*to->routes));
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

bool model_same_site(enum family a_family, const struct listen *a, enum family b_family,
		     const struct listen *b)
{
	return a_family == b_family && listen_compare(a, b) == 0;
}

size_t model_find_service(const struct observed *observed, enum family family,
			  const struct listen *listen)
{
	size_t i = 0;

	while (i < observed->service_count &&
	       !model_same_site(observed->services[i].family, &observed->services[i].listen, family,
				listen))
		i++;
	return i;
}

size_t model_find_unavailable(const struct observed *observed, enum family family,
			      const struct listen *listen)
{
	size_t i = 0;

	while (i < observed->unavailable_count &&
	       !model_same_site(observed->unavailable[i].family, &observed->unavailable[i].listen,
				family, listen))
		i++;
	return i;
}

size_t model_find_slot(const struct observed *observed, enum family family,
		       const struct listen *listen, unsigned slot)
{
	size_t i = 0;

	while (i < observed->endpoint_count &&
	       (observed->endpoints[i].slot != slot ||
		!model_same_site(observed->endpoints[i].endpoint.family,
				 &observed->endpoints[i].listen, family, listen)))
		i++;
	return i;
}

size_t model_find_chain(const struct observed *observed, const struct chain *chain,
			const char *name)
{
	size_t i = 0;

	while (i < observed->chain_count &&
	       (name ? strcmp(observed->chains[i].name, name) != 0
		     : !chain_equal(&observed->chains[i].chain, chain)))
		i++;
	return i;
}

bool model_chain_in_use(const struct observed *observed, const struct chain *chain)
{
	for (size_t i = 0; i < observed->service_count; i++) {
		if (chain_equal(&observed->services[i].target, chain))
			return true;
	}
	return false;
}

/* --- Applying ----------------------------------------------------------------- */

void model_clear_table(struct observed *observed)
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
		model_clear_table(observed);
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
	size_t at = model_find_chain(observed, &verdict->chain, verdict->name);
	bool stands = at < observed->chain_count;
	char name[CHAIN_NAME_MAX];

	if (stands != (verdict->verdict != VERDICT_ADD))
		return refuse(model, "%s chain %s", verdict_name(verdict->verdict),
			      verdict->name ? verdict->name : chain_format(&verdict->chain, name));
	if (verdict->verdict == VERDICT_REMOVE) {
		if (model_chain_in_use(observed, &verdict->chain))
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
	size_t at = model_find_service(observed, verdict->family, &verdict->listen);
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
	if (model_find_chain(observed, &verdict->target, NULL) == observed->chain_count)
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
	size_t at = model_find_slot(observed, verdict->endpoint.family, &verdict->listen,
				    verdict->slot);
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
	size_t at = model_find_unavailable(observed, verdict->family, &verdict->listen);
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
