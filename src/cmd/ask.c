/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one request to the agent's socket at a time. That there
 * is no agent to ask is what people run into most, and libcurl tells the ways
 * of it apart in words alone; so the socket is then connected to once more, for
 * the errno. Who asks just once waits for it on a loop that lives as long.
 */
#include "ask.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/loop.h"
#include "dragoman/base/memory.h"
#include "dragoman/http/http.h"

enum { ANSWER_MAX = 256 * 1024 * 1024, NAME_MAX_SHOWN = 160 };

struct agent_line {
	struct loop *loop;
	struct http_client *client;
	const char *socket;
	uint64_t timeout;
	char name[NAME_MAX_SHOWN]; /* of the socket; printable */
	agent_answer_function *function;
	void *user;
};

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

/* Whose members may ask: where the group has a name that says more than root's. */
static void explain_access(const struct agent_line *line, int code, struct error *error)
{
	const struct group *group = NULL;
	struct stat status;
	char name[64] = "that the socket belongs to";

	if (stat(line->socket, &status) == 0 && status.st_gid != 0)
		group = getgrgid(status.st_gid);
	if (group)
		text_printable(name, sizeof(name), group->gr_name, strlen(group->gr_name));
	error_set(error, code, error_class_of(code),
		  "%s: %s: run this as root, or as a member of the group %s", line->name,
		  strerror(-code), name);
}

/* Puts what helps in place of what libcurl has to say of a connection that failed. */
static void explain(const struct agent_line *line, struct error *error)
{
	int code = try_to_connect(line->socket);
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
		explain_access(line, code, error);
		return;
	case -ENOTSOCK:
	case -ENAMETOOLONG:
		help = "name the agent's socket with --socket";
		break;
	default:
		return;
	}
	error_set(error, code, error_class_of(code), "%s: %s: %s", line->name, strerror(-code),
		  help);
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *failure, void *user)
{
	struct agent_line *line = user;
	CLEANUP(text_done) struct text text = {0};
	struct error error = {0};

	(void)request;
	if (failure)
		error = *failure;
	else if (answer->status != 200)
		error_set(&error, -EIO, ERROR_TRANSIENT,
			  "%s: the answer is HTTP status %ld: is this the socket of an agent?",
			  line->name, answer->status);
	else
		text_add(&text, answer->body, answer->length);
	if (error.code == -ECONNREFUSED)
		explain(line, &error);
	if (text.failed)
		error_no_memory(&error);
	line->function(&text, error.code ? &error : NULL, line->user);
}

int agent_line_new(struct loop *loop, const char *socket, uint64_t timeout,
		   agent_answer_function *function, void *user, struct agent_line **ret,
		   struct error *error)
{
	struct agent_line *line = calloc(1, sizeof(*line));
	int code;

	if (!line) {
		(void)error_no_memory(error);
		return -ENOMEM;
	}
	*line = (struct agent_line){.loop = loop,
				    .socket = socket,
				    .timeout = timeout,
				    .function = function,
				    .user = user};
	text_printable(line->name, sizeof(line->name), socket, strlen(socket));
	code = http_client_new(loop, NULL, &line->client, error);
	if (code < 0)
		free(line);
	else
		*ret = line;
	return code;
}

int agent_line_ask(struct agent_line *line, struct error *error)
{
	const struct http_call call = {
		.name = line->name,
		/* Any host will do: the connection goes to the socket. */
		.url = "http://dragoman/status",
		.unix_socket = line->socket,
		.answer_max = ANSWER_MAX,
		.timeout = line->timeout,
		.on_done = on_done,
		.user_data = line,
	};
	struct http_request *request;

	return http_start(line->client, &call, &request, error);
}

void agent_line_free(struct agent_line *line)
{
	if (!line)
		return;
	http_client_free(line->client);
	free(line);
}

static void line_freep(struct agent_line **line)
{
	agent_line_free(*line);
}

/* One question, waited for. */
struct question {
	struct loop *loop;
	struct text *answer;
	struct error error;
};

static void on_answer(const struct text *answer, const struct error *error, void *user)
{
	struct question *question = user;

	if (error)
		question->error = *error;
	else
		text_add(question->answer, answer->data ? answer->data : "", answer->length);
	loop_stop(question->loop);
}

int agent_ask(const char *socket, uint64_t timeout, struct text *ret, struct error *error)
{
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(line_freep) struct agent_line *line = NULL;
	struct question question = {.answer = ret};
	int code = loop_new(&loop);

	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	question.loop = loop;
	if ((code = agent_line_new(loop, socket, timeout, on_answer, &question, &line, error)) <
		    0 ||
	    (code = agent_line_ask(line, error)) < 0)
		return code;
	code = loop_run(loop);
	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	if (question.error.code)
		*error = question.error;
	else if (ret->failed)
		error_no_memory(error);
	return question.error.code ? question.error.code : (ret->failed ? -ENOMEM : 0);
}
