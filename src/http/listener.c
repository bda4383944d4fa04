/* SPDX-License-Identifier: MIT */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/http/server.h"
#include "dragoman/model/endpoint.h"

/*
 * Theory of operation
 *
 * bind(2) makes the file of a Unix socket with the mode that the umask leaves,
 * so the umask is what sets it: at no moment is there a file that lets too
 * many in. One that is there already is asked: a socket whose owner is gone
 * refuses connections, and is removed. Nothing else is ever removed.
 */

enum { BACKLOG = 64, QUOTE_MAX = 160 };

static int fail(struct error *error, const char *subject, const char *what, int number)
{
	char quoted[QUOTE_MAX];

	text_printable(quoted, sizeof(quoted), subject, strlen(subject));
	return error_set(error, -number, error_class_of(number), "%s%s: %s", what, quoted,
			 strerror(number));
}

static int set_address(const char *path, struct sockaddr_un *ret, struct error *error)
{
	char quoted[QUOTE_MAX];
	size_t length = strlen(path);

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (length == 0 || length >= sizeof(ret->sun_path))
		return error_set(error, -ENAMETOOLONG, ERROR_INVALID,
				 "socket '%s': a path of 1 to %zu bytes is needed",
				 text_printable(quoted, sizeof(quoted), path, length),
				 sizeof(ret->sun_path) - 1);
	memcpy(ret->sun_path, path, length);
	return 0;
}

static int make_directory(const struct sockaddr_un *address, struct error *error)
{
	char directory[sizeof(address->sun_path)];
	char *slash;
	mode_t mask;
	int code;

	memcpy(directory, address->sun_path, sizeof(directory));
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return 0;
	*slash = '\0';
	mask = umask(0022);
	code = mkdir(directory, 0755) < 0 ? errno : 0;
	(void)umask(mask);
	return code == 0 || code == EEXIST ? 0 : fail(error, directory, "directory ", code);
}

/* 0, or the errno of connecting to it. */
static int try_to_connect(const struct sockaddr_un *address)
{
	CLEANUP(fd_close)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
}

static int remove_stale(const struct sockaddr_un *address, struct error *error)
{
	const char *path = address->sun_path;
	char quoted[QUOTE_MAX];
	struct stat status;
	int code;

	if (lstat(path, &status) < 0)
		return errno == ENOENT ? 0 : fail(error, path, "socket ", errno);
	text_printable(quoted, sizeof(quoted), path, strlen(path));
	if (!S_ISSOCK(status.st_mode))
		return error_set(error, -EEXIST, ERROR_INVALID,
				 "socket %s: there is something else than a socket", quoted);
	code = try_to_connect(address);
	/* EAGAIN: it listens, and has its hands full. */
	if (code == 0 || code == EAGAIN)
		return error_set(error, -EADDRINUSE, ERROR_FATAL,
				 "socket %s: another process answers there", quoted);
	if (code == ENOENT)
		return 0;
	if (code != ECONNREFUSED)
		return fail(error, path, "socket ", code);
	if (unlink(path) < 0 && errno != ENOENT)
		return fail(error, path, "the socket left behind at ", errno);
	return 0;
}

static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t mask = umask(~mode & 0777);
	int code = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;

	(void)umask(mask);
	return code;
}

int listener_open_unix(const char *path, mode_t mode, struct file_identity *ret_file, int *ret,
		       struct error *error)
{
	CLEANUP(fd_close) int fd = -1;
	struct sockaddr_un address;
	struct stat status;
	int code;

	if ((code = set_address(path, &address, error)) < 0 ||
	    (code = make_directory(&address, error)) < 0 ||
	    (code = remove_stale(&address, error)) < 0)
		return code;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(error, path, "socket ", errno);
	code = bind_with_mode(fd, &address, mode);
	if (code)
		return fail(error, path, "socket ", code);
	if (lstat(path, &status) < 0 || listen(fd, BACKLOG) < 0) {
		code = fail(error, path, "socket ", errno);
		(void)unlink(path);
		return code;
	}
	*ret_file = (struct file_identity){.device = status.st_dev, .inode = status.st_ino};
	*ret = TAKE_FD(fd);
	return 0;
}

void listener_unlink(const char *path, const struct file_identity *file)
{
	struct stat status;

	if (lstat(path, &status) == 0 && status.st_dev == file->device &&
	    status.st_ino == file->inode)
		(void)unlink(path);
}

/* "ADDR:PORT", "[ADDR]:PORT" */
static int parse_address(const char *text, struct endpoint *ret)
{
	const char *colon = strrchr(text, ':'), *start = text, *end = colon;
	uint64_t port;

	*ret = (struct endpoint){0};
	if (!colon || text_parse_number(colon + 1, strlen(colon + 1), UINT16_MAX, &port) < 0)
		return -EINVAL;
	if (*start == '[') {
		start++;
		end--;
		if (end < start || *end != ']')
			return -EINVAL;
	} else if (memchr(text, ':', (size_t)(colon - text))) {
		return -EINVAL;
	}
	ret->port = (uint16_t)port;
	return endpoint_parse_address(start, (size_t)(end - start), ret);
}

static socklen_t socket_address(const struct endpoint *endpoint, struct sockaddr_storage *ret)
{
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)ret;

	*ret = (struct sockaddr_storage){0};
	if (endpoint->family == FAMILY_IPV4) {
		ipv4->sin_family = AF_INET;
		ipv4->sin_port = htons(endpoint->port);
		memcpy(&ipv4->sin_addr, endpoint->address, sizeof(ipv4->sin_addr));
		return sizeof(*ipv4);
	}
	ipv6->sin6_family = AF_INET6;
	ipv6->sin6_port = htons(endpoint->port);
	memcpy(&ipv6->sin6_addr, endpoint->address, sizeof(ipv6->sin6_addr));
	return sizeof(*ipv6);
}

static int take_address(const char *address, struct endpoint *ret, struct error *error)
{
	char quoted[QUOTE_MAX];

	if (parse_address(address, ret) == 0)
		return 0;
	return error_set(error, -EINVAL, ERROR_INVALID,
			 "'%s' is neither ADDRESS:PORT nor [ADDRESS]:PORT",
			 text_printable(quoted, sizeof(quoted), address, strlen(address)));
}

int server_check_tcp(const char *address, struct error *error)
{
	struct endpoint endpoint;

	return take_address(address, &endpoint, error);
}

int server_check_unix(const char *path, struct error *error)
{
	struct sockaddr_un address;

	return set_address(path, &address, error);
}

int listener_open_tcp(const char *address, int *ret, struct error *error)
{
	CLEANUP(fd_close) int fd = -1;
	struct sockaddr_storage storage;
	struct endpoint endpoint;
	socklen_t length;
	int code = take_address(address, &endpoint, error);

	if (code < 0)
		return code;
	length = socket_address(&endpoint, &storage);
	fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Or a restart would have to wait for connections that are closing. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
	    bind(fd, (const struct sockaddr *)&storage, length) < 0 || listen(fd, BACKLOG) < 0)
		return fail(error, address, "", errno);
	*ret = TAKE_FD(fd);
	return 0;
}
