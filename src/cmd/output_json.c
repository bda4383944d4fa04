/* SPDX-License-Identifier: MIT */
/*
 * The JSON of results. The keys are those that the manual promises, more may be
 * there.
 */
#include "json_out.h"
#include "output.h"

static json_t *change_json(const struct change *change, bool *failed)
{
	char text[ENDPOINT_TEXT_MAX];
	json_t *object = json_object();

	json_put(object, failed, "verdict", json_string(verdict_name(change->verdict)));
	if (change->is_object) {
		json_put(object, failed, "object", json_text(change->object));
		return object;
	}
	listen_format(&change->listen, (enum family)change->family, text);
	json_put(object, failed, "listen", json_string(text));
	json_put(object, failed, "endpoint",
		 change->has_endpoint ? json_string(endpoint_format(&change->endpoint, text))
				      : json_null());
	if (change->has_was)
		json_put(object, failed, "was", json_string(endpoint_format(&change->was, text)));
	if (change->has_endpoint)
		json_put(object, failed, "slots", json_integer(change->slots));
	return object;
}

void outcome_print_json(struct text *out, const struct outcome *outcome,
			const struct report *report)
{
	json_t *document = json_object(), *changes = json_array();
	bool failed = false;

	for (size_t i = 0; outcome->valid && i < outcome->change_count; i++)
		json_append(changes, &failed, change_json(&outcome->changes[i], &failed));
	json_put(document, &failed, "netns",
		 outcome->netns ? json_integer((json_int_t)outcome->netns) : json_null());
	json_put(document, &failed, "in_sync",
		 outcome->valid ? json_boolean(outcome->change_count == 0) : json_null());
	json_put(document, &failed, "changes", changes);
	json_put(document, &failed, "errors", json_errors(report, &failed));
	json_dump_to(out, document, failed);
}

void resolution_print_json(struct text *out, const struct resolution *resolution,
			   const struct report *report)
{
	static const struct selection nothing;
	const struct selection *selection = resolution->selection ? resolution->selection
								  : &nothing;
	const struct tags *tags = resolution->tags;
	json_t *document = json_object(), *endpoints = json_array(), *skipped = json_array();
	bool failed = false;

	for (size_t i = 0; i < selection->endpoint_count; i++)
		json_append(endpoints, &failed, json_candidate(&selection->endpoints[i], &failed));
	for (size_t i = 0; i < selection->skipped_count; i++)
		json_append(skipped, &failed, json_skipped(&selection->skipped[i], &failed));
	json_put(document, &failed, "service", json_text(resolution->service));
	json_put(document, &failed, "tags",
		 tags ? json_texts(tags->names, tags->count, &failed) : json_array());
	json_put(document, &failed, "listen", json_listen(resolution->listen));
	json_put(document, &failed, "endpoints", endpoints);
	json_put(document, &failed, "skipped", skipped);
	json_put(document, &failed, "reason", json_text(resolution->lack));
	json_put(document, &failed, "hint", json_text(resolution->hint));
	json_put(document, &failed, "errors", json_errors(report, &failed));
	json_dump_to(out, document, failed);
}

void report_print_json(struct text *out, const struct report *report)
{
	json_t *document = json_object();
	bool failed = false;

	json_put(document, &failed, "errors", json_errors(report, &failed));
	json_dump_to(out, document, failed);
}
