/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The input is read three times: as one value, as an environment block, and as
 * an environment file; the sets are settled twice. Besides not crashing, what
 * the headers promise has to hold: states and fields that agree, printable
 * reasons, one descriptor for each port, and settling that changes nothing
 * when it is done again.
 *
 *     clang -fsanitize=fuzzer,address,undefined -Iinclude -D_GNU_SOURCE \
 *         tests/fuzz/fuzz_descriptor.c src/model/descriptor*.c src/model/endpoint.c \
 *         src/base/memory.c src/base/text.c -o fuzz_descriptor
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/descriptor.h"

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

static void require_consistent(const struct descriptor *item, size_t length)
{
	bool parsed = item->state != DESCRIPTOR_IGNORED && item->state != DESCRIPTOR_INVALID;

	require_clean(item->reason);
	require(item->column <= length);
	require(parsed == (item->service != NULL));
	require(parsed == (item->listen.port != 0));
	if (item->state != DESCRIPTOR_USED && item->state != DESCRIPTOR_MERGED)
		require(item->reason[0] != '\0');
	for (size_t i = 1; i < item->tags.count; i++)
		require(strcmp(item->tags.names[i - 1], item->tags.names[i]) < 0);
	if (parsed && item->service[0] == '/')
		require(item->service[strlen(item->service) - 1] != '/');
}

static int compare_listens(const void *a, const void *b)
{
	return listen_compare(a, b);
}

static void require_one_for_each_port(const struct descriptor_set *set)
{
	struct listen *listens = calloc(set->count + 1, sizeof(*listens));
	size_t used = 0;

	require(listens != NULL);
	for (size_t i = 0; i < set->count; i++) {
		if (set->items[i]->state == DESCRIPTOR_USED)
			listens[used++] = set->items[i]->listen;
	}
	qsort(listens, used, sizeof(*listens), compare_listens);
	for (size_t i = 1; i < used; i++)
		require(listen_compare(&listens[i - 1], &listens[i]) != 0);
	free(listens);
}

static void require_settled(struct descriptor_set *set, size_t length)
{
	enum descriptor_state *states;
	struct descriptor **items;
	const size_t count = set->count;

	descriptor_set_settle(set);
	states = calloc(count + 1, sizeof(*states));
	items = calloc(count + 1, sizeof(struct descriptor *));
	require(states && items);
	for (size_t i = 0; i < count; i++) {
		require_clean(set->items[i]->variable);
		require_consistent(set->items[i], length);
		items[i] = set->items[i];
		states[i] = set->items[i]->state;
	}
	require_one_for_each_port(set);
	descriptor_set_settle(set);
	require(set->count == count);
	for (size_t i = 0; i < count; i++)
		require(items[i] == set->items[i] && states[i] == set->items[i]->state);
	free(items);
	free(states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct origin origin = {.id = "0123456789abcdef"};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set block = {.arena = arena, .root = "/services"};
	struct descriptor_set file = {.arena = arena};
	struct descriptor one = {0};
	const char *text = (const char *)data;

	require(arena != NULL);
	require(descriptor_parse(arena, text, size, false, &one) == 0);
	require_consistent(&one, size);
	require(descriptor_set_add_block(&block, &origin, "B_", text, size) == 0);
	require_settled(&block, size);
	require(descriptor_set_add_file(&file, &origin, "B_", text, size) == 0);
	require_settled(&file, DESCRIPTOR_VALUE_MAX);
	return 0;
}
