/* SPDX-License-Identifier: MIT */
#include "consul.h"

#include <errno.h>
#include <string.h>

#include "answer.h"
#include "gets.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * One GET a service (gets.c). A service that nobody registered has no
 * instances: that is an answer. What the token may not read is the service's
 * own failure; all else takes the exchange to the next host.
 *
 * By default the leader answers, and asks the others whether it still is
 * (`consistent`): a server that is cut off from them fails, and does not tell
 * what is old. With `stale` any server may answer.
 *
 * A token that may read some and not all gets what it may read, and nothing
 * but a header tells, from Consul 1.11 on. That is no whole answer.
 *
 * A watch (consul_watch.c) goes on from the index of the answer.
 */

enum { FAILURE_SHOWN = 160 };

struct consul_question consul_question(const struct registry *registry, const char *service)
{
	return (struct consul_question){
		.service = service,
		.datacenter = registry->datacenter,
		.namespace = registry->namespace,
		.stale = registry->stale,
	};
}

/* Errors are plain text. */
static int tell_failure(const struct consul_answer *answer, struct error *error)
{
	const char *what = answer->body;
	size_t length = strcspn(what, "\r\n");

	if (answer->status >= 300 && answer->status < 400)
		return answer_wrong_status(error, answer->status, what, length);
	if (answer->status == 404)
		return answer_wrong(error, "status 404: no health API of Consul's here");
	return answer_wrong(
		error, "status %ld%s%s", answer->status, length ? ": " : "",
		answer_quote(what, length < FAILURE_SHOWN ? length : FAILURE_SHOWN).text);
}

static bool is_filtered(const struct http_request *request)
{
	const char *filtered = http_request_header(request, "X-Consul-Results-Filtered-By-ACLs");

	return filtered && strcmp(filtered, "true") == 0;
}

enum consul_verdict consul_judge(const struct consul_answer *answer, uint64_t *ret_index,
				 struct error *error)
{
	const char *index;

	if (answer->status == 403) {
		(void)tell_failure(answer, error);
		error->code = -EACCES;
		error->class = ERROR_INVALID;
		return CONSUL_REFUSED;
	}
	if (answer->status != 200) {
		(void)tell_failure(answer, error);
		return CONSUL_USELESS;
	}
	index = http_request_header(answer->request, "X-Consul-Index");
	if (!index || text_parse_number(index, strlen(index), UINT64_MAX, ret_index) < 0) {
		(void)answer_wrong(error, "answer has no X-Consul-Index: not a Consul");
		return CONSUL_USELESS;
	}
	if (is_filtered(answer->request)) {
		(void)error_set(error, -EACCES, ERROR_INVALID,
				"the token may not read all of it (service:read and node:read)");
		return CONSUL_REFUSED;
	}
	/* By Consul's documentation it never is 0, and has been: that would not wait. */
	if (*ret_index == 0)
		*ret_index = 1;
	return CONSUL_INSTANCES;
}

int consul_decode(const struct consul_answer *answer, const char *service,
		  struct document_list *list, struct error *error)
{
	int code;

	list->arena = arena_new();
	if (!list->arena)
		return error_no_memory(error);
	code = consul_decode_instances(answer->body, answer->length, service, list, error);
	return code < 0 ? code : document_list_check(list, error);
}

static enum verdict_of_answer get_instances(struct get *get, const char *host,
					    const struct consul_answer *answer, uint64_t index,
					    struct error *error)
{
	const struct registry_position position = {.index = index};
	CLEANUP(document_list_done) struct document_list list = {0};
	int code = consul_decode(answer, get_key(get), &list, error);

	if (code == 0)
		return get_answer(get, &list, &position, error);
	if (code == -EBADMSG)
		return ANSWER_NEXT_HOST;
	(void)error_wrap(error, "%s", host);
	return get_fail(get, error);
}

static enum verdict_of_answer judge(struct get *get, const struct exchange_answer *answer,
				    struct error *error)
{
	const struct consul_answer own = {answer->request, answer->status, answer->body,
					  answer->length};
	uint64_t index;

	switch (consul_judge(&own, &index, error)) {
	case CONSUL_INSTANCES:
		return get_instances(get, answer->host, &own, index, error);
	case CONSUL_REFUSED:
		(void)error_wrap(error, "%s", answer->host);
		return get_fail(get, error);
	case CONSUL_USELESS:
		break;
	}
	return ANSWER_NEXT_HOST;
}

static void encode(const struct get *get, struct text *into)
{
	const struct consul_question question = consul_question(get_read(get)->registry,
								get_key(get));

	consul_encode_question(&question, into);
}

static int consul_read_start(struct registry_read *read, struct error *error)
{
	static const struct gets_kind kind = {.encode = encode, .judge = judge};

	return gets_start(read, &kind, error);
}

const struct registry_ops consul_ops = {
	.read_start = consul_read_start,
	.read_end = gets_end,
	.watch = &consul_watch_ops,
};
