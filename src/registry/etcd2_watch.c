/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "etcd2.h"
#include "etcd2_codec.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * One long poll a service: a GET that is answered with the first event behind
 * an index, and asked again behind that. The head of its answer comes at once
 * and says where the store is; the body when something happens.
 *
 *   event              told, and the next poll is under way before that. What
 *                      takes away more than the one key that it names (a
 *                      directory deleted or expired) has the service read anew
 *   index cleared      etcd keeps 1,000 events of all keys together: read anew
 *   time is over       nothing of the service happened up to the index of the
 *                      head: the next poll goes on from there. The other side
 *                      may be gone without a word; only asking finds out
 *   cut off            after a while without a word, most often by a proxy that
 *                      ends what is idle: asked again at once
 *   no head            the other side hangs: the next host, after a pause
 *   another cluster    the next host; the service is read anew, which finds out
 *                      whether any host is left of the one that is known
 *   head of the past   a store that was restored, or a member that lags: read
 *                      anew, which tells the two apart (watch_read.c)
 *   anything else      the next host, after a pause
 *
 * A member that is cut off from the others serves polls all the same, of what
 * it knows, and nothing in its answers tells. Reads ask for a quorum: where
 * another host answered one, at the resync interval at the latest, the polls
 * move there.
 */

enum { PAUSE_LONGEST = 64 };

/* service->state */
struct poll {
	struct watch_service *service;
	struct http_request *request;
	struct loop_source *timer; /* when to ask again, or to give up on the head */
	uint64_t revision;         /* up to which all is told */
	uint64_t since;            /* loop_now(), when its head was there; 0: not yet */
	size_t host;
	unsigned failures;
	bool paused;
};

static void poll_start(struct poll *poll);

static void poll_pause(struct poll *poll)
{
	const struct registry_watch *watch = poll->service->watch;

	poll->failures++;
	poll->paused = true;
	loop_source_arm(poll->timer, loop_now(watch->loop) + watch_pause(watch, poll->failures));
}

static void poll_lost(struct poll *poll, const struct error *error)
{
	struct registry_watch *watch = poll->service->watch;

	poll->host = (poll->host + 1) % watch->registry->hosts.count;
	poll_pause(poll);
	watch_lost(watch, error);
}

static void on_head(struct http_request *request, long status, void *user)
{
	struct poll *poll = user;
	struct watch_service *service = poll->service;
	struct registry_watch *watch = service->watch;
	struct registry_position position;
	struct error error;

	loop_source_arm(poll->timer, UINT64_MAX);
	poll->since = loop_now(watch->loop);
	if (status != 200 || etcd2_position(request, &position, NULL) < 0)
		return;
	if (watch_is_foreign(watch, position.cluster)) {
		watch_read_again(service, true);
		http_cancel(TAKE(poll->request));
		(void)error_set(&error, -ESTALE, ERROR_TRANSIENT,
				"%s: it is of another cluster than what is known",
				watch->registry->hosts.urls[poll->host]);
		poll_lost(poll, &error);
		return;
	}
	if (position.revision < poll->revision)
		watch_read_again(service, true);
	watch_followed(service);
	watch_live(watch);
}

/* Nothing happened: up to where the store was when it began to wait, all is known. */
static void poll_is_over(struct poll *poll, const struct http_request *request)
{
	struct registry_position position;

	poll->failures = 0;
	if (etcd2_position(request, &position, NULL) == 0 && position.revision > poll->revision &&
	    !watch_is_foreign(poll->service->watch, position.cluster))
		poll->revision = position.revision;
	poll_start(poll);
}

static void poll_on_event(struct poll *poll, const struct http_answer *answer, const char *host)
{
	CLEANUP(change_list_done) struct change_list list = {0};
	struct watch_service *service = poll->service;
	uint64_t received = loop_now(service->watch->loop), since = poll->revision, index;
	bool is_more = false;
	struct error error;

	if (etcd2_decode_event(answer->body, answer->length, service->key, &list, &index, &is_more,
			       &error) < 0) {
		(void)error_wrap(&error, "%s", host);
		poll_lost(poll, &error);
		return;
	}
	if (index <= since) {
		/* A cache in between, which would go on at once, and for ever. */
		(void)answer_wrong(&error, "%s: answer has an event that is known already", host);
		poll_lost(poll, &error);
		return;
	}
	poll->failures = 0;
	poll->revision = index;
	poll_start(poll);
	if (is_more)
		watch_read_again(service, true);
	else
		watch_changes(service, &list, since, received);
}

static void poll_on_failure(struct poll *poll, const struct http_answer *answer, const char *host)
{
	struct watch_service *service = poll->service;
	struct etcd2_failure failure;
	struct error error;

	etcd2_decode_failure(answer->body, answer->length, &failure);
	if (failure.code == ETCD2_EVENT_INDEX_CLEARED) {
		watch_overtaken(service);
	} else if (failure.code != ETCD2_NO_ERROR && answer->status < 500) {
		/* What it means the read finds out, and says. */
		(void)error_set(&error, -EACCES, ERROR_INVALID, "%s: %s (error %ld)", host,
				failure.message, failure.code);
		watch_fail(service, &error);
	} else {
		(void)answer_wrong_status(&error, answer->status, answer->body, answer->length);
		(void)error_wrap(&error, "%s", host);
		poll_lost(poll, &error);
	}
}

/* Whether it has waited, for nothing, and long enough that this may be why it has ended. */
static bool poll_was_idle(const struct poll *poll, const struct http_answer *answer)
{
	const struct registry_watch *watch = poll->service->watch;

	return answer->status == 200 && answer->length == 0 && poll->since &&
	       loop_now(watch->loop) - poll->since >= watch->times.idle;
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *http_error, void *user)
{
	struct poll *poll = user;
	const char *host = poll->service->watch->registry->hosts.urls[poll->host];

	poll->request = NULL; /* frees itself */
	loop_source_arm(poll->timer, UINT64_MAX);
	if (http_error && http_error->code == -ETIMEDOUT && answer->status == 200)
		poll_is_over(poll, request);
	else if (http_error && poll_was_idle(poll, answer))
		poll_start(poll);
	else if (http_error)
		poll_lost(poll, http_error);
	else if (answer->status != 200)
		poll_on_failure(poll, answer, host);
	else if (answer->length == 0)
		poll_pause(poll); /* etcd ends a watch so that it cannot serve */
	else
		poll_on_event(poll, answer, host);
}

static int poll_request(struct poll *poll, struct error *error)
{
	const struct registry_watch *watch = poll->service->watch;
	const struct hosts *hosts = &watch->registry->hosts;
	CLEANUP(text_done) struct text url = {0};
	struct http_call call = {
		.name = hosts->urls[poll->host],
		.answer_max = ANSWER_BYTES_MAX,
		/* Jittered, or the polls of all services would end at once. */
		.timeout = watch->times.quiet + watch_pause(watch, PAUSE_LONGEST),
		.connect_timeout = watch->times.answer,
		.user = hosts->user,
		.password = hosts->password,
		.on_head = on_head,
		.on_done = on_done,
		.user_data = poll,
	};

	text_puts(&url, hosts->urls[poll->host]);
	etcd2_encode_poll(poll->service->key, poll->revision + 1, &url);
	if (url.failed)
		return error_no_memory(error);
	call.url = url.data;
	return http_start(hosts->client, &call, &poll->request, error);
}

static void poll_start(struct poll *poll)
{
	const struct registry_watch *watch = poll->service->watch;
	struct error error;

	poll->since = 0;
	if (poll_request(poll, &error) < 0)
		poll_lost(poll, &error);
	else
		loop_source_arm(poll->timer, loop_now(watch->loop) + watch->times.answer);
}

static void on_timer(struct loop_source *source, void *user)
{
	struct poll *poll = user;
	struct error error;

	(void)source;
	if (!poll->request) {
		poll->paused = false;
		poll_start(poll);
		return;
	}
	http_cancel(TAKE(poll->request));
	(void)error_set(&error, -ETIMEDOUT, ERROR_TRANSIENT, "%s: the watch is not answered",
			poll->service->watch->registry->hosts.urls[poll->host]);
	poll_lost(poll, &error);
}

/* What watch.c calls */

static struct poll *poll_new(struct watch_service *service)
{
	struct registry_watch *watch = service->watch;
	struct poll *poll = calloc(1, sizeof(*poll));

	if (!poll)
		return NULL;
	poll->service = service;
	poll->host = watch->registry->hosts.preferred;
	if (loop_add_timer(watch->loop, "etcd2 poll", UINT64_MAX, on_timer, poll, &poll->timer) <
	    0) {
		free(poll);
		return NULL;
	}
	return poll;
}

static void etcd2_follow(struct watch_service *service)
{
	struct poll *poll = service->state;
	struct error error;

	if (!poll)
		poll = service->state = poll_new(service);
	if (!poll) {
		(void)error_no_memory(&error);
		watch_fail(service, &error);
		return;
	}
	if (poll->revision < service->read_at)
		poll->revision = service->read_at;
	if (poll->request && poll->host != service->watch->registry->hosts.preferred) {
		http_cancel(TAKE(poll->request));
		poll->host = service->watch->registry->hosts.preferred;
	}
	if (!poll->request && !poll->paused)
		poll_start(poll);
}

static void etcd2_unfollow(struct watch_service *service)
{
	struct poll *poll = TAKE(service->state);

	if (!poll)
		return;
	http_cancel(poll->request);
	loop_source_free(poll->timer);
	free(poll);
}

static int etcd2_begin(struct registry_watch *watch, struct error *error)
{
	(void)watch;
	(void)error;
	return 0;
}

static void etcd2_end(struct registry_watch *watch)
{
	(void)watch;
}

const struct watch_ops etcd2_watch_ops = {
	.begin = etcd2_begin,
	.end = etcd2_end,
	.follow = etcd2_follow,
	.unfollow = etcd2_unfollow,
	.is_live_by_reading = true,
};
