/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_ETCD3_H
#define DRAGOMAN_REGISTRY_ETCD3_H

/*
 * A read from etcd v3: what etcd3.c (the read), etcd3_batch.c (its requests) and
 * etcd3_together.c (many services by one range) share.
 */

#include "etcd3_codec.h"
#include "registry_private.h"

enum {
	BATCH_SERVICES = 64, /* two ranges each: 128, etcd's --max-txn-ops */
	PAGE_KEYS = 1000,
	TOGETHER_KEYS = 4096, /* of one range for many services */
};

/* A service that is being read. */
struct service {
	size_t index; /* in the read's keys */
	size_t key_length;
	char *start, *end; /* "key/", "key0"; start without its last byte is the key */
	struct document_list list;
	struct registry_position position; /* of the first page */
	char *cursor; /* where the next page starts, in the list's arena; NULL: the first */
	size_t cursor_length;
	unsigned restarts;
};

/*
 * One request: some services, each with its first page or its next one; or
 * together, by one range from the first to the last of them.
 */
struct batch {
	TAILQ_ENTRY(batch) entry;
	struct etcd3_read *read;
	uint64_t limit;
	bool together; /* services are in the order of their keys then */
	bool authenticated_again;
	bool takes_foreign;    /* it was asked again, of any cluster */
	unsigned token_serial; /* registry->token_serial when it was sent */
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
	bool scattered; /* too much lies between services: each by itself from now on */
};

void etcd3_service_done(struct service *service);

/* NULL when memory is exhausted. The batch belongs to the queue that it is put in. */
struct batch *etcd3_batch_new(struct etcd3_read *read, uint64_t limit);
/* Answers each of its services with the error, and leaves it empty. */
void etcd3_batch_fail(struct batch *batch, const struct error *error);
/* Sends a batch, which is in no queue, and puts it under way; or fails and frees it. */
void etcd3_batch_send(struct batch *batch);

/*
 * etcd3_together.c: the range of all services of a batch; and who of them gets
 * the keys that come of it.
 */
struct etcd3_range etcd3_together_range(const struct batch *batch);
struct together {
	const struct batch *batch;
	size_t longest;          /* of its services' keys */
	size_t wanted, unwanted; /* keys */
};
struct together etcd3_together_begin(const struct batch *batch);
etcd3_key_function etcd3_together_take; /* user is a struct together */
/* Whether an answer holds all keys of the service. */
bool etcd3_together_holds(const struct service *service, const struct etcd3_result *result);
/* For qsort(3), of pointers to services: by key. */
int etcd3_compare_services(const void *a, const void *b);

/* Sends what can be sent: called whenever the queue grew or a batch came back. */
void etcd3_read_pump(struct etcd3_read *read);

#endif
