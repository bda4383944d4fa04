/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"

/*
 * What the agent knows, as JSON. Connections are read from the kernel at the
 * time of asking: nobody else needs them, and reading costs nothing while
 * nobody asks.
 */

enum { SNAPSHOT_TRIES = 3 };

static int compare_elements(const void *a, const void *b)
{
	const struct observed_endpoint *x = a, *y = b;
	int order = listen_compare(&x->listen, &y->listen);

	return order ? order : endpoint_compare(&x->endpoint, &y->endpoint);
}

void snapshot_done(struct snapshot *snapshot)
{
	arena_free(snapshot->arena);
	snapshot->arena = NULL;
}

/*
 * Read by what is known to stand, so that nobody pays for what others put there.
 * Somebody may be changing it just now; a few times over that is bad luck.
 */
static int read_counters(const struct target *target, struct snapshot *ret)
{
	struct rules *rules = target->rules;
	struct observed_endpoint *elements;
	struct error error;
	size_t count;
	int r = -EAGAIN;

	if (standing_endpoints(rules->standing, ret->arena, &elements, &count) < 0)
		return -ENOMEM;
	for (unsigned tries = 0; tries < SNAPSHOT_TRIES && r == -EAGAIN; tries++)
		r = kernel_read_endpoints(rules->kernel, elements, count, &error);
	if (r < 0)
		return r;
	qsort(elements, count, sizeof(*elements), compare_elements);
	ret->elements = elements;
	ret->count = count;
	return 0;
}

void snapshot_take(const struct target *target, struct snapshot *ret)
{
	*ret = (struct snapshot){.arena = arena_new()};
	/* While it is synced its rules are not for us to look at. */
	ret->is_known = ret->arena && !target->sync && read_counters(target, ret) == 0;
}

/* The first element of a port (and endpoint, where it is given), or behind where it would be. */
static size_t find_first(const struct snapshot *snapshot, const struct observed_endpoint *wanted)
{
	size_t low = 0, high = snapshot->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_elements(&snapshot->elements[middle], wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t snapshot_connections(const struct snapshot *snapshot, const struct listen *listen,
			      const struct endpoint *endpoint)
{
	const struct observed_endpoint wanted = {
		.listen = *listen, .endpoint = endpoint ? *endpoint : (struct endpoint){0}};
	uint64_t sum = 0;

	for (size_t i = find_first(snapshot, &wanted); i < snapshot->count; i++) {
		const struct observed_endpoint *element = &snapshot->elements[i];

		if (listen_compare(&element->listen, listen) != 0 ||
		    (endpoint && endpoint_compare(&element->endpoint, endpoint) != 0))
			break;
		sum += element->packets;
	}
	return sum;
}

static json_t *tags_json(const struct tags *tags)
{
	json_t *array = json_array();

	for (size_t i = 0; i < tags->count; i++)
		json_array_append_new(array, json_string(tags->names[i]));
	return array;
}

/* null where that cannot be said at this moment. */
static json_t *connections_json(const struct snapshot *snapshot, const struct listen *listen,
				const struct endpoint *endpoint)
{
	if (!snapshot->is_known)
		return json_null();
	return json_integer((json_int_t)snapshot_connections(snapshot, listen, endpoint));
}

static json_t *endpoints_json(const struct snapshot *snapshot, const struct listen *listen,
			      const struct selection *selection)
{
	json_t *array = json_array();

	for (size_t i = 0; i < selection->endpoint_count; i++) {
		const struct candidate *candidate = &selection->endpoints[i];
		char address[ENDPOINT_TEXT_MAX];

		json_array_append_new(
			array, json_pack("{s:s, s:i, s:i, s:o}", "address",
					 endpoint_format_address(&candidate->endpoint, address),
					 "port", (int)candidate->endpoint.port, "weight",
					 (int)candidate->weight, "connections",
					 connections_json(snapshot, listen, &candidate->endpoint)));
	}
	return array;
}

/* What is wrong with documents of a service that has others, or NULL. */
static const char *complaint(struct arena *arena, const struct selection *selection)
{
	const struct skipped *first;
	size_t count = skipped_unusable(selection->skipped, selection->skipped_count, &first);
	char key[SHOWN_KEY_MAX];

	if (count == 0)
		return NULL;
	return arena_printf(arena, "%zu of %zu documents cannot be used, the first one %s: %s",
			    count, selection->endpoint_count + selection->skipped_count,
			    text_format(key, sizeof(key), "%s", first->key), first->reason);
}

/* The state of a used descriptor, and why, where there is more to say. */
static const char *state_of(struct arena *arena, const struct backend *backend,
			    const struct selection *selection, const char **ret_reason)
{
	const struct subscription *subscription = backend->subscription;
	const struct agent *agent = backend->target->agent;

	*ret_reason = NULL;
	if (!subscription->known) {
		*ret_reason = subscription->reason ? subscription->reason : "it is being read";
		return "held";
	}
	if (subscription->spared && !subscription->failed) {
		*ret_reason = "the registry came back without it, which is no removal";
		return "held";
	}
	if (subscription->failed || agent_is_held(agent)) {
		*ret_reason = subscription->reason ? subscription->reason
						   : "the registry is out of reach";
		return "held";
	}
	*ret_reason = selection_lack(arena, selection, &backend->descriptor->tags);
	if (selection->endpoint_count == 0)
		return "empty";
	if (!*ret_reason)
		*ret_reason = complaint(arena, selection);
	return "ready";
}

static json_t *used_json(const struct snapshot *snapshot, const struct backend *backend)
{
	const struct descriptor *descriptor = backend->descriptor;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct selection selection = {0};
	const char *state, *reason;

	if (!arena || backend_select(arena, backend, &selection) < 0)
		selection = (struct selection){0};
	state = state_of(arena, backend, &selection, &reason);
	return json_pack("{s:s, s:s, s:o, s:s, s:s?, s:o}", "variable", descriptor->variable,
			 "service", service_key(backend->subscription->service), "tags",
			 tags_json(&descriptor->tags), "state", state, "reason", reason,
			 "endpoints", endpoints_json(snapshot, &descriptor->listen, &selection));
}

/* One that merged shows what the one it merged with has. */
static const struct backend *backend_of(const struct target *target,
					const struct descriptor *descriptor)
{
	if (descriptor->state != DESCRIPTOR_USED && descriptor->state != DESCRIPTOR_MERGED)
		return NULL;
	return target_backend(target, &descriptor->listen);
}

/* Whose it is; NULL of a target by hand. */
static const char *container_of(const struct target *target, const struct descriptor *descriptor)
{
	const struct member *member;

	TAILQ_FOREACH (member, &target->members, of_target) {
		if (member->id == descriptor->origin.id)
			return member->by_hand ? NULL : member->name;
	}
	return NULL;
}

static json_t *descriptor_json(const struct target *target, const struct snapshot *snapshot,
			       const struct descriptor *descriptor)
{
	const struct backend *backend = backend_of(target, descriptor);
	char listen[32], reason[ERROR_MESSAGE_MAX] = "";
	const char *container;
	json_t *object;

	if (descriptor->state == DESCRIPTOR_INVALID && descriptor->column)
		(void)text_format(reason, sizeof(reason), "column %zu: %s", descriptor->column,
				  descriptor->reason);
	if (backend)
		object = used_json(snapshot, backend);
	else
		object = json_pack("{s:s, s:n, s:[], s:s, s:s, s:[]}", "variable",
				   descriptor->variable, "service", "tags", "state",
				   descriptor_state_name(descriptor->state), "reason",
				   reason[0] ? reason : descriptor->reason, "endpoints");
	if (!object)
		return NULL;
	json_object_set_new(object, "variable", json_string(descriptor->variable));
	container = container_of(target, descriptor);
	json_object_set_new(object, "container", container ? json_string(container) : json_null());
	if (descriptor->state == DESCRIPTOR_INVALID || descriptor->state == DESCRIPTOR_IGNORED) {
		json_object_set_new(object, "listen", json_null());
		return object;
	}
	(void)snprintf(listen, sizeof(listen), "%u/%s", descriptor->listen.port,
		       protocol_name(descriptor->listen.protocol));
	json_object_set_new(object, "listen", json_string(listen));
	return object;
}

static json_t *member_json(const struct member *member)
{
	return json_pack("{s:s?, s:s, s:o}", "id", member->by_hand ? NULL : member->id, "name",
			 member->name, "pid",
			 member->pid > 0 ? json_integer(member->pid) : json_null());
}

/* Of a namespace that is kept: whether its rules are what they should be. */
static const char *target_state(const struct target *target)
{
	if (target->failure)
		return "failing";
	return target->synced ? "kept" : "waiting";
}

static json_t *target_json(const struct target *target)
{
	json_t *containers = json_array(), *backends = json_array();
	const struct member *member;
	struct snapshot snapshot;

	snapshot_take(target, &snapshot);
	TAILQ_FOREACH (member, &target->members, of_target)
		json_array_append_new(containers, member_json(member));
	for (size_t i = 0; i < target->descriptors.count; i++)
		json_array_append_new(
			backends, descriptor_json(target, &snapshot, target->descriptors.items[i]));
	snapshot_done(&snapshot);
	return json_pack("{s:I, s:o, s:s, s:s?, s:o}", "netns", (json_int_t)target->inode,
			 "containers", containers, "state", target_state(target), "note",
			 target->failure, "backends", backends);
}

/* A container that is known and left alone, or cannot be reached. */
static json_t *noted_json(const struct member *member)
{
	const char *note = "left alone: the label dragoman.enable is false";
	bool left_alone = member->note == MEMBER_HOST_NETWORK || member->note == MEMBER_DISABLED;

	if (member->note == MEMBER_HOST_NETWORK)
		note = "left alone: it is in the host's own network namespace";
	else if (member->note == MEMBER_DOUBTED)
		note = "its process may be another's by now: the engine is asked again";
	else if (member->note == MEMBER_UNREACHABLE)
		note = member->reason ? member->reason : "its namespace cannot be reached";
	return json_pack("{s:n, s:[o], s:s, s:s, s:[]}", "netns", "containers", member_json(member),
			 "state", left_alone ? "left alone" : "unreachable", "note", note,
			 "backends");
}

static json_t *namespaces_json(const struct agent *agent)
{
	json_t *array = json_array();
	const struct target *target;
	const struct member *member;

	LIST_FOREACH (target, &agent->targets, entry)
		json_array_append_new(array, target_json(target));
	LIST_FOREACH (member, &agent->members, of_agent) {
		if (!member->target)
			json_array_append_new(array, noted_json(member));
	}
	return array;
}

static json_t *registry_json(const struct agent *agent)
{
	struct registry_counts counts = {0};

	registry_watch_counts(agent->watch, &counts);
	return json_pack("{s:s, s:s, s:s?, s:o}", "url", registry_url(agent->registry), "state",
			 registry_state_name(registry_watch_state(agent->watch)), "reason",
			 agent->registry_failure, "revision",
			 counts.revision ? json_integer((json_int_t)counts.revision) : json_null());
}

static json_t *docker_json(const struct agent *agent)
{
	if (!agent->containers)
		return json_pack("{s:s, s:n}", "state", "off", "reason");
	return json_pack("{s:s, s:s?}", "state",
			 container_state_name(containers_state(agent->containers)), "reason",
			 agent->containers_failure);
}

void agent_status(const struct agent *agent, struct text *ret)
{
	char *dumped = NULL;
	json_t *root = json_pack("{s:s, s:o, s:o, s:b, s:I, s:o, s:o, s:o}", "version",
				 DRAGOMAN_VERSION, "registry", registry_json(agent), "docker",
				 docker_json(agent), "ready", agent->ready, "commits",
				 (json_int_t)agent->metrics.commits, "event_to_commit",
				 recent_latencies_json(agent), "changes",
				 recent_changes_json(agent), "namespaces", namespaces_json(agent));

	if (root)
		dumped = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	if (!dumped) {
		ret->failed = true;
		return;
	}
	text_puts(ret, dumped);
	text_puts(ret, "\n");
	free(dumped);
}
