/* SPDX-License-Identifier: MIT */
#include "hook_state.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "dragoman/base/json.h"

enum { ID_SHOWN_MAX = 80 };

static void drop(json_t **root)
{
	json_decref(*root);
}

static int wrong(struct error *error, const char *what)
{
	return error_set(error, -EBADMSG, ERROR_INVALID, "%s", what);
}

static int read_object(const char *data, size_t length, const char *name, json_t **ret,
		       struct error *error)
{
	json_error_t reason;
	int code = json_read(data, length, 0, ret, &reason);
	char printable[JSON_ERROR_TEXT_LENGTH];

	if (code == -ENOMEM)
		return error_no_memory(error);
	if (code < 0)
		return error_set(error, -EBADMSG, ERROR_INVALID, "the %s is no JSON: %s", name,
				 text_printable(printable, sizeof(printable), reason.text,
						strlen(reason.text)));
	if (!json_is_object(*ret))
		return error_set(error, -EBADMSG, ERROR_INVALID, "the %s is no JSON object", name);
	return 0;
}

/* The same as the label of that name, by which an engine's container opts out. */
static bool opts_out(const json_t *root)
{
	const json_t *enable = json_object_get(json_object_get(root, "annotations"),
					       "dragoman.enable");
	const char *value = json_string_value(enable);

	return value && strcasecmp(value, "false") == 0;
}

static int decode_state(struct arena *arena, const json_t *root, struct hook_state *ret,
			struct error *error)
{
	const char *id = json_string_value(json_object_get(root, "id"));
	const char *bundle = json_string_value(json_object_get(root, "bundle"));
	json_int_t pid = json_integer_value(json_object_get(root, "pid"));

	if (!id)
		return wrong(error, "the state has no \"id\"");
	ret->id = arena_printable(arena, id, strnlen(id, ID_SHOWN_MAX));
	if (!ret->id)
		return error_no_memory(error);
	if (!bundle || bundle[0] != '/')
		return wrong(error, "the state has no \"bundle\" that is a path");
	if (pid <= 0 || pid > INT_MAX)
		return wrong(error, "the state has no \"pid\": this is a hook for the stage "
				    "createRuntime");
	ret->bundle = arena_text(arena, bundle, strlen(bundle));
	if (!ret->bundle)
		return error_no_memory(error);
	ret->pid = (pid_t)pid;
	ret->disabled = opts_out(root);
	return 0;
}

int hook_parse_state(struct arena *arena, const char *data, size_t length, struct hook_state *ret,
		     struct error *error)
{
	CLEANUP(drop) json_t *root = NULL;
	int code;

	*ret = (struct hook_state){0};
	if (length == 0)
		return wrong(error,
			     "no state on standard input: a container runtime is to run this");
	code = read_object(data, length, "state on standard input", &root, error);
	return code < 0 ? code : decode_state(arena, root, ret, error);
}

int hook_parse_config(const char *data, size_t length, struct hook_state *state,
		      struct text *ret_environment, struct error *error)
{
	CLEANUP(drop) json_t *root = NULL;
	const json_t *strings, *string;
	size_t index;
	int code = read_object(data, length, "bundle's config.json", &root, error);

	if (code < 0)
		return code;
	state->disabled |= opts_out(root);
	strings = json_object_get(json_object_get(root, "process"), "env");
	json_array_foreach(strings, index, string)
	{
		if (!json_is_string(string))
			return wrong(error,
				     "the bundle's config.json has a \"process.env\" that is "
				     "no list of strings");
		text_add(ret_environment, json_string_value(string),
			 json_string_length(string) + 1);
	}
	return ret_environment->failed ? error_no_memory(error) : 0;
}
