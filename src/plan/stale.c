/* SPDX-License-Identifier: MIT */
#include "dragoman/plan/stale.h"

#include <errno.h>
#include <stdlib.h>

static bool concerns(const struct listen *listen, bool reset)
{
	return listen->protocol == PROTOCOL_UDP || reset;
}

static void add(struct stale *stale, size_t *count, const struct listen *listen, uint8_t family)
{
	stale[(*count)++] = (struct stale){.listen = *listen, .family = (enum family)family};
}

static int compare_stale(const void *a, const void *b)
{
	const struct stale *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	return order ? order : (int)x->family - (int)y->family;
}

size_t stale_settle(struct stale *stale, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(stale, count, sizeof(*stale), compare_stale);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || compare_stale(&stale[kept - 1], &stale[i]) != 0)
			stale[kept++] = stale[i];
	}
	return kept;
}

/* Whether an endpoint has left by it. */
static bool leaves(const struct change *change)
{
	if (change->is_object || !change->has_endpoint)
		return false;
	return change->verdict == VERDICT_REMOVE ||
	       (change->has_was && endpoint_compare(&change->was, &change->endpoint) != 0);
}

int stale_after(struct arena *arena, const struct verdicts *verdicts, bool reset,
		struct stale **ret, size_t *ret_count)
{
	*ret_count = 0;
	*ret = arena_array(arena, verdicts->change_count + verdicts->service_count, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < verdicts->change_count; i++) {
		const struct change *change = &verdicts->changes[i];

		if (leaves(change) && concerns(&change->listen, reset))
			add(*ret, ret_count, &change->listen, change->family);
	}
	for (size_t i = 0; i < verdicts->service_count; i++) {
		const struct service_verdict *service = &verdicts->services[i];

		/* What was begun before there were rules leads nowhere. */
		if (service->verdict == VERDICT_ADD && service->listen.protocol == PROTOCOL_UDP)
			add(*ret, ret_count, &service->listen, service->family);
	}
	*ret_count = stale_settle(*ret, *ret_count);
	return 0;
}

int stale_of_all(struct arena *arena, const struct observed *observed, bool reset,
		 struct stale **ret, size_t *ret_count)
{
	*ret_count = 0;
	*ret = arena_array(arena, observed->service_count, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < observed->service_count; i++) {
		const struct observed_service *service = &observed->services[i];

		if (concerns(&service->listen, reset))
			add(*ret, ret_count, &service->listen, service->family);
	}
	*ret_count = stale_settle(*ret, *ret_count);
	return 0;
}

static const struct ruleset_service *find_service(const struct ruleset *desired,
						  const struct listen *listen)
{
	size_t low = 0, high = desired ? desired->count : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = listen_compare(listen, &desired->services[middle].listen);

		if (order == 0)
			return &desired->services[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* The endpoints to which a port may lead. */
static int fill_endpoints(struct arena *arena, const struct stale *stale,
			  const struct standing *standing, const struct ruleset *desired,
			  struct flow_filter *filter)
{
	const struct ruleset_service *service = find_service(desired, &stale->listen);
	size_t drained = service ? service->drained_count[stale->family] : 0;
	struct endpoint *endpoints;
	struct observed view;

	if (standing_view(standing, arena, &stale->listen, 1, &view) < 0)
		return -ENOMEM;
	endpoints = arena_array(arena, view.endpoint_count + drained + 1, sizeof(*endpoints));
	if (!endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < view.endpoint_count; i++) {
		if (view.endpoints[i].endpoint.family == stale->family)
			endpoints[filter->count++] = view.endpoints[i].endpoint;
	}
	for (size_t i = 0; i < drained; i++)
		endpoints[filter->count++] = service->drained[stale->family][i];
	if (stale->listen.protocol == PROTOCOL_TCP)
		endpoints[filter->count++] = flow_untranslated(&stale->listen, stale->family);
	filter->endpoints = endpoints;
	return 0;
}

int stale_filters(struct arena *arena, const struct stale *stale, size_t count,
		  const struct standing *standing, const struct ruleset *desired,
		  struct flow_filter **ret)
{
	*ret = arena_array(arena, count, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		(*ret)[i] = (struct flow_filter){
			.listen = stale[i].listen, .family = stale[i].family, .others = true};
		if (fill_endpoints(arena, &stale[i], standing, desired, &(*ret)[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}
