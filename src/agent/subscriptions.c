/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"
#include "dragoman/base/log.h"

/*
 * Services by their key, sorted. Each is watched as long as some backend wants
 * it; an update that changes nothing marks nothing, so that registrars which
 * rewrite what stands there cost the kernel nothing.
 *
 * A registry that came back as another one (wiped, restored from a backup,
 * another cluster at its address) is believed in what it holds. Where it holds
 * nothing of a service any more, nobody removed that: its data were lost, and
 * whoever registers is about to do so again. To refuse connections then would
 * turn the registry's accident into everybody's. So such a service is spared:
 * what was known stays, until something of it stands there again, or until the
 * next resync, a whole interval later, finds it as empty; then the registry
 * means it, and --on-empty says what comes of that. SIGHUP is a resync, too.
 */

static size_t position(const struct agent *agent, const char *key, bool *ret_found)
{
	size_t low = 0, high = agent->subscription_count;

	*ret_found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key, service_key(agent->subscriptions[middle]->service));

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

size_t subscription_position(const struct agent *agent, const struct subscription *subscription)
{
	bool found;

	return position(agent, service_key(subscription->service), &found);
}

static void subscription_free(struct subscription *subscription)
{
	service_free(subscription->service);
	free(subscription->reason);
	free(subscription);
}

static struct subscription *subscription_new(const struct agent *agent, const char *key)
{
	struct subscription *subscription = calloc(1, sizeof(*subscription));

	if (!subscription)
		return NULL;
	LIST_INIT(&subscription->users);
	subscription->service = service_new(key, agent->options.admission);
	if (subscription->service)
		return subscription;
	subscription_free(subscription);
	return NULL;
}

static int add_subscription(struct agent *agent, const char *key, size_t at)
{
	struct subscription *subscription;

	if (array_reserve(&agent->subscriptions, &agent->subscription_capacity,
			  agent->subscription_count, 1, sizeof(struct subscription *)) < 0)
		return -ENOMEM;
	subscription = subscription_new(agent, key);
	if (!subscription)
		return -ENOMEM;
	if (registry_watch_add(agent->watch, key) < 0) {
		subscription_free(subscription);
		return -ENOMEM;
	}
	memmove(agent->subscriptions + at + 1, agent->subscriptions + at,
		(agent->subscription_count - at) * sizeof(struct subscription *));
	agent->subscriptions[at] = subscription;
	agent->subscription_count++;
	return 0;
}

int subscription_join(struct agent *agent, struct backend *backend, const char *key)
{
	bool found;
	size_t at = position(agent, key, &found);

	if (!found && add_subscription(agent, key, at) < 0)
		return -ENOMEM;
	backend->subscription = agent->subscriptions[at];
	LIST_INSERT_HEAD(&backend->subscription->users, backend, of_subscription);
	return 0;
}

void subscription_leave(struct agent *agent, struct backend *backend)
{
	struct subscription *subscription = backend->subscription;
	bool found;
	size_t at;

	LIST_REMOVE(backend, of_subscription);
	if (!LIST_EMPTY(&subscription->users))
		return;
	at = position(agent, service_key(subscription->service), &found);
	registry_watch_remove(agent->watch, service_key(subscription->service));
	documents_forget(agent, subscription);
	agent->subscription_count--;
	memmove(agent->subscriptions + at, agent->subscriptions + at + 1,
		(agent->subscription_count - at) * sizeof(struct subscription *));
	subscription_free(subscription);
}

void subscriptions_free(struct agent *agent)
{
	for (size_t i = 0; i < agent->subscription_count; i++)
		subscription_free(agent->subscriptions[i]);
	free(agent->subscriptions);
	agent->subscriptions = NULL;
	agent->subscription_count = 0;
}

static void mark_users(const struct subscription *subscription, uint64_t since)
{
	struct backend *backend;

	LIST_FOREACH (backend, &subscription->users, of_subscription) {
		reconciler_mark_backend(backend, since);
	}
}

/* Returns 1 when what can be selected has changed, 0 or -ENOMEM. */
static int apply(const struct subscription *subscription, const struct registry_update *update)
{
	struct service *service = subscription->service;
	int changed = 0, r;

	/* Of what was spared the registry has nothing but what is put now. */
	if (update->whole || (subscription->spared && update->count > 0))
		return service_replace(service, update->documents, update->count);
	for (size_t i = 0; i < update->removed_count; i++)
		changed |= service_remove(service, update->removed[i]);
	for (size_t i = 0; i < update->count; i++) {
		r = service_put(service, &update->documents[i]);
		if (r < 0)
			return r;
		changed |= r;
	}
	return changed;
}

static void take_failure(struct agent *agent, struct subscription *subscription,
			 const struct error *error)
{
	bool first = !subscription->known && !subscription->failed;

	if (!subscription->failed)
		log_warn("%s: %s; what is known stays", service_key(subscription->service),
			 error->message);
	subscription->failed = true;
	free(subscription->reason);
	subscription->reason = strdup(error->message);
	metrics_error(agent, error);
	/* Others of the target need not wait for it any longer. */
	if (first)
		mark_users(subscription, 0);
}

/* Whether this answer, by which nothing is there, is not to be believed yet. */
static bool spare(struct agent *agent, struct subscription *subscription,
		  const struct registry_update *update)
{
	const char *key = service_key(subscription->service);

	if (!update->whole || update->count > 0 || service_count(subscription->service) == 0)
		return false;
	if (update->restored) {
		log_warn("%s: the registry came back without it, which is no removal; what is "
			 "known stays until it is there again, or the next resync",
			 key);
		subscription->spared = true;
		subscription->resync = false;
		agent_arm_resync(agent);
	} else if (subscription->spared && subscription->resync) {
		log_warn("%s: still not there at the resync: it is empty", key);
	}
	return subscription->spared && !subscription->resync;
}

/* What a resync changes was lost on its way, or has not come in yet. */
static void look_at_resync(struct agent *agent, struct subscription *subscription,
			   const struct registry_update *update, int changed)
{
	bool is_read = update->whole && !update->is_event;
	bool of_resync = is_read && subscription->resync;

	subscription->resync = subscription->resync && !is_read;
	if (!of_resync || !changed || update->restored || subscription->spared ||
	    registry_watch_state(agent->watch) != REGISTRY_LIVE)
		return;
	agent->metrics.resync_changes++;
	log_info("%s: the resync found a change that no event had told",
		 service_key(subscription->service));
}

void subscriptions_resync(struct agent *agent)
{
	for (size_t i = 0; i < agent->subscription_count; i++)
		agent->subscriptions[i]->resync = agent->subscriptions[i]->known;
}

bool subscription_is_held(const struct agent *agent, const struct subscription *subscription)
{
	return !subscription->known || subscription->failed || subscription->spared ||
	       agent_is_held(agent);
}

void subscriptions_update(struct agent *agent, const struct registry_update *update)
{
	struct subscription *subscription;
	bool found, first;
	size_t at = position(agent, update->key, &found);
	int changed;

	if (!found)
		return;
	subscription = agent->subscriptions[at];
	if (update->error) {
		take_failure(agent, subscription, update->error);
		return;
	}
	subscription->failed = false;
	if (spare(agent, subscription, update))
		return;
	changed = apply(subscription, update);
	/* Half an update is worse than a late one. */
	if (changed < 0) {
		registry_watch_resync(agent->watch);
		return;
	}
	look_at_resync(agent, subscription, update, changed);
	if (update->whole || update->count > 0 || service_count(subscription->service) == 0)
		subscription->spared = false;
	first = !subscription->known;
	subscription->known = subscription->known || update->whole;
	if (changed)
		documents_look(agent, subscription);
	if (changed || first)
		mark_users(subscription, update->received);
}
