/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * How much memory a text may take that is read, whoever wrote it. That failed
 * allocations are told from what is wrong is tests/test_memory.c's.
 */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/json.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

enum { LENGTH = 2 * 1024 * 1024 };

/* An array of that many bytes, of one value again and again. */
static void repeat(const char *value, size_t length, struct text *ret)
{
	text_puts(ret, "[");
	while (ret->length + strlen(value) + 2 < length)
		text_printf(ret, "%s,", value);
	text_puts(ret, "0]");
	assert_false(ret->failed);
}

static int read_many(const char *value, size_t length, json_error_t *reason)
{
	CLEANUP(text_done) struct text text = {0};
	json_t *root;
	int code;

	repeat(value, length, &text);
	code = json_read(text.data, text.length, 0, &root, reason);
	assert_true((code == 0) == (root != NULL));
	json_decref(root);
	return code;
}

static void test_json_read_of_far_too_many_values_is_refused(void **state)
{
	static const char *const values[] = {"{}", "[]", "{\"\":0}", "[{}]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		json_error_t reason;

		assert_int_equal(read_many(values[i], LENGTH, &reason), -EINVAL);
		assert_string_equal(reason.text, "its values take too much memory for its length");
		assert_int_equal(read_many(values[i], LENGTH, NULL), -EINVAL);
		/* What is short may be anything. */
		assert_int_equal(read_many(values[i], LENGTH / 32, NULL), 0);
	}
}

static const char etcd3_kv[] = "{\"key\":\"YQ==\",\"create_revision\":\"2\","
			       "\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"YQ==\"}";

static void test_json_read_of_what_servers_say_is_not_refused(void **state)
{
	static const char *const values[] = {
		etcd3_kv,
		"{\"kv\":{\"key\":\"L3MvYQ==\",\"mod_revision\":\"3\"},\"type\":\"DELETE\"}",
		"{\"key\":\"/s/a\",\"value\":\"b\",\"modifiedIndex\":4,\"createdIndex\":4}",
		"{\"PrivatePort\":80,\"Type\":\"tcp\"}",
		"\"A=b\"",
		"1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		assert_int_equal(read_many(values[i], LENGTH, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_read_of_far_too_many_values_is_refused),
		cmocka_unit_test(test_json_read_of_what_servers_say_is_not_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
