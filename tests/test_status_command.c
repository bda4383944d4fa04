/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The command `status`: it runs in this process, with its output going to files,
 * and asks a server in a child process. How the table looks is test_status.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/cmd/options.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/http/server.h"

static const char document[] =
	"{\"version\": \"0.2.0\", \"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"web\"}],"
	" \"backends\": [{\"variable\": \"B\", \"listen\": \"80/tcp\", \"state\": \"ready\","
	" \"service\": \"/s\", \"endpoints\": [{\"address\": \"10.0.0.2\", \"port\": 80,"
	" \"weight\": 1, \"connections\": 17}]}]}]}";

static const char table[] = "dragoman 0.2.0\n"
			    "1 namespace, 1 backend, 0 problems\n"
			    "\n"
			    "web (namespace 1)\n"
			    "  ready     80/tcp  /s\n"
			    "             10.0.0.2:80  weight 1  17 conns  100% ################\n";

struct fixture {
	char directory[40], path[64];
	const char *document; /* NULL: 404 */
	pid_t agent;
	int exit;
	char *out, *err;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture)
		return -1;
	(void)snprintf(fixture->directory, sizeof(fixture->directory),
		       "/tmp/dragoman-status-XXXXXX");
	if (!mkdtemp(fixture->directory))
		return -1;
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->directory);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->agent > 0) {
		(void)kill(fixture->agent, SIGKILL);
		(void)waitpid(fixture->agent, NULL, 0);
	}
	free(fixture->out);
	free(fixture->err);
	(void)unlink(fixture->path);
	if (rmdir(fixture->directory) < 0)
		return -1;
	free(fixture);
	return 0;
}

static void answer(const char *path, struct http_reply *reply, void *user)
{
	const struct fixture *fixture = user;

	if (!fixture->document || strcmp(path, "/status") != 0)
		return;
	reply->status = 200;
	reply->type = "application/json";
	text_puts(&reply->body, fixture->document);
}

static void be_the_agent(struct fixture *fixture, int ready)
{
	struct server *server;
	struct loop *loop;

	if (loop_new(&loop) == 0 &&
	    server_new_unix(loop, fixture->path, 0600, answer, fixture, &server, NULL) == 0 &&
	    write(ready, "", 1) == 1)
		(void)loop_run(loop);
	_exit(1);
}

static void start_agent(struct fixture *fixture, const char *says)
{
	int ready[2];
	char byte;

	fixture->document = says;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	fixture->agent = fork();
	if (fixture->agent == 0)
		be_the_agent(fixture, ready[1]);
	assert_true(fixture->agent > 0);
	close(ready[1]);
	/* Also comes back when the child has ended. */
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
}

static int redirect(int fd, FILE *file)
{
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, 10);

	assert_true(kept >= 0 && dup2(fileno(file), fd) == fd);
	return kept;
}

static char *contents(FILE *file)
{
	char buffer[65536];
	size_t length;

	assert_int_equal(fseek(file, 0, SEEK_SET), 0);
	length = fread(buffer, 1, sizeof(buffer) - 1, file);
	buffer[length] = '\0';
	(void)fclose(file);
	return strdup(buffer);
}

static void run_status(struct fixture *fixture, bool json)
{
	const struct options options = {
		.socket = fixture->path, .json = json, .timeout = UINT64_C(5000000000)};
	FILE *out = tmpfile(), *err = tmpfile();
	int kept_out, kept_err;

	assert_true(out && err);
	(void)fflush(NULL);
	kept_out = redirect(STDOUT_FILENO, out);
	kept_err = redirect(STDERR_FILENO, err);
	fixture->exit = command_status.run(&options);
	(void)dup2(kept_out, STDOUT_FILENO);
	(void)dup2(kept_err, STDERR_FILENO);
	close(kept_out);
	close(kept_err);
	free(fixture->out);
	free(fixture->err);
	fixture->out = contents(out);
	fixture->err = contents(err);
}

static void test_status_command_prints_the_agents_table(void **state)
{
	static const char *const settings[] = {"COLUMNS", "LC_ALL", "LC_CTYPE", "LANG"};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		assert_int_equal(unsetenv(settings[i]), 0);
	start_agent(fixture, document);
	run_status(fixture, false);
	assert_string_equal(fixture->err, "");
	assert_string_equal(fixture->out, table);
	assert_int_equal(fixture->exit, STATUS_DONE);
}

static void test_status_command_with_json_prints_the_document_as_it_is(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, "{ \"version\":\t\"1\",\"more\" :[1.50]}");
	run_status(fixture, true);
	assert_string_equal(fixture->err, "");
	assert_string_equal(fixture->out, "{ \"version\":\t\"1\",\"more\" :[1.50]}\n");
	assert_int_equal(fixture->exit, STATUS_DONE);
}

static void assert_fails(struct fixture *fixture, const char *why)
{
	CLEANUP(text_done) struct text line = {0};

	run_status(fixture, false);
	text_printf(&line, "dragoman: %s: %s\n", fixture->path, why);
	assert_string_equal(fixture->err, line.data);
	assert_string_equal(fixture->out, "");
	assert_int_equal(fixture->exit, STATUS_FAILED);
}

static void test_status_command_without_an_agent_says_what_to_do(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct fixture *fixture = *state;
	int fd;

	assert_fails(fixture,
		     "No such file or directory: no agent runs here (dragoman run), or its "
		     "socket is elsewhere (--socket)");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, fixture->path, sizeof(fixture->path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_close(&fd);
	assert_fails(fixture,
		     "Connection refused: the agent that made this socket is gone: start it "
		     "again (dragoman run)");
	assert_int_equal(unlink(fixture->path), 0);
	fd = open(fixture->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	fd_close(&fd);
	assert_fails(fixture,
		     "Socket operation on non-socket: name the agent's socket with --socket");
}

static void test_status_command_with_json_fails_in_one_document(void **state)
{
	struct fixture *fixture = *state;

	run_status(fixture, true);
	assert_int_equal(fixture->exit, STATUS_FAILED);
	assert_int_equal(strncmp(fixture->out, "{\n  \"errors\": [", 15), 0);
	assert_non_null(strstr(fixture->out, "no agent runs here"));
}

static void test_status_command_of_a_wrong_answer_fails(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, "<html>\n");
	assert_fails(fixture, "the answer: this is no JSON object");
}

static void test_status_command_of_another_status_fails(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, NULL);
	assert_fails(fixture, "the answer is HTTP status 404: is this the socket of an agent?");
}

static void parse(struct options *options, const char *one, const char *two)
{
	char *argv[] = {(char *)(uintptr_t)one, (char *)(uintptr_t)two};
	struct error error = {0};

	if (options_parse(options, &command_status, one ? 2 : 0, argv, &error) < 0)
		fail_msg("%s", error.message);
}

static void test_status_socket_is_taken_from_option_variable_and_default(void **state)
{
	CLEANUP(options_done) struct options first = {0};
	CLEANUP(options_done) struct options second = {0};
	CLEANUP(options_done) struct options third = {0};

	(void)state;
	assert_int_equal(unsetenv("DRAGOMAN_SOCKET"), 0);
	parse(&first, NULL, NULL);
	assert_string_equal(first.socket, "/run/dragoman/dragoman.sock");
	assert_int_equal(setenv("DRAGOMAN_SOCKET", "/other", 1), 0);
	parse(&second, NULL, NULL);
	assert_string_equal(second.socket, "/other");
	parse(&third, "--socket", "/third");
	assert_string_equal(third.socket, "/third");
	assert_int_equal(unsetenv("DRAGOMAN_SOCKET"), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_status_command_prints_the_agents_table),
		TEST(test_status_command_with_json_prints_the_document_as_it_is),
		TEST(test_status_command_without_an_agent_says_what_to_do),
		TEST(test_status_command_with_json_fails_in_one_document),
		TEST(test_status_command_of_a_wrong_answer_fails),
		TEST(test_status_command_of_another_status_fails),
		cmocka_unit_test(test_status_socket_is_taken_from_option_variable_and_default),
	};

	return cmocka_run_group_tests_name("status command", tests, NULL, NULL);
}
