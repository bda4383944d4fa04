/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: what changes or looks at a namespace needs the three
 * capabilities of the kernel's. The rest depends on whose files are meant.
 *
 * The commands that do one thing once are run by a person: with sudo, in a home
 * that is closed to others, and the files that are named are that person's.
 * They are read with root's right to read them. So are the sockets that are
 * connected to: an agent that has a user of its own, and with --container
 * the engine of another user. Whoever has not got these rights goes without.
 *
 * The agent lives long, and has no right to files of others, with one
 * exception: the environment of a process that --pid names, where no other
 * descriptors are given for it.
 */
#include "rights.h"

#include <string.h>

static bool has_own_descriptors(const struct options *options, size_t index)
{
	const struct options_target *targets = options->targets;
	const bool last = index + 1 == options->target_count;
	const size_t backend_end = last ? options->backend_count : targets[index + 1].backend_first;
	const size_t file_end = last ? options->env_file_count : targets[index + 1].env_file_first;

	return backend_end > targets[index].backend_first ||
	       file_end > targets[index].env_file_first || targets[0].backend_first ||
	       targets[0].env_file_first;
}

/* The agent's targets, each with descriptors of its own. */
static bool follows_environ(const struct options *options)
{
	for (size_t i = 0; i < options->target_count; i++) {
		if (options->targets[i].pid && !has_own_descriptors(options, i))
			return true;
	}
	return false;
}

static bool reads_environ(const struct command *command, const struct options *options)
{
	return options->pid && command->bit != COMMAND_FLUSH && !options->backend_count &&
	       !options->env_file_count;
}

static bool reads_files(const struct options *options)
{
	const char *const files[] = {options->tls_ca, options->tls_cert, options->tls_key,
				     options->registry_password_file};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (files[i])
			return true;
	}
	return options->env_file_count ||
	       (options->registry && strncmp(options->registry, "file:", 5) == 0) ||
	       (options->netns && strchr(options->netns, '/'));
}

unsigned rights_needed(const struct command *command, const struct options *options)
{
	unsigned needed = PRIVILEGE_KERNEL;

	switch (command->bit) {
	case COMMAND_RUN:
		return needed | (follows_environ(options) ? PRIVILEGE_READ : 0);
	case COMMAND_STATUS:
		return PRIVILEGE_CONNECT;
	case COMMAND_RESOLVE:
		needed = 0;
		break;
	case COMMAND_RECONCILE:
	case COMMAND_FLUSH:
		needed |= options->force ? 0 : PRIVILEGE_CONNECT;
		break;
	case COMMAND_PLAN:
		break;
	case COMMAND_HOOK:
		/* The bundle may be another user's, and so may the agent. */
		return needed | PRIVILEGE_READ | PRIVILEGE_CONNECT;
	case COMMAND_EXPLAIN:
		needed |= PRIVILEGE_CONNECT;
		break;
	}
	if (reads_files(options) || reads_environ(command, options))
		needed |= PRIVILEGE_READ;
	return needed | (options->container ? PRIVILEGE_CONNECT : 0);
}
