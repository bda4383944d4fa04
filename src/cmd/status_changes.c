/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <time.h>

#include "dragoman/base/memory.h"
#include "status_json.h"
#include "status_text.h"

enum { AGO_WIDTH = 10, NAME_WIDTH_MAX = 24 };

/* "now", "12 s ago", "3 min ago", "5 h ago". */
static void add_ago(struct text *line, double seconds)
{
	if (seconds < 1)
		text_puts(line, "now");
	else if (seconds < 100)
		text_printf(line, "%.0f s ago", seconds);
	else if (seconds < 100 * 60)
		text_printf(line, "%.0f min ago", seconds / 60);
	else
		text_printf(line, "%.0f h ago", seconds / 3600);
}

static char sign_of(const json_t *change)
{
	const char *verdict = json_string_value(json_object_get(change, "verdict"));

	if (verdict && strcmp(verdict, "add") == 0)
		return '+';
	return verdict && strcmp(verdict, "remove") == 0 ? '-' : '~';
}

static enum page_colour colour_of(const json_t *change)
{
	switch (sign_of(change)) {
	case '+':
		return PAGE_GREEN;
	case '-':
		return PAGE_RED;
	default:
		return PAGE_YELLOW;
	}
}

/* As plan and reconcile write it: "+ 127.0.0.1:80/tcp -> 10.0.0.2:80". */
static void add_change(struct text *line, const json_t *change)
{
	const json_t *endpoint = json_object_get(change, "endpoint");

	text_printf(line, "%c ", sign_of(change));
	json_add_text(line, json_object_get(change, "listen"));
	text_puts(line, json_has_text(endpoint) ? " -> " : " unavailable");
	json_add_text(line, endpoint);
}

static double time_of(const json_t *change)
{
	return json_number_value(json_object_get(change, "time"));
}

static size_t name_width(const json_t *changes, size_t most)
{
	size_t widest = 0;

	for (size_t i = 0; i < json_array_size(changes) && i < most; i++) {
		CLEANUP(text_done) struct text name = {0};
		size_t width;

		json_add_text(&name, json_object_get(json_array_get(changes, i), "name"));
		width = name.data ? page_columns(name.data, name.length) : 0;
		if (width > widest)
			widest = width < NAME_WIDTH_MAX ? width : NAME_WIDTH_MAX;
	}
	return widest;
}

static void print_change(struct text *out, const json_t *change, size_t width, double now,
			 const struct page *page)
{
	CLEANUP(text_done) struct text line = {0};

	text_puts(&line, "  ");
	add_ago(&line, now - time_of(change));
	page_pad(&line, AGO_WIDTH + 4);
	json_add_text(&line, json_object_get(change, "name"));
	page_pad(&line, AGO_WIDTH + 4 + width);
	text_puts(&line, "  ");
	add_change(&line, change);
	page_line(page, out, AGO_WIDTH + 4, &line, colour_of(change));
}

void status_print_changes(struct text *out, const struct status_document *status, size_t most,
			  double now, const struct page *page)
{
	const json_t *changes = json_object_get(status->root, "changes");
	size_t width = name_width(changes, most);

	if (json_array_size(changes) == 0)
		return;
	text_puts(out, "\nlast changes\n");
	for (size_t i = 0; i < json_array_size(changes) && i < most; i++)
		print_change(out, json_array_get(changes, i), width, now, page);
}

static void add_clock(struct text *line, double seconds)
{
	time_t whole = (time_t)seconds;
	struct tm local = {0};
	char clock[16] = "";

	if (localtime_r(&whole, &local))
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	text_puts(line, clock);
}

void status_print_news(struct text *out, const struct status_document *status,
		       const struct status_before *before, double now)
{
	const json_t *changes = json_object_get(status->root, "changes");
	const json_t *old = before->status ? json_object_get(before->status->root, "changes")
					   : NULL;
	double since = old ? time_of(json_array_get(old, 0)) : now;

	for (size_t i = json_array_size(changes); i > 0; i--) {
		const json_t *change = json_array_get(changes, i - 1);

		if (time_of(change) <= since)
			continue;
		add_clock(out, time_of(change));
		text_puts(out, "  ");
		json_add_text(out, json_object_get(change, "name"));
		text_puts(out, ": ");
		add_change(out, change);
		text_puts(out, "\n");
	}
	add_clock(out, now);
	text_puts(out, "  ");
	status_print_summary(out, status, before);
	text_puts(out, "\n");
}
