/* SPDX-License-Identifier: MIT */
#include "explain_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/log.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/model/flow.h"

/* Of the time that is left: for all connections of --probe. */
enum { PROBE_DIVISOR = 2 };
static const uint64_t probe_most = UINT64_C(2000000000);

static int compare_slots(const void *a, const void *b)
{
	const struct observed_endpoint *x = a, *y = b;

	return (x->slot > y->slot) - (x->slot < y->slot);
}

static int fill_face(struct arena *arena, const struct observed *observed,
		     const struct listen *listen, enum family family, struct kernel_face *ret)
{
	ret->slots = arena_array(arena, observed->endpoint_count + 1, sizeof(*ret->slots));
	if (!ret->slots)
		return -ENOMEM;
	for (size_t i = 0; i < observed->service_count; i++) {
		const struct observed_service *service = &observed->services[i];

		if (service->family != family || listen_compare(&service->listen, listen) != 0)
			continue;
		ret->stands = true;
		ret->target = service->target;
	}
	for (size_t i = 0; i < observed->endpoint_count; i++) {
		const struct observed_endpoint *endpoint = &observed->endpoints[i];

		if (endpoint->endpoint.family == family &&
		    listen_compare(&endpoint->listen, listen) == 0)
			ret->slots[ret->slot_count++] = *endpoint;
	}
	for (size_t i = 0; i < observed->unavailable_count; i++)
		ret->unavailable |= observed->unavailable[i].family == family &&
				    listen_compare(&observed->unavailable[i].listen, listen) == 0;
	if (ret->slot_count)
		qsort(ret->slots, ret->slot_count, sizeof(*ret->slots), compare_slots);
	return 0;
}

/* A chain or set of ours that is not there, or not as it should be. */
static const char *find_missing(struct arena *arena, const struct observed *observed)
{
	bool intact[CHAIN_BASE_COUNT] = {false};
	char name[CHAIN_NAME_MAX];

	for (size_t i = 0; i < observed->chain_count; i++) {
		const struct observed_chain *chain = &observed->chains[i];

		if (chain->chain.kind < CHAIN_BASE_COUNT)
			intact[chain->chain.kind] = chain->intact;
		else if (chain->chain.kind != CHAIN_FOREIGN && !chain->intact)
			return arena_printf(arena, "chain %s", chain_format(&chain->chain, name));
	}
	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++) {
		const struct chain chain = {.kind = (uint8_t)kind};

		if (!intact[kind])
			return arena_printf(arena, "chain %s", chain_format(&chain, name));
	}
	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (!observed->has_set[set])
			return arena_printf(arena, "set %s", set_name((enum set_kind)set));
	}
	return NULL;
}

static int take_observed(struct story *story, const struct observed *observed)
{
	struct kernel_view *view = &story->kernel;

	view->table = observed->table;
	view->foreign = observed->foreign;
	view->localnet = observed->localnet;
	view->ipv6 = observed->ipv6;
	view->missing = observed->table && !observed->foreign ? find_missing(story->arena, observed)
							      : NULL;
	for (size_t i = 0; i < observed->link_count && observed->ipv6 && !view->unrouted; i++)
		view->unrouted = observed->links[i].routed ? NULL : observed->links[i].name;
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		if (fill_face(story->arena, observed, &story->listen, (enum family)family,
			      &view->faces[family]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_kernel(const struct netns *netns, struct arena *arena, struct observed *observed,
		       struct error *error)
{
	CLEANUP(kernel_closep) struct kernel *kernel = NULL;
	int code = kernel_open(netns, &kernel, error);

	return code < 0 ? code : kernel_read(kernel, arena, observed, error);
}

/* What else is there is for the reader's eye: that it cannot be told is no failure. */
static void look_for_others(struct story *story, const struct netns *netns)
{
	struct kernel_view *view = &story->kernel;
	struct error error = {0};

	if (kernel_others(netns, &story->listen, story->arena, &view->others, &view->other_count,
			  &error) < 0)
		log_debug("other rules: %s", error.message);
}

int story_look(struct story *story, const struct netns *netns, struct error *error)
{
	struct kernel_view *view = &story->kernel;
	struct observed observed;
	int code = read_kernel(netns, story->arena, &observed, error);

	if (code == 0 && take_observed(story, &observed) < 0)
		code = error_no_memory(error);
	if (code < 0)
		view->failure = arena_text(story->arena, error->message, strlen(error->message));
	else
		look_for_others(story, netns);
	return code;
}

/* --- Trying it -------------------------------------------------------------------- */

static uint64_t count_all(const struct kernel_face *face)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < face->slot_count; i++)
		sum += face->slots[i].packets;
	return sum;
}

static bool is_among(const struct story *story, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < story->probe_count; i++) {
		if (endpoint_compare(&story->probes[i].endpoint, endpoint) == 0)
			return true;
	}
	return false;
}

/* Each endpoint that stands, and localhost itself, last. */
static int list_probes(struct story *story)
{
	story->probes = arena_array(story->arena, PROBES_MAX, sizeof(*story->probes));
	if (!story->probes)
		return -ENOMEM;
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		const struct kernel_face *face = &story->kernel.faces[family];

		for (size_t i = 0; i < face->slot_count; i++) {
			const struct endpoint *endpoint = &face->slots[i].endpoint;

			if (story->probe_count < PROBES_MAX - FAMILY_COUNT &&
			    !is_among(story, endpoint))
				story->probes[story->probe_count++].endpoint = *endpoint;
		}
	}
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		if (story->kernel.faces[family].stands)
			story->probes[story->probe_count++] = (struct probe_result){
				.endpoint = flow_localhost((enum family)family, story->listen.port),
				.is_localhost = true,
			};
	}
	return 0;
}

/* Whether the rules have seen what was sent to localhost. */
static void compare_counters(struct story *story, const struct netns *netns)
{
	struct observed observed;
	struct error error = {0};

	if (read_kernel(netns, story->arena, &observed, &error) < 0) {
		log_debug("counters: %s", error.message);
		return;
	}
	for (size_t i = 0; i < story->probe_count; i++) {
		struct probe_result *probe = &story->probes[i];
		struct kernel_face after = {0};
		enum family family = (enum family)probe->endpoint.family;

		if (probe->is_localhost &&
		    fill_face(story->arena, &observed, &story->listen, family, &after) == 0)
			probe->is_counted = count_all(&after) !=
					    count_all(&story->kernel.faces[family]);
	}
}

int story_probe(struct story *story, const struct netns *netns, const struct deadline *deadline,
		struct error *error)
{
	uint64_t time = deadline_left(deadline) / PROBE_DIVISOR;
	int code;

	if (story->kernel.failure)
		return 0;
	if (story->listen.protocol != PROTOCOL_TCP)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "--probe: UDP has no connections that could be tried");
	if (list_probes(story) < 0)
		return error_no_memory(error);
	code = probe_run(netns, story->probes, story->probe_count,
			 time < probe_most ? time : probe_most, error);
	if (code < 0)
		return code;
	story->probed = true;
	compare_counters(story, netns);
	return 0;
}
