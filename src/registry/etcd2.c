/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "etcd2.h"
#include "etcd2_codec.h"
#include "registry_private.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * One GET a service, a few under way at a time. "Key not found" is a genuine
 * empty answer; any other error of etcd's own is that service's; everything
 * else takes the exchange to the next host. The store's index comes in a
 * header of every answer, found or not.
 *
 * A watch (etcd2_watch.c) goes on from that index + 1.
 */

enum { GETS_UNDER_WAY = 8 };

struct get {
	struct etcd2_read *read;
	size_t index;
	bool takes_foreign; /* it was asked again, of any cluster */
};

struct etcd2_read {
	struct registry_read *read;
	struct get *gets; /* one a service */
	size_t next;      /* the first that was not started */
	size_t under_way;
};

static void read_pump(struct etcd2_read *read);

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

static void get_end(struct get *get)
{
	get->read->under_way--;
	read_pump(get->read);
}

static enum verdict_of_answer get_fail(struct get *get, const struct error *error)
{
	read_fail(get->read->read, get->index, error);
	return ANSWER_ACCEPTED;
}

static enum verdict_of_answer get_found(struct get *get, const struct exchange_answer *answer,
					struct error *error)
{
	const char *key = get->read->read->keys[get->index];
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct registry_position position;

	if (!list.arena) {
		(void)error_no_memory(error);
		return get_fail(get, error);
	}
	if (etcd2_decode_keys(answer->body, answer->length, key, get->read->read->most > 0, &list,
			      error) < 0 ||
	    etcd2_position(answer->request, &position, error) < 0 ||
	    read_is_foreign(get->read->read, &position, error))
		return ANSWER_NEXT_HOST;
	if (document_list_check(&list, error) < 0) {
		(void)error_wrap(error, "%s", answer->host);
		return get_fail(get, error);
	}
	read_answer(get->read->read, get->index, &list, &position);
	return ANSWER_ACCEPTED;
}

static enum verdict_of_answer get_not_found(struct get *get, const struct exchange_answer *answer,
					    struct error *error)
{
	struct document_list none = {0};
	struct registry_position position;

	if (etcd2_position(answer->request, &position, error) < 0 ||
	    read_is_foreign(get->read->read, &position, error))
		return ANSWER_NEXT_HOST;
	read_answer(get->read->read, get->index, &none, &position);
	return ANSWER_ACCEPTED;
}

/* An error of etcd's own. Its "requires user authentication" stands for three things. */
static void failure_tell(const struct get *get, const struct exchange_answer *answer,
			 const struct etcd2_failure *failure, struct error *error)
{
	const struct registry_read *read = get->read->read;
	const char *key = read->keys[get->index];

	if (failure->code != ETCD2_UNAUTHORIZED)
		(void)error_set(error, -EINVAL, ERROR_INVALID, "%s: %s (error %ld)", answer->host,
				failure->message, failure->code);
	else if (!read->registry->user)
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

static enum verdict_of_answer get_on_answer(const struct exchange_answer *answer,
					    struct error *error, void *user)
{
	struct get *get = user;
	enum verdict_of_answer verdict;

	if (error->code)
		verdict = exchange_verdict(error);
	else if (answer->status == 200)
		verdict = get_found(get, answer, error);
	else
		verdict = get_refused(get, answer, error);
	if (verdict == ANSWER_ACCEPTED)
		get_end(get);
	return verdict;
}

static void get_start(struct get *get);

static void get_on_failed(const struct error *error, void *user)
{
	struct get *get = user;

	if (!get->takes_foreign && read_takes_foreign(get->read->read)) {
		get->takes_foreign = true;
		get_start(get);
	} else {
		(void)get_fail(get, error);
	}
	get_end(get);
}

static void get_start(struct get *get)
{
	struct registry_read *read = get->read->read;
	CLEANUP(text_done) struct text path = {0};
	struct exchange_call call = {.answer_max = TREE_BYTES_MAX,
				     .on_answer = get_on_answer,
				     .on_failed = get_on_failed,
				     .user = get};
	struct error error;
	int code;

	etcd2_encode_path(read->keys[get->index], read->most > 0, &path);
	call.path = path.data;
	if (path.failed)
		code = error_no_memory(&error);
	else
		code = exchange_start(&read->group, &call, &error);
	if (code < 0)
		read_fail(read, get->index, &error);
	else
		get->read->under_way++;
}

static void read_pump(struct etcd2_read *read)
{
	struct registry_read *registry_read = read->read;
	struct error error;

	while (read->under_way < GETS_UNDER_WAY && read->next < registry_read->count) {
		struct get *get = &read->gets[read->next++];

		if (!exchange_group_is_down(&registry_read->group)) {
			get_start(get);
			continue;
		}
		exchange_group_error(&registry_read->group, &error);
		read_fail(registry_read, get->index, &error);
	}
}

static void etcd2_read_end(struct registry_read *registry_read)
{
	struct etcd2_read *read = registry_read->state;

	if (!read)
		return;
	exchange_group_done(&registry_read->group);
	free(read->gets);
	free(read);
	registry_read->state = NULL;
}

static int etcd2_read_start(struct registry_read *registry_read, struct error *error)
{
	struct etcd2_read *read = calloc(1, sizeof(*read));

	if (!read)
		return error_no_memory(error);
	registry_read->state = read;
	read->read = registry_read;
	read->gets = calloc(registry_read->count + 1, sizeof(*read->gets));
	if (exchange_group_init(&registry_read->group, &registry_read->registry->hosts) < 0 ||
	    !read->gets)
		return error_no_memory(error);
	for (size_t i = 0; i < registry_read->count; i++)
		read->gets[i] = (struct get){.read = read, .index = i};
	read_pump(read);
	return 0;
}

const struct registry_ops etcd2_ops = {
	.read_start = etcd2_read_start,
	.read_end = etcd2_read_end,
	.watch = &etcd2_watch_ops,
};
