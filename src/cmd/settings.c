/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one reader goes over the bytes and takes pieces: a name, a
 * value to its line's end, a word to the next blank. What quotes and backslashes
 * mean is the same in all of them. A piece and its NUL are never longer than what
 * it was made of and the byte behind that, so there is room for all of them in one
 * block of that size.
 */
#include "settings.h"

#include <errno.h>
#include <string.h>

struct reader {
	const char *at, *end;
	char *room; /* for the next piece */
	size_t line;
};

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r';
}

static void skip_blanks(struct reader *reader)
{
	while (reader->at < reader->end && is_blank(*reader->at))
		reader->at++;
}

static void skip_line(struct reader *reader)
{
	while (reader->at < reader->end && *reader->at != '\n')
		reader->at++;
}

/* What stands behind a backslash; a line's end there is nothing. */
static void take_escaped(struct reader *reader)
{
	char byte;

	if (reader->at == reader->end)
		return;
	byte = *reader->at++;
	if (byte == '\n')
		reader->line++;
	else
		*reader->room++ = byte;
}

/* What stands between two quotes. Returns whether there was a second one. */
static bool take_quoted(struct reader *reader, char quote)
{
	while (reader->at < reader->end) {
		char byte = *reader->at++;

		if (byte == quote)
			return true;
		if (byte == '\\' && quote == '"') {
			take_escaped(reader);
			continue;
		}
		if (byte == '\n')
			reader->line++;
		*reader->room++ = byte;
	}
	return false;
}

/*
 * To the line's end, or with `word` to the next blank, without the blanks before
 * that. Returns the piece, or NULL where a quote has no other.
 */
static const char *take_piece(struct reader *reader, bool word)
{
	char *start = reader->room, *kept = start;

	while (reader->at < reader->end && *reader->at != '\n') {
		char byte = *reader->at++;

		if (is_blank(byte) && word)
			break;
		if (byte == '\\')
			take_escaped(reader);
		else if (byte != '"' && byte != '\'')
			*reader->room++ = byte;
		else if (!take_quoted(reader, byte))
			return NULL;
		if (!is_blank(byte))
			kept = reader->room;
	}
	*kept = '\0';
	reader->room = kept + 1;
	return start;
}

static int wrong(const struct reader *reader, const char *what, struct error *error)
{
	return error_set(error, -EINVAL, ERROR_INVALID, "line %zu: %s", reader->line, what);
}

static int take_setting(struct reader *reader, struct arena *arena, struct setting *ret,
			struct error *error)
{
	const char *name = reader->at;
	const struct reader start = *reader;
	size_t length;

	while (reader->at < reader->end && *reader->at != '=' && *reader->at != '\n')
		reader->at++;
	if (reader->at == reader->end || *reader->at != '=')
		return wrong(&start, "no '=': NAME=VALUE is wanted", error);
	length = (size_t)(reader->at++ - name);
	while (length && is_blank(name[length - 1]))
		length--;
	if (length == 0)
		return wrong(&start, "no name before the '='", error);
	skip_blanks(reader);
	ret->name = arena_text(arena, name, length);
	if (!ret->name)
		return error_no_memory(error);
	ret->value = take_piece(reader, false);
	return ret->value ? 0 : wrong(&start, "a quote has no other", error);
}

static size_t count_lines(const char *data, size_t length)
{
	size_t count = 1;

	for (size_t i = 0; i < length; i++)
		count += data[i] == '\n';
	return count;
}

int settings_parse(struct arena *arena, const char *data, size_t length, struct settings *ret,
		   struct error *error)
{
	struct reader reader = {.at = data, .end = data + length, .line = 1};
	const char *nul = length ? memchr(data, '\0', length) : NULL;

	ret->count = 0;
	if (nul) {
		reader.line = count_lines(data, (size_t)(nul - data));
		return wrong(&reader, "a NUL byte in it", error);
	}
	reader.room = arena_alloc(arena, length + 1);
	ret->items = arena_array(arena, count_lines(data, length), sizeof(*ret->items));
	if (!ret->items || !reader.room)
		return error_no_memory(error);
	while (reader.at < reader.end) {
		int code;

		skip_blanks(&reader);
		if (reader.at == reader.end)
			break;
		if (*reader.at == '#' || *reader.at == ';') {
			skip_line(&reader);
		} else if (*reader.at != '\n') {
			code = take_setting(&reader, arena, &ret->items[ret->count], error);
			if (code < 0)
				return code;
			ret->count++;
		}
		if (reader.at < reader.end)
			reader.at++;
		reader.line++;
	}
	return 0;
}

const char *settings_value(const struct settings *settings, const char *name)
{
	for (size_t i = settings->count; i > 0; i--) {
		if (strcmp(settings->items[i - 1].name, name) == 0)
			return settings->items[i - 1].value;
	}
	return NULL;
}

int settings_words(struct arena *arena, const char *value, const char ***ret, size_t *ret_count)
{
	size_t length = strlen(value);
	struct reader reader = {.at = value, .end = value + length, .line = 1};
	/* Each word but the last has a blank behind it. */
	const char **words = arena_array(arena, length / 2 + 1, sizeof(*words));

	reader.room = arena_alloc(arena, length + 1);
	*ret_count = 0;
	if (!words || !reader.room)
		return -ENOMEM;
	*ret = words;
	for (;;) {
		while (reader.at < reader.end && (is_blank(*reader.at) || *reader.at == '\n'))
			reader.at++;
		if (reader.at == reader.end)
			return 0;
		words[*ret_count] = take_piece(&reader, true);
		if (!words[*ret_count])
			return -EINVAL;
		(*ret_count)++;
	}
}
