/* SPDX-License-Identifier: MIT */
#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

/*
 * Requests are small and answers fit into the socket's buffer: a connection
 * reads until a request is whole, and writes its answer at once.
 */

struct connection {
	struct http_server *server;
	LIST_ENTRY(connection) entry;
	struct loop_source *source;
	struct text request;
	int fd;
};

struct http_server {
	struct loop *loop;
	struct loop_source *source;
	LIST_HEAD(, connection) connections;
	http_server_function *function;
	void *user;
	size_t count;
	int fd;
	char address[32];
};

/* Unlike assert(), never compiled out: it has effects. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

static void connection_free(struct connection *connection)
{
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

static void on_request(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct connection *connection = user;
	struct http_server *server = connection->server;
	CLEANUP(text_done) struct text answer = {0};
	char chunk[65536];
	ssize_t length = read(fd, chunk, sizeof(chunk));
	bool kept;

	(void)source;
	(void)events;
	if (length <= 0) {
		connection_free(connection);
		return;
	}
	text_add(&connection->request, chunk, (size_t)length);
	if (!request_is_whole(&connection->request))
		return;
	server->count++;
	kept = server->function(server, connection->request.data, &answer, server->user);
	text_done(&connection->request);
	if (answer.length > 0 &&
	    send(fd, answer.data, answer.length, MSG_NOSIGNAL) != (ssize_t)answer.length)
		kept = false;
	if (!kept)
		connection_free(connection);
}

static void on_connection(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct http_server *server = user;
	struct connection *connection = calloc(1, sizeof(*connection));

	(void)source;
	(void)events;
	must(connection != NULL);
	connection->server = server;
	connection->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	must(connection->fd >= 0);
	LIST_INSERT_HEAD(&server->connections, connection, entry);
	must(loop_add_io(server->loop, "test connection", connection->fd, LOOP_READ, on_request,
			 connection, &connection->source) == 0);
}

struct http_server *http_server_new(struct loop *loop, http_server_function *function, void *user)
{
	struct http_server *server = calloc(1, sizeof(*server));
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	must(server != NULL);
	server->loop = loop;
	server->function = function;
	server->user = user;
	LIST_INIT(&server->connections);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(server->fd >= 0);
	must(bind(server->fd, (struct sockaddr *)&address, length) == 0);
	must(getsockname(server->fd, (struct sockaddr *)&address, &length) == 0);
	must(listen(server->fd, 64) == 0);
	(void)snprintf(server->address, sizeof(server->address), "127.0.0.1:%u",
		       ntohs(address.sin_port));
	must(loop_add_io(loop, "test server", server->fd, LOOP_READ, on_connection, server,
			 &server->source) == 0);
	return server;
}

void http_server_free(struct http_server *server)
{
	struct connection *connection, *next;

	if (!server)
		return;
	for (connection = LIST_FIRST(&server->connections); connection; connection = next) {
		next = LIST_NEXT(connection, entry);
		connection_free(connection);
	}
	loop_source_free(server->source);
	fd_close(&server->fd);
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
