/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_PROCESS_H
#define DRAGOMAN_KERNEL_PROCESS_H

/*
 * What /proc says of a process. First, whether it is still the one that an engine
 * spoke of: an engine says a number; by the time that it is used, the container
 * may have ended, and the number be another process's, in a namespace that is none
 * of its business.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum process_origin {
	PROCESS_OF_CONTAINER, /* it is the container's */
	PROCESS_UNSURE,       /* nothing tells: who asked the engine should ask it again */
	PROCESS_OF_ANOTHER,   /* it is another container's */
};

/*
 * What /proc says of a process (proc(5), cgroups(7)), for a container with that
 * ID that the engine says was started then (nanoseconds since 1970; 0: not
 * known). True of the process only where a pidfd, opened before, says
 * afterwards that it still runs.
 */
enum process_origin process_origin(pid_t pid, const char *id, uint64_t started);

/*
 * The same, of texts: /proc/PID/stat, how many nanoseconds since 1970 the
 * machine was started, /proc/PID/cgroup, and our own /proc/self/cgroup. Texts
 * that are empty tell nothing.
 */
struct process_traces {
	const char *stat, *cgroup, *own_cgroup;
	uint64_t boot;
	uint64_t ticks; /* a second's */
};
enum process_origin process_judge(const struct process_traces *traces, const char *id,
				  uint64_t started);

/*
 * Whether we are in the machine's first PID namespace (pid_namespaces(7)), where
 * every process has a number that we know it by. True also where that cannot be
 * told. Elsewhere, as in a container, what an engine says of numbers may mean
 * nothing here.
 */
bool process_numbers_are_the_machines(void);

/*
 * Whether it, or one that it starts, may come to CAP_NET_ADMIN in its network
 * namespace: whether its capability bounding set holds that (capabilities(7)).
 * True also where that cannot be read.
 */
bool process_may_administer(pid_t pid);

/* The same, of the text of /proc/PID/status. */
bool process_judge_status(const char *status);

#endif
