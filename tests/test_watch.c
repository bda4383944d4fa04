/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Following services on one stream (watch_lab.h): how it is opened, what it
 * says, and how it is lost. What is read beside it is test_watch_read.c's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/etcd3_stream.h"
#include "watch_lab.h"

static void test_watch_of_a_service_tells_it_whole_and_then_its_events(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;

	watch_lab_follow(lab);
	assert_int_equal(registry_watch_state(lab->watch), REGISTRY_LIVE);
	assert_int_equal(registry_watch_add(lab->watch, "/s"), -EEXIST);
	watch_lab_says_events(lab, 3, PUT(KEY_B, TWO, "3"));
	watch_lab_expect(lab, "/s @3 +/s/b=2\n");
	watch_lab_says_events(lab, 6,
			      PUT(KEY_A, TWO, "4") "," GONE(KEY_B, "5") "," PUT(KEY_A, ONE, "6"));
	watch_lab_expect(lab, "/s @6 +/s/a=1 -/s/b\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(counts.events, 3);
	assert_int_equal(counts.revision, 6);
	assert_int_equal(counts.errors, 0);
}

static void test_watch_of_services_added_together_reads_once_and_creates_in_turn(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	lab->hold_creates = true;
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	assert_int_equal(registry_watch_add(lab->watch, "/t"), 0);
	assert_int_equal(registry_watch_add(lab->watch, "/u"), 0);
	watch_lab_expect(lab, "/s whole @2\n/t whole @2\n/u whole @2\n");
	assert_int_equal(lab->reads, 1);
	watch_lab_expect_requests(lab, "create from 3\n");
	lab->hold_creates = false;
	watch_lab_says_of(lab, lab->last_id, "\"created\":true");
	watch_lab_expect_requests(lab, "create from 3\ncreate from 3\n");
	assert_int_equal(lab->streams, 1);
	registry_watch_remove(lab->watch, "/t");
	watch_lab_expect_requests(lab, "cancel\n");
}

/* Its header is older than events that came before it, and no member lags behind. */
static void test_watch_of_a_create_overtaken_by_events_reads_nothing_more(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;
	uint64_t first;

	watch_lab_open(lab, false);
	lab->hold_creates = true;
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	assert_int_equal(registry_watch_add(lab->watch, "/t"), 0);
	watch_lab_expect(lab, "/s whole @2\n/t whole @2\n");
	watch_lab_expect_requests(lab, "create from 3\n");
	first = lab->last_id;
	watch_lab_says_of(lab, first, "\"created\":true");
	watch_lab_expect_requests(lab, "create from 3\n");
	lab->revision = 90;
	watch_lab_says_of(lab, first, "\"events\":[" PUT(KEY_A, TWO, "90") "]");
	watch_lab_expect(lab, "live\n/s @90 +/s/a=2\n");
	lab->revision = 80;
	watch_lab_says_of(lab, lab->last_id, "\"created\":true");
	lab->revision = 91;
	watch_lab_says_of(lab, first, "\"events\":[" PUT(KEY_A, ONE, "91") "]");
	watch_lab_expect(lab, "/s @91 +/s/a=1\n");
	/* A read would have begun before this is there. */
	registry_watch_remove(lab->watch, "/t");
	watch_lab_expect_requests(lab, "cancel\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(lab->streams, 1);
}

static void test_watch_of_a_lost_stream_resumes_where_it_stopped(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;

	watch_lab_follow(lab);
	watch_lab_says_events(lab, 7, PUT(KEY_B, TWO, "7"));
	watch_lab_expect(lab, "/s @7 +/s/b=2\n");
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlive\n");
	/* At what it knows already: had a compaction taken that, it would be refused. */
	watch_lab_expect_requests(lab, "create from 7\n");
	watch_lab_says_events(lab, 7, PUT(KEY_B, TWO, "7"));
	watch_lab_says_events(lab, 8, GONE(KEY_A, "8"));
	watch_lab_expect(lab, "/s @8 -/s/a\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.reads, 1);
	assert_int_equal(counts.reconnects, 1);
	assert_int_equal(lab->streams, 2);
}

/* Somebody in between ends what is idle: nobody is lost, and it is not to happen again. */
static void test_watch_of_an_idle_stream_cut_off_goes_on_without_a_word(void **state)
{
	struct watch_lab *lab = *state;
	const struct stream *stream;
	struct registry_counts counts;

	watch_lab_open(lab, false);
	stream = lab->watch->kind;
	lab->watch->times.quiet = 40UL * MILLISECONDS;
	lab->watch->times.idle = 1UL * MILLISECONDS;
	watch_lab_follow(lab);
	watch_lab_expect_requests(lab, "progress\n");
	lab->watch->times.quiet = 10000UL * MILLISECONDS;
	http_connection_close(lab->stream);
	watch_lab_expect_requests(lab, "create from 2\n");
	watch_lab_says_events(lab, 3, PUT(KEY_B, TWO, "3"));
	/* Neither lost nor live: it never was anything else. */
	watch_lab_expect(lab, "/s @3 +/s/b=2\n");
	watch_lab_expect_requests(lab, "progress\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.reconnects, 1);
	assert_int_equal(counts.reads, 1);
	assert_in_range(stream->cut_quiet, 1, 10000UL * MILLISECONDS - 1);
	/* One that is not there any more is lost all the same, and was cut off by nobody. */
	lab->no_streams = true;
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\n");
	assert_int_equal(stream->cut_quiet, 0);
	lab->no_streams = false;
	watch_lab_expect(lab, "live\n");
}

static void test_watch_of_an_event_cut_off_tells_it_once_it_is_whole(void **state)
{
	static const char half[] =
		"{\"result\":{\"header\":{\"revision\":\"3\"},\"watch_id\":\"1\","
		"\"events\":[" PUT(KEY_B, TWO, "3") "]";
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	http_connection_send(lab->stream, half, strlen(half));
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlive\n");
	watch_lab_expect_requests(lab, "create from 2\n");
	watch_lab_says_events(lab, 3, PUT(KEY_B, TWO, "3"));
	watch_lab_expect(lab, "/s @3 +/s/b=2\n");
}

static void test_watch_of_fragments_tells_them_when_the_last_is_there(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	lab->revision = 4;
	watch_lab_says_of(lab, lab->last_id,
			  "\"fragment\":true,\"events\":[" PUT(KEY_B, TWO, "3") "]");
	watch_lab_says_events(lab, 4, GONE(KEY_B, "4"));
	watch_lab_expect(lab, "/s @4 -/s/b\n");
	/* A fragment without its last is of no use: all of it comes again. */
	watch_lab_says_of(lab, lab->last_id,
			  "\"fragment\":true,\"events\":[" PUT(KEY_B, TWO, "5") "]");
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlive\n");
	watch_lab_expect_requests(lab, "create from 4\n");
}

static void test_watch_of_a_compacted_revision_reads_anew(void **state)
{
	struct watch_lab *lab = *state;
	struct registry_counts counts;

	watch_lab_follow(lab);
	lab->kvs = KV(KEY_B, TWO);
	lab->revision = lab->compacted = 9;
	http_connection_close(lab->stream);
	watch_lab_expect(lab, "lost\nlive\n/s whole @9 +/s/b=2\n");
	watch_lab_expect_requests(lab, "create from 2\ncreate from 10\n");
	registry_watch_counts(lab->watch, &counts);
	assert_int_equal(counts.compactions, 1);
	assert_int_equal(counts.reads, 2);
}

/* What is refused again and again is not asked again without a pause. */
static void test_watch_of_revisions_compacted_again_and_again_pauses_in_between(void **state)
{
	struct watch_lab *lab = *state;
	uint64_t begun;

	watch_lab_open(lab, false);
	lab->watch->times.pause_first = 40UL * MILLISECONDS;
	lab->watch->times.pause_max = 40UL * MILLISECONDS;
	lab->compacted = 1000;
	begun = loop_now(lab->loop);
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	while (lab->reads < 6)
		assert_int_equal(loop_run(lab->loop), 0);
	/* The second is at once, and the others are after half a pause at least. */
	assert_true(loop_now(lab->loop) - begun >= 4 * 20UL * MILLISECONDS);
}

struct feeder {
	const struct watch_lab *lab;
	const char *part;
	size_t left;
};

/* A part in each round of the loop: both ends of the connection are on it. */
static void on_feed(struct loop_source *source, void *user)
{
	struct feeder *feeder = user;

	watch_lab_says_of(feeder->lab, feeder->lab->last_id, feeder->part);
	if (--feeder->left > 0)
		loop_source_arm(source, loop_now(feeder->lab->loop));
}

/* One answer in parts that together are more than a service may hold. */
static void test_watch_of_changes_beyond_the_cap_cancels_and_reads_anew(void **state)
{
	enum { IN_A_PART = 1024 };
	struct watch_lab *lab = *state;
	CLEANUP(text_done) struct text part = {0};
	struct feeder feeder = {lab, NULL, SERVICE_DOCUMENTS_MAX / IN_A_PART + 1};
	struct loop_source *source;

	/* 18 MB, of which both ends are here: a busy machine may take a while. */
	loop_source_arm(lab->deadline, loop_now(lab->loop) + 60000UL * MILLISECONDS);
	watch_lab_follow(lab);
	text_puts(&part, "\"fragment\":true,\"events\":[" PUT(KEY_A, TWO, "3"));
	for (size_t i = 1; i < IN_A_PART; i++)
		text_puts(&part, "," PUT(KEY_A, TWO, "3"));
	text_puts(&part, "]");
	feeder.part = part.data;
	lab->kvs = KV(KEY_B, TWO);
	lab->revision = 9;
	assert_int_equal(loop_add_timer(lab->loop, "feeder", 0, on_feed, &feeder, &source), 0);
	watch_lab_expect(lab, "/s whole @9 +/s/b=2\n");
	watch_lab_expect_requests(lab, "cancel\ncreate from 10\n");
	loop_source_free(source);
}

static void test_watch_of_a_silent_stream_asks_and_then_leaves_it(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	lab->watch->times.quiet = 20UL * MILLISECONDS;
	/* A busy machine may take a while to answer what is asked. */
	lab->watch->times.silence = 500UL * MILLISECONDS;
	watch_lab_follow(lab);
	watch_lab_expect_requests(lab, "progress\n");
	assert_int_equal(registry_watch_state(lab->watch), REGISTRY_LIVE);
	/* An answer to that is a sign of life: it is asked once more before it is left. */
	watch_lab_says(lab, "\"watch_id\":\"-1\"");
	watch_lab_expect(lab, "lost\nlive\n");
	assert_non_null(strstr(lab->requests.data, "progress\ncreate from 2\n"));
}

/* What it is too busy to tell is read. */
static void test_watch_of_streams_that_go_silent_reads_anew(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	lab->watch->times.quiet = 20UL * MILLISECONDS;
	lab->watch->times.silence = 40UL * MILLISECONDS;
	watch_lab_follow(lab);
	lab->kvs = KV(KEY_B, TWO);
	lab->revision = 9;
	watch_lab_expect(lab, "lost\nlive\nlost\nlive\n/s whole @9 +/s/b=2\n");
}

static void test_watch_of_a_create_without_an_answer_leaves_the_stream(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	lab->watch->times.answer = 50UL * MILLISECONDS;
	lab->hold_creates = true;
	lab->kvs = KV(KEY_A, ONE);
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	watch_lab_expect(lab, "/s whole @2 +/s/a=1\nlost\n");
	lab->hold_creates = false;
	watch_lab_expect(lab, "live\n");
}

static void test_watch_of_a_refused_create_fails_that_service_and_tries_again(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	lab->kvs = "";
	lab->refuse = "out of watchers";
	assert_int_equal(registry_watch_add(lab->watch, "/t"), 0);
	watch_lab_expect(lab, "/t whole @2\n/t error\n/t whole @2\n");
	watch_lab_expect_requests(lab, "create from 3\ncreate from 3\n");
	assert_int_equal(lab->streams, 1);
	assert_int_equal(registry_watch_state(lab->watch), REGISTRY_LIVE);
}

static void test_watch_of_a_forbidden_range_follows_its_two_parts(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, false);
	lab->kvs = KV(KEY_A, ONE);
	lab->refuse = "etcdserver: permission denied";
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	watch_lab_expect_requests(lab, "create from 3\ncreate of one key from 3\ncreate from 3\n");
	watch_lab_expect(lab, "/s whole @2 +/s/a=1\nlive\n");
	watch_lab_says_events(lab, 5, PUT(KEY_B, TWO, "5"));
	watch_lab_expect(lab, "/s @5 +/s/b=2\n");
	/* The other one is not ordered with it: what is older is news as well. */
	lab->last_id--;
	watch_lab_says_events(lab, 5, PUT("L3M=", ONE, "4"));
	watch_lab_expect(lab, "/s @5 +/s=1\n");
	http_connection_close(lab->stream);
	watch_lab_expect_requests(lab, "create of one key from 4\ncreate from 5\n");
}

static void test_watch_of_a_refused_token_opens_the_stream_with_another(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_open(lab, true);
	lab->kvs = KV(KEY_A, ONE);
	lab->refuse = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
	assert_int_equal(registry_watch_add(lab->watch, "/s"), 0);
	watch_lab_expect(lab, "/s whole @2 +/s/a=1\n/s whole @2 +/s/a=1\nlive\n");
	assert_int_equal(lab->tokens, 2);
	assert_int_equal(lab->streams, 2);
}

static void test_watch_of_a_service_removed_while_it_is_told_tells_no_more(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	lab->remove_in_update = "/s";
	watch_lab_says_events(lab, 4, PUT(KEY_B, TWO, "3"));
	watch_lab_says_events(lab, 5, PUT(KEY_B, TWO, "5"));
	watch_lab_expect(lab, "/s @3 +/s/b=2\n");
}

static const struct {
	const char *says;
} nonsense[] = {
	{"<html>"},
	{"{}"},
	{"{\"result\":{\"header\":{},\"watch_id\":\"77\",\"created\":true}}"},
	{"{\"error\":{\"message\":\"etcdserver: no leader\"}}"},
	{"{\"error\":{\"message\":\"etcdserver: invalid auth token\"}}"},
};

static void test_watch_of_nonsense_leaves_the_stream_and_resumes(void **state)
{
	struct watch_lab *lab = *state;

	watch_lab_follow(lab);
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		http_connection_send(lab->stream, nonsense[i].says, strlen(nonsense[i].says));
		watch_lab_expect(lab, "lost\nlive\n");
		watch_lab_expect_requests(lab, "create from 2\n");
	}
	assert_int_equal(lab->reads, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		watch_test(test_watch_of_a_service_tells_it_whole_and_then_its_events),
		watch_test(test_watch_of_services_added_together_reads_once_and_creates_in_turn),
		watch_test(test_watch_of_a_create_overtaken_by_events_reads_nothing_more),
		watch_test(test_watch_of_a_lost_stream_resumes_where_it_stopped),
		watch_test(test_watch_of_an_idle_stream_cut_off_goes_on_without_a_word),
		watch_test(test_watch_of_an_event_cut_off_tells_it_once_it_is_whole),
		watch_test(test_watch_of_fragments_tells_them_when_the_last_is_there),
		watch_test(test_watch_of_a_compacted_revision_reads_anew),
		watch_test(test_watch_of_revisions_compacted_again_and_again_pauses_in_between),
		watch_test(test_watch_of_changes_beyond_the_cap_cancels_and_reads_anew),
		watch_test(test_watch_of_a_silent_stream_asks_and_then_leaves_it),
		watch_test(test_watch_of_streams_that_go_silent_reads_anew),
		watch_test(test_watch_of_a_create_without_an_answer_leaves_the_stream),
		watch_test(test_watch_of_a_refused_create_fails_that_service_and_tries_again),
		watch_test(test_watch_of_a_forbidden_range_follows_its_two_parts),
		watch_test(test_watch_of_a_refused_token_opens_the_stream_with_another),
		watch_test(test_watch_of_a_service_removed_while_it_is_told_tells_no_more),
		watch_test(test_watch_of_nonsense_leaves_the_stream_and_resumes),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
