/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The first byte chooses who reads the rest: one of the decoders of what a
 * Docker engine answers, the splitter of its events, the parser of times, or
 * that of the URL. Besides not crashing: what fails says why, in printable
 * text; an environment is whole strings, as many as there are; and a stream
 * gives the same objects however it is cut.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/container/docker_codec.h"
#include "../../src/container/docker_splitter.h"
#include "../../src/container/docker_url.h"
#include "dragoman/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OBJECT_MAX = 64 };

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void require_printable(const char *text)
{
	require(text_is_utf8(text, strlen(text)));
	for (const char *at = text; *at; at++)
		require((unsigned char)*at >= 0x20 && *at != 0x7f);
}

static void require_error(int code, const struct error *error)
{
	if (code == 0)
		return;
	require(error->code == code && error->message[0] != '\0');
	require_printable(error->message);
}

static void fuzz_container(const char *text, size_t size)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct docker_container container;
	struct error error = {0};
	int code = docker_decode_container(text, size, arena, &container, &error);
	const struct container *found = &container.container;

	require_error(code, &error);
	if (code < 0)
		return;
	require(docker_id_is_valid(found->id));
	require(!container.running || found->pid > 0);
	require_printable(found->name);
	require_printable(container.status);
	require(found->environment_length <= CONTAINER_ENVIRONMENT_MAX);
	if (found->environment_length)
		require(found->environment[found->environment_length - 1] == '\0');
}

static void fuzz_others(const char *text, size_t size)
{
	CLEANUP(memory_free) struct docker_id *ids = NULL;
	char api[DOCKER_API_MAX], message[DOCKER_FAILURE_MAX];
	struct docker_id id;
	struct error error = {0};
	size_t count = 0;

	require_error(docker_decode_version(text, size, api, &error), &error);
	require_error(docker_decode_event(text, size, &id, &error), &error);
	require_error(docker_decode_list(text, size, &ids, &count, &error), &error);
	for (size_t i = 0; i < count; i++)
		require(docker_id_is_valid(ids[i].text));
	docker_decode_failure(text, size, message);
	require_printable(message);
}

static void on_object(const char *object, size_t length, void *user)
{
	require(length <= OBJECT_MAX);
	text_add(user, object, length);
	text_puts(user, "\n");
}

static int feed(const char *text, size_t size, size_t step, struct text *objects)
{
	struct docker_splitter splitter = {0};
	struct error error = {0};
	int code = 0;

	for (size_t at = 0; at < size && code == 0; at += step)
		code = docker_splitter_feed(&splitter, text + at,
					    size - at < step ? size - at : step, OBJECT_MAX,
					    on_object, objects, &error);
	require_error(code, &error);
	docker_splitter_done(&splitter);
	return code;
}

static void fuzz_stream(const char *text, size_t size)
{
	CLEANUP(text_done) struct text whole = {0};
	CLEANUP(text_done) struct text bytes = {0};

	require(feed(text, size, size, &whole) == feed(text, size, 1, &bytes));
	require(whole.length == bytes.length);
	require(whole.length == 0 || memcmp(whole.data, bytes.data, whole.length) == 0);
}

static void fuzz_text(const char *text, size_t size)
{
	CLEANUP(memory_free) char *copy = strndup(text, size);
	struct docker_url url;
	struct error error = {0};
	uint64_t time;
	int code;

	require(copy != NULL);
	code = docker_url_parse(copy, &url, &error);
	require_error(code, &error);
	if (code == 0)
		require_printable(url.name);
	(void)docker_parse_time(copy, &time);
	(void)docker_parse_http_date(copy, &time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {
		fuzz_container,
		fuzz_others,
		fuzz_stream,
		fuzz_text,
	};

	if (size > 0)
		targets[data[0] % ARRAY_SIZE(targets)]((const char *)data + 1, size - 1);
	return 0;
}
