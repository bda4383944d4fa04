/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/etcd2_codec.h"
#include "../src/registry/etcd3_watch_codec.h"
#include "dragoman/base/json_stream.h"

/* What an etcd 3.4.23 wrote on one stream: watchers of /services/app. */
#define HEADER(revision)                                                                  \
	"{\"result\":{\"header\":{\"cluster_id\":\"13072187803621650447\",\"member_id\":" \
	"\"4255516408832811784\"," revision "\"raft_term\":\"2\"},"

static const char *const recorded[] = {
	HEADER("\"revision\":\"2\",") "\"watch_id\":\"1\",\"created\":true}}",
	HEADER("\"revision\":\"3\",") "\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":"
				      "\"L3NlcnZpY2VzL2FwcC9i\",\"create_revision\":\"3\","
				      "\"mod_revision\":\"3\",\"version\":\"1\",\"value\":"
				      "\"dHdv\"}}]}}",
	HEADER("\"revision\":\"4\",") "\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":"
				      "\"L3NlcnZpY2VzL2FwcC0yL3g=\",\"create_revision\":\"4\","
				      "\"mod_revision\":\"4\",\"version\":\"1\",\"value\":"
				      "\"c2li\"}}]}}",
	HEADER("\"revision\":\"5\",") "\"watch_id\":\"1\",\"events\":[{\"type\":\"DELETE\","
				      "\"kv\":{\"key\":\"L3NlcnZpY2VzL2FwcC9h\","
				      "\"mod_revision\":\"5\"}}]}}",
	HEADER("\"revision\":\"6\",") "\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":"
				      "\"L3NlcnZpY2VzL2FwcC9j\",\"create_revision\":\"6\","
				      "\"mod_revision\":\"6\",\"version\":\"1\",\"value\":"
				      "\"Mw==\"}},{\"kv\":{\"key\":\"L3NlcnZpY2VzL2FwcC9k\","
				      "\"create_revision\":\"6\",\"mod_revision\":\"6\","
				      "\"version\":\"1\"}}]}}",
	HEADER("\"revision\":\"6\",") "\"watch_id\":\"-1\"}}",
	HEADER("") "\"watch_id\":\"2\",\"canceled\":true,\"compact_revision\":\"5\"}}",
	HEADER("\"revision\":\"6\",") "\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,"
				      "\"cancel_reason\":\"mvcc: duplicate watch ID provided on "
				      "the WatchStream\"}}",
	HEADER("\"revision\":\"1\",") "\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,"
				      "\"cancel_reason\":\"rpc error: code = Unauthenticated desc "
				      "= etcdserver: invalid auth token\"}}",
};

static const char refused[] = "0@1 created canceled (rpc error: code = Unauthenticated desc = "
			      "etcdserver: invalid auth token)";

/* The same in a word each. */
static const char *const meant[] = {
	"1@2 created",
	"1@3 +/services/app/b=two",
	"1@4",
	"1@5 -/services/app/a",
	"1@6 +/services/app/c=3 +/services/app/d=",
	"0@6",
	"2@0 canceled compacted=5",
	"0@6 created canceled (mvcc: duplicate watch ID provided on the WatchStream)",
	refused,
};

static void describe_changes(const struct change_list *list, struct text *into)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct change *change = &list->items[i];

		if (change->removed)
			text_printf(into, " -%s", change->document.key);
		else
			text_printf(into, " +%s=%s", change->document.key, change->document.value);
	}
}

static void describe(const struct text *object, struct text *into)
{
	CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
	CLEANUP(change_list_done) struct change_list list = {0};

	assert_int_equal(etcd3_decode_watch(object->data, object->length, &answer, NULL), 0);
	assert_true(answer.position.cluster == UINT64_C(13072187803621650447));
	assert_int_equal(etcd3_decode_events(&answer, "/services/app", &list, NULL), 0);
	text_printf(into, "%lu@%lu", (unsigned long)answer.id,
		    (unsigned long)answer.position.revision);
	text_puts(into, answer.created ? " created" : "");
	text_puts(into, answer.canceled ? " canceled" : "");
	if (answer.compact_revision)
		text_printf(into, " compacted=%lu", (unsigned long)answer.compact_revision);
	if (answer.reason[0])
		text_printf(into, " (%s)", answer.reason);
	describe_changes(&list, into);
}

static void feed(struct json_stream *stream, const char *data, size_t length, struct text *into,
		 size_t *count)
{
	int code;

	while ((code = json_stream_next(stream, &data, &length)) > 0) {
		text_puts(into, *count ? "\n" : "");
		describe(&stream->object, into);
		++*count;
	}
	assert_int_equal(code, 0);
	assert_int_equal(length, 0);
}

static void join(const char *const *parts, size_t count, const char *with, struct text *into)
{
	for (size_t i = 0; i < count; i++)
		text_printf(into, "%s%s", i ? with : "", parts[i]);
}

static void test_watch_stream_cut_anywhere_gives_the_same_answers(void **state)
{
	static const char *const separators[] = {"\n", "", " \r\n\t"};
	CLEANUP(text_done) struct text expected = {0};

	(void)state;
	join(meant, ARRAY_SIZE(meant), "\n", &expected);
	for (size_t i = 0; i < ARRAY_SIZE(separators); i++) {
		CLEANUP(text_done) struct text all = {0};

		join(recorded, ARRAY_SIZE(recorded), separators[i], &all);
		for (size_t cut = 0; cut <= all.length; cut++) {
			CLEANUP(json_stream_done) struct json_stream stream = {.max = 4096};
			CLEANUP(text_done) struct text got = {0};
			size_t count = 0;

			feed(&stream, all.data, cut, &got, &count);
			feed(&stream, all.data + cut, all.length - cut, &got, &count);
			assert_int_equal(count, ARRAY_SIZE(recorded));
			assert_string_equal(got.data, expected.data);
		}
	}
}

static void test_watch_stream_byte_by_byte_gives_the_same_answers(void **state)
{
	CLEANUP(json_stream_done) struct json_stream stream = {.max = 4096};
	CLEANUP(text_done) struct text expected = {0}, all = {0}, got = {0};
	size_t count = 0;

	(void)state;
	join(meant, ARRAY_SIZE(meant), "\n", &expected);
	join(recorded, ARRAY_SIZE(recorded), "", &all);
	for (size_t i = 0; i < all.length; i++)
		feed(&stream, all.data + i, 1, &got, &count);
	assert_string_equal(got.data, expected.data);
}

static const struct {
	const char *data;
	int code;
	const char *object;
} cuts[] = {
	{"{\"a\":\"}\"}", 1, "{\"a\":\"}\"}"},
	{"{\"a\":\"\\\"}\"} ", 1, "{\"a\":\"\\\"}\"}"},
	{"{\"a\":\"\\\\\"}{", 1, "{\"a\":\"\\\\\"}"},
	{"{\"a\":[{},\"]\",{\"b\":{}}]}x", 1, "{\"a\":[{},\"]\",{\"b\":{}}]}"},
	{" \n\t\r", 0, NULL},
	{"{\"a\":", 0, NULL},
	{"x{}", -EBADMSG, NULL},
	{",{}", -EBADMSG, NULL},
	{"<html>", -EBADMSG, NULL},
	{"{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", -EFBIG, NULL},
};

static void test_json_stream_next_looks_at_brackets_and_strings_only(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		CLEANUP(json_stream_done) struct json_stream stream = {.max = 32};
		const char *data = cuts[i].data;
		size_t length = strlen(data);

		assert_int_equal(json_stream_next(&stream, &data, &length), cuts[i].code);
		if (cuts[i].object)
			assert_string_equal(stream.object.data, cuts[i].object);
	}
}

static const struct {
	const char *body;
	int code;
	const char *message;
} wrong[] = {
	{"{\"error\":{\"grpc_code\":14,\"message\":\"etcdserver: no leader\"}}", -EBADMSG,
	 "the stream ended: etcdserver: no leader"},
	{"{\"error\":{\"message\":\"etcdserver: invalid auth token\"}}", -EACCES,
	 "etcdserver: invalid auth token"},
	{"{\"error\":7}", -EBADMSG, "the stream ended with an error"},
	{"{}", -EBADMSG, "answer has no result"},
	{"{\"result\":{}}", -EBADMSG, "answer has no header"},
	{"{\"result\":{\"header\":{},\"watch_id\":\"x\"}}", -EBADMSG,
	 "answer has a watch_id that is no number"},
	{"{\"result\":{\"header\":{\"revision\":\"-7\"}}}", -EBADMSG,
	 "answer has a revision that is no number"},
	{"{\"result\":{\"header\":{},\"created\":\"true\"}}", -EBADMSG,
	 "answer has a created that is no boolean"},
	{"{\"result\":{\"header\":{},\"events\":{}}}", -EBADMSG,
	 "answer has events that are no array"},
};

static void test_etcd3_decode_watch_of_a_wrong_answer_says_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct etcd3_watch_answer answer;
		struct error error = {0};

		assert_int_equal(
			etcd3_decode_watch(wrong[i].body, strlen(wrong[i].body), &answer, &error),
			wrong[i].code);
		assert_string_equal(error.message, wrong[i].message);
		assert_int_equal(error.class, ERROR_TRANSIENT);
	}
}

#define EVENT(event) "{\"result\":{\"header\":{},\"events\":[" event "]}}"

static const struct {
	const char *body, *message;
} wrong_events[] = {
	{EVENT("{}"), "answer has an event without a key"},
	{EVENT("{\"kv\":{\"key\":\"L2E=\"}}"), "answer has an event without a revision"},
	{EVENT("{\"type\":\"MOVE\",\"kv\":{\"key\":\"L2E=\",\"mod_revision\":\"1\"}}"),
	 "answer has an event of a type that is not known"},
	{EVENT("{\"kv\":{\"key\":\"L2Ew\",\"mod_revision\":\"1\"}}"),
	 "answer has the key \"/a0\", which was not asked for"},
	{EVENT("{\"kv\":{\"key\":\"L2I=\",\"mod_revision\":\"1\"}}"),
	 "answer has the key \"/b\", which was not asked for"},
	{EVENT("{\"kv\":{\"key\":\"*\",\"mod_revision\":\"1\"}}"),
	 "answer has a key that is not base64"},
};

static void test_etcd3_decode_events_of_a_wrong_answer_says_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong_events); i++) {
		CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
		CLEANUP(change_list_done) struct change_list list = {0};
		const char *body = wrong_events[i].body;
		struct error error = {0};

		assert_int_equal(etcd3_decode_watch(body, strlen(body), &answer, &error), 0);
		assert_int_equal(etcd3_decode_events(&answer, "/a", &list, &error), -EBADMSG);
		assert_string_equal(error.message, wrong_events[i].message);
	}
}

static void test_etcd3_encode_requests_are_what_etcd_takes(void **state)
{
	const struct etcd3_range range = {
		.start = "/a", .start_length = 2, .end = "/a0", .end_length = 3, .revision = 8};
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	etcd3_encode_create(&range, 3, &text);
	etcd3_encode_cancel(3, &text);
	etcd3_encode_progress(&text);
	assert_string_equal(text.data,
			    "{\"create_request\":{\"key\":\"L2E=\",\"range_end\":\"L2Ew\","
			    "\"start_revision\":\"8\",\"watch_id\":\"3\",\"fragment\":true}}"
			    "{\"cancel_request\":{\"watch_id\":\"3\"}}{\"progress_request\":{}}");
}

static void test_change_list_sum_has_each_key_once_as_it_was_last(void **state)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	CLEANUP(change_sum_done) struct change_sum sum = {0};

	(void)state;
	assert_int_equal(change_list_add(&list, "/b", 2, "1", 1, 3), 0);
	assert_int_equal(change_list_add(&list, "/a", 2, NULL, 0, 4), 0);
	assert_int_equal(change_list_add(&list, "/c", 2, "old", 3, 4), 0);
	assert_int_equal(change_list_add(&list, "/b", 2, NULL, 0, 5), 0);
	assert_int_equal(change_list_add(&list, "/a", 2, "2", 1, 6), 0);
	assert_int_equal(change_list_newest(&list), 6);
	assert_int_equal(change_list_sum(&list, 4, &sum), 0);
	assert_int_equal(sum.count, 1);
	assert_string_equal(sum.documents[0].key, "/a");
	assert_string_equal(sum.documents[0].value, "2");
	assert_int_equal(sum.removed_count, 1);
	assert_string_equal(sum.removed[0], "/b");
}

#define NODE(rest) "\"node\":{\"key\":\"/s/app/x\",\"modifiedIndex\":9" rest "}"

/* Every action of etcd v2, on a key and on a directory. */
static const struct {
	const char *body, *changes;
	bool more;
} v2_events[] = {
	{"{\"action\":\"set\"," NODE(",\"value\":\"1\"") "}", " +/s/app/x=1", false},
	{"{\"action\":\"create\"," NODE(",\"value\":\"1\"") "}", " +/s/app/x=1", false},
	{"{\"action\":\"update\"," NODE(",\"value\":\"1\"") "}", " +/s/app/x=1", false},
	{"{\"action\":\"compareAndSwap\"," NODE(",\"value\":\"1\"") "}", " +/s/app/x=1", false},
	{"{\"action\":\"delete\"," NODE("") "}", " -/s/app/x", false},
	{"{\"action\":\"expire\"," NODE("") "}", " -/s/app/x", false},
	{"{\"action\":\"compareAndDelete\"," NODE("") "}", " -/s/app/x", false},
	{"{\"action\":\"delete\"," NODE(",\"dir\":true") "}", "", true},
	{"{\"action\":\"expire\"," NODE(",\"dir\":true") "}", "", true},
	{"{\"action\":\"expire\"," NODE("") ",\"prevNode\":{\"dir\":true}}", "", true},
	{"{\"action\":\"delete\",\"node\":{\"key\":\"/s\",\"dir\":true,\"modifiedIndex\":9}}", "",
	 true},
	{"{\"action\":\"set\"," NODE(",\"dir\":true") "}", "", false},
	{"{\"action\":\"update\"," NODE(",\"dir\":true") ",\"prevNode\":{\"dir\":true}}", "",
	 false},
	{"{\"action\":\"set\"," NODE(",\"dir\":true") ",\"prevNode\":{\"value\":\"1\"}}", "", true},
	{"{\"action\":\"rename\"," NODE(",\"value\":\"1\"") "}", "", true},
};

static void test_etcd2_decode_event_of_each_action_gives_its_change(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v2_events); i++) {
		CLEANUP(change_list_done) struct change_list list = {0};
		CLEANUP(text_done) struct text got = {0};
		const char *body = v2_events[i].body;
		uint64_t index = 0;
		bool more;

		assert_int_equal(etcd2_decode_event(body, strlen(body), "/s/app", &list, &index,
						    &more, NULL),
				 0);
		text_puts(&got, "");
		describe_changes(&list, &got);
		assert_string_equal(got.data ? got.data : "", v2_events[i].changes);
		assert_int_equal(more, v2_events[i].more);
		assert_int_equal(index, 9);
	}
}

static const struct {
	const char *body, *message;
} v2_wrong[] = {
	{"{}", "answer is no event"},
	{"{\"action\":\"set\",\"node\":{\"key\":\"/s/app/x\"}}",
	 "answer has an event without an index"},
	{"{\"action\":\"set\"," NODE("") "}", "answer has no value for the key \"/s/app/x\""},
	{"{\"action\":\"set\",\"node\":{\"key\":\"/s/app2\",\"modifiedIndex\":9,\"value\":\"\"}}",
	 "answer has the key \"/s/app2\", which was not asked for"},
};

static void test_etcd2_decode_event_of_a_wrong_answer_says_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v2_wrong); i++) {
		CLEANUP(change_list_done) struct change_list list = {0};
		const char *body = v2_wrong[i].body;
		struct error error = {0};
		uint64_t index;
		bool more;

		assert_int_equal(etcd2_decode_event(body, strlen(body), "/s/app", &list, &index,
						    &more, &error),
				 -EBADMSG);
		assert_string_equal(error.message, v2_wrong[i].message);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watch_stream_cut_anywhere_gives_the_same_answers),
		cmocka_unit_test(test_watch_stream_byte_by_byte_gives_the_same_answers),
		cmocka_unit_test(test_json_stream_next_looks_at_brackets_and_strings_only),
		cmocka_unit_test(test_etcd3_decode_watch_of_a_wrong_answer_says_what_is_wrong),
		cmocka_unit_test(test_etcd3_decode_events_of_a_wrong_answer_says_what_is_wrong),
		cmocka_unit_test(test_etcd3_encode_requests_are_what_etcd_takes),
		cmocka_unit_test(test_change_list_sum_has_each_key_once_as_it_was_last),
		cmocka_unit_test(test_etcd2_decode_event_of_each_action_gives_its_change),
		cmocka_unit_test(test_etcd2_decode_event_of_a_wrong_answer_says_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
