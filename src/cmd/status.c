/* SPDX-License-Identifier: MIT */
/*
 * dragoman status
 *
 * Theory of operation: what the agent answers goes out as it came (--json) or
 * as a table, whole or narrowed to one container.
 */
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "options.h"
#include "output.h"
#include "report.h"
#include "status_text.h"
#include "watch.h"

enum { NAME_SHOWN_MAX = 160 };

static int add_piece(const char *data, size_t length, void *out)
{
	text_add(out, data, length);
	return 0;
}

/* The document stays as it is, unless it has to be another. */
static void add_json(struct text *out, const struct options *options, const struct text *answer,
		     const struct status_document *status)
{
	if (!options->container)
		text_add(out, answer->data, answer->length);
	else if (json_dump_callback(status->root, add_piece, out, JSON_INDENT(2)) < 0)
		out->failed = true;
	if (!out->failed && out->data[out->length - 1] != '\n')
		text_puts(out, "\n");
}

static int print(const struct options *options, const struct text *answer, struct error *error)
{
	CLEANUP(text_done) struct text out = {0};
	CLEANUP(status_done) struct status_document status = {0};
	struct page page = page_of(STDOUT_FILENO);
	char name[NAME_SHOWN_MAX];
	int code = status_parse(answer->data ? answer->data : "", answer->length, &status, error);

	if (code < 0) {
		text_printable(name, sizeof(name), options->socket, strlen(options->socket));
		return error_wrap(error, "%s: the answer", name);
	}
	if (options->container && (code = status_narrow(&status, options->container, error)) < 0)
		return code;
	page.colour = output_wants_colour(STDOUT_FILENO);
	if (options->json)
		add_json(&out, options, answer, &status);
	else
		status_print_text(&out, &status, NULL, &page);
	return output_write(STDOUT_FILENO, &out, error);
}

static int fail(const struct options *options, const struct error *error)
{
	CLEANUP(report_done) struct report report = {0};
	CLEANUP(text_done) struct text text = {0};

	report_error(&report, error);
	if (options->json) {
		report_print_json(&text, &report);
		/* Where even this does not go out, enough was said. */
		(void)output_write(STDOUT_FILENO, &text, NULL);
	}
	return STATUS_FAILED;
}

static int status(const struct options *options)
{
	CLEANUP(text_done) struct text answer = {0};
	struct error error = {0};

	if (options->watch)
		return status_watch(options);
	if (agent_ask(options->socket, options->timeout, &answer, &error) < 0 ||
	    print(options, &answer, &error) < 0)
		return fail(options, &error);
	return STATUS_DONE;
}

const struct command command_status = {
	.name = "status",
	.bit = COMMAND_STATUS,
	.summary = "show what the running agent knows",
	.description =
		"Asks the agent of this host (dragoman run) and prints what it watches: the "
		"registry, Docker, and for each network namespace its containers and backends, "
		"with the endpoints, their weights, the connections they were given and their share "
		"of them. Problems come first.\n"
		"\n"
		"--watch shows it again each second, with connections a second and the last changes, "
		"until q or Ctrl-C: on a terminal as a page, else as lines for a log.",
	.examples = "dragoman status\n"
		    "dragoman status --watch --container web\n"
		    "dragoman status --json |\n"
		    "    jq '.namespaces[].backends[] | select(.state == \"empty\")'",
	.status = "0  the agent has answered, whatever it had to say\n"
		  "1  there is no agent, or it gave no answer\n"
		  "2  usage",
	.run = status,
};
