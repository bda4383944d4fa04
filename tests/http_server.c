/* SPDX-License-Identifier: MIT */
#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

/*
 * Requests are small and answers fit into the socket's buffer: a connection
 * reads until a request is whole, and writes its answer at once. Where the
 * request has a chunked body, all that comes in later is chunks of it.
 */

struct http_connection {
	struct http_server *server;
	LIST_ENTRY(http_connection) entry;
	struct loop_source *source;
	struct text request;
	bool chunked;
	bool taking, closed; /* in take_chunks(), which frees it then */
	int fd;
};

struct http_server {
	struct loop *loop;
	struct loop_source *source;
	LIST_HEAD(, http_connection) connections;
	http_server_function *function;
	void *user;
	struct http_server_functions functions;
	struct http_connection *called;
	size_t count;
	int fd;
	char address[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool is_unix;
};

/* What who waits with a body is told. */
static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* Unlike assert(), never compiled out: it has effects. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

static void connection_free(struct http_connection *connection)
{
	const struct http_server *server = connection->server;

	if (server->functions.on_close && !connection->closed)
		server->functions.on_close(connection, server->user);
	connection->closed = true;
	if (connection->taking)
		return;
	LIST_REMOVE(connection, entry);
	loop_source_free(connection->source);
	fd_close(&connection->fd);
	text_done(&connection->request);
	free(connection);
}

static bool request_is_whole(const struct text *request)
{
	const char *end = request->data ? strstr(request->data, "\r\n\r\n") : NULL;
	const char *length = request->data ? strstr(request->data, "Content-Length: ") : NULL;
	size_t body = length ? strtoul(length + strlen("Content-Length: "), NULL, 10) : 0;

	return end && request->length >= (size_t)(end - request->data) + 4 + body;
}

static void request_drop(struct text *request, size_t length)
{
	struct text rest = {0};

	text_add(&rest, request->data + length, request->length - length);
	text_done(request);
	*request = rest;
}

/* Returns whether there was a whole chunk. */
static bool take_chunk(struct http_connection *connection)
{
	const struct http_server *server = connection->server;
	struct text *request = &connection->request;
	CLEANUP(memory_free) char *chunk = NULL;
	char *end = NULL;
	size_t size = request->length ? strtoul(request->data, &end, 16) : 0;

	if (!end || request->length < (size_t)(end - request->data) + 2 + size + 2)
		return false;
	chunk = strndup(end + 2, size);
	must(chunk != NULL);
	request_drop(request, (size_t)(end - request->data) + 2 + size + 2);
	if (server->functions.on_chunk)
		server->functions.on_chunk(connection, chunk, server->user);
	return true;
}

static void take_chunks(struct http_connection *connection)
{
	connection->taking = true;
	while (!connection->closed && take_chunk(connection))
		;
	connection->taking = false;
	if (connection->closed)
		connection_free(connection);
}

static void take_request(struct http_connection *connection)
{
	struct http_server *server = connection->server;
	CLEANUP(text_done) struct text answer = {0};
	const char *head = connection->request.data;
	bool chunked = strstr(head, "Transfer-Encoding: chunked") != NULL, kept;

	server->count++;
	if (strstr(head, "Expect: 100-continue"))
		http_connection_send(connection, go_on, strlen(go_on));
	server->called = connection;
	kept = server->function(server, head, &answer, server->user);
	server->called = NULL;
	if (chunked)
		request_drop(&connection->request, (size_t)(strstr(head, "\r\n\r\n") - head) + 4);
	else
		text_done(&connection->request);
	connection->chunked = chunked;
	if (answer.length > 0 && send(connection->fd, answer.data, answer.length, MSG_NOSIGNAL) !=
					 (ssize_t)answer.length)
		kept = false;
	if (!kept)
		connection_free(connection);
	else if (chunked)
		take_chunks(connection);
}

static void on_request(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct http_connection *connection = user;
	char piece[65536];
	ssize_t length = read(fd, piece, sizeof(piece));

	(void)source;
	(void)events;
	if (length <= 0) {
		connection_free(connection);
		return;
	}
	text_add(&connection->request, piece, (size_t)length);
	if (connection->chunked)
		take_chunks(connection);
	else if (request_is_whole(&connection->request))
		take_request(connection);
}

struct http_connection *http_server_connection(const struct http_server *server)
{
	return server->called;
}

void http_connection_send(struct http_connection *connection, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(connection->fd, data, length, MSG_NOSIGNAL);

		must(sent > 0);
		data += sent;
		length -= (size_t)sent;
	}
}

void http_connection_close(struct http_connection *connection)
{
	connection_free(connection);
}

void http_server_set_functions(struct http_server *server,
			       const struct http_server_functions *functions)
{
	server->functions = *functions;
}

static void on_connection(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct http_server *server = user;
	struct http_connection *connection = calloc(1, sizeof(*connection));

	(void)source;
	(void)events;
	must(connection != NULL);
	connection->server = server;
	connection->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	must(connection->fd >= 0);
	/* Or of two small answers the second waits for 40 ms; a Unix socket has no such thing. */
	(void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	LIST_INSERT_HEAD(&server->connections, connection, entry);
	must(loop_add_io(server->loop, "test connection", connection->fd, LOOP_READ, on_request,
			 connection, &connection->source) == 0);
}

static struct http_server *server_new(struct loop *loop, int family, http_server_function *function,
				      void *user)
{
	struct http_server *server = calloc(1, sizeof(*server));

	must(server != NULL);
	server->loop = loop;
	server->function = function;
	server->user = user;
	LIST_INIT(&server->connections);
	server->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(server->fd >= 0);
	return server;
}

static void server_listen(struct http_server *server)
{
	must(listen(server->fd, 64) == 0);
	must(loop_add_io(server->loop, "test server", server->fd, LOOP_READ, on_connection, server,
			 &server->source) == 0);
}

struct http_server *http_server_new(struct loop *loop, http_server_function *function, void *user)
{
	struct http_server *server = server_new(loop, AF_INET, function, user);
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	must(bind(server->fd, (struct sockaddr *)&address, length) == 0);
	must(getsockname(server->fd, (struct sockaddr *)&address, &length) == 0);
	(void)snprintf(server->address, sizeof(server->address), "127.0.0.1:%u",
		       ntohs(address.sin_port));
	server_listen(server);
	return server;
}

struct http_server *http_server_new_unix(struct loop *loop, const char *path,
					 http_server_function *function, void *user)
{
	struct http_server *server = server_new(loop, AF_UNIX, function, user);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	server->is_unix = true;
	must(strlen(path) < sizeof(address.sun_path));
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	(void)snprintf(server->address, sizeof(server->address), "%s", path);
	must(bind(server->fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	server_listen(server);
	return server;
}

void http_server_free(struct http_server *server)
{
	struct http_connection *connection, *next;

	if (!server)
		return;
	for (connection = LIST_FIRST(&server->connections); connection; connection = next) {
		next = LIST_NEXT(connection, entry);
		connection_free(connection);
	}
	loop_source_free(server->source);
	fd_close(&server->fd);
	if (server->is_unix)
		(void)unlink(server->address);
	free(server);
}

const char *http_server_address(const struct http_server *server)
{
	return server->address;
}

size_t http_server_count(const struct http_server *server)
{
	return server->count;
}

void http_server_answer(struct text *answer, const char *status, const char *body)
{
	text_printf(answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(body),
		    body);
}
