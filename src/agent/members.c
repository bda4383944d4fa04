/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent_private.h"
#include "dragoman/base/log.h"
#include "dragoman/kernel/process.h"

/*
 * Members come and go; a target lives as long as it has one.
 *
 * A process is held by a pidfd, which says when it ends, whether or not an
 * engine is there to tell: a dead namespace is let go of at once. Of a
 * member's environment only what carries the prefix is kept.
 *
 * An engine gives a number, which may be another process's when it is used. So
 * the process is held first, and has to be the container's then
 * (kernel/process.h), before its namespace is entered. Where that cannot be
 * told the engine is asked again: what it says of a process that is held is of
 * that process. One that is known to be another container's is never entered.
 */

static struct member *member_find(const struct agent *agent, const char *id)
{
	struct member *member;

	LIST_FOREACH (member, &agent->members, of_agent) {
		if (strcmp(member->id, id) == 0)
			return member;
	}
	return NULL;
}

static void member_free(struct member *member)
{
	if (member->target)
		target_leave(member);
	LIST_REMOVE(member, of_agent);
	loop_source_free(member->exit);
	fd_close(&member->pidfd);
	free(member->id);
	free(member->name);
	free(member->block);
	free(member->reason);
	free(member);
}

void members_free(struct agent *agent)
{
	struct member *member;

	while ((member = LIST_FIRST(&agent->members)))
		member_free(member);
	if (!agent->on_names)
		return;
	loop_source_free(TAKE(agent->on_names));
	fd_close(&agent->names);
}

/* Keeps the strings of a block that carry the prefix. Returns 0 or -ENOMEM. */
static int keep_block(struct member *member, const char *block, size_t length)
{
	const char *prefix = member->agent->options.env_prefix;
	size_t prefix_length = strlen(prefix);
	struct text kept = {0};

	text_add(&kept, "", 0);
	for (size_t at = 0; at < length;) {
		size_t step = strnlen(block + at, length - at);

		if (step >= prefix_length && memcmp(block + at, prefix, prefix_length) == 0) {
			text_add(&kept, block + at, step);
			text_add(&kept, "", 1);
		}
		at += step + 1;
	}
	if (kept.failed) {
		text_done(&kept);
		return -ENOMEM;
	}
	member->block_length = kept.length;
	member->block = kept.data;
	return 0;
}

static struct member *member_new(struct agent *agent, const char *id, const char *name)
{
	struct member *member = calloc(1, sizeof(*member));

	if (!member)
		return NULL;
	member->agent = agent;
	member->pidfd = -1;
	LIST_INSERT_HEAD(&agent->members, member, of_agent);
	member->id = strdup(id);
	member->name = strdup(name);
	if (member->id && member->name)
		return member;
	member_free(member);
	return NULL;
}

static void on_exit_of_process(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct member *member = user;

	(void)source;
	(void)fd;
	(void)events;
	log_debug("%s: its process has ended", member->name);
	if (member->by_hand)
		log_info("%s has ended: its namespace is let go of", member->name);
	member_free(member);
}

static int watch_process(struct member *member)
{
	member->pidfd = (int)syscall(SYS_pidfd_open, member->pid, 0);
	if (member->pidfd < 0)
		return -errno;
	return loop_add_io(member->agent->loop, "process", member->pidfd, LOOP_READ,
			   on_exit_of_process, member, &member->exit);
}

/* Into its namespace, or the reason why not. */
static int enter(struct member *member, const struct netns *netns, struct error *error)
{
	int r = member->agent->options.allow_host_netns ? 0 : netns_is_host(netns, error);

	if (r < 0)
		return r;
	if (r > 0) {
		member->note = MEMBER_HOST_NETWORK;
		return error_set(error, -EPERM, ERROR_INVALID,
				 "%s is in the host's own network namespace, which is refused "
				 "without --allow-host-netns",
				 member->name);
	}
	return target_join(member->agent, netns, member, error);
}

static int hold_process(struct member *member, struct error *error)
{
	int r = watch_process(member);

	/* Of a thread's number it is EINVAL, with newer kernels ENOENT. */
	if (r == -ESRCH || r == -EINVAL || r == -ENOENT)
		return error_set(error, -ESRCH, ERROR_TRANSIENT, "process %ld: no such process",
				 (long)member->pid);
	if (r < 0)
		return error_set(error, r, error_class_of(r), "process %ld: %s", (long)member->pid,
				 strerror(-r));
	return 0;
}

/* The namespace of the process that is held; -ESRCH where it has ended. */
static int enter_process(struct member *member, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r;

	/* What somebody names by hand is trusted until it is seen to deserve none. */
	member->is_able = !member->by_hand && process_may_administer(member->pid);
	/* Behind it: that the process still runs makes that true. */
	r = netns_open_pidfd(member->pidfd, member->pid, &netns, error);
	return r < 0 ? r : enter(member, &netns, error);
}

static int follow_process(struct member *member, struct error *error)
{
	int r = hold_process(member, error);

	return r < 0 ? r : enter_process(member, error);
}

static enum process_origin origin_of(const struct member *member)
{
	return process_origin(member->pid, member->id, member->started);
}

static void doubt(struct member *member)
{
	member->note = MEMBER_DOUBTED;
	member->agent->metrics.doubts++;
	log_warn("%s: process %ld may be another's by now: asking the engine again", member->name,
		 (long)member->pid);
	containers_ask_again(member->agent->containers, member->id);
}

/* The engine was asked again, and says the same of the process that was held meanwhile. */
static int believe(struct member *member, struct error *error)
{
	if (origin_of(member) == PROCESS_OF_ANOTHER)
		return error_set(error, -EBADMSG, ERROR_CONFLICT,
				 "the engine names process %ld, which is another container's",
				 (long)member->pid);
	member->note = MEMBER_FOLLOWED;
	return enter_process(member, error);
}

/* It may have been short; but if none was ever here, that is not why. */
static void tell_of_unknown_number(const struct member *member)
{
	struct agent *agent = member->agent;

	if (agent->numbers_settled || process_numbers_are_the_machines())
		return;
	agent->numbers_settled = true;
	log_warn("%s: there is no process %ld here: the agent is in a PID namespace of its own, "
		 "where the engine's numbers mean nothing (docker run --pid host)",
		 member->name, (long)member->pid);
}

static int follow_container(struct member *member, const struct container *container,
			    struct error *error)
{
	int r;

	member->created = container->created;
	member->started = container->started;
	member->pid = container->pid;
	if (container->disabled) {
		member->note = MEMBER_DISABLED;
		return 0;
	}
	if (container->host_network && !member->agent->options.allow_host_netns) {
		member->note = MEMBER_HOST_NETWORK;
		return 0;
	}
	if (keep_block(member, container->environment, container->environment_length) < 0)
		return error_no_memory(error);
	if (container->environment_dropped)
		log_warn("%s: %zu variables left out (a NUL inside, or more than 16 MiB)",
			 member->name, container->environment_dropped);
	r = hold_process(member, error);
	if (r == -ESRCH)
		tell_of_unknown_number(member);
	if (r < 0)
		return r;
	member->agent->numbers_settled = true;
	/* This first: that the process runs is looked at behind it. */
	if (origin_of(member) == PROCESS_OF_CONTAINER)
		return enter_process(member, error);
	doubt(member);
	return 0;
}

static void rename_member(struct member *member, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return;
	free(member->name);
	member->name = copy;
}

/* The container of that ID, as new: whatever was known of it is of another process. */
static struct member *replace_member(struct agent *agent, struct member *old,
				     const struct container *container)
{
	if (old)
		member_free(old);
	return member_new(agent, container->id, container->name);
}

void member_running(struct agent *agent, const struct container *container)
{
	struct member *member = member_find(agent, container->id);
	bool same = member && member->pid == container->pid &&
		    member->started == container->started && member->pidfd >= 0;
	struct error error = {0};
	int r;

	agent->metrics.container_events++;
	if (same)
		rename_member(member, container->name);
	if (same && member->target)
		return;
	same = same && member->note == MEMBER_DOUBTED;
	if (!same)
		member = replace_member(agent, member, container);
	if (!member)
		return;
	r = same ? believe(member, &error) : follow_container(member, container, &error);
	if (r == 0) {
		if (member->target && container->event)
			reconciler_mark(member->target, container->event);
		return;
	}
	if (r == -ESRCH) { /* it was short */
		member_free(member);
		return;
	}
	if (member->note != MEMBER_HOST_NETWORK) {
		member->note = MEMBER_UNREACHABLE;
		log_error("%s: %s", member->name, error.message);
		metrics_error(agent, &error);
	}
	member->reason = strdup(error.message);
}

void member_gone(struct agent *agent, const char *id)
{
	struct member *member = member_find(agent, id);

	agent->metrics.container_events++;
	if (member && !member->by_hand)
		member_free(member);
}

/* Whether the name still stands for the namespace that was opened under it. */
static bool name_stands(const struct member *member)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	struct error error;

	return netns_open(member->id, &netns, &error) == 0 && member->target &&
	       netns.device == member->target->device && netns.inode == member->target->inode;
}

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* An event without a name is of a directory itself, or of events that were lost. */
static void look_for_removed(struct agent *agent, const struct inotify_event *event)
{
	struct member *member, *next;

	for (member = LIST_FIRST(&agent->members); member; member = next) {
		next = LIST_NEXT(member, of_agent);
		if (!member->by_name ||
		    (event->len && strcmp(event->name, last_component(member->id)) != 0) ||
		    name_stands(member))
			continue;
		log_info("%s is gone: its namespace is let go of", member->name);
		member_free(member);
	}
}

static void on_names(struct loop_source *source, int fd, unsigned events, void *user)
{
	alignas(struct inotify_event) char buffer[4096];
	ssize_t length;

	(void)source;
	(void)events;
	while ((length = read(fd, buffer, sizeof(buffer))) > 0) {
		const struct inotify_event *event;

		for (const char *at = buffer; at < buffer + length;
		     at += sizeof(*event) + event->len) {
			event = (const void *)at;
			look_for_removed(user, event);
		}
	}
}

/* One for all: a user may have 128 of them, and no more (inotify(7), max_user_instances). */
static int open_names(struct agent *agent)
{
	CLEANUP(fd_close) int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int r = fd < 0 ? -errno
		       : loop_add_io(agent->loop, "names of namespaces", fd, LOOP_READ, on_names,
				     agent, &agent->on_names);

	if (r == 0)
		agent->names = TAKE_FD(fd);
	return r;
}

/* The directory of a name, where inotify(7) tells of what is removed from it. */
static int watch_name(struct member *member, struct error *error)
{
	struct agent *agent = member->agent;
	const char *slash = strrchr(member->id, '/');
	char directory[4096] = "/run/netns";
	int r = agent->on_names ? 0 : open_names(agent);

	if (slash && (size_t)(slash - member->id) >= sizeof(directory))
		return error_set(error, -ENAMETOOLONG, ERROR_INVALID, "%s: too long", member->name);
	if (slash)
		(void)snprintf(directory, sizeof(directory), "%.*s/", (int)(slash - member->id),
			       member->id);
	/* /proc has no events of its own; such a path is held until the agent ends. */
	if (r == 0 && inotify_add_watch(agent->names, directory,
					IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_ATTRIB) < 0)
		r = -errno;
	if (r < 0)
		return error_set(error, r, error_class_of(-r), "%s: cannot watch it: %s",
				 member->name, strerror(-r));
	member->by_name = true;
	return 0;
}

static int follow_name(struct member *member, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r = watch_name(member, error);

	if (r == 0)
		r = netns_open(member->id, &netns, error);
	if (r == 0)
		r = enter(member, &netns, error);
	return r;
}

int member_by_hand(struct agent *agent, const char *netns, pid_t pid, agent_source *source,
		   void *user, struct error *error)
{
	char number[32], printable[512];
	struct member *member;
	int r;

	(void)snprintf(number, sizeof(number), "process %ld", (long)pid);
	if (netns)
		text_printable(printable, sizeof(printable), netns, strlen(netns));
	if (member_find(agent, netns ? netns : number))
		return error_set(error, -EEXIST, ERROR_INVALID, "%s: given twice",
				 netns ? printable : number);
	member = member_new(agent, netns ? netns : number, netns ? printable : number);
	if (!member)
		return error_no_memory(error);
	member->by_hand = true;
	member->pid = pid;
	member->source = source;
	member->source_user = user;
	r = netns ? follow_name(member, error) : follow_process(member, error);
	if (r < 0)
		member_free(member);
	return r;
}
