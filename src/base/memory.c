/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An arena is a list of blocks, the newest first; memory is cut off the front
 * one. What does not fit opens a new block, twice the size of the one before
 * up to a limit, so that a small arena stays small and a large one has few
 * blocks. What is handed out is zeroed only where that was asked for: of room
 * that turns out to be too large no page is touched.
 */
#include "dragoman/base/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_FIRST = 4 * 1024 - 64, BLOCK_LARGEST = 1024 * 1024 };

struct block {
	struct block *next;
	size_t used, size;
	alignas(max_align_t) unsigned char data[];
};

struct arena {
	struct block *blocks;
	size_t total;
};

void memory_free(void *pointer_variable)
{
	void *pointer;

	memcpy(&pointer, pointer_variable, sizeof(pointer));
	free(pointer);
}

void fd_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

int array_reserve(void *array, size_t *capacity, size_t count, size_t more, size_t size)
{
	size_t wanted, bytes;
	void *old, *grown;

	if (__builtin_add_overflow(count, more, &wanted))
		return -ENOMEM;
	if (wanted <= *capacity)
		return 0;
	if (wanted < *capacity * 2)
		wanted = *capacity * 2;
	if (wanted < 8)
		wanted = 8;
	if (__builtin_mul_overflow(wanted, size, &bytes))
		return -ENOMEM;
	memcpy(&old, array, sizeof(old));
	grown = realloc(old, bytes);
	if (!grown)
		return -ENOMEM;
	memcpy(array, &grown, sizeof(grown));
	*capacity = wanted;
	return 0;
}

void sort_unless_sorted(void *items, size_t count, size_t size,
			int (*compare)(const void *, const void *))
{
	const char *item = items;

	for (size_t i = 1; i < count; i++, item += size) {
		if (compare(item, item + size) <= 0)
			continue;
		qsort(items, count, size, compare);
		return;
	}
}

struct arena *arena_new(void)
{
	struct arena *arena = calloc(1, sizeof(*arena));

	if (arena)
		arena->total = sizeof(*arena);
	return arena;
}

void arena_free(struct arena *arena)
{
	struct block *block, *next;

	if (!arena)
		return;
	for (block = arena->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	free(arena);
}

void arena_freep(struct arena **arena)
{
	arena_free(*arena);
	*arena = NULL;
}

static struct block *block_open(struct arena *arena, size_t size)
{
	size_t wanted = arena->blocks ? arena->blocks->size * 2 : BLOCK_FIRST;
	struct block *block;

	if (wanted > BLOCK_LARGEST)
		wanted = BLOCK_LARGEST;
	if (wanted < size)
		wanted = size;
	if (wanted > SIZE_MAX - sizeof(*block))
		return NULL;
	block = malloc(sizeof(*block) + wanted);
	if (!block)
		return NULL;
	block->size = wanted;
	block->used = 0;
	block->next = arena->blocks;
	arena->blocks = block;
	arena->total += sizeof(*block) + wanted;
	return block;
}

static void *take(struct arena *arena, size_t size)
{
	const size_t align = alignof(max_align_t);
	struct block *block = arena->blocks;
	void *memory;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + align - 1) & ~(align - 1);
	if (size == 0)
		size = align;
	if (!block || block->size - block->used < size)
		block = block_open(arena, size);
	if (!block)
		return NULL;
	memory = block->data + block->used;
	block->used += size;
	return memory;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	void *memory = take(arena, size);

	return memory ? memset(memory, 0, size) : NULL;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	void *memory = arena_room(arena, count, size);

	return memory ? memset(memory, 0, count * size) : NULL;
}

void *arena_room(struct arena *arena, size_t count, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(count, size, &bytes) ? NULL : take(arena, bytes);
}

char *arena_text(struct arena *arena, const char *text, size_t length)
{
	char *copy = length < SIZE_MAX ? arena_alloc(arena, length + 1) : NULL;

	if (copy && length)
		memcpy(copy, text, length);
	return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list arguments;
	char *text;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	text = length < 0 ? NULL : arena_alloc(arena, (size_t)length + 1);
	if (!text)
		return NULL;
	va_start(arguments, format);
	(void)vsnprintf(text, (size_t)length + 1, format, arguments);
	va_end(arguments);
	return text;
}

/*
 * Threads are few and seldom busy together, and what one frees that another has
 * allocated is used again by whoever comes next. An arena of a few blocks comes
 * and goes with each change: to have its pages from the system each time costs
 * more than to plan it.
 */
void memory_settle(void)
{
#ifdef __GLIBC__
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_MMAP_THRESHOLD, 2 * BLOCK_LARGEST);
	(void)mallopt(M_TRIM_THRESHOLD, 4 * BLOCK_LARGEST);
#endif
}

void memory_trim(void)
{
#ifdef __GLIBC__
	(void)malloc_trim(0);
#endif
}

size_t arena_size(const struct arena *arena)
{
	return arena->total;
}
