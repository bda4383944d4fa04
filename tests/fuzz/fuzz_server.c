/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The server of status and metrics on a loop, and one client on it that sends
 * the input: in two pieces, the first as long as the first byte says, and then
 * it says that this was all. Whatever it was, the server closes in the end; what
 * it said is nothing, or one answer of a status that it knows; the handler was
 * asked once at most, for a path; and the next client is served.
 */
#include "dragoman/http/server.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
	struct loop *loop;
	struct loop_source *source;
	const uint8_t *data;
	size_t pause, size, sent;
	struct text received;
	int fd;
};

static struct loop *loop;
static struct server *server;
static char path[64];
static size_t calls;

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void answer(const char *asked, struct http_reply *reply, void *user)
{
	(void)user;
	calls++;
	require(asked != NULL);
	if (strcmp(asked, "/status") != 0)
		return;
	reply->status = 200;
	reply->type = "application/json";
	text_puts(&reply->body, "{}\n");
}

static void close_server(void)
{
	server_free(server);
	loop_free(loop);
}

static void open_server(void)
{
	(void)snprintf(path, sizeof(path), "/tmp/dragoman-fuzz-%d", (int)getpid());
	require(loop_new(&loop) == 0);
	require(server_new_unix(loop, path, 0600, answer, NULL, &server, NULL) == 0);
	require(atexit(close_server) == 0);
}

static void client_write(struct client *client)
{
	size_t until = client->sent < client->pause ? client->pause : client->size;
	ssize_t length = send(client->fd, client->data + client->sent, until - client->sent,
			      MSG_NOSIGNAL | MSG_DONTWAIT);

	if (length > 0)
		client->sent += (size_t)length;
	if ((length < 0 && errno != EAGAIN) || client->sent == client->size) {
		(void)shutdown(client->fd, SHUT_WR);
		require(loop_source_set_events(client->source, LOOP_READ) == 0);
	}
}

static void on_client(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct client *client = user;
	char piece[4096];
	ssize_t length;

	(void)source;
	if (events & LOOP_WRITE && !(events & LOOP_HANGUP)) {
		client_write(client);
		return;
	}
	length = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
	if (length > 0)
		text_add(&client->received, piece, (size_t)length);
	else if (length == 0 || errno != EAGAIN)
		loop_stop(client->loop);
}

/* Returns what the server said, terminated. */
static char *exchange(const uint8_t *data, size_t size, size_t pause)
{
	struct client client = {.loop = loop, .data = data, .size = size, .pause = pause};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(client.fd >= 0 &&
		connect(client.fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	require(loop_add_io(loop, "client", client.fd, LOOP_WRITE, on_client, &client,
			    &client.source) == 0);
	require(loop_run(loop) == 0);
	loop_source_free(client.source);
	(void)close(client.fd);
	text_add(&client.received, "", 1);
	require(client.received.data != NULL);
	return client.received.data;
}

static void require_answer(const char *said)
{
	static const int known[] = {200, 400, 404, 405, 413, 414, 431, 500, 501, 505};
	int status;

	if (said[0] == '\0')
		return;
	require(sscanf(said, "HTTP/1.%*[01] %d ", &status) == 1);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (status == known[i])
			return;
	}
	(void)fprintf(stderr, "status %d\n", status);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char sound[] = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
	CLEANUP(memory_free) char *said = NULL, *next = NULL;

	if (!server)
		open_server();
	calls = 0;
	if (size == 0)
		return 0;
	said = exchange(data + 1, size - 1, data[0] < size - 1 ? data[0] : size - 1);
	require(calls <= 1);
	require_answer(said);
	calls = 0;
	next = exchange((const uint8_t *)sound, sizeof(sound) - 1, 0);
	require(calls == 1 && strncmp(next, "HTTP/1.1 200 ", 13) == 0);
	return 0;
}
