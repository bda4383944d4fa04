/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What a registry keeps of keys and values that are longer than anything that
 * can be used: so little that a few of them take nothing from the others, and
 * enough to tell them apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/registry/changes.h"

enum { MANY = 1000, MIB = 1024 * 1024 };

static char *filled(size_t length, char with)
{
	char *bytes = malloc(length);

	assert_non_null(bytes);
	memset(bytes, with, length);
	return bytes;
}

static void test_documents_of_1_mib_use_up_nothing(void **state)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(memory_free) char *value = filled(MIB, 'x');

	(void)state;
	for (int i = 0; i < MANY; i++)
		assert_int_equal(document_list_add(&list, "/s/a", 4, value, MIB), 0);
	assert_int_equal(document_list_check(&list, NULL), 0);
	assert_in_range(list.bytes, MANY, MANY * 8);
	assert_int_equal(list.items[0].length, MIB);
	assert_string_equal(list.items[0].value, "");
}

static void test_documents_of_the_greatest_size_are_kept(void **state)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(memory_free) char *value = filled(DOCUMENT_MAX, 'x');

	(void)state;
	assert_int_equal(document_list_add(&list, "/s/a", 4, value, DOCUMENT_MAX), 0);
	assert_int_equal(list.items[0].length, DOCUMENT_MAX);
	assert_memory_equal(list.items[0].value, value, DOCUMENT_MAX);
	assert_int_equal(list.bytes, 4 + DOCUMENT_MAX);
}

static void test_changes_of_1_mib_use_up_nothing(void **state)
{
	CLEANUP(change_list_done) struct change_list list = {0}, copy = {0};
	CLEANUP(memory_free) char *value = filled(MIB, 'x');

	(void)state;
	for (unsigned i = 1; i <= MANY; i++)
		assert_int_equal(change_list_add(&list, "/s/a", 4, value, MIB, i), 0);
	assert_false(change_list_is_too_large(&list));
	assert_int_equal(change_list_append(&copy, &list, 0), 0);
	assert_int_equal(copy.items[MANY - 1].document.length, MIB);
	assert_false(copy.items[MANY - 1].removed);
	assert_false(change_list_is_too_large(&copy));
}

static void test_documents_with_keys_of_1_mib_use_up_little(void **state)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(memory_free) char *key = filled(MIB, 'k');

	(void)state;
	for (int i = 0; i < MANY; i++) {
		key[MIB - 1 - i] = '\0';
		assert_int_equal(document_list_add(&list, key, MIB, "x", 1), 0);
	}
	assert_int_equal(document_list_check(&list, NULL), 0);
	assert_in_range(strlen(list.items[0].key), KEY_BYTES_MAX, KEY_BYTES_MAX + 32);
	for (int i = 1; i < MANY; i++)
		assert_string_not_equal(list.items[i].key, list.items[i - 1].key);
}

static void test_documents_with_the_longest_key_keep_it(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(memory_free) char *key = filled(KEY_BYTES_MAX + 1, 'k');
	const char *kept;

	(void)state;
	kept = document_key(arena, key, KEY_BYTES_MAX);
	assert_int_equal(strlen(kept), KEY_BYTES_MAX);
	kept = document_key(arena, key, KEY_BYTES_MAX + 1);
	assert_int_equal(strlen(kept), KEY_BYTES_MAX + 3 + 16);
	/* The same key comes to the same, or nobody could remove it. */
	assert_string_equal(kept, document_key(arena, key, KEY_BYTES_MAX + 1));
	memset(key, '\0', KEY_BYTES_MAX + 1);
	kept = document_key(arena, key, KEY_BYTES_MAX + 1);
	assert_int_equal(strlen(kept), 4 * KEY_BYTES_MAX + 3 + 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents_of_1_mib_use_up_nothing),
		cmocka_unit_test(test_documents_of_the_greatest_size_are_kept),
		cmocka_unit_test(test_changes_of_1_mib_use_up_nothing),
		cmocka_unit_test(test_documents_with_keys_of_1_mib_use_up_little),
		cmocka_unit_test(test_documents_with_the_longest_key_keep_it),
	};

	return cmocka_run_group_tests_name("registry documents", tests, NULL, NULL);
}
