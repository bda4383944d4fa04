/* SPDX-License-Identifier: MIT */
#include "etcd3_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "base64.h"

/*
 * Theory of operation
 *
 * Requests are written by hand: keys are base64 and need no escaping. Answers
 * go through jansson, and then everything is looked at before it is believed:
 * the type of each field, the number of results, and that every key lies in
 * its range, behind the one before it. Paging goes on after the last key, so
 * the order is what makes it end.
 */

void etcd3_encode_key(struct text *into, const char *name, const char *key, size_t length)
{
	text_printf(into, "\"%s\":\"", name);
	base64_encode(into, key, length);
	text_puts(into, "\"");
}

void etcd3_encode_txn(const struct etcd3_range *ranges, size_t count, struct text *into)
{
	text_puts(into, "{\"success\":[");
	for (size_t i = 0; i < count; i++) {
		const struct etcd3_range *range = &ranges[i];

		text_printf(into, "%s{\"request_range\":{", i ? "," : "");
		etcd3_encode_key(into, "key", range->start, range->start_length);
		if (range->end) {
			text_puts(into, ",");
			etcd3_encode_key(into, "range_end", range->end, range->end_length);
		}
		if (range->keys_only)
			text_puts(into, ",\"keys_only\":true");
		if (range->limit)
			text_printf(into, ",\"limit\":\"%" PRIu64 "\"", range->limit);
		if (range->revision)
			text_printf(into, ",\"revision\":\"%" PRIu64 "\"", range->revision);
		text_puts(into, "}}");
	}
	text_puts(into, "]}");
}

int etcd3_compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t shorter = a_length < b_length ? a_length : b_length;
	int order = shorter ? memcmp(a, b, shorter) : 0;

	if (order != 0)
		return order;
	return (a_length > b_length) - (a_length < b_length);
}

static bool range_holds(const struct etcd3_range *range, const char *key, size_t length)
{
	int order = etcd3_compare(key, length, range->start, range->start_length);

	if (!range->end)
		return order == 0;
	return order >= 0 && etcd3_compare(key, length, range->end, range->end_length) < 0;
}

int etcd3_decode_bytes(struct arena *arena, const json_t *kv, const char *name, const char **ret,
		       size_t *ret_length, struct error *error)
{
	const json_t *field = json_object_get(kv, name);
	char *bytes;

	*ret = "";
	*ret_length = 0;
	if (!field)
		return 0;
	if (!json_is_string(field))
		return answer_wrong(error, "answer has a %s that is no string", name);
	bytes = arena_alloc(arena, base64_decoded_max(json_string_length(field)));
	if (!bytes)
		return error_no_memory(error);
	if (base64_decode(json_string_value(field), json_string_length(field), bytes, ret_length) <
	    0)
		return answer_wrong(error, "answer has a %s that is not base64", name);
	*ret = bytes;
	return 0;
}

static int decode_kv(const json_t *kv, const struct etcd3_range *range, struct etcd3_result *result,
		     struct arena *scratch, struct error *error)
{
	const char *key = "", *value = "";
	size_t key_length = 0, value_length = 0;
	int code;

	if (!json_is_object(kv))
		return answer_wrong(error, "answer has a key that is no object");
	code = etcd3_decode_bytes(scratch, kv, "key", &key, &key_length, error);
	if (code == 0)
		code = etcd3_decode_bytes(scratch, kv, "value", &value, &value_length, error);
	if (code < 0)
		return code;
	if (!range_holds(range, key, key_length))
		return answer_wrong(error, "answer has the key \"%s\", which was not asked for",
				    answer_quote(key, key_length).text);
	if (result->last && etcd3_compare(key, key_length, result->last, result->last_length) <= 0)
		return answer_wrong(error, "answer has the key \"%s\" out of order",
				    answer_quote(key, key_length).text);
	result->last = key;
	result->last_length = key_length;
	if (result->take)
		code = result->take(key, key_length, value, value_length, result->user);
	else
		code = document_list_add(result->list, key, key_length, value, value_length);
	return code < 0 ? error_no_memory(error) : 0;
}

static int decode_range(const json_t *response, const struct etcd3_range *range,
			struct etcd3_result *result, struct arena *scratch, struct error *error)
{
	const json_t *answer = json_object_get(response, "response_range");
	const json_t *kvs = json_object_get(answer, "kvs"), *more = json_object_get(answer, "more");
	int code = 0;

	if (!json_is_object(answer))
		return answer_wrong(error, "answer has a response without \"response_range\"");
	if (kvs && !json_is_array(kvs))
		return answer_wrong(error, "answer has \"kvs\" that are no array");
	if (more && !json_is_boolean(more))
		return answer_wrong(error, "answer has a \"more\" that is no boolean");
	result->more = json_is_true(more);
	result->last = NULL;
	for (size_t i = 0; i < json_array_size(kvs) && code == 0; i++)
		code = decode_kv(json_array_get(kvs, i), range, result, scratch, error);
	if (code < 0 || !result->more)
		return code;
	if (!result->last)
		return answer_wrong(error, "answer has no keys, and says that there are more");
	result->last = arena_text(result->list->arena, result->last, result->last_length);
	return result->last ? 0 : error_no_memory(error);
}

int etcd3_decode_number(const json_t *object, const char *name, uint64_t *ret, struct error *error)
{
	const json_t *field = json_object_get(object, name);

	*ret = 0;
	if (!field)
		return 0;
	if (!json_is_string(field) ||
	    text_parse_number(json_string_value(field), json_string_length(field), UINT64_MAX,
			      ret) < 0)
		return answer_wrong(error, "answer has a %s that is no number", name);
	return 0;
}

int etcd3_decode_header(const json_t *root, struct registry_position *ret, struct error *error)
{
	const json_t *header = json_object_get(root, "header");
	int code;

	*ret = (struct registry_position){0};
	if (!json_is_object(header))
		return answer_wrong(error, "answer has no header");
	code = etcd3_decode_number(header, "revision", &ret->revision, error);
	if (code == 0)
		code = etcd3_decode_number(header, "cluster_id", &ret->cluster, error);
	if (code == 0 && ret->revision > INT64_MAX)
		return answer_wrong(error, "answer has a revision that is no number");
	return code;
}

int etcd3_decode_txn(const char *body, size_t length, const struct etcd3_range *ranges,
		     size_t count, struct etcd3_result *results, struct registry_position *ret,
		     struct error *error)
{
	CLEANUP(arena_freep) struct arena *scratch = arena_new();
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *responses;
	int code;

	if (!scratch)
		return error_no_memory(error);
	code = answer_parse(body, length, &root, error);
	if (code < 0)
		return code;
	if (etcd3_decode_header(root, ret, NULL) < 0 || ret->revision == 0)
		return answer_wrong(error, "answer has no revision in its header");
	responses = json_object_get(root, "responses");
	if (!json_is_true(json_object_get(root, "succeeded")) || !json_is_array(responses))
		return answer_wrong(error, "answer is not one to a transaction");
	if (json_array_size(responses) != count)
		return answer_wrong(error, "answer has %zu responses to %zu ranges",
				    json_array_size(responses), count);
	for (size_t i = 0; i < count && code == 0; i++)
		code = decode_range(json_array_get(responses, i), &ranges[i], &results[i], scratch,
				    error);
	return code;
}

int etcd3_encode_authenticate(const char *user, const char *password, struct text *into)
{
	CLEANUP(json_freep) json_t *root = NULL;
	CLEANUP(memory_free) char *body = NULL;

	if (!text_is_utf8(user, strlen(user)) || !text_is_utf8(password, strlen(password)))
		return -EINVAL;
	root = json_pack("{s:s, s:s}", "name", user, "password", password);
	body = root ? json_dumps(root, JSON_COMPACT) : NULL;
	if (!body)
		return -ENOMEM;
	text_puts(into, body);
	return into->failed ? -ENOMEM : 0;
}

int etcd3_decode_authenticate(const char *body, size_t length, char **ret, struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const char *token;
	int code = answer_parse(body, length, &root, error);

	if (code < 0)
		return code;
	token = json_string_value(json_object_get(root, "token"));
	if (!token || !*token)
		return answer_wrong(error, "answer has no token");
	/* It goes into a header as it stands. */
	for (const char *at = token; *at; at++) {
		if (*at < '!' || *at > '~')
			return answer_wrong(error, "answer has a token that is no visible ASCII");
	}
	*ret = strdup(token);
	return *ret ? 0 : error_no_memory(error);
}

void etcd3_decode_failure(const char *body, size_t length, struct etcd3_failure *ret)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *message, *code;

	*ret = (struct etcd3_failure){.code = GRPC_NONE};
	if (answer_parse(body, length, &root, NULL) < 0)
		return;
	code = json_object_get(root, "code");
	message = json_object_get(root, "message");
	if (!json_is_string(message))
		message = json_object_get(root, "error");
	if (!json_is_integer(code) || !json_is_string(message))
		return;
	ret->code = (long)json_integer_value(code);
	(void)text_printable(ret->message, sizeof(ret->message), json_string_value(message),
			     json_string_length(message));
}

bool etcd3_failure_is_of_token(const struct etcd3_failure *failure)
{
	return failure->code == GRPC_UNAUTHENTICATED ||
	       strstr(failure->message, "invalid auth token") ||
	       strstr(failure->message, "revision of auth store is old");
}

bool etcd3_failure_is_final(const struct etcd3_failure *failure)
{
	switch (failure->code) {
	case GRPC_INVALID_ARGUMENT:
	case GRPC_PERMISSION_DENIED:
	case GRPC_FAILED_PRECONDITION:
	case GRPC_OUT_OF_RANGE:
	case GRPC_UNAUTHENTICATED:
		return true;
	default:
		return false;
	}
}

int etcd3_wrong_status(const struct exchange_answer *answer, const struct etcd3_failure *failure,
		       struct error *error)
{
	if (failure->code != GRPC_NONE)
		return answer_wrong(error, "status %ld: %s", answer->status, failure->message);
	if (answer->status == 404)
		return answer_wrong(error, "status 404: no v3 JSON gateway here (wrong port, "
					   "etcd 2, or a grpc-proxy?)");
	return answer_wrong_status(error, answer->status, answer->body, answer->length);
}
