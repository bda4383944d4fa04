/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Services and keys out of an alphabet in which neighbours are likely, and the
 * bytes around "/" are all there. Each key of the range of a batch has to come to
 * just those services that it is of, by comparing it with each; and a service that
 * is said to be complete has to have all of its keys, wherever the answer is cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../src/registry/etcd3.h"
#include "random.h"

enum { ROUNDS = 300, SERVICES = 12, KEYS = 120, NAME_MAX_LENGTH = 12 };

struct names {
	char items[KEYS][NAME_MAX_LENGTH + 2];
	size_t count;
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* "/" and segments; in order, and each once. */
static void make_names(struct random *random, struct names *names, size_t most)
{
	static const char letters[] = "ab-.0";
	size_t kept = 0;

	for (names->count = 0; names->count < most; names->count++) {
		char *name = names->items[names->count];
		size_t length = 2 + random_below(random, NAME_MAX_LENGTH - 2);

		name[0] = '/';
		for (size_t i = 1; i < length; i++) {
			bool border = name[i - 1] == '/' || i + 1 == length;

			name[i] = !border && random_once_in(random, 3)
					  ? '/'
					  : letters[random_below(random, sizeof(letters) - 1)];
		}
		name[length] = '\0';
	}
	qsort(names->items, names->count, sizeof(names->items[0]), compare_names);
	for (size_t i = 0; i < names->count; i++) {
		if (i == 0 || strcmp(names->items[i], names->items[kept - 1]) != 0)
			memmove(names->items[kept++], names->items[i], sizeof(names->items[0]));
	}
	names->count = kept;
}

static bool is_of(const char *key, const char *service)
{
	size_t length = strlen(service);

	return strncmp(key, service, length) == 0 && (key[length] == '\0' || key[length] == '/');
}

struct world {
	struct names services, keys;
	struct service made[SERVICES];
	struct batch batch;
};

/* As a read would have them, but that the same may be asked for twice. */
static void make_batch(struct random *random, struct world *world)
{
	make_names(random, &world->services, SERVICES - 1);
	make_names(random, &world->keys, KEYS);
	for (size_t i = 0; i < SERVICES; i++) {
		size_t from = i < world->services.count ? i : 0;
		const char *name = world->services.items[from];
		struct service *service = &world->made[i];
		char *start = calloc(2, NAME_MAX_LENGTH + 2);

		*service = (struct service){.key_length = strlen(name), .start = start};
		service->end = start + NAME_MAX_LENGTH + 2;
		(void)snprintf(service->start, NAME_MAX_LENGTH + 2, "%s/", name);
		(void)snprintf(service->end, NAME_MAX_LENGTH + 2, "%s0", name);
		service->list.arena = arena_new();
		world->batch.services[world->batch.count++] = service;
	}
	qsort(world->batch.services, world->batch.count, sizeof(struct service *),
	      etcd3_compare_services);
}

static void free_batch(struct world *world)
{
	for (size_t i = 0; i < SERVICES; i++) {
		document_list_done(&world->made[i].list);
		free(world->made[i].start);
	}
}

/* All keys of the range, up to the first that is left out; whether a service got its own. */
static const char *give(struct world *world, size_t most)
{
	const struct etcd3_range range = etcd3_together_range(&world->batch);
	struct together together = etcd3_together_begin(&world->batch);
	struct etcd3_result result = {0};
	size_t given = 0;

	for (size_t i = 0; i < world->keys.count; i++) {
		const char *key = world->keys.items[i];
		size_t length = strlen(key);

		if (etcd3_compare(key, length, range.start, range.start_length) < 0 ||
		    etcd3_compare(key, length, range.end, range.end_length) >= 0)
			continue;
		if (given++ >= most) {
			result.more = true;
			break;
		}
		result.last = key;
		result.last_length = length;
		if (etcd3_together_take(key, length, "", 0, &together) < 0)
			return "no memory";
	}
	if (result.more && !result.last)
		return NULL; /* no answer of etcd's */
	for (size_t i = 0; i < world->batch.count; i++) {
		const struct service *service = world->batch.services[i];
		char name[NAME_MAX_LENGTH + 2];
		size_t at = 0, all = 0;

		(void)snprintf(name, sizeof(name), "%.*s", (int)service->key_length,
			       service->start);
		for (size_t j = 0; j < world->keys.count; j++) {
			if (!is_of(world->keys.items[j], name))
				continue;
			all++;
			if (at < service->list.count &&
			    strcmp(service->list.items[at].key, world->keys.items[j]) == 0)
				at++;
		}
		if (at != service->list.count)
			return "a key that is not the service's";
		if (etcd3_together_holds(service, &result) && at != all)
			return "complete without all of its keys";
		if (!result.more && !etcd3_together_holds(service, &result))
			return "incomplete with all there are";
	}
	return together.wanted + together.unwanted == (given < most ? given : most)
		       ? NULL
		       : "keys that were not counted";
}

static void test_together_gives_each_service_its_keys_and_says_when_they_are_all(void **state)
{
	unsigned long first = random_first_seed((unsigned long)time(NULL));

	(void)state;
	for (unsigned long seed = first; seed < first + ROUNDS; seed++) {
		struct random random = {.state = seed};
		struct world *world = calloc(1, sizeof(*world));
		const char *wrong;

		assert_non_null(world);
		make_batch(&random, world);
		wrong = give(world,
			     random_once_in(&random, 3) ? KEYS : 1 + random_below(&random, KEYS));
		free_batch(world);
		free(world);
		if (wrong)
			fail_msg("SEED=%lu: %s", seed, wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_together_gives_each_service_its_keys_and_says_when_they_are_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
