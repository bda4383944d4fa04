/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/process.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * Two things are looked at. Neither costs more than reading a file.
 *
 *   control group   Engines name a container's after its ID. A process in one
 *                   that is named after another's ID is that other's, whatever
 *                   else speaks for it. IDs that stand in our own group are not
 *                   counted: everything that runs beside us in a container has
 *                   them. This holds in cgroup v1 and v2, with any driver, and
 *                   in private cgroup namespaces, since the kernel writes paths
 *                   as they are seen from ours. But not every engine makes
 *                   groups: rootless ones cannot always, and Podman can be told
 *                   not to.
 *   start           The engine says when the container was started, and its
 *                   first process was there before that. At that moment it had
 *                   the number; a process that has it now, and was there by
 *                   then, is the same. This needs no groups, but the clock of
 *                   1970: where that was set forward since, the process seems
 *                   to be too late, and the control group has to speak for it.
 *
 * Where neither does, it takes the engine: what it says of the container after
 * somebody else holds the process by a pidfd is of that process, or the engine
 * does not know yet that the container has ended.
 */

enum {
	ID_LENGTH = 64,
	FIELD_START = 22,
	FIELD_BEHIND_NAME = 3,
	STAT_MAX = 1024,
	STATUS_MAX = 8192,
	NET_ADMIN = 12, /* CAP_NET_ADMIN in a set, capabilities(7) */
};

static size_t hexadecimal(const char *text)
{
	return strspn(text, "0123456789abcdef");
}

/* The next ID at or behind text, with nothing that could belong to it around it; or NULL. */
static const char *next_id(const char *text)
{
	while (*text) {
		size_t length = hexadecimal(text);

		if (length == ID_LENGTH)
			return text;
		text += length ? length : 1;
	}
	return NULL;
}

static bool holds_id(const char *text, const char *id)
{
	for (const char *at = next_id(text); at; at = next_id(at + ID_LENGTH)) {
		if (strncmp(at, id, ID_LENGTH) == 0)
			return true;
	}
	return false;
}

static enum process_origin judge_group(const struct process_traces *traces, const char *id)
{
	/* Ours first: a container's group may lie below another's. */
	if (strlen(id) == ID_LENGTH && holds_id(traces->cgroup, id))
		return PROCESS_OF_CONTAINER;
	for (const char *at = next_id(traces->cgroup); at; at = next_id(at + ID_LENGTH)) {
		if (!holds_id(traces->own_cgroup, at))
			return PROCESS_OF_ANOTHER;
	}
	return PROCESS_UNSURE;
}

/* Ticks between the machine's start and the process's; -1 where it is not said. */
static int64_t started_ticks(const char *stat)
{
	/* The name may hold anything, but behind its last parenthesis are numbers. */
	const char *at = strrchr(stat, ')');
	uint64_t ticks;

	for (int field = FIELD_BEHIND_NAME - 1; at && field < FIELD_START; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (!at || text_parse_number(at, strspn(at, "0123456789"), INT64_MAX, &ticks) < 0)
		return -1;
	return (int64_t)ticks;
}

static bool was_there(const struct process_traces *traces, uint64_t when)
{
	const uint64_t second = 1000000000;
	int64_t ticks = started_ticks(traces->stat);
	uint64_t began;

	if (ticks < 0 || when == 0 || traces->ticks == 0)
		return false;
	/* Ticks are cut off, so it seems to be older than it is, by one at most. */
	began = (uint64_t)ticks / traces->ticks * second +
		(uint64_t)ticks % traces->ticks * second / traces->ticks;
	return traces->boot + began <= when;
}

enum process_origin process_judge(const struct process_traces *traces, const char *id,
				  uint64_t started)
{
	enum process_origin by_group = judge_group(traces, id);

	if (by_group == PROCESS_UNSURE && was_there(traces, started))
		return PROCESS_OF_CONTAINER;
	return by_group;
}

/* As much of a file as fits; "" where it cannot be read. */
static void read_text(const char *path, char *into, size_t size)
{
	CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, into, size - 1);

	into[length < 0 ? 0 : length] = '\0';
}

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec now = {0};

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

enum process_origin process_origin(pid_t pid, const char *id, uint64_t started)
{
	char path[64], stat[STAT_MAX], cgroup[4096], own[4096];
	long ticks = sysconf(_SC_CLK_TCK);
	/* In this order a pause in between makes a process younger, not older. */
	uint64_t since_boot = nanoseconds(CLOCK_BOOTTIME);
	const struct process_traces traces = {
		.stat = stat,
		.cgroup = cgroup,
		.own_cgroup = own,
		.boot = nanoseconds(CLOCK_REALTIME) - since_boot,
		.ticks = ticks > 0 ? (uint64_t)ticks : 0,
	};

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	read_text(path, stat, sizeof(stat));
	(void)snprintf(path, sizeof(path), "/proc/%ld/cgroup", (long)pid);
	read_text(path, cgroup, sizeof(cgroup));
	read_text("/proc/self/cgroup", own, sizeof(own));
	return process_judge(&traces, id, started);
}

bool process_judge_status(const char *status)
{
	const char *line = strstr(status, "\nCapBnd:");
	unsigned long long set;

	return !line || sscanf(line, "\nCapBnd: %llx", &set) != 1 || set & UINT64_C(1) << NET_ADMIN;
}

bool process_numbers_are_the_machines(void)
{
	/* PID_NS_INIT_INO of linux/nsfs.h, where that is new enough to have it. */
	static const ino_t first = 0xEFFFFFFC;
	struct stat status;

	return stat("/proc/self/ns/pid", &status) < 0 || status.st_ino == first;
}

bool process_may_administer(pid_t pid)
{
	char path[64], status[STATUS_MAX];

	(void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	read_text(path, status, sizeof(status));
	return process_judge_status(status);
}
