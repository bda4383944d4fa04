/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What everything else stands on: text that came from outside, arenas, errors
 * and the log. The printable forms are checked as a property besides, on bytes
 * of a fixed seed: the result is UTF-8 without control characters, and it fits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dragoman/base/error.h"
#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

static void test_text_printable_of_outside_bytes_is_escaped(void **state)
{
	static const struct {
		const char *data;
		size_t length;
		const char *expected;
	} cases[] = {
		{BYTES(""), ""},
		{BYTES("plain"), "plain"},
		{BYTES("a\nb\tc"), "a\\x0ab\\x09c"},
		{BYTES("a\0b"), "a\\x00b"},
		{BYTES("\x1b[31m"), "\\x1b[31m"},
		{BYTES("\x7f"), "\\x7f"},
		{BYTES("back\\slash"), "back\\\\slash"},
		{BYTES("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f"},
		{BYTES("\xc2\x85"), "\\xc2\\x85"}, /* C1: NEL */
		{BYTES("\xc2\xa0"), "\xc2\xa0"},   /* the first behind C1 */
		{BYTES("\xc3"), "\\xc3"},          /* cut off */
		{BYTES("\xc0\xaf"), "\\xc0\\xaf"}, /* overlong */
		{BYTES("\xe0\x80\xaf"), "\\xe0\\x80\\xaf"},
		{BYTES("\xed\xa0\x80"), "\\xed\\xa0\\x80"},          /* a surrogate */
		{BYTES("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
		{BYTES("\xf0\x9f\x90\xab"), "\xf0\x9f\x90\xab"},
		{BYTES("\xff"), "\\xff"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(text_done) struct text text = {0};
		char into[64];

		assert_string_equal(
			text_printable(into, sizeof(into), cases[i].data, cases[i].length),
			cases[i].expected);
		text_add_printable(&text, cases[i].data, cases[i].length);
		text_add(&text, "", 0);
		assert_string_equal(text.data, cases[i].expected);
	}
}

static void test_text_printable_without_room_is_cut_at_a_border(void **state)
{
	static const struct {
		size_t size;
		const char *data, *expected;
	} cases[] = {
		{7, "123456", "123456"},
		{6, "123456", "12..."},
		{5, "123456", "1..."},
		{4, "123456", "..."},
		{3, "123456", ""},
		{1, "123456", ""},
		{1, "", ""},
		{8, "ab\n3456", "ab..."}, /* never half an escape */
		{10, "ab\n3456", "ab\\x0a..."},
		{7, "a\xc3\xbc\xc3\xbc\xc3\xbcz", "a\xc3\xbc..."},
		{6, "a\xc3\xbc\xc3\xbc\xc3\xbcz", "a..."},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char into[16];

		memset(into, '#', sizeof(into));
		(void)text_printable(into, cases[i].size, cases[i].data, strlen(cases[i].data));
		assert_string_equal(into, cases[i].expected);
		assert_int_equal(into[cases[i].size], '#');
	}
}

static void test_text_printable_of_random_bytes_is_clean_and_fits(void **state)
{
	unsigned seed = 20;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 20000; round++) {
		char data[24], into[33];
		size_t length = (size_t)rand() % sizeof(data);
		size_t size = (size_t)rand() % 32 + 1;

		for (size_t i = 0; i < length; i++)
			data[i] = (char)(rand() & 1 ? rand() : (rand() & 3) | 0xc0);
		memset(into, '#', sizeof(into));
		(void)text_printable(into, size, data, length);
		assert_true(strlen(into) < size);
		assert_int_equal(into[size], '#');
		assert_true(text_is_utf8(into, strlen(into)));
		for (const char *byte = into; *byte; byte++)
			assert_true((unsigned char)*byte >= 0x20 && *byte != 0x7f);
	}
}

static void test_arena_printable_of_long_text_is_not_cut(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	char data[1000], *shown;

	(void)state;
	memset(data, '\n', sizeof(data));
	shown = arena_printable(arena, data, sizeof(data));
	assert_int_equal(strlen(shown), 4 * sizeof(data));
	assert_string_equal(arena_printable(arena, "", 0), "");
}

static void test_text_format_without_room_is_cut_at_a_border(void **state)
{
	static const struct {
		size_t size;
		const char *text, *expected;
	} cases[] = {
		{8, "1234567", "1234567"},
		{7, "1234567", "123..."},
		{7,
		 "12\xc3\xbc"
		 "4567",
		 "12..."},
		{8,
		 "12\xc3\xbc"
		 "4567",
		 "12\xc3\xbc..."},
		{8,
		 "\xf0\x9f\x90\xab"
		 "\xf0\x9f\x90\xab",
		 "\xf0\x9f\x90\xab..."},
		{7,
		 "\xf0\x9f\x90\xab"
		 "\xf0\x9f\x90\xab",
		 "..."},
		{4, "1234567", "..."},
		{3, "1234567", ""},
		{1, "1234567", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char into[16];

		assert_string_equal(text_format(into, cases[i].size, "%s", cases[i].text),
				    cases[i].expected);
	}
}

static void test_text_utf8_length_of_broken_text_ends_before_it(void **state)
{
	(void)state;
	assert_int_equal(text_utf8_length(BYTES("a\xc3\xbc")), 3);
	assert_int_equal(text_utf8_length(BYTES("a\xc3\xbc\xff"
						"a")),
			 3);
	assert_int_equal(text_utf8_length(BYTES("a\xc3")), 1);
	assert_int_equal(text_utf8_length(BYTES("\x80")), 0);
	assert_true(text_is_utf8(BYTES("")));
	assert_false(text_is_utf8(BYTES("a\xe2\x82")));
}

static void test_text_growing_keeps_what_was_added(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		text_printf(&text, "%d,", i % 10);
	text_puts(&text, "end");
	assert_false(text.failed);
	assert_int_equal(text.length, 2003);
	assert_int_equal(strlen(text.data), 2003);
	assert_memory_equal(text.data, "0,1,2,", 6);
	assert_string_equal(text.data + 2000, "end");
}

static void test_text_without_memory_is_latched(void **state)
{
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	text_puts(&text, "ab");
	text_add(&text, "", SIZE_MAX);
	assert_true(text.failed);
	/* What comes later must not stand there as if nothing were missing. */
	text_puts(&text, "cd");
	text_printf(&text, "%d", 1);
	assert_string_equal(text.data, "ab");
}

static void test_text_parse_number_of_variants_is_strict(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int result;
		uint64_t value;
	} cases[] = {
		{"0", 10, 0, 0},
		{"10", 10, 0, 10},
		{"0010", 10, 0, 10},
		{"11", 10, -ERANGE, 0},
		{"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, -ERANGE, 0},
		{"99999999999999999999999", UINT64_MAX, -ERANGE, 0},
		{"", 10, -EINVAL, 0},
		{" 1", 10, -EINVAL, 0},
		{"1 ", 10, -EINVAL, 0},
		{"+1", 10, -EINVAL, 0},
		{"-1", 10, -EINVAL, 0},
		{"0x1", 10, -EINVAL, 0},
		{"999999999999999999999x", 10, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 4711;

		assert_int_equal(text_parse_number(cases[i].text, strlen(cases[i].text),
						   cases[i].max, &value),
				 cases[i].result);
		assert_int_equal(value, cases[i].result ? 4711 : cases[i].value);
	}
}

static void write_file(char *path, const char *data, size_t length)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, length), length);
	(void)close(fd);
}

static void test_text_read_file_at_the_limit_is_read_whole(void **state)
{
	char path[] = "/tmp/dragoman-base-XXXXXX";
	CLEANUP(memory_free) char *data = NULL;
	size_t length = 4711;

	(void)state;
	write_file(path, "one\0two", 7);
	assert_int_equal(text_read_file(path, 6, &data, &length), -EFBIG);
	assert_null(data);
	assert_int_equal(length, 4711);
	assert_int_equal(text_read_file(path, 7, &data, &length), 0);
	assert_int_equal(length, 7);
	assert_memory_equal(data, "one\0two", 8);
	(void)unlink(path);
}

static void test_text_read_file_of_no_file_fails_by_name(void **state)
{
	CLEANUP(memory_free) char *data = NULL;
	size_t length;

	(void)state;
	assert_int_equal(text_read_file("/nonexistent/file", 10, &data, &length), -ENOENT);
	assert_int_equal(text_read_file("/tmp", 10, &data, &length), -EISDIR);
	assert_int_equal(text_read_file("/dev/zero", 100000, &data, &length), -EFBIG);
	assert_int_equal(text_read_file("/dev/null", 0, &data, &length), 0);
	assert_int_equal(length, 0);
	assert_string_equal(data, "");
}

static void test_array_reserve_growing_keeps_items(void **state)
{
	CLEANUP(memory_free) uint32_t *items = NULL;
	size_t capacity = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(array_reserve(&items, &capacity, i, 1, sizeof(*items)), 0);
		items[i] = i;
	}
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(items[i], i);
	assert_true(capacity < 2100);
}

static void test_array_reserve_of_too_much_leaves_everything(void **state)
{
	CLEANUP(memory_free) uint32_t *items = NULL;
	uint32_t *before;
	size_t capacity = 0;

	(void)state;
	assert_int_equal(array_reserve(&items, &capacity, 0, 1, sizeof(*items)), 0);
	before = items;
	assert_int_equal(array_reserve(&items, &capacity, 1, SIZE_MAX, sizeof(*items)), -ENOMEM);
	assert_int_equal(array_reserve(&items, &capacity, 1, SIZE_MAX / 4, sizeof(*items)),
			 -ENOMEM);
	assert_ptr_equal(items, before);
	assert_int_equal(capacity, 8);
}

static void test_arena_blocks_are_zeroed_aligned_and_apart(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	unsigned char *last = NULL;
	size_t handed_out = 0;

	(void)state;
	for (size_t size = 0; size < 3000; size += 7) {
		unsigned char *memory = arena_alloc(arena, size);

		assert_non_null(memory);
		assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
		assert_ptr_not_equal(memory, last);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(memory[i], 0);
		memset(memory, 0xff, size);
		last = memory;
		handed_out += size;
	}
	assert_true(arena_size(arena) >= handed_out);
	assert_true(arena_size(arena) < 4 * handed_out);
}

static void test_arena_of_small_use_stays_small(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_non_null(arena_alloc(arena, 100));
	assert_true(arena_size(arena) <= 4096);
}

static void test_arena_of_too_much_is_null(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	volatile size_t huge = SIZE_MAX;

	(void)state;
	assert_null(arena_alloc(arena, huge));
	assert_null(arena_array(arena, huge / 4, 8));
	assert_null(arena_text(arena, "x", huge));
	assert_non_null(arena_alloc(arena, 1));
}

static void test_arena_text_and_printf_are_terminated(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	char *longer;

	(void)state;
	assert_string_equal(arena_text(arena, "abcdef", 3), "abc");
	assert_string_equal(arena_text(arena, NULL, 0), "");
	assert_string_equal(arena_printf(arena, "%s-%d", "a", 7), "a-7");
	longer = arena_printf(arena, "%0*d", 10000, 1);
	assert_int_equal(strlen(longer), 10000);
}

static void test_take_leaves_nothing_behind(void **state)
{
	char *pointer = (char *)"x", *taken = TAKE(pointer);
	int fd = 7, taken_fd = TAKE_FD(fd);

	(void)state;
	assert_null(pointer);
	assert_string_equal(taken, "x");
	assert_int_equal(fd, -1);
	assert_int_equal(taken_fd, 7);
	fd_close(&fd);
	assert_int_equal(fd, -1);
}

static void test_error_wrap_puts_context_in_front(void **state)
{
	struct error error = {0};

	(void)state;
	assert_int_equal(error_set(&error, -ENOENT, ERROR_INVALID, "no %s", "file"), -ENOENT);
	assert_int_equal(error_wrap(&error, "reading %d", 3), -ENOENT);
	assert_int_equal(error_wrap(&error, "%s", "top"), -ENOENT);
	assert_string_equal(error.message, "top: reading 3: no file");
	assert_int_equal(error.code, -ENOENT);
	assert_int_equal(error.class, ERROR_INVALID);
}

static void test_error_wrap_with_its_own_message_is_safe(void **state)
{
	struct error error = {0};

	(void)state;
	(void)error_set(&error, -EIO, ERROR_FATAL, "inner");
	(void)error_wrap(&error, "again %s", error.message);
	assert_string_equal(error.message, "again inner: inner");
}

static void test_error_unset_or_null_is_no_trouble(void **state)
{
	struct error error = {0};

	(void)state;
	assert_int_equal(error_wrap(&error, "context"), 0);
	assert_string_equal(error.message, "");
	assert_int_equal(error_set(NULL, -EPERM, ERROR_FATAL, "x"), -EPERM);
	assert_int_equal(error_wrap(NULL, "x"), -EIO);
	assert_int_equal(error_no_memory(NULL), -ENOMEM);
	assert_int_equal(error_no_memory(&error), -ENOMEM);
	assert_string_equal(error.message, "out of memory");
	assert_int_equal(error.class, ERROR_FATAL);
}

static void test_error_too_long_is_cut_and_stays_utf8(void **state)
{
	char text[2 * ERROR_MESSAGE_MAX];
	struct error error = {0};

	(void)state;
	for (size_t offset = 0; offset < 2; offset++) {
		memset(text, 'a', offset);
		for (size_t i = offset; i + 3 < sizeof(text); i += 2)
			memcpy(text + i, "\xc3\xbc", 3);
		(void)error_set(&error, -EIO, ERROR_FATAL, "%s", text);
		assert_true(text_is_utf8(error.message, strlen(error.message)));
		(void)error_wrap(&error, "context");
		assert_true(strlen(error.message) >= ERROR_MESSAGE_MAX - 3);
		assert_memory_equal(error.message, "context: ", 9);
		assert_true(text_is_utf8(error.message, strlen(error.message)));
		assert_string_equal(error.message + strlen(error.message) - 3, "...");
	}
}

static void test_error_class_of_errno_drives_retry(void **state)
{
	(void)state;
	assert_int_equal(error_class_of(-ERESTART), ERROR_CONFLICT);
	assert_int_equal(error_class_of(ECONNREFUSED), ERROR_TRANSIENT);
	assert_int_equal(error_class_of(-EBUSY), ERROR_TRANSIENT);
	assert_int_equal(error_class_of(-EPERM), ERROR_FATAL);
	assert_int_equal(error_class_of(-EINVAL), ERROR_INVALID);
	assert_string_equal(error_class_name(ERROR_TRANSIENT), "transient");
	assert_string_equal(error_class_name(ERROR_CONFLICT), "conflict");
	assert_string_equal(error_class_name(ERROR_INVALID), "invalid");
	assert_string_equal(error_class_name(ERROR_FATAL), "fatal");
}

static void test_log_parse_level_knows_its_four_names(void **state)
{
	static const struct {
		const char *name;
		enum log_level level;
	} cases[] = {
		{"error", LOG_ERROR},
		{"warn", LOG_WARN},
		{"info", LOG_INFO},
		{"debug", LOG_DEBUG},
	};
	enum log_level level = LOG_WARN;

	(void)state;
	assert_int_equal(log_parse_level("Info", &level), -EINVAL);
	assert_int_equal(log_parse_level("", &level), -EINVAL);
	assert_int_equal(level, LOG_WARN);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(log_parse_level(cases[i].name, &level), 0);
		assert_int_equal(level, cases[i].level);
	}
}

/* Logs one line of each level into a file, and returns what arrived there. */
static char *logged(enum log_level upto, size_t *ret_length)
{
	char path[] = "/tmp/dragoman-base-XXXXXX";
	int fd = mkstemp(path), saved = dup(STDERR_FILENO);
	char *data = NULL;

	assert_true(fd >= 0 && saved >= 0);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	log_set_level(upto);
	errno = ENOTTY;
	log_error("e %d", 1);
	log_info("i %s", "2");
	log_debug("d");
	assert_int_equal(errno, ENOTTY);
	log_set_level(LOG_INFO);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	(void)close(saved);
	(void)close(fd);
	assert_int_equal(text_read_file(path, 1000, &data, ret_length), 0);
	(void)unlink(path);
	return data;
}

static void test_log_line_above_its_level_is_not_written(void **state)
{
	static const struct {
		enum log_level upto;
		const char *expected;
	} cases[] = {
		{LOG_ERROR, "dragoman: e 1\n"},
		{LOG_INFO, "dragoman: e 1\ndragoman: i 2\n"},
		{LOG_DEBUG, "dragoman: e 1\ndragoman: i 2\ndragoman: d\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t length;
		CLEANUP(memory_free) char *data = logged(cases[i].upto, &length);

		assert_string_equal(data, cases[i].expected);
	}
}

static void test_log_line_for_the_journal_begins_with_its_priority(void **state)
{
	size_t length;
	char *text;

	(void)state;
	log_set_graded(true);
	text = logged(LOG_DEBUG, &length);
	log_set_graded(false);
	assert_string_equal(text, "<3>e 1\n<6>i 2\n<7>d\n");
	free(text);
}

static void test_log_line_that_cannot_be_written_keeps_errno(void **state)
{
	int saved = dup(STDERR_FILENO), after;

	(void)state;
	assert_true(saved >= 0);
	(void)close(STDERR_FILENO);
	errno = ENOTTY;
	log_error("nobody reads this");
	after = errno;
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	(void)close(saved);
	assert_int_equal(after, ENOTTY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_printable_of_outside_bytes_is_escaped),
		cmocka_unit_test(test_text_printable_without_room_is_cut_at_a_border),
		cmocka_unit_test(test_text_printable_of_random_bytes_is_clean_and_fits),
		cmocka_unit_test(test_arena_printable_of_long_text_is_not_cut),
		cmocka_unit_test(test_text_format_without_room_is_cut_at_a_border),
		cmocka_unit_test(test_text_utf8_length_of_broken_text_ends_before_it),
		cmocka_unit_test(test_text_growing_keeps_what_was_added),
		cmocka_unit_test(test_text_without_memory_is_latched),
		cmocka_unit_test(test_text_parse_number_of_variants_is_strict),
		cmocka_unit_test(test_text_read_file_at_the_limit_is_read_whole),
		cmocka_unit_test(test_text_read_file_of_no_file_fails_by_name),
		cmocka_unit_test(test_array_reserve_growing_keeps_items),
		cmocka_unit_test(test_array_reserve_of_too_much_leaves_everything),
		cmocka_unit_test(test_arena_blocks_are_zeroed_aligned_and_apart),
		cmocka_unit_test(test_arena_of_small_use_stays_small),
		cmocka_unit_test(test_arena_of_too_much_is_null),
		cmocka_unit_test(test_arena_text_and_printf_are_terminated),
		cmocka_unit_test(test_take_leaves_nothing_behind),
		cmocka_unit_test(test_error_wrap_puts_context_in_front),
		cmocka_unit_test(test_error_wrap_with_its_own_message_is_safe),
		cmocka_unit_test(test_error_unset_or_null_is_no_trouble),
		cmocka_unit_test(test_error_too_long_is_cut_and_stays_utf8),
		cmocka_unit_test(test_error_class_of_errno_drives_retry),
		cmocka_unit_test(test_log_parse_level_knows_its_four_names),
		cmocka_unit_test(test_log_line_above_its_level_is_not_written),
		cmocka_unit_test(test_log_line_for_the_journal_begins_with_its_priority),
		cmocka_unit_test(test_log_line_that_cannot_be_written_keeps_errno),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
