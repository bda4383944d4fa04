/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "etcd3.h"

/*
 * Theory of operation
 *
 * Many services that lie side by side cost etcd less as one range than as two
 * each: ten times less, where a host wants what most of a registry is about. So
 * a large read begins with ranges from the first of some services to the end of
 * the last, and every key that comes is given to whom it is of. One may be of
 * several, since a service can lie below another.
 *
 * The answer is cut at a number of keys. Services that end before the last of
 * them are complete. The others are asked for again: together if that was worth
 * it, else each by itself; and where most of what came was of nobody, all that
 * is left of the read is asked for one by one.
 */

int etcd3_compare_services(const void *a, const void *b)
{
	const struct service *x = *(struct service *const *)a, *y = *(struct service *const *)b;

	return etcd3_compare(x->start, x->key_length, y->start, y->key_length);
}

struct etcd3_range etcd3_together_range(const struct batch *batch)
{
	const struct service *first = batch->services[0], *last = first;

	/* The end of one that lies below another comes before the other's. */
	for (size_t i = 1; i < batch->count; i++) {
		const struct service *service = batch->services[i];

		if (etcd3_compare(service->end, service->key_length + 1, last->end,
				  last->key_length + 1) > 0)
			last = service;
	}
	return (struct etcd3_range){
		.start = first->start,
		.start_length = first->key_length,
		.end = last->end,
		.end_length = last->key_length + 1,
		.limit = TOGETHER_KEYS,
	};
}

/* The first service whose key is not less; there may be several with the same. */
static size_t find(const struct batch *batch, const char *key, size_t length)
{
	size_t low = 0, high = batch->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct service *service = batch->services[middle];

		if (etcd3_compare(service->start, service->key_length, key, length) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool has_key(const struct service *service, const char *key, size_t length)
{
	return service->key_length == length && memcmp(service->start, key, length) == 0;
}

struct together etcd3_together_begin(const struct batch *batch)
{
	struct together together = {.batch = batch};

	for (size_t i = 0; i < batch->count; i++) {
		if (batch->services[i]->key_length > together.longest)
			together.longest = batch->services[i]->key_length;
	}
	return together;
}

int etcd3_together_take(const char *key, size_t key_length, const char *value, size_t value_length,
			void *user)
{
	struct together *together = user;
	const struct batch *batch = together->batch;
	/* A key may be longer than any service's, and be made of "/". */
	size_t most = key_length < together->longest ? key_length : together->longest;
	bool found = false;

	/* By the key itself, and by each one that it lies below. */
	for (size_t length = 1; length <= most; length++) {
		if (length < key_length && key[length] != '/')
			continue;
		for (size_t i = find(batch, key, length);
		     i < batch->count && has_key(batch->services[i], key, length); i++) {
			found = true;
			if (document_list_add(&batch->services[i]->list, key, key_length, value,
					      value_length) < 0)
				return -ENOMEM;
		}
	}
	together->wanted += found;
	together->unwanted += !found;
	return 0;
}

bool etcd3_together_holds(const struct service *service, const struct etcd3_result *result)
{
	return !result->more || etcd3_compare(result->last, result->last_length, service->end,
					      service->key_length + 1) >= 0;
}
