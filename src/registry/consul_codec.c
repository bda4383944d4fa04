/* SPDX-License-Identifier: MIT */
#include "consul_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "answer.h"
#include "dragoman/base/json_stream.h"
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
 * relation that matters; also by those that fail, which may pass soon. Few use
 * such weights, so all is decoded once more where it turns out so.
 *
 * One instance is parsed at a time: thousands of them, as values of jansson,
 * take ten times what came in.
 */

enum { INSTANCE_WEIGHT_MAX = 65535, WORDS_MAX = DOCUMENT_REASON_MAX, SHOWN = 24 };

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

/* Adds one to those that were seen. */
static void scale_add(struct scale *scale, unsigned weight)
{
	scale->divisor = weights_common_divisor(weight, scale->divisor);
	if (weight > scale->largest)
		scale->largest = weight;
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

/* What an answer is decoded with, and what is seen meanwhile. */
struct decoding {
	const char *service;
	struct scale scale, seen;
	struct document_list *list;
	struct error *error;
};

static int add(const struct decoding *decoding, const struct text *key, const struct text *value,
	       bool is_failing)
{
	struct document_list *list = decoding->list;

	if (key->failed || value->failed ||
	    document_list_add(list, key->data, key->length, value->data, value->length) < 0)
		return error_no_memory(decoding->error);
	list->items[list->count - 1].is_failing = is_failing;
	return 0;
}

static void encode_key(const char *service, const json_t *node, const json_t *id, struct text *into)
{
	text_printf(into, "%s/", service);
	text_add(into, json_string_value(node), json_string_length(node));
	text_puts(into, "/");
	text_add(into, json_string_value(id), json_string_length(id));
}

static int decode_instance(struct decoding *decoding, const json_t *instance)
{
	const json_t *node = json_object_get(instance, "Node");
	const json_t *service = json_object_get(instance, "Service");
	const json_t *name = json_object_get(node, "Node"), *id = json_object_get(service, "ID");
	const json_t *checks = json_object_get(instance, "Checks"),
		     *failing = failing_check(checks);
	CLEANUP(text_done) struct text key = {0}, value = {0};

	if (!json_is_string(name) || !json_is_string(id))
		return answer_wrong(decoding->error,
				    "answer has an instance without a node or an ID");
	if (!json_is_array(checks) && !json_is_null(checks))
		return answer_wrong(decoding->error, "answer has an instance without its checks");
	scale_add(&decoding->seen, weight_of(service));
	encode_key(decoding->service, name, id, &key);
	if (failing)
		describe_check(failing, &value);
	else
		encode_document(node, service, &decoding->scale, &value);
	return add(decoding, &key, &value, failing != NULL);
}

/* What is left of an answer. */
struct rest {
	const char *data;
	size_t length;
};

/* The next byte that is no white space, taken where it is that one. */
static bool take(struct rest *rest, char wanted)
{
	while (rest->length > 0 && strchr(" \t\r\n", *rest->data) && *rest->data) {
		rest->data++;
		rest->length--;
	}
	if (rest->length == 0 || *rest->data != wanted)
		return false;
	rest->data++;
	rest->length--;
	return true;
}

static int decode_next(struct decoding *decoding, struct json_stream *stream, struct rest *rest)
{
	CLEANUP(json_freep) json_t *instance = NULL;
	int code = json_stream_next(stream, &rest->data, &rest->length);

	if (code == -ENOMEM)
		return error_no_memory(decoding->error);
	if (code != 1)
		return answer_wrong(decoding->error, "answer ends, or is no JSON, in an instance");
	code = answer_parse(stream->object.data, stream->object.length, &instance, decoding->error);
	return code < 0 ? code : decode_instance(decoding, instance);
}

static int decode_all(struct decoding *decoding, const char *body, size_t length)
{
	CLEANUP(json_stream_done) struct json_stream stream = {.max = length};
	struct rest rest = {body, length};
	bool is_array = take(&rest, '['), has_more = !take(&rest, ']');
	int code = 0;

	while (is_array && has_more && code == 0) {
		code = decode_next(decoding, &stream, &rest);
		has_more = take(&rest, ',');
		is_array = has_more || take(&rest, ']');
	}
	if (code < 0)
		return code;
	/* Nothing but white space behind it. */
	if (!is_array || take(&rest, '\0') || rest.length > 0)
		return answer_wrong(decoding->error, "answer is no JSON array (starts with \"%s\")",
				    answer_quote(body, length < SHOWN ? length : SHOWN).text);
	return 0;
}

int consul_decode_instances(const char *body, size_t length, const char *service,
			    struct document_list *list, struct error *error)
{
	struct decoding decoding = {
		.service = service, .scale = {1, WEIGHT_MAX}, .list = list, .error = error};
	size_t count = list->count, bytes = list->bytes;
	int code = decode_all(&decoding, body, length);

	if (code < 0 || decoding.seen.largest <= WEIGHT_MAX)
		return code;
	decoding.scale = decoding.seen;
	decoding.scale.largest /= decoding.scale.divisor;
	document_list_cut(list, count);
	list->bytes = bytes;
	return decode_all(&decoding, body, length);
}
