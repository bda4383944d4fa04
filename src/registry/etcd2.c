/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "etcd2.h"
#include "etcd2_codec.h"
#include "gets.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * One GET a service (gets.c). "Key not found" is a genuine empty answer; any
 * other error of etcd's own is that service's; everything else takes the
 * exchange to the next host. The store's index comes in a header of every
 * answer, found or not.
 *
 * A watch (etcd2_watch.c) goes on from that index + 1.
 */

int etcd2_position(const struct http_request *request, struct registry_position *ret,
		   struct error *error)
{
	const char *index = http_request_header(request, "X-Etcd-Index");
	const char *cluster = http_request_header(request, "X-Etcd-Cluster-Id");

	*ret = (struct registry_position){0};
	if (!index || text_parse_number(index, strlen(index), UINT64_MAX, &ret->revision) < 0)
		return answer_wrong(error, "answer has no X-Etcd-Index: not an etcd");
	/* Hexadecimal; whatever it is, it is only compared. */
	ret->cluster = cluster ? strtoull(cluster, NULL, 16) : 0;
	return 0;
}

static enum verdict_of_answer get_found(struct get *get, const struct exchange_answer *answer,
					struct error *error)
{
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct registry_position position;

	if (!list.arena) {
		(void)error_no_memory(error);
		return get_fail(get, error);
	}
	if (etcd2_decode_keys(answer->body, answer->length, get_key(get), get_read(get)->most > 0,
			      &list, error) < 0 ||
	    etcd2_position(answer->request, &position, error) < 0)
		return ANSWER_NEXT_HOST;
	if (document_list_check(&list, error) < 0) {
		(void)error_wrap(error, "%s", answer->host);
		return get_fail(get, error);
	}
	return get_answer(get, &list, &position, error);
}

static enum verdict_of_answer get_not_found(struct get *get, const struct exchange_answer *answer,
					    struct error *error)
{
	struct document_list none = {0};
	struct registry_position position;

	if (etcd2_position(answer->request, &position, error) < 0)
		return ANSWER_NEXT_HOST;
	return get_answer(get, &none, &position, error);
}

/* An error of etcd's own. Its "requires user authentication" stands for three things. */
static void failure_tell(const struct get *get, const struct exchange_answer *answer,
			 const struct etcd2_failure *failure, struct error *error)
{
	const char *key = get_key(get);

	if (failure->code != ETCD2_UNAUTHORIZED)
		(void)error_set(error, -EINVAL, ERROR_INVALID, "%s: %s (error %ld)", answer->host,
				failure->message, failure->code);
	else if (!get_read(get)->registry->user)
		(void)error_set(error, -EACCES, ERROR_INVALID,
				"%s: %s (give a user and a password file)", answer->host,
				failure->message);
	else
		(void)error_set(error, -EACCES, ERROR_INVALID,
				"%s: %s (a wrong user or password, or no role that reads \"%s*\")",
				answer->host, failure->message,
				answer_quote(key, strlen(key)).text);
}

static enum verdict_of_answer get_refused(struct get *get, const struct exchange_answer *answer,
					  struct error *error)
{
	struct etcd2_failure failure;

	etcd2_decode_failure(answer->body, answer->length, &failure);
	if (answer->status == 404 && failure.code == ETCD2_KEY_NOT_FOUND)
		return get_not_found(get, answer, error);
	if (failure.code != ETCD2_NO_ERROR && answer->status < 500) {
		failure_tell(get, answer, &failure, error);
		return get_fail(get, error);
	}
	if (failure.code != ETCD2_NO_ERROR)
		(void)answer_wrong(error, "status %ld: %s (error %ld)", answer->status,
				   failure.message, failure.code);
	else if (answer->status == 404)
		(void)answer_wrong(error, "status 404: no v2 keys API here (etcd before 3.6 has it "
					  "with --enable-v2)");
	else
		(void)answer_wrong_status(error, answer->status, answer->body, answer->length);
	return ANSWER_NEXT_HOST;
}

static enum verdict_of_answer judge(struct get *get, const struct exchange_answer *answer,
				    struct error *error)
{
	return answer->status == 200 ? get_found(get, answer, error)
				     : get_refused(get, answer, error);
}

static void encode(const struct get *get, struct text *into)
{
	etcd2_encode_path(get_key(get), get_read(get)->most > 0, into);
}

static int etcd2_read_start(struct registry_read *read, struct error *error)
{
	static const struct gets_kind kind = {.encode = encode, .judge = judge};

	return gets_start(read, &kind, error);
}

const struct registry_ops etcd2_ops = {
	.read_start = etcd2_read_start,
	.read_end = gets_end,
	.watch = &etcd2_watch_ops,
};
