/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: what /proc may say of a process, as kernels and engines
 * write it, and whether it is taken for the container's; and the real /proc of
 * a child.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "dragoman/kernel/process.h"

#define ID "6fb1e2a09cd84fbd2fd1f1f9bb4e86e4e1b6a2b1d7f9a3d5c4e3f2a1b0c9d8e7"
#define OTHER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define THIRD "ffff456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SECOND UINT64_C(1000000000)

/* A process that began 50 seconds after the machine, in second 1050 of 1970. */
#define STAT \
	"77 (a) b) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5000 1 1 18446744073709551615"

enum { BEFORE = 1049, AFTER = 1051 };

static enum process_origin judge(const char *cgroup, const char *own, const char *stat,
				 uint64_t started)
{
	const struct process_traces traces = {.stat = stat,
					      .cgroup = cgroup,
					      .own_cgroup = own,
					      .boot = 1000 * SECOND,
					      .ticks = 100};

	return process_judge(&traces, ID, started);
}

static void test_process_in_a_group_of_its_container_is_its(void **state)
{
	static const char *const groups[] = {
		/* Docker with cgroup v1 and v2, either driver; below somebody else's. */
		"12:pids:/docker/" ID "\n0::/\n",
		"0::/docker/" ID "\n",
		"0::/system.slice/docker-" ID ".scope\n",
		"0::/docker/" OTHER "/docker/" ID "\n",
		/* Podman, with systemd and without, as root and not. */
		"0::/machine.slice/libpod-" ID ".scope/container\n",
		"0::/libpod_parent/libpod-" ID "\n",
		"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope\n",
		/* Seen from a private namespace of ours, where it lies beside us. */
		"0::/../" ID "\n",
		"0::/../../system.slice/docker-" ID ".scope/init.scope\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		/* Whenever it began: clocks are set. */
		assert_int_equal(judge(groups[i], "0::/\n", STAT, BEFORE * SECOND),
				 PROCESS_OF_CONTAINER);
}

static void test_process_in_a_group_of_another_container_is_not_its(void **state)
{
	static const char *const groups[] = {
		"0::/docker/" OTHER "\n",
		"5:cpu:/\n4:memory:/docker/" OTHER "\n0::/\n",
		"0::/system.slice/docker-" OTHER ".scope\n",
		"0::/../" OTHER "\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		/* However long it has been there. */
		assert_int_equal(judge(groups[i], "0::/docker/" THIRD "\n", STAT, AFTER * SECOND),
				 PROCESS_OF_ANOTHER);
}

static void test_process_of_no_group_is_its_where_it_was_there_at_the_start(void **state)
{
	static const char *const groups[] = {
		"",
		"0::/\n",
		"0::/user.slice/user-1000.slice/session-3.scope\n",
		/* No ID: too short, too long, other digits. */
		"0::/kubepods/pod3b9a1c1e-7a52-4b1e-a0a5-0c5c8e0a7c11/0123456789ab\n",
		"0::/0" OTHER "\n",
		"0::/X123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
		/* Everything that runs here, beside us in a container, has that. */
		"4:memory:/docker/" OTHER "\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		const char *own = "4:memory:/docker/" OTHER "/agent\n";

		assert_int_equal(judge(groups[i], own, STAT, AFTER * SECOND), PROCESS_OF_CONTAINER);
		assert_int_equal(judge(groups[i], own, STAT, 1050 * SECOND), PROCESS_OF_CONTAINER);
		assert_int_equal(judge(groups[i], own, STAT, 1050 * SECOND - 1), PROCESS_UNSURE);
		assert_int_equal(judge(groups[i], own, STAT, BEFORE * SECOND), PROCESS_UNSURE);
		/* The engine does not say when. */
		assert_int_equal(judge(groups[i], own, STAT, 0), PROCESS_UNSURE);
	}
}

static void test_process_of_a_damaged_stat_is_unsure(void **state)
{
	static const char *const stats[] = {
		"",
		"77",
		"77 (a",
		"77 (a)",
		"77 (a) S 1 77",
		"77 (a) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 ",
		"77 (a) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 -5 1",
		"77 (a) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 99999999999999999999 1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(stats); i++)
		assert_int_equal(judge("0::/\n", "0::/\n", stats[i], AFTER * SECOND),
				 PROCESS_UNSURE);
}

static uint64_t now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_REALTIME, &time);
	return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void test_process_that_runs_is_judged_by_its_start(void **state)
{
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	assert_true(child > 0);
	assert_int_equal(process_origin(child, ID, now()), PROCESS_OF_CONTAINER);
	/* Two ticks and more before it. */
	assert_int_equal(process_origin(child, ID, now() - 60 * SECOND), PROCESS_UNSURE);
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	assert_int_equal(process_origin(child, ID, now()), PROCESS_UNSURE);
}

/* Where nothing tells, it may. */
static void test_process_may_administer_by_its_bounding_set(void **state)
{
	static const struct {
		const char *status;
		bool may;
	} cases[] = {
		/* Docker's default, the same with --cap-add NET_ADMIN, all, none. */
		{"Name:\tsh\nCapEff:\t0\nCapBnd:\t00000000a80425fb\nCapAmb:\t0\n", false},
		{"Name:\tsh\nCapEff:\t0\nCapBnd:\t00000000a80435fb\nCapAmb:\t0\n", true},
		{"CapEff:\t0\nCapBnd:\t000001ffffffffff\n", true},
		{"CapEff:\t0\nCapBnd:\t0000000000000000\n", false},
		/* A name is of its own choice, and the kernel escapes a newline in it. */
		{"Name:\tCapBnd:\t0\\nCapBnd: 0\nCapBnd:\t0000000000001000\n", true},
		{"Name:\tsh\nGroups:\t1 2 3 4", true},
		{"Name:\tsh\nCapBnd:\tx\n", true},
		{"", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(process_judge_status(cases[i].status), cases[i].may);
	/* This one is root's; of nobody nothing is known. */
	assert_true(process_may_administer(getpid()));
	assert_true(process_may_administer(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_process_in_a_group_of_its_container_is_its),
		cmocka_unit_test(test_process_in_a_group_of_another_container_is_not_its),
		cmocka_unit_test(test_process_of_no_group_is_its_where_it_was_there_at_the_start),
		cmocka_unit_test(test_process_of_a_damaged_stat_is_unsure),
		cmocka_unit_test(test_process_that_runs_is_judged_by_its_start),
		cmocka_unit_test(test_process_may_administer_by_its_bounding_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
