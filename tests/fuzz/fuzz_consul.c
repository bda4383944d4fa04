/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is the body of an answer of Consul's health API, and what stands
 * before its first NUL byte the name of a service. Besides not crashing: what
 * fails says why, in printable text; every document that comes out has a key of
 * the service's, and is an endpoint or skipped with a printable reason; a
 * weight that is one of Consul's is one of ours; and the question for whatever
 * name holds nothing that could end it.
 */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/registry/consul_codec.h"
#include "dragoman/model/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_clean(const char *text)
{
	require(text[0] != '\0' && text_is_utf8(text, strlen(text)));
	for (; *text; text++)
		require((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void require_documents(const struct document_list *list)
{
	static const struct admission admission = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const struct tags none = {0};
	struct selection selection;

	for (size_t i = 0; i < list->count; i++)
		require(strncmp(list->items[i].key, "web/", 4) == 0);
	require(arena != NULL);
	require(documents_select(arena, list->items, list->count, &none, PROTOCOL_TCP, &admission,
				 &selection) == 0);
	require(selection.endpoint_count + selection.skipped_count == list->count);
	for (size_t i = 0; i < selection.endpoint_count; i++)
		require(selection.endpoints[i].weight <= WEIGHT_MAX);
	for (size_t i = 0; i < selection.skipped_count; i++)
		require_clean(selection.skipped[i].reason);
}

static void require_question(const char *text, size_t size)
{
	CLEANUP(memory_free) char *name = strndup(text, size);
	const struct consul_question question = {
		.service = name, .datacenter = name, .namespace = name, .index = size, .wait = 1};
	CLEANUP(text_done) struct text path = {0};

	require(name != NULL);
	consul_encode_question(&question, &path);
	require(!path.failed && path.length > 0);
	for (const char *at = path.data; *at; at++)
		require(isalnum((unsigned char)*at) || strchr("/?&=%-._~", *at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	const char *text = (const char *)data;
	struct error error = {0};
	int code;

	require(list.arena != NULL);
	code = consul_decode_instances(text, size, "web", &list, &error);
	if (code < 0) {
		require(error.code == code);
		require_clean(error.message);
	} else {
		require_documents(&list);
	}
	require_question(text, size);
	return 0;
}
