/* SPDX-License-Identifier: MIT */
#include "dragoman/base/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"

enum { MILLISECOND = 1000000 };

/* What happened, as letters in the order of calls. */
struct trace {
	struct loop *loop;
	char letters[64];
	size_t count;
	struct loop_source *sources[8];
	int pipe[2];
};

struct step {
	struct trace *trace;
	char letter;
};

static void note(struct trace *trace, char letter)
{
	assert_true(trace->count + 1 < sizeof(trace->letters));
	trace->letters[trace->count++] = letter;
}

static int setup(void **state)
{
	struct trace *trace = calloc(1, sizeof(*trace));

	if (!trace || loop_new(&trace->loop) < 0 || pipe(trace->pipe) < 0)
		return -1;
	*state = trace;
	return 0;
}

static int teardown(void **state)
{
	struct trace *trace = *state;

	loop_free(trace->loop);
	(void)close(trace->pipe[0]);
	(void)close(trace->pipe[1]);
	free(trace);
	return 0;
}

static void on_note(struct loop_source *source, void *user)
{
	const struct step *step = user;

	(void)source;
	note(step->trace, step->letter);
}

static void on_stop(struct loop_source *source, void *user)
{
	const struct step *step = user;

	(void)source;
	note(step->trace, step->letter);
	loop_stop(step->trace->loop);
}

static void test_timers_armed_in_any_order_fire_in_order_of_time(void **state)
{
	struct trace *trace = *state;
	uint64_t now = loop_now(trace->loop);
	static const int after[] = {5, 1, 4, 2, 3, 0};
	struct step steps[6];

	for (size_t i = 0; i < 6; i++) {
		steps[i] = (struct step){trace, (char)('0' + after[i])};
		assert_int_equal(loop_add_timer(trace->loop, "timer",
						now + (uint64_t)after[i] * MILLISECOND,
						after[i] == 5 ? on_stop : on_note, &steps[i],
						&trace->sources[i]),
				 0);
	}
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "012345");
	assert_true(loop_now(trace->loop) >= now + 5 * MILLISECOND);
}

static void test_timer_freed_while_armed_is_not_called(void **state)
{
	struct trace *trace = *state;
	struct step never = {trace, 'x'}, end = {trace, 'e'};
	uint64_t now = loop_now(trace->loop);

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(loop_add_timer(trace->loop, "timer", now + i, on_note, &never,
						&trace->sources[i]),
				 0);
	assert_int_equal(
		loop_add_timer(trace->loop, "end", now + 5, on_stop, &end, &trace->sources[4]), 0);
	loop_source_free(trace->sources[2]);
	loop_source_free(trace->sources[0]);
	loop_source_arm(trace->sources[1], UINT64_MAX);
	loop_source_free(trace->sources[3]);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "e");
}

static void on_rearm(struct loop_source *source, void *user)
{
	const struct step *step = user;

	note(step->trace, step->letter);
	if (step->trace->count < 3)
		loop_source_arm(source, 0);
}

static void test_timer_armed_for_the_past_in_itself_waits_for_the_next_round(void **state)
{
	struct trace *trace = *state;
	struct step timer = {trace, 't'}, deferred = {trace, 'd'}, end = {trace, 'e'};
	uint64_t now = loop_now(trace->loop);

	assert_int_equal(
		loop_add_timer(trace->loop, "past", 0, on_rearm, &timer, &trace->sources[0]), 0);
	assert_int_equal(
		loop_add_deferred(trace->loop, "deferred", on_note, &deferred, &trace->sources[1]),
		0);
	assert_int_equal(loop_add_timer(trace->loop, "end", now + 2 * MILLISECOND, on_stop, &end,
					&trace->sources[2]),
			 0);
	loop_source_trigger(trace->sources[1]);
	assert_int_equal(loop_run(trace->loop), 0);
	/* The deferred source of the first round comes before the timer's second time. */
	assert_string_equal(trace->letters, "tdte");
}

static void test_deferred_triggered_many_times_is_called_once(void **state)
{
	struct trace *trace = *state;
	struct step deferred = {trace, 'd'}, end = {trace, 'e'};

	assert_int_equal(
		loop_add_deferred(trace->loop, "deferred", on_note, &deferred, &trace->sources[0]),
		0);
	assert_int_equal(loop_add_deferred(trace->loop, "end", on_stop, &end, &trace->sources[1]),
			 0);
	for (size_t i = 0; i < 1000; i++)
		loop_source_trigger(trace->sources[0]);
	loop_source_trigger(trace->sources[1]);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "de");
}

static void on_again(struct loop_source *source, void *user)
{
	const struct step *step = user;

	note(step->trace, step->letter);
	if (step->trace->count < 6)
		loop_source_trigger(source);
}

static void test_deferred_triggering_itself_leaves_the_round_to_others(void **state)
{
	struct trace *trace = *state;
	struct step self = {trace, 'd'}, timer = {trace, 't'}, end = {trace, 'e'};

	assert_int_equal(
		loop_add_deferred(trace->loop, "self", on_again, &self, &trace->sources[0]), 0);
	assert_int_equal(
		loop_add_timer(trace->loop, "timer", 0, on_rearm, &timer, &trace->sources[1]), 0);
	assert_int_equal(loop_add_timer(trace->loop, "end", loop_now(trace->loop) + 2 * MILLISECOND,
					on_stop, &end, &trace->sources[2]),
			 0);
	loop_source_trigger(trace->sources[0]);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_memory_equal(trace->letters, "tdtd", 4);
}

static void on_readable(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct trace *trace = user;
	char byte;

	(void)source;
	assert_true(events & LOOP_READ);
	assert_int_equal(read(fd, &byte, 1), 1);
	note(trace, byte);
	if (byte == 'z')
		loop_stop(trace->loop);
}

static void test_io_with_bytes_waiting_is_called_for_each_wake_up(void **state)
{
	struct trace *trace = *state;

	assert_int_equal(loop_add_io(trace->loop, "pipe", trace->pipe[0], LOOP_READ, on_readable,
				     trace, &trace->sources[0]),
			 0);
	assert_int_equal(write(trace->pipe[1], "abz", 3), 3);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "abz");
}

static void on_hangup(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct trace *trace = user;

	(void)source;
	(void)fd;
	note(trace, events & LOOP_HANGUP ? 'h' : '?');
	loop_stop(trace->loop);
}

static void test_io_without_interest_is_still_told_of_a_hangup(void **state)
{
	struct trace *trace = *state;

	assert_int_equal(loop_add_io(trace->loop, "pipe", trace->pipe[0], LOOP_READ, on_hangup,
				     trace, &trace->sources[0]),
			 0);
	assert_int_equal(loop_source_set_events(trace->sources[0], 0), 0);
	fd_close(&trace->pipe[1]);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "h");
}

static void test_io_of_a_closed_descriptor_is_refused(void **state)
{
	struct trace *trace = *state;

	assert_int_equal(loop_add_io(trace->loop, "closed", 1000000, LOOP_READ, on_readable, trace,
				     &trace->sources[0]),
			 -EBADF);
	assert_null(trace->sources[0]);
}

/* Frees every source of the trace, its own included. */
static void on_free_all(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct trace *trace = user;

	(void)source;
	(void)fd;
	(void)events;
	note(trace, 'f');
	for (size_t i = 0; i < ARRAY_SIZE(trace->sources); i++)
		loop_source_free(TAKE(trace->sources[i]));
}

static void test_sources_freed_in_a_callback_of_the_same_wake_up_are_never_called(void **state)
{
	struct trace *trace = *state;
	struct step never = {trace, 'x'}, last = {trace, 'e'};
	struct loop_source *end;
	int other[2];

	assert_int_equal(pipe(other), 0);
	assert_int_equal(write(other[1], "a", 1), 1);
	assert_int_equal(write(trace->pipe[1], "a", 1), 1);
	/* Both are readable in one wake-up; whichever comes first frees both. */
	assert_int_equal(loop_add_io(trace->loop, "one", trace->pipe[0], LOOP_READ, on_free_all,
				     trace, &trace->sources[0]),
			 0);
	assert_int_equal(loop_add_io(trace->loop, "two", other[0], LOOP_READ, on_free_all, trace,
				     &trace->sources[1]),
			 0);
	assert_int_equal(
		loop_add_deferred(trace->loop, "three", on_note, &never, &trace->sources[2]), 0);
	loop_source_trigger(trace->sources[2]);
	assert_int_equal(loop_add_deferred(trace->loop, "end", on_stop, &last, &end), 0);
	loop_source_trigger(end);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "fe");
	(void)close(other[0]);
	(void)close(other[1]);
}

static void test_stop_before_a_run_ends_it_and_loses_nothing(void **state)
{
	struct trace *trace = *state;
	struct step end = {trace, 'e'};

	assert_int_equal(loop_add_deferred(trace->loop, "end", on_stop, &end, &trace->sources[0]),
			 0);
	loop_source_trigger(trace->sources[0]);
	loop_stop(trace->loop);
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "");
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "e");
}

static void test_stop_in_a_callback_leaves_the_rest_for_the_next_run(void **state)
{
	struct trace *trace = *state;
	struct step steps[] = {{trace, '1'}, {trace, '2'}};

	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(loop_add_deferred(trace->loop, "deferred", on_stop, &steps[i],
						   &trace->sources[i]),
				 0);
		loop_source_trigger(trace->sources[i]);
	}
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "1");
	assert_int_equal(loop_run(trace->loop), 0);
	assert_string_equal(trace->letters, "12");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_timers_armed_in_any_order_fire_in_order_of_time),
		TEST(test_timer_freed_while_armed_is_not_called),
		TEST(test_timer_armed_for_the_past_in_itself_waits_for_the_next_round),
		TEST(test_deferred_triggered_many_times_is_called_once),
		TEST(test_deferred_triggering_itself_leaves_the_round_to_others),
		TEST(test_io_with_bytes_waiting_is_called_for_each_wake_up),
		TEST(test_io_without_interest_is_still_told_of_a_hangup),
		TEST(test_io_of_a_closed_descriptor_is_refused),
		TEST(test_sources_freed_in_a_callback_of_the_same_wake_up_are_never_called),
		TEST(test_stop_before_a_run_ends_it_and_loses_nothing),
		TEST(test_stop_in_a_callback_leaves_the_rest_for_the_next_run),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
