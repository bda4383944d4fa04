/* SPDX-License-Identifier: MIT */
#include "explain_agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "dragoman/base/json.h"
#include "status_json.h"

enum { LISTEN_TEXT_MAX = 32, NAMES_SHOWN = 8 };

int agent_answer_get(const char *socket, uint64_t timeout, struct agent_answer *ret,
		     struct error *error)
{
	CLEANUP(text_done) struct text text = {0};
	int code = agent_ask(socket, timeout, &text, error);

	if (code < 0)
		return code;
	if (json_read(text.data ? text.data : "", text.length, 0, &ret->root, NULL) < 0)
		return error_set(error, -EBADMSG, ERROR_INVALID, "the agent's answer is no JSON");
	return 0;
}

void agent_answer_done(struct agent_answer *answer)
{
	json_decref(answer->root);
	answer->root = NULL;
}

const char *agent_registry(const struct agent_answer *answer)
{
	return json_string_value(json_object_get(json_object_get(answer->root, "registry"), "url"));
}

static char *printable(struct arena *arena, const json_t *value)
{
	CLEANUP(text_done) struct text text = {0};

	json_add_text(&text, json_is_string(value) ? value : NULL);
	return text.length && !text.failed ? arena_text(arena, text.data, text.length) : NULL;
}

static char *printable_member(struct arena *arena, const json_t *object, const char *key)
{
	return printable(arena, json_object_get(object, key));
}

/* --- Which namespace -------------------------------------------------------------- */

static bool listens(const json_t *backend, const struct listen *listen)
{
	const char *found = json_string_value(json_object_get(backend, "listen"));
	char text[LISTEN_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%" PRIu16 "/%s", listen->port,
		       protocol_name(listen->protocol));
	return found && strcmp(found, text) == 0;
}

static const json_t *backend_for(const json_t *namespace, const struct listen *listen)
{
	const json_t *backends = json_object_get(namespace, "backends"), *backend;
	const json_t *found = NULL;
	size_t i;

	json_array_foreach(backends, i, backend)
	{
		/* Others of that port are its repetitions, or those that lost. */
		if (listens(backend, listen) &&
		    json_string_length(json_object_get(backend, "service")) && !found)
			found = backend;
	}
	return found;
}

static const json_t *first_container(const json_t *namespace)
{
	return json_array_get(json_object_get(namespace, "containers"), 0);
}

static void add_name(struct text *text, const json_t *namespace, size_t count)
{
	if (count >= NAMES_SHOWN)
		return;
	text_puts(text, count ? ", " : "");
	json_add_container(text, first_container(namespace));
}

/* By its process where it has one: the name of a container is the engine's, which may be another.
 */
static void choose(struct arena *arena, const json_t *namespace, struct agent_choice *ret)
{
	const json_t *container = first_container(namespace);
	const json_t *pid = json_object_get(container, "pid");
	const char *name = json_string_value(json_object_get(container, "name"));

	*ret = (struct agent_choice){0};
	if (json_is_integer(pid))
		ret->pid = (pid_t)json_integer_value(pid);
	else if (name)
		ret->netns = arena_text(arena, name, strlen(name));
}

int agent_choose(struct arena *arena, struct agent_answer *answer, const struct listen *listen,
		 struct agent_choice *ret, struct error *error)
{
	const json_t *namespaces = json_object_get(answer->root, "namespaces"), *namespace;
	CLEANUP(text_done) struct text names = {0};
	size_t i, count = 0;

	if (!answer->root)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "no target, and no agent that would know: one of --netns, --pid "
				 "and --container is needed");
	json_array_foreach(namespaces, i, namespace)
	{
		if (!backend_for(namespace, listen))
			continue;
		choose(arena, namespace, ret);
		add_name(&names, namespace, count++);
	}
	if (count == 1 && (ret->pid || ret->netns))
		return 0;
	if (count == 0)
		return error_set(error, -ENOENT, ERROR_INVALID,
				 "in no namespace that the agent keeps does anybody ask for "
				 "%" PRIu16 "/%s (see dragoman status)",
				 listen->port, protocol_name(listen->protocol));
	return error_set(error, -EINVAL, ERROR_INVALID,
			 "%" PRIu16 "/%s is asked for in several namespaces: %s%s; name one with "
			 "--container, --netns or --pid",
			 listen->port, protocol_name(listen->protocol),
			 names.data ? names.data : "", count > NAMES_SHOWN ? ", ..." : "");
}

static bool is_meant(const json_t *namespace, const struct options *options, ino_t inode)
{
	const json_t *netns = json_object_get(namespace, "netns"), *container;
	const char *name = options->container ? options->container : options->netns;
	size_t i;

	if (inode)
		return json_is_integer(netns) && (ino_t)json_integer_value(netns) == inode;
	json_array_foreach(json_object_get(namespace, "containers"), i, container)
	{
		if (name && container_is(container, name))
			return true;
	}
	return false;
}

static const json_t *find_namespace(const struct agent_answer *answer,
				    const struct options *options, ino_t inode)
{
	const json_t *namespace;
	size_t i;

	json_array_foreach(json_object_get(answer->root, "namespaces"), i, namespace)
	{
		if (is_meant(namespace, options, inode))
			return namespace;
	}
	return NULL;
}

/* --- What it says ----------------------------------------------------------------- */

void agent_view(struct arena *arena, struct agent_answer *answer, const struct options *options,
		struct story *story)
{
	struct agent_view *view = &story->agent;
	const json_t *backend;

	if (!answer->root)
		return;
	view->registry_state = printable_member(arena, json_object_get(answer->root, "registry"),
						"state");
	answer->namespace = find_namespace(answer, options, story->netns);
	/* One that is left alone has no number there. */
	if (!answer->namespace)
		answer->namespace = find_namespace(answer, options, 0);
	view->message = printable_member(arena, answer->namespace, "note");
	view->presence = json_is_integer(json_object_get(answer->namespace, "netns"))
				 ? AGENT_KEEPS
				 : AGENT_ELSEWHERE;
	view->namespace_state = printable_member(arena, answer->namespace, "state");
	backend = backend_for(answer->namespace, &story->listen);
	view->backend_state = printable_member(arena, backend, "state");
	view->backend_reason = printable_member(arena, backend, "reason");
}

static bool is_of_port(const json_t *backend, const struct listen *listen)
{
	return json_is_null(json_object_get(backend, "listen")) || listens(backend, listen);
}

static void add_claim(struct arena *arena, const json_t *backend, bool wins, struct story *story)
{
	const char *state = printable_member(arena, backend, "state");
	bool used = json_string_length(json_object_get(backend, "service")) > 0;

	story->claims[story->claim_count++] = (struct claim){
		.variable = printable_member(arena, backend, "variable"),
		.whose = printable_member(arena, backend, "container"),
		.state = used ? (wins ? "used" : "merged") : state,
		.reason = used ? NULL : printable_member(arena, backend, "reason"),
		.is_winner = wins,
	};
}

static int take_tags(struct arena *arena, const json_t *backend, struct tags *ret)
{
	const json_t *tags = json_object_get(backend, "tags"), *tag;
	size_t i;

	ret->names = arena_array(arena, json_array_size(tags) + 1, sizeof(*ret->names));
	if (!ret->names)
		return -ENOMEM;
	json_array_foreach(tags, i, tag)
	{
		ret->names[ret->count] = arena_text(arena, json_string_value(tag),
						    json_string_length(tag));
		if (!ret->names[ret->count++])
			return -ENOMEM;
	}
	return 0;
}

static int take_wanted(struct arena *arena, const json_t *backend, const struct listen *listen,
		       struct descriptor *ret)
{
	const json_t *service = json_object_get(backend, "service");

	*ret = (struct descriptor){.state = DESCRIPTOR_USED, .listen = *listen};
	ret->variable = printable_member(arena, backend, "variable");
	ret->service = arena_text(arena, json_string_value(service), json_string_length(service));
	return ret->variable && ret->service ? take_tags(arena, backend, &ret->tags) : -ENOMEM;
}

static const char *other_ports(struct arena *arena, const json_t *backends)
{
	CLEANUP(text_done) struct text text = {0};
	const json_t *backend;
	size_t i;

	json_array_foreach(backends, i, backend)
	{
		const json_t *listen = json_object_get(backend, "listen");

		if (!json_string_length(listen) || text.length > 256)
			continue;
		text_puts(&text, text.length ? ", " : "");
		json_add_text(&text, listen);
	}
	return text.length && !text.failed ? arena_text(arena, text.data, text.length) : NULL;
}

int agent_claims(struct arena *arena, const struct agent_answer *answer, struct story *story,
		 struct descriptor *wanted, bool *has_wanted, struct error *error)
{
	const json_t *backends = json_object_get(answer->namespace, "backends"), *backend;
	const json_t *winner = backend_for(answer->namespace, &story->listen);
	size_t i;

	story->claims = arena_array(arena, json_array_size(backends) + 1, sizeof(*story->claims));
	if (!story->claims)
		return error_no_memory(error);
	json_array_foreach(backends, i, backend)
	{
		if (is_of_port(backend, &story->listen))
			add_claim(arena, backend, backend == winner, story);
	}
	story->ports = other_ports(arena, backends);
	story->claims_are_known = true;
	*has_wanted = winner;
	if (winner && take_wanted(arena, winner, &story->listen, wanted) < 0)
		return error_no_memory(error);
	return 0;
}
