/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_SPACES_H
#define DRAGOMAN_BENCH_SPACES_H

/*
 * Network namespaces of a program's own, held by descriptors: they are gone
 * with it. None of them has anything but lo.
 */

#include <stddef.h>

struct spaces {
	int home; /* the namespace that the program was started in */
	int *fds;
	size_t count;
};

/* Makes as many; with 0 there is one, that which the program is in. Returns 0 or -1 with errno. */
int spaces_open(struct spaces *spaces, size_t count);
void spaces_close(struct spaces *spaces);

/* Goes into one; spaces_leave() comes home, and ends the program where that fails. */
int spaces_enter(const struct spaces *spaces, size_t index);
void spaces_leave(const struct spaces *spaces);

#endif
