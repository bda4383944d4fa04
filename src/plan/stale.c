/* SPDX-License-Identifier: MIT */
#include "dragoman/plan/stale.h"

#include <errno.h>
#include <stdlib.h>

static bool concerns(const struct listen *listen, bool reset)
{
	return listen->protocol == PROTOCOL_UDP || reset;
}

static int compare_stale(const void *a, const void *b)
{
	const struct stale *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	if (order)
		return order;
	if (x->family != y->family)
		return (int)x->family - (int)y->family;
	if (x->others != y->others)
		return x->others ? 1 : -1;
	return endpoint_compare(&x->endpoint, &y->endpoint);
}

size_t stale_settle(struct stale *stale, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(stale, count, sizeof(*stale), compare_stale);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || compare_stale(&stale[kept - 1], &stale[i]) != 0)
			stale[kept++] = stale[i];
		else if (stale[i].due > stale[kept - 1].due)
			stale[kept - 1].due = stale[i].due;
	}
	return kept;
}

/* The endpoint that has left by it, or NULL. */
static const struct endpoint *leaves(const struct change *change)
{
	if (change->is_object || !change->has_endpoint)
		return NULL;
	if (change->verdict == VERDICT_REMOVE)
		return &change->endpoint;
	return change->has_was && endpoint_compare(&change->was, &change->endpoint) != 0
		       ? &change->was
		       : NULL;
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
		const struct endpoint *gone = leaves(change);

		if (gone && concerns(&change->listen, reset))
			(*ret)[(*ret_count)++] = (struct stale){.listen = change->listen,
								.family = (enum family)gone->family,
								.endpoint = *gone};
	}
	for (size_t i = 0; i < verdicts->service_count; i++) {
		const struct service_verdict *service = &verdicts->services[i];
		enum family family = (enum family)service->family;

		/* What was begun before there were rules leads nowhere. */
		if (service->verdict == VERDICT_ADD && service->listen.protocol == PROTOCOL_UDP)
			(*ret)[(*ret_count)++] = (struct stale){
				.listen = service->listen,
				.family = family,
				.endpoint = flow_untranslated(&service->listen, family)};
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
			(*ret)[(*ret_count)++] = (struct stale){
				.listen = service->listen,
				.family = (enum family)service->family,
				.others = true};
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

static bool same_port(const struct stale *a, const struct stale *b)
{
	return a->family == b->family && listen_compare(&a->listen, &b->listen) == 0;
}

/* The endpoints to which a port may lead. */
static int find_right(struct arena *arena, const struct stale *stale,
		      const struct standing *standing, const struct ruleset *desired,
		      struct endpoint **ret, size_t *ret_count)
{
	const struct ruleset_service *service = find_service(desired, &stale->listen);
	size_t drained = service ? service->drained_count[stale->family] : 0;
	struct observed view;

	*ret_count = 0;
	if (standing_view(standing, arena, &stale->listen, 1, &view) < 0)
		return -ENOMEM;
	*ret = arena_array(arena, view.endpoint_count + drained + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < view.endpoint_count; i++) {
		if (view.endpoints[i].endpoint.family == stale->family)
			(*ret)[(*ret_count)++] = view.endpoints[i].endpoint;
	}
	for (size_t i = 0; i < drained; i++)
		(*ret)[(*ret_count)++] = service->drained[stale->family][i];
	return 0;
}

static bool is_among(const struct endpoint *endpoint, const struct endpoint *among, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (endpoint_compare(&among[i], endpoint) == 0)
			return true;
	}
	return false;
}

int stale_filters(struct arena *arena, const struct stale *stale, size_t count,
		  const struct standing *standing, const struct ruleset *desired,
		  struct flow_filter **ret, size_t *ret_count)
{
	struct endpoint *right = NULL;
	size_t right_count = 0;

	*ret_count = 0;
	*ret = arena_array(arena, count, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct flow_filter filter = {.listen = stale[i].listen,
					     .family = stale[i].family,
					     .others = stale[i].others,
					     .endpoints = &stale[i].endpoint,
					     .count = 1};

		if ((i == 0 || !same_port(&stale[i - 1], &stale[i])) &&
		    find_right(arena, &stale[i], standing, desired, &right, &right_count) < 0)
			return -ENOMEM;
		if (!filter.others && is_among(&stale[i].endpoint, right, right_count))
			continue;
		if (filter.others) {
			filter.endpoints = right;
			filter.count = right_count;
			/* There is room for one more; it is the last of its port. */
			if (filter.listen.protocol == PROTOCOL_TCP)
				right[filter.count++] = flow_untranslated(&filter.listen,
									  filter.family);
		}
		(*ret)[(*ret_count)++] = filter;
	}
	return 0;
}
