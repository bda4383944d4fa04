/* SPDX-License-Identifier: MIT */
#include "exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"

/*
 * Theory of operation
 *
 * An exchange has at most one HTTP request under way. When that ends, its
 * owner judges: accepted, and the exchange is over; else the host is crossed
 * off and the next one is asked. A host that timed out or refused is crossed
 * off for the whole group as well.
 *
 * Time: an exchange has hosts.timeout from its first request on. Each host
 * gets an equal share of what is left, and a third of that to connect, so that
 * a host that hangs leaves time for the others.
 */

struct host_state {
	bool down;
	struct error error; /* what happened there last */
};

struct exchange {
	struct exchange_group *group;
	LIST_ENTRY(exchange) entry;
	struct exchange_call call;
	char *path, *authorization;
	struct http_request *request;
	size_t host;    /* the one that is asked */
	uint64_t tried; /* a bit for each host */
	uint64_t deadline;
	struct text failures; /* "host: why; host: why" */
	struct error last;
};

int exchange_group_init(struct exchange_group *group, struct hosts *hosts)
{
	*group = (struct exchange_group){.hosts = hosts};
	LIST_INIT(&group->exchanges);
	group->states = calloc(hosts->count + 1, sizeof(*group->states));
	return group->states ? 0 : -ENOMEM;
}

static void exchange_free(struct exchange *exchange)
{
	http_cancel(exchange->request);
	LIST_REMOVE(exchange, entry);
	text_done(&exchange->call.body);
	text_done(&exchange->failures);
	free(exchange->path);
	free(exchange->authorization);
	free(exchange);
}

void exchange_group_done(struct exchange_group *group)
{
	struct exchange *exchange, *next;

	for (exchange = LIST_FIRST(&group->exchanges); exchange; exchange = next) {
		next = LIST_NEXT(exchange, entry);
		exchange_free(exchange);
	}
	free(group->states);
	group->states = NULL;
}

bool exchange_group_is_down(const struct exchange_group *group)
{
	for (size_t i = 0; i < group->hosts->count; i++) {
		if (!group->states[i].down)
			return false;
	}
	return true;
}

static void failures_add(struct text *failures, const struct error *error)
{
	text_printf(failures, "%s%s", failures->length ? "; " : "", error->message);
}

/* What to look at, said once for all hosts: the port, or the URL's scheme. */
static const char *hint_of(const struct hosts *hosts, const struct error *last)
{
	bool tls = strncmp(hosts->urls[0], "https:", strlen("https:")) == 0;

	switch (-last->code) {
	case ECONNREFUSED:
		return " (does the registry run there, and is that the port for its clients?)";
	case ECONNABORTED:
		/* So ends a server of TLS what is none; and one that is killed, what was under way.
		 */
		return tls || hosts->answered
			       ? ""
			       : " (where TLS is spoken the URL begins with etcds://, etcd2s:// or consuls://)";
	case EPROTO:
		return tls ? " (--tls-ca names the CA to trust; without TLS the URL is etcd:// or "
			     "etcd2://)"
			   : "";
	default:
		return "";
	}
}

static void failures_tell(const struct hosts *hosts, const struct text *failures,
			  const struct error *last, struct error *error)
{
	(void)error_set(error, last->code ? last->code : -EIO,
			last->code ? last->class : ERROR_TRANSIENT, "%s%s",
			failures->data ? failures->data : last->message, hint_of(hosts, last));
}

void exchange_group_error(const struct exchange_group *group, struct error *error)
{
	CLEANUP(text_done) struct text failures = {0};
	const struct error *last = &group->states[0].error;

	for (size_t i = 0; i < group->hosts->count; i++) {
		if (!group->states[i].error.code)
			continue;
		last = &group->states[i].error;
		failures_add(&failures, last);
	}
	failures_tell(group->hosts, &failures, last, error);
}

enum verdict_of_answer exchange_verdict(const struct error *error)
{
	switch (-error->code) {
	case ETIMEDOUT:
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case EPROTO:
		return ANSWER_HOST_DOWN;
	default:
		return ANSWER_NEXT_HOST;
	}
}

/* Finds the next host, and how many there are still to ask, that one included. */
static size_t exchange_choose(struct exchange *exchange)
{
	const struct exchange_group *group = exchange->group;
	const struct hosts *hosts = group->hosts;
	size_t left = 0;

	/* Backwards, so that the first in order is the one that stays. */
	for (size_t i = hosts->count; i-- > 0;) {
		size_t host = (hosts->preferred + i) % hosts->count;

		if (group->states[host].down || exchange->tried & (UINT64_C(1) << host))
			continue;
		exchange->host = host;
		left++;
	}
	return left;
}

static void exchange_note(struct exchange *exchange, const struct error *error)
{
	struct host_state *state = &exchange->group->states[exchange->host];

	state->error = *error;
	exchange->last = *error;
	failures_add(&exchange->failures, error);
}

static void exchange_on_done(struct http_request *request, const struct http_answer *answer,
			     const struct error *http_error, void *user);

enum { EXCHANGE_HEADERS = 4 };

static void exchange_headers(const struct exchange *exchange,
			     const char *ret[static EXCHANGE_HEADERS + 1])
{
	size_t count = 0;

	if (exchange->call.body.data) {
		ret[count++] = "Content-Type: application/json";
		ret[count++] = "Expect:";
	}
	if (exchange->authorization)
		ret[count++] = exchange->authorization;
	if (exchange->group->hosts->header)
		ret[count++] = exchange->group->hosts->header;
	ret[count] = NULL;
}

static int exchange_ask(struct exchange *exchange, uint64_t timeout, struct error *error)
{
	const struct hosts *hosts = exchange->group->hosts;
	const char *headers[EXCHANGE_HEADERS + 1];
	CLEANUP(memory_free) char *url = NULL;
	struct http_call call = {
		.name = hosts->urls[exchange->host],
		.headers = headers,
		.body = exchange->call.body.data,
		.body_length = exchange->call.body.length,
		.answer_max = exchange->call.answer_max,
		.timeout = timeout,
		.connect_timeout = timeout / 3,
		.user = hosts->user,
		.password = hosts->password,
		.on_done = exchange_on_done,
		.user_data = exchange,
	};

	if (asprintf(&url, "%s%s", hosts->urls[exchange->host], exchange->path) < 0) {
		url = NULL;
		return error_no_memory(error);
	}
	call.url = url;
	exchange_headers(exchange, headers);
	return http_start(hosts->client, &call, &exchange->request, error);
}

/* Returns 0, or the error of the last host when there is no other to ask. */
static int exchange_ask_next(struct exchange *exchange, struct error *error)
{
	const struct hosts *hosts = exchange->group->hosts;
	size_t left;

	while ((left = exchange_choose(exchange)) > 0) {
		uint64_t now = loop_now(hosts->loop), timeout = 0;

		exchange->tried |= UINT64_C(1) << exchange->host;
		if (hosts->timeout)
			timeout = (exchange->deadline > now ? exchange->deadline - now : 0) / left;
		if (hosts->timeout && timeout == 0)
			timeout = 1;
		if (exchange_ask(exchange, timeout, error) == 0)
			return 0;
		exchange_note(exchange, error);
	}
	if (exchange->failures.length == 0)
		exchange_group_error(exchange->group, error);
	else
		failures_tell(hosts, &exchange->failures, &exchange->last, error);
	return error->code;
}

static enum verdict_of_answer exchange_judge(struct exchange *exchange,
					     const struct http_answer *answer, struct error *error)
{
	const struct hosts *hosts = exchange->group->hosts;
	struct exchange_answer judged = {.host = hosts->urls[exchange->host],
					 .request = exchange->request,
					 .status = answer->status,
					 .body = answer->body,
					 .length = answer->length};
	bool own = error->code == 0;
	enum verdict_of_answer verdict = exchange->call.on_answer(&judged, error,
								  exchange->call.user);

	if (own && verdict != ANSWER_ACCEPTED)
		(void)error_wrap(error, "%s", judged.host);
	return verdict;
}

static void exchange_on_done(struct http_request *request, const struct http_answer *answer,
			     const struct error *http_error, void *user)
{
	struct exchange *exchange = user;
	struct exchange_group *group = exchange->group;
	struct error error = http_error ? *http_error : (struct error){0};
	enum verdict_of_answer verdict;

	(void)request;
	verdict = exchange_judge(exchange, answer, &error);
	exchange->request = NULL; /* frees itself */
	if (verdict == ANSWER_ACCEPTED) {
		group->answered = group->hosts->answered = true;
		group->hosts->preferred = exchange->host;
		exchange_free(exchange);
		return;
	}
	exchange_note(exchange, &error);
	if (verdict == ANSWER_HOST_DOWN)
		group->states[exchange->host].down = true;
	if (exchange_ask_next(exchange, &error) == 0)
		return;
	exchange->call.on_failed(&error, exchange->call.user);
	exchange_free(exchange);
}

int exchange_start(struct exchange_group *group, struct exchange_call *call, struct error *error)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));
	int code;

	if (!exchange) {
		text_done(&call->body);
		return error_no_memory(error);
	}
	exchange->group = group;
	exchange->call = *call;
	call->body = (struct text){0};
	LIST_INSERT_HEAD(&group->exchanges, exchange, entry);
	exchange->deadline = loop_now(group->hosts->loop) + group->hosts->timeout;
	exchange->path = strdup(call->path);
	if (call->token && *call->token &&
	    asprintf(&exchange->authorization, "Authorization: %s", call->token) < 0)
		exchange->authorization = NULL;
	if (!exchange->path || exchange->call.body.failed ||
	    (call->token && *call->token && !exchange->authorization))
		code = error_no_memory(error);
	else
		code = exchange_ask_next(exchange, error);
	if (code < 0)
		exchange_free(exchange);
	return code;
}
