/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the engine is asked once, for all that runs. Which of
 * it shares the namespace is not taken from what the engine says of networks,
 * where one container may point to another that points to a third, but from
 * the namespaces themselves: each process's is opened, and compared. A process
 * that may not be the container's any more (kernel/process.h) is held while the
 * engine is asked once more.
 */
#include "target_container.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/kernel/process.h"

/* The engine's part of the time: what is left is for the registry and the kernel. */
static uint64_t patience(const struct deadline *deadline)
{
	return deadline_left(deadline) / 2;
}

static int refuse_disabled(const struct container *container, struct error *error)
{
	if (!container->disabled)
		return 0;
	return error_set(error, -EPERM, ERROR_INVALID,
			 "it has opted out with its label dragoman.enable=false (--pid %d names "
			 "its namespace all the same)",
			 (int)container->pid);
}

static int refuse_process(pid_t pid, struct error *error)
{
	return error_set(error, -ESRCH, ERROR_TRANSIENT,
			 "it has ended: process %ld is another container's", (long)pid);
}

/* Asks the engine; the container that was named is the one at *ret_index. */
static int read_named(const struct options *options, const struct deadline *deadline,
		      struct target *target, size_t *ret_index, struct error *error)
{
	container_list_done(&target->containers);
	return containers_read(options->docker, options->container, patience(deadline),
			       &target->containers, ret_index, error);
}

/* Whether the engine, asked again, names the same process. */
static int ask_again(const struct options *options, const struct deadline *deadline,
		     struct target *target, pid_t pid, uint64_t started, struct error *error)
{
	const struct container *container;
	size_t index = 0;
	int code = read_named(options, deadline, target, &index, error);

	if (code < 0)
		return code;
	container = &target->containers.items[index];
	return container->pid == pid && container->started == started ? 0
								      : refuse_process(pid, error);
}

static int hold_process(pid_t pid, int *ret, struct error *error)
{
	*ret = (int)syscall(SYS_pidfd_open, pid, 0);
	return *ret < 0 ? error_set(error, -errno, ERROR_TRANSIENT, "process %ld: %s", (long)pid,
				    strerror(errno))
			: 0;
}

int container_open(const struct options *options, const struct deadline *deadline,
		   struct target *target, struct error *error)
{
	CLEANUP(fd_close) int pidfd = -1;
	const struct container *container;
	enum process_origin origin;
	size_t index = 0;
	uint64_t started;
	pid_t pid;
	int code = read_named(options, deadline, target, &index, error);

	if (code < 0)
		return error_wrap(error, "%s", target->name.data);
	container = &target->containers.items[index];
	pid = container->pid;
	started = container->started;
	code = refuse_disabled(container, error);
	if (code == 0)
		code = hold_process(pid, &pidfd, error);
	origin = process_origin(pid, container->id, started);
	if (code == 0 && origin == PROCESS_OF_ANOTHER)
		code = refuse_process(pid, error);
	if (code == 0 && origin == PROCESS_UNSURE)
		code = ask_again(options, deadline, target, pid, started, error);
	if (code == 0)
		code = netns_open_pidfd(pidfd, pid, &target->netns, error);
	return code < 0 ? error_wrap(error, "%s", target->name.data) : 0;
}

/* Whether it is in the target's namespace: 1, 0, or -errno. */
static int shares_namespace(const struct target *target, const struct container *container,
			    struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int code = netns_open_pid(container->pid, &netns, error);

	if (code == -ESRCH)
		return 0;
	if (code < 0)
		return error_wrap(error, "container %s", container->name);
	if (process_origin(container->pid, container->id, container->started) == PROCESS_OF_ANOTHER)
		return 0;
	return netns.device == target->netns.device && netns.inode == target->netns.inode;
}

static int add_environment(const struct container *container, const struct options *options,
			   struct descriptor_set *set, struct error *error)
{
	const struct origin origin = {
		.id = container->id,
		.name = container->name,
		.created = container->created,
	};

	if (container->environment_dropped)
		log_warn("container %s: %zu variables left out (a NUL inside, or more than 16 MiB)",
			 container->name, container->environment_dropped);
	if (descriptor_set_add_block(set, &origin, options->env_prefix, container->environment,
				     container->environment_length) < 0)
		return error_no_memory(error);
	return 0;
}

int container_add_environments(const struct target *target, const struct options *options,
			       struct descriptor_set *set, struct error *error)
{
	for (size_t i = 0; i < target->containers.count; i++) {
		const struct container *container = &target->containers.items[i];
		int code = shares_namespace(target, container, error);

		if (code > 0 && container->disabled)
			log_debug("container %s has opted out", container->name);
		else if (code > 0)
			code = add_environment(container, options, set, error);
		if (code < 0)
			return code;
	}
	return 0;
}
