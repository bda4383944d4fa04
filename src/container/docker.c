/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "docker_private.h"
#include "dragoman/base/log.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * A session with the engine goes through these steps; where one fails, all of
 * it is dropped, and after a pause that doubles the next session begins. What
 * was told stands meanwhile.
 *
 *   version   GET /version says what to speak, and, by its Date, what time it
 *             is there
 *   events    GET /events, since a little before then
 *   list      GET /containers/json, when the head of the events' answer is in
 *   live      when all that was listed was looked at
 *
 * The engine sends that head a moment before it really subscribes; `since`
 * makes it send again what happened in between (it keeps the last 256 events).
 * An engine that sends its head with the first event only (older ones of
 * Podman) is listed after HEAD_PATIENCE all the same: `since` covers that, too.
 *
 * Events that matter are those after which a container may run where it did
 * not, or the other way round, or is called something else. Pausing changes
 * none of that, nor does connecting a network: the namespace stays the same,
 * and what it then holds is the kernel's to tell. The engine is asked for no
 * others: health checks alone would wake us every few seconds.
 *
 * A session that ended soon after it began does not make the next pause short
 * again, so that an engine that hangs up on every session is not listed without
 * end.
 */

enum { SINCE_EARLIER = 2 }; /* seconds */
#define HEAD_PATIENCE UINT64_C(1000000000)
#define SESSION_GOOD UINT64_C(10000000000)

static void session_fail(struct containers *containers, const struct error *error);

const char *container_state_name(enum container_state state)
{
	switch (state) {
	case CONTAINERS_CONNECTING:
		return "connecting";
	case CONTAINERS_LIVE:
		return "live";
	case CONTAINERS_LOST:
		return "lost";
	}
	return "?";
}

uint64_t containers_jitter(uint64_t most)
{
	uint32_t dice = 0;

	/* Without randomness (early in boot) the shorter pause will do. */
	(void)!getrandom(&dice, sizeof(dice), GRND_NONBLOCK);
	return most / 2 + dice % (most / 2 + 1);
}

static void containers_destroy(struct containers *containers)
{
	look_done(containers);
	loop_source_free(containers->timer);
	docker_engine_done(&containers->engine);
	docker_splitter_done(&containers->splitter);
	free(containers);
}

/* After a function of the user's. */
static bool still_stands(struct containers *containers)
{
	containers->calling = false;
	if (!containers->freed)
		return true;
	containers_destroy(containers);
	return false;
}

bool containers_tell_running(struct containers *containers, const struct container *container)
{
	containers->calling = true;
	if (containers->functions.on_running)
		containers->functions.on_running(container, containers->user);
	return still_stands(containers);
}

bool containers_tell_gone(struct containers *containers, const char *id)
{
	containers->calling = true;
	if (containers->functions.on_gone)
		containers->functions.on_gone(id, containers->user);
	return still_stands(containers);
}

bool containers_tell_state(struct containers *containers, enum container_state state,
			   const struct error *error)
{
	containers->state = state;
	containers->calling = true;
	if (containers->functions.on_state)
		containers->functions.on_state(state, error, containers->user);
	return still_stands(containers);
}

static void list_start(struct containers *containers);

void containers_listing_done(struct containers *containers)
{
	bool was_live = containers->state == CONTAINERS_LIVE;

	containers->lost = (struct error){0};
	if (!was_live && !containers_tell_state(containers, CONTAINERS_LIVE, NULL))
		return;
	containers->calling = true;
	if (containers->functions.on_listed)
		containers->functions.on_listed(containers->user);
	if (still_stands(containers) && containers->list_again)
		list_start(containers);
}

static void session_end(struct containers *containers)
{
	http_cancel(TAKE(containers->version));
	http_cancel(TAKE(containers->events));
	http_cancel(TAKE(containers->list));
	docker_splitter_done(&containers->splitter);
	look_stop(containers);
	containers->engine.api[0] = '\0';
	containers->list_again = false;
}

static uint64_t next_pause(struct containers *containers)
{
	uint64_t lived = loop_now(containers->loop) - containers->session_time;

	if (containers->state == CONTAINERS_LIVE && lived >= SESSION_GOOD)
		containers->pause = 0;
	containers->pause = containers->pause ? containers->pause * 2 : PAUSE_MIN;
	if (containers->pause > PAUSE_MAX)
		containers->pause = PAUSE_MAX;
	return containers_jitter(containers->pause);
}

/* Ends the session. The last thing that its caller does: the user may free us. */
static void session_fail(struct containers *containers, const struct error *error)
{
	const struct error reason = *error;
	bool told = containers->state == CONTAINERS_LOST &&
		    strcmp(containers->lost.message, reason.message) == 0;
	uint64_t pause = next_pause(containers);

	log_debug("docker: %s; again in %" PRIu64 " ms", reason.message, pause / 1000000);
	session_end(containers);
	loop_source_arm(containers->timer, loop_now(containers->loop) + pause);
	containers->lost = reason;
	if (!told)
		(void)containers_tell_state(containers, CONTAINERS_LOST, &reason);
}

static int list_take(struct containers *containers, const struct http_answer *answer,
		     const struct error *failure, struct error *error)
{
	CLEANUP(memory_free) struct docker_id *ids = NULL;
	size_t count;
	int code = docker_engine_check(&containers->engine, answer, failure, error);

	if (code < 0)
		return code;
	code = docker_decode_list(answer->body, answer->length, &ids, &count, error);
	if (code < 0)
		return error_wrap(error, "%s", containers->engine.url.name);
	code = look_at_listing(containers, ids, count);
	return code < 0 ? error_no_memory(error) : 0;
}

static void on_list(struct http_request *request, const struct http_answer *answer,
		    const struct error *failure, void *user)
{
	struct containers *containers = user;
	struct error error = {0};

	(void)request;
	containers->list = NULL;
	if (list_take(containers, answer, failure, &error) < 0) {
		session_fail(containers, &error);
		return;
	}
	look_pump(containers);
	look_check_listing(containers);
}

static void list_start(struct containers *containers)
{
	const struct docker_get get = {
		.path = "containers/json",
		.timeout = ENGINE_TIMEOUT,
		.on_done = on_list,
		.user = containers,
	};
	struct error error = {0};

	containers->list_again = false;
	if (docker_engine_get(&containers->engine, &get, &containers->list, &error) < 0)
		session_fail(containers, &error);
}

/* Once in a session: the engine has subscribed us, or keeps silent about it. */
static void list_first(struct containers *containers)
{
	loop_source_arm(containers->timer, UINT64_MAX);
	if (!containers->list && !containers->listing)
		list_start(containers);
}

static void on_events_head(struct http_request *request, long status, void *user)
{
	struct containers *containers = user;

	(void)request;
	if (status == 200 && containers->state != CONTAINERS_LIVE)
		list_first(containers);
}

static void on_object(const char *object, size_t length, void *user)
{
	struct containers *containers = user;
	/* What comes before the listing may be old. */
	uint64_t time = containers->state == CONTAINERS_LIVE ? loop_now(containers->loop) : 0;
	struct docker_id id;
	struct error error = {0};

	if (length == 0)
		(void)error_set(&error, -EFBIG, ERROR_INVALID, "it is longer than %d bytes",
				DOCKER_EVENT_MAX);
	else if (docker_decode_event(object, length, &id, &error) == 0 && !id.text[0])
		return;
	/* An event that tells nothing tells that something happened. */
	if (error.code == 0 && look_at(containers, id.text, time) == 0)
		return;
	log_debug("docker: an event cannot be used, listing instead: %s", error.message);
	containers->list_again = true;
}

static void on_events_data(struct http_request *request, const char *data, size_t length,
			   void *user)
{
	struct containers *containers = user;
	struct error error = {0};
	int code = docker_splitter_feed(&containers->splitter, data, length, DOCKER_EVENT_MAX,
					on_object, containers, &error);

	(void)request;
	if (code < 0) {
		(void)error_wrap(&error, "%s: events", containers->engine.url.name);
		session_fail(containers, &error);
		return;
	}
	look_pump(containers);
	if (containers->list_again && containers->state == CONTAINERS_LIVE)
		containers_resync(containers);
}

static void on_events_done(struct http_request *request, const struct http_answer *answer,
			   const struct error *failure, void *user)
{
	struct containers *containers = user;
	struct error error = {0};

	(void)request;
	containers->events = NULL;
	if (docker_engine_check(&containers->engine, answer, failure, &error) == 0)
		(void)error_set(&error, -ECONNRESET, ERROR_TRANSIENT,
				"%s: the engine has ended its stream of events",
				containers->engine.url.name);
	else
		(void)error_wrap(&error, "events");
	session_fail(containers, &error);
}

static void events_start(struct containers *containers)
{
	char path[512];
	const struct docker_get get = {
		.path = path,
		.on_head = on_events_head,
		.on_data = on_events_data,
		.on_done = on_events_done,
		.user = containers,
	};
	struct error error = {0};

	(void)snprintf(path, sizeof(path), "events?since=%" PRIu64 "&filters=%s", containers->since,
		       docker_event_filters());
	if (docker_engine_get(&containers->engine, &get, &containers->events, &error) < 0) {
		session_fail(containers, &error);
		return;
	}
	loop_source_arm(containers->timer, loop_now(containers->loop) + HEAD_PATIENCE);
}

static void on_version(struct http_request *request, const struct http_answer *answer,
		       const struct error *failure, void *user)
{
	struct containers *containers = user;
	struct error error = {0};

	containers->version = NULL;
	if (docker_engine_take_version(&containers->engine, answer, failure, &error) < 0) {
		session_fail(containers, &error);
		return;
	}
	if (docker_parse_http_date(http_request_header(request, "Date"), &containers->since) < 0)
		containers->since = (uint64_t)time(NULL);
	if (containers->since > SINCE_EARLIER)
		containers->since -= SINCE_EARLIER;
	log_debug("docker: %s speaks %s", containers->engine.url.name, containers->engine.api);
	events_start(containers);
}

static void session_start(struct containers *containers)
{
	const struct docker_get get = {
		.path = "version",
		.timeout = ENGINE_TIMEOUT,
		.on_done = on_version,
		.user = containers,
	};
	struct error error = {0};

	containers->session_time = loop_now(containers->loop);
	if (docker_engine_get(&containers->engine, &get, &containers->version, &error) < 0)
		session_fail(containers, &error);
}

/*
 * Between sessions: it is time for the next. Within one: the head of the events
 * is late, or somebody wants a listing.
 */
static void on_timer(struct loop_source *source, void *user)
{
	struct containers *containers = user;

	(void)source;
	if (!containers->events && !containers->version)
		session_start(containers);
	else if (containers->events && containers->state != CONTAINERS_LIVE)
		list_first(containers);
	else if (containers->list_again && !containers->list && !containers->listing)
		list_start(containers);
}

int containers_new(struct loop *loop, const char *url, const struct container_functions *functions,
		   void *user, struct containers **ret, struct error *error)
{
	struct containers *containers = calloc(1, sizeof(*containers));
	int code;

	if (!containers)
		return error_no_memory(error);
	*containers = (struct containers){.loop = loop,
					  .functions = *functions,
					  .user = user,
					  .state = CONTAINERS_CONNECTING};
	code = look_init(containers);
	if (code == 0)
		code = loop_add_timer(loop, "docker session", 0, on_timer, containers,
				      &containers->timer);
	if (code < 0)
		(void)error_no_memory(error);
	else
		code = docker_engine_init(&containers->engine, loop, url, error);
	if (code < 0) {
		containers_destroy(containers);
		return code;
	}
	*ret = containers;
	return 0;
}

void containers_free(struct containers *containers)
{
	if (!containers || containers->freed)
		return;
	containers->freed = true;
	if (!containers->calling)
		containers_destroy(containers);
}

/* By way of the timer, since it may be called from any of the user's functions. */
void containers_resync(struct containers *containers)
{
	bool between = !containers->events && !containers->version;

	containers->list_again = !between;
	if (between || containers->state == CONTAINERS_LIVE)
		loop_source_arm(containers->timer, 0);
}

enum container_state containers_state(const struct containers *containers)
{
	return containers->state;
}
