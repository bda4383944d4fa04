/* SPDX-License-Identifier: MIT */
#include "spaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN "/proc/self/ns/net"

/* Sockets of a thousand namespaces are more than the usual limit. */
static int raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -1;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_own(void)
{
	return open(OWN, O_RDONLY | O_CLOEXEC);
}

/* Run by hand it would fill the host's own namespace with rules. */
static bool is_the_hosts(void)
{
	struct stat own, first;

	return stat(OWN, &own) == 0 && stat("/proc/1/ns/net", &first) == 0 &&
	       own.st_dev == first.st_dev && own.st_ino == first.st_ino;
}

int spaces_open(struct spaces *spaces, size_t count)
{
	*spaces = (struct spaces){.home = open_own()};
	spaces->fds = calloc(count ? count : 1, sizeof(*spaces->fds));
	if (spaces->home < 0 || !spaces->fds || raise_limit() < 0)
		return -1;
	if (count == 0 && is_the_hosts()) {
		(void)fprintf(stderr, "not in the host's own network namespace: unshare -n ...\n");
		errno = EPERM;
		return -1;
	}
	if (count == 0) {
		spaces->fds[spaces->count++] = open_own();
		return spaces->fds[0] < 0 ? -1 : 0;
	}
	for (size_t i = 0; i < count; i++) {
		if (unshare(CLONE_NEWNET) < 0)
			return -1;
		spaces->fds[i] = open_own();
		if (spaces->fds[i] < 0)
			return -1;
		spaces->count++;
	}
	spaces_leave(spaces);
	return 0;
}

void spaces_close(struct spaces *spaces)
{
	for (size_t i = 0; i < spaces->count; i++)
		(void)close(spaces->fds[i]);
	free(spaces->fds);
	if (spaces->home >= 0)
		(void)close(spaces->home);
}

int spaces_enter(const struct spaces *spaces, size_t index)
{
	return setns(spaces->fds[index], CLONE_NEWNET);
}

void spaces_leave(const struct spaces *spaces)
{
	if (setns(spaces->home, CLONE_NEWNET) == 0)
		return;
	perror("setns");
	_exit(1);
}
