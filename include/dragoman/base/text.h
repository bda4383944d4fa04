/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_TEXT_H
#define DRAGOMAN_BASE_TEXT_H

/*
 * Text that came from outside, and text that goes out.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing string. Zero-initialise; an allocation that fails is latched in `failed`. */
struct text {
	char *data; /* NUL-terminated, or NULL while nothing was added */
	size_t length;
	size_t capacity;
	bool failed;
};

/* Frees the string and makes it empty again; usable with CLEANUP. */
void text_done(struct text *text);
void text_add(struct text *text, const char *data, size_t length);
void text_puts(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Writes length bytes of data to `into` (of `size` bytes, at least 1) so that
 * a terminal, a log and a JSON string can take it: valid UTF-8 stays, control
 * characters, DEL, C1 controls, and bytes that are not UTF-8 become \xNN, a
 * backslash becomes two. What does not fit ends in "...". Always terminated.
 * Returns into.
 */
char *text_printable(char *into, size_t size, const char *data, size_t length);

/* The same, appended to a growing string and never cut. */
void text_add_printable(struct text *text, const char *data, size_t length);

/* The same, never cut, in an arena; NULL when memory is exhausted. */
struct arena;
char *arena_printable(struct arena *arena, const char *data, size_t length);

/*
 * printf into a buffer of `size` bytes, at least 1. What does not fit ends in
 * "..." and is cut at a character's border, so that UTF-8 stays UTF-8. Always
 * terminated. The arguments must not overlap `into`. Returns into.
 */
char *text_format(char *into, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
char *text_format_list(char *into, size_t size, const char *format, va_list arguments)
	__attribute__((format(printf, 3, 0)));

/*
 * Parses length bytes as an unsigned decimal number: digits only, no sign, no
 * blanks. Returns 0, -EINVAL (no number) or -ERANGE (above max).
 */
int text_parse_number(const char *data, size_t length, uint64_t max, uint64_t *ret);

/* The bytes of the character at data, in UTF-8; 0 where there is none. */
size_t text_utf8_step(const char *data, size_t length);

/* How many bytes, from the first on, are valid UTF-8 (RFC 3629: no surrogates, no overlongs). */
size_t text_utf8_length(const char *data, size_t length);

/* Whether all of them are. */
bool text_is_utf8(const char *data, size_t length);

/*
 * Reads a whole regular file, or whatever else can be read to its end, of at
 * most max bytes. *ret is malloc()ed, terminated by a NUL that *ret_length
 * does not count. Returns 0, -EFBIG, -EISDIR, -ENOMEM, or another -errno of open(2) or
 * read(2).
 */
int text_read_file(const char *path, size_t max, char **ret, size_t *ret_length);

#endif
