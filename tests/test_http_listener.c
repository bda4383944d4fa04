/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Where the server listens: the socket's file, its mode, its directory, and
 * what is there already. That it serves is seen with our own client.
 */
#include "dragoman/http/server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "dragoman/http/http.h"

static const uint64_t PATIENCE = UINT64_C(4000000000);

struct fixture {
	struct loop *loop;
	struct server *server;
	char directory[40], path[100];
};

static void answer(const char *path, struct http_reply *reply, void *user)
{
	(void)path;
	(void)user;
	reply->status = 200;
	text_puts(&reply->body, "{}\n");
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture || loop_new(&fixture->loop) < 0)
		return -1;
	(void)snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/dragoman-http-XXXXXX");
	if (!mkdtemp(fixture->directory))
		return -1;
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/run/socket", fixture->directory);
	*state = fixture;
	return server_new_unix(fixture->loop, fixture->path, 0660, answer, fixture,
			       &fixture->server, NULL);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char directory[64];

	server_free(fixture->server);
	loop_free(fixture->loop);
	(void)snprintf(directory, sizeof(directory), "%s/run", fixture->directory);
	/* That it is empty shows that the socket is gone. */
	if (rmdir(directory) < 0 || rmdir(fixture->directory) < 0)
		return -1;
	free(fixture);
	return 0;
}

static void on_done(struct http_request *request, const struct http_answer *reply,
		    const struct error *error, void *user)
{
	struct loop *loop = user;

	(void)request;
	assert_null(error);
	assert_int_equal(reply->status, 200);
	assert_string_equal(reply->body, "{}\n");
	loop_stop(loop);
}

static void assert_library_gets(struct fixture *fixture, const char *url, const char *unix_socket)
{
	struct http_client *client;
	struct http_request *request;
	struct http_call call = {.name = "the server",
				 .url = url,
				 .unix_socket = unix_socket,
				 .answer_max = 64,
				 .timeout = PATIENCE,
				 .on_done = on_done,
				 .user_data = fixture->loop};

	assert_int_equal(http_client_new(fixture->loop, NULL, &client, NULL), 0);
	assert_int_equal(http_start(client, &call, &request, NULL), 0);
	assert_int_equal(loop_run(fixture->loop), 0);
	http_client_free(client);
}

static void assert_serves(struct fixture *fixture)
{
	assert_library_gets(fixture, "http://dragoman/status", fixture->path);
}

static void test_server_on_a_unix_socket_answers_the_http_client(void **state)
{
	struct fixture *fixture = *state;

	assert_serves(fixture);
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	return ntohs(address.sin_port);
}

static void test_server_on_a_tcp_port_answers_the_http_client(void **state)
{
	struct fixture *fixture = *state;
	struct server *server = NULL;
	char address[32], url[64];

	for (int tries = 0; !server && tries < 10; tries++) {
		(void)snprintf(address, sizeof(address), "127.0.0.1:%u", free_port());
		/* Somebody may have taken it meanwhile. */
		(void)server_new_tcp(fixture->loop, address, answer, fixture, &server, NULL);
	}
	assert_non_null(server);
	(void)snprintf(url, sizeof(url), "http://%s/status", address);
	assert_library_gets(fixture, url, NULL);
	server_free(server);
}

static void test_server_tcp_address_that_is_none_is_refused(void **state)
{
	static const char *const addresses[] = {"",
						":",
						":80",
						"127.0.0.1",
						"127.0.0.1:",
						"127.0.0.1:65536",
						"localhost:80",
						"::1:80",
						"[::1]",
						"[::1:80",
						"[:80",
						"]:80",
						"[]:80",
						"[::1]x:80",
						"127.0.0.1:8 ",
						"\033[2J:80"};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct server *server = NULL;
		struct error error = {0};
		int code = server_new_tcp(fixture->loop, addresses[i], answer, NULL, &server,
					  &error);

		if (code != -EINVAL || error.class != ERROR_INVALID)
			fail_msg("'%s': %d %s", addresses[i], code, error.message);
		assert_non_null(
			strstr(error.message, "is neither ADDRESS:PORT nor [ADDRESS]:PORT"));
		assert_null(strchr(error.message, '\033'));
	}
}

static void test_server_tcp_port_in_use_is_named(void **state)
{
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in taken = {.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(taken);
	struct fixture *fixture = *state;
	struct server *server = NULL;
	struct error error = {0};
	char address[32];

	assert_int_equal(bind(fd, (struct sockaddr *)&taken, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &length), 0);
	assert_int_equal(listen(fd, 1), 0);
	(void)snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(taken.sin_port));
	assert_int_equal(server_new_tcp(fixture->loop, address, answer, NULL, &server, &error),
			 -EADDRINUSE);
	assert_non_null(strstr(error.message, address));
}

static void test_server_unix_socket_has_its_mode_whatever_the_umask(void **state)
{
	struct fixture *fixture = *state;
	char other[80], directory[64];
	struct server *server;
	struct stat status;
	mode_t mask;

	(void)snprintf(directory, sizeof(directory), "%s/other", fixture->directory);
	(void)snprintf(other, sizeof(other), "%s/socket", directory);
	assert_int_equal(stat(fixture->path, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0660);
	mask = umask(0777);
	assert_int_equal(server_new_unix(fixture->loop, other, 0604, answer, NULL, &server, NULL),
			 0);
	assert_int_equal(umask(mask), 0777);
	assert_int_equal(stat(other, &status), 0);
	assert_int_equal(status.st_mode, S_IFSOCK | 0604);
	assert_int_equal(stat(directory, &status), 0);
	assert_int_equal(status.st_mode, S_IFDIR | 0755);
	server_free(server);
	assert_int_equal(rmdir(directory), 0);
}

static void test_server_unix_socket_that_answers_is_not_taken(void **state)
{
	struct fixture *fixture = *state;
	struct server *server = NULL;
	struct error error = {0};

	assert_int_equal(
		server_new_unix(fixture->loop, fixture->path, 0600, answer, NULL, &server, &error),
		-EADDRINUSE);
	assert_int_equal(error.class, ERROR_FATAL);
	assert_non_null(strstr(error.message, "another process answers there"));
	assert_serves(fixture);
}

static void test_server_unix_socket_left_behind_is_replaced(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct fixture *fixture = *state;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	server_free(TAKE(fixture->server));
	assert_int_equal(access(fixture->path, F_OK), -1);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fd_close(&fd);
	assert_int_equal(access(fixture->path, F_OK), 0);
	assert_int_equal(server_new_unix(fixture->loop, fixture->path, 0600, answer, fixture,
					 &fixture->server, NULL),
			 0);
	assert_serves(fixture);
}

static void test_server_unix_path_of_a_file_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct server *server = NULL;
	struct error error = {0};
	int fd;

	server_free(TAKE(fixture->server));
	fd = open(fixture->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	fd_close(&fd);
	assert_int_equal(
		server_new_unix(fixture->loop, fixture->path, 0600, answer, NULL, &server, &error),
		-EEXIST);
	assert_int_equal(error.class, ERROR_INVALID);
	assert_int_equal(unlink(fixture->path), 0);
}

static void test_server_unix_path_that_cannot_be_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct server *server = NULL;
	struct error error = {0};
	char path[160], small[80];

	(void)snprintf(path, sizeof(path), "/tmp/%0110d", 0);
	assert_int_equal(server_new_unix(fixture->loop, path, 0600, answer, NULL, &server, &error),
			 -ENAMETOOLONG);
	assert_int_equal(error.class, ERROR_INVALID);
	assert_int_equal(server_new_unix(fixture->loop, "", 0600, answer, NULL, &server, &error),
			 -ENAMETOOLONG);
	(void)snprintf(small, sizeof(small), "%s/no/such/socket", fixture->directory);
	assert_int_equal(server_new_unix(fixture->loop, small, 0600, answer, NULL, &server, &error),
			 -ENOENT);
	assert_non_null(strstr(error.message, "/no/such: No such file or directory"));
}

static void test_server_free_leaves_the_socket_of_a_successor(void **state)
{
	struct fixture *fixture = *state;
	struct server *second;
	struct stat status;

	assert_int_equal(unlink(fixture->path), 0);
	assert_int_equal(
		server_new_unix(fixture->loop, fixture->path, 0600, answer, fixture, &second, NULL),
		0);
	server_free(TAKE(fixture->server));
	assert_int_equal(lstat(fixture->path, &status), 0);
	fixture->server = second;
	assert_serves(fixture);
}

static size_t count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	/* Of this process alone, which has one thread. */
	while (readdir(directory)) /* NOLINT(concurrency-mt-unsafe) */
		count++;
	closedir(directory);
	return count;
}

static void test_server_without_descriptors_fails_and_leaves_none(void **state)
{
	struct fixture *fixture = *state;
	struct server *server = NULL;
	struct rlimit limit, narrow;
	struct error error = {0};
	size_t before;
	int next, code;

	server_free(TAKE(fixture->server));
	before = count_descriptors();
	next = dup(STDERR_FILENO);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	/* One for the socket, none for libmicrohttpd. */
	narrow = (struct rlimit){.rlim_cur = (rlim_t)next + 1, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &narrow), 0);
	code = server_new_unix(fixture->loop, fixture->path, 0600, answer, fixture, &server,
			       &error);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(code < 0);
	assert_int_equal(error.code, code);
	assert_int_equal(access(fixture->path, F_OK), -1);
	assert_int_equal(count_descriptors(), before);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_server_on_a_unix_socket_answers_the_http_client),
		TEST(test_server_on_a_tcp_port_answers_the_http_client),
		TEST(test_server_tcp_address_that_is_none_is_refused),
		TEST(test_server_tcp_port_in_use_is_named),
		TEST(test_server_unix_socket_has_its_mode_whatever_the_umask),
		TEST(test_server_unix_socket_that_answers_is_not_taken),
		TEST(test_server_unix_socket_left_behind_is_replaced),
		TEST(test_server_unix_path_of_a_file_is_left_alone),
		TEST(test_server_unix_path_that_cannot_be_is_refused),
		TEST(test_server_free_leaves_the_socket_of_a_successor),
		TEST(test_server_without_descriptors_fails_and_leaves_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
