/* SPDX-License-Identifier: MIT */
#include "consul_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"

/*
 * Theory of operation
 *
 * An instance is {"Node": {...}, "Service": {...}, "Checks": [...]}, several
 * kilobytes of it, of which four members matter. They go into a document as
 * they stand, of whatever type they are, so that what is wrong with them is
 * said where documents are read (src/model/document.c), in its words. Without
 * the names that make its key an answer is none of Consul's.
 *
 * Consul is asked for instances whose checks fail, too: else one that is there
 * and fails could not be told from one that is not there. It would send fewer
 * bytes otherwise, and wake up as often.
 *
 * So it is with tags: a service is asked for once, whatever tags the descriptors
 * of this host want of it, and which tag one lacks can only be told of what
 * came in.
 *
 * Consul's weights go to 65535. Beyond ours they all are divided by the same,
 * since it is their relation that matters.
 */

enum { INSTANCE_WEIGHT_MAX = 65535 };

static bool is_unreserved(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || (byte != '\0' && strchr("-._~", byte));
}

static void encode(const char *value, struct text *into)
{
	for (; *value; value++) {
		if (is_unreserved(*value))
			text_add(into, value, 1);
		else
			text_printf(into, "%%%02X", (unsigned char)*value);
	}
}

static void encode_parameter(const char *name, const char *value, struct text *into)
{
	if (!value)
		return;
	text_printf(into, "&%s=", name);
	encode(value, into);
}

void consul_encode_question(const struct consul_question *question, struct text *into)
{
	text_puts(into, "/v1/health/service/");
	encode(question->service, into);
	text_puts(into, question->stale ? "?stale" : "?consistent");
	encode_parameter("dc", question->datacenter, into);
	encode_parameter("ns", question->namespace, into);
	if (question->index)
		text_printf(into, "&index=%" PRIu64 "&wait=%" PRIu64 "ms", question->index,
			    question->wait);
}

/* A check that does not pass, or NULL. Maintenance mode is one, critical until it ends. */
static const json_t *failing_check(const json_t *checks)
{
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *check = json_array_get(checks, i);
		const char *status = json_string_value(json_object_get(check, "Status"));

		if (!status || strcmp(status, "passing") != 0)
			return check;
	}
	return NULL;
}

static bool is_maintenance(const char *id)
{
	static const char service[] = "_service_maintenance:", node[] = "_node_maintenance";

	return strncmp(id, service, strlen(service)) == 0 || strcmp(id, node) == 0;
}

static const char *member(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static void describe_check(const json_t *check, struct text *into)
{
	const char *id = member(check, "CheckID"), *notes = member(check, "Notes");
	const char *name = member(check, "Name"), *status = member(check, "Status");

	if (is_maintenance(id))
		text_printf(into, "in maintenance mode%s%s", *notes ? ": " : "", notes);
	else
		text_printf(into, "check \"%s\" is %s", *name ? name : id,
			    *status ? status : "of no status");
}

/* Of those that Consul takes; WEIGHT_MAX at least. */
static double largest_weight(const json_t *instances)
{
	double largest = WEIGHT_MAX;

	for (size_t i = 0; i < json_array_size(instances); i++) {
		const json_t *service = json_object_get(json_array_get(instances, i), "Service");
		const json_t *weights = json_object_get(service, "Weights");
		double weight = json_number_value(json_object_get(weights, "Passing"));

		if (weight > largest && weight <= INSTANCE_WEIGHT_MAX)
			largest = weight;
	}
	return largest;
}

static json_t *scaled_weight(const json_t *service, double largest)
{
	json_t *weight = json_object_get(json_object_get(service, "Weights"), "Passing");
	double number = json_number_value(weight), scaled = number * WEIGHT_MAX / largest;

	if (largest <= WEIGHT_MAX || number < 1 || number > INSTANCE_WEIGHT_MAX)
		return json_incref(weight);
	return json_integer(scaled < 1 ? 1 : (json_int_t)(scaled + 0.5));
}

static char *encode_document(const json_t *node, const json_t *service, double largest)
{
	json_t *address = json_object_get(service, "Address");
	CLEANUP(json_freep) json_t *document = NULL;

	if (!address || json_is_null(address) ||
	    (json_is_string(address) && json_string_length(address) == 0))
		address = json_object_get(node, "Address");
	document = json_pack("{s:O?, s:O?, s:O?, s:o?}", "host", address, "port",
			     json_object_get(service, "Port"), "tags",
			     json_object_get(service, "Tags"), "weight",
			     scaled_weight(service, largest));
	return document ? json_dumps(document, JSON_COMPACT) : NULL;
}

static int add(struct document_list *list, const struct text *key, const char *value, size_t length)
{
	return key->failed || !value
		       ? -ENOMEM
		       : document_list_add(list, key->data, key->length, value, length);
}

static int add_failing(struct document_list *list, const struct text *key, const json_t *check)
{
	CLEANUP(text_done) struct text why = {0};

	describe_check(check, &why);
	if (why.failed || add(list, key, why.data, why.length) < 0)
		return -ENOMEM;
	list->items[list->count - 1].is_failing = true;
	return 0;
}

static int add_passing(struct document_list *list, const struct text *key, const json_t *node,
		       const json_t *service, double largest)
{
	CLEANUP(memory_free) char *value = encode_document(node, service, largest);

	return add(list, key, value, value ? strlen(value) : 0);
}

static int decode_instance(const json_t *instance, const char *name, double largest,
			   struct document_list *list, struct error *error)
{
	const json_t *node = json_object_get(instance, "Node");
	const json_t *service = json_object_get(instance, "Service");
	const json_t *node_name = json_object_get(node, "Node"),
		     *id = json_object_get(service, "ID");
	const json_t *checks = json_object_get(instance, "Checks"),
		     *failing = failing_check(checks);
	CLEANUP(text_done) struct text key = {0};
	int code;

	if (!json_is_string(node_name) || !json_is_string(id))
		return answer_wrong(error, "answer has an instance without a node or an ID");
	if (!json_is_array(checks) && !json_is_null(checks))
		return answer_wrong(error, "answer has an instance without its checks");
	text_printf(&key, "%s/", name);
	text_add(&key, json_string_value(node_name), json_string_length(node_name));
	text_puts(&key, "/");
	text_add(&key, json_string_value(id), json_string_length(id));
	code = failing ? add_failing(list, &key, failing)
		       : add_passing(list, &key, node, service, largest);
	return code < 0 ? error_no_memory(error) : 0;
}

int consul_decode_instances(const char *body, size_t length, const char *service,
			    struct document_list *list, struct error *error)
{
	CLEANUP(json_freep) json_t *instances = NULL;
	int code = answer_parse_array(body, length, &instances, error);
	double largest = largest_weight(instances);

	for (size_t i = 0; i < json_array_size(instances) && code == 0; i++)
		code = decode_instance(json_array_get(instances, i), service, largest, list, error);
	return code;
}
