/* SPDX-License-Identifier: MIT */
#include "consul_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"
#include "dragoman/model/ruleset.h"

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
 * Consul's weights go to 65535. Beyond ours they all are divided by what they
 * have in common, and scaled down where that is not enough, since it is their
 * relation that matters; also by those that fail, which may pass soon.
 */

enum { INSTANCE_WEIGHT_MAX = 65535, WORDS_MAX = DOCUMENT_REASON_MAX };

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
		text_printf(into, "in maintenance mode%s%.*s", *notes ? ": " : "", WORDS_MAX,
			    notes);
	else
		text_printf(into, "check \"%.*s\" is %.*s", WORDS_MAX, *name ? name : id, WORDS_MAX,
			    *status ? status : "of no status");
}

/* Of the weights of one answer. */
struct scale {
	unsigned divisor; /* that they have in common */
	unsigned largest; /* of them, divided by that */
};

/* One that Consul takes; of any other 0. */
static unsigned weight_of(const json_t *service)
{
	const json_t *weights = json_object_get(service, "Weights");
	json_int_t weight = json_integer_value(json_object_get(weights, "Passing"));

	return weight >= 1 && weight <= INSTANCE_WEIGHT_MAX ? (unsigned)weight : 0;
}

static struct scale scale_of(const json_t *instances)
{
	struct scale scale = {0};

	for (size_t i = 0; i < json_array_size(instances); i++) {
		unsigned weight = weight_of(
			json_object_get(json_array_get(instances, i), "Service"));

		scale.divisor = weights_common_divisor(weight, scale.divisor);
		if (weight > scale.largest)
			scale.largest = weight;
	}
	if (scale.largest <= WEIGHT_MAX)
		return (struct scale){1, WEIGHT_MAX};
	scale.largest /= scale.divisor;
	return scale;
}

static unsigned scaled_weight(unsigned weight, const struct scale *scale)
{
	weight /= scale->divisor;
	if (scale->largest > WEIGHT_MAX)
		weight = (weight * WEIGHT_MAX + scale->largest / 2) / scale->largest;
	return weight ? weight : 1;
}

/*
 * One member of a document, as it stands. jansson does not say when memory runs
 * out within the keys of an object, so the object is written here.
 */
static void encode_member(const char *name, const json_t *value, struct text *into)
{
	CLEANUP(memory_free)
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (value && !text)
		into->failed = true;
	else
		text_printf(into, "%s\"%s\":%s", into->length ? "," : "{", name,
			    text ? text : "null");
}

static void encode_document(const json_t *node, const json_t *service, const struct scale *scale,
			    struct text *into)
{
	const json_t *address = json_object_get(service, "Address");
	const json_t *weights = json_object_get(service, "Weights");
	unsigned weight = weight_of(service);

	if (!address || json_is_null(address) ||
	    (json_is_string(address) && json_string_length(address) == 0))
		address = json_object_get(node, "Address");
	encode_member("host", address, into);
	encode_member("port", json_object_get(service, "Port"), into);
	encode_member("tags", json_object_get(service, "Tags"), into);
	if (weight)
		text_printf(into, ",\"weight\":%u", scaled_weight(weight, scale));
	else
		encode_member("weight", json_object_get(weights, "Passing"), into);
	text_puts(into, "}");
}

static int add(struct document_list *list, const struct text *key, const struct text *value)
{
	return key->failed || value->failed ? -ENOMEM
					    : document_list_add(list, key->data, key->length,
								value->data, value->length);
}

static int decode_instance(const json_t *instance, const char *name, const struct scale *scale,
			   struct document_list *list, struct error *error)
{
	const json_t *node = json_object_get(instance, "Node");
	const json_t *service = json_object_get(instance, "Service");
	const json_t *node_name = json_object_get(node, "Node"),
		     *id = json_object_get(service, "ID");
	const json_t *checks = json_object_get(instance, "Checks"),
		     *failing = failing_check(checks);
	CLEANUP(text_done) struct text key = {0}, value = {0};

	if (!json_is_string(node_name) || !json_is_string(id))
		return answer_wrong(error, "answer has an instance without a node or an ID");
	if (!json_is_array(checks) && !json_is_null(checks))
		return answer_wrong(error, "answer has an instance without its checks");
	text_printf(&key, "%s/", name);
	text_add(&key, json_string_value(node_name), json_string_length(node_name));
	text_puts(&key, "/");
	text_add(&key, json_string_value(id), json_string_length(id));
	if (failing)
		describe_check(failing, &value);
	else
		encode_document(node, service, scale, &value);
	if (add(list, &key, &value) < 0)
		return error_no_memory(error);
	list->items[list->count - 1].is_failing = failing != NULL;
	return 0;
}

int consul_decode_instances(const char *body, size_t length, const char *service,
			    struct document_list *list, struct error *error)
{
	CLEANUP(json_freep) json_t *instances = NULL;
	int code = answer_parse_array(body, length, &instances, error);
	struct scale scale = scale_of(instances);

	for (size_t i = 0; i < json_array_size(instances) && code == 0; i++)
		code = decode_instance(json_array_get(instances, i), service, &scale, list, error);
	return code;
}
