/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * A namespace is opened, looked at, and only then trusted: the descriptor must
 * be of nsfs, and of the network kind. Its identity is the device and inode of
 * that file; a process's number is no identity, since it may belong to another
 * process by the time it is used, so a process is pinned by a pidfd while its
 * namespace is opened, and asked afterwards whether it still runs.
 *
 * Entering is setns(2) there and back around one call. Nothing that runs in
 * between may fail to come back; if the way back is barred, the process ends,
 * since everything it would do from then on happened in a container.
 */

enum { NETNS_NAME_MAX = 255 };

static int explain_open(const char *what, int code, struct error *error)
{
	const char *hint = "";

	if (code == EACCES || code == EPERM)
		hint = " (root, or CAP_SYS_PTRACE and CAP_SYS_ADMIN, is needed)";
	if (code == ENOSYS)
		hint = " (this kernel is too old: Linux 5.10 or later is needed)";
	return error_set(error, -code, error_class_of(code), "%s: %s%s", what, strerror(code),
			 hint);
}

/* Takes over fd, whatever comes of it. */
static int adopt(int fd, const char *what, struct netns *ret, struct error *error)
{
	CLEANUP(fd_close) int owned = fd;
	struct statfs filesystem;
	struct stat status;
	int type;

	if (fstatfs(owned, &filesystem) < 0 || fstat(owned, &status) < 0)
		return explain_open(what, errno, error);
	if ((unsigned long)filesystem.f_type != NSFS_MAGIC)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "%s: not a namespace: the file is not of nsfs (nothing is "
				 "mounted there any more, or it is another file)",
				 what);
	type = ioctl(owned, NS_GET_NSTYPE);
	if (type != CLONE_NEWNET)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "%s: a namespace, but not a network namespace", what);
	*ret = (struct netns){
		.fd = TAKE_FD(owned), .device = status.st_dev, .inode = status.st_ino};
	return 0;
}

int netns_open(const char *name_or_path, struct netns *ret, struct error *error)
{
	char path[sizeof("/run/netns/") + NETNS_NAME_MAX];
	char what[ERROR_MESSAGE_MAX / 2];
	int fd;

	text_printable(what, sizeof(what), name_or_path, strlen(name_or_path));
	if (name_or_path[0] == '\0')
		return error_set(error, -EINVAL, ERROR_INVALID, "the namespace's name is empty");
	if (!strchr(name_or_path, '/')) {
		if (strlen(name_or_path) > NETNS_NAME_MAX)
			return error_set(error, -ENAMETOOLONG, ERROR_INVALID,
					 "%s: too long for a namespace's name", what);
		(void)snprintf(path, sizeof(path), "/run/netns/%s", name_or_path);
		name_or_path = path;
		text_printable(what, sizeof(what), path, strlen(path));
	}
	/* A FIFO would wait for a writer. */
	fd = open(name_or_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT)
		return error_set(error, -ENOENT, ERROR_INVALID,
				 "%s: no such namespace (`ip netns list` shows those with a name)",
				 what);
	if (fd < 0)
		return explain_open(what, errno, error);
	return adopt(fd, what, ret, error);
}

/* 0 while the process runs, -ESRCH when it has ended. */
static int pidfd_check(int pidfd)
{
	struct pollfd waiting = {.fd = pidfd, .events = POLLIN};

	return poll(&waiting, 1, 0) > 0 ? -ESRCH : 0;
}

int netns_open_pid(pid_t pid, struct netns *ret, struct error *error)
{
	CLEANUP(fd_close) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	char what[64];

	(void)snprintf(what, sizeof(what), "process %ld", (long)pid);
	/* A thread's number is EINVAL, of newer kernels ENOENT. */
	if (pidfd < 0 && (errno == ESRCH || errno == EINVAL || errno == ENOENT))
		return error_set(error, -ESRCH, ERROR_INVALID, "%s: no such process", what);
	if (pidfd < 0)
		return explain_open(what, errno, error);
	return netns_open_pidfd(pidfd, pid, ret, error);
}

int netns_open_pidfd(int pidfd, pid_t pid, struct netns *ret, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	char path[64], what[64];
	int fd, r;

	(void)snprintf(what, sizeof(what), "process %ld", (long)pid);
	(void)snprintf(path, sizeof(path), "/proc/%ld/ns/net", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* A process that has ended, but was not waited for, has no namespace any more. */
	if (pidfd_check(pidfd) < 0 || (fd < 0 && errno == ENOENT)) {
		fd_close(&fd);
		return error_set(error, -ESRCH, ERROR_INVALID, "%s: it has ended", what);
	}
	if (fd < 0)
		return explain_open(path, errno, error);
	r = adopt(fd, path, &netns, error);
	if (r < 0)
		return r;
	*ret = netns;
	netns = NETNS_NONE;
	return 0;
}

int netns_open_socket(int socket, struct netns *ret, struct error *error)
{
	const char *what = "the network namespace of a socket";
	int fd = ioctl(socket, SIOCGSKNS);

	if (fd < 0)
		return explain_open(what, errno, error);
	return adopt(fd, what, ret, error);
}

void netns_done(struct netns *netns)
{
	fd_close(&netns->fd);
}

int netns_try_lock(const struct netns *netns)
{
	return flock(netns->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

int netns_is_host(const struct netns *netns, struct error *error)
{
	struct stat status;

	if (stat("/proc/1/ns/net", &status) < 0 && stat("/proc/self/ns/net", &status) < 0)
		return explain_open("/proc/self/ns/net", errno, error);
	return status.st_dev == netns->device && status.st_ino == netns->inode;
}

int netns_call(const struct netns *netns, int (*function)(void *user, struct error *error),
	       void *user, struct error *error)
{
	CLEANUP(fd_close) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0)
		return explain_open("/proc/thread-self/ns/net", errno, error);
	if (setns(netns->fd, CLONE_NEWNET) < 0) {
		r = -errno;
		return error_set(error, r, error_class_of(r),
				 "cannot enter the network namespace: %s%s", strerror(-r),
				 r == -EPERM ? " (root, or CAP_SYS_ADMIN, is needed)" : "");
	}
	r = function(user, error);
	if (setns(home, CLONE_NEWNET) < 0) {
		(void)fprintf(stderr,
			      "dragoman: cannot leave the network namespace: %s; giving up\n",
			      strerror(errno));
		abort();
	}
	return r;
}
