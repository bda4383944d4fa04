/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "etcd3_codec.h"
#include "registry_private.h"

/*
 * Theory of operation
 *
 * A read is cut into batches of up to 64 services. A batch is one transaction:
 * for each service the key itself and the range below it, "key/" up to "key0"
 * ("0" is the byte behind "/"), all of one revision. A few batches are under
 * way at a time, the others wait in a queue.
 *
 *   whole answer       services that are complete are answered; those with
 *                      more keys than the limit become a new batch, which goes
 *                      on behind the last key, at the same revision
 *   too large          split in halves; a single service gets a smaller limit
 *   one is forbidden   etcd fails the whole transaction: split in halves, until
 *                      the one that is forbidden stands alone
 *   compacted          the revision of the first page is gone: those services
 *                      start anew, a bounded number of times
 *   token refused      authenticate again, once a batch
 *   anything else      the exchange takes it to the next host
 *
 * What a split gives goes to the front of the queue, so that a read does not
 * hold many services half done.
 *
 * Reads are linearizable, etcd's default: a member that is cut off from the
 * others does not answer with what is old, it fails.
 *
 * A watch joins here with an exchange of its own, one POST to /v3/watch that
 * streams, from read_answer()'s revision + 1 on.
 */

enum {
	BATCH_SERVICES = 64, /* two ranges each: 128, etcd's --max-txn-ops */
	BATCHES_UNDER_WAY = 4,
	PAGE_KEYS = 1000,
	RESTARTS_MAX = 3,
	AUTHENTICATE_BYTES_MAX = 64 * 1024,
};

struct service {
	size_t index;
	size_t key_length;
	char *start, *end; /* "key/", "key0"; start without its last byte is the key */
	struct document_list list;
	uint64_t revision; /* of the first page */
	char *cursor;      /* where the next page starts, in the list's arena; NULL: the first */
	size_t cursor_length;
	unsigned restarts;
};

struct batch {
	TAILQ_ENTRY(batch) entry;
	struct etcd3_read *read;
	uint64_t limit;
	bool authenticated_again;
	size_t count;
	struct service *services[BATCH_SERVICES];
};

TAILQ_HEAD(batch_queue, batch);

struct etcd3_read {
	struct registry_read *read;
	struct service *services;
	struct batch_queue queue, under_way;
	size_t under_way_count;
	bool authenticating;
};

static void read_pump(struct etcd3_read *read);

static void service_finish(struct service *service)
{
	document_list_done(&service->list);
	service->cursor = NULL;
}

static void service_fail(struct etcd3_read *read, struct service *service,
			 const struct error *error)
{
	service_finish(service);
	read_fail(read->read, service->index, error);
}

static void batch_fail(struct batch *batch, const struct error *error)
{
	for (size_t i = 0; i < batch->count; i++)
		service_fail(batch->read, batch->services[i], error);
	batch->count = 0;
}

static struct batch *batch_new(struct etcd3_read *read, uint64_t limit)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->read = read;
	batch->limit = limit;
	return batch;
}

/* Takes services [from, from + count) of a batch into a new one at the front of the queue. */
static void batch_requeue(const struct batch *batch, size_t from, size_t count, uint64_t limit)
{
	struct etcd3_read *read = batch->read;
	struct batch *part = batch_new(read, limit);
	struct error error;

	if (!part) {
		(void)error_no_memory(&error);
		for (size_t i = from; i < from + count; i++)
			service_fail(read, batch->services[i], &error);
		return;
	}
	memcpy(part->services, batch->services + from, count * sizeof(*part->services));
	part->count = count;
	part->authenticated_again = batch->authenticated_again;
	TAILQ_INSERT_HEAD(&read->queue, part, entry);
}

static void batch_split(const struct batch *batch)
{
	size_t half = batch->count / 2;

	batch_requeue(batch, half, batch->count - half, batch->limit);
	batch_requeue(batch, 0, half, batch->limit);
}

/* The batch comes off the wire; whatever is left in it goes with it. */
static void batch_end(struct batch *batch)
{
	struct etcd3_read *read = batch->read;

	TAILQ_REMOVE(&read->under_way, batch, entry);
	read->under_way_count--;
	free(batch);
	read_pump(read);
}

/* The ranges of a batch, in the order of its services: two for a first page, one for others. */
struct plan {
	struct etcd3_range ranges[2 * BATCH_SERVICES];
	struct service *services[2 * BATCH_SERVICES];
	size_t count;
};

static void plan_add(struct plan *plan, struct service *service, struct etcd3_range range)
{
	plan->services[plan->count] = service;
	plan->ranges[plan->count++] = range;
}

static void batch_plan(const struct batch *batch, struct plan *plan)
{
	plan->count = 0;
	for (size_t i = 0; i < batch->count; i++) {
		struct service *service = batch->services[i];
		struct etcd3_range below = {
			.start = service->cursor ? service->cursor : service->start,
			.start_length = service->cursor ? service->cursor_length
							: service->key_length + 1,
			.end = service->end,
			.end_length = service->key_length + 1,
			.limit = batch->limit,
			.revision = service->cursor ? service->revision : 0,
		};

		if (!service->cursor)
			plan_add(plan, service,
				 (struct etcd3_range){.start = service->start,
						      .start_length = service->key_length});
		plan_add(plan, service, below);
	}
}

/* Where the next page of a service starts: the key behind the last, which is it and a NUL. */
static int service_advance(struct service *service, const struct etcd3_result *result)
{
	char *cursor = arena_text(service->list.arena, result->last, result->last_length);

	if (!cursor)
		return -ENOMEM;
	service->cursor = cursor;
	service->cursor_length = result->last_length + 1;
	return 0;
}

static void service_settle(struct etcd3_read *read, struct service *service,
			   const struct etcd3_result *result, uint64_t revision, const char *host,
			   struct batch *next)
{
	struct error error;

	if (!service->cursor)
		service->revision = revision;
	if (document_list_check(&service->list, &error) < 0) {
		(void)error_wrap(&error, "%s", host);
		service_fail(read, service, &error);
	} else if (!result->more) {
		read_answer(read->read, service->index, &service->list, service->revision);
		service_finish(service);
	} else if (service_advance(service, result) < 0) {
		(void)error_no_memory(&error);
		service_fail(read, service, &error);
	} else {
		next->services[next->count++] = service;
	}
}

/* A whole answer that decoded: each service's last range says whether it is complete. */
static void batch_settle(struct batch *batch, const struct plan *plan,
			 const struct etcd3_result *results, uint64_t revision, const char *host)
{
	struct batch next = {.read = batch->read,
			     .limit = batch->limit,
			     .authenticated_again = batch->authenticated_again};

	for (size_t i = 0; i < plan->count; i++) {
		struct service *service = plan->services[i];

		if (i + 1 < plan->count && plan->services[i + 1] == service)
			continue;
		service_settle(batch->read, service, &results[i], revision, host, &next);
	}
	batch->count = 0;
	if (next.count > 0)
		batch_requeue(&next, 0, next.count, next.limit);
}

/* A list that has no arena yet gets one. */
static int lists_open(const struct batch *batch, size_t *marks)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct document_list *list = &batch->services[i]->list;

		marks[i] = list->count;
		if (!list->arena)
			list->arena = arena_new();
		if (!list->arena)
			return -ENOMEM;
	}
	return 0;
}

static enum verdict_of_answer batch_decode(struct batch *batch,
					   const struct exchange_answer *answer,
					   struct error *error)
{
	struct etcd3_result results[2 * BATCH_SERVICES] = {0};
	size_t marks[BATCH_SERVICES];
	struct plan plan;
	uint64_t revision;
	int code;

	if (lists_open(batch, marks) < 0) {
		(void)error_no_memory(error);
		batch_fail(batch, error);
		return ANSWER_ACCEPTED;
	}
	batch_plan(batch, &plan);
	for (size_t i = 0; i < plan.count; i++)
		results[i].list = &plan.services[i]->list;
	code = etcd3_decode_txn(answer->body, answer->length, plan.ranges, plan.count, results,
				&revision, error);
	if (code == 0) {
		batch_settle(batch, &plan, results, revision, answer->host);
		return ANSWER_ACCEPTED;
	}
	/* The next host's answer has them all again. */
	for (size_t i = 0; i < batch->count; i++)
		document_list_cut(&batch->services[i]->list, marks[i]);
	return ANSWER_NEXT_HOST;
}

static enum verdict_of_answer batch_too_large(struct batch *batch, struct error *error)
{
	if (batch->count > 1) {
		batch_split(batch);
	} else if (batch->limit > 1) {
		batch_requeue(batch, 0, 1, batch->limit / 4 > 0 ? batch->limit / 4 : 1);
	} else {
		/* No etcd: two keys of it are far below the cap. */
		(void)error_set(error, -EFBIG, ERROR_INVALID,
				"the answer for a single key is longer than %d bytes",
				ANSWER_BYTES_MAX);
		return ANSWER_HOST_DOWN;
	}
	batch->count = 0;
	return ANSWER_ACCEPTED;
}

static void batch_restart(struct batch *batch, const struct error *error)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct service *service = batch->services[i];

		service_finish(service);
		if (service->restarts++ < RESTARTS_MAX)
			batch_requeue(batch, i, 1, batch->limit);
		else
			service_fail(batch->read, service, error);
	}
	batch->count = 0;
}

static const char *failure_hint(const struct etcd3_failure *failure)
{
	if (strstr(failure->message, "user name is empty"))
		return " (authentication is on: give a user and a password file)";
	return "";
}

/* An error of etcd's own that the next host would give as well. */
static void batch_refuse(struct batch *batch, const struct exchange_answer *answer,
			 const struct etcd3_failure *failure)
{
	struct error error;

	(void)error_set(&error, failure->code == GRPC_PERMISSION_DENIED ? -EACCES : -EINVAL,
			ERROR_INVALID, "%s: %s%s", answer->host, failure->message,
			failure_hint(failure));
	if (failure->code == GRPC_OUT_OF_RANGE)
		batch_restart(batch, &error);
	else if (batch->count > 1 && (failure->code == GRPC_PERMISSION_DENIED ||
				      strstr(failure->message, "too many operations")))
		batch_split(batch);
	else
		batch_fail(batch, &error);
	batch->count = 0;
}

static enum verdict_of_answer no_answer(const struct exchange_answer *answer,
					const struct etcd3_failure *failure, struct error *error)
{
	if (failure->code != GRPC_NONE)
		(void)answer_wrong(error, "status %ld: %s", answer->status, failure->message);
	else if (answer->status == 404)
		(void)answer_wrong(error,
				   "status 404: no v3 JSON gateway here (wrong port, etcd 2, "
				   "or a grpc-proxy?)");
	else if (answer->status >= 300 && answer->status < 400)
		(void)answer_wrong(error, "status %ld: redirects are not followed", answer->status);
	else
		(void)answer_wrong(error, "status %ld", answer->status);
	return ANSWER_NEXT_HOST;
}

static bool failure_is_of_token(const struct etcd3_failure *failure)
{
	return failure->code == GRPC_UNAUTHENTICATED ||
	       strstr(failure->message, "invalid auth token");
}

static bool failure_is_final(const struct etcd3_failure *failure)
{
	switch ((enum grpc_code)failure->code) {
	case GRPC_INVALID_ARGUMENT:
	case GRPC_PERMISSION_DENIED:
	case GRPC_FAILED_PRECONDITION:
	case GRPC_OUT_OF_RANGE:
	case GRPC_UNAUTHENTICATED:
		return true;
	case GRPC_NONE:
	case GRPC_UNKNOWN:
	case GRPC_RESOURCE_EXHAUSTED:
		return false;
	}
	return false;
}

static enum verdict_of_answer batch_on_failure(struct batch *batch,
					       const struct exchange_answer *answer,
					       struct error *error)
{
	struct registry *registry = batch->read->read->registry;
	struct etcd3_failure failure;

	etcd3_decode_failure(answer->body, answer->length, &failure);
	if (failure.code == GRPC_RESOURCE_EXHAUSTED && strstr(failure.message, "larger than max"))
		return batch_too_large(batch, error);
	if (registry->user && failure_is_of_token(&failure) && !batch->authenticated_again) {
		free(TAKE(registry->token));
		batch->authenticated_again = true;
		batch_requeue(batch, 0, batch->count, batch->limit);
		batch->count = 0;
		return ANSWER_ACCEPTED;
	}
	if (!failure_is_final(&failure))
		return no_answer(answer, &failure, error);
	batch_refuse(batch, answer, &failure);
	return ANSWER_ACCEPTED;
}

static enum verdict_of_answer batch_on_answer(const struct exchange_answer *answer,
					      struct error *error, void *user)
{
	struct batch *batch = user;
	enum verdict_of_answer verdict;

	if (error->code == -EFBIG)
		verdict = batch_too_large(batch, error);
	else if (error->code)
		verdict = exchange_verdict(error);
	else if (answer->status == 200)
		verdict = batch_decode(batch, answer, error);
	else
		verdict = batch_on_failure(batch, answer, error);
	if (verdict == ANSWER_ACCEPTED)
		batch_end(batch);
	return verdict;
}

static void batch_on_failed(const struct error *error, void *user)
{
	struct batch *batch = user;

	batch_fail(batch, error);
	batch_end(batch);
}

/* Returns 0, or -errno with the batch failed and gone. */
static int batch_send(struct batch *batch, struct error *error)
{
	struct etcd3_read *read = batch->read;
	struct exchange_call call = {
		.path = "/v3/kv/txn",
		.token = read->read->registry->token,
		.answer_max = ANSWER_BYTES_MAX,
		.on_answer = batch_on_answer,
		.on_failed = batch_on_failed,
		.user = batch,
	};
	struct plan plan;
	int code;

	batch_plan(batch, &plan);
	etcd3_encode_txn(plan.ranges, plan.count, &call.body);
	code = exchange_start(&read->read->group, &call, error);
	if (code < 0) {
		batch_fail(batch, error);
		free(batch);
		return code;
	}
	TAILQ_INSERT_TAIL(&read->under_way, batch, entry);
	read->under_way_count++;
	return 0;
}

static void queue_fail(struct etcd3_read *read, const struct error *error)
{
	struct batch *batch;

	while ((batch = TAILQ_FIRST(&read->queue))) {
		TAILQ_REMOVE(&read->queue, batch, entry);
		batch_fail(batch, error);
		free(batch);
	}
}

static void authenticate_end(struct etcd3_read *read, const struct error *error)
{
	read->authenticating = false;
	if (error)
		queue_fail(read, error);
	else
		read_pump(read);
}

static enum verdict_of_answer authenticate_on_answer(const struct exchange_answer *answer,
						     struct error *error, void *user)
{
	struct etcd3_read *read = user;
	struct registry *registry = read->read->registry;
	struct etcd3_failure failure = {.code = GRPC_NONE};
	char *token = NULL;

	if (error->code)
		return exchange_verdict(error);
	if (answer->status == 200) {
		if (etcd3_decode_authenticate(answer->body, answer->length, &token, error) < 0)
			return ANSWER_NEXT_HOST;
	} else {
		etcd3_decode_failure(answer->body, answer->length, &failure);
		if (!failure_is_final(&failure))
			return no_answer(answer, &failure, error);
		/* As etcdctl does: a user for an etcd without users is no error. */
		if (strstr(failure.message, "authentication is not enabled"))
			token = strdup("");
	}
	free(registry->token);
	registry->token = token;
	if (!token)
		(void)error_set(error, -EACCES, ERROR_INVALID, "%s: %s", answer->host,
				failure.message[0] ? failure.message : "out of memory");
	authenticate_end(read, token ? NULL : error);
	return ANSWER_ACCEPTED;
}

static void authenticate_on_failed(const struct error *error, void *user)
{
	authenticate_end(user, error);
}

static void authenticate(struct etcd3_read *read)
{
	const struct registry *registry = read->read->registry;
	struct exchange_call call = {
		.path = "/v3/auth/authenticate",
		.answer_max = AUTHENTICATE_BYTES_MAX,
		.on_answer = authenticate_on_answer,
		.on_failed = authenticate_on_failed,
		.user = read,
	};
	struct error error;

	read->authenticating = true;
	if (etcd3_encode_authenticate(registry->user, registry->password, &call.body) < 0)
		call.body.failed = true; /* no memory: both were checked to be UTF-8 */
	if (exchange_start(&read->read->group, &call, &error) < 0)
		authenticate_end(read, &error);
}

/* Keeps a few batches under way, with a token first where there are users. */
static void read_pump(struct etcd3_read *read)
{
	const struct registry *registry = read->read->registry;
	struct error error;

	if (TAILQ_EMPTY(&read->queue) || read->authenticating)
		return;
	if (exchange_group_is_down(&read->read->group)) {
		exchange_group_error(&read->read->group, &error);
		queue_fail(read, &error);
		return;
	}
	if (registry->user && !registry->token) {
		authenticate(read);
		return;
	}
	while (read->under_way_count < BATCHES_UNDER_WAY && !TAILQ_EMPTY(&read->queue)) {
		struct batch *batch = TAILQ_FIRST(&read->queue);

		TAILQ_REMOVE(&read->queue, batch, entry);
		(void)batch_send(batch, &error);
	}
}

static void queue_free(struct batch_queue *queue)
{
	struct batch *batch;

	while ((batch = TAILQ_FIRST(queue))) {
		TAILQ_REMOVE(queue, batch, entry);
		free(batch);
	}
}

static void etcd3_read_end(struct registry_read *registry_read)
{
	struct etcd3_read *read = registry_read->state;

	if (!read)
		return;
	exchange_group_done(&registry_read->group);
	queue_free(&read->queue);
	queue_free(&read->under_way);
	for (size_t i = 0; read->services && i < registry_read->count; i++) {
		service_finish(&read->services[i]);
		free(read->services[i].start);
		free(read->services[i].end);
	}
	free(read->services);
	free(read);
	registry_read->state = NULL;
}

static int service_init(struct service *service, size_t index, const char *key)
{
	service->index = index;
	service->key_length = strlen(key);
	service->start = calloc(1, service->key_length + 2);
	service->end = calloc(1, service->key_length + 2);
	if (!service->start || !service->end)
		return -ENOMEM;
	memcpy(service->start, key, service->key_length);
	memcpy(service->end, key, service->key_length);
	service->start[service->key_length] = '/';
	service->end[service->key_length] = '/' + 1;
	return 0;
}

/* Fills the queue: every service once, in order. */
static int read_prepare(struct etcd3_read *read, char *const *keys, size_t count)
{
	struct batch *batch = NULL;

	read->services = calloc(count + 1, sizeof(*read->services));
	if (!read->services)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (service_init(&read->services[i], i, keys[i]) < 0)
			return -ENOMEM;
		if (i % BATCH_SERVICES == 0) {
			batch = batch_new(read, PAGE_KEYS);
			if (!batch)
				return -ENOMEM;
			TAILQ_INSERT_TAIL(&read->queue, batch, entry);
		}
		batch->services[batch->count++] = &read->services[i];
	}
	return 0;
}

static int etcd3_read_start(struct registry_read *registry_read, struct error *error)
{
	struct etcd3_read *read = calloc(1, sizeof(*read));

	if (!read)
		return error_no_memory(error);
	registry_read->state = read;
	read->read = registry_read;
	TAILQ_INIT(&read->queue);
	TAILQ_INIT(&read->under_way);
	if (exchange_group_init(&registry_read->group, &registry_read->registry->hosts) < 0 ||
	    read_prepare(read, registry_read->keys, registry_read->count) < 0)
		return error_no_memory(error);
	read_pump(read);
	return 0;
}

const struct registry_ops etcd3_ops = {
	.read_start = etcd3_read_start,
	.read_end = etcd3_read_end,
};
