/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: each line is put together as a text of its own, out of
 * pieces that are printable by then, and goes out through put_line(), which
 * breaks it where it would be wider than a terminal. The document is the
 * agent's, maybe of another version than this program: jansson's getters
 * answer NULL, or nothing, for whatever is not there or is something else, and
 * every function here takes that.
 */
#include "status_text.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "dragoman/base/json.h"
#include "dragoman/base/memory.h"

enum { WIDTH = 80, STATE_WIDTH = 9, LISTEN_WIDTH_MAX = 24, ADDRESS_WIDTH_MAX = 48 };
enum { INDENT = 2, BACKEND_INDENT = INDENT + STATE_WIDTH, ID_SHOWN = 12 };

/* The order in which backends are shown. */
enum rank { RANK_PROBLEM, RANK_FINE, RANK_IGNORED };
enum { RANK_COUNT = RANK_IGNORED + 1 };

static const struct {
	const char *name;
	enum rank rank;
	const char *colour;
} states[] = {
	{"ready", RANK_FINE, "\033[32m"},     {"empty", RANK_PROBLEM, "\033[31m"},
	{"held", RANK_PROBLEM, "\033[33m"},   {"invalid", RANK_PROBLEM, "\033[31m"},
	{"ignored", RANK_IGNORED, "\033[2m"}, {"conflict", RANK_PROBLEM, "\033[31m"},
};

struct counts {
	size_t namespaces, backends, problems;
};

/* Characters, of text that is UTF-8. */
static size_t width_of(const char *data, size_t length)
{
	size_t width = 0;

	for (size_t i = 0; i < length; i++)
		width += ((unsigned char)data[i] & 0xc0) != 0x80;
	return width;
}

/* Bytes of the first `width` characters. */
static size_t length_of_width(const char *data, size_t length, size_t width)
{
	size_t i = 0;

	while (i < length && (width > 0 || ((unsigned char)data[i] & 0xc0) == 0x80)) {
		width -= ((unsigned char)data[i] & 0xc0) != 0x80;
		i++;
	}
	return i;
}

static void put_spaces(struct text *out, size_t count)
{
	text_printf(out, "%*s", (int)count, "");
}

static void put_break(struct text *out, size_t *column, size_t indent)
{
	text_puts(out, "\n");
	put_spaces(out, indent);
	*column = indent;
}

/* A word that is broken only where no line could hold it. */
static void put_word(struct text *out, size_t *column, size_t indent, const char *word,
		     size_t length)
{
	size_t piece;

	while ((piece = length_of_width(word, length, WIDTH - *column)) < length) {
		text_add(out, word, piece);
		put_break(out, column, indent);
		word += piece;
		length -= piece;
	}
	text_add(out, word, length);
	*column += width_of(word, length);
}

/* Ends the line that stands at `column` with `text`; its further lines are indented. */
static void put_rest(struct text *out, size_t column, size_t indent, const char *text)
{
	while (*text) {
		size_t blanks = strspn(text, " "), length = strcspn(text + blanks, " ");
		const char *word = text + blanks;

		text = word + length;
		if (length == 0)
			break;
		if (column > 0 && column + blanks + width_of(word, length) > WIDTH) {
			put_break(out, &column, indent);
		} else {
			put_spaces(out, blanks);
			column += blanks;
		}
		put_word(out, &column, indent, word, length);
	}
	text_puts(out, "\n");
}

static void put_line(struct text *out, size_t indent, const struct text *line)
{
	if (line->failed)
		out->failed = true;
	else
		put_rest(out, 0, indent, line->data ? line->data : "");
}

static bool has_text(const json_t *value)
{
	return json_is_integer(value) || json_string_length(value) > 0;
}

/* A string, made printable, or an integer; nothing of anything else. */
static void add_value(struct text *line, const json_t *value)
{
	if (json_is_integer(value))
		text_printf(line, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_string(value))
		text_add_printable(line, json_string_value(value), json_string_length(value));
}

static void pad(struct text *line, size_t width)
{
	size_t have = line->data ? width_of(line->data, line->length) : 0;

	if (have < width)
		put_spaces(line, width - have);
}

/* "BACKEND_X: reason", what there is of it. */
static void add_pair(struct text *line, const json_t *first, const char *between,
		     const json_t *second)
{
	add_value(line, first);
	if (has_text(first) && has_text(second))
		text_puts(line, between);
	add_value(line, second);
}

static size_t state_index(const json_t *backend)
{
	const char *state = json_string_value(json_object_get(backend, "state"));
	size_t i = 0;

	while (i < ARRAY_SIZE(states) && !(state && strcmp(states[i].name, state) == 0))
		i++;
	return i;
}

/* A state that we do not know is worth to be looked at. */
static enum rank rank_of(const json_t *backend)
{
	size_t i = state_index(backend);

	return i < ARRAY_SIZE(states) ? states[i].rank : RANK_PROBLEM;
}

static bool has_problem(const json_t *namespace)
{
	const json_t *backends = json_object_get(namespace, "backends"), *backend;
	size_t i;

	json_array_foreach(backends, i, backend)
	{
		if (rank_of(backend) == RANK_PROBLEM)
			return true;
	}
	return false;
}

static struct counts count(const json_t *namespaces)
{
	struct counts counts = {.namespaces = json_array_size(namespaces)};
	const json_t *namespace, *backend;
	size_t i, j;

	json_array_foreach(namespaces, i, namespace)
	{
		const json_t *backends = json_object_get(namespace, "backends");

		counts.backends += json_array_size(backends);
		json_array_foreach(backends, j, backend)
			counts.problems += rank_of(backend) == RANK_PROBLEM;
	}
	return counts;
}

static void print_registry(struct text *out, const json_t *registry)
{
	const json_t *revision = json_object_get(registry, "revision");
	CLEANUP(text_done) struct text line = {0};

	add_pair(&line, json_object_get(registry, "url"), ": ", json_object_get(registry, "state"));
	if (has_text(revision)) {
		text_puts(&line, line.length ? ", revision " : "revision ");
		add_value(&line, revision);
	}
	if (line.failed || line.length == 0) {
		out->failed |= line.failed;
		return;
	}
	text_puts(out, "registry ");
	put_rest(out, strlen("registry "), INDENT, line.data);
}

static void print_head(struct text *out, const json_t *document, const struct counts *counts)
{
	const json_t *docker = json_object_get(json_object_get(document, "docker"), "state");
	CLEANUP(text_done) struct text version = {0}, line = {0};

	text_puts(&version, "dragoman ");
	add_value(&version, json_object_get(document, "version"));
	put_line(out, INDENT, &version);
	print_registry(out, json_object_get(document, "registry"));
	if (has_text(docker)) {
		text_puts(&line, "docker   ");
		add_value(&line, docker);
		put_line(out, INDENT, &line);
	}
	text_printf(out, "%zu namespace%s, %zu backend%s, %zu problem%s\n", counts->namespaces,
		    counts->namespaces == 1 ? "" : "s", counts->backends,
		    counts->backends == 1 ? "" : "s", counts->problems,
		    counts->problems == 1 ? "" : "s");
}

static void add_address(struct text *line, const json_t *endpoint)
{
	const json_t *address = json_object_get(endpoint, "address");
	const char *text = json_string_value(address);
	bool ipv6 = text && strchr(text, ':');

	text_puts(line, ipv6 ? "[" : "");
	add_value(line, address);
	text_puts(line, ipv6 ? "]:" : ":");
	add_value(line, json_object_get(endpoint, "port"));
}

static size_t address_width(const json_t *endpoints)
{
	const json_t *endpoint;
	size_t i, widest = 0;

	json_array_foreach(endpoints, i, endpoint)
	{
		CLEANUP(text_done) struct text text = {0};
		size_t width;

		add_address(&text, endpoint);
		width = text.failed ? 0 : width_of(text.data, text.length);
		if (width > widest)
			widest = width < ADDRESS_WIDTH_MAX ? width : ADDRESS_WIDTH_MAX;
	}
	return widest;
}

static void print_endpoint(struct text *out, const json_t *endpoint, size_t width)
{
	const json_t *weight = json_object_get(endpoint, "weight");
	const json_t *connections = json_object_get(endpoint, "connections");
	CLEANUP(text_done) struct text line = {0};

	put_spaces(&line, BACKEND_INDENT + INDENT);
	add_address(&line, endpoint);
	pad(&line, BACKEND_INDENT + INDENT + width);
	if (json_is_integer(weight))
		text_printf(&line, "  weight %-3" JSON_INTEGER_FORMAT, json_integer_value(weight));
	if (json_is_integer(connections))
		text_printf(&line, "  %" JSON_INTEGER_FORMAT " connection%s",
			    json_integer_value(connections),
			    json_integer_value(connections) == 1 ? "" : "s");
	put_line(out, BACKEND_INDENT + INDENT + INDENT, &line);
}

/* "/services/redis.master[prod,stats]" */
static void add_service(struct text *line, const json_t *backend)
{
	const json_t *tags = json_object_get(backend, "tags"), *tag;
	size_t i;

	add_value(line, json_object_get(backend, "service"));
	json_array_foreach(tags, i, tag)
	{
		text_puts(line, i ? "," : "[");
		add_value(line, tag);
	}
	if (json_array_size(tags) > 0)
		text_puts(line, "]");
}

/* The line of a backend begins with its state, which alone may have a colour. */
static void print_first_line(struct text *out, const json_t *backend, size_t listen_width,
			     bool colour)
{
	const json_t *listen = json_object_get(backend, "listen");
	CLEANUP(text_done) struct text line = {0};
	size_t state = state_index(backend), skipped = 0;

	put_spaces(&line, INDENT);
	add_value(&line, json_object_get(backend, "state"));
	pad(&line, BACKEND_INDENT);
	text_puts(&line, " ");
	if (has_text(listen))
		add_value(&line, listen);
	else
		text_puts(&line, "-");
	pad(&line, BACKEND_INDENT + 1 + listen_width);
	text_puts(&line, "  ");
	if (has_text(json_object_get(backend, "service")))
		add_service(&line, backend);
	else
		add_value(&line, json_object_get(backend, "variable"));
	if (line.failed) {
		out->failed = true;
		return;
	}
	if (colour && state < ARRAY_SIZE(states)) {
		skipped = INDENT + strlen(states[state].name);
		text_printf(out, "%*s%s%s\033[0m", INDENT, "", states[state].colour,
			    states[state].name);
	}
	put_rest(out, skipped, BACKEND_INDENT + INDENT, line.data + skipped);
}

static void print_reason(struct text *out, const json_t *backend)
{
	const json_t *reason = json_object_get(backend, "reason");
	const json_t *variable = json_object_get(backend, "variable");
	CLEANUP(text_done) struct text line = {0};

	if (!has_text(reason))
		return;
	put_spaces(&line, BACKEND_INDENT + INDENT);
	/* Where there is no service the variable stands above. */
	if (has_text(json_object_get(backend, "service")))
		add_pair(&line, variable, ": ", reason);
	else
		add_value(&line, reason);
	put_line(out, BACKEND_INDENT + INDENT, &line);
}

static void print_backend(struct text *out, const json_t *backend, size_t listen_width, bool colour)
{
	const json_t *endpoints = json_object_get(backend, "endpoints"), *endpoint;
	size_t width = address_width(endpoints), i;

	print_first_line(out, backend, listen_width, colour);
	print_reason(out, backend);
	json_array_foreach(endpoints, i, endpoint) print_endpoint(out, endpoint, width);
}

static size_t listen_width(const json_t *backends)
{
	const json_t *backend;
	size_t i, widest = 1;

	json_array_foreach(backends, i, backend)
	{
		size_t width = json_string_length(json_object_get(backend, "listen"));

		if (width > widest)
			widest = width < LISTEN_WIDTH_MAX ? width : LISTEN_WIDTH_MAX;
	}
	return widest;
}

static void add_container(struct text *line, const json_t *container)
{
	const json_t *name = json_object_get(container, "name");
	const json_t *id = json_object_get(container, "id");
	size_t length = json_string_length(id);

	if (has_text(name))
		add_value(line, name);
	else if (length > 0)
		text_add_printable(line, json_string_value(id),
				   length < ID_SHOWN ? length : ID_SHOWN);
	else
		text_puts(line, "?");
}

static void print_namespace(struct text *out, const json_t *namespace, bool colour)
{
	const json_t *containers = json_object_get(namespace, "containers"), *container;
	const json_t *backends = json_object_get(namespace, "backends"), *backend;
	const json_t *netns = json_object_get(namespace, "netns");
	CLEANUP(text_done) struct text title = {0}, note = {0};
	size_t i, width = listen_width(backends);

	text_puts(&title, "namespace ");
	if (has_text(netns))
		add_value(&title, netns);
	else
		text_puts(&title, "-");
	json_array_foreach(containers, i, container)
	{
		text_puts(&title, i ? ", " : ": ");
		add_container(&title, container);
	}
	text_puts(out, "\n");
	put_line(out, INDENT, &title);
	if (has_text(json_object_get(namespace, "note"))) {
		put_spaces(&note, INDENT);
		add_value(&note, json_object_get(namespace, "note"));
		put_line(out, INDENT, &note);
	}
	for (unsigned rank = 0; rank < RANK_COUNT; rank++) {
		json_array_foreach(backends, i, backend)
		{
			if (rank_of(backend) == rank)
				print_backend(out, backend, width, colour);
		}
	}
}

static void print_namespaces(struct text *out, const json_t *namespaces, bool colour, bool problems)
{
	const json_t *namespace;
	size_t i;

	json_array_foreach(namespaces, i, namespace)
	{
		if (has_problem(namespace) == problems)
			print_namespace(out, namespace, colour);
	}
}

int status_print_text(struct text *out, const char *document, size_t length, bool colour,
		      struct error *error)
{
	const json_t *namespaces;
	struct counts counts;
	json_t *root;

	/* A NUL in a string is no reason to say nothing: it will be printed as \x00. */
	if (json_read(document, length, JSON_ALLOW_NUL, &root, NULL) == -ENOMEM)
		return error_no_memory(error);
	namespaces = json_object_get(root, "namespaces");
	counts = count(namespaces);
	if (!json_is_object(root)) {
		json_decref(root);
		return error_set(error, -EINVAL, ERROR_INVALID, "this is no JSON object");
	}
	print_head(out, root, &counts);
	print_namespaces(out, namespaces, colour, true);
	print_namespaces(out, namespaces, colour, false);
	json_decref(root);
	return 0;
}
