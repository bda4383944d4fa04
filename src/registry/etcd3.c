/* SPDX-License-Identifier: MIT */
#include "etcd3.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "watch_private.h"

/*
 * Theory of operation
 *
 * A read is cut into batches of up to 64 services (etcd3_batch.c), in the order of
 * their keys where there are more than one. A few are under way at a time, the
 * others wait in a queue. Where there are users, a
 * token comes before the first batch; it stays with the registry, for the next
 * reads. A batch whose token was refused takes the token away and queues
 * itself again, so that the pump asks for another.
 *
 * Reads are linearizable, etcd's default: a member that is cut off from the
 * others does not answer with what is old, it fails.
 *
 * A watch (etcd3_watch.c) goes on from an answer's revision + 1.
 */

enum { BATCHES_UNDER_WAY = 4, AUTHENTICATE_BYTES_MAX = 64 * 1024 };

static void queue_fail(struct etcd3_read *read, const struct error *error)
{
	struct batch *batch;

	while ((batch = TAILQ_FIRST(&read->queue))) {
		TAILQ_REMOVE(&read->queue, batch, entry);
		etcd3_batch_fail(batch, error);
		free(batch);
	}
}

static void authenticate_end(struct etcd3_read *read, const struct error *error)
{
	read->authenticating = false;
	if (error)
		queue_fail(read, error);
	else
		etcd3_read_pump(read);
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
		if (!etcd3_failure_is_final(&failure)) {
			(void)etcd3_wrong_status(answer, &failure, error);
			return ANSWER_NEXT_HOST;
		}
		/* As etcdctl does: a user for an etcd without users is no error. */
		if (strstr(failure.message, "authentication is not enabled"))
			token = strdup("");
	}
	free(registry->token);
	registry->token = token;
	registry->token_serial++;
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
void etcd3_read_pump(struct etcd3_read *read)
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
		etcd3_batch_send(batch);
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
		etcd3_service_done(&read->services[i]);
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

/* Fills the queue: every service once, in this order. */
static int queue_services(struct etcd3_read *read, struct service *const *services, size_t count)
{
	struct batch *batch = NULL;

	for (size_t i = 0; i < count; i++) {
		if (i % BATCH_SERVICES == 0) {
			batch = etcd3_batch_new(read, PAGE_KEYS);
			if (!batch)
				return -ENOMEM;
			batch->together = count > BATCH_SERVICES;
			TAILQ_INSERT_TAIL(&read->queue, batch, entry);
		}
		batch->services[batch->count++] = services[i];
	}
	return 0;
}

static int read_prepare(struct etcd3_read *read, char *const *keys, size_t count)
{
	CLEANUP(memory_free) struct service **services = calloc(count + 1, sizeof(*services));

	read->services = calloc(count + 1, sizeof(*read->services));
	if (!services || !read->services)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (service_init(&read->services[i], i, keys[i]) < 0)
			return -ENOMEM;
		services[i] = &read->services[i];
	}
	if (count > BATCH_SERVICES)
		qsort(services, count, sizeof(*services), etcd3_compare_services);
	return queue_services(read, services, count);
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
	etcd3_read_pump(read);
	return 0;
}

const struct registry_ops etcd3_ops = {
	.read_start = etcd3_read_start,
	.read_end = etcd3_read_end,
	.watch = &etcd3_watch_ops,
};
