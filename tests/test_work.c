/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/work.h"

struct fixture {
	struct loop *loop;
	pthread_t ran_on, done_on;
	bool ran, done;
	int gate; /* the work waits for a byte from here; -1: it does not */
};

static void run(void *user)
{
	struct fixture *fixture = user;
	char byte;

	if (fixture->gate >= 0 && read(fixture->gate, &byte, 1) < 0)
		return;
	fixture->ran_on = pthread_self();
	fixture->ran = true;
}

static void done(void *user)
{
	struct fixture *fixture = user;

	assert_true(fixture->ran);
	fixture->done_on = pthread_self();
	fixture->done = true;
	loop_stop(fixture->loop);
}

static void test_work_runs_beside_the_loop_and_ends_on_it(void **state)
{
	struct fixture fixture = {.gate = -1};
	struct work *work;

	(void)state;
	assert_int_equal(loop_new(&fixture.loop), 0);
	assert_int_equal(work_start(fixture.loop, "test", run, done, &fixture, &work), 0);
	assert_false(fixture.done);
	assert_int_equal(loop_run(fixture.loop), 0);
	assert_true(fixture.done);
	assert_true(pthread_equal(fixture.done_on, pthread_self()));
	assert_false(pthread_equal(fixture.ran_on, pthread_self()));
	loop_free(fixture.loop);
}

static void test_work_that_is_joined_was_run_and_tells_nobody(void **state)
{
	struct fixture fixture = {0};
	struct work *work;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	fixture.gate = ends[0];
	assert_int_equal(loop_new(&fixture.loop), 0);
	assert_int_equal(work_start(fixture.loop, "test", run, done, &fixture, &work), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	work_join(work);
	assert_true(fixture.ran);
	assert_false(fixture.done);
	work_join(NULL);
	loop_free(fixture.loop);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_work_runs_beside_the_loop_and_ends_on_it),
		cmocka_unit_test(test_work_that_is_joined_was_run_and_tells_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
