/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What `dragoman hook` reads: the input is taken as a state, as the configuration
 * of a bundle, and as the settings of an agent. Besides not crashing: what is
 * refused has a reason, an ID is printable, each string of the environment ends in
 * the NUL that is counted, and pieces of the settings are within what they are made
 * of.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/cmd/hook_state.h"
#include "../../src/cmd/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void read_state(struct arena *arena, const char *text, size_t size)
{
	struct hook_state state;
	struct error error = {0};
	int code = hook_parse_state(arena, text, size, &state, &error);

	require(code == 0 || error.message[0] != '\0');
	if (code == 0)
		require(state.pid > 0 && state.bundle[0] == '/');
	for (const char *c = state.id ? state.id : ""; *c; c++)
		require((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void read_config(const char *text, size_t size)
{
	CLEANUP(text_done) struct text environment = {0};
	struct hook_state state = {0};
	struct error error = {0};
	int code = hook_parse_config(text, size, &state, &environment, &error);

	require(code == 0 || error.message[0] != '\0');
	if (code == 0 && environment.length)
		require(environment.data[environment.length - 1] == '\0');
}

static void read_settings(struct arena *arena, const char *text, size_t size)
{
	struct settings settings;
	struct error error = {0};
	size_t total = 0;
	int code = settings_parse(arena, text, size, &settings, &error);

	require(code == 0 || error.message[0] != '\0');
	for (size_t i = 0; i < settings.count; i++) {
		const char **words;
		size_t count;

		require(settings.items[i].name[0] != '\0');
		require(settings_value(&settings, settings.items[i].name) != NULL);
		total += strlen(settings.items[i].value);
		if (settings_words(arena, settings.items[i].value, &words, &count) == 0)
			require(count <= strlen(settings.items[i].value) / 2 + 1);
	}
	require(total <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	/* As what is read from a file: a NUL stands behind. */
	char *text = arena ? arena_text(arena, (const char *)data, size) : NULL;

	require(text != NULL);
	read_state(arena, text, size);
	read_config(text, size);
	read_settings(arena, text, size);
	return 0;
}
