/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: results as text, a line for each change, in the order
 * in which plan put them, with what is asked for and where it goes in columns.
 * The JSON is in output_json.c.
 */
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

static const struct {
	char sign;
	const char *colour;
} looks[] = {
	[VERDICT_ADD] = {'+', "\033[32m"},
	[VERDICT_REPLACE] = {'~', "\033[33m"},
	[VERDICT_REMOVE] = {'-', "\033[31m"},
};

static int listen_width(const struct outcome *outcome)
{
	char text[ENDPOINT_TEXT_MAX];
	size_t width = 0;

	for (size_t i = 0; i < outcome->change_count; i++) {
		const struct change *change = &outcome->changes[i];
		size_t length;

		if (change->is_object)
			continue;
		length = strlen(listen_format(&change->listen, (enum family)change->family, text));
		width = length > width ? length : width;
	}
	return (int)width;
}

static void print_notes(struct text *out, const struct change *change)
{
	char was[ENDPOINT_TEXT_MAX];
	const char *between = " (";

	if (change->has_was) {
		text_printf(out, "%swas %s", between, endpoint_format(&change->was, was));
		between = ", ";
	}
	if (change->slots > 1) {
		text_printf(out, "%s%u slots", between, change->slots);
		between = ", ";
	}
	if (between[0] == ',')
		text_puts(out, ")");
}

static void print_change(struct text *out, const struct change *change, int width, bool colour)
{
	char listen[ENDPOINT_TEXT_MAX], endpoint[ENDPOINT_TEXT_MAX];

	text_printf(out, "%s%c ", colour ? looks[change->verdict].colour : "",
		    looks[change->verdict].sign);
	if (change->is_object) {
		text_puts(out, change->object);
	} else {
		listen_format(&change->listen, (enum family)change->family, listen);
		if (change->has_endpoint)
			text_printf(out, "%-*s -> %s", width, listen,
				    endpoint_format(&change->endpoint, endpoint));
		else
			text_printf(out, "%-*s unavailable", width, listen);
		print_notes(out, change);
	}
	text_puts(out, colour ? "\033[0m\n" : "\n");
}

void outcome_print_text(struct text *out, const struct outcome *outcome, bool colour)
{
	int width = listen_width(outcome);

	if (!outcome->valid)
		return;
	for (size_t i = 0; i < outcome->change_count; i++)
		print_change(out, &outcome->changes[i], width, colour);
	if (outcome->change_count == 0)
		text_printf(out, "%s: %s\n", outcome->target, outcome->still);
	else
		text_printf(out, "%s: %zu change%s%s\n", outcome->target, outcome->change_count,
			    outcome->change_count == 1 ? "" : "s", outcome->done);
}

static void print_tags(struct text *out, const struct tags *tags)
{
	for (size_t i = 0; i < tags->count; i++)
		text_printf(out, "%s%s", i ? "," : "", tags->names[i]);
}

static void print_candidates(struct text *out, const struct selection *selection)
{
	char text[ENDPOINT_TEXT_MAX];
	size_t width = 0;

	for (size_t i = 0; i < selection->endpoint_count; i++) {
		size_t length = strlen(endpoint_format(&selection->endpoints[i].endpoint, text));

		width = length > width ? length : width;
	}
	for (size_t i = 0; i < selection->endpoint_count; i++) {
		const struct candidate *candidate = &selection->endpoints[i];

		text_printf(out, "%-*s  weight %-3u  %s", (int)width,
			    endpoint_format(&candidate->endpoint, text), candidate->weight,
			    candidate->key);
		if (candidate->tags.count) {
			text_puts(out, "  [");
			print_tags(out, &candidate->tags);
			text_puts(out, "]");
		}
		text_puts(out, "\n");
	}
}

void resolution_print_text(struct text *out, const struct resolution *resolution)
{
	const struct selection *selection = resolution->selection;

	if (!selection)
		return;
	print_candidates(out, selection);
	for (size_t i = 0; i < selection->skipped_count; i++)
		text_printf(out, "skipped %s: %s\n", selection->skipped[i].key,
			    selection->skipped[i].reason);
	text_printf(out, "%s", resolution->service);
	if (resolution->tags->count) {
		text_puts(out, " [");
		print_tags(out, resolution->tags);
		text_puts(out, "]");
	}
	text_printf(out, " for %" PRIu16 "/%s: %zu endpoint%s, %zu skipped\n",
		    resolution->listen->port, protocol_name(resolution->listen->protocol),
		    selection->endpoint_count, selection->endpoint_count == 1 ? "" : "s",
		    selection->skipped_count);
	if (resolution->lack)
		text_printf(out, "no endpoint: %s%s%s\n", resolution->lack,
			    resolution->hint ? "; " : "", resolution->hint ? resolution->hint : "");
}

bool output_wants_colour(int fd)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fd) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

int output_write(int fd, const struct text *out, struct error *error)
{
	if (out->failed)
		return error_no_memory(error);
	for (size_t written = 0; written < out->length;) {
		ssize_t length = write(fd, out->data + written, out->length - written);

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return error_set(error, -errno, ERROR_FATAL, "standard output: %s",
					 strerror(errno));
		written += (size_t)length;
	}
	return 0;
}
