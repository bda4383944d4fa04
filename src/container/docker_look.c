/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docker_private.h"
#include "dragoman/base/log.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * Whatever hints that a container may have changed - an event of any kind, a
 * listing that names it, a listing that does not - leads to one look: GET
 * /containers/ID/json. Only its answer decides: it runs (told where it was not,
 * or not so), it does not, or there is none (told as gone where it was told).
 * So no order of events can lead astray, and what is told last is what the
 * engine said last.
 *
 * States of a tracked container, beside told or not:
 *
 *   idle      nothing to do; forgotten unless it was told
 *   queued    waits for one of LOOKS_AT_ONCE places
 *   looking   its request is under way; `again` where something came meanwhile,
 *             since the engine may have answered before that
 *   failed    the look failed for a reason that may pass: waits for the timer
 *
 * Engines hang over one container, or some, and answer for all others. So a
 * look that takes long loses its place to the next, and the places themselves
 * are for those first that something happened to: neither a container that
 * hangs nor a listing of a thousand holds up a start.
 *
 * After LOOK_TRIES a look is given up, which is told, once. It is tried again
 * all the same, seldom: nobody else might come back to it before the next
 * listing.
 *
 * A listing is done with when everything it made look at was looked at after
 * it (`awaited`), or given up: who believes that all was told must not take a
 * namespace's other containers for all of them. Giving up is told before that.
 */

static struct tracked_list *bucket(struct containers *containers, const char *id)
{
	static const char digits[] = "0123456789abcdef";
	/* IDs are random, and were checked to be hexadecimal. */
	size_t high = (size_t)(strchr(digits, id[0]) - digits);
	size_t low = (size_t)(strchr(digits, id[1]) - digits);

	return &containers->buckets[high * 16 + low];
}

static struct tracked *tracked_find(struct containers *containers, const char *id)
{
	struct tracked *tracked;

	LIST_FOREACH (tracked, bucket(containers, id), entry) {
		if (strcmp(tracked->id.text, id) == 0)
			return tracked;
	}
	return NULL;
}

static struct tracked *tracked_new(struct containers *containers, const char *id)
{
	struct tracked *tracked = calloc(1, sizeof(*tracked));

	if (!tracked)
		return NULL;
	tracked->containers = containers;
	(void)snprintf(tracked->id.text, sizeof(tracked->id.text), "%s", id);
	LIST_INSERT_HEAD(bucket(containers, id), tracked, entry);
	return tracked;
}

static void give_place_back(struct tracked *tracked)
{
	if (tracked->slow)
		tracked->containers->slow--;
	else
		tracked->containers->looking--;
	tracked->slow = false;
}

/* Ends what is under way for it. */
static void tracked_stop(struct tracked *tracked)
{
	if (tracked->queued)
		TAILQ_REMOVE(tracked->queued, tracked, waiting);
	tracked->queued = NULL;
	if (tracked->request)
		give_place_back(tracked);
	http_cancel(TAKE(tracked->request));
	tracked->again = tracked->failed = tracked->given_up = tracked->awaited = false;
	tracked->event = 0;
	tracked->tries = 0;
}

static void tracked_free(struct tracked *tracked)
{
	tracked_stop(tracked);
	LIST_REMOVE(tracked, entry);
	free(tracked);
}

static void tracked_forget_idle(struct tracked *tracked)
{
	if (!tracked->told && !tracked->queued && !tracked->request && !tracked->failed)
		tracked_free(tracked);
}

static void tracked_enqueue(struct tracked *tracked)
{
	struct containers *containers = tracked->containers;
	struct tracked_queue *queue = tracked->event ? &containers->urgent : &containers->queue;

	if (tracked->request) {
		tracked->again = true;
		return;
	}
	tracked->failed = false;
	if (tracked->queued == queue || tracked->queued == &containers->urgent)
		return;
	if (tracked->queued)
		TAILQ_REMOVE(tracked->queued, tracked, waiting);
	tracked->queued = queue;
	TAILQ_INSERT_TAIL(queue, tracked, waiting);
}

int look_at(struct containers *containers, const char *id, uint64_t event)
{
	struct tracked *tracked = tracked_find(containers, id);

	if (!tracked)
		tracked = tracked_new(containers, id);
	if (!tracked)
		return -ENOMEM;
	if (!tracked->event)
		tracked->event = event;
	tracked->tries = 0;
	tracked_enqueue(tracked);
	return 0;
}

static void await(struct tracked *tracked)
{
	tracked->tries = 0;
	tracked_enqueue(tracked);
	if (tracked->awaited)
		return;
	tracked->awaited = true;
	tracked->containers->awaiting++;
}

int look_at_listing(struct containers *containers, const struct docker_id *ids, size_t count)
{
	struct tracked *tracked;

	containers->listing = true;
	for (size_t i = 0; i < count; i++) {
		tracked = tracked_find(containers, ids[i].text);
		if (!tracked && !(tracked = tracked_new(containers, ids[i].text)))
			return -ENOMEM;
		await(tracked);
	}
	/* What is missing may have started since the engine wrote its list: ask. */
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (tracked, &containers->buckets[i], entry)
			await(tracked);
	}
	return 0;
}

void look_check_listing(struct containers *containers)
{
	if (!containers->listing || containers->awaiting > 0)
		return;
	containers->listing = false;
	containers_listing_done(containers);
}

static void arm_retry(struct containers *containers, uint64_t due)
{
	if (due >= containers->retry_due)
		return;
	containers->retry_due = due;
	loop_source_arm(containers->retry, due);
}

/* Another try, after a pause that grows with the number of those before. */
static void try_later(struct tracked *tracked)
{
	struct containers *containers = tracked->containers;
	unsigned doubled = tracked->tries > 1 ? tracked->tries - 1 : 0;
	uint64_t pause = PAUSE_MIN << (doubled < 5 ? doubled : 5);

	if (tracked->given_up)
		pause = PAUSE_GIVEN_UP;
	tracked->failed = true;
	tracked->due = loop_now(containers->loop) + containers_jitter(pause);
	arm_retry(containers, tracked->due);
}

static void on_retry(struct loop_source *source, void *user)
{
	struct containers *containers = user;
	uint64_t now = loop_now(containers->loop);
	struct tracked *tracked;

	(void)source;
	containers->retry_due = UINT64_MAX;
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (tracked, &containers->buckets[i], entry) {
			if (!tracked->failed)
				continue;
			if (tracked->due <= now)
				tracked_enqueue(tracked);
			else
				arm_retry(containers, tracked->due);
		}
	}
	look_pump(containers);
}

void containers_ask_again(struct containers *containers, const char *id)
{
	struct tracked *tracked = tracked_find(containers, id);

	if (!tracked)
		return;
	tracked->retell = true;
	/* Else it will be looked at soon in any case. */
	if (!tracked->queued && !tracked->request)
		try_later(tracked);
}

static bool failed_in_time(const struct error *reason)
{
	return reason->code != -ETIMEDOUT;
}

/* Whether the containers still stand. */
static bool look_failed(struct tracked *tracked, const struct error *reason)
{
	struct containers *containers = tracked->containers;
	struct error error = *reason;
	bool first;

	(void)error_wrap(&error, "container %.12s", tracked->id.text);
	if (!tracked->event)
		tracked->event = tracked->asked_event;
	/* A container that the engine hangs over must not hold up a listing for long. */
	tracked->tries += failed_in_time(reason) ? 1 : LOOK_TRIES;
	first = !tracked->given_up && tracked->tries >= LOOK_TRIES;
	tracked->given_up |= first;
	if (tracked->given_up)
		tracked->event = 0;
	try_later(tracked);
	if (first)
		return containers_tell_state(containers, containers->state, &error);
	log_debug("%s; trying again", error.message);
	return true;
}

static bool look_found_none(struct tracked *tracked)
{
	if (!tracked->told)
		return true;
	tracked->told = false;
	return containers_tell_gone(tracked->containers, tracked->id.text);
}

static bool look_found(struct tracked *tracked, struct docker_container *found)
{
	bool same = tracked->told && tracked->pid == found->container.pid &&
		    tracked->started == found->container.started &&
		    strcmp(tracked->name, found->container.name) == 0;

	if (!found->running)
		return look_found_none(tracked);
	if (same && !tracked->retell)
		return true;
	tracked->told = true;
	tracked->retell = false;
	tracked->pid = found->container.pid;
	tracked->started = found->container.started;
	(void)snprintf(tracked->name, sizeof(tracked->name), "%s", found->container.name);
	found->container.event = tracked->asked_event;
	return containers_tell_running(tracked->containers, &found->container);
}

/* What the engine answered is of the container that was asked for. */
static int look_decode(struct tracked *tracked, const struct http_answer *answer,
		       struct arena *arena, struct docker_container *ret, struct error *error)
{
	int code;

	if (!arena) {
		(void)error_no_memory(error);
		return -ENOMEM;
	}
	code = docker_decode_container(answer->body, answer->length, arena, ret, error);
	if (code < 0)
		return code;
	if (strcmp(ret->id.text, tracked->id.text) != 0)
		return error_set(error, -EBADMSG, ERROR_TRANSIENT,
				 "answer is about another container, %s", ret->id.text);
	return 0;
}

/* Whether the containers still stand. */
static bool look_settle(struct tracked *tracked, const struct http_answer *answer,
			const struct error *failure)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct docker_container found = {0};
	struct error error = {0};
	int code = docker_engine_check(&tracked->containers->engine, answer, failure, &error);

	bool is_there = code != -ENOENT;

	if (code == 0)
		code = look_decode(tracked, answer, arena, &found, &error);
	if (code != 0 && is_there)
		return look_failed(tracked, &error);
	tracked->tries = 0;
	tracked->given_up = false;
	return is_there ? look_found(tracked, &found) : look_found_none(tracked);
}

static void on_look(struct http_request *request, const struct http_answer *answer,
		    const struct error *error, void *user)
{
	struct tracked *tracked = user;
	struct containers *containers = tracked->containers;

	(void)request;
	tracked->request = NULL;
	give_place_back(tracked);
	if (!look_settle(tracked, answer, error))
		return;
	if (tracked->again) {
		tracked->again = false;
		tracked_enqueue(tracked);
	} else if (tracked->awaited && (!tracked->failed || tracked->given_up)) {
		tracked->awaited = false;
		containers->awaiting--;
	}
	tracked_forget_idle(tracked);
	look_pump(containers);
	look_check_listing(containers);
}

static int look_start(struct tracked *tracked, struct error *error)
{
	char path[sizeof("containers//json") + CONTAINER_ID_MAX];
	const struct docker_get get = {
		.path = path,
		.timeout = ENGINE_TIMEOUT,
		.on_done = on_look,
		.user = tracked,
	};

	(void)snprintf(path, sizeof(path), "containers/%s/json", tracked->id.text);
	return docker_engine_get(&tracked->containers->engine, &get, &tracked->request, error);
}

static struct tracked *next_queued(struct containers *containers)
{
	struct tracked *tracked = TAILQ_FIRST(&containers->urgent);

	return tracked ? tracked : TAILQ_FIRST(&containers->queue);
}

/* Looks that take long lose their places, as far as there is room beside these. */
static void on_patience(struct loop_source *source, void *user)
{
	struct containers *containers = user;
	uint64_t now = loop_now(containers->loop);
	struct tracked *tracked;

	(void)source;
	containers->patience_armed = false;
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (tracked, &containers->buckets[i], entry) {
			if (!tracked->request || tracked->slow ||
			    now - tracked->asked < LOOK_PATIENCE || containers->slow >= LOOKS_SLOW)
				continue;
			tracked->slow = true;
			containers->slow++;
			containers->looking--;
		}
	}
	look_pump(containers);
}

static void arm_patience(struct containers *containers)
{
	if (containers->patience_armed || !next_queued(containers))
		return;
	containers->patience_armed = true;
	loop_source_arm(containers->patience, loop_now(containers->loop) + LOOK_PATIENCE);
}

void look_pump(struct containers *containers)
{
	struct tracked *tracked;

	while (containers->looking < LOOKS_AT_ONCE && (tracked = next_queued(containers))) {
		struct error error = {0};

		TAILQ_REMOVE(tracked->queued, tracked, waiting);
		tracked->queued = NULL;
		tracked->asked_event = tracked->event;
		tracked->event = 0;
		if (look_start(tracked, &error) == 0) {
			tracked->asked = loop_now(containers->loop);
			containers->looking++;
			continue;
		}
		/* Out of memory: the timer asks again, and a listing waits for that. */
		log_debug("container %.12s: %s", tracked->id.text, error.message);
		tracked->event = tracked->asked_event;
		tracked->tries++;
		try_later(tracked);
		return;
	}
	arm_patience(containers);
}

static void each_tracked(struct containers *containers, void (*function)(struct tracked *))
{
	struct tracked *tracked, *next;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (tracked = LIST_FIRST(&containers->buckets[i]); tracked; tracked = next) {
			next = LIST_NEXT(tracked, entry);
			function(tracked);
		}
	}
}

static void tracked_rest(struct tracked *tracked)
{
	tracked_stop(tracked);
	tracked_forget_idle(tracked);
}

void look_stop(struct containers *containers)
{
	each_tracked(containers, tracked_rest);
	loop_source_arm(containers->retry, UINT64_MAX);
	containers->retry_due = UINT64_MAX;
	loop_source_arm(containers->patience, UINT64_MAX);
	containers->patience_armed = false;
	containers->listing = false;
	containers->awaiting = 0;
}

int look_init(struct containers *containers)
{
	int code;

	for (size_t i = 0; i < BUCKETS; i++)
		LIST_INIT(&containers->buckets[i]);
	TAILQ_INIT(&containers->urgent);
	TAILQ_INIT(&containers->queue);
	containers->retry_due = UINT64_MAX;
	code = loop_add_timer(containers->loop, "docker look retry", UINT64_MAX, on_retry,
			      containers, &containers->retry);
	if (code < 0)
		return code;
	return loop_add_timer(containers->loop, "docker look patience", UINT64_MAX, on_patience,
			      containers, &containers->patience);
}

void look_done(struct containers *containers)
{
	each_tracked(containers, tracked_free);
	loop_source_free(TAKE(containers->retry));
	loop_source_free(TAKE(containers->patience));
}
