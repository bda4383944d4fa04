/* SPDX-License-Identifier: MIT */
/*
 * Each case is a child process that gives its rights up, makes a call, and
 * tells by its exit status what came of it: it has no way back. Needs root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/base/privilege_private.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/privilege.h"
#include "dragoman/base/text.h"

enum { KERNEL = 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_PTRACE };

/* The wait status of a child that runs the function and ends with its result. */
static int in_child(int (*function)(const void *user), const void *user)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		/* Not exit(3): what the test runner has to do at its end is not the child's. */
		(void)syscall(SYS_exit_group, function(user));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

/* As hexadecimal, what /proc/self/status has for a name. */
static uint64_t status_field(const char *name)
{
	CLEANUP(memory_free) char *data = NULL;
	size_t length;
	const char *line;

	if (text_read_file("/proc/self/status", 65536, &data, &length) < 0)
		return UINT64_MAX;
	line = strstr(data, name);
	return line ? strtoull(line + strlen(name), NULL, 16) : UINT64_MAX;
}

/* Capabilities */

static int drop_and_compare(const void *user)
{
	const unsigned *keep = user;
	const uint64_t wanted = (*keep & PRIVILEGE_KERNEL ? KERNEL : 0) |
				(*keep & PRIVILEGE_READ ? 1 << CAP_DAC_READ_SEARCH : 0) |
				(*keep & PRIVILEGE_CONNECT ? 1 << CAP_DAC_OVERRIDE : 0);
	struct error error;

	if (privilege_drop(*keep, &error) < 0)
		return 1;
	if (status_field("\nCapEff:") != wanted || status_field("\nCapPrm:") != wanted ||
	    status_field("\nCapBnd:") != wanted)
		return 2;
	if (status_field("\nCapInh:") || status_field("\nCapAmb:"))
		return 3;
	return status_field("\nNoNewPrivs:") == 1 ? 0 : 4;
}

static void test_privilege_drop_keeps_what_is_asked_for_and_no_more(void **state)
{
	const unsigned cases[] = {
		0,
		PRIVILEGE_CONNECT,
		PRIVILEGE_KERNEL,
		PRIVILEGE_KERNEL | PRIVILEGE_READ,
		PRIVILEGE_KERNEL | PRIVILEGE_READ | PRIVILEGE_CONNECT,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(in_child(drop_and_compare, &cases[i]), 0);
}

static int drop_and_regain(const void *user)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = ~0U, .permitted = ~0U}};
	struct error error;

	(void)user;
	if (privilege_drop(PRIVILEGE_KERNEL, &error) < 0)
		return 1;
	if (syscall(SYS_capset, &header, data) == 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) == 0 ||
	    prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) == 0)
		return 2;
	return 0;
}

static void test_privilege_drop_has_no_way_back(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_and_regain, NULL), 0);
}

/* User 0 without its privilege is still user 0 to the kernel, were it not for the securebits. */
static int drop_and_execute(const void *user)
{
	struct error error;

	(void)user;
	if (privilege_drop(PRIVILEGE_KERNEL, &error) < 0)
		return 1;
	(void)execl("/bin/sh", "sh", "-c",
		    "grep -q '^CapEff:.*0000000000000000$' /proc/self/status", NULL);
	return 2;
}

static void test_privilege_drop_leaves_nothing_to_what_is_executed(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_and_execute, NULL), 0);
}

static int drop_and_look_at_dumps(const void *user)
{
	struct error error;
	struct rlimit limit;

	(void)user;
	if (privilege_drop(0, &error) < 0)
		return 1;
	if (getrlimit(RLIMIT_CORE, &limit) < 0 || limit.rlim_cur || limit.rlim_max)
		return 2;
#if !PRIVILEGE_SANITIZED
	return prctl(PR_GET_DUMPABLE) == 0 ? 0 : 3;
#else
	return 0;
#endif
}

static void test_privilege_drop_forbids_core_dumps(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_and_look_at_dumps, NULL), 0);
}

static int drop_and_check(const void *user)
{
	const char *wanted = "no privilege: CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE missing";
	struct error error = {0};

	(void)user;
	if (privilege_drop(PRIVILEGE_READ, &error) < 0)
		return 1;
	if (privilege_check(PRIVILEGE_READ, &error) != 0)
		return 2;
	return privilege_check(PRIVILEGE_KERNEL | PRIVILEGE_READ, &error) == -EPERM &&
			       error.class == ERROR_FATAL &&
			       strncmp(error.message, wanted, strlen(wanted)) == 0
		       ? 0
		       : 3;
}

static void test_privilege_check_names_what_is_missing(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_and_check, NULL), 0);
}

/* System calls */

static int filtered(const void *user)
{
	int (*const *function)(void) = user;
	struct error error;

	if (privilege_drop(PRIVILEGE_KERNEL, &error) < 0 || privilege_filter(&error) < 0)
		return 99;
	return (*function)();
}

static int do_execve(void)
{
	return execl("/bin/true", "true", NULL);
}

static int do_mount(void)
{
	return mount("none", "/mnt", "tmpfs", 0, NULL);
}

static int do_unshare(void)
{
	return unshare(CLONE_NEWNS);
}

static int do_setns_of_another_kind(void)
{
	return setns(0, CLONE_NEWNS);
}

static int do_setns_of_any_kind(void)
{
	return setns(0, 0);
}

static int do_packet(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int do_alg(void)
{
	return socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static int do_tiocsti(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static int do_mprotect(void)
{
	return mprotect(NULL, 4096, PROT_READ | PROT_EXEC);
}

static int do_setuid(void)
{
	return (int)syscall(SYS_setuid, 0);
}

static int do_chmod(void)
{
	return (int)syscall(SYS_fchmodat, AT_FDCWD, "/dev/null", 0666);
}

static int do_kexec(void)
{
	return (int)syscall(SYS_kexec_load, 0, 0, 0, 0);
}

static int do_open_by_handle(void)
{
	return (int)syscall(SYS_open_by_handle_at, 0, 0, 0);
}

static int do_bpf(void)
{
	return (int)syscall(SYS_bpf, 0, 0, 0);
}

static int do_io_uring(void)
{
	return (int)syscall(SYS_io_uring_setup, 0, 0);
}

static int do_module(void)
{
	return (int)syscall(SYS_init_module, 0, 0, 0);
}

static int do_process_vm(void)
{
	return (int)syscall(SYS_process_vm_writev, 0, 0, 0, 0, 0, 0);
}

static int do_seccomp(void)
{
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL);
}

static int do_unknown(void)
{
	return (int)syscall(10000);
}

/* Those that a build with AddressSanitizer has to let pass. */
#if !PRIVILEGE_SANITIZED
static int do_fork(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0 ? 0 : 1;
}

static int do_ptrace(void)
{
	return (int)ptrace(PTRACE_ATTACH, 1, 0, 0);
}

static int do_kill(void)
{
	return kill(1, 0);
}

static int do_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int do_prlimit(void)
{
	return setrlimit(RLIMIT_CORE, &(struct rlimit){0});
}
#endif

static void test_privilege_filter_forbidden_call_ends_the_process(void **state)
{
	static int (*const cases[])(void) = {
		do_execve,
		do_mount,
		do_unshare,
		do_setns_of_another_kind,
		do_setns_of_any_kind,
		do_packet,
		do_alg,
		do_tiocsti,
		do_mprotect,
		do_setuid,
		do_chmod,
		do_kexec,
		do_bpf,
		do_open_by_handle,
		do_io_uring,
		do_module,
		do_process_vm,
		do_seccomp,
		do_unknown,
#if !PRIVILEGE_SANITIZED
		do_fork,
		do_ptrace,
		do_kill,
		do_dumpable,
		do_prlimit,
#endif
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status = in_child(filtered, &cases[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("case %zu: wait status %#x", i, (unsigned)status);
	}
}

static int do_sockets(void)
{
	const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (socket(families[i], SOCK_DGRAM, 0) < 0)
			return 1 + (int)i;
	}
	return 0;
}

static int do_enter(void)
{
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return home >= 0 && setns(home, CLONE_NEWNET) == 0 ? 0 : 1;
}

static void *thread(void *user)
{
	return user;
}

static int do_thread(void)
{
	int given = 0;
	void *result = NULL;
	pthread_t id;

	return pthread_create(&id, NULL, thread, &given) == 0 && pthread_join(id, &result) == 0 &&
			       result == &given
		       ? 0
		       : 1;
}

/* It is of no importance whether there is an answer. */
static int do_names(void)
{
	struct addrinfo *found = NULL;
	int r = getaddrinfo("localhost", "80", NULL, &found);

	if (r == 0)
		freeaddrinfo(found);
	if (getaddrinfo("name.invalid", "80", NULL, &found) == 0)
		freeaddrinfo(found);
	return r;
}

static int do_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
				       MAP_FAILED &&
			       errno == EPERM
		       ? 0
		       : 1;
}

static int do_clone3(void)
{
	return syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS ? 0 : 1;
}

static int do_status(void)
{
	return status_field("\nSeccomp:") == 2 ? 0 : 1;
}

static void test_privilege_filter_leaves_what_the_agent_does(void **state)
{
	static int (*const cases[])(void) = {
		do_sockets, do_enter, do_thread, do_names, do_code, do_clone3, do_status,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status = in_child(filtered, &cases[i]);

		if (status)
			fail_msg("case %zu: wait status %#x", i, (unsigned)status);
	}
}

static int do_abort(void)
{
	(void)signal(SIGABRT, SIG_DFL);
	abort();
}

static void test_privilege_filter_lets_a_failed_assertion_end_as_such(void **state)
{
	static int (*const function)(void) = do_abort;
	int status;

	(void)state;
	status = in_child(filtered, &function);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_privilege_drop_keeps_what_is_asked_for_and_no_more),
		cmocka_unit_test(test_privilege_drop_has_no_way_back),
		cmocka_unit_test(test_privilege_drop_leaves_nothing_to_what_is_executed),
		cmocka_unit_test(test_privilege_drop_forbids_core_dumps),
		cmocka_unit_test(test_privilege_check_names_what_is_missing),
		cmocka_unit_test(test_privilege_filter_forbidden_call_ends_the_process),
		cmocka_unit_test(test_privilege_filter_leaves_what_the_agent_does),
		cmocka_unit_test(test_privilege_filter_lets_a_failed_assertion_end_as_such),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
