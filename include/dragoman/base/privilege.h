/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_PRIVILEGE_H
#define DRAGOMAN_BASE_PRIVILEGE_H

/*
 * What this process may do, given up as early as it can be: capabilities, and
 * system calls. Neither comes back.
 *
 * See capabilities(7), no_new_privs in prctl(2), and seccomp(2).
 */

#include "dragoman/base/error.h"

/* What a command may need, as bits; each stands for capabilities. */
enum privilege {
	/* CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE: rules; setns(2); /proc/PID/ns */
	PRIVILEGE_KERNEL = 1 << 0,
	/* CAP_DAC_READ_SEARCH: files of other users, /proc/PID/environ among them */
	PRIVILEGE_READ = 1 << 1,
	/* CAP_DAC_OVERRIDE: sockets of other users; connect(2) asks for the right to write */
	PRIVILEGE_CONNECT = 1 << 2,
};

/*
 * Gives up all capabilities but those that `keep` (enum privilege) stands for,
 * and of these what the process does not have anyway; sets no_new_privs; sees
 * to it that memory is not written to a core dump. The user and groups stay.
 *
 * To be called once, before there are threads. What is kept is in the effective
 * and the permitted set afterwards, and in the bounding set, too, where the
 * process may change that (CAP_SETPCAP, which root has); the inheritable and
 * the ambient set are empty. Returns 0, or -errno (ERROR_FATAL).
 */
int privilege_drop(unsigned keep, struct error *error);

/*
 * Whether every capability that `needed` stands for is in the effective set:
 * 0, or -EPERM (ERROR_FATAL) with the names of those that are missing.
 */
int privilege_check(unsigned needed, struct error *error);

/*
 * Filters the system calls of this thread and of those that it starts: what the
 * agent has no use for ends the process with SIGSYS. To be called after
 * privilege_drop(), before there are threads. Returns 0, or -errno
 * (ERROR_FATAL) where the kernel does not filter.
 */
int privilege_filter(struct error *error);

#endif
