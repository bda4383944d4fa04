/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "agent_private.h"
#include "dragoman/base/log.h"

/* From what is known of the services to the ruleset that shall stand. */

int backend_select(struct arena *arena, const struct backend *backend, struct selection *ret)
{
	const struct descriptor *descriptor = backend->descriptor;

	return service_select(arena, backend->subscription->service, &descriptor->tags,
			      descriptor->listen.protocol, ret);
}

int backend_fill(struct arena *arena, const struct agent *agent, const struct backend *backend,
		 struct ruleset_service *ret)
{
	struct share *weights;
	size_t count;

	*ret = (struct ruleset_service){.listen = backend->descriptor->listen,
					.mode = RULESET_KEEP};
	if (!backend->subscription->known)
		return 0;
	if (service_shares(arena, backend->subscription->service, &backend->descriptor->tags,
			   backend->descriptor->listen.protocol, &weights, &count) < 0 ||
	    ruleset_service_share(arena, weights, count, ret) < 0)
		return -ENOMEM;
	ret->mode = count == 0 && agent->options.hold_when_empty ? RULESET_HOLD : RULESET_SET;
	return 0;
}

/* What is not there any more, and what is there and not to be used, are two things to mend. */
static void tell_of_none(struct arena *arena, const struct backend *backend)
{
	const char *variable = backend->descriptor->variable;
	const char *key = service_key(backend->subscription->service), *lack;
	struct selection selection;

	if (backend_select(arena, backend, &selection) < 0)
		return;
	lack = selection_lack(arena, &selection, &backend->descriptor->tags);
	log_warn("%s: %s: no endpoint is left%s%s", variable, key, lack ? ", " : "",
		 lack ? lack : "");
}

/* The same, and says where the last endpoint has gone. */
static int desire_backend(struct arena *arena, struct backend *backend, struct ruleset_service *ret)
{
	bool some = false;

	if (backend_fill(arena, backend->target->agent, backend, ret) < 0)
		return -ENOMEM;
	if (!backend->subscription->known)
		return 0;
	for (unsigned family = 0; family < FAMILY_COUNT; family++)
		some |= ret->share_count[family] || ret->drained_count[family];
	if (!some && backend->had_endpoints)
		tell_of_none(arena, backend);
	backend->had_endpoints = some;
	return 0;
}

int desired_whole(struct arena *arena, struct target *target, struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = target->agent->options.balance,
				.count = target->backend_count};
	ret->services = arena_array(arena, target->backend_count, sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < target->backend_count; i++) {
		if (desire_backend(arena, &target->backends[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compare_dirty(const void *a, const void *b)
{
	const struct backend *x = *(struct backend *const *)a, *y = *(struct backend *const *)b;

	return listen_compare(&x->descriptor->listen, &y->descriptor->listen);
}

int desired_part(struct arena *arena, struct target *target, struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = target->agent->options.balance,
				.count = target->dirty_count};
	ret->services = arena_array(arena, target->dirty_count, sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	if (ret->count)
		qsort(target->dirty, target->dirty_count, sizeof(*target->dirty), compare_dirty);
	for (size_t i = 0; i < target->dirty_count; i++) {
		if (desire_backend(arena, target->dirty[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}
