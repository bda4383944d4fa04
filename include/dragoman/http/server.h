/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_SERVER_H
#define DRAGOMAN_HTTP_SERVER_H

/*
 * A small HTTP server on the loop: libmicrohttpd
 * (https://www.gnu.org/software/libmicrohttpd/) without its threads. For
 * documents that are made when they are asked for, on a Unix socket, or on a
 * TCP port without any guard.
 *
 * GET and HEAD only (405 to all else), no bodies of requests (413). Each
 * connection carries one request. Whatever a client does costs at most one of
 * SERVER_CONNECTION_MAX connections, SERVER_MEMORY_MAX bytes for its request
 * (414, 431) and SERVER_TIMEOUT from its start to its end; clients beyond that
 * number wait to be accepted.
 */

#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"

enum { SERVER_CONNECTION_MAX = 32, SERVER_MEMORY_MAX = 32 * 1024 };
#define SERVER_TIMEOUT UINT64_C(10000000000) /* nanoseconds */

struct server;

/* As the handler finds it: 404, with a line of text/plain. */
struct http_reply {
	unsigned status;
	const char *type; /* Content-Type; string literals are meant */
	struct text body; /* becomes the server's; where it has failed: 500 */
};

/*
 * Fills the reply to a request for path, which is decoded, without the query,
 * and borrowed for the call. Paths that the handler does not know it leaves
 * alone. It must not free the server.
 */
typedef void http_handler(const char *path, struct http_reply *reply, void *user);

/*
 * Listens on a Unix socket at path. Its mode is right before anybody can
 * connect. The directory it is in is made, with mode 0755, where there is
 * none. A socket that nobody listens to any more is replaced; of two that do
 * this at the same moment both may come out well, so that whoever must be the
 * only one needs a lock. The server is freed before its loop. Returns 0, or
 * with error set:
 *
 *   -ENAMETOOLONG ERROR_INVALID  the path is empty, or too long for a socket
 *   -EEXIST       ERROR_INVALID  there is something else than a socket
 *   -EADDRINUSE   ERROR_FATAL    somebody answers there
 *   -ENOMEM, or another -errno of mkdir(2), unlink(2), bind(2), listen(2)
 */
int server_new_unix(struct loop *loop, const char *path, mode_t mode, http_handler *handler,
		    void *user, struct server **ret, struct error *error);

/*
 * Listens on a TCP port, address being "ADDR:PORT" or "[ADDR]:PORT" with an IP
 * literal. Returns 0, or with error set -EINVAL (ERROR_INVALID: no such
 * address), -ENOMEM, or an -errno of bind(2) or listen(2).
 */
int server_new_tcp(struct loop *loop, const char *address, http_handler *handler, void *user,
		   struct server **ret, struct error *error);

/* Whether these can be listened on at all. Return 0, -ENAMETOOLONG or -EINVAL, as above. */
int server_check_unix(const char *path, struct error *error);
int server_check_tcp(const char *address, struct error *error);

/* Another time limit than SERVER_TIMEOUT, for connections that begin from now on. */
void server_set_timeout(struct server *server, uint64_t nanoseconds);

/*
 * Closes all connections, and removes the Unix socket if it is still the one
 * that was made. NULL is fine.
 */
void server_free(struct server *server);

#endif
