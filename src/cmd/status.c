/* SPDX-License-Identifier: MIT */
/*
 * dragoman status
 *
 * Theory of operation: one request for /status to the agent's socket, whose
 * answer goes out as it came (--json) or as a table. That there is no agent to
 * ask is what people run into most, and libcurl tells the ways of it apart in
 * words alone; so the socket is then connected to once more, for the errno.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/loop.h"
#include "dragoman/http/http.h"
#include "options.h"
#include "output.h"
#include "report.h"
#include "status_text.h"

enum { ANSWER_MAX = 256 * 1024 * 1024, NAME_MAX_SHOWN = 160 };

struct question {
	struct loop *loop;
	const struct options *options;
	char name[NAME_MAX_SHOWN]; /* of the socket; printable */
	struct text answer;
	struct error error;
};

static void question_done(struct question *question)
{
	text_done(&question->answer);
}

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
		text_add(&question->answer, answer->body, answer->length);
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
	int code = try_to_connect(question->options->socket);
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
		.unix_socket = question->options->socket,
		.answer_max = ANSWER_MAX,
		.timeout = question->options->timeout,
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

/* The document stays as it is, but has to be one. */
static int print(const struct question *question, struct error *error)
{
	const struct text *answer = &question->answer;
	CLEANUP(text_done) struct text table = {0};
	const char *document = answer->data ? answer->data : "";
	int code;

	if (answer->failed)
		return error_no_memory(error);
	code = status_print_text(&table, document, answer->length,
				 output_wants_colour(STDOUT_FILENO), error);
	if (code < 0) {
		(void)error_wrap(error, "%s: the answer", question->name);
		return code;
	}
	if (!question->options->json)
		return output_write(STDOUT_FILENO, &table, error);
	text_done(&table);
	text_add(&table, document, answer->length);
	if (document[answer->length - 1] != '\n')
		text_puts(&table, "\n");
	return output_write(STDOUT_FILENO, &table, error);
}

static int fail(const struct options *options, const struct error *error)
{
	CLEANUP(report_done) struct report report = {0};
	CLEANUP(text_done) struct text text = {0};

	report_error(&report, error);
	if (options->json) {
		report_print_json(&text, &report);
		/* Where even this does not go out, enough was said. */
		(void)output_write(STDOUT_FILENO, &text, NULL);
	}
	return STATUS_FAILED;
}

static int status(const struct options *options)
{
	CLEANUP(question_done) struct question question = {.options = options};
	struct error error = {0};

	text_printable(question.name, sizeof(question.name), options->socket,
		       strlen(options->socket));
	if (ask(&question, &error) < 0 || print(&question, &error) < 0)
		return fail(options, &error);
	return STATUS_DONE;
}

const struct command command_status = {
	.name = "status",
	.bit = COMMAND_STATUS,
	.summary = "show what the running agent knows",
	.description =
		"Asks the agent of this host (dragoman run) and prints what it watches: the "
		"registry, Docker, and for each network namespace its containers and backends, "
		"with the endpoints, their weights and the connections they were given. Problems "
		"come first.",
	.examples = "dragoman status\n"
		    "dragoman status --json |\n"
		    "    jq '.namespaces[].backends[] | select(.state == \"empty\")'",
	.status = "0  the agent has answered, whatever it had to say\n"
		  "1  there is no agent, or it gave no answer\n"
		  "2  usage",
	.run = status,
};
