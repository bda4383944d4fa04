/* SPDX-License-Identifier: MIT */
#include "dragoman/http/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "listener.h"

/*
 * Theory of operation
 *
 * libmicrohttpd keeps its sockets in an epoll instance of its own, which is
 * one descriptor to watch for the loop: when it is readable, MHD_run() does
 * all that can be done without waiting. Where it asks for a time
 * (MHD_get_timeout()), a timer calls it again.
 *
 * Its own time limits are of inactivity, and a client that sends a byte now
 * and then would have no end. So each connection has a timer from the moment
 * it was accepted, carries one request ("Connection: close"), and is shut down
 * when the time is over, wherever it stands: MHD_run() finds that out as it
 * does of a client that went away.
 *
 * What arrives together with the end of a client's stream it reads, and not
 * the end: its epoll tells of an edge, which is over then, and a client that is
 * gone would hold its connection until the time is. So after each run we look
 * ourselves whether one that has not asked all of its request has anything
 * more to say.
 *
 * At its limit of connections libmicrohttpd takes the listening socket out of
 * its epoll, and puts it back at the begin of a MHD_run() that finds fewer.
 * Nothing would wake us for that, so the run that brings the number below the
 * limit is followed by another.
 */

struct server {
	struct loop *loop;
	struct loop_source *io, *timer;
	struct MHD_Daemon *daemon;
	http_handler *handler;
	void *user;
	uint64_t timeout;
	LIST_HEAD(, connection) open;
	size_t connections;
	bool run_again;
	char *path;                /* of the Unix socket, or NULL */
	struct file_identity file; /* nothing's, until there is one */
};

struct connection {
	LIST_ENTRY(connection) entry;
	struct loop_source *deadline;
	bool has_asked;
	int fd;
};

/* Whether there is nothing more to come. */
static bool has_ended(const struct connection *connection)
{
	char byte;

	return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void end_those_that_ended(struct server *server)
{
	const struct connection *connection;

	LIST_FOREACH (connection, &server->open, entry) {
		if (!connection->has_asked && has_ended(connection))
			(void)shutdown(connection->fd, SHUT_RDWR);
	}
}

static void run(struct server *server)
{
	MHD_UNSIGNED_LONG_LONG wait;
	uint64_t when = UINT64_MAX;

	do {
		server->run_again = false;
		(void)MHD_run(server->daemon);
	} while (server->run_again);
	end_those_that_ended(server);
	if (MHD_get_timeout(server->daemon, &wait) == MHD_YES)
		when = loop_now(server->loop) + (uint64_t)wait * 1000000;
	loop_source_arm(server->timer, when);
}

static void on_io(struct loop_source *source, int fd, unsigned events, void *user)
{
	(void)source;
	(void)fd;
	(void)events;
	run(user);
}

static void on_timer(struct loop_source *source, void *user)
{
	(void)source;
	run(user);
}

static void on_deadline(struct loop_source *source, void *user)
{
	const struct connection *connection = user;

	(void)source;
	log_debug("http server: a client was too slow");
	(void)shutdown(connection->fd, SHUT_RDWR);
}

static struct connection *connection_new(struct server *server, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (connection && loop_add_timer(server->loop, "http server connection",
					 loop_now(server->loop) + server->timeout, on_deadline,
					 connection, &connection->deadline) < 0) {
		free(connection);
		connection = NULL;
	}
	/* Without a limit it must not live, and only the client's end of it can be closed here. */
	if (!connection) {
		(void)shutdown(fd, SHUT_RDWR);
		return NULL;
	}
	connection->fd = fd;
	LIST_INSERT_HEAD(&server->open, connection, entry);
	return connection;
}

static void connection_free(struct connection *connection)
{
	if (!connection)
		return;
	LIST_REMOVE(connection, entry);
	loop_source_free(connection->deadline);
	free(connection);
}

/* MHD_NotifyConnectionCallback */
static void on_connection(void *user, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	struct server *server = user;
	const union MHD_ConnectionInfo *info;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		server->connections++;
		info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		*context = connection_new(server, info->connect_fd);
		return;
	}
	if (server->connections-- == SERVER_CONNECTION_MAX)
		server->run_again = true;
	connection_free(*context);
	*context = NULL;
}

static bool has_body(struct MHD_Connection *connection)
{
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	return (length && strcmp(length, "0") != 0) ||
	       MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
					   MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static void refuse(struct http_reply *reply, unsigned status, const char *line)
{
	text_done(&reply->body);
	*reply = (struct http_reply){.status = status, .type = "text/plain; charset=utf-8"};
	text_puts(&reply->body, line);
}

static void make_reply(const struct server *server, struct MHD_Connection *connection,
		       const char *path, const char *method, struct http_reply *reply)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		refuse(reply, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
		return;
	}
	if (has_body(connection)) {
		refuse(reply, MHD_HTTP_CONTENT_TOO_LARGE, "a request has no body here\n");
		return;
	}
	refuse(reply, MHD_HTTP_NOT_FOUND, "");
	server->handler(path, reply, server->user);
	if (reply->body.failed)
		refuse(reply, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	else if (reply->status == MHD_HTTP_NOT_FOUND && reply->body.length == 0)
		refuse(reply, MHD_HTTP_NOT_FOUND, "not found\n");
}

static bool set_headers(struct MHD_Response *response, const struct http_reply *reply)
{
	return MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type) ==
		       MHD_YES &&
	       MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES &&
	       MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") ==
		       MHD_YES &&
	       (reply->status != MHD_HTTP_METHOD_NOT_ALLOWED ||
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES);
}

/* Takes the reply's body. MHD_NO closes the connection. */
static enum MHD_Result send_reply(struct MHD_Connection *connection, struct http_reply *reply)
{
	enum MHD_Result result = MHD_NO;
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer(reply->body.length, reply->body.data,
						   MHD_RESPMEM_MUST_FREE);
	if (!response) {
		text_done(&reply->body);
		return MHD_NO;
	}
	reply->body = (struct text){0};
	if (set_headers(response, reply))
		result = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return result;
}

/* MHD_AccessHandlerCallback: called first when the headers are there, and answered then. */
static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_length, void **context)
{
	const union MHD_ConnectionInfo *info;
	struct http_reply reply = {0};
	struct connection *asking;

	(void)version;
	(void)upload;
	(void)upload_length;
	(void)context;
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	asking = info ? info->socket_context : NULL;
	if (asking)
		asking->has_asked = true;
	make_reply(user, connection, url, method, &reply);
	return send_reply(connection, &reply);
}

/* MHD_LogCallback: of what clients do wrong, mostly. */
__attribute__((format(printf, 2, 0))) static void on_log(void *user, const char *format,
							 va_list arguments)
{
	char message[ERROR_MESSAGE_MAX], printable[ERROR_MESSAGE_MAX];

	(void)user;
	if (!log_enabled(LOG_DEBUG))
		return;
	(void)text_format_list(message, sizeof(message), format, arguments);
	message[strcspn(message, "\n")] = '\0';
	log_debug("http server: %s",
		  text_printable(printable, sizeof(printable), message, strlen(message)));
}

/* Takes fd in any case. */
static int start_daemon(struct server *server, int fd)
{
	const struct MHD_OptionItem options[] = {
		{MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
		{MHD_OPTION_LISTEN_SOCKET, fd, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, SERVER_CONNECTION_MAX, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, SERVER_MEMORY_MAX, NULL},
		{MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, server},
		{MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	const union MHD_DaemonInfo *info;

	server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL,
					  on_request, server, MHD_OPTION_ARRAY, options,
					  MHD_OPTION_END);
	if (!server->daemon) {
		fd_close(&fd);
		return -EIO;
	}
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	return loop_add_io(server->loop, "http server", info->epoll_fd, LOOP_READ, on_io, server,
			   &server->io);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	if (server->path)
		listener_unlink(server->path, &server->file);
	loop_source_free(server->io);
	if (server->daemon)
		MHD_stop_daemon(server->daemon);
	loop_source_free(server->timer);
	free(server->path);
	free(server);
}

static void server_freep(struct server **server)
{
	server_free(*server);
}

static struct server *server_new(struct loop *loop, http_handler *handler, void *user)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->loop = loop;
	server->timeout = SERVER_TIMEOUT;
	LIST_INIT(&server->open);
	server->handler = handler;
	server->user = user;
	return server;
}

/* Takes fd in any case; name is what it listens on, for messages. */
static int server_start(struct server *server, const char *name, int fd, struct error *error)
{
	char quoted[ERROR_MESSAGE_MAX / 2];
	int code = loop_add_timer(server->loop, "http server timer", UINT64_MAX, on_timer, server,
				  &server->timer);

	if (code < 0)
		fd_close(&fd);
	else
		code = start_daemon(server, fd);
	if (code == 0)
		return 0;
	text_printable(quoted, sizeof(quoted), name, strlen(name));
	return error_set(error, code, error_class_of(code),
			 "%s: the HTTP server cannot be started: %s", quoted, strerror(-code));
}

int server_new_unix(struct loop *loop, const char *path, mode_t mode, http_handler *handler,
		    void *user, struct server **ret, struct error *error)
{
	CLEANUP(server_freep) struct server *server = server_new(loop, handler, user);
	int fd, code;

	if (!server || !(server->path = strdup(path)))
		return error_no_memory(error);
	code = listener_open_unix(path, mode, &server->file, &fd, error);
	if (code == 0)
		code = server_start(server, path, fd, error);
	if (code < 0)
		return code;
	*ret = TAKE(server);
	return 0;
}

int server_new_tcp(struct loop *loop, const char *address, http_handler *handler, void *user,
		   struct server **ret, struct error *error)
{
	CLEANUP(server_freep) struct server *server = server_new(loop, handler, user);
	int fd, code;

	if (!server)
		return error_no_memory(error);
	code = listener_open_tcp(address, &fd, error);
	if (code == 0)
		code = server_start(server, address, fd, error);
	if (code < 0)
		return code;
	*ret = TAKE(server);
	return 0;
}

void server_set_timeout(struct server *server, uint64_t nanoseconds)
{
	server->timeout = nanoseconds;
}
