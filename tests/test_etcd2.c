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

static const struct {
	const char *key, *path;
} paths[] = {
	{"/services/app", "/v2/keys/services/app?recursive=true&quorum=true"},
	{"/a b/c?d#e%f&g=h", "/v2/keys/a%20b/c%3Fd%23e%25f%26g%3Dh?recursive=true&quorum=true"},
	{"/\xc3\xa9\x01", "/v2/keys/%C3%A9%01?recursive=true&quorum=true"},
	{"/A.z_0~-", "/v2/keys/A.z_0~-?recursive=true&quorum=true"},
};

static void test_etcd2_encode_path_escapes_all_but_unreserved_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		CLEANUP(text_done) struct text text = {0};

		etcd2_encode_path(paths[i].key, false, &text);
		assert_string_equal(text.data, paths[i].path);
	}
}

static int decode(const char *body, const char *key, struct document_list *list,
		  struct error *error)
{
	*list = (struct document_list){.arena = arena_new()};
	assert_non_null(list->arena);
	return etcd2_decode_keys(body, strlen(body), key, false, list, error);
}

static void test_etcd2_decode_keys_of_a_tree_gives_its_leaves(void **state)
{
	static const char body[] =
		"{\"action\":\"get\",\"node\":{\"key\":\"/s/app\",\"dir\":true,\"nodes\":["
		"{\"key\":\"/s/app/80\",\"dir\":true,\"nodes\":[{\"key\":\"/s/app/80/x\","
		"\"value\":\"one\\u0000\",\"modifiedIndex\":4}]},"
		"{\"key\":\"/s/app/empty\",\"dir\":true},"
		"{\"key\":\"/s/app/2\",\"value\":\"\",\"expiration\":\"2030\",\"ttl\":9}]}}";
	struct document_list list;
	struct error error = {0};

	(void)state;
	assert_int_equal(decode(body, "/s/app", &list, &error), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].key, "/s/app/80/x");
	assert_int_equal(list.items[0].length, 4);
	assert_memory_equal(list.items[0].value, "one\0", 4);
	assert_string_equal(list.items[1].key, "/s/app/2");
	assert_int_equal(list.items[1].length, 0);
	document_list_done(&list);
}

static void test_etcd2_decode_keys_of_the_key_itself_gives_one_document(void **state)
{
	static const char body[] = "{\"node\":{\"key\":\"/s/app\",\"value\":\"10.0.0.1:80\"}}";
	struct document_list list;
	struct error error = {0};

	(void)state;
	assert_int_equal(decode(body, "/s/app", &list, &error), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].key, "/s/app");
	assert_string_equal(list.items[0].value, "10.0.0.1:80");
	document_list_done(&list);
}

#define TREE(nodes) "{\"node\":{\"key\":\"/s/app\",\"dir\":true,\"nodes\":" nodes "}}"

static const struct {
	const char *body, *message;
} wrong[] = {
	{"<html>", "answer is not JSON (starts with \"<html>\")"},
	{"{}", "answer has a node without a key"},
	{"{\"node\":7}", "answer has a node without a key"},
	{"{\"node\":{\"key\":\"/s/app\"}}", "answer has no value for the key \"/s/app\""},
	{"{\"node\":{\"key\":\"/s/app\",\"value\":7}}",
	 "answer has no value for the key \"/s/app\""},
	{"{\"node\":{\"key\":\"/s/app2\",\"value\":\"\"}}",
	 "answer has the key \"/s/app2\", which was not asked for"},
	{TREE("{}"), "answer has \"nodes\" that are no array"},
	{TREE("[{\"value\":\"\"}]"), "answer has a node without a key"},
	{TREE("[{\"key\":\"/s/app2/1\",\"value\":\"\"}]"),
	 "answer has the key \"/s/app2/1\", which was not asked for"},
	/* A child is below its directory, never the directory again. */
	{TREE("[{\"key\":\"/s/app\",\"value\":\"\"}]"),
	 "answer has the key \"/s/app\", which was not asked for"},
};

static void test_etcd2_decode_keys_of_a_wrong_answer_says_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct document_list list;
		struct error error = {0};

		assert_int_equal(decode(wrong[i].body, "/s/app", &list, &error), -EBADMSG);
		assert_int_equal(error.class, ERROR_TRANSIENT);
		assert_string_equal(error.message, wrong[i].message);
		document_list_done(&list);
	}
}

/* "/d", "/d/d", ... each a directory in the one before; the last one holds a leaf. */
static void write_nested(struct text *body, int directories)
{
	CLEANUP(text_done) struct text key = {0};

	text_puts(body, "{\"node\":");
	for (int i = 0; i < directories; i++) {
		text_puts(&key, "/d");
		text_printf(body, "{\"key\":\"%s\",\"dir\":true,\"nodes\":[", key.data);
	}
	text_printf(body, "{\"key\":\"%s/leaf\",\"value\":\"\"}", key.data);
	for (int i = 0; i < directories; i++)
		text_puts(body, "]}");
	text_puts(body, "}");
}

static void test_etcd2_decode_keys_of_nested_directories_is_bounded(void **state)
{
	static const struct {
		int directories, code;
	} cases[] = {{ETCD2_DEPTH_MAX, 0}, {ETCD2_DEPTH_MAX + 1, -EBADMSG}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(text_done) struct text body = {0};
		struct document_list list;
		struct error error = {0};

		write_nested(&body, cases[i].directories);
		assert_int_equal(decode(body.data, "/d", &list, &error), cases[i].code);
		if (cases[i].code < 0)
			assert_string_equal(error.message,
					    "answer is nested deeper than 64 directories");
		document_list_done(&list);
	}
}

static void test_etcd2_decode_failure_tells_etcd_from_others(void **state)
{
	static const char etcd[] = "{\"errorCode\":100,\"message\":\"Key not found\","
				   "\"cause\":\"/x\",\"index\":7}";
	static const char other[] = "404 page not found";
	struct etcd2_failure failure;

	(void)state;
	etcd2_decode_failure(etcd, strlen(etcd), &failure);
	assert_int_equal(failure.code, ETCD2_KEY_NOT_FOUND);
	assert_string_equal(failure.message, "Key not found");
	etcd2_decode_failure(other, strlen(other), &failure);
	assert_int_equal(failure.code, ETCD2_NO_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_etcd2_encode_path_escapes_all_but_unreserved_bytes),
		cmocka_unit_test(test_etcd2_decode_keys_of_a_tree_gives_its_leaves),
		cmocka_unit_test(test_etcd2_decode_keys_of_the_key_itself_gives_one_document),
		cmocka_unit_test(test_etcd2_decode_keys_of_a_wrong_answer_says_what_is_wrong),
		cmocka_unit_test(test_etcd2_decode_keys_of_nested_directories_is_bounded),
		cmocka_unit_test(test_etcd2_decode_failure_tells_etcd_from_others),
	};

	return cmocka_run_group_tests_name("etcd2", tests, NULL, NULL);
}
