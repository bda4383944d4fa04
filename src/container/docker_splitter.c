/* SPDX-License-Identifier: MIT */
#include "docker_splitter.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Only what is needed to find an object's end is understood of JSON: braces
 * nest, and do not count within strings, whose end a backslash may hide. What
 * is no JSON beyond that comes out as an object, and fails with whoever
 * decodes it. Of an object that is too long nothing is kept, but it is
 * followed to its end, so that the next one is found. Not for ever: what does
 * not end would swallow everything after it.
 */

enum { STARTS_WITH = 24, FOLLOWED = 16 /* times the length that is kept */ };

/* Takes one byte of an object; returns whether it was its last. */
static bool take(struct docker_splitter *splitter, char byte)
{
	if (splitter->escaped) {
		splitter->escaped = false;
	} else if (splitter->in_string) {
		splitter->escaped = byte == '\\';
		splitter->in_string = byte != '"';
	} else if (byte == '"') {
		splitter->in_string = true;
	} else if (byte == '{') {
		splitter->depth++;
	} else if (byte == '}') {
		splitter->depth--;
	}
	return splitter->depth == 0;
}

static size_t blanks(const char *data, size_t length)
{
	size_t i = 0;

	while (i < length && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' ||
			      data[i] == '\t' || data[i] == '\0'))
		i++;
	return i;
}

static void keep(struct docker_splitter *splitter, const char *data, size_t length, size_t max)
{
	splitter->length += length;
	if (splitter->oversize || length > max - splitter->object.length) {
		splitter->oversize = true;
		text_done(&splitter->object);
		return;
	}
	text_add(&splitter->object, data, length);
}

static void hand_on(struct docker_splitter *splitter, docker_object_function *function, void *user)
{
	if (splitter->oversize)
		function("", 0, user);
	else
		function(splitter->object.data, splitter->object.length, user);
	/* The room is kept for the next one. */
	splitter->object.length = 0;
	splitter->oversize = false;
	splitter->length = 0;
}

static int refuse(const char *data, size_t length, struct error *error)
{
	char text[STARTS_WITH * 4 + 1];

	return error_set(error, -EBADMSG, ERROR_TRANSIENT,
			 "the stream holds what is no JSON object (\"%s\")",
			 text_printable(text, sizeof(text), data,
					length < STARTS_WITH ? length : STARTS_WITH));
}

int docker_splitter_feed(struct docker_splitter *splitter, const char *data, size_t length,
			 size_t max, docker_object_function *function, void *user,
			 struct error *error)
{
	size_t start = 0;

	while (start < length) {
		size_t end = start;
		bool ended = false;

		if (splitter->depth == 0) {
			start += blanks(data + start, length - start);
			end = start;
			if (start < length && data[start] != '{')
				return refuse(data + start, length - start, error);
		}
		while (end < length && !ended)
			ended = take(splitter, data[end++]);
		keep(splitter, data + start, end - start, max);
		if (splitter->object.failed)
			return error_no_memory(error);
		if (splitter->length / FOLLOWED > max)
			return error_set(error, -EBADMSG, ERROR_TRANSIENT,
					 "the stream holds an object without end");
		if (ended)
			hand_on(splitter, function, user);
		start = end;
	}
	return 0;
}

void docker_splitter_done(struct docker_splitter *splitter)
{
	text_done(&splitter->object);
	*splitter = (struct docker_splitter){0};
}
