/* SPDX-License-Identifier: MIT */
/*
 * dragoman resolve
 *
 * Theory of operation: one descriptor, given as an argument, goes the way that
 * reconcile's go, as far as the selection of its endpoints. No namespace is
 * touched, and no privilege needed.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "by_hand.h"
#include "hint.h"
#include "lookup.h"
#include "output.h"
#include "page.h"

enum { QUOTE_MAX = 96, INDENT = 4 };

struct query {
	const struct options *options;
	struct arena *arena;
	struct deadline deadline;
	struct descriptor descriptor;
	struct lookup lookup;
	struct resolution resolution;
	struct report report;
};

static void query_done(struct query *query)
{
	report_done(&query->report);
	arena_free(query->arena);
}

static void report_invalid(struct query *query)
{
	const struct descriptor *descriptor = &query->descriptor;
	const char *argument = query->options->argument;
	char quoted[QUOTE_MAX];

	text_printable(quoted, sizeof(quoted), argument, strlen(argument));
	if (descriptor->column)
		report_add(&query->report, NULL, "%s: column %zu: %s", quoted, descriptor->column,
			   descriptor->reason);
	else
		report_add(&query->report, NULL, "%s: %s", quoted, descriptor->reason);
}

static void take(struct query *query, const struct wanted *wanted)
{
	struct resolution *resolution = &query->resolution;

	resolution->selection = &wanted->selection;
	resolution->lack = selection_lack(query->arena, &wanted->selection,
					  &query->descriptor.tags);
	if (resolution->lack)
		resolution->hint = lookup_hint(query->arena, query->options, &query->deadline,
					       wanted);
}

static int look_up(struct query *query, struct error *error)
{
	struct descriptor *items[] = {&query->descriptor};
	const struct descriptor_set set = {
		.arena = query->arena, .root = query->options->root, .items = items, .count = 1};
	const struct wanted *wanted;
	int code = lookup_run(query->arena, query->options, &query->deadline, &set, &query->lookup,
			      error);

	query->resolution.tags = &query->descriptor.tags;
	query->resolution.listen = &query->descriptor.listen;
	/* Lookup comes to nothing but no memory before it has the key. */
	if (query->lookup.count == 0)
		return code;
	wanted = &query->lookup.wanted[0];
	query->resolution.service = wanted->key;
	if (code == 0 && wanted->failure)
		return error_set(error, -EIO, ERROR_TRANSIENT, "%s: %s", wanted->key,
				 wanted->failure);
	if (code == 0)
		take(query, wanted);
	return code;
}

static int ask(struct query *query, struct error *error)
{
	const char *argument = query->options->argument;

	if (!query->arena || descriptor_parse(query->arena, argument, strlen(argument),
					      !query->options->root, &query->descriptor) < 0)
		return error_no_memory(error);
	descriptor_by_hand(&query->descriptor, argument);
	if (query->descriptor.state != DESCRIPTOR_USED) {
		report_invalid(query);
		return 0;
	}
	return look_up(query, error);
}

/* A terminal would break them anywhere; whoever else reads them reads lines. */
static void print_lines(struct text *out, const struct resolution *resolution)
{
	const struct page page = page_of(STDOUT_FILENO);
	CLEANUP(text_done) struct text lines = {0};

	if (!isatty(STDOUT_FILENO)) {
		resolution_print_text(out, resolution);
		return;
	}
	resolution_print_text(&lines, resolution);
	page_lines(&page, out, INDENT, &lines);
}

static enum status print(struct query *query)
{
	CLEANUP(text_done) struct text text = {0};
	struct error error = {0};

	if (query->options->json)
		resolution_print_json(&text, &query->resolution, &query->report);
	else
		print_lines(&text, &query->resolution);
	if (output_write(STDOUT_FILENO, &text, &error) < 0)
		report_error(&query->report, &error);
	return query->report.failed ? STATUS_FAILED : STATUS_DONE;
}

static int resolve(const struct options *options)
{
	CLEANUP(query_done)
	struct query query = {
		.options = options,
		.arena = arena_new(),
		.deadline = deadline_start(options->timeout),
	};
	struct error error = {0};

	if (ask(&query, &error) < 0)
		report_error(&query.report, &error);
	return (int)print(&query);
}

const struct command command_resolve = {
	.name = "resolve",
	.bit = COMMAND_RESOLVE,
	.argument = "DESCRIPTOR",
	.summary = "show what a descriptor stands for: endpoints, skipped documents",
	.description =
		"Looks up one descriptor, 'SERVICE[TAG,...];PORT/PROTO', in the registry, and "
		"prints the endpoints that it stands for, and the documents that were skipped, "
		"with the reason for each.",
	.examples = "dragoman resolve 'redis.master[prod];6379'\n"
		    "dragoman resolve --registry file:///etc/dragoman/services.json \\\n"
		    "    '/services/prod/dns;53/udp' --json",
	.status = "0  the registry has answered, be it that nothing is there\n"
		  "1  the descriptor is invalid, or the registry gave no answer\n"
		  "2  usage",
	.run = resolve,
};
