/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is one document, and, cut at its NUL bytes, several of one
 * service, of which those that begin with "!" are failing ones. Besides not crashing, what the
 * headers promise has to hold: reasons and tags are printable, numbers are in bounds, no endpoint
 * stands twice, the selection is the same when the documents come the other way round, and its
 * shares fit.
 *
 *     clang -fsanitize=fuzzer,address,undefined -Iinclude -D_GNU_SOURCE \
 *         tests/fuzz/fuzz_document.c src/model/d*.c src/model/endpoint.c \
 *         src/model/admission.c src/model/ruleset.c src/base/memory.c src/base/text.c \
 *         -ljansson -o fuzz_document
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"
#include "dragoman/model/ruleset.h"

enum { DOCUMENTS = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_clean(const char *text)
{
	require(text_is_utf8(text, strlen(text)));
	for (; *text; text++)
		require((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void require_candidate(const struct candidate *candidate)
{
	require(candidate->endpoint.port != 0);
	require(candidate->endpoint.family < FAMILY_COUNT);
	require(candidate->weight <= WEIGHT_MAX);
	for (size_t i = 0; i < candidate->tags.count; i++) {
		require_clean(candidate->tags.names[i]);
		if (i)
			require(strcmp(candidate->tags.names[i - 1], candidate->tags.names[i]) < 0);
	}
}

static void one_document(struct arena *arena, const char *value, size_t length)
{
	char reason[DOCUMENT_REASON_MAX] = "";
	struct candidate candidate;
	int r = document_parse(arena, value, length, PROTOCOL_UDP, &candidate, reason);

	require(r == 0 || r == -EINVAL);
	if (r == 0) {
		require_candidate(&candidate);
		return;
	}
	require(reason[0] != '\0');
	require_clean(reason);
}

static void require_selection(const struct selection *selection)
{
	for (size_t i = 0; i < selection->endpoint_count; i++) {
		require_candidate(&selection->endpoints[i]);
		for (size_t n = 0; n < i; n++)
			require(endpoint_compare(&selection->endpoints[i].endpoint,
						 &selection->endpoints[n].endpoint) != 0);
	}
	for (size_t i = 0; i < selection->skipped_count; i++)
		require_clean(selection->skipped[i].reason);
}

static void require_shares(struct arena *arena, const struct selection *selection)
{
	struct ruleset_service service = {0};

	require(ruleset_service_fill(arena, selection, &service) == 0);
	for (size_t family = 0; family < FAMILY_COUNT; family++) {
		size_t sum = 0;

		for (size_t i = 0; i < service.share_count[family]; i++) {
			require(service.shares[family][i].slots >= 1);
			sum += service.shares[family][i].slots;
		}
		require(sum <= SLOTS_MAX);
	}
}

static size_t cut(struct arena *arena, const char *text, size_t size, struct document *documents)
{
	size_t count = 0;

	while (size > 0 && count < DOCUMENTS) {
		size_t length = strnlen(text, size);

		documents[count] = (struct document){
			.key = arena_printf(arena, "/s/%zu", count),
			.value = text,
			.length = length,
			.is_failing = length > 0 && text[0] == '!',
		};
		count++;
		text += length;
		size -= length;
		if (size > 0) {
			text++;
			size--;
		}
	}
	return count;
}

static void select_both_ways(struct arena *arena, struct document *documents, size_t count)
{
	static const struct admission admission = {0};
	struct selection first, second;
	struct tags none = {0};

	require(documents_select(arena, documents, count, &none, PROTOCOL_TCP, &admission,
				 &first) == 0);
	require_selection(&first);
	require_shares(arena, &first);
	require(first.endpoint_count + first.skipped_count == count);
	for (size_t i = 0; i < count / 2; i++) {
		struct document kept = documents[i];

		documents[i] = documents[count - 1 - i];
		documents[count - 1 - i] = kept;
	}
	require(documents_select(arena, documents, count, &none, PROTOCOL_TCP, &admission,
				 &second) == 0);
	require(first.endpoint_count == second.endpoint_count);
	for (size_t i = 0; i < first.endpoint_count; i++)
		require(strcmp(first.endpoints[i].key, second.endpoints[i].key) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct document documents[DOCUMENTS];
	const char *text = (const char *)data;

	require(arena != NULL);
	one_document(arena, text, size);
	select_both_ways(arena, documents, cut(arena, text, size, documents));
	return 0;
}
