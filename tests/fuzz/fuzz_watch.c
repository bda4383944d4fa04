/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The first byte chooses who reads the rest: a stream of etcd v3's answers, or
 * one event of etcd v2. The stream is given in two pieces, cut where the
 * second byte says, and whole: both must come to the same. Besides not
 * crashing: what fails says why, in printable text, and every key that comes
 * out is of the service that was asked for.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/registry/etcd2_codec.h"
#include "../../src/registry/etcd3_watch_codec.h"
#include "dragoman/base/json_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_error(int code, const struct error *error)
{
	if (code == 0)
		return;
	require(error->code == code && error->message[0] != '\0');
	require(text_is_utf8(error->message, strlen(error->message)));
	for (const char *at = error->message; *at; at++)
		require((unsigned char)*at >= 0x20 && *at != 0x7f);
}

static void require_changes(const struct change_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *key = list->items[i].document.key;

		require(strncmp(key, "/a", 2) == 0 && (key[2] == '\0' || key[2] == '/'));
		require(list->items[i].removed == !list->items[i].document.value);
	}
}

static void require_sum(struct change_list *list)
{
	CLEANUP(change_sum_done) struct change_sum sum = {0};
	size_t count = list->count;

	require(change_list_sum(list, 0, &sum) == 0);
	require(sum.count + sum.removed_count <= count);
	for (size_t i = 1; i < sum.count; i++)
		require(strcmp(sum.documents[i - 1].key, sum.documents[i].key) < 0);
}

static void decode_object(const struct text *object)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
	struct error error = {0};
	int code = etcd3_decode_watch(object->data, object->length, &answer, &error);

	require_error(code, &error);
	if (code == 0) {
		require(text_is_utf8(answer.reason, strlen(answer.reason)));
		require_error(etcd3_decode_events(&answer, "/a", &list, &error), &error);
	}
	require_changes(&list);
	require_sum(&list);
}

/* Appends each object and a line end; returns how it ended. */
static int cut(struct json_stream *stream, const char *data, size_t length, struct text *into)
{
	int code;

	while ((code = json_stream_next(stream, &data, &length)) > 0) {
		require(stream->object.length <= stream->max);
		text_add(into, stream->object.data, stream->object.length);
		text_puts(into, "\n");
		decode_object(&stream->object);
	}
	return code;
}

static void fuzz_stream(const char *text, size_t size)
{
	CLEANUP(json_stream_done) struct json_stream whole = {.max = 1024}, parts = {.max = 1024};
	CLEANUP(text_done) struct text first = {0}, second = {0};
	size_t at = size ? (unsigned char)text[0] % size : 0;
	int code = cut(&whole, text, size, &first), other = cut(&parts, text, at, &second);

	if (other == 0)
		other = cut(&parts, text + at, size - at, &second);
	require(code == other && first.length == second.length);
	require(first.length == 0 || memcmp(first.data, second.data, first.length) == 0);
}

static void fuzz_event(const char *text, size_t size)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	struct error error = {0};
	uint64_t index = 0;
	bool more;

	require_error(etcd2_decode_event(text, size, "/a", &list, &index, &more, &error), &error);
	require_changes(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {fuzz_stream, fuzz_event};

	if (size > 0)
		targets[data[0] % ARRAY_SIZE(targets)]((const char *)data + 1, size - 1);
	return 0;
}
