/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_MEMORY_H
#define DRAGOMAN_BASE_MEMORY_H

/*
 * Ownership, written down.
 *
 * A variable that owns something says so where it is declared
 * (`CLEANUP(fd_close) int fd = -1;`); leaving the scope by any path releases
 * it, and TAKE() hands it on. What belongs to one snapshot or one plan comes
 * from an arena, which is freed whole.
 */

#include <stddef.h>
#include <stdint.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

/* Gives the value of a pointer variable away and leaves NULL behind. */
#define TAKE(pointer)                                   \
	__extension__({                                 \
		__typeof__(pointer) taken_ = (pointer); \
		(pointer) = NULL;                       \
		taken_;                                 \
	})

/* The same for a file descriptor: leaves -1 behind. */
#define TAKE_FD(fd)                \
	__extension__({            \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* For CLEANUP: free() what the pointer variable holds. */
void memory_free(void *pointer_variable);

/* For CLEANUP: close what the descriptor variable holds, if it is not negative. */
void fd_close(int *fd);

/*
 * Makes room for `more` further items in an array that holds count and has
 * room for *capacity, growing by doubling. *array is a malloc()ed array of
 * items of `size` bytes, or NULL. Returns 0, or -ENOMEM with everything as it
 * was.
 */
int array_reserve(void *array, size_t *capacity, size_t count, size_t more, size_t size);

/*
 * qsort(3), but for items that are in order already it is one look at them:
 * glibc's takes memory as large as the array, whatever it finds.
 */
void sort_unless_sorted(void *items, size_t count, size_t size,
			int (*compare)(const void *, const void *));

/*
 * An arena: memory that is handed out in order and freed all at once.
 * Not thread-safe; single blocks are never freed.
 */
struct arena;

/* Returns NULL when memory is exhausted. */
struct arena *arena_new(void);

/* Frees the arena and everything handed out from it; NULL is fine. */
void arena_free(struct arena *arena);

/* For CLEANUP. */
void arena_freep(struct arena **arena);

/* size bytes, zeroed and aligned for any object; NULL when memory is exhausted. */
void *arena_alloc(struct arena *arena, size_t size);

/* The same for count items; NULL also when count * size overflows. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* As arena_array(), but holding anything: room for as many as there may turn out to be. */
void *arena_room(struct arena *arena, size_t count, size_t size);

/* A copy of length bytes with a NUL behind; NULL when memory is exhausted. */
char *arena_text(struct arena *arena, const char *text, size_t length);

/* printf into the arena; NULL when memory is exhausted. */
char *arena_printf(struct arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * For a process that runs on: one heap for all threads, and what is freed at
 * its end is kept, up to some MiB, for whoever comes next. Call once, early.
 */
void memory_settle(void);

/*
 * Gives what has been freed back to the system, also between what is in use,
 * where libc would keep it; takes milliseconds where that is much.
 */
void memory_trim(void);

/* Bytes that the arena holds from malloc(). */
size_t arena_size(const struct arena *arena);

#endif
