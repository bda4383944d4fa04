/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_HTTP_SERVER_H
#define DRAGOMAN_TESTS_HTTP_SERVER_H

/*
 * An HTTP server for tests, on the test's own loop: each whole request goes to
 * a function, and the bytes that it gives go out as they stand. It may so be
 * as wrong as a test needs it.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"

struct http_server;

/*
 * Writes the answer to a request (head and body, NUL-terminated). Where it
 * writes nothing the client waits for ever. Returns whether the connection is
 * kept.
 */
typedef bool http_server_function(struct http_server *server, const char *request,
				  struct text *answer, void *user);

/* On a free port of 127.0.0.1. Ends the test where it cannot be. */
struct http_server *http_server_new(struct loop *loop, http_server_function *function, void *user);
/* On a Unix socket at that path, which must not be there; it is removed at the end. */
struct http_server *http_server_new_unix(struct loop *loop, const char *path,
					 http_server_function *function, void *user);
void http_server_free(struct http_server *server);

/* A connection, for answers that go on after the function of the request is back. */
struct http_connection;

/* The one whose function runs. It stands until it is closed from either side. */
struct http_connection *http_server_connection(const struct http_server *server);
void http_connection_send(struct http_connection *connection, const char *data, size_t length);
void http_connection_close(struct http_connection *connection);

/*
 * A request with a chunked body goes to the server's function as soon as its
 * head is there; each chunk of the body then goes to `on_chunk`. `on_close`
 * tells of connections that go, whoever closed them. Both may be NULL.
 */
struct http_server_functions {
	void (*on_chunk)(struct http_connection *connection, const char *chunk, void *user);
	void (*on_close)(struct http_connection *connection, void *user);
};
void http_server_set_functions(struct http_server *server,
			       const struct http_server_functions *functions);

/* "127.0.0.1:PORT", or the path of a Unix socket. */
const char *http_server_address(const struct http_server *server);

/* Requests that came so far. */
size_t http_server_count(const struct http_server *server);

/* Writes a whole answer: "HTTP/1.1 STATUS", a Content-Length, the body. */
void http_server_answer(struct text *answer, const char *status, const char *body);

#endif
