/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Namespaces that are there, and all that only looks like one; descriptors
 * that are left open; and what somebody without privilege is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel_lab.h"

static size_t count_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_kernel_closes_every_descriptor(void **state)
{
	struct lab *lab = *state;
	size_t before = count_descriptors();

	for (unsigned i = 0; i < 3; i++) {
		struct kernel *kernel;
		struct netns netns;
		struct error error;

		assert_int_equal(netns_open("/proc/self/ns/net", &netns, &error), 0);
		assert_int_equal(kernel_open(&netns, &kernel, &error), 0);
		assert_int_equal(kernel_read(kernel, lab->arena, &lab->observed, &error), 0);
		kernel_close(kernel);
		netns_done(&netns);
		assert_true(netns_open("/etc/passwd", &netns, &error) < 0);
		assert_true(netns_open("/proc/self/ns/mnt", &netns, &error) < 0);
		assert_true(netns_open_pid(0x7fffffff, &netns, &error) < 0);
		assert_int_equal(netns_open_pid(getpid(), &netns, &error), 0);
		assert_true(netns_is_host(&netns, &error) >= 0);
		netns_done(&netns);
	}
	assert_int_equal(count_descriptors(), before);
}

static void test_descriptors_are_not_inherited(void **state)
{
	(void)state;
	for (int fd = 3; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);
		char path[64], target[256] = "";

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (flags < 0 || readlink(path, target, sizeof(target) - 1) < 0)
			continue;
		if (strstr(target, "socket:") || strstr(target, "route_localnet"))
			assert_true(flags & FD_CLOEXEC);
	}
}

static void test_netns_open_of_what_is_none_says_so(void **state)
{
	char long_name[300];
	char fifo[] = "/tmp/dragoman-test-XXXXXX";
	const struct {
		const char *name;
		int code;
		const char *text;
	} cases[] = {
		{"", -EINVAL, "the namespace's name is empty"},
		{"no-such-name-here", -ENOENT,
		 "/run/netns/no-such-name-here: no such namespace (`ip netns list` shows those "
		 "with a name)"},
		{"no\nsuch\x1b", -ENOENT,
		 "/run/netns/no\\x0asuch\\x1b: no such namespace (`ip netns list` shows those with "
		 "a name)"},
		{"/no/such/path", -ENOENT,
		 "/no/such/path: no such namespace (`ip netns list` shows those with a name)"},
		{"/etc/passwd/x", -ENOTDIR, "/etc/passwd/x: Not a directory"},
		{"/etc/passwd", -EINVAL,
		 "/etc/passwd: not a namespace: the file is not of nsfs (nothing is mounted there "
		 "any more, or it is another file)"},
		{"/", -EINVAL,
		 "/: not a namespace: the file is not of nsfs (nothing is mounted there any more, "
		 "or it is another file)"},
		{"/proc/self/ns/mnt", -EINVAL,
		 "/proc/self/ns/mnt: a namespace, but not a network namespace"},
		{long_name, -ENAMETOOLONG, NULL},
		{fifo, -EINVAL, NULL},
	};

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct netns netns = NETNS_NONE;
		struct error error = {0};

		print_message("%.40s\n", cases[i].name);
		assert_int_equal(netns_open(cases[i].name, &netns, &error), cases[i].code);
		assert_int_equal(error.code, cases[i].code);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_int_equal(netns.fd, -1);
		if (cases[i].text)
			assert_string_equal(error.message, cases[i].text);
	}
	assert_int_equal(unlink(fifo), 0);
}

static void assert_no_process(pid_t pid, const char *why)
{
	struct netns netns = NETNS_NONE;
	struct error error = {0};
	char text[128];

	(void)snprintf(text, sizeof(text), "process %ld: %s", (long)pid, why);
	assert_int_equal(netns_open_pid(pid, &netns, &error), -ESRCH);
	assert_string_equal(error.message, text);
	assert_int_equal(error.class, ERROR_INVALID);
	assert_int_equal(netns.fd, -1);
}

static void test_netns_open_pid_of_no_process_says_so(void **state)
{
	siginfo_t info;
	pid_t child = fork();

	(void)state;
	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	/* A zombie: it has ended, and nobody has waited for it yet. */
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_no_process(child, "it has ended");
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_no_process(child, "no such process");
	assert_no_process(0, "no such process");
	assert_no_process(-1, "no such process");
	assert_no_process(0x7fffffff, "no such process");
}

/* Says its number, and waits until nobody has anything more to say. */
static void *thread_main(void *user)
{
	const int *ends = user;
	pid_t number = gettid();
	char nothing;

	if (write(ends[1], &number, sizeof(number)) == sizeof(number))
		(void)!read(ends[2], &nothing, 1);
	return NULL;
}

static void test_netns_open_pid_of_a_thread_says_so(void **state)
{
	int ends[4];
	pthread_t thread;
	pid_t number;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ends + 2, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&thread, NULL, thread_main, ends), 0);
	assert_int_equal(read(ends[0], &number, sizeof(number)), sizeof(number));
	assert_no_process(number, "no such process");
	assert_int_equal(close(ends[3]), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(close(ends[i]), 0);
}

static void test_netns_open_pid_of_a_process_is_its_namespace(void **state)
{
	struct netns by_path, by_pid;
	struct error error;

	(void)state;
	assert_int_equal(netns_open("/proc/self/ns/net", &by_path, &error), 0);
	assert_int_equal(netns_open_pid(getpid(), &by_pid, &error), 0);
	assert_int_equal(by_path.inode, by_pid.inode);
	assert_int_equal(by_path.device, by_pid.device);
	netns_done(&by_path);
	netns_done(&by_pid);
}

/* The namespace that the program was started in. */
static void open_first(struct netns *ret)
{
	char path[64];
	struct error error;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", lab_first_namespace);
	assert_int_equal(netns_open(path, ret, &error), 0);
}

static void test_netns_is_host_of_process_1_or_else_of_ours(void **state)
{
	struct netns own, first;
	struct error error;
	struct stat of_init;
	bool seen = stat("/proc/1/ns/net", &of_init) == 0;

	(void)state;
	assert_int_equal(netns_open("/proc/self/ns/net", &own, &error), 0);
	open_first(&first);
	assert_true(first.inode != own.inode);
	assert_int_equal(netns_is_host(&own, &error), seen ? 0 : 1);
	assert_int_equal(netns_is_host(&first, &error), seen && of_init.st_ino == first.inode);
	netns_done(&own);
	netns_done(&first);
}

static int give_back(void *user, struct error *error)
{
	struct stat *status = user;

	(void)error;
	return stat("/proc/thread-self/ns/net", status) < 0 ? -errno : -EXDEV;
}

static void test_netns_call_goes_there_and_comes_back(void **state)
{
	struct stat before, inside, after;
	struct netns first;
	struct error error;

	(void)state;
	open_first(&first);
	assert_int_equal(stat("/proc/thread-self/ns/net", &before), 0);
	assert_int_equal(netns_call(&first, give_back, &inside, &error), -EXDEV);
	assert_int_equal(stat("/proc/thread-self/ns/net", &after), 0);
	assert_int_equal(inside.st_ino, first.inode);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_true(before.st_ino != inside.st_ino);
	netns_done(&first);
}

/* What a child that gave root away was told. */
static void as_nobody(int (*function)(struct error *error), struct error *ret)
{
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct error error = {0};

		if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(2);
		error.code = function(&error);
		_exit(write(ends[1], &error, sizeof(error)) == sizeof(error) ? 0 : 3);
	}
	assert_int_equal(close(ends[1]), 0);
	assert_int_equal(read(ends[0], ret, sizeof(*ret)), sizeof(*ret));
	assert_int_equal(close(ends[0]), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static int open_other(struct error *error)
{
	struct netns netns;

	return netns_open_pid(1, &netns, error);
}

static int open_own(struct error *error)
{
	struct kernel *kernel;
	struct netns netns;
	int r = netns_open("/proc/self/ns/net", &netns, error);

	return r < 0 ? r : kernel_open(&netns, &kernel, error);
}

static void test_without_privilege_the_error_says_what_is_missing(void **state)
{
	struct error error;

	(void)state;
	as_nobody(open_other, &error);
	assert_int_equal(error.code, -EACCES);
	assert_int_equal(error.class, ERROR_FATAL);
	assert_string_equal(error.message,
			    "/proc/1/ns/net: Permission denied (root, or CAP_SYS_PTRACE and "
			    "CAP_SYS_ADMIN, is needed)");
	as_nobody(open_own, &error);
	assert_int_equal(error.code, -EPERM);
	assert_int_equal(error.class, ERROR_FATAL);
	assert_string_equal(error.message,
			    "cannot enter the network namespace: Operation not permitted (root, or "
			    "CAP_SYS_ADMIN, is needed)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_kernel_closes_every_descriptor),
		lab_test(test_descriptors_are_not_inherited),
		lab_test(test_netns_open_of_what_is_none_says_so),
		lab_test(test_netns_open_pid_of_no_process_says_so),
		lab_test(test_netns_open_pid_of_a_thread_says_so),
		lab_test(test_netns_open_pid_of_a_process_is_its_namespace),
		lab_test(test_netns_is_host_of_process_1_or_else_of_ours),
		lab_test(test_netns_call_goes_there_and_comes_back),
		lab_test(test_without_privilege_the_error_says_what_is_missing),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
