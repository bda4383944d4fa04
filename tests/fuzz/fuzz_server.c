/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The server of status and metrics on a loop, with the agent's own handler and
 * an agent that knows something: a namespace whose rules stand, and a descriptor
 * of each kind. One client on the same loop sends the input: in two pieces, the
 * first as long as the first byte says, and then it says that this was all.
 * Whatever it was, the server closes in the end; what it said is nothing, or one
 * answer of a status that it knows, as long as it says, and a status or metrics
 * as they should be; the handler was asked once at most, for a path; and the next
 * client is served. Root is needed: the namespace is the fuzzer's own.
 */
#include "dragoman/http/server.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../kernel_lab.h"
#include "dragoman/agent/agent.h"
#include "dragoman/base/log.h"
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
static struct agent *agent;
static void *lab;
static char path[64], file[80];
static size_t calls;

static const char documents[] =
	"{\"/services/web/a\": \"10.0.0.1:7000\","
	" \"/services/web/b\": \"[2001:db8::1]:7000\","
	" \"/services/web/c\": \"\\u001b[31m\\n\","
	" \"/services/tagged/a\":"
	"  {\"ipaddress\": \"10.0.0.2\", \"host_port\": \"1\", \"tags\": [\"\\\"\"], \"weight\": 3}}";

static const char environment[] = "BACKEND_WEB=web;80\0"
				  "BACKEND_SAME=web;80/TCP\0"
				  "BACKEND_ZONE=tagged;80\0"
				  "BACKEND_TAGGED=tagged[\"];53/udp\0"
				  "BACKEND_EMPTY=/nothing/there;81\0"
				  "BACKEND_INVALID=\x1b[31m\xff;0\0"
				  "BACKEND_IGNORED=https://example.org";

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void answer(const char *asked, struct http_reply *reply, void *user)
{
	calls++;
	require(asked != NULL);
	agent_answer(asked, reply, user);
}

static int find_descriptors(struct descriptor_set *set, const struct origin *origin, void *user,
			    struct error *error)
{
	(void)user;
	(void)error;
	return descriptor_set_add_block(set, origin, "BACKEND_", environment, sizeof(environment));
}

static void on_ready(void *user)
{
	loop_stop(user);
}

static void write_documents(void)
{
	FILE *stream = fopen(file, "we");

	require(stream && fputs(documents, stream) >= 0 && fclose(stream) == 0);
}

/* Its rules stand when this returns. */
static void open_agent(const char *url)
{
	static const struct admission admission;
	const struct agent_options options = {
		.registry = {.url = url},
		.root = "/services",
		.env_prefix = "BACKEND_",
		.admission = &admission,
		.allow_host_netns = true,
	};
	struct error error;

	write_documents();
	require(agent_new(loop, &options, &agent, &error) == 0);
	require(agent_add_target(agent, "/proc/thread-self/ns/net", 0, find_descriptors, NULL,
				 &error) == 0);
	agent_on_ready(agent, on_ready, loop);
	require(agent_start(agent, &error) == 0 && loop_run(loop) == 0);
	require(agent_is_ready(agent));
}

static void close_all(void)
{
	server_free(server);
	agent_free(agent);
	loop_free(loop);
	(void)unlink(file);
	(void)lab_end(&lab);
	(void)lab_group_end(NULL);
}

static void open_all(void)
{
	char url[96];

	log_set_level(LOG_ERROR);
	require(lab_group_begin(NULL) == 0 && lab_begin(&lab) == 0);
	(void)snprintf(path, sizeof(path), "/tmp/dragoman-fuzz-%d", (int)getpid());
	(void)snprintf(file, sizeof(file), "%s.json", path);
	(void)snprintf(url, sizeof(url), "file://%s", file);
	require(loop_new(&loop) == 0);
	open_agent(url);
	require(server_new_unix(loop, path, 0600, answer, agent, &server, NULL) == 0);
	require(atexit(close_all) == 0);
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

static void require_status(const char *body)
{
	json_t *status = json_loads(body, 0, NULL);
	const json_t *namespaces = json_object_get(status, "namespaces");

	require(json_array_size(namespaces) == 1);
	require(json_array_size(json_object_get(json_array_get(namespaces, 0), "backends")) == 7);
	json_decref(status);
}

static bool begins_with(const char *line, const char *word)
{
	return strncmp(line, word, strlen(word)) == 0;
}

static void require_metrics(const char *body)
{
	for (const char *line = body; *line; line = strchr(line, '\n') + 1)
		require(strchr(line, '\n') &&
			(begins_with(line, "# ") || begins_with(line, "dragoman_") ||
			 begins_with(line, "process_")));
}

/* What a successful answer carries; that to HEAD carries nothing. */
static void require_body(const char *said)
{
	const char *length = strstr(said, "\r\nContent-Length: "), *body = strstr(said, "\r\n\r\n");

	require(length && body && length < body);
	body += 4;
	if (!*body)
		return;
	require(strlen(body) == strtoul(length + 18, NULL, 10));
	if (strstr(said, "\r\nContent-Type: application/json"))
		require_status(body);
	else if (strstr(said, "; version=0.0.4"))
		require_metrics(body);
	else
		require(strcmp(body, "ok\n") == 0 || strcmp(body, "ready\n") == 0);
}

static void require_answer(const char *said)
{
	static const int known[] = {200, 400, 404, 405, 413, 414, 431, 500, 501, 505};
	int status;

	if (said[0] == '\0')
		return;
	require(sscanf(said, "HTTP/1.%*[01] %d ", &status) == 1);
	if (status == 200)
		require_body(said);
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
		open_all();
	calls = 0;
	if (size == 0)
		return 0;
	said = exchange(data + 1, size - 1, data[0] < size - 1 ? data[0] : size - 1);
	require(calls <= 1);
	require_answer(said);
	calls = 0;
	next = exchange((const uint8_t *)sound, sizeof(sound) - 1, 0);
	require(calls == 1 && strncmp(next, "HTTP/1.1 200 ", 13) == 0);
	require_answer(next);
	return 0;
}
