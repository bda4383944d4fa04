/* SPDX-License-Identifier: MIT */
#include "status_json.h"

#include <string.h>

#include "dragoman/base/memory.h"

enum { ID_SHOWN = 12 };

static const struct {
	const char *name;
	enum rank rank;
	enum page_colour colour;
} states[] = {
	{"ready", RANK_FINE, PAGE_GREEN},    {"empty", RANK_PROBLEM, PAGE_RED},
	{"held", RANK_PROBLEM, PAGE_YELLOW}, {"invalid", RANK_PROBLEM, PAGE_RED},
	{"ignored", RANK_IGNORED, PAGE_DIM}, {"conflict", RANK_PROBLEM, PAGE_RED},
};

static size_t state_index(const json_t *backend)
{
	const char *state = json_string_value(json_object_get(backend, "state"));
	size_t i = 0;

	while (i < ARRAY_SIZE(states) && !(state && strcmp(states[i].name, state) == 0))
		i++;
	return i;
}

enum rank backend_rank(const json_t *backend)
{
	size_t i = state_index(backend);

	return i < ARRAY_SIZE(states) ? states[i].rank : RANK_PROBLEM;
}

enum page_colour backend_colour(const json_t *backend)
{
	size_t i = state_index(backend);

	return i < ARRAY_SIZE(states) ? states[i].colour : PAGE_RED;
}

static bool is_broken(const json_t *namespace)
{
	const char *state = json_string_value(json_object_get(namespace, "state"));

	return state && (strcmp(state, "failing") == 0 || strcmp(state, "unreachable") == 0);
}

bool namespace_has_problem(const json_t *namespace)
{
	const json_t *backends = json_object_get(namespace, "backends"), *backend;
	size_t i;

	json_array_foreach(backends, i, backend)
	{
		if (backend_rank(backend) == RANK_PROBLEM)
			return true;
	}
	return is_broken(namespace);
}

/* The registry, or the engine. */
static bool is_lost(const json_t *source)
{
	const char *state = json_string_value(json_object_get(source, "state"));

	return state && strcmp(state, "lost") == 0;
}

struct status_counts status_count(const json_t *root)
{
	const json_t *namespaces = json_object_get(root, "namespaces"), *namespace, *backend;
	struct status_counts counts = {.namespaces = json_array_size(namespaces)};
	size_t i, j;

	counts.problems += is_lost(json_object_get(root, "registry"));
	counts.problems += is_lost(json_object_get(root, "docker"));

	json_array_foreach(namespaces, i, namespace)
	{
		const json_t *backends = json_object_get(namespace, "backends");

		counts.backends += json_array_size(backends);
		counts.problems += is_broken(namespace);
		json_array_foreach(backends, j, backend)
			counts.problems += backend_rank(backend) == RANK_PROBLEM;
	}
	return counts;
}

double endpoint_connections(const json_t *endpoint)
{
	const json_t *connections = json_object_get(endpoint, "connections");

	return json_is_integer(connections) ? json_number_value(connections) : -1;
}

double backend_connections(const json_t *backend)
{
	const json_t *endpoints = json_object_get(backend, "endpoints"), *endpoint;
	double sum = -1;
	size_t i;

	json_array_foreach(endpoints, i, endpoint)
	{
		double one = endpoint_connections(endpoint);

		if (one >= 0)
			sum = (sum < 0 ? 0 : sum) + one;
	}
	return sum;
}

/* --- The same in another document -------------------------------------------------- */

static bool same(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);

	return x == y || (x && y && json_equal(x, y));
}

static bool same_namespace(const json_t *a, const json_t *b)
{
	return same(a, b, "netns");
}

static bool same_backend(const json_t *a, const json_t *b)
{
	return same(a, b, "variable") && same(a, b, "listen") && same(a, b, "service");
}

static bool same_endpoint(const json_t *a, const json_t *b)
{
	return same(a, b, "address") && same(a, b, "port");
}

static const json_t *find_same(const json_t *array, const json_t *wanted, size_t index,
			       bool (*is_same)(const json_t *a, const json_t *b))
{
	const json_t *item = json_array_get(array, index);
	size_t i;

	if (item && is_same(item, wanted))
		return item;
	json_array_foreach(array, i, item)
	{
		if (is_same(item, wanted))
			return item;
	}
	return NULL;
}

const json_t *namespace_in(const json_t *root, const json_t *namespace, size_t index)
{
	return find_same(json_object_get(root, "namespaces"), namespace, index, same_namespace);
}

const json_t *backend_in(const json_t *namespace, const json_t *backend, size_t index)
{
	return find_same(json_object_get(namespace, "backends"), backend, index, same_backend);
}

const json_t *endpoint_in(const json_t *backend, const json_t *endpoint, size_t index)
{
	return find_same(json_object_get(backend, "endpoints"), endpoint, index, same_endpoint);
}

const json_t *backend_twin(const json_t *backends, size_t index)
{
	const json_t *backend = json_array_get(backends, index);

	if (!json_has_text(json_object_get(backend, "service")))
		return NULL;
	for (size_t i = 0; i < index; i++) {
		const json_t *other = json_array_get(backends, i);

		if (same(other, backend, "listen") && same(other, backend, "service") &&
		    same(other, backend, "tags") && same(other, backend, "state"))
			return other;
	}
	return NULL;
}

/* Of one backend; what was not counted at either time is left out. */
static double gained(const json_t *backend, const json_t *before)
{
	const json_t *endpoints = json_object_get(backend, "endpoints"), *endpoint;
	double sum = 0;
	size_t i;

	json_array_foreach(endpoints, i, endpoint)
	{
		const json_t *old = endpoint_in(before, endpoint, i);
		double now = endpoint_connections(endpoint);
		double then = old ? endpoint_connections(old) : 0;

		/* Rules that were made anew count anew. */
		if (now >= 0 && then >= 0)
			sum += now < then ? now : now - then;
	}
	return sum;
}

double status_gained(const json_t *root, const json_t *before)
{
	const json_t *namespaces = json_object_get(root, "namespaces"), *namespace, *backend;
	double sum = 0;
	size_t i, j;

	json_array_foreach(namespaces, i, namespace)
	{
		const json_t *backends = json_object_get(namespace, "backends");
		const json_t *old = namespace_in(before, namespace, i);

		json_array_foreach(backends, j, backend)
		{
			if (!backend_twin(backends, j))
				sum += gained(backend, backend_in(old, backend, j));
		}
	}
	return sum;
}

bool container_is(const json_t *container, const char *name)
{
	const char *own = json_string_value(json_object_get(container, "name"));
	const char *id = json_string_value(json_object_get(container, "id"));

	return (own && strcmp(own, name) == 0) ||
	       (id && *name && strncmp(id, name, strlen(name)) == 0);
}

/* --- Words ------------------------------------------------------------------------ */

bool json_has_text(const json_t *value)
{
	return json_is_integer(value) || json_string_length(value) > 0;
}

/* The agent's words are printable as a rule, and a backslash in them is one that it wrote. */
static void add_safe(struct text *line, const char *data, size_t length)
{
	while (length > 0) {
		const char *backslash = memchr(data, '\\', length);
		size_t piece = backslash ? (size_t)(backslash - data) : length;

		text_add_printable(line, data, piece);
		if (backslash)
			text_add(line, data + piece++, 1);
		data += piece;
		length -= piece;
	}
}

void json_add_text(struct text *line, const json_t *value)
{
	if (json_is_integer(value))
		text_printf(line, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_string(value))
		add_safe(line, json_string_value(value), json_string_length(value));
}

void json_add_container(struct text *line, const json_t *container)
{
	const json_t *name = json_object_get(container, "name");
	const json_t *id = json_object_get(container, "id");
	size_t length = json_string_length(id);

	if (json_has_text(name))
		json_add_text(line, name);
	else if (length > 0)
		add_safe(line, json_string_value(id), length < ID_SHOWN ? length : ID_SHOWN);
	else
		text_puts(line, "?");
}

void json_add_address(struct text *line, const json_t *endpoint)
{
	const json_t *address = json_object_get(endpoint, "address");
	const char *text = json_string_value(address);
	bool ipv6 = text && strchr(text, ':');

	text_puts(line, ipv6 ? "[" : "");
	json_add_text(line, address);
	text_puts(line, ipv6 ? "]:" : ":");
	json_add_text(line, json_object_get(endpoint, "port"));
}

void json_add_service(struct text *line, const json_t *backend)
{
	const json_t *tags = json_object_get(backend, "tags"), *tag;
	size_t i;

	json_add_text(line, json_object_get(backend, "service"));
	json_array_foreach(tags, i, tag)
	{
		text_puts(line, i ? "," : "[");
		json_add_text(line, tag);
	}
	if (json_array_size(tags) > 0)
		text_puts(line, "]");
}
