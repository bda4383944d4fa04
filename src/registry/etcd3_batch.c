/* SPDX-License-Identifier: MIT */
#include "etcd3.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

/*
 * Theory of operation
 *
 * A batch is one transaction: for each service the key itself and the range
 * below it, "key/" up to "key0" ("0" is the byte behind "/"), all of one
 * revision; or one range for all of them (etcd3_together.c), which is given up
 * for the former where anything is wrong with it. What can come of it:
 *
 *   whole answer       services that are complete are answered; those with
 *                      more keys than the limit become a new batch, which goes
 *                      on behind the last key, at the same revision
 *   too large          split in halves; a single service gets a smaller limit,
 *                      which doubles with each answer that fits
 *   one is forbidden   etcd fails the whole transaction: split in halves, until
 *                      the one that is forbidden stands alone
 *   compacted          the revision of the first page is gone: those services
 *                      start anew, a bounded number of times
 *   token refused      authenticate again, once a batch
 *   another cluster    the next host; where none is left, once more, and then
 *                      whatever cluster there is
 *   anything else      the exchange takes it to the next host
 *
 * What a split gives goes to the front of the queue, so that a read does not
 * hold many services half done.
 */

enum { RESTARTS_MAX = 3 };

void etcd3_service_done(struct service *service)
{
	document_list_done(&service->list);
	service->cursor = NULL;
}

static void service_fail(struct etcd3_read *read, struct service *service,
			 const struct error *error)
{
	etcd3_service_done(service);
	read_fail(read->read, service->index, error);
}

void etcd3_batch_fail(struct batch *batch, const struct error *error)
{
	for (size_t i = 0; i < batch->count; i++)
		service_fail(batch->read, batch->services[i], error);
	batch->count = 0;
}

struct batch *etcd3_batch_new(struct etcd3_read *read, uint64_t limit)
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
	struct batch *part = etcd3_batch_new(read, limit);
	struct error error;

	if (!part) {
		(void)error_no_memory(&error);
		for (size_t i = from; i < from + count; i++)
			service_fail(read, batch->services[i], &error);
		return;
	}
	memcpy(part->services, batch->services + from, count * sizeof(part->services[0]));
	part->count = count;
	part->together = batch->together;
	part->authenticated_again = batch->authenticated_again;
	part->takes_foreign = batch->takes_foreign;
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
	etcd3_read_pump(read);
}

/* The ranges of a batch, in the order of its services: two for a first page, one for others. */
struct ranges {
	struct etcd3_range items[2 * BATCH_SERVICES];
	struct service *services[2 * BATCH_SERVICES];
	size_t count;
};

static void ranges_add(struct ranges *ranges, struct service *service, struct etcd3_range range)
{
	ranges->services[ranges->count] = service;
	ranges->items[ranges->count++] = range;
}

static void batch_ranges(const struct batch *batch, struct ranges *ranges)
{
	const size_t most = batch->read->read->most;

	ranges->count = 0;
	if (batch->together) {
		ranges_add(ranges, batch->services[0], etcd3_together_range(batch));
		return;
	}
	for (size_t i = 0; i < batch->count; i++) {
		struct service *service = batch->services[i];
		struct etcd3_range below = {
			.start = service->cursor ? service->cursor : service->start,
			.start_length = service->cursor ? service->cursor_length
							: service->key_length + 1,
			.end = service->end,
			.end_length = service->key_length + 1,
			.keys_only = most > 0,
			.limit = batch->limit,
			.revision = service->cursor ? service->position.revision : 0,
		};

		/* What is below it is listed, and the top has no key. */
		if (!service->cursor && !most)
			ranges_add(ranges, service,
				   (struct etcd3_range){.start = service->start,
							.start_length = service->key_length});
		ranges_add(ranges, service, below);
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
			   const struct etcd3_result *result,
			   const struct registry_position *position, const char *host,
			   struct batch *next)
{
	const size_t most = read->read->most;
	struct error error;

	if (!service->cursor)
		service->position = *position;
	if (document_list_check(&service->list, &error) < 0) {
		(void)error_wrap(&error, "%s", host);
		service_fail(read, service, &error);
	} else if (!result->more || (most && service->list.count >= most)) {
		read_answer(read->read, service->index, &service->list, &service->position);
		etcd3_service_done(service);
	} else if (service_advance(service, result) < 0) {
		(void)error_no_memory(&error);
		service_fail(read, service, &error);
	} else {
		next->services[next->count++] = service;
	}
}

/* A whole answer that decoded: each service's last range says whether it is complete. */
static void batch_settle(struct batch *batch, const struct ranges *ranges,
			 const struct etcd3_result *results,
			 const struct registry_position *position, const char *host)
{
	struct batch next = {.read = batch->read,
			     .limit = batch->limit < PAGE_KEYS / 2 ? batch->limit * 2 : PAGE_KEYS,
			     .authenticated_again = batch->authenticated_again,
			     .takes_foreign = batch->takes_foreign};

	/* A few large values must not make all that is behind them slow. */
	for (size_t i = 0; i < ranges->count; i++) {
		struct service *service = ranges->services[i];

		if (i + 1 < ranges->count && ranges->services[i + 1] == service)
			continue;
		service_settle(batch->read, service, &results[i], position, host, &next);
	}
	batch->count = 0;
	if (next.count > 0)
		batch_requeue(&next, 0, next.count, next.limit);
}

/* The same of an answer to one range for all. */
static void batch_settle_together(struct batch *batch, const struct together *together,
				  const struct etcd3_result *result,
				  const struct registry_position *position, const char *host)
{
	static const struct etcd3_result whole;
	struct batch next = {.read = batch->read,
			     .limit = batch->limit,
			     .authenticated_again = batch->authenticated_again,
			     .takes_foreign = batch->takes_foreign};
	bool holds[BATCH_SERVICES];
	size_t count = batch->count;

	/* The last key goes with the first of them. */
	for (size_t i = 0; i < count; i++)
		holds[i] = etcd3_together_holds(batch->services[i], result);
	for (size_t i = 0; i < count; i++) {
		if (holds[i]) {
			service_settle(batch->read, batch->services[i], &whole, position, host,
				       &next);
			continue;
		}
		etcd3_service_done(batch->services[i]);
		next.services[next.count++] = batch->services[i];
	}
	batch->count = 0;
	next.together = next.count < count && together->wanted >= together->unwanted;
	batch->read->scattered |= together->unwanted > together->wanted + BATCH_SERVICES;
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
	size_t marks[BATCH_SERVICES] = {0};
	struct together together = etcd3_together_begin(batch);
	struct ranges ranges;
	struct registry_position position;
	int code;

	if (lists_open(batch, marks) < 0) {
		(void)error_no_memory(error);
		etcd3_batch_fail(batch, error);
		return ANSWER_ACCEPTED;
	}
	batch_ranges(batch, &ranges);
	for (size_t i = 0; i < ranges.count; i++)
		results[i].list = &ranges.services[i]->list;
	if (batch->together) {
		results[0].take = etcd3_together_take;
		results[0].user = &together;
	}
	code = etcd3_decode_txn(answer->body, answer->length, ranges.items, ranges.count, results,
				&position, error);
	if (code == 0 && !read_is_foreign(batch->read->read, &position, error)) {
		if (batch->together)
			batch_settle_together(batch, &together, &results[0], &position,
					      answer->host);
		else
			batch_settle(batch, &ranges, results, &position, answer->host);
		return ANSWER_ACCEPTED;
	}
	/* The next host's answer has them all again. */
	for (size_t i = 0; i < batch->count; i++)
		document_list_cut(&batch->services[i]->list, marks[i]);
	return ANSWER_NEXT_HOST;
}

/* One by one instead. */
static void batch_take_apart(struct batch *batch)
{
	batch->together = false;
	batch_requeue(batch, 0, batch->count, batch->limit);
}

static enum verdict_of_answer batch_too_large(struct batch *batch, struct error *error)
{
	if (batch->together) {
		batch_take_apart(batch);
	} else if (batch->count > 1) {
		batch_split(batch);
	} else if (batch->limit > 1) {
		batch_requeue(batch, 0, 1, batch->limit / 16 > 0 ? batch->limit / 16 : 1);
	} else {
		/* No etcd: two keys of it are far below any cap. */
		if (!error->code)
			(void)error_set(error, -EFBIG, ERROR_INVALID, "the answer is too large");
		return ANSWER_HOST_DOWN;
	}
	batch->count = 0;
	return ANSWER_ACCEPTED;
}

static void batch_restart(struct batch *batch, const struct error *error)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct service *service = batch->services[i];

		etcd3_service_done(service);
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
	if (failure->code == GRPC_PERMISSION_DENIED)
		return " (a service is read as its key and everything below \"key/\")";
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
	if (batch->together)
		batch_take_apart(batch);
	else if (failure->code == GRPC_OUT_OF_RANGE)
		batch_restart(batch, &error);
	else if (batch->count > 1 && (failure->code == GRPC_PERMISSION_DENIED ||
				      strstr(failure->message, "too many operations")))
		batch_split(batch);
	else
		etcd3_batch_fail(batch, &error);
	batch->count = 0;
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
	if (registry->user && etcd3_failure_is_of_token(&failure) && !batch->authenticated_again) {
		/* Unless another batch saw to it already. */
		if (batch->token_serial == registry->token_serial)
			free(TAKE(registry->token));
		batch->authenticated_again = true;
		batch_requeue(batch, 0, batch->count, batch->limit);
		batch->count = 0;
		return ANSWER_ACCEPTED;
	}
	if (!etcd3_failure_is_final(&failure)) {
		(void)etcd3_wrong_status(answer, &failure, error);
		return ANSWER_NEXT_HOST;
	}
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

	if (!batch->takes_foreign && read_takes_foreign(batch->read->read)) {
		batch->takes_foreign = true;
		batch_requeue(batch, 0, batch->count, batch->limit);
		batch->count = 0;
	} else if (batch->together) {
		/* Something in between may fail at so much, and not at each by itself. */
		batch->read->scattered = true;
		batch_take_apart(batch);
		batch->count = 0;
	} else {
		etcd3_batch_fail(batch, error);
	}
	batch_end(batch);
}

void etcd3_batch_send(struct batch *batch)
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
	struct ranges ranges;
	struct error error;

	batch->together &= !read->scattered;
	batch_ranges(batch, &ranges);
	etcd3_encode_txn(ranges.items, ranges.count, &call.body);
	batch->token_serial = read->read->registry->token_serial;
	if (exchange_start(&read->read->group, &call, &error) < 0) {
		etcd3_batch_fail(batch, &error);
		free(batch);
		return;
	}
	TAILQ_INSERT_TAIL(&read->under_way, batch, entry);
	read->under_way_count++;
}
