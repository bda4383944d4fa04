/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one request to the agent's socket, on a loop that lives
 * as long. That there is no agent to ask is what people run into most, and
 * libcurl tells the ways of it apart in words alone; so the socket is then
 * connected to once more, for the errno.
 */
#include "ask.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/loop.h"
#include "dragoman/base/memory.h"
#include "dragoman/http/http.h"

enum { ANSWER_MAX = 256 * 1024 * 1024, NAME_MAX_SHOWN = 160 };

struct question {
	struct loop *loop;
	const char *socket;
	uint64_t timeout;
	char name[NAME_MAX_SHOWN]; /* of the socket; printable */
	struct text *answer;
	struct error error;
};

static void client_freep(struct http_client **client)
{
	http_client_free(*client);
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *error, void *user)
{
	struct question *question = user;

	(void)request;
	if (error)
		question->error = *error;
	else if (answer->status != 200)
		error_set(&question->error, -EIO, ERROR_TRANSIENT,
			  "%s: the answer is HTTP status %ld: is this the socket of an agent?",
			  question->name, answer->status);
	else
		text_add(question->answer, answer->body, answer->length);
	loop_stop(question->loop);
}

/* 0, or -errno of connecting to the socket. */
static int try_to_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	CLEANUP(fd_close) int fd = -1;
	struct stat status;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	if (stat(path, &status) < 0)
		return -errno;
	/* connect(2) would have it refused. */
	if (!S_ISSOCK(status.st_mode))
		return -ENOTSOCK;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return 0;
}

/* Puts what helps in place of what libcurl has to say of a connection that failed. */
static void explain(const struct question *question, struct error *error)
{
	int code = try_to_connect(question->socket);
	const char *help = NULL;

	switch (code) {
	case -ENOENT:
	case -ENOTDIR:
		help = "no agent runs here (dragoman run), or its socket is elsewhere (--socket)";
		break;
	case -ECONNREFUSED:
		help = "the agent that made this socket is gone: start it again (dragoman run)";
		break;
	case -EACCES:
	case -EPERM:
		help = "run this as root, or as a member of the group that the socket belongs to";
		break;
	case -ENOTSOCK:
	case -ENAMETOOLONG:
		help = "name the agent's socket with --socket";
		break;
	default:
		return;
	}
	error_set(error, code, error_class_of(code), "%s: %s: %s", question->name, strerror(-code),
		  help);
}

static int ask(struct question *question, struct error *error)
{
	const struct http_call call = {
		.name = question->name,
		/* Any host will do: the connection goes to the socket. */
		.url = "http://dragoman/status",
		.unix_socket = question->socket,
		.answer_max = ANSWER_MAX,
		.timeout = question->timeout,
		.on_done = on_done,
		.user_data = question,
	};
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(client_freep) struct http_client *client = NULL;
	struct http_request *request;
	int code = loop_new(&loop);

	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	question->loop = loop;
	if ((code = http_client_new(loop, NULL, &client, error)) < 0 ||
	    (code = http_start(client, &call, &request, error)) < 0)
		return code;
	code = loop_run(loop);
	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	*error = question->error;
	if (error->code == -ECONNREFUSED)
		explain(question, error);
	return error->code;
}

int agent_ask(const char *socket, uint64_t timeout, struct text *ret, struct error *error)
{
	struct question question = {.socket = socket, .timeout = timeout, .answer = ret};

	text_printable(question.name, sizeof(question.name), socket, strlen(socket));
	if (ask(&question, error) < 0)
		return error->code;
	return ret->failed ? error_no_memory(error) : 0;
}
