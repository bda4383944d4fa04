/* SPDX-License-Identifier: MIT */
#include "dragoman/base/json.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "dragoman/base/memory.h"

/*
 * Theory of operation
 *
 * jansson's lexer does not look whether the string that it gathers could grow
 * (lex_save() of 2.14): a byte that finds no room is left out, and when that
 * was the closing quote, the search for it goes on behind the string. Other
 * failures end in NULL without a reason. So none of its functions may see one:
 * reading is left by a jump, from the allocation that fails to the call.
 *
 * Until then its state is on the stack and in blocks that it allocated since,
 * so these are noted, and are freed after the jump. What jansson frees in
 * between is noted as well, and freed at the end, or it would have to be
 * searched for among the others.
 *
 * A few bytes can stand for many: an empty object of two takes 150 of memory,
 * and an answer of 16 MiB of them more than a gigabyte. So a reading may take
 * what text of its length takes where it tells something, and some more.
 *
 * Outside of json_read(), such as in json_pack(), jansson reports what fails.
 */

enum {
	MEMORY_PER_BYTE = 24, /* of answers that say something it is 14 at most */
	MEMORY_AT_LEAST = 8 * 1024 * 1024,
};

struct notes {
	void **blocks;
	size_t count, capacity;
};

static struct {
	bool active, is_too_much;
	size_t left; /* bytes that it may take */
	jmp_buf out;
	struct notes taken, freed;
} reading;

static bool note(struct notes *notes, void *block)
{
	if (array_reserve(&notes->blocks, &notes->capacity, notes->count, 1,
			  sizeof(*notes->blocks)) < 0)
		return false;
	notes->blocks[notes->count++] = block;
	return true;
}

/* Does not return where there is too little left for it. */
static void take_from_what_is_left(size_t size)
{
	reading.is_too_much = size > reading.left;
	if (reading.is_too_much)
		longjmp(reading.out, 1);
	reading.left -= size;
}

static void *allocate(size_t size)
{
	void *block;

	if (!reading.active)
		return malloc(size);
	take_from_what_is_left(size);
	block = malloc(size);
	if (block && note(&reading.taken, block))
		return block;
	free(block);
	longjmp(reading.out, 1);
}

static void release(void *block)
{
	if (!reading.active)
		free(block);
	else if (block && !note(&reading.freed, block))
		longjmp(reading.out, 1);
}

/* Frees the blocks of one of the lists, and forgets both. */
static void end_reading(const struct notes *gone)
{
	reading.active = false;
	for (size_t i = 0; i < gone->count; i++)
		free(gone->blocks[i]);
	free(reading.taken.blocks);
	free(reading.freed.blocks);
	reading.taken = reading.freed = (struct notes){0};
}

/* Before anything was allocated that is freed later. */
__attribute__((constructor)) static void take_over(void)
{
	json_set_alloc_funcs(allocate, release);
}

static int refuse(struct json_error_t *reason)
{
	static const char text[] = "its values take too much memory for its length";

	if (reason) {
		*reason = (struct json_error_t){.line = 1, .column = 1};
		(void)snprintf(reason->text, sizeof(reason->text), "%s", text);
	}
	return -EINVAL;
}

int json_read(const char *data, size_t length, size_t flags, struct json_t **ret,
	      struct json_error_t *reason)
{
	*ret = NULL;
	if (setjmp(reading.out)) {
		end_reading(&reading.taken);
		return reading.is_too_much ? refuse(reason) : -ENOMEM;
	}
	reading.left = MEMORY_PER_BYTE * length + MEMORY_AT_LEAST;
	reading.is_too_much = false;
	reading.active = true;
	*ret = json_loadb(data, length, flags, reason);
	end_reading(&reading.freed);
	return *ret ? 0 : -EINVAL;
}
