/* SPDX-License-Identifier: MIT */
#include "dragoman/base/work.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dragoman/base/memory.h"

struct work {
	pthread_t thread;
	int event;
	struct loop_source *source;
	void (*run)(void *user);
	void (*done)(void *user);
	void *user;
};

static void work_free(struct work *work)
{
	loop_source_free(work->source);
	fd_close(&work->event);
	free(work);
}

static void *on_thread(void *argument)
{
	struct work *work = argument;
	const uint64_t one = 1;

	work->run(work->user);
	/* It cannot fail: the counter is at 0. */
	(void)!write(work->event, &one, sizeof(one));
	return NULL;
}

static void on_event(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct work *work = user;
	void (*done)(void *) = work->done;
	void *done_user = work->user;

	(void)source;
	(void)fd;
	(void)events;
	work_join(work);
	done(done_user);
}

int work_start(struct loop *loop, const char *name, void (*run)(void *user),
	       void (*done)(void *user), void *user, struct work **ret)
{
	struct work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return -ENOMEM;
	work->run = run;
	work->done = done;
	work->user = user;
	work->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = work->event < 0 ? -errno
			    : loop_add_io(loop, name, work->event, LOOP_READ, on_event, work,
					  &work->source);
	if (r == 0)
		r = -pthread_create(&work->thread, NULL, on_thread, work);
	if (r < 0) {
		work_free(work);
		return r;
	}
	*ret = work;
	return 0;
}

void work_join(struct work *work)
{
	if (!work)
		return;
	(void)pthread_join(work->thread, NULL);
	work_free(work);
}
