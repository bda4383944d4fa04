/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the engine is asked once, for all that runs. Which of
 * it shares the namespace is not taken from what the engine says of networks,
 * where one container may point to another that points to a third, but from
 * the namespaces themselves: each process's is opened, and compared.
 */
#include "target_container.h"

#include <errno.h>
#include <string.h>

#include "dragoman/base/log.h"

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

int container_open(const struct options *options, const struct deadline *deadline,
		   struct target *target, struct error *error)
{
	const struct container *container;
	size_t index = 0;
	int code = containers_read(options->docker, options->container, patience(deadline),
				   &target->containers, &index, error);

	if (code == 0) {
		container = &target->containers.items[index];
		code = refuse_disabled(container, error);
		if (code == 0)
			code = netns_open_pid(container->pid, &target->netns, error);
	}
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
