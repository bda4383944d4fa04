/* SPDX-License-Identifier: MIT */
/*
 * dragoman status
 *
 * Theory of operation: what the agent answers goes out as it came (--json) or
 * as a table.
 */
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "options.h"
#include "output.h"
#include "report.h"
#include "status_text.h"

enum { NAME_SHOWN_MAX = 160 };

/* The document stays as it is, but has to be one. */
static int print(const struct options *options, const struct text *answer, struct error *error)
{
	CLEANUP(text_done) struct text table = {0};
	char name[NAME_SHOWN_MAX];
	const char *document = answer->data ? answer->data : "";
	int code;

	code = status_print_text(&table, document, answer->length,
				 output_wants_colour(STDOUT_FILENO), error);
	if (code < 0) {
		text_printable(name, sizeof(name), options->socket, strlen(options->socket));
		(void)error_wrap(error, "%s: the answer", name);
		return code;
	}
	if (!options->json)
		return output_write(STDOUT_FILENO, &table, error);
	text_done(&table);
	text_add(&table, document, answer->length);
	if (document[answer->length - 1] != '\n')
		text_puts(&table, "\n");
	return output_write(STDOUT_FILENO, &table, error);
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
		"with the endpoints, their weights and the connections they were given. Problems "
		"come first.",
	.examples = "dragoman status\n"
		    "dragoman status --json |\n"
		    "    jq '.namespaces[].backends[] | select(.state == \"empty\")'",
	.status = "0  the agent has answered, whatever it had to say\n"
		  "1  there is no agent, or it gave no answer\n"
		  "2  usage",
	.run = status,
};
