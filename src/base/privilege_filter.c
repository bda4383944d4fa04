/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <errno.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/privilege.h"
#include "dragoman/base/text.h"
#include "privilege_private.h"

/*
 * Theory of operation
 *
 * A list of the system calls that the agent and its libraries make; any other
 * ends the process (SECCOMP_RET_KILL_PROCESS), and the kernel's log says which
 * it was. The calls of other architectures' ABIs are none of the list's.
 *
 * The list is wider than what a trace shows where a call gives nothing that
 * the process does not have already (reading the time, another way to wait, to
 * read a descriptor, to ask for a file's metadata): libraries change between
 * releases, and an agent that dies of that helps nobody. It is as narrow as
 * can be where a call would be of use to somebody who took the process over:
 *
 *   - no program is executed and no process made: clone(2) makes threads only,
 *     which libcurl resolves names in, and never a namespace
 *   - no memory becomes code
 *   - setns(2) goes to network namespaces and to no other kind
 *   - no sockets but of the four families that are used: not AF_PACKET
 *   - no signal goes to another process, none is traced, read or written
 *   - nothing is mounted, loaded into the kernel or rebooted; no bpf(2), no
 *     io_uring, no keys, no change of user, owner or mode
 *
 * Two answers are not the end of the process:
 *
 *   - clone3(2) is not there (ENOSYS). Its flags lie in memory, where a filter
 *     does not see them; libc goes on with clone(2).
 *   - memory that is code cannot be mapped (EPERM). Somebody may change
 *     /etc/nsswitch.conf while the agent runs, and libc loads the module that
 *     is named there; that fails like a module that is not installed. Those
 *     that are named at the start are loaded before the filter stands, so name
 *     resolution is what it was without one.
 *
 * Arguments are looked at only where it says something; calls without that
 * cost nothing from kernel 5.11 on, which knows their answer in advance.
 */

/* One answer to a call, for any arguments, or for those that a comparison picks. */
static const char *const allowed[] = {
	/* memory, threads, the end */
	"brk",
	"exit",
	"exit_group",
	"futex",
	"futex_waitv",
	"get_robust_list",
	"madvise",
	"membarrier",
	"mremap",
	"munmap",
	"restart_syscall",
	"rseq",
	"sched_getaffinity",
	"sched_yield",
	"set_robust_list",
	/* signals, to oneself */
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigtimedwait",
	"sigaltstack",
	"signalfd4",
	/* who and where we are */
	"getcpu",
	"getcwd",
	"getegid",
	"geteuid",
	"getgid",
	"getgroups",
	"getpid",
	"getppid",
	"getresgid",
	"getresuid",
	"getrlimit",
	"getrusage",
	"gettid",
	"getuid",
	"sysinfo",
	"times",
	"uname",
	/* time, chance */
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"getrandom",
	"gettimeofday",
	"nanosleep",
	"time",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_settime",
	/* waiting */
	"epoll_create",
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd2",
	"inotify_add_watch",
	"inotify_init1",
	"inotify_rm_watch",
	"pidfd_open",
	"poll",
	"ppoll",
	"pselect6",
	"select",
	/* descriptors */
	"close",
	"close_range",
	"dup",
	"dup2",
	"dup3",
	"fcntl",
	"flock",
	"lseek",
	"pipe",
	"pipe2",
	"pread64",
	"preadv",
	"pwrite64",
	"pwritev",
	"read",
	"readv",
	"write",
	"writev",
	/* files */
	"access",
	"faccessat",
	"faccessat2",
	"fstat",
	"fstatfs",
	"getdents64",
	"lstat",
	"mkdir",
	"mkdirat",
	"newfstatat",
	"open",
	"openat",
	"readlink",
	"readlinkat",
	"stat",
	"statfs",
	"statx",
	"umask",
	"unlink",
	"unlinkat",
	/* sockets, once made */
	"accept",
	"accept4",
	"bind",
	"connect",
	"getpeername",
	"getsockname",
	"getsockopt",
	"listen",
	"recvfrom",
	"recvmmsg",
	"recvmsg",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"setsockopt",
	"shutdown",
};

enum {
	NAMESPACES = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID |
		     CLONE_NEWUSER | CLONE_NEWUTS,
	/* The leak detector makes a process for its tracer. */
	THREAD = PRIVILEGE_SANITIZED ? 0 : CLONE_THREAD,
};

/* prctl(2), PR_SET_VMA: names for memory, by which malloc says what is what. */
enum { SET_VMA = 0x53564d41 };

/* Without braces, which clang-format sets in a macro in another way from version to version. */
#define WHERE(argument, mask, value) \
	argument, SCMP_CMP_MASKED_EQ, (scmp_datum_t)(mask), (scmp_datum_t)(value)
#define IS(argument, value) WHERE(argument, UINT32_MAX, value)

/* One of several for a call: any of them lets it pass. */
static const struct {
	const char *name;
	struct scmp_arg_cmp comparison;
} allowed_where[] = {
	{"socket", {IS(0, AF_UNIX)}},
	{"socket", {IS(0, AF_INET)}},
	{"socket", {IS(0, AF_INET6)}},
	{"socket", {IS(0, AF_NETLINK)}},
	{"socketpair", {IS(0, AF_UNIX)}},
	{"setns", {IS(1, CLONE_NEWNET)}},
	{"ioctl", {IS(1, NS_GET_NSTYPE)}},
	{"ioctl", {IS(1, SIOCGSKNS)}},
	{"ioctl", {IS(1, FIONBIO)}},
	{"ioctl", {IS(1, FIONREAD)}},
	{"ioctl", {IS(1, TCGETS)}},       /* isatty(3) */
	{"ioctl", {IS(1, SIOCGIFINDEX)}}, /* if_nametoindex(3): an address with a scope */
	{"ioctl", {IS(1, SIOCGIFNAME)}},
	{"mmap", {WHERE(2, PROT_EXEC, 0)}},
	{"mprotect", {WHERE(2, PROT_EXEC, 0)}},
	{"clone", {WHERE(0, NAMESPACES | THREAD, THREAD)}},
	{"prctl", {IS(0, PR_SET_NAME)}},
	{"prctl", {IS(0, PR_GET_NAME)}},
	{"prctl", {IS(0, SET_VMA)}},
};

/* What AddressSanitizer needs besides, to stop the process and look for leaks. */
static const char *const allowed_sanitizers[] = {
	"arch_prctl",       "capget", "getdents", "kill",  "prctl", "prlimit64",
	"process_vm_readv", "ptrace", "tgkill",   "tkill", "wait4",
};

static int add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count,
	       const struct scmp_arg_cmp *comparisons)
{
	int number = seccomp_syscall_resolve_name(name);

	/* This libseccomp has not heard of it; of one that the machine lacks it makes nothing. */
	if (number == __NR_SCMP_ERROR)
		return 0;
	return seccomp_rule_add_array(filter, action, number, count, comparisons);
}

static int add_names(scmp_filter_ctx filter, const char *const *names, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = add(filter, SCMP_ACT_ALLOW, names[i], 0, NULL);
	return r;
}

/* What asks for values that are known now only, or for more than one argument. */
static int add_particular(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp ourselves[] = {{IS(0, getpid())}};
	const struct scmp_arg_cmp only_read[] = {{IS(0, 0)}, {2, SCMP_CMP_EQ, 0, 0}};
	const struct scmp_arg_cmp code[] = {{WHERE(2, PROT_EXEC, PROT_EXEC)}};
	int r = add(filter, SCMP_ACT_ALLOW, "tgkill", 1, ourselves); /* abort(3) */

	if (r == 0)
		r = add(filter, SCMP_ACT_ALLOW, "prlimit64", 2, only_read);
	if (r == 0)
		r = add(filter, SCMP_ACT_ERRNO(EPERM), "mmap", 1, code);
	if (r == 0)
		r = add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	return r;
}

static int fill(scmp_filter_ctx filter)
{
	int r = add_names(filter, allowed, ARRAY_SIZE(allowed));

	for (size_t i = 0; i < ARRAY_SIZE(allowed_where) && r == 0; i++)
		r = add(filter, SCMP_ACT_ALLOW, allowed_where[i].name, 1,
			&allowed_where[i].comparison);
	if (r == 0)
		r = add_particular(filter);
	if (r == 0 && PRIVILEGE_SANITIZED)
		r = add_names(filter, allowed_sanitizers, ARRAY_SIZE(allowed_sanitizers));
	return r;
}

static bool is_built_in(const char *name, size_t length)
{
	return (length == 5 && memcmp(name, "files", 5) == 0) ||
	       (length == 3 && memcmp(name, "dns", 3) == 0);
}

/* Loads the module of libc that resolves names in that way, if there is one, for good. */
static void load_module(const char *name, size_t length)
{
	char file[64];

	if (is_built_in(name, length) || length >= sizeof(file) - sizeof("libnss_.so.2"))
		return;
	(void)snprintf(file, sizeof(file), "libnss_%.*s.so.2", (int)length, name);
	(void)dlopen(file, RTLD_LAZY);
}

/* "hosts: files mymachines [!UNAVAIL=return] dns" of /etc/nsswitch.conf; see nsswitch.conf(5). */
static void load_modules(const char *line)
{
	static const char blanks[] = " \t";

	for (line += strspn(line, blanks); *line && *line != '#'; line += strspn(line, blanks)) {
		size_t length = *line == '[' ? strcspn(line, "]") + 1 : strcspn(line, " \t[#");

		if (*line == '[' && line[length - 1] != ']')
			return;
		if (*line != '[')
			load_module(line, length);
		line += length;
	}
}

static void prepare_name_resolution(void)
{
	CLEANUP(memory_free) char *data = NULL;
	size_t length;

	if (text_read_file("/etc/nsswitch.conf", 1024 * 1024, &data, &length) < 0)
		return;
	for (char *rest = data, *line; (line = strsep(&rest, "\n"));) {
		line += strspn(line, " \t");
		if (strncmp(line, "hosts:", strlen("hosts:")) == 0)
			load_modules(line + strlen("hosts:"));
	}
}

int privilege_filter(struct error *error)
{
	scmp_filter_ctx filter;
	int r;

	prepare_name_resolution();
	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return error_set(error, -ENOSYS, ERROR_FATAL,
				 "system calls cannot be filtered here: the kernel has no seccomp, "
				 "or does not let us use it (--no-seccomp goes on without)");
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = fill(filter);
	/* A tree, not a list: the way to each call is short. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	if (r < 0)
		return error_set(error, r, ERROR_FATAL,
				 "system calls cannot be filtered here: %s (--no-seccomp goes on "
				 "without)",
				 strerror(-r));
	return 0;
}
