/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_PAGE_H
#define DRAGOMAN_CMD_PAGE_H

/*
 * Lines for people, broken at the width of what shows them.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/text.h"

enum { PAGE_WIDTH = 80, PAGE_WIDTH_MIN = 40, PAGE_WIDTH_MAX = 400 };

/* How results are shown. */
struct page {
	size_t width; /* columns, PAGE_WIDTH_MIN at least */
	bool colour;  /* escape sequences for colours */
	bool blocks;  /* bars out of U+2588, else out of '#' */
};

/*
 * How they are shown on this descriptor: as wide as the terminal; without one,
 * as $COLUMNS says, or else PAGE_WIDTH. Blocks where the locale is of UTF-8.
 */
struct page page_of(int fd);

/* Columns that text takes, which is UTF-8 and printable: 0, 1 or 2 for a character (wcwidth(3)). */
size_t page_columns(const char *data, size_t length);

/* Adds spaces until the line takes so many columns. */
void page_pad(struct text *line, size_t columns);

/*
 * Ends the line that stands at `column` with `text`, which is broken between
 * words, or within one that no line can hold. Its further lines are indented.
 */
void page_rest(const struct page *page, struct text *out, size_t column, size_t indent,
	       const char *text);

/* Colours; nothing where the page has none. */
enum page_colour { PAGE_PLAIN, PAGE_BOLD, PAGE_DIM, PAGE_RED, PAGE_GREEN, PAGE_YELLOW };
void page_colour(const struct page *page, struct text *out, enum page_colour colour);

/*
 * A whole line, in one colour, that was put together before; a lack of memory
 * there is latched in out.
 */
void page_line(const struct page *page, struct text *out, size_t indent, const struct text *line,
	       enum page_colour colour);

/* Whole lines, each broken where it is wider than the page. */
void page_lines(const struct page *page, struct text *out, size_t indent, const struct text *lines);

/* A bar of `part` (0 to 1) of so many columns: one at least, where it is more than nothing. */
void page_bar(const struct page *page, struct text *line, double part, size_t columns);

#endif
