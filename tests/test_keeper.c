/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: an agent in a child process answers at a socket with
 * one document; what the check makes of it is asserted. That the agent was
 * asked at all is in what it refuses: where the answer must not count, the
 * same document would have it refused.
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

#include "../src/cmd/keeper.h"
#include "dragoman/base/memory.h"
#include "dragoman/http/server.h"

static const struct netns ours = {.fd = -1, .inode = 4026532281};

static const char kept[] = "{\"namespaces\": [{\"netns\": 4026531840, \"containers\": []},"
			   " {\"netns\": 4026532281, \"containers\": []}]}";

struct fixture {
	char directory[40], path[64];
	const char *document;
	unsigned status;
	pid_t agent;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture)
		return -1;
	*state = fixture;
	(void)snprintf(fixture->directory, sizeof(fixture->directory),
		       "/tmp/dragoman-keeper-XXXXXX");
	if (!mkdtemp(fixture->directory))
		return -1;
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->directory);
	return 0;
}

static void stop_agent(struct fixture *fixture)
{
	if (fixture->agent > 0) {
		(void)kill(fixture->agent, SIGKILL);
		(void)waitpid(fixture->agent, NULL, 0);
	}
	fixture->agent = 0;
	(void)unlink(fixture->path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	int code;

	stop_agent(fixture);
	code = rmdir(fixture->directory);
	free(fixture);
	return code;
}

static void answer(const char *path, struct http_reply *reply, void *user)
{
	const struct fixture *fixture = user;

	if (strcmp(path, "/status") != 0)
		return;
	reply->status = fixture->status;
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

static void start_agent(struct fixture *fixture, unsigned status, const char *document)
{
	int ready[2];
	char byte;

	fixture->status = status;
	fixture->document = document;
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

static int check(const struct fixture *fixture, bool force, struct error *error)
{
	const struct options options = {.socket = fixture->path, .force = force};

	return keeper_check(&options, &ours, error);
}

static void assert_refused(const struct fixture *fixture)
{
	struct error error = {0};

	assert_int_equal(check(fixture, false, &error), -EBUSY);
	assert_int_equal(error.code, -EBUSY);
	assert_int_equal(error.class, ERROR_INVALID);
	assert_string_equal(error.message,
			    "the running agent keeps this namespace, and would undo the change "
			    "(see dragoman status; --force does it all the same)");
}

/* And no error is left behind. */
static void assert_allowed(const struct fixture *fixture, bool force)
{
	struct error error = {0};

	assert_int_equal(check(fixture, force, &error), 0);
	assert_int_equal(error.code, 0);
	assert_string_equal(error.message, "");
}

static void test_keeper_of_a_listed_namespace_refuses(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, 200, kept);
	assert_refused(fixture);
}

static void test_keeper_with_force_allows(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, 200, kept);
	assert_allowed(fixture, true);
}

static void test_keeper_of_other_namespaces_allows(void **state)
{
	static const char *const documents[] = {
		"{\"namespaces\": []}",
		"{\"namespaces\": [{\"netns\": 4026531840}, {\"netns\": 4026532282}]}",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		start_agent(fixture, 200, documents[i]);
		assert_allowed(fixture, false);
		stop_agent(fixture);
	}
}

static void test_keeper_without_an_agent_allows(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct fixture *fixture = *state;
	CLEANUP(fd_close) int fd = -1;

	assert_allowed(fixture, false);
	/* One that is gone has left its socket. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, fixture->path, sizeof(fixture->path));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_allowed(fixture, false);
}

static void test_keeper_of_an_answer_that_is_none_allows(void **state)
{
	static const char *const documents[] = {
		"",
		"<html>\n",
		"[]",
		"null",
		"{",
		"4026532281",
		"{\"netns\": 4026532281}",
		"{\"namespaces\": 4026532281}",
		"{\"namespaces\": {\"netns\": 4026532281}}",
		"{\"namespaces\": [4026532281, null, [4026532281]]}",
		"{\"namespaces\": [{\"netns\": \"4026532281\"}, {\"netns\": 4026532281.0}]}",
		"{\"namespaces\": [{\"netns\": 4026532281}",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		start_agent(fixture, 200, documents[i]);
		assert_allowed(fixture, false);
		stop_agent(fixture);
	}
}

static void test_keeper_of_an_answer_of_another_status_allows(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, 503, kept);
	assert_allowed(fixture, false);
}

/* What is listed among entries that make no sense is listed. */
static void test_keeper_of_a_namespace_among_garbage_refuses(void **state)
{
	struct fixture *fixture = *state;

	start_agent(fixture, 200,
		    "{\"namespaces\": [null, {\"netns\": null}, {\"netns\": 4026532281}, 7]}");
	assert_refused(fixture);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_keeper_of_a_listed_namespace_refuses),
		TEST(test_keeper_with_force_allows),
		TEST(test_keeper_of_other_namespaces_allows),
		TEST(test_keeper_without_an_agent_allows),
		TEST(test_keeper_of_an_answer_that_is_none_allows),
		TEST(test_keeper_of_an_answer_of_another_status_allows),
		TEST(test_keeper_of_a_namespace_among_garbage_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
