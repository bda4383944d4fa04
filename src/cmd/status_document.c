/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "dragoman/base/json.h"
#include "dragoman/base/memory.h"
#include "status_json.h"
#include "status_text.h"
#include "suggest.h"

enum { NAMES_SHOWN = 8, NAME_SHOWN_MAX = 96 };

int status_parse(const char *document, size_t length, struct status_document *ret,
		 struct error *error)
{
	json_t *root = NULL;

	/* A NUL in a string is no reason to say nothing: it will be printed as \x00. */
	if (json_read(document, length, JSON_ALLOW_NUL, &root, NULL) == -ENOMEM)
		return error_no_memory(error);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(error, -EINVAL, ERROR_INVALID, "this is no JSON object");
	}
	ret->root = root;
	return 0;
}

void status_done(struct status_document *status)
{
	json_decref(status->root);
	status->root = NULL;
}

static bool has_container(const json_t *namespace, const char *name)
{
	const json_t *containers = json_object_get(namespace, "containers"), *container;
	size_t i;

	json_array_foreach(containers, i, container)
	{
		if (container_is(container, name))
			return true;
	}
	return false;
}

/* "there are web, db", and which of them was meant. */
static void add_known(struct text *text, const json_t *namespaces, const char *wanted)
{
	const json_t *namespace, *container;
	struct suggestion suggestion = {0};
	size_t i, j, count = 0;

	json_array_foreach(namespaces, i, namespace)
	{
		json_array_foreach(json_object_get(namespace, "containers"), j, container)
		{
			const char *name = json_string_value(json_object_get(container, "name"));

			if (name)
				suggestion_offer(&suggestion, wanted, strlen(wanted), name);
			if (count++ >= NAMES_SHOWN)
				continue;
			text_puts(text, count == 1 ? "; there are " : ", ");
			json_add_container(text, container);
		}
	}
	text_puts(text, count > NAMES_SHOWN ? ", ..." : "");
	if (count == 0)
		text_puts(text, "; it has none at all");
	if (!suggestion.best)
		return;
	text_puts(text, " (did you mean ");
	text_add_printable(text, suggestion.best, strlen(suggestion.best));
	text_puts(text, "?)");
}

static int refuse_unknown(const json_t *namespaces, const char *wanted, struct error *error)
{
	CLEANUP(text_done) struct text known = {0};
	char name[NAME_SHOWN_MAX];

	add_known(&known, namespaces, wanted);
	text_printable(name, sizeof(name), wanted, strlen(wanted));
	return error_set(error, -ENOENT, ERROR_INVALID,
			 "the agent knows no container or namespace '%s'%s", name,
			 known.data ? known.data : "");
}

static bool is_of(const json_t *namespaces, const char *name)
{
	const json_t *namespace;
	size_t i;

	json_array_foreach(namespaces, i, namespace)
	{
		if (name && has_container(namespace, name))
			return true;
	}
	return false;
}

/* Changes go by the name that their namespace had then, which is that of a container in it. */
static int narrow_changes(json_t *root)
{
	const json_t *namespaces = json_object_get(root, "namespaces");
	json_t *all = json_object_get(root, "changes"), *change, *kept;
	size_t i;

	if (!json_is_array(all))
		return 0;
	kept = json_array();
	json_array_foreach(all, i, change)
	{
		if (is_of(namespaces, json_string_value(json_object_get(change, "name"))) &&
		    json_array_append(kept, change) < 0) {
			json_decref(kept);
			return -ENOMEM;
		}
	}
	return json_object_set_new(root, "changes", kept) < 0 ? -ENOMEM : 0;
}

int status_narrow(struct status_document *status, const char *name, struct error *error)
{
	json_t *all = json_object_get(status->root, "namespaces"), *namespace;
	json_t *kept = json_array();
	size_t i;

	json_array_foreach(all, i, namespace)
	{
		if (has_container(namespace, name) && json_array_append(kept, namespace) < 0) {
			json_decref(kept);
			return error_no_memory(error);
		}
	}
	if (kept && json_array_size(kept) == 0) {
		json_decref(kept);
		return refuse_unknown(all, name, error);
	}
	/* Takes the reference, whatever it returns. */
	if (json_object_set_new(status->root, "namespaces", kept) < 0 ||
	    narrow_changes(status->root) < 0)
		return error_no_memory(error);
	return 0;
}
