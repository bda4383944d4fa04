/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What a watch reads (watch_lab.h): reads that fail, or are overtaken by events,
 * and those by which it is found out that the registry is another one, or one of
 * before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "watch_lab.h"

static void test_watch_of_a_failed_read_tells_the_error_and_tries_again(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	lab->fail_reads = true;
	registry_watch_resync(lab->watch);
	watch_lab_expect(lab, "/s error\n/s error\n");
	/* The stream is not lost, and goes on. */
	assert_int_equal(registry_watch_state(lab->watch), REGISTRY_LIVE);
	lab->fail_reads = false;
	watch_lab_expect(lab, "/s whole @2 +/s/a=1\n");
	assert_int_equal(lab->streams, 1);
}

static void test_watch_of_no_registry_is_lost_until_there_is_one(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	assert_int_equal(registry_watch_state(lab->watch), REGISTRY_CONNECTING);
	lab->fail_reads = true;
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	watch_lab_expect(lab, "/s error\nlost\n");
	lab->fail_reads = false;
	while (registry_watch_state(lab->watch) != REGISTRY_LIVE)
		assert_int_equal(loop_run(lab->loop), 0);
	assert_non_null(strstr(lab->log.data, "/s whole @2\nlive\n"));
}

static void hold_a_read(struct watch_lab *lab)
{
	lab->hold_reads = true;
	registry_watch_resync(lab->watch);
	while (!lab->reader)
		assert_int_equal(loop_run(lab->loop), 0);
}

static void test_watch_of_a_read_overtaken_by_events_tells_both_as_one(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	hold_a_read(lab);
	watch_lab_says_events(lab, 4, PUT(KEY_B, TWO, "3") "," GONE(KEY_A, "4"));
	watch_lab_expect(lab, "/s @4 +/s/b=2 -/s/a\n");
	/* As of 3: /s/a is still there, /s/b is already. */
	watch_lab_answer_read(lab, KV(KEY_A, ONE) "," KV(KEY_B, TWO), 3);
	watch_lab_expect(lab, "/s whole @4 +/s/b=2\n");
}

static void test_watch_of_events_overtaken_by_a_read_drops_them(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	hold_a_read(lab);
	watch_lab_answer_read(lab, KV(KEY_B, TWO), 4);
	watch_lab_expect(lab, "/s whole @4 +/s/b=2\n");
	watch_lab_says_events(lab, 5, PUT(KEY_B, TWO, "3") "," GONE(KEY_A, "4"));
	/* Of one answer, those that are old. */
	watch_lab_says_events(lab, 5, GONE(KEY_B, "4") "," PUT(KEY_A, ONE, "5"));
	watch_lab_expect(lab, "/s @5 +/s/a=1\n");
}

static void test_watch_of_a_registry_that_went_back_reads_everything_anew(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;

	watch_lab_follow(lab);
	watch_lab_says_events(lab, 90, PUT(KEY_A, TWO, "90"));
	watch_lab_expect(lab, "/s @90 +/s/a=2\n");
	lab->revision = 40;
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlive\nrestored: its revision is 40, and was 90 already\n"
			      "/s whole restored @40 +/s/a=1\n");
	watch_lab_says_events(lab, 41, PUT(KEY_B, TWO, "41"));
	while (lab->streams < 3)
		assert_int_equal(loop_run(lab->loop), 0);
	watch_lab_expect_requests(lab, "create from 90\ncreate from 41\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.restorations, 1);
	assert_int_equal(counts.revision, 40);
}

static void test_watch_of_another_cluster_reads_everything_anew(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	lab->cluster = 2;
	lab->revision = 500;
	lab->kvs = KV(KEY_B, TWO);
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlost\nrestored: it is cluster 2 now, and was cluster 1\n"
			      "/s whole restored @500 +/s/b=2\nlive\n");
	watch_lab_expect_requests(lab, "create from 2\ncreate from 501\n");
}

static void test_watch_of_a_lagging_member_reads_and_follows_on(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;

	watch_lab_follow(lab);
	watch_lab_says_events(lab, 90, PUT(KEY_A, TWO, "90"));
	watch_lab_expect(lab, "/s @90 +/s/a=2\n");
	lab->hold_creates = true;
	http_connection_close(lab->stream);
	watch_lab_expect_requests(lab, "create from 90\n");
	lab->revision = 80;
	watch_lab_says_of(lab, lab->last_id, "\"created\":true");
	lab->revision = 95;
	watch_lab_expect(lab, "lost\nlive\n/s whole @95 +/s/a=1\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.restorations, 0);
	assert_int_equal(lab->streams, 2);
}

static void test_watch_pause_doubles_up_to_its_cap_within_half(void **state)
{
	struct watch_lab *lab = *state;
	const struct registry_watch *watch;

	watch_lab_open(lab, false);
	watch = lab->watch;
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t first = watch_pause(watch, 1), third = watch_pause(watch, 3);
		uint64_t last = watch_pause(watch, 1000);

		assert_in_range(first, MILLISECONDS / 2, MILLISECONDS * 3 / 2 + 1);
		assert_in_range(third, MILLISECONDS * 2, MILLISECONDS * 6 + 1);
		assert_in_range(last, MILLISECONDS * 5 / 2, MILLISECONDS * 15 / 2 + 1);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		watch_test(test_watch_of_a_failed_read_tells_the_error_and_tries_again),
		watch_test(test_watch_of_no_registry_is_lost_until_there_is_one),
		watch_test(test_watch_of_a_read_overtaken_by_events_tells_both_as_one),
		watch_test(test_watch_of_events_overtaken_by_a_read_drops_them),
		watch_test(test_watch_of_a_registry_that_went_back_reads_everything_anew),
		watch_test(test_watch_of_another_cluster_reads_everything_anew),
		watch_test(test_watch_of_a_lagging_member_reads_and_follows_on),
		watch_test(test_watch_pause_doubles_up_to_its_cap_within_half),
	};

	return cmocka_run_group_tests_name("watch read", tests, NULL, NULL);
}
