/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_JSON_STREAM_H
#define DRAGOMAN_BASE_JSON_STREAM_H

/*
 * Cuts a stream of JSON objects (RFC 8259), which come one behind the other
 * with white space or nothing between them, in pieces cut anywhere, into whole
 * objects. Only brackets and strings are looked at: what is cut out may still
 * be no JSON, which is for its parser to say.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/text.h"

/* Set max, and leave the rest zero. */
struct json_stream {
	size_t max; /* bytes of one object */
	struct text object;
	size_t depth;
	bool whole, in_string, escaped;
};

/*
 * Takes bytes from *data until an object is whole, moving *data and *length
 * on. Returns 1 when stream->object holds a whole one, which stands until the
 * next call; 0 when all bytes were taken; -EBADMSG when something stands
 * between objects, -EFBIG when one is longer than max, or -ENOMEM. After an
 * error the stream is of no further use.
 */
int json_stream_next(struct json_stream *stream, const char **data, size_t *length);

/* Forgets what came in; usable with CLEANUP, and for another stream then. */
void json_stream_done(struct json_stream *stream);

#endif
