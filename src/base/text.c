/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Whatever a container, a registry or a user hands over is bytes until it has
 * passed through here. One decoder, sequence_length(), knows what UTF-8 is;
 * the printable forms, the check and the cutting all stand on it or on what it
 * accepted, so that no message can hold an escape sequence for a terminal, or
 * half a character that a JSON encoder would refuse.
 *
 * A growing string latches a failed allocation instead of reporting each one:
 * code that builds text stays straight, and looks at `failed` once, at its end.
 */
#include "dragoman/base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

void text_done(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}

static bool text_reserve(struct text *text, size_t more)
{
	if (text->failed)
		return false;
	text->failed = more == SIZE_MAX ||
		       array_reserve(&text->data, &text->capacity, text->length, more + 1, 1) < 0;
	return !text->failed;
}

void text_add(struct text *text, const char *data, size_t length)
{
	if (!text_reserve(text, length))
		return;
	if (length)
		memcpy(text->data + text->length, data, length);
	text->length += length;
	text->data[text->length] = '\0';
}

void text_puts(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void text_printf(struct text *text, const char *format, ...)
{
	va_list arguments, again;
	int length;

	va_start(arguments, format);
	va_copy(again, arguments);
	length = vsnprintf(NULL, 0, format, arguments);
	if (length < 0)
		text->failed = true;
	else if (text_reserve(text, (size_t)length)) {
		(void)vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
		text->length += (size_t)length;
	}
	va_end(again);
	va_end(arguments);
}

/*
 * The length of the UTF-8 sequence at data (RFC 3629, table 3-7 of the Unicode
 * standard), or 0 where there is none.
 */
static size_t sequence_length(const unsigned char *data, size_t length)
{
	static const struct {
		unsigned char first, last, second_low, second_high, length;
	} ranges[] = {
		{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (data[0] < ranges[i].first || data[0] > ranges[i].last)
			continue;
		if (ranges[i].length == 1)
			return 1;
		if (length < ranges[i].length || data[1] < ranges[i].second_low ||
		    data[1] > ranges[i].second_high)
			return 0;
		for (size_t n = 2; n < ranges[i].length; n++) {
			if ((data[n] & 0xc0) != 0x80)
				return 0;
		}
		return ranges[i].length;
	}
	return 0;
}

size_t text_utf8_step(const char *data, size_t length)
{
	return length ? sequence_length((const unsigned char *)data, length) : 0;
}

size_t text_utf8_length(const char *data, size_t length)
{
	size_t valid = 0, step;

	while (valid < length) {
		step = sequence_length((const unsigned char *)data + valid, length - valid);
		if (step == 0)
			break;
		valid += step;
	}
	return valid;
}

bool text_is_utf8(const char *data, size_t length)
{
	return text_utf8_length(data, length) == length;
}

/*
 * Puts the printable form of what stands at data into out (of 5 bytes at
 * least). Returns how many bytes of data that was.
 */
static size_t printable_step(const char *data, size_t length, char *out)
{
	const unsigned char *bytes = (const unsigned char *)data;
	size_t step = sequence_length(bytes, length);
	bool control = step == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f);
	bool c1 = step == 2 && bytes[0] == 0xc2 && bytes[1] < 0xa0;

	if (step == 0 || control || c1) {
		(void)snprintf(out, 5, "\\x%02x", bytes[0]);
		return 1;
	}
	if (bytes[0] == '\\') {
		memcpy(out, "\\\\", 3);
		return 1;
	}
	memcpy(out, data, step);
	out[step] = '\0';
	return step;
}

char *text_printable(char *into, size_t size, const char *data, size_t length)
{
	size_t used = 0, fits = 0, step;
	char piece[8];

	for (size_t i = 0; i < length; i += step) {
		size_t piece_length;

		step = printable_step(data + i, length - i, piece);
		piece_length = strlen(piece);
		if (used + piece_length >= size) {
			/* Back to the last border that leaves room for the dots. */
			if (size > 3)
				memcpy(into + fits, "...", 3);
			into[size > 3 ? fits + 3 : fits] = '\0';
			return into;
		}
		memcpy(into + used, piece, piece_length);
		used += piece_length;
		if (used + 3 < size)
			fits = used;
	}
	into[used] = '\0';
	return into;
}

void text_add_printable(struct text *text, const char *data, size_t length)
{
	char piece[8];
	size_t step;

	for (size_t i = 0; i < length; i += step) {
		step = printable_step(data + i, length - i, piece);
		text_puts(text, piece);
	}
}

char *arena_printable(struct arena *arena, const char *data, size_t length)
{
	CLEANUP(text_done) struct text text = {0};

	text_add_printable(&text, data, length);
	text_add(&text, "", 0);
	return text.failed ? NULL : arena_text(arena, text.data, text.length);
}

/* Ends a text that filled its buffer of `size` bytes in "...", at a character's border. */
static void cut_with_dots(char *into, size_t size)
{
	size_t end = size > 3 ? size - 4 : 0;

	while (end > 0 && ((unsigned char)into[end] & 0xc0) == 0x80)
		end--;
	if (size > 3) {
		memcpy(into + end, "...", 3);
		end += 3;
	}
	into[end] = '\0';
}

char *text_format_list(char *into, size_t size, const char *format, va_list arguments)
{
	int length = vsnprintf(into, size, format, arguments);

	if (length < 0)
		into[0] = '\0';
	else if ((size_t)length >= size)
		cut_with_dots(into, size);
	return into;
}

char *text_format(char *into, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)text_format_list(into, size, format, arguments);
	va_end(arguments);
	return into;
}

int text_parse_number(const char *data, size_t length, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (length == 0)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		if (data[i] < '0' || data[i] > '9')
			return -EINVAL;
	}
	for (size_t i = 0; i < length; i++) {
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(data[i] - '0'), &value) || value > max)
			return -ERANGE;
	}
	*ret = value;
	return 0;
}

/* Appends what can be read from fd to its end. Returns 0, -EFBIG, -ENOMEM or an -errno. */
static int read_to_end(int fd, size_t max, struct text *text)
{
	char chunk[16384];
	ssize_t length;

	for (;;) {
		length = read(fd, chunk, sizeof(chunk));
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return -errno;
		if (length == 0)
			return 0;
		if ((size_t)length > max - text->length)
			return -EFBIG;
		text_add(text, chunk, (size_t)length);
		/* At once: an endless file would be read for ever after a latched failure. */
		if (text->failed)
			return -ENOMEM;
	}
}

int text_read_file(const char *path, size_t max, char **ret, size_t *ret_length)
{
	/* A FIFO would wait for a writer; one that nobody writes to is empty. */
	CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	CLEANUP(text_done) struct text text = {0};
	struct stat status;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	/* Reading waits again: for a pipe whose writer has more to say. */
	if (fcntl(fd, F_SETFL, 0) < 0)
		return -errno;
	r = read_to_end(fd, max, &text);
	if (r < 0)
		return r;
	text_add(&text, "", 0);
	if (text.failed)
		return -ENOMEM;
	*ret_length = text.length;
	*ret = TAKE(text.data);
	return 0;
}
