/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What should stand after a plan, said again without planning: by counting, one
 * service and family at a time, with no thought for what it costs.
 */
#include "plan_model.h"

#include <stdarg.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "plan_model_private.h"

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
		count += model_same_site(observed->endpoints[i].endpoint.family,
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

		if (!model_same_site(kept->endpoint.family, &kept->listen, family,
				     &service->listen))
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
		return slots == 0 && model_find_unavailable(before, family, &service->listen) <
					     before->unavailable_count;
	return slots == 0;
}

static bool wants_nth(const struct ruleset *desired, const struct ruleset_service *service,
		      enum family family, const struct observed *before)
{
	size_t at = model_find_service(before, family, &service->listen);

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
	size_t at = model_find_service(after, family, listen);
	size_t chain = model_find_chain(after, &wanted, NULL);

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
	bool unavailable = model_find_unavailable(after, family, &service->listen) <
			   after->unavailable_count;

	if (what)
		return what;
	if (count_site(after, family, &service->listen) != slots)
		return differs("port %u: other elements too", service->listen.port);
	for (unsigned slot = 0; slot < slots; slot++) {
		if (model_find_slot(after, family, &service->listen, slot) == after->endpoint_count)
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

		if (model_find_chain(after, &chain, NULL) == after->chain_count)
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

/* --- Two models ------------------------------------------------------------- */

static bool has_chain(const struct observed *observed, const struct observed_chain *chain)
{
	const char *name = chain->chain.kind == CHAIN_FOREIGN ? chain->name : NULL;
	size_t at = model_find_chain(observed, &chain->chain, name);

	return at < observed->chain_count && observed->chains[at].intact == chain->intact &&
	       observed->chains[at].chain.slots == chain->chain.slots;
}

static bool has_set(const struct observed *observed, const struct observed_set *set)
{
	for (size_t i = 0; i < observed->foreign_set_count; i++) {
		if (strcmp(observed->foreign_sets[i].name, set->name) == 0)
			return true;
	}
	return false;
}

static bool has_service(const struct observed *observed, const struct observed_service *service)
{
	size_t at = model_find_service(observed, service->family, &service->listen);

	return at < observed->service_count &&
	       chain_equal(&observed->services[at].target, &service->target);
}

static bool has_endpoint(const struct observed *observed, const struct observed_endpoint *endpoint)
{
	size_t at = model_find_slot(observed, endpoint->endpoint.family, &endpoint->listen,
				    endpoint->slot);

	return at < observed->endpoint_count &&
	       endpoint_compare(&observed->endpoints[at].endpoint, &endpoint->endpoint) == 0 &&
	       observed->endpoints[at].packets == endpoint->packets &&
	       observed->endpoints[at].bytes == endpoint->bytes;
}

static bool has_stray(const struct observed *observed, const struct observed_stray *stray)
{
	for (size_t i = 0; i < observed->stray_count; i++) {
		if (memcmp(&observed->strays[i], stray, sizeof(*stray)) == 0)
			return true;
	}
	return false;
}

static bool has_link(const struct observed *observed, const struct observed_link *link)
{
	for (size_t i = 0; i < observed->link_count; i++) {
		if (observed->links[i].index == link->index)
			return observed->links[i].routed == link->routed;
	}
	return false;
}

static bool has_route(const struct observed *observed, const struct observed_route *route)
{
	for (size_t i = 0; i < observed->route_count; i++) {
		const struct observed_route *other = &observed->routes[i];

		if (other->index == route->index && other->metric == route->metric &&
		    other->table == route->table)
			return true;
	}
	return false;
}

/* Nothing stands twice in either: as many, and each found, is the same. */
static const char *structure_disagrees(const struct observed *one, const struct observed *other)
{
	if (one->table != other->table || !one->foreign != !other->foreign)
		return "the table";
	if (one->saved_localnet != other->saved_localnet || one->localnet != other->localnet)
		return "route_localnet";
	if (memcmp(one->has_set, other->has_set, sizeof(one->has_set)) != 0)
		return "the sets";
	for (size_t i = 0; i < one->chain_count; i++) {
		if (!has_chain(other, &one->chains[i]))
			return differs("chain %s", one->chains[i].name);
	}
	for (size_t i = 0; i < one->foreign_set_count; i++) {
		if (!has_set(other, &one->foreign_sets[i]))
			return differs("set %s", one->foreign_sets[i].name);
	}
	if (one->chain_count != other->chain_count)
		return "the number of chains";
	return one->foreign_set_count == other->foreign_set_count ? NULL : "the number of sets";
}

static const char *elements_disagree(const struct observed *one, const struct observed *other)
{
	for (size_t i = 0; i < one->service_count; i++) {
		if (!has_service(other, &one->services[i]))
			return differs("the service of port %u", one->services[i].listen.port);
	}
	for (size_t i = 0; i < one->endpoint_count; i++) {
		if (!has_endpoint(other, &one->endpoints[i]))
			return differs("slot %u of port %u", one->endpoints[i].slot,
				       one->endpoints[i].listen.port);
	}
	for (size_t i = 0; i < one->unavailable_count; i++) {
		const struct observed_unavailable *wanted = &one->unavailable[i];

		if (model_find_unavailable(other, wanted->family, &wanted->listen) ==
		    other->unavailable_count)
			return differs("unavailable port %u", wanted->listen.port);
	}
	for (size_t i = 0; i < one->stray_count; i++) {
		if (!has_stray(other, &one->strays[i]))
			return "a stray element";
	}
	return one->service_count == other->service_count &&
			       one->endpoint_count == other->endpoint_count &&
			       one->unavailable_count == other->unavailable_count &&
			       one->stray_count == other->stray_count
		       ? NULL
		       : "the number of elements";
}

static const char *surroundings_disagree(const struct observed *one, const struct observed *other)
{
	for (size_t i = 0; i < one->link_count; i++) {
		if (!has_link(other, &one->links[i]))
			return differs("link %s", one->links[i].name);
	}
	for (size_t i = 0; i < one->route_count; i++) {
		if (!has_route(other, &one->routes[i]))
			return differs("a route over %s", one->routes[i].name);
	}
	return one->link_count == other->link_count && one->route_count == other->route_count &&
			       one->ipv6 == other->ipv6
		       ? NULL
		       : "the number of links and routes";
}

const char *model_disagree(const struct model *model, const struct model *other)
{
	const char *what = structure_disagrees(&model->observed, &other->observed);

	if (!what)
		what = elements_disagree(&model->observed, &other->observed);
	return what ? what : surroundings_disagree(&model->observed, &other->observed);
}
