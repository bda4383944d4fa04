/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/base64.h"
#include "../src/registry/etcd3_codec.h"

/* The empty string, RFC 4648's own vectors, and bytes that use "+" and "/". */
static const struct {
	const char *bytes, *text;
} base64[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xfb\xff\xfe", "+//+"},
};

static void test_base64_of_known_bytes_is_golden_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(base64); i++) {
		CLEANUP(text_done) struct text text = {0};
		char bytes[16];
		size_t length = 99;

		base64_encode(&text, base64[i].bytes, strlen(base64[i].bytes));
		assert_string_equal(text.data ? text.data : "", base64[i].text);
		assert_int_equal(
			base64_decode(base64[i].text, strlen(base64[i].text), bytes, &length), 0);
		assert_int_equal(length, strlen(base64[i].bytes));
		assert_memory_equal(bytes, base64[i].bytes, length);
	}
}

static void test_base64_that_is_not_canonical_is_refused(void **state)
{
	static const char *const wrong[] = {"Z",    "Zg",       "Zg=",  "Zh==", "Zm9=",
					    "====", "Zg==Zg==", "Zm 8", "Zm8-", "Zm9v\n",
					    "Z===", "=m9v",     "Zg=v"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char bytes[16];
		size_t length;

		assert_int_equal(base64_decode(wrong[i], strlen(wrong[i]), bytes, &length),
				 -EINVAL);
	}
}

/* What is asked for in every test of decoding: "/a", then what is below it. */
static const struct etcd3_range ranges[] = {
	{.start = "/a", .start_length = 2},
	{.start = "/a/",
	 .start_length = 3,
	 .end = "/a0",
	 .end_length = 3,
	 .limit = 1000,
	 .revision = 7},
};

static void test_etcd3_encode_txn_of_two_ranges_is_golden(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	etcd3_encode_txn(ranges, 2, &text);
	assert_string_equal(text.data,
			    "{\"success\":[{\"request_range\":{\"key\":\"L2E=\"}},"
			    "{\"request_range\":{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\","
			    "\"limit\":\"1000\",\"revision\":\"7\"}}]}");
}

#define HEADER "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"12\",\"raft_term\":\"2\"},"
#define EMPTY "{\"response_range\":{\"header\":{\"revision\":\"12\"}}}"

struct decoded {
	struct document_list list;
	struct etcd3_result results[2];
	struct registry_position position;
	struct error error;
};

static int decode(struct decoded *decoded, const char *body)
{
	*decoded = (struct decoded){.list.arena = arena_new()};
	assert_non_null(decoded->list.arena);
	decoded->results[0].list = decoded->results[1].list = &decoded->list;
	return etcd3_decode_txn(body, strlen(body), ranges, 2, decoded->results, &decoded->position,
				&decoded->error);
}

static void test_etcd3_decode_txn_of_keys_gives_documents_and_revision(void **state)
{
	struct decoded decoded;

	(void)state;
	/* "/a" = "x"; "/a/1" without a value; "/a/" NUL "z" = NUL 0xff. */
	assert_int_equal(decode(&decoded,
				HEADER "\"succeeded\":true,\"responses\":["
				       "{\"response_range\":{\"kvs\":[{\"key\":\"L2E=\","
				       "\"value\":\"eA==\",\"version\":\"1\"}],\"count\":\"1\"}},"
				       "{\"response_range\":{\"kvs\":[{\"key\":\"L2EvAHo=\","
				       "\"value\":\"AP8=\"},{\"key\":\"L2EvMQ==\"}],"
				       "\"more\":true,\"count\":\"9\"}}]}"),
			 0);
	assert_int_equal(decoded.position.revision, 12);
	assert_int_equal(decoded.list.count, 3);
	assert_string_equal(decoded.list.items[0].key, "/a");
	assert_string_equal(decoded.list.items[0].value, "x");
	assert_string_equal(decoded.list.items[1].key, "/a/\\x00z");
	assert_int_equal(decoded.list.items[1].length, 2);
	assert_memory_equal(decoded.list.items[1].value, "\0\xff", 2);
	assert_string_equal(decoded.list.items[2].key, "/a/1");
	assert_int_equal(decoded.list.items[2].length, 0);
	assert_false(decoded.results[0].more);
	assert_true(decoded.results[1].more);
	assert_int_equal(decoded.results[1].last_length, 4);
	assert_memory_equal(decoded.results[1].last, "/a/1", 4);
	document_list_done(&decoded.list);
}

/* An answer that is given up is asked for again: its documents come twice. */
static void test_documents_that_are_cut_off_are_counted_no_more(void **state)
{
	struct document_list list = {.arena = arena_new()};
	size_t bytes;

	(void)state;
	assert_non_null(list.arena);
	assert_int_equal(document_list_add(&list, "/a", 2, "one", 3), 0);
	bytes = list.bytes;
	assert_true(bytes > 0);
	assert_int_equal(document_list_add(&list, "/a/\0b", 5, "two", 3), 0);
	document_list_cut(&list, 3);
	assert_int_equal(list.count, 2);
	document_list_cut(&list, 1);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.bytes, bytes);
	document_list_done(&list);
}

static void test_etcd3_decode_txn_of_nothing_gives_no_documents(void **state)
{
	struct decoded decoded;

	(void)state;
	assert_int_equal(
		decode(&decoded, HEADER "\"succeeded\":true,\"responses\":[" EMPTY "," EMPTY "]}"),
		0);
	assert_int_equal(decoded.list.count, 0);
	document_list_done(&decoded.list);
}

#define SECOND(kvs) \
	HEADER "\"succeeded\":true,\"responses\":[" EMPTY ",{\"response_range\":{" kvs "}}]}"

static const struct {
	const char *body, *message;
} wrong_txns[] = {
	{"", "answer is empty"},
	{"<html>\n", "answer is not JSON (starts with \"<html>\\x0a\")"},
	{"{\"header\":{\"revision\":\"12\"},\"succee",
	 "answer is not JSON (starts with \"{\"header\":{\"revision\":\"1\")"},
	{"[]", "answer is no JSON object (starts with \"[]\")"},
	{"{}", "answer has no revision in its header"},
	{"{\"header\":{\"revision\":12}}", "answer has no revision in its header"},
	{"{\"header\":{\"revision\":\"0\"}}", "answer has no revision in its header"},
	{"{\"header\":{\"revision\":\"-1\"}}", "answer has no revision in its header"},
	{"{\"header\":{\"revision\":\"9223372036854775808\"}}",
	 "answer has no revision in its header"},
	{HEADER "\"responses\":[" EMPTY "," EMPTY "]}", "answer is not one to a transaction"},
	{HEADER "\"succeeded\":true}", "answer is not one to a transaction"},
	{HEADER "\"succeeded\":true,\"responses\":[" EMPTY "]}",
	 "answer has 1 responses to 2 ranges"},
	{HEADER "\"succeeded\":true,\"responses\":[" EMPTY "," EMPTY "," EMPTY "]}",
	 "answer has 3 responses to 2 ranges"},
	{HEADER "\"succeeded\":true,\"responses\":[" EMPTY ",{\"response_put\":{}}]}",
	 "answer has a response without \"response_range\""},
	{HEADER "\"succeeded\":true,\"responses\":[" EMPTY ",7]}",
	 "answer has a response without \"response_range\""},
	{SECOND("\"kvs\":{}"), "answer has \"kvs\" that are no array"},
	{SECOND("\"kvs\":[7]"), "answer has a key that is no object"},
	{SECOND("\"kvs\":[{\"key\":7}]"), "answer has a key that is no string"},
	{SECOND("\"kvs\":[{\"key\":\"L2EvMQ\"}]"), "answer has a key that is not base64"},
	{SECOND("\"kvs\":[{\"key\":\"L2EvMQ==\",\"value\":\"!\"}]"),
	 "answer has a value that is not base64"},
	{SECOND("\"kvs\":[{\"key\":\"L2EvMQ==\",\"value\":null}]"),
	 "answer has a value that is no string"},
	{SECOND("\"kvs\":[{}]"), "answer has the key \"\", which was not asked for"},
	/* "/a0", the end itself; "/a", which only the first range may have. */
	{SECOND("\"kvs\":[{\"key\":\"L2Ew\"}]"),
	 "answer has the key \"/a0\", which was not asked for"},
	{SECOND("\"kvs\":[{\"key\":\"L2E=\"}]"),
	 "answer has the key \"/a\", which was not asked for"},
	{SECOND("\"kvs\":[{\"key\":\"L2EvMg==\"},{\"key\":\"L2EvMQ==\"}]"),
	 "answer has the key \"/a/1\" out of order"},
	{SECOND("\"kvs\":[{\"key\":\"L2EvMQ==\"},{\"key\":\"L2EvMQ==\"}]"),
	 "answer has the key \"/a/1\" out of order"},
	{SECOND("\"more\":1"), "answer has a \"more\" that is no boolean"},
	{SECOND("\"more\":true"), "answer has no keys, and says that there are more"},
};

static void test_etcd3_decode_txn_of_a_wrong_answer_says_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong_txns); i++) {
		struct decoded decoded;

		assert_int_equal(decode(&decoded, wrong_txns[i].body), -EBADMSG);
		assert_int_equal(decoded.error.class, ERROR_TRANSIENT);
		assert_string_equal(decoded.error.message, wrong_txns[i].message);
		document_list_done(&decoded.list);
	}
}

static void test_etcd3_encode_authenticate_escapes_what_json_needs(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	assert_int_equal(etcd3_encode_authenticate("a\"b", "p\\\n\xc3\xa9", &text), 0);
	assert_string_equal(text.data, "{\"name\":\"a\\\"b\",\"password\":\"p\\\\\\n\xc3\xa9\"}");
	assert_int_equal(etcd3_encode_authenticate("a", "\xff", &text), -EINVAL);
}

static void test_etcd3_decode_authenticate_takes_only_what_a_header_can_hold(void **state)
{
	static const char *const wrong[] = {"{}",
					    "{\"token\":7}",
					    "{\"token\":\"\"}",
					    "{\"token\":\"a b\"}",
					    "{\"token\":\"a\\r\\nX: y\"}",
					    "{\"token\":\"\\u00e9\"}"};
	static const char right[] = "{\"header\":{},\"token\":\"abc.123\"}";
	CLEANUP(memory_free) char *token = NULL;
	struct error error;

	(void)state;
	assert_int_equal(etcd3_decode_authenticate(right, strlen(right), &token, &error), 0);
	assert_string_equal(token, "abc.123");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char *none = NULL;

		assert_int_equal(
			etcd3_decode_authenticate(wrong[i], strlen(wrong[i]), &none, &error),
			-EBADMSG);
		assert_null(none);
	}
}

static const struct {
	const char *body;
	long code;
	const char *message;
	bool of_token, final;
} failures[] = {
	{"{\"error\":\"etcdserver: permission denied\",\"code\":7}", GRPC_PERMISSION_DENIED,
	 "etcdserver: permission denied", false, true},
	{"{\"code\":16,\"message\":\"etcdserver: invalid auth token\",\"details\":[]}",
	 GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token", true, true},
	{"{\"error\":\"x\",\"message\":\"etcdserver: revision of auth store is old\",\"code\":3}",
	 GRPC_INVALID_ARGUMENT, "etcdserver: revision of auth store is old", true, true},
	{"{\"error\":\"no\\u001b leader\",\"code\":14}", 14, "no\\x1b leader", false, false},
	{"{\"error\":\"x\"}", GRPC_NONE, "", false, false},
	{"404 page not found\n", GRPC_NONE, "", false, false},
};

static void test_etcd3_decode_failure_of_known_errors_classes_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		struct etcd3_failure failure;

		etcd3_decode_failure(failures[i].body, strlen(failures[i].body), &failure);
		assert_int_equal(failure.code, failures[i].code);
		assert_string_equal(failure.message, failures[i].message);
		assert_int_equal(etcd3_failure_is_of_token(&failure), failures[i].of_token);
		assert_int_equal(etcd3_failure_is_final(&failure), failures[i].final);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64_of_known_bytes_is_golden_both_ways),
		cmocka_unit_test(test_base64_that_is_not_canonical_is_refused),
		cmocka_unit_test(test_etcd3_encode_txn_of_two_ranges_is_golden),
		cmocka_unit_test(test_etcd3_decode_txn_of_keys_gives_documents_and_revision),
		cmocka_unit_test(test_etcd3_decode_txn_of_nothing_gives_no_documents),
		cmocka_unit_test(test_documents_that_are_cut_off_are_counted_no_more),
		cmocka_unit_test(test_etcd3_decode_txn_of_a_wrong_answer_says_what_is_wrong),
		cmocka_unit_test(test_etcd3_encode_authenticate_escapes_what_json_needs),
		cmocka_unit_test(test_etcd3_decode_authenticate_takes_only_what_a_header_can_hold),
		cmocka_unit_test(test_etcd3_decode_failure_of_known_errors_classes_them),
	};

	return cmocka_run_group_tests_name("etcd3", tests, NULL, NULL);
}
