/* SPDX-License-Identifier: MIT */
#include "dragoman/base/json.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>
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
 * Outside of json_read(), such as in json_pack(), jansson reports what fails.
 */

struct notes {
	void **blocks;
	size_t count, capacity;
};

static struct {
	bool active;
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

static void *allocate(size_t size)
{
	void *block = malloc(size);

	if (!reading.active)
		return block;
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

int json_read(const char *data, size_t length, size_t flags, struct json_t **ret,
	      struct json_error_t *reason)
{
	*ret = NULL;
	if (setjmp(reading.out)) {
		end_reading(&reading.taken);
		return -ENOMEM;
	}
	reading.active = true;
	*ret = json_loadb(data, length, flags, reason);
	end_reading(&reading.freed);
	return *ret ? 0 : -EINVAL;
}
