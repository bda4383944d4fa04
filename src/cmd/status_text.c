/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: each line is put together as a text of its own, out of
 * pieces that are printable by then, and goes out through page_line(), which
 * breaks it where it would be wider than the page.
 *
 *     web, sidecar (namespace 4026532281)
 *       empty     53/udp    /services/dns
 *                  BACKEND_DNS: the registry holds nothing there
 *       ready     6379/tcp  /services/redis.master[prod]
 *                  10.0.0.2:49161  weight 1  17 conns   94%  #########
 *
 * A wide page has the variable and the reason on a backend's first line, and
 * more room for bars.
 */
#include "status_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "status_json.h"

enum { WIDE = 120, STATE_WIDTH = 9, LISTEN_WIDTH_MAX = 24, ADDRESS_WIDTH_MAX = 48 };
enum { INDENT = 2, BACKEND_INDENT = INDENT + STATE_WIDTH, SERVICE_WIDTH_MAX = 48 };
enum { ENDPOINT_INDENT = BACKEND_INDENT + INDENT };
enum { BAR_MIN = 4, BAR_DIVISOR = 5 }; /* columns; part of the page, at most */

/* What a table is made of. */
struct table {
	struct text *out;
	const struct page *page;
	const json_t *root;
	const json_t *before; /* or NULL */
	double seconds;       /* since then */
};

static struct table table_of(struct text *out, const struct status_document *status,
			     const struct status_before *before, const struct page *page)
{
	struct table table = {.out = out, .page = page, .root = status->root};

	if (before && before->status) {
		table.before = before->status->root;
		table.seconds = before->seconds;
	}
	return table;
}

static void add_count(struct text *line, size_t count, const char *what)
{
	text_printf(line, "%zu %s%s", count, what, count == 1 ? "" : "s");
}

/* --- The head --------------------------------------------------------------------- */

/* A line that begins with what it is about, or nothing where it has nothing to say. */
static void put_titled(const struct table *table, const char *title, const struct text *line)
{
	if (line->failed || line->length == 0) {
		table->out->failed |= line->failed;
		return;
	}
	text_printf(table->out, "%-9s", title);
	page_rest(table->page, table->out, 9, INDENT, line->data);
}

/* Why it is lost, where it is. */
static void add_reason(struct text *line, const json_t *source)
{
	const json_t *reason = json_object_get(source, "reason");

	if (!json_has_text(reason))
		return;
	text_puts(line, ": ");
	json_add_text(line, reason);
}

static void print_registry(const struct table *table)
{
	const json_t *registry = json_object_get(table->root, "registry");
	const json_t *revision = json_object_get(registry, "revision");
	const json_t *state = json_object_get(registry, "state");
	CLEANUP(text_done) struct text line = {0};

	json_add_text(&line, json_object_get(registry, "url"));
	if (line.length && json_has_text(state))
		text_puts(&line, ": ");
	json_add_text(&line, state);
	if (json_has_text(revision)) {
		text_puts(&line, line.length ? ", revision " : "revision ");
		json_add_text(&line, revision);
	}
	add_reason(&line, registry);
	put_titled(table, "registry", &line);
}

static void print_docker(const struct table *table)
{
	CLEANUP(text_done) struct text line = {0};

	json_add_text(&line, json_object_get(json_object_get(table->root, "docker"), "state"));
	add_reason(&line, json_object_get(table->root, "docker"));
	put_titled(table, "docker", &line);
}

static double milliseconds(const json_t *latency, const char *which)
{
	return json_number_value(json_object_get(latency, which)) * 1e3;
}

static void print_commits(const struct table *table)
{
	const json_t *commits = json_object_get(table->root, "commits");
	const json_t *latency = json_object_get(table->root, "event_to_commit");
	CLEANUP(text_done) struct text line = {0};

	if (json_is_integer(commits))
		text_printf(&line, "%" JSON_INTEGER_FORMAT, json_integer_value(commits));
	if (line.length && json_is_number(json_object_get(latency, "last")))
		text_printf(&line, ", event to commit %.3g ms (p50 %.3g ms, p99 %.3g ms)",
			    milliseconds(latency, "last"), milliseconds(latency, "p50"),
			    milliseconds(latency, "p99"));
	put_titled(table, "commits", &line);
}

/* How many a second since `before`; -1 where it is not known. */
static double rate(const struct table *table, double now, double before)
{
	if (!table->before || table->seconds <= 0 || now < 0 || before < 0)
		return -1;
	/* Rules that were made anew count anew. */
	return (now < before ? now : now - before) / table->seconds;
}

static void add_rate(struct text *line, double connections)
{
	text_printf(line, connections < 100 ? "%.1f" : "%.0f", connections);
}

void status_print_summary(struct text *line, const struct status_document *status,
			  const struct status_before *before)
{
	const struct table table = table_of(line, status, before, NULL);
	struct status_counts counts = status_count(table.root);
	double gained = table.before ? status_gained(table.root, table.before) : -1;

	add_count(line, counts.namespaces, "namespace");
	text_puts(line, ", ");
	add_count(line, counts.backends, "backend");
	text_puts(line, ", ");
	add_count(line, counts.problems, "problem");
	if (gained < 0 || table.seconds <= 0)
		return;
	text_puts(line, ", ");
	add_rate(line, gained / table.seconds);
	text_puts(line, " connections/s");
}

void status_print_head(struct text *out, const struct status_document *status,
		       const struct status_before *before, const struct page *page)
{
	const struct table table = table_of(out, status, before, page);
	CLEANUP(text_done) struct text version = {0}, summary = {0};

	text_puts(&version, "dragoman ");
	json_add_text(&version, json_object_get(table.root, "version"));
	if (json_is_false(json_object_get(table.root, "ready")))
		text_puts(&version, ", not ready: the first full round is not done");
	page_line(page, out, INDENT, &version, PAGE_PLAIN);
	print_registry(&table);
	print_docker(&table);
	print_commits(&table);
	status_print_summary(&summary, status, before);
	page_line(page, out, INDENT, &summary, PAGE_PLAIN);
}

/* --- Endpoints -------------------------------------------------------------------- */

/* The columns of one backend's endpoints, so that they stand below each other. */
struct columns {
	size_t address, weight, connections, rate;
	double sum; /* of connections */
};

static void widen(size_t *column, const struct text *text)
{
	size_t width = text->data ? page_columns(text->data, text->length) : 0;

	*column = width > *column ? width : *column;
}

static void add_weight(struct text *text, const json_t *endpoint)
{
	const json_t *weight = json_object_get(endpoint, "weight");

	if (json_is_integer(weight))
		text_printf(text, "weight %" JSON_INTEGER_FORMAT, json_integer_value(weight));
}

static void add_connections(struct text *text, const json_t *endpoint)
{
	const json_t *connections = json_object_get(endpoint, "connections");

	if (json_is_integer(connections))
		text_printf(text, "%" JSON_INTEGER_FORMAT, json_integer_value(connections));
}

static void add_endpoint_rate(struct text *text, const struct table *table, const json_t *endpoint,
			      const json_t *before)
{
	double speed = rate(table, endpoint_connections(endpoint),
			    before ? endpoint_connections(before) : 0);

	if (speed < 0)
		return;
	add_rate(text, speed);
	text_puts(text, "/s");
}

static void measure(const struct table *table, const json_t *endpoint, const json_t *before,
		    struct columns *columns)
{
	CLEANUP(text_done) struct text address = {0}, weight = {0}, connections = {0}, speed = {0};

	json_add_address(&address, endpoint);
	add_weight(&weight, endpoint);
	add_connections(&connections, endpoint);
	add_endpoint_rate(&speed, table, endpoint, before);
	widen(&columns->address, &address);
	widen(&columns->weight, &weight);
	widen(&columns->connections, &connections);
	widen(&columns->rate, &speed);
	if (columns->address > ADDRESS_WIDTH_MAX)
		columns->address = ADDRESS_WIDTH_MAX;
}

/* A text that ends at the right border of its column. */
static void add_right(struct text *line, const struct text *text, size_t width)
{
	size_t have = text->data ? page_columns(text->data, text->length) : 0;

	line->failed |= text->failed;
	if (have < width)
		text_printf(line, "%*s", (int)(width - have), "");
	if (text->data)
		text_add(line, text->data, text->length);
}

/* Of all connections of the backend, in percent and as a bar of what is left of the line. */
static void add_share(struct text *line, const struct table *table, double connections, double sum)
{
	size_t used = line->data ? page_columns(line->data, line->length) : 0;
	size_t left = table->page->width > used + 7 ? table->page->width - used - 7 : 0;
	size_t most = table->page->width / BAR_DIVISOR;
	double part = connections / sum;

	if (used + 6 > table->page->width)
		return;
	if (part > 0 && part < 0.01)
		text_puts(line, "   <1%");
	else
		text_printf(line, "  %3.0f%%", part * 100);
	if (left < BAR_MIN || part <= 0)
		return;
	text_puts(line, " ");
	page_bar(table->page, line, part, left < most ? left : most);
}

static void print_endpoint(const struct table *table, const json_t *endpoint, const json_t *before,
			   const struct columns *columns)
{
	CLEANUP(text_done) struct text line = {0}, connections = {0}, speed = {0};
	double count = endpoint_connections(endpoint);
	bool wide = table->page->width >= WIDE;

	page_pad(&line, ENDPOINT_INDENT);
	json_add_address(&line, endpoint);
	page_pad(&line, ENDPOINT_INDENT + columns->address);
	if (columns->weight) {
		text_puts(&line, "  ");
		add_weight(&line, endpoint);
		page_pad(&line, ENDPOINT_INDENT + columns->address + 2 + columns->weight);
	}
	add_connections(&connections, endpoint);
	if (count >= 0) {
		text_puts(&line, "  ");
		add_right(&line, &connections, columns->connections);
		text_puts(&line, wide ? " connection" : " conn");
		text_puts(&line, count == 1 ? " " : "s");
		add_endpoint_rate(&speed, table, endpoint, before);
		text_puts(&line, columns->rate ? "  " : "");
		add_right(&line, &speed, columns->rate);
	}
	if (count >= 0 && columns->sum > 0)
		add_share(&line, table, count, columns->sum);
	page_line(table->page, table->out, ENDPOINT_INDENT + INDENT, &line, PAGE_PLAIN);
}

static void print_endpoints(const struct table *table, const json_t *backend, const json_t *before)
{
	const json_t *endpoints = json_object_get(backend, "endpoints"), *endpoint;
	struct columns columns = {.sum = backend_connections(backend)};
	size_t i;

	json_array_foreach(endpoints, i, endpoint)
		measure(table, endpoint, endpoint_in(before, endpoint, i), &columns);
	json_array_foreach(endpoints, i, endpoint)
		print_endpoint(table, endpoint, endpoint_in(before, endpoint, i), &columns);
}

/* --- Backends --------------------------------------------------------------------- */

struct widths {
	size_t listen, service, variable;
};

static size_t service_width(const json_t *backend)
{
	CLEANUP(text_done) struct text text = {0};

	json_add_service(&text, backend);
	return text.data ? page_columns(text.data, text.length) : 1;
}

static void widen_to(size_t *width, size_t wanted, size_t most)
{
	if (wanted > *width)
		*width = wanted < most ? wanted : most;
}

static struct widths widths_of(const json_t *backends)
{
	struct widths widths = {.listen = 1, .service = 1, .variable = 1};
	const json_t *backend;
	size_t i;

	json_array_foreach(backends, i, backend)
	{
		widen_to(&widths.listen, json_string_length(json_object_get(backend, "listen")),
			 LISTEN_WIDTH_MAX);
		widen_to(&widths.service, service_width(backend), SERVICE_WIDTH_MAX);
		widen_to(&widths.variable, json_string_length(json_object_get(backend, "variable")),
			 SERVICE_WIDTH_MAX);
	}
	return widths;
}

/* The rest of a line that begins with a state, which alone may have a colour. */
static void put_first_line(const struct table *table, const json_t *backend, size_t indent,
			   const struct text *line)
{
	const char *state = json_string_value(json_object_get(backend, "state"));
	bool coloured = table->page->colour && state && backend_colour(backend) != PAGE_PLAIN;
	size_t length = 0;

	if (line->failed) {
		table->out->failed = true;
		return;
	}
	/* One that is not known may be anything, and be broken anywhere. */
	if (coloured && strlen(state) <= STATE_WIDTH &&
	    strncmp(line->data + INDENT, state, strlen(state)) == 0)
		length = strlen(state);
	if (length) {
		text_printf(table->out, "%*s", INDENT, "");
		page_colour(table->page, table->out, backend_colour(backend));
		text_add(table->out, state, length);
		page_colour(table->page, table->out, PAGE_PLAIN);
		length += INDENT;
	}
	page_rest(table->page, table->out, length, indent, line->data + length);
}

/* "-" for what is not there. */
static void add_or_dash(struct text *line, const json_t *value)
{
	if (json_has_text(value))
		json_add_text(line, value);
	else
		text_puts(line, "-");
}

static void add_beginning(struct text *line, const json_t *backend, const struct widths *widths)
{
	page_pad(line, INDENT);
	json_add_text(line, json_object_get(backend, "state"));
	page_pad(line, BACKEND_INDENT);
	text_puts(line, " ");
	add_or_dash(line, json_object_get(backend, "listen"));
	page_pad(line, BACKEND_INDENT + 1 + widths->listen);
	text_puts(line, "  ");
}

/* The reason, or whose endpoints are its own, too. */
static void add_why(struct text *line, const json_t *backend, const json_t *twin)
{
	const json_t *variable = json_object_get(twin, "variable");

	if (json_has_text(variable)) {
		text_puts(line, "the same as ");
		json_add_text(line, variable);
	} else {
		json_add_text(line, json_object_get(backend, "reason"));
	}
}

static void print_wide(const struct table *table, const json_t *backend, const struct text *why,
		       const struct widths *widths)
{
	const size_t service = BACKEND_INDENT + 1 + widths->listen + 2;
	const size_t variable = service + widths->service + 2;
	const size_t reason = variable + widths->variable + 2;
	CLEANUP(text_done) struct text line = {0};

	add_beginning(&line, backend, widths);
	if (json_has_text(json_object_get(backend, "service")))
		json_add_service(&line, backend);
	else
		text_puts(&line, "-");
	page_pad(&line, variable - 2);
	text_puts(&line, "  ");
	json_add_text(&line, json_object_get(backend, "variable"));
	if (why->length) {
		page_pad(&line, reason - 2);
		text_puts(&line, "  ");
		text_add(&line, why->data, why->length);
	}
	put_first_line(table, backend, reason < table->page->width / 2 ? reason : ENDPOINT_INDENT,
		       &line);
}

static void print_narrow(const struct table *table, const json_t *backend, const struct text *why,
			 const struct widths *widths)
{
	const json_t *variable = json_object_get(backend, "variable");
	bool has_service = json_has_text(json_object_get(backend, "service"));
	CLEANUP(text_done) struct text first = {0}, second = {0};

	add_beginning(&first, backend, widths);
	if (has_service)
		json_add_service(&first, backend);
	else
		json_add_text(&first, variable);
	put_first_line(table, backend, ENDPOINT_INDENT, &first);
	if (why->length == 0)
		return;
	page_pad(&second, ENDPOINT_INDENT);
	/* Where there is no service the variable stands above. */
	if (has_service && json_has_text(variable)) {
		json_add_text(&second, variable);
		text_puts(&second, ": ");
	}
	text_add(&second, why->data, why->length);
	page_line(table->page, table->out, ENDPOINT_INDENT, &second, PAGE_PLAIN);
}

static void print_backend(const struct table *table, const json_t *backend, const json_t *twin,
			  const json_t *before, const struct widths *widths)
{
	CLEANUP(text_done) struct text why = {0};

	add_why(&why, backend, twin);
	table->out->failed |= why.failed;
	if (table->page->width >= WIDE)
		print_wide(table, backend, &why, widths);
	else
		print_narrow(table, backend, &why, widths);
	if (!twin)
		print_endpoints(table, backend, before);
}

/* --- Namespaces ------------------------------------------------------------------- */

static void add_names(struct text *line, const json_t *namespace)
{
	const json_t *containers = json_object_get(namespace, "containers"), *container;
	size_t i;

	json_array_foreach(containers, i, container)
	{
		text_puts(line, i ? ", " : "");
		json_add_container(line, container);
	}
}

static void print_title(const struct table *table, const json_t *namespace)
{
	const json_t *netns = json_object_get(namespace, "netns");
	CLEANUP(text_done) struct text names = {0}, line = {0};

	add_names(&names, namespace);
	if (names.length)
		text_add(&line, names.data, names.length);
	if (json_has_text(netns) || names.length == 0) {
		text_puts(&line, names.length ? " (namespace " : "namespace ");
		add_or_dash(&line, netns);
		text_puts(&line, names.length ? ")" : "");
	}
	line.failed |= names.failed;
	page_line(table->page, table->out, INDENT, &line, PAGE_BOLD);
}

static void print_note(const struct table *table, const json_t *namespace)
{
	const json_t *state = json_object_get(namespace, "state");
	const json_t *note = json_object_get(namespace, "note");
	bool waits = json_string_length(state) && strcmp(json_string_value(state), "waiting") == 0;
	CLEANUP(text_done) struct text line = {0};

	page_pad(&line, INDENT);
	if (json_has_text(note))
		json_add_text(&line, note);
	else if (waits)
		text_puts(&line, "its rules are not written yet");
	else
		return;
	page_line(table->page, table->out, INDENT, &line, PAGE_PLAIN);
}

static void print_namespace(const struct table *table, const json_t *namespace,
			    const json_t *before)
{
	const json_t *backends = json_object_get(namespace, "backends"), *backend;
	struct widths widths = widths_of(backends);
	size_t i;

	text_puts(table->out, "\n");
	print_title(table, namespace);
	print_note(table, namespace);
	for (unsigned rank = 0; rank < RANK_COUNT; rank++) {
		json_array_foreach(backends, i, backend)
		{
			if (backend_rank(backend) == rank)
				print_backend(table, backend, backend_twin(backends, i),
					      backend_in(before, backend, i), &widths);
		}
	}
}

struct line {
	const json_t *namespace;
	size_t index;
	unsigned rank; /* problems, others, those without backends */
	char name[128];
};

static int compare_lines(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	int order = (x->rank > y->rank) - (x->rank < y->rank);

	if (order == 0)
		order = strcmp(x->name, y->name);
	return order ? order : (x->index > y->index) - (x->index < y->index);
}

static void line_fill(struct line *line, const json_t *namespace, size_t index)
{
	CLEANUP(text_done) struct text names = {0};

	*line = (struct line){.namespace = namespace, .index = index, .rank = 1};
	if (namespace_has_problem(namespace))
		line->rank = 0;
	else if (json_array_size(json_object_get(namespace, "backends")) == 0)
		line->rank = 2;
	add_names(&names, namespace);
	(void)text_format(line->name, sizeof(line->name), "%s", names.data ? names.data : "");
}

void status_print_namespaces(struct text *out, const struct status_document *status,
			     const struct status_before *before, const struct page *page)
{
	const struct table table = table_of(out, status, before, page);
	const json_t *namespaces = json_object_get(table.root, "namespaces");
	size_t count = json_array_size(namespaces);
	CLEANUP(memory_free) struct line *lines = calloc(count + 1, sizeof(*lines));

	if (!lines) {
		out->failed = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		line_fill(&lines[i], json_array_get(namespaces, i), i);
	qsort(lines, count, sizeof(*lines), compare_lines);
	for (size_t i = 0; i < count; i++)
		print_namespace(&table, lines[i].namespace,
				namespace_in(table.before, lines[i].namespace, lines[i].index));
}

void status_print_text(struct text *out, const struct status_document *status,
		       const struct status_before *before, const struct page *page)
{
	status_print_head(out, status, before, page);
	status_print_namespaces(out, status, before, page);
}
