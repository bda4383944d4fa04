/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What should stand after a plan, said again without planning: by counting, one
 * service and family at a time, with no thought for what it costs.
 */
#include "plan_model.h"

#include <stdarg.h>

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
