/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a namespace is opened by name, path or process. For a
 * process, a pidfd is held from before its namespace is opened until after its
 * environment was read: as long as that says that the process lives, both are
 * of one process, whatever becomes of the number afterwards. A container is
 * target_container.c's.
 */
#include "target.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "by_hand.h"
#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "target_container.h"

enum { BLOCK_MAX = 8 * 1024 * 1024 };

static int open_process(pid_t pid, struct target *target, struct error *error)
{
	int code;

	/* Where this fails, the next call fails for the same reason, and has the words. */
	target->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	code = netns_open_pid(pid, &target->netns, error);
	if (code < 0)
		return code;
	if (target->pidfd < 0)
		return error_set(error, -ESRCH, ERROR_INVALID, "%s: it has ended",
				 target->name.data);
	return 0;
}

static int refuse_host(const struct target *target, struct error *error)
{
	int code = netns_is_host(&target->netns, error);

	if (code <= 0)
		return code;
	return error_set(error, -EPERM, ERROR_INVALID,
			 "%s: this is the host's own network namespace (that of --net=host), where "
			 "rules would change localhost for the whole host: refused without "
			 "--allow-host-netns",
			 target->name.data);
}

void target_name(const struct options *options, struct text *into)
{
	if (options->pid) {
		text_printf(into, "process %d", (int)options->pid);
	} else if (options->container) {
		text_puts(into, "container ");
		text_add_printable(into, options->container, strlen(options->container));
	} else {
		text_add_printable(into, options->netns, strlen(options->netns));
	}
}

int target_open(const struct options *options, const struct deadline *deadline, struct target *ret,
		struct error *error)
{
	int code;

	target_name(options, &ret->name);
	if (ret->name.failed)
		return error_no_memory(error);
	if (options->pid)
		code = open_process(options->pid, ret, error);
	else if (options->container)
		code = container_open(options, deadline, ret, error);
	else
		code = netns_open(options->netns, &ret->netns, error);
	if (code == 0 && !options->allow_host_netns)
		code = refuse_host(ret, error);
	return code;
}

void target_done(struct target *target)
{
	text_done(&target->name);
	netns_done(&target->netns);
	fd_close(&target->pidfd);
	container_list_done(&target->containers);
	*target = TARGET_NONE;
}

static int add_own_environment(const struct target *target, const struct options *options,
			       struct descriptor_set *set, struct error *error)
{
	CLEANUP(text_done) struct text block = {0};

	for (char **variable = environ; variable && *variable; variable++)
		text_add(&block, *variable, strlen(*variable) + 1);
	if (block.failed)
		return error_no_memory(error);
	if (descriptor_set_add_block(set, &target->origin, options->env_prefix, block.data,
				     block.length) < 0)
		return error_no_memory(error);
	return 0;
}

static bool has_ended(int pidfd)
{
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) != 0;
}

static int explain_environ(int code, pid_t pid, struct error *error)
{
	const char *hint = "";

	if (code == -EACCES || code == -EPERM)
		hint = " (another user's needs CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE)";
	return error_set(error, code, error_class_of(code), "/proc/%d/environ: %s%s", (int)pid,
			 code == -EFBIG ? "more than 8 MiB" : strerror(-code), hint);
}

static int add_process_environment(const struct target *target, const struct options *options,
				   struct descriptor_set *set, struct error *error)
{
	CLEANUP(memory_free) char *block = NULL;
	char path[64];
	size_t length;
	int code;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)options->pid);
	code = text_read_file(path, BLOCK_MAX, &block, &length);
	if (has_ended(target->pidfd))
		return error_set(error, -ESRCH, ERROR_INVALID,
				 "%s: it ended before its environment was read", target->name.data);
	if (code < 0)
		return explain_environ(code, options->pid, error);
	if (descriptor_set_add_block(set, &target->origin, options->env_prefix, block, length) < 0)
		return error_no_memory(error);
	return 0;
}

static int add_backend(const struct target *target, const struct backend *backend,
		       const struct options *options, struct descriptor_set *set,
		       struct error *error)
{
	CLEANUP(text_done) struct text variable = {0};
	size_t prefix_length = strlen(options->env_prefix);

	if (backend->name_length < prefix_length ||
	    memcmp(backend->name, options->env_prefix, prefix_length) != 0)
		text_puts(&variable, options->env_prefix);
	text_add(&variable, backend->name, backend->name_length);
	if (variable.length == prefix_length)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "-b %s=...: there is no name behind the prefix",
				 options->env_prefix);
	if (variable.failed ||
	    descriptor_set_add(set, &target->origin, variable.data, variable.length, backend->value,
			       strlen(backend->value)) < 0)
		return error_no_memory(error);
	descriptor_by_hand(set->items[set->count - 1], backend->value);
	return 0;
}

static int add_file(const struct target *target, const char *path, const struct options *options,
		    struct descriptor_set *set, struct error *error)
{
	CLEANUP(memory_free) char *data = NULL;
	char printable[512];
	size_t length;
	int code = text_read_file(path, BLOCK_MAX, &data, &length);

	if (code < 0)
		return error_set(error, code, error_class_of(code), "--env-file %s: %s",
				 text_printable(printable, sizeof(printable), path, strlen(path)),
				 code == -EFBIG ? "more than 8 MiB" : strerror(-code));
	if (descriptor_set_add_file(set, &target->origin, options->env_prefix, data, length) < 0)
		return error_no_memory(error);
	return 0;
}

static int add_given(const struct target *target, const struct options *options,
		     struct descriptor_set *set, struct error *error)
{
	int code = 0;

	for (size_t i = 0; i < options->backend_count && code == 0; i++)
		code = add_backend(target, &options->backends[i], options, set, error);
	for (size_t i = 0; i < options->env_file_count && code == 0; i++)
		code = add_file(target, options->env_files[i], options, set, error);
	return code;
}

static void warn_of_none(const struct target *target, const struct options *options)
{
	if (options->env_file_count)
		log_warn("no descriptors in the file given with --env-file");
	else if (options->pid || options->container)
		log_warn("no %s variables in the environment of %s", options->env_prefix,
			 target->name.data);
	else
		log_warn("no %s variables in the environment (sudo drops them; see -b and "
			 "--env-file)",
			 options->env_prefix);
}

int target_add_descriptors(const struct target *target, const struct options *options,
			   struct descriptor_set *set, struct error *error)
{
	if (options->backend_count || options->env_file_count)
		return add_given(target, options, set, error);
	if (options->pid)
		return add_process_environment(target, options, set, error);
	if (options->container)
		return container_add_environments(target, options, set, error);
	return add_own_environment(target, options, set, error);
}

int target_read_descriptors(const struct target *target, const struct options *options,
			    struct descriptor_set *set, struct error *error)
{
	int code = target_add_descriptors(target, options, set, error);

	if (code < 0)
		return code;
	if (set->count == 0)
		warn_of_none(target, options);
	descriptor_set_settle(set);
	return 0;
}
