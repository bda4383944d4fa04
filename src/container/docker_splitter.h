/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_DOCKER_SPLITTER_H
#define DRAGOMAN_CONTAINER_DOCKER_SPLITTER_H

/* Cuts a stream of JSON objects, which comes in chunks cut anywhere, into objects. */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"

/* Zero-initialise. */
struct docker_splitter {
	struct text object; /* what came of it so far */
	size_t depth;       /* of braces */
	size_t length;      /* of what came of it, kept or not */
	bool in_string, escaped, oversize;
};

/*
 * One object, borrowed for the call. length is 0 for one that was longer than
 * the cap, and is lost.
 */
typedef void docker_object_function(const char *object, size_t length, void *user);

/*
 * Feeds a chunk, and calls function for each object that ends in it. Objects
 * longer than max bytes are passed over. Whatever is not an object, and no
 * blank, is an error (-EBADMSG), and so is an object without end (many times
 * max); exhausted memory is -ENOMEM.
 */
int docker_splitter_feed(struct docker_splitter *splitter, const char *data, size_t length,
			 size_t max, docker_object_function *function, void *user,
			 struct error *error);
void docker_splitter_done(struct docker_splitter *splitter);

#endif
