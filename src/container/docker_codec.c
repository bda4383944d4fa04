/* SPDX-License-Identifier: MIT */
#include "docker_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dragoman/base/json.h"
#include "dragoman/base/log.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * jansson reads the JSON; then the type of each member is looked at before it
 * is believed. A member that is missing where engines always have it makes the
 * answer a wrong one, and nothing of it is used: to take a container for one
 * without descriptors would remove its rules.
 *
 * null stands for an empty array or object, since that is how an engine that
 * is written in Go writes them.
 *
 * A container's own words (its variables, labels, command) may be any bytes.
 * Docker makes text of them, but for NUL. An answer that jansson does not take
 * is mended: what is no text in its strings is replaced by U+FFFD. Else one
 * container's words would hide all others in a listing.
 */

enum { STARTS_WITH = 24, QUOTE_MAX = 100 };

/*
 * The version that is spoken where the engine can. Engines drop old versions
 * (29 begins at 1.44) and keep what we read of these answers in new ones, so
 * an engine that begins later is spoken to in its first.
 */
struct api {
	uint64_t major, minor;
};
static const struct api spoken = {1, 41}, oldest = {1, 24};

static void json_freep(json_t **json)
{
	json_decref(*json);
	*json = NULL;
}

static int wrong(struct error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int wrong(struct error *error, const char *format, ...)
{
	char text[ERROR_MESSAGE_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)text_format_list(text, sizeof(text), format, arguments);
	va_end(arguments);
	return error_set(error, -EBADMSG, ERROR_TRANSIENT, "%s", text);
}

/* The bytes of an escape; of a pair of surrogates twelve; negative where it is no text. */
static int escape_length(const char *at, size_t left)
{
	bool high, low;

	if (left < 6 || at[1] != 'u')
		return left < 2 ? 1 : 2;
	high = strchr("dD", at[2]) && strchr("89abAB", at[3]);
	low = strchr("dD", at[2]) && strchr("cdefCDEF", at[3]);
	if (high && left >= 12 && at[6] == '\\' && at[7] == 'u' && strchr("dD", at[8]) &&
	    strchr("cdefCDEF", at[9]))
		return 12;
	/* A NUL is no text, either: jansson does not take it in a member's name. */
	return high || low || memcmp(at + 2, "0000", 4) == 0 ? -6 : 6;
}

/* What stands at `at`, within a string: how many bytes it is, and whether those are text. */
static size_t string_step(const char *at, size_t left, bool *ret_good)
{
	int length = *at == '\\' ? escape_length(at, left) : 0;
	size_t step;

	*ret_good = length >= 0;
	if (length)
		return (size_t)abs(length);
	step = text_utf8_step(at, left);
	*ret_good = step > 0 && (unsigned char)*at >= 0x20;
	return step ? step : 1;
}

/* The same with U+FFFD for whatever is no text in its strings. */
static void mend(const char *body, size_t length, struct text *ret)
{
	bool in_string = false, good;

	for (size_t at = 0, step; at < length; at += step) {
		bool quote = body[at] == '"';

		step = 1;
		good = true;
		if (in_string && !quote)
			step = string_step(body + at, length - at, &good);
		in_string ^= quote;
		if (good)
			text_add(ret, body + at, step);
		else
			text_puts(ret, "\xef\xbf\xbd");
	}
}

static int read_mended(const char *body, size_t length, json_t **ret)
{
	CLEANUP(text_done) struct text mended = {0};

	text_add(&mended, "", 0);
	mend(body, length, &mended);
	return mended.failed ? -ENOMEM
			     : json_read(mended.data, mended.length, JSON_ALLOW_NUL, ret, NULL);
}

static int parse(const char *body, size_t length, json_t **ret, struct error *error)
{
	char start[QUOTE_MAX];
	int code = json_read(body, length, JSON_ALLOW_NUL, ret, NULL);

	if (code == -EINVAL)
		code = read_mended(body, length, ret);
	if (code == 0)
		return 0;
	if (code == -ENOMEM)
		return error_no_memory(error);
	return wrong(error, "answer is not JSON (starts with \"%s\")",
		     text_printable(start, sizeof(start), body,
				    length < STARTS_WITH ? length : STARTS_WITH));
}

/* The member, or NULL where it is missing or null. */
static const json_t *member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

static bool holds_nul(const json_t *string)
{
	return strlen(json_string_value(string)) != json_string_length(string);
}

/* A string without NUL bytes; NULL where there is none. */
static const char *text_of(const json_t *object, const char *name)
{
	const json_t *value = member(object, name);

	return json_is_string(value) && !holds_nul(value) ? json_string_value(value) : NULL;
}

bool docker_id_is_valid(const char *text)
{
	size_t length = strnlen(text, CONTAINER_ID_MAX + 1);

	return length >= 12 && length <= CONTAINER_ID_MAX &&
	       strspn(text, "0123456789abcdef") == length;
}

static int take_id(const char *text, struct docker_id *ret, struct error *error)
{
	char quoted[QUOTE_MAX];

	if (!text)
		return wrong(error, "answer has a container without an ID");
	if (!docker_id_is_valid(text))
		return wrong(error, "answer has an ID that is none: \"%s\"",
			     text_printable(quoted, sizeof(quoted), text, strlen(text)));
	(void)snprintf(ret->text, sizeof(ret->text), "%s", text);
	return 0;
}

static bool api_is_before(struct api a, struct api b)
{
	return a.major != b.major ? a.major < b.major : a.minor < b.minor;
}

static int api_parse(const char *text, struct api *ret)
{
	const char *point = text ? strchr(text, '.') : NULL;

	if (!point ||
	    text_parse_number(text, (size_t)(point - text), UINT32_MAX, &ret->major) < 0 ||
	    text_parse_number(point + 1, strlen(point + 1), UINT32_MAX, &ret->minor) < 0)
		return -EINVAL;
	return 0;
}

int docker_decode_version(const char *body, size_t length, char ret[DOCKER_API_MAX],
			  struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	struct api newest = {0}, first = {0}, chosen;
	int code = parse(body, length, &root, error);

	if (code < 0)
		return code;
	if (api_parse(text_of(root, "ApiVersion"), &newest) < 0)
		return wrong(error, "answer has no \"ApiVersion\"");
	if (api_is_before(newest, oldest))
		return error_set(error, -EOPNOTSUPP, ERROR_INVALID,
				 "the engine's API is %" PRIu64 ".%" PRIu64 ", %" PRIu64 ".%" PRIu64
				 " or later is needed",
				 newest.major, newest.minor, oldest.major, oldest.minor);
	chosen = api_is_before(newest, spoken) ? newest : spoken;
	if (api_parse(text_of(root, "MinAPIVersion"), &first) == 0 && api_is_before(chosen, first))
		chosen = first;
	(void)snprintf(ret, DOCKER_API_MAX, "v%" PRIu64 ".%" PRIu64, chosen.major, chosen.minor);
	return 0;
}

const char *docker_event_filters(void)
{
	/*
	 * {"type":["container"],"event":["start",...]}. Podman before 4.4 has
	 * "died" here, and any has "remove" for "destroy".
	 */
	return "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B"
	       "%22start%22%2C%22restart%22%2C%22die%22%2C%22died%22%2C"
	       "%22destroy%22%2C%22remove%22%2C%22rename%22%5D%7D";
}

int docker_decode_event(const char *body, size_t length, struct docker_id *ret, struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	const char *type;
	int code = parse(body, length, &root, error);

	ret->text[0] = '\0';
	if (code < 0)
		return code;
	type = text_of(root, "Type");
	if (!type || !text_of(root, "Action"))
		return wrong(error, "event has no \"Type\" and \"Action\"");
	if (strcmp(type, "container") != 0)
		return 0;
	return take_id(text_of(member(root, "Actor"), "ID"), ret, error);
}

int docker_decode_list(const char *body, size_t length, struct docker_id **ret, size_t *ret_count,
		       struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	CLEANUP(memory_free) struct docker_id *ids = NULL;
	size_t count;
	int code = parse(body, length, &root, error);

	if (code < 0)
		return code;
	if (!json_is_array(root))
		return wrong(error, "answer is no list of containers");
	count = json_array_size(root);
	if (count > DOCKER_LIST_MAX)
		return wrong(error, "answer lists more than %d containers", DOCKER_LIST_MAX);
	ids = calloc(count + 1, sizeof(*ids));
	if (!ids)
		return error_no_memory(error);
	for (size_t i = 0; i < count; i++) {
		code = take_id(text_of(json_array_get(root, i), "Id"), &ids[i], error);
		if (code < 0)
			return code;
	}
	*ret = TAKE(ids);
	*ret_count = count;
	return 0;
}

static int decode_name(const json_t *root, struct arena *arena, const struct docker_id *id,
		       const char **ret, struct error *error)
{
	const json_t *name = member(root, "Name");
	const char *text = json_string_value(name);
	size_t length = json_string_length(name);
	char *into;

	if (name && !text)
		return wrong(error, "answer has a \"Name\" that is no string");
	/* Without a name it is called by the start of its ID, as `docker ps` does. */
	if (!text || length == 0 || (length == 1 && text[0] == '/')) {
		text = id->text;
		length = 12;
	} else if (text[0] == '/') {
		text++;
		length--;
	}
	into = arena_alloc(arena, DOCKER_NAME_MAX + 1);
	if (!into)
		return error_no_memory(error);
	*ret = text_printable(into, DOCKER_NAME_MAX + 1, text, length);
	return 0;
}

static int decode_state(const json_t *root, struct arena *arena, struct docker_container *ret,
			struct error *error)
{
	const json_t *state = member(root, "State"), *running = member(state, "Running");
	const json_t *pid = member(state, "Pid");
	const char *status = text_of(state, "Status");

	if (!json_is_boolean(running))
		return wrong(error, "answer has no \"State.Running\"");
	if (pid && !json_is_integer(pid))
		return wrong(error, "answer has a \"State.Pid\" that is no number");
	if (json_integer_value(pid) < 0 || json_integer_value(pid) > INT_MAX)
		return wrong(error, "answer has a \"State.Pid\" that no process has");
	/* While an engine waits to restart one it says that it runs, and has no process. */
	ret->running = json_is_true(running) && json_integer_value(pid) > 0;
	ret->container.pid = (pid_t)json_integer_value(pid);
	if (docker_parse_time(text_of(state, "StartedAt"), &ret->container.started) < 0)
		ret->container.started = 0;
	if (!status)
		status = ret->running ? "running" : "stopped";
	ret->status = arena_printable(arena, status, strnlen(status, QUOTE_MAX));
	return ret->status ? 0 : error_no_memory(error);
}

static int decode_network(const json_t *root, struct docker_container *ret, struct error *error)
{
	const json_t *mode = member(member(root, "HostConfig"), "NetworkMode");

	if (!json_is_string(mode))
		return wrong(error, "answer has no \"HostConfig.NetworkMode\"");
	ret->container.host_network = strcmp(json_string_value(mode), "host") == 0;
	return 0;
}

static int decode_labels(const json_t *config, struct docker_container *ret, struct error *error)
{
	const json_t *labels = member(config, "Labels");
	const char *enable = text_of(labels, "dragoman.enable");

	if (labels && !json_is_object(labels))
		return wrong(error, "answer has \"Config.Labels\" that are no object");
	ret->container.disabled = enable && strcasecmp(enable, "false") == 0;
	return 0;
}

/* Bytes of the strings that are taken, each with its NUL; -1 where one is no string. */
static ssize_t measure(const json_t *strings, size_t *ret_dropped)
{
	size_t total = 0;

	for (size_t i = 0; i < json_array_size(strings); i++) {
		const json_t *string = json_array_get(strings, i);

		if (!json_is_string(string))
			return -1;
		if (holds_nul(string) ||
		    json_string_length(string) >= CONTAINER_ENVIRONMENT_MAX - total)
			++*ret_dropped;
		else
			total += json_string_length(string) + 1;
	}
	return (ssize_t)total;
}

static void fill(const json_t *strings, char *block)
{
	size_t used = 0;

	for (size_t i = 0; i < json_array_size(strings); i++) {
		const json_t *string = json_array_get(strings, i);
		size_t length = json_string_length(string);

		if (holds_nul(string) || length >= CONTAINER_ENVIRONMENT_MAX - used)
			continue;
		memcpy(block + used, json_string_value(string), length + 1);
		used += length + 1;
	}
}

static int decode_environment(const json_t *config, struct arena *arena,
			      struct docker_container *ret, struct error *error)
{
	const json_t *strings = member(config, "Env");
	ssize_t length = measure(strings, &ret->container.environment_dropped);
	char *block;

	if (strings && !json_is_array(strings))
		return wrong(error, "answer has a \"Config.Env\" that is no array");
	if (length < 0)
		return wrong(error, "answer has a \"Config.Env\" with what is no string");
	block = arena_alloc(arena, (size_t)length + 1);
	if (!block)
		return error_no_memory(error);
	fill(strings, block);
	ret->container.environment = block;
	ret->container.environment_length = (size_t)length;
	return 0;
}

static int decode_config(const json_t *root, struct arena *arena, struct docker_container *ret,
			 struct error *error)
{
	const json_t *config = member(root, "Config");
	int code;

	if (!json_is_object(config))
		return wrong(error, "answer has no \"Config\"");
	code = decode_labels(config, ret, error);
	return code < 0 ? code : decode_environment(config, arena, ret, error);
}

int docker_decode_container(const char *body, size_t length, struct arena *arena,
			    struct docker_container *ret, struct error *error)
{
	CLEANUP(json_freep) json_t *root = NULL;
	int code = parse(body, length, &root, error);

	*ret = (struct docker_container){0};
	if (code == 0)
		code = take_id(text_of(root, "Id"), &ret->id, error);
	if (code == 0)
		code = decode_name(root, arena, &ret->id, &ret->container.name, error);
	if (code == 0 && docker_parse_time(text_of(root, "Created"), &ret->container.created) < 0)
		code = wrong(error, "answer has no date in \"Created\"");
	if (code == 0)
		code = decode_state(root, arena, ret, error);
	if (code == 0)
		code = decode_network(root, ret, error);
	if (code == 0)
		code = decode_config(root, arena, ret, error);
	ret->container.id = ret->id.text;
	return code;
}

void docker_decode_failure(const char *body, size_t length, char ret[DOCKER_FAILURE_MAX])
{
	CLEANUP(json_freep) json_t *root = NULL;
	const json_t *message;

	ret[0] = '\0';
	if (parse(body, length, &root, NULL) < 0)
		return;
	message = member(root, "message");
	if (json_is_string(message))
		(void)text_printable(ret, DOCKER_FAILURE_MAX, json_string_value(message),
				     json_string_length(message));
}
