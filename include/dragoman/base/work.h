/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_WORK_H
#define DRAGOMAN_BASE_WORK_H

/*
 * Work beside the loop: for what takes the kernel milliseconds while events
 * come in. It runs on a thread of its own, and its end is told on the loop.
 *
 * The thread shares nothing but what it is given, which nobody else may touch
 * until it is done, and must not log. A namespace that it enters (kernel/netns.h)
 * is that of this thread alone.
 */

#include "dragoman/base/loop.h"

struct work;

/*
 * Calls run(user) on a thread, and then done(user) from the loop. Returns 0,
 * -ENOMEM, or an -errno of eventfd(2) or pthread_create(3); then neither is
 * called. name is borrowed, for tracing.
 */
int work_start(struct loop *loop, const char *name, void (*run)(void *user),
	       void (*done)(void *user), void *user, struct work **ret);

/* Waits for run() to return; done() is not called any more. NULL is fine. */
void work_join(struct work *work);

#endif
