/* SPDX-License-Identifier: MIT */
#include "agent_private.h"
#include "dragoman/base/log.h"

/*
 * Theory of operation
 *
 * A document that cannot be used is none: what it said before, when it could
 * be, is not in the registry any more, and its endpoint leaves. Whoever runs
 * this wants to know that, and whoever may write to the registry can bring it
 * about a hundred thousand times, or a thousand times a second. So what is told
 * is a service's state, one line for all of its documents, of a few services at
 * a time, and with a pause after that.
 */

enum { SERVICES_TOLD = 10 };
static const uint64_t pause = UINT64_C(10000000000); /* nanoseconds */

void documents_look(struct agent *agent, struct subscription *subscription)
{
	const size_t unusable = service_unusable_count(subscription->service);
	uint64_t now = loop_now(agent->loop), due = agent->complained + pause;

	if (unusable > subscription->unusable)
		agent->metrics.documents_rejected += unusable - subscription->unusable;
	subscription->unusable = unusable;
	if (subscription->is_untold || unusable == subscription->unusable_told)
		return;
	if (TAILQ_EMPTY(&agent->untold))
		loop_source_arm(agent->complain, agent->complained && due > now ? due : now);
	subscription->is_untold = true;
	TAILQ_INSERT_TAIL(&agent->untold, subscription, of_untold);
}

void documents_forget(struct agent *agent, struct subscription *subscription)
{
	if (subscription->is_untold)
		TAILQ_REMOVE(&agent->untold, subscription, of_untold);
	subscription->is_untold = false;
}

static void tell(const struct subscription *subscription)
{
	const struct service *service = subscription->service;
	struct service_unusable unusable;

	if (subscription->unusable == 0) {
		log_info("%s: all documents can be used again", service_key(service));
		return;
	}
	service_unusable(service, &unusable);
	log_warn("%s: %zu of %zu documents cannot be used, the first one %s: %s",
		 service_key(service), unusable.count, service_count(service), unusable.key,
		 unusable.reason);
}

void documents_complain(struct agent *agent)
{
	struct subscription *subscription;
	size_t told = 0;

	while ((subscription = TAILQ_FIRST(&agent->untold))) {
		documents_forget(agent, subscription);
		/* It may have gone back to what it was. */
		if (subscription->unusable == subscription->unusable_told)
			continue;
		subscription->unusable_told = subscription->unusable;
		if (told++ < SERVICES_TOLD)
			tell(subscription);
	}
	if (told > SERVICES_TOLD)
		log_warn("and the documents of %zu more services; see status",
			 told - SERVICES_TOLD);
	if (told)
		agent->complained = loop_now(agent->loop);
}
