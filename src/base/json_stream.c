/* SPDX-License-Identifier: MIT */
#include "dragoman/base/json_stream.h"

#include <errno.h>

/*
 * Theory of operation
 *
 * Between objects the depth is 0 and nothing is kept. From its opening brace
 * on an object's bytes are looked at one by one, since strings hold braces and
 * escapes hold quotes, and kept in runs.
 */

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static void look_at(struct json_stream *stream, char byte)
{
	if (stream->escaped)
		stream->escaped = false;
	else if (stream->in_string && byte == '\\')
		stream->escaped = true;
	else if (byte == '"')
		stream->in_string = !stream->in_string;
	else if (!stream->in_string && (byte == '{' || byte == '['))
		stream->depth++;
	else if (!stream->in_string && (byte == '}' || byte == ']'))
		stream->depth--;
}

/* How many bytes stand before the next object, or -EBADMSG. */
static int skip_blanks(const char *data, size_t length, size_t *ret)
{
	size_t skipped = 0;

	while (skipped < length && is_blank(data[skipped]))
		skipped++;
	*ret = skipped;
	return skipped == length || data[skipped] == '{' ? 0 : -EBADMSG;
}

static int keep(struct json_stream *stream, const char *data, size_t length)
{
	if (length > stream->max - stream->object.length)
		return -EFBIG;
	text_add(&stream->object, data, length);
	return stream->object.failed ? -ENOMEM : 0;
}

int json_stream_next(struct json_stream *stream, const char **data, size_t *length)
{
	size_t used = 0, skipped = 0;
	int code = 0;

	if (stream->whole)
		json_stream_done(stream);
	if (stream->depth == 0)
		code = skip_blanks(*data, *length, &skipped);
	*data += skipped;
	*length -= skipped;
	if (code < 0 || *length == 0)
		return code;
	do
		look_at(stream, (*data)[used++]);
	while (stream->depth > 0 && used < *length);
	code = keep(stream, *data, used);
	*data += used;
	*length -= used;
	if (code < 0)
		return code;
	stream->whole = stream->depth == 0;
	return stream->whole;
}

void json_stream_done(struct json_stream *stream)
{
	const size_t max = stream->max;

	text_done(&stream->object);
	*stream = (struct json_stream){.max = max};
}
