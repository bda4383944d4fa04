/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: text is measured in columns, by the widths that libc
 * knows of characters in UTF-8. That is a property of a locale, and the program
 * has none (numbers and messages are the same everywhere), so one is opened for
 * this alone; without it a character is a column.
 */
#include "page.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <wchar.h>

#include "dragoman/base/memory.h"

static const char *const colours[] = {
	[PAGE_PLAIN] = "\033[0m", [PAGE_BOLD] = "\033[1m",   [PAGE_DIM] = "\033[2m",
	[PAGE_RED] = "\033[31m",  [PAGE_GREEN] = "\033[32m", [PAGE_YELLOW] = "\033[33m",
};

/* --- What shows it ---------------------------------------------------------------- */

static bool is_of_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	const char *value = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names) && !(value && *value); i++)
		value = getenv(names[i]);
	return value && (strcasestr(value, "utf-8") || strcasestr(value, "utf8"));
}

static size_t width_of(int fd)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size = {0};
	uint64_t width = 0;

	if (ioctl(fd, TIOCGWINSZ, &size) == 0)
		width = size.ws_col;
	else if (!columns || text_parse_number(columns, strlen(columns), 9999, &width) < 0)
		width = 0;
	if (width == 0)
		return PAGE_WIDTH;
	if (width < PAGE_WIDTH_MIN)
		return PAGE_WIDTH_MIN;
	return width < PAGE_WIDTH_MAX ? (size_t)width : PAGE_WIDTH_MAX;
}

/* --- Columns ---------------------------------------------------------------------- */

static locale_t open_utf8(void)
{
	locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

	return locale ? locale : newlocale(LC_CTYPE_MASK, "en_US.UTF-8", (locale_t)0);
}

/* Opened once, and never closed: as long-lived as the program. */
static locale_t utf8(void)
{
	static locale_t locale;
	static bool tried;

	if (!tried)
		locale = open_utf8();
	tried = true;
	return locale;
}

/* Of the character at data, whose bytes are *ret_length. */
static size_t columns_of_one(const char *data, size_t length, size_t *ret_length)
{
	mbstate_t state = {0};
	wchar_t character = 0;
	size_t bytes = text_utf8_step(data, length);
	int width = 1;

	*ret_length = bytes ? bytes : 1;
	if (bytes > 1 && utf8() && mbrtowc(&character, data, bytes, &state) == bytes)
		width = wcwidth(character);
	/* What libc does not know is shown somehow. */
	return width < 0 ? 1 : (size_t)width;
}

/* Bytes of the first characters that take at most so many columns, and how many those are. */
static size_t measure(const char *data, size_t length, size_t most, size_t *ret_columns)
{
	locale_t before = utf8() ? uselocale(utf8()) : (locale_t)0;
	size_t at = 0, bytes;

	*ret_columns = 0;
	while (at < length) {
		size_t columns = columns_of_one(data + at, length - at, &bytes);

		if (*ret_columns + columns > most)
			break;
		*ret_columns += columns;
		at += bytes;
	}
	if (before)
		(void)uselocale(before);
	return at;
}

struct page page_of(int fd)
{
	return (struct page){.width = width_of(fd), .blocks = is_of_utf8()};
}

size_t page_columns(const char *data, size_t length)
{
	size_t columns;

	(void)measure(data, length, SIZE_MAX / 2, &columns);
	return columns;
}

void page_colour(const struct page *page, struct text *out, enum page_colour colour)
{
	if (page->colour)
		text_puts(out, colours[colour]);
}

/* --- Lines ------------------------------------------------------------------------ */

static void put_spaces(struct text *out, size_t count)
{
	text_printf(out, "%*s", (int)count, "");
}

void page_pad(struct text *line, size_t columns)
{
	size_t have = line->data ? page_columns(line->data, line->length) : 0;

	if (have < columns)
		put_spaces(line, columns - have);
}

static void put_break(struct text *out, size_t *column, size_t indent)
{
	text_puts(out, "\n");
	put_spaces(out, indent);
	*column = indent;
}

/* A word that is broken only where no line could hold it. */
static void put_word(const struct page *page, struct text *out, size_t *column, size_t indent,
		     const char *word, size_t length)
{
	size_t piece, columns;

	while ((piece = measure(word, length, page->width - *column, &columns)) < length) {
		text_add(out, word, piece);
		put_break(out, column, indent);
		word += piece;
		length -= piece;
	}
	text_add(out, word, length);
	*column += columns;
}

static void put_words(const struct page *page, struct text *out, size_t column, size_t indent,
		      const char *text)
{
	while (*text) {
		size_t blanks = strspn(text, " "), length = strcspn(text + blanks, " ");
		const char *word = text + blanks;

		text = word + length;
		if (length == 0)
			break;
		if (column > 0 && column + blanks + page_columns(word, length) > page->width) {
			put_break(out, &column, indent);
		} else {
			put_spaces(out, blanks);
			column += blanks;
		}
		put_word(page, out, &column, indent, word, length);
	}
}

void page_rest(const struct page *page, struct text *out, size_t column, size_t indent,
	       const char *text)
{
	put_words(page, out, column, indent, text);
	text_puts(out, "\n");
}

void page_line(const struct page *page, struct text *out, size_t indent, const struct text *line,
	       enum page_colour colour)
{
	out->failed |= line->failed;
	if (colour != PAGE_PLAIN)
		page_colour(page, out, colour);
	put_words(page, out, 0, indent, line->data ? line->data : "");
	if (colour != PAGE_PLAIN)
		page_colour(page, out, PAGE_PLAIN);
	text_puts(out, "\n");
}

void page_lines(const struct page *page, struct text *out, size_t indent, const struct text *lines)
{
	const char *at = lines->data ? lines->data : "";

	out->failed |= lines->failed;
	while (*at) {
		CLEANUP(text_done) struct text line = {0};
		size_t length = strcspn(at, "\n");

		text_add(&line, at, length);
		page_line(page, out, indent, &line, PAGE_PLAIN);
		at += length + (at[length] ? 1 : 0);
	}
}

void page_bar(const struct page *page, struct text *line, double part, size_t columns)
{
	size_t filled = (size_t)(part * (double)columns + 0.5);

	if (filled == 0 && part > 0)
		filled = 1;
	for (size_t i = 0; i < filled && i < columns; i++)
		text_puts(line, page->blocks ? "\xe2\x96\x88" : "#");
}
