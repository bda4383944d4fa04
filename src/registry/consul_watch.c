/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "consul.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * A blocking query a service, by the rules of
 * https://developer.hashicorp.com/consul/api-docs/features/blocking: it is
 * answered, with the service whole, once the service's index is beyond the one
 * of the question, or when the time to wait is over, which Consul stretches by
 * up to a sixteenth. Whatever the answer is, the next question follows.
 *
 *   the same index     nothing changed; the body is not looked at
 *   a larger one       told; many in a row are slowed down to one in a while
 *   a smaller one      asked anew without an index, at once. Smaller again: the
 *                      registry was restored (watch_went_back()), but for stale
 *                      reads, where a server may just lag behind
 *   not to be read     the service's own failure; it is read anew after a pause
 *   anything else      the registry is lost: the next host, after a pause
 *
 * A question says nothing until it is answered, so that a host which hangs is
 * found out when its time is over, or by a read.
 *
 * A query rests (its answer was one of many), waits to be asked, has a question
 * under way, or none of these while its service is read anew. Whatever makes a
 * query wait triggers `deferred`, which asks at the end of the wake-up.
 *
 * HTTP/1.1 has one question on a connection at a time, and Consul takes 200
 * connections of one client address (http_max_conns_per_client), of which it
 * counts each until its question is answered, also when the client has closed
 * it long ago. So not more than registry->flying_max are under way, a question
 * that nobody waits for any more is not cancelled, and the next one for that
 * service takes it over. Where there are more services they take turns, in
 * order, and the time to wait gets shorter before that: so that whoever is new
 * finds room soon, and what an agent leaves behind at its end is no burden for
 * the next one.
 *
 * While the registry is lost one question at a time, without an index, finds
 * out whether it is there again. What was under way at others' failure goes on:
 * it may still be answered. The host that all ask is the one that reads ask
 * first, hosts.preferred.
 */

enum {
	ANSWERS_AT_ONCE = 10,
	TURNS_BEFORE = 5, /* that a wait is as long as, while there is room for all */
	STRETCH = 16,
	NANOSECONDS_IN_MILLISECOND = 1000000,
};

enum query_state { QUERY_NONE, QUERY_RESTING, QUERY_WAITING };

/* service->state */
struct query {
	struct watch_service *service;
	TAILQ_ENTRY(query) entry; /* in waiting */
	enum query_state state;
	struct loop_source *timer; /* when it has rested */
	uint64_t index;            /* of the next question; 0: to be answered at once */
	struct question *question; /* that is under way */
	/* Of the last question. */
	uint64_t asked;
	size_t host;
	bool is_probe;
	uint64_t paid; /* until when answers are paid for, each by times.pace */
};

/* Asked, and not answered yet. */
struct question {
	struct queries *queries;
	TAILQ_ENTRY(question) entry; /* in flying */
	struct query *query;         /* NULL: nobody waits for it any more */
	struct http_request *request;
	char *service;
	uint64_t index;
	size_t host;
	bool is_probe;
};

/* watch->kind */
struct queries {
	struct registry_watch *watch;
	TAILQ_HEAD(, query) waiting; /* in the order in which they came */
	TAILQ_HEAD(, question) flying;
	size_t flying_count, orphan_count; /* of questions, and of those without a query */
	struct loop_source *deferred;
	struct loop_source *timer; /* when a pause is over */
	unsigned failures;         /* in a row; 0: the registry answers */
	bool is_paused;
	bool is_probing; /* a question is under way that finds out */
};

static struct queries *queries_of(const struct query *query)
{
	return query->service->watch->kind;
}

static const struct watch_times *times_of(const struct query *query)
{
	return &query->service->watch->times;
}

/* Ends it, answered or not. Its query is none of anything then. */
static void question_end(struct question *question)
{
	struct queries *queries = question->queries;

	TAILQ_REMOVE(&queries->flying, question, entry);
	queries->flying_count--;
	queries->orphan_count -= !question->query;
	queries->is_probing = queries->is_probing && !question->is_probe;
	if (question->query)
		question->query->question = NULL;
	http_cancel(question->request);
	free(question->service);
	free(question);
	loop_source_trigger(queries->deferred);
}

/* Takes the query out of whatever it is in. */
static void query_stop(struct query *query)
{
	struct queries *queries = queries_of(query);

	switch (query->state) {
	case QUERY_NONE:
		break;
	case QUERY_RESTING:
		loop_source_arm(query->timer, UINT64_MAX);
		break;
	case QUERY_WAITING:
		TAILQ_REMOVE(&queries->waiting, query, entry);
		break;
	}
	if (query->question) {
		query->question->query = NULL;
		query->question = NULL;
		queries->orphan_count++;
	}
	query->state = QUERY_NONE;
	loop_source_trigger(queries->deferred);
}

static void query_want(struct query *query)
{
	struct queries *queries = queries_of(query);

	query_stop(query);
	query->state = QUERY_WAITING;
	TAILQ_INSERT_TAIL(&queries->waiting, query, entry);
}

/* Asks again, at once or, behind many answers in a row, when the next is paid for. */
static void query_want_in_time(struct query *query)
{
	const struct watch_times *times = times_of(query);
	uint64_t now = loop_now(query->service->watch->loop);
	uint64_t credit = ANSWERS_AT_ONCE * times->pace;

	if (query->paid < now)
		query->paid = now;
	query->paid += times->pace;
	if (query->paid <= now + credit) {
		query_want(query);
		return;
	}
	query_stop(query);
	query->state = QUERY_RESTING;
	loop_source_arm(query->timer, query->paid - credit);
}

static void on_rested(struct loop_source *source, void *user)
{
	(void)source;
	query_want(user);
}

/* One that fails with others, or after them, is no further failure. */
static void query_lost(struct query *query, const struct error *error)
{
	struct queries *queries = queries_of(query);
	struct registry_watch *watch = queries->watch;
	struct hosts *hosts = &watch->registry->hosts;

	if (query->host == hosts->preferred)
		hosts->preferred = (hosts->preferred + 1) % hosts->count;
	if (queries->failures == 0 || query->is_probe) {
		queries->failures++;
		queries->is_paused = true;
		loop_source_arm(queries->timer,
				loop_now(watch->loop) + watch_pause(watch, queries->failures));
	}
	/* Who answers next may know of another past. */
	query->index = 0;
	query_want(query);
	watch_lost(watch, error);
}

static void query_tell(struct query *query, const struct consul_answer *answer, uint64_t index,
		       struct error *error)
{
	struct watch_service *service = query->service;
	CLEANUP(document_list_done) struct document_list list = {0};
	int code = consul_decode(answer, service->key, &list, error);

	if (code == -EBADMSG) {
		query_lost(query, error);
		return;
	}
	if (code < 0) {
		watch_fail(service, error);
		return;
	}
	query->index = index;
	query_want_in_time(query);
	watch_whole(service, &(struct registry_answer){.key = service->key,
						       .documents = list.items,
						       .count = list.count,
						       .position = {.index = index}});
}

static void query_went_back(struct query *query, const struct consul_answer *answer, uint64_t index,
			    struct error *error)
{
	struct watch_service *service = query->service;

	if (query->asked != 0) {
		query->index = 0;
		query_want_in_time(query);
	} else if (service->watch->registry->stale) {
		service->restored = true;
		query_tell(query, answer, index, error);
	} else {
		watch_went_back(service, index);
	}
}

/* Asks for what waits, where that was paused. */
static void queries_answered(struct queries *queries)
{
	queries->failures = 0;
	loop_source_trigger(queries->deferred);
}

static void query_on_instances(struct query *query, const struct consul_answer *answer,
			       uint64_t index, struct error *error)
{
	struct watch_service *service = query->service;

	queries_answered(queries_of(query));
	watch_followed(service);
	watch_live(service->watch);
	/* Whoever heard of that may have removed the service. */
	if (service->removed)
		return;
	if (index < service->index) {
		query_went_back(query, answer, index, error);
	} else if (index > service->index) {
		query_tell(query, answer, index, error);
	} else {
		query->index = index;
		query_want_in_time(query);
	}
}

static void query_on_answer(struct query *query, const struct consul_answer *answer)
{
	const char *host = query->service->watch->registry->hosts.urls[query->host];
	struct error error = {0};
	uint64_t index;

	switch (consul_judge(answer, &index, &error)) {
	case CONSUL_INSTANCES:
		query_on_instances(query, answer, index, &error);
		break;
	case CONSUL_REFUSED:
		queries_answered(queries_of(query));
		(void)error_wrap(&error, "%s", host);
		watch_fail(query->service, &error);
		break;
	case CONSUL_USELESS:
		(void)error_wrap(&error, "%s", host);
		query_lost(query, &error);
		break;
	}
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *http_error, void *user)
{
	const struct consul_answer own = {request, answer->status, answer->body, answer->length};
	struct question *question = user;
	struct query *query = question->query;

	question->request = NULL; /* frees itself */
	question_end(question);
	if (!query)
		return;
	if (http_error)
		query_lost(query, http_error);
	else
		query_on_answer(query, &own);
}

/* Shorter the fuller it is. */
static uint64_t time_to_wait(const struct queries *queries)
{
	const struct registry_watch *watch = queries->watch;
	size_t load = watch->count + queries->orphan_count, max = watch->registry->flying_max;

	if (load <= max / 2)
		return watch->times.silence;
	return load <= max ? TURNS_BEFORE * watch->times.turn : watch->times.turn;
}

static int question_send(struct question *question, struct error *error)
{
	const struct registry_watch *watch = question->queries->watch;
	const struct hosts *hosts = &watch->registry->hosts;
	uint64_t wait = question->index ? time_to_wait(question->queries) : 0;
	struct consul_question asked = consul_question(watch->registry, question->service);
	CLEANUP(text_done) struct text url = {0};
	const char *const headers[] = {hosts->header, NULL};
	struct http_call call = {
		.name = hosts->urls[question->host],
		.headers = headers,
		.answer_max = TREE_BYTES_MAX,
		.timeout = wait + wait / STRETCH + watch->times.answer,
		.connect_timeout = watch->times.answer,
		.on_done = on_done,
		.user_data = question,
	};

	asked.index = question->index;
	asked.wait = wait / NANOSECONDS_IN_MILLISECOND;
	text_puts(&url, hosts->urls[question->host]);
	consul_encode_question(&asked, &url);
	if (url.failed)
		return error_no_memory(error);
	call.url = url.data;
	return http_start(hosts->client, &call, &question->request, error);
}

static int question_new(struct query *query, struct error *error)
{
	struct queries *queries = queries_of(query);
	struct question *question = calloc(1, sizeof(*question));
	int code;

	if (!question)
		return error_no_memory(error);
	*question = (struct question){
		.queries = queries,
		.service = strdup(query->service->key),
		.index = query->index,
		.host = query->host,
		.is_probe = query->is_probe,
	};
	code = question->service ? question_send(question, error) : error_no_memory(error);
	if (code < 0) {
		free(question->service);
		free(question);
		return code;
	}
	TAILQ_INSERT_TAIL(&queries->flying, question, entry);
	queries->flying_count++;
	queries->is_probing = queries->is_probing || question->is_probe;
	question->query = query;
	query->question = question;
	return 0;
}

/* The same question of another who does not wait for it any more, or one that is answered sooner.
 */
static struct question *question_to_adopt(const struct query *query)
{
	struct queries *queries = queries_of(query);
	struct question *question;

	if (queries->orphan_count == 0 || query->index == 0)
		return NULL;
	TAILQ_FOREACH (question, &queries->flying, entry) {
		if (!question->query && question->index != 0 && question->index <= query->index &&
		    question->host == query->host &&
		    strcmp(question->service, query->service->key) == 0)
			return question;
	}
	return NULL;
}

static void query_ask(struct query *query)
{
	struct queries *queries = queries_of(query);
	struct question *orphan;
	struct error error;

	query_stop(query);
	query->host = queries->watch->registry->hosts.preferred;
	query->is_probe = queries->failures > 0;
	query->asked = query->index;
	orphan = question_to_adopt(query);
	if (orphan) {
		queries->orphan_count--;
		orphan->query = query;
		query->question = orphan;
	} else if (question_new(query, &error) < 0) {
		query_lost(query, &error);
	}
}

static void queries_probe(struct queries *queries)
{
	struct query *query = TAILQ_FIRST(&queries->waiting);

	if (!query || queries->is_paused || queries->is_probing)
		return;
	query->index = 0;
	query_ask(query);
}

static void on_deferred(struct loop_source *source, void *user)
{
	struct queries *queries = user;

	(void)source;
	while (queries->failures == 0 && !TAILQ_EMPTY(&queries->waiting) &&
	       queries->flying_count < queries->watch->registry->flying_max)
		query_ask(TAILQ_FIRST(&queries->waiting));
	if (queries->failures > 0)
		queries_probe(queries);
}

static void on_pause_over(struct loop_source *source, void *user)
{
	struct queries *queries = user;

	(void)source;
	queries->is_paused = false;
	loop_source_trigger(queries->deferred);
}

/* What watch.c calls */

static struct query *query_new(struct watch_service *service)
{
	struct registry_watch *watch = service->watch;
	struct query *query = calloc(1, sizeof(*query));

	if (!query)
		return NULL;
	query->service = service;
	if (loop_add_timer(watch->loop, "consul query", UINT64_MAX, on_rested, query,
			   &query->timer) < 0) {
		free(query);
		return NULL;
	}
	return query;
}

static void consul_follow(struct watch_service *service)
{
	const struct hosts *hosts = &service->watch->registry->hosts;
	struct query *query = service->state;
	struct error error;

	if (!query)
		query = service->state = query_new(service);
	if (!query) {
		(void)error_no_memory(&error);
		watch_fail(service, &error);
		return;
	}
	watch_followed(service);
	queries_answered(service->watch->kind);
	if (service->read_index < service->index)
		query->index = 0;
	else
		query->index = service->index;
	/* One under way that is still good is left alone: it is answered at once if it lags. */
	if (query->question && query->index && query->host == hosts->preferred)
		return;
	if (query->state != QUERY_WAITING)
		query_want(query);
}

static void consul_unfollow(struct watch_service *service)
{
	struct query *query = TAKE(service->state);

	if (!query)
		return;
	query_stop(query);
	loop_source_free(query->timer);
	free(query);
}

static int consul_begin(struct registry_watch *watch, struct error *error)
{
	struct queries *queries = calloc(1, sizeof(*queries));

	if (!queries)
		return error_no_memory(error);
	watch->kind = queries;
	queries->watch = watch;
	TAILQ_INIT(&queries->waiting);
	TAILQ_INIT(&queries->flying);
	if (loop_add_deferred(watch->loop, "consul queries", on_deferred, queries,
			      &queries->deferred) < 0 ||
	    loop_add_timer(watch->loop, "consul pause", UINT64_MAX, on_pause_over, queries,
			   &queries->timer) < 0)
		return error_no_memory(error);
	return 0;
}

static void consul_end(struct registry_watch *watch)
{
	struct queries *queries = TAKE(watch->kind);
	struct question *question;

	if (!queries)
		return;
	while ((question = TAILQ_FIRST(&queries->flying)))
		question_end(question);
	loop_source_free(queries->deferred);
	loop_source_free(queries->timer);
	free(queries);
}

const struct watch_ops consul_watch_ops = {
	.begin = consul_begin,
	.end = consul_end,
	.follow = consul_follow,
	.unfollow = consul_unfollow,
	.is_live_by_reading = true,
};
