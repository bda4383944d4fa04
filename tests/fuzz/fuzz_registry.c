/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The first byte chooses who reads the rest: one of the decoders of what a
 * registry answered, base64, or the URL's parser. Besides not crashing: what
 * fails says why, in printable text; every key that comes out is one of those
 * that were asked for; and base64 that decodes encodes to itself.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/registry/base64.h"
#include "../../src/registry/etcd2_codec.h"
#include "../../src/registry/etcd3_codec.h"
#include "../../src/registry/file.h"

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

static void require_keys(const struct document_list *list, const char *key)
{
	size_t length = strlen(key);

	for (size_t i = 0; i < list->count; i++) {
		const char *rest = list->items[i].key + length;

		require(strncmp(list->items[i].key, key, length) == 0);
		require(*rest == '\0' || *rest == '/');
	}
}

static void fuzz_etcd3(const char *text, size_t size)
{
	static const struct etcd3_range ranges[] = {
		{.start = "/a", .start_length = 2},
		{.start = "/a/", .start_length = 3, .end = "/a0", .end_length = 3},
	};
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct etcd3_result results[] = {{.list = &list}, {.list = &list}};
	struct error error = {0};
	struct registry_position position;
	int code = etcd3_decode_txn(text, size, ranges, 2, results, &position, &error);

	require_error(code, &error);
	require_keys(&list, "/a");
}

static void fuzz_etcd3_others(const char *text, size_t size)
{
	CLEANUP(memory_free) char *token = NULL;
	struct etcd3_failure failure;
	struct error error = {0};

	require_error(etcd3_decode_authenticate(text, size, &token, &error), &error);
	etcd3_decode_failure(text, size, &failure);
	require(text_is_utf8(failure.message, strlen(failure.message)));
}

static void fuzz_etcd2(const char *text, size_t size)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct etcd2_failure failure;
	struct error error = {0};

	require_error(etcd2_decode_keys(text, size, "/a", false, &list, &error), &error);
	require_keys(&list, "/a");
	etcd2_decode_failure(text, size, &failure);
	require(text_is_utf8(failure.message, strlen(failure.message)));
}

static void fuzz_file(const char *text, size_t size)
{
	CLEANUP(document_list_done) struct document_list all = {.arena = arena_new()};
	CLEANUP(document_list_done) struct document_list some = {.arena = arena_new()};
	struct error error = {0};
	int code = file_decode(text, size, &all, &error);

	require_error(code, &error);
	if (code < 0)
		return;
	require(file_select(&all, "/a", &some) == 0);
	require_keys(&some, "/a");
}

static void fuzz_base64(const char *text, size_t size)
{
	CLEANUP(memory_free) char *bytes = malloc(base64_decoded_max(size));
	CLEANUP(text_done) struct text again = {0};
	size_t length;

	require(bytes != NULL);
	if (base64_decode(text, size, bytes, &length) < 0)
		return;
	base64_encode(&again, bytes, length);
	require(again.length == size && (size == 0 || memcmp(again.data, text, size) == 0));
}

static void fuzz_url(const char *text, size_t size)
{
	CLEANUP(memory_free) char *url_text = strndup(text, size);
	struct registry_url url = {0};
	struct error error = {0};

	require(url_text != NULL);
	require_error(registry_url_parse(url_text, &url, &error), &error);
	registry_url_done(&url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {
		fuzz_etcd3, fuzz_etcd3_others, fuzz_etcd2, fuzz_file, fuzz_base64, fuzz_url,
	};

	if (size > 0)
		targets[data[0] % ARRAY_SIZE(targets)]((const char *)data + 1, size - 1);
	return 0;
}
