/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "explain.h"
#include "json_out.h"

static const char *const presences[] = {
	[AGENT_NOT_THERE] = "none",
	[AGENT_SILENT] = "unknown",
	[AGENT_ELSEWHERE] = "elsewhere",
	[AGENT_KEEPS] = "keeps",
};

static json_t *claim_json(const struct claim *claim, bool *failed)
{
	json_t *object = json_object();

	json_put(object, failed, "variable", json_text(claim->variable));
	json_put(object, failed, "container", json_text(claim->whose));
	json_put(object, failed, "state", json_text(claim->state));
	json_put(object, failed, "reason", json_text(claim->reason));
	return object;
}

static json_t *claims_json(const struct story *story, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < story->claim_count; i++)
		json_append(array, failed, claim_json(&story->claims[i], failed));
	return array;
}

static json_t *agent_json(const struct agent_view *agent, bool *failed)
{
	json_t *object = json_object();

	json_put(object, failed, "presence", json_text(presences[agent->presence]));
	json_put(object, failed, "message", json_text(agent->message));
	json_put(object, failed, "state", json_text(agent->backend_state));
	json_put(object, failed, "reason", json_text(agent->backend_reason));
	return object;
}

static json_t *service_json(const struct registry_view *registry, bool *failed)
{
	const struct selection *selection = &registry->selection;
	json_t *object, *endpoints, *skipped;

	if (!registry->key)
		return json_null();
	object = json_object();
	endpoints = json_array();
	skipped = json_array();
	for (size_t i = 0; i < selection->endpoint_count; i++)
		json_append(endpoints, failed, json_candidate(&selection->endpoints[i], failed));
	for (size_t i = 0; i < selection->skipped_count; i++)
		json_append(skipped, failed, json_skipped(&selection->skipped[i], failed));
	json_put(object, failed, "registry", json_text(registry->url));
	json_put(object, failed, "service", json_text(registry->key));
	json_put(object, failed, "tags",
		 json_texts(registry->tags->names, registry->tags->count, failed));
	json_put(object, failed, "failure", json_text(registry->failure));
	json_put(object, failed, "reason", json_text(registry->lack));
	json_put(object, failed, "hint", json_text(registry->hint));
	json_put(object, failed, "endpoints", endpoints);
	json_put(object, failed, "skipped", skipped);
	return object;
}

static json_t *slot_json(const struct observed_endpoint *slot, bool *failed)
{
	char endpoint[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	json_put(object, failed, "slot", json_integer(slot->slot));
	json_put(object, failed, "endpoint", json_text(endpoint_format(&slot->endpoint, endpoint)));
	json_put(object, failed, "connections", json_integer((json_int_t)slot->packets));
	return object;
}

static json_t *face_json(const struct kernel_face *face, bool *failed)
{
	const char *state = face->unavailable ? "unavailable" : "absent";
	json_t *object = json_object(), *slots = json_array();
	char chain[CHAIN_NAME_MAX];

	for (size_t i = 0; i < face->slot_count; i++)
		json_append(slots, failed, slot_json(&face->slots[i], failed));
	json_put(object, failed, "state", json_text(face->stands ? "balanced" : state));
	json_put(object, failed, "chain",
		 json_text(face->stands ? chain_format(&face->target, chain) : NULL));
	json_put(object, failed, "slots", slots);
	return object;
}

static json_t *others_json(const struct kernel_view *kernel, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < kernel->other_count; i++) {
		const struct kernel_other *other = &kernel->others[i];
		json_t *object = json_object();

		json_put(object, failed, "where", json_text(other->where));
		json_put(object, failed, "legacy", json_boolean(other->is_legacy));
		json_put(object, failed, "rules", json_integer((json_int_t)other->rules));
		json_put(object, failed, "may_match", json_integer((json_int_t)other->fitting));
		json_append(array, failed, object);
	}
	return array;
}

static json_t *kernel_json(const struct kernel_view *kernel, bool *failed)
{
	json_t *object;

	if (kernel->failure)
		return json_null();
	object = json_object();
	json_put(object, failed, "table", json_boolean(kernel->table));
	json_put(object, failed, "route_localnet", json_integer(kernel->localnet));
	json_put(object, failed, "ipv4", face_json(&kernel->faces[FAMILY_IPV4], failed));
	json_put(object, failed, "ipv6", face_json(&kernel->faces[FAMILY_IPV6], failed));
	json_put(object, failed, "others", others_json(kernel, failed));
	return object;
}

static json_t *probe_json(const struct probe_result *probe, bool *failed)
{
	char endpoint[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	json_put(object, failed, "endpoint",
		 json_text(endpoint_format(&probe->endpoint, endpoint)));
	json_put(object, failed, "error",
		 json_text(probe->code < 0 ? strerror(-probe->code) : NULL));
	json_put(object, failed, "milliseconds", json_real((double)probe->time / 1e6));
	if (probe->is_localhost)
		json_put(object, failed, "through_rules",
			 json_boolean(probe->code == 0 && probe->is_counted));
	return object;
}

static json_t *probes_json(const struct story *story, bool *failed)
{
	json_t *array;

	if (!story->probed)
		return json_null();
	array = json_array();
	for (size_t i = 0; i < story->probe_count; i++)
		json_append(array, failed, probe_json(&story->probes[i], failed));
	return array;
}

static json_t *findings_json(const struct story *story, bool *failed)
{
	json_t *array = json_array();

	for (size_t i = 0; i < story->finding_count; i++) {
		const struct finding *finding = &story->findings[i];
		json_t *object = json_object();

		json_put(object, failed, "wrong", json_boolean(finding->is_wrong));
		json_put(object, failed, "what", json_text(finding->what));
		json_put(object, failed, "look", json_text(finding->look));
		json_append(array, failed, object);
	}
	return array;
}

void story_print_json(struct text *out, const struct story *story, const struct report *report)
{
	json_t *document = json_object();
	bool failed = false;

	json_put(document, &failed, "listen", json_listen(&story->listen));
	json_put(document, &failed, "target", json_text(story->target));
	json_put(document, &failed, "netns",
		 story->netns ? json_integer((json_int_t)story->netns) : json_null());
	json_put(document, &failed, "variables", claims_json(story, &failed));
	json_put(document, &failed, "agent", agent_json(&story->agent, &failed));
	json_put(document, &failed, "service", service_json(&story->registry, &failed));
	json_put(document, &failed, "kernel", kernel_json(&story->kernel, &failed));
	json_put(document, &failed, "probes", probes_json(story, &failed));
	json_put(document, &failed, "broken", json_boolean(story_is_broken(story)));
	json_put(document, &failed, "findings", findings_json(story, &failed));
	json_put(document, &failed, "errors", json_errors(report, &failed));
	json_dump_to(out, document, failed);
}
