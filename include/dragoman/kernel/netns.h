/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_NETNS_H
#define DRAGOMAN_KERNEL_NETNS_H

/*
 * Network namespaces, by name, path and process (namespaces(7), setns(2)).
 *
 * A namespace is held by a descriptor of its nsfs file and known by that
 * file's device and inode. The descriptor keeps the namespace alive: close it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"

struct netns {
	int fd;
	dev_t device;
	ino_t inode; /* the number that `ip netns` and /proc/PID/ns/net show */
};

#define NETNS_NONE ((struct netns){.fd = -1})

/*
 * NAME is looked up in /run/netns, as ip-netns(8) keeps it; whatever holds a
 * slash is a path. Errors: -ENOENT (no such name or path), -EINVAL (a file
 * that is no network namespace), -EACCES and -EPERM.
 */
int netns_open(const char *name_or_path, struct netns *ret, struct error *error);

/*
 * The namespace of a process, held by a pidfd meanwhile, so that a number that
 * is given to another process is noticed. Errors: -ESRCH (no such process, or
 * it ended), -EACCES and -EPERM (CAP_SYS_PTRACE is missing).
 */
int netns_open_pid(pid_t pid, struct netns *ret, struct error *error);

/*
 * The same of a process that is held by a pidfd already. That it runs is looked
 * at last: what was read in /proc of that number since the pidfd was opened is
 * of that process, too.
 */
int netns_open_pidfd(int pidfd, pid_t pid, struct netns *ret, struct error *error);

/*
 * The namespace that a socket is of (SIOCGSKNS), whatever became of its name
 * and its processes. Errors: -EPERM (CAP_NET_ADMIN is missing).
 */
int netns_open_socket(int socket, struct netns *ret, struct error *error);

/* Closes it; fine on NETNS_NONE. Usable with CLEANUP. */
void netns_done(struct netns *netns);

/*
 * Takes the lock that each one-shot command holds while it changes a namespace,
 * until netns_done(): flock(2) on the nsfs file, so it is the same lock by whatever
 * path, and is gone with its holder. The generation guards the transaction
 * only; this keeps the sysctl and the routes of two commits apart. Whoever can
 * open the namespace can hold it, so nobody should wait for it without end.
 * Returns 0, -EAGAIN (somebody else has it), or another -errno of flock(2).
 */
int netns_try_lock(const struct netns *netns);

/*
 * Whether this is the host's own namespace: that of process 1, or, where that
 * cannot be seen, the one this process is in. Returns 1, 0, or -errno.
 */
int netns_is_host(const struct netns *netns, struct error *error);

/*
 * Calls function inside the namespace and comes back, whatever it returns.
 * Returns its result, or -errno with error set where the namespace could not
 * be entered (-EPERM: CAP_SYS_ADMIN is missing). Where there is no way back
 * the process ends: it must never go on in a container's namespace.
 */
int netns_call(const struct netns *netns, int (*function)(void *user, struct error *error),
	       void *user, struct error *error);

#endif
