/* SPDX-License-Identifier: MIT */
#include "dragoman/base/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"

/*
 * Theory of operation
 *
 * A round is one epoll_wait(2) and the calls that follow from it, in this
 * order: timers that are due, io, deferred sources. epoll waits until the
 * first timer is due, or not at all while a deferred source is triggered.
 *
 * States of a source: live, then freed. A live one is in `sources`; a timer is
 * also in the heap while it is armed, a deferred one in `pending` while it is
 * triggered. loop_source_free() takes it out of all of them at once, so
 * nothing finds it any more but the array that epoll_wait() filled earlier in
 * this round. That is why its memory stays, marked, in `dead`, until the round
 * is over.
 *
 * Nothing can keep a round from ending: a timer armed for the past is moved
 * behind the round's own time, and a deferred source triggered by a deferred
 * function carries the next round's number.
 *
 * The heap has room for every timer there is, so that arming cannot fail.
 */

enum { EVENTS_A_ROUND = 64 };
#define NOT_ARMED SIZE_MAX
enum source_kind { SOURCE_IO, SOURCE_TIMER, SOURCE_DEFERRED };

struct loop_source {
	struct loop *loop;
	const char *name;
	void *user;
	LIST_ENTRY(loop_source) entry;
	enum source_kind kind;
	bool freed;
	bool triggered;
	int fd;
	loop_io_function *on_io;
	loop_function *on_call;
	uint64_t when;
	size_t place; /* in the heap, or NOT_ARMED */
	uint64_t round;
	TAILQ_ENTRY(loop_source) waiting;
};

LIST_HEAD(source_list, loop_source);
TAILQ_HEAD(source_queue, loop_source);

struct loop {
	int epoll;
	bool running, stopping;
	uint64_t round;      /* number of the round under way */
	uint64_t round_time; /* when it began */
	struct source_list sources, dead;
	struct source_queue pending;
	struct loop_source **heap;
	size_t armed, timers, heap_capacity;
};

static uint64_t clock_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		int code = -errno;

		free(loop);
		return code;
	}
	LIST_INIT(&loop->sources);
	LIST_INIT(&loop->dead);
	TAILQ_INIT(&loop->pending);
	*ret = loop;
	return 0;
}

static void loop_reap(struct loop *loop)
{
	struct loop_source *source, *next;

	for (source = LIST_FIRST(&loop->dead); source; source = next) {
		next = LIST_NEXT(source, entry);
		free(source);
	}
	LIST_INIT(&loop->dead);
}

void loop_free(struct loop *loop)
{
	struct loop_source *source, *next;

	if (!loop)
		return;
	for (source = LIST_FIRST(&loop->sources); source; source = next) {
		next = LIST_NEXT(source, entry);
		log_debug("loop: %s was left behind", source->name);
		loop_source_free(source);
	}
	loop_reap(loop);
	free(loop->heap);
	fd_close(&loop->epoll);
	free(loop);
}

void loop_freep(struct loop **loop)
{
	loop_free(*loop);
	*loop = NULL;
}

uint64_t loop_now(const struct loop *loop)
{
	(void)loop;
	return clock_now();
}

static struct loop_source *source_new(struct loop *loop, enum source_kind kind, const char *name,
				      void *user)
{
	struct loop_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	source->loop = loop;
	source->kind = kind;
	source->name = name;
	source->user = user;
	source->fd = -1;
	source->place = NOT_ARMED;
	LIST_INSERT_HEAD(&loop->sources, source, entry);
	return source;
}

static int source_control(struct loop_source *source, int operation, unsigned events)
{
	struct epoll_event event = {.data.ptr = source};

	if (events & LOOP_READ)
		event.events |= EPOLLIN;
	if (events & LOOP_WRITE)
		event.events |= EPOLLOUT;
	return epoll_ctl(source->loop->epoll, operation, source->fd, &event) < 0 ? -errno : 0;
}

int loop_add_io(struct loop *loop, const char *name, int fd, unsigned events,
		loop_io_function *function, void *user, struct loop_source **ret)
{
	struct loop_source *source = source_new(loop, SOURCE_IO, name, user);
	int code;

	if (!source)
		return -ENOMEM;
	source->fd = fd;
	source->on_io = function;
	code = source_control(source, EPOLL_CTL_ADD, events);
	if (code < 0) {
		source->fd = -1;
		loop_source_free(source);
		return code;
	}
	*ret = source;
	return 0;
}

int loop_source_set_events(struct loop_source *source, unsigned events)
{
	return source_control(source, EPOLL_CTL_MOD, events);
}

static void heap_put(struct loop *loop, size_t place, struct loop_source *source)
{
	loop->heap[place] = source;
	source->place = place;
}

static void heap_up(struct loop *loop, struct loop_source *source)
{
	size_t place = source->place;

	while (place > 0 && loop->heap[(place - 1) / 2]->when > source->when) {
		heap_put(loop, place, loop->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	heap_put(loop, place, source);
}

static void heap_down(struct loop *loop, struct loop_source *source)
{
	size_t place = source->place;

	for (;;) {
		size_t child = place * 2 + 1;

		if (child + 1 < loop->armed &&
		    loop->heap[child + 1]->when < loop->heap[child]->when)
			child++;
		if (child >= loop->armed || loop->heap[child]->when >= source->when)
			break;
		heap_put(loop, place, loop->heap[child]);
		place = child;
	}
	heap_put(loop, place, source);
}

static void timer_disarm(struct loop_source *source)
{
	struct loop *loop = source->loop;
	struct loop_source *last;
	size_t place = source->place;

	if (place == NOT_ARMED)
		return;
	source->place = NOT_ARMED;
	last = loop->heap[--loop->armed];
	if (last == source)
		return;
	heap_put(loop, place, last);
	heap_up(loop, last);
	heap_down(loop, last);
}

void loop_source_arm(struct loop_source *source, uint64_t when)
{
	struct loop *loop = source->loop;

	timer_disarm(source);
	if (when == UINT64_MAX)
		return;
	source->when = when > loop->round_time ? when : loop->round_time + 1;
	heap_put(loop, loop->armed++, source);
	heap_up(loop, source);
}

int loop_add_timer(struct loop *loop, const char *name, uint64_t when, loop_function *function,
		   void *user, struct loop_source **ret)
{
	struct loop_source *source;

	if (array_reserve(&loop->heap, &loop->heap_capacity, loop->timers, 1,
			  sizeof(struct loop_source *)) < 0)
		return -ENOMEM;
	source = source_new(loop, SOURCE_TIMER, name, user);
	if (!source)
		return -ENOMEM;
	loop->timers++;
	source->on_call = function;
	loop_source_arm(source, when);
	*ret = source;
	return 0;
}

int loop_add_deferred(struct loop *loop, const char *name, loop_function *function, void *user,
		      struct loop_source **ret)
{
	struct loop_source *source = source_new(loop, SOURCE_DEFERRED, name, user);

	if (!source)
		return -ENOMEM;
	source->on_call = function;
	*ret = source;
	return 0;
}

void loop_source_trigger(struct loop_source *source)
{
	struct loop *loop = source->loop;

	if (source->triggered)
		return;
	source->triggered = true;
	source->round = loop->round;
	TAILQ_INSERT_TAIL(&loop->pending, source, waiting);
}

static void deferred_settle(struct loop_source *source)
{
	if (!source->triggered)
		return;
	source->triggered = false;
	TAILQ_REMOVE(&source->loop->pending, source, waiting);
}

static void source_detach(struct loop_source *source)
{
	switch (source->kind) {
	case SOURCE_IO:
		/* Fails where the descriptor was closed before, which took it out of epoll. */
		if (source->fd >= 0)
			(void)source_control(source, EPOLL_CTL_DEL, 0);
		break;
	case SOURCE_TIMER:
		timer_disarm(source);
		source->loop->timers--;
		break;
	case SOURCE_DEFERRED:
		deferred_settle(source);
		break;
	}
}

void loop_source_free(struct loop_source *source)
{
	struct loop *loop;

	if (!source || source->freed)
		return;
	loop = source->loop;
	source_detach(source);
	LIST_REMOVE(source, entry);
	if (!loop->running) {
		free(source);
		return;
	}
	source->freed = true;
	LIST_INSERT_HEAD(&loop->dead, source, entry);
}

static int loop_patience(const struct loop *loop)
{
	uint64_t now, wait;

	if (!TAILQ_EMPTY(&loop->pending))
		return 0;
	if (loop->armed == 0)
		return -1;
	now = clock_now();
	if (loop->heap[0]->when <= now)
		return 0;
	/* Rounded up: waking early would only mean to wait again. */
	wait = (loop->heap[0]->when - now - 1) / 1000000 + 1;
	return wait > INT_MAX ? INT_MAX : (int)wait;
}

static void run_timers(struct loop *loop)
{
	while (!loop->stopping && loop->armed > 0 && loop->heap[0]->when <= loop->round_time) {
		struct loop_source *source = loop->heap[0];

		timer_disarm(source);
		log_debug("loop: timer %s", source->name);
		source->on_call(source, source->user);
	}
}

static void run_io(struct loop *loop, const struct epoll_event *events, size_t count)
{
	for (size_t i = 0; i < count && !loop->stopping; i++) {
		struct loop_source *source = events[i].data.ptr;
		unsigned what = 0;

		if (source->freed)
			continue;
		if (events[i].events & EPOLLIN)
			what |= LOOP_READ;
		if (events[i].events & EPOLLOUT)
			what |= LOOP_WRITE;
		if (events[i].events & (EPOLLHUP | EPOLLERR))
			what |= LOOP_HANGUP;
		log_debug("loop: io %s", source->name);
		source->on_io(source, source->fd, what, source->user);
	}
}

static void run_deferred(struct loop *loop)
{
	const uint64_t round = loop->round++;
	struct loop_source *source;

	while (!loop->stopping && (source = TAILQ_FIRST(&loop->pending)) &&
	       source->round <= round) {
		deferred_settle(source);
		log_debug("loop: deferred %s", source->name);
		source->on_call(source, source->user);
	}
}

static int loop_round(struct loop *loop)
{
	struct epoll_event events[EVENTS_A_ROUND];
	int count = epoll_wait(loop->epoll, events, EVENTS_A_ROUND, loop_patience(loop));

	if (count < 0 && errno != EINTR)
		return -errno;
	loop->round_time = clock_now();
	run_timers(loop);
	run_io(loop, events, count < 0 ? 0 : (size_t)count);
	run_deferred(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int code = 0;

	loop->running = true;
	while (!loop->stopping && code == 0) {
		code = loop_round(loop);
		loop_reap(loop);
	}
	loop->running = false;
	loop->stopping = false;
	return code;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
}
