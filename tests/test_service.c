/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A service that is kept up to date has to come to what its documents, read in
 * one go, come to; documents_select() is the judge. What counts as a change is
 * looked at by hand, and, in the random run, by comparing selections before
 * and after. The random run prints its seed; `SEED=N` repeats one.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/model/service.h"

static const struct admission by_default;

static struct document document(const char *key, const char *value)
{
	return (struct document){.key = key, .value = value, .length = strlen(value)};
}

static const char *selection_text(struct arena *arena, const struct selection *selection)
{
	struct text text = {0};
	const char *copy;

	text_puts(&text, "");
	for (size_t i = 0; i < selection->endpoint_count; i++) {
		const struct candidate *candidate = &selection->endpoints[i];
		char endpoint[ENDPOINT_TEXT_MAX];

		text_printf(&text, "+%s %s %u", candidate->key,
			    endpoint_format(&candidate->endpoint, endpoint), candidate->weight);
		for (size_t n = 0; n < candidate->tags.count; n++)
			text_printf(&text, "%c%s", n ? ',' : ' ', candidate->tags.names[n]);
		text_puts(&text, "\n");
	}
	for (size_t i = 0; i < selection->skipped_count; i++)
		text_printf(&text, "-%s %s\n", selection->skipped[i].key,
			    selection->skipped[i].reason);
	assert_false(text.failed);
	copy = arena_text(arena, text.data, text.length);
	text_done(&text);
	return copy;
}

static struct tags no_tags;

/* What a service comes to for tcp, without tags. */
static const char *selected(struct arena *arena, const struct service *service)
{
	struct selection selection;

	assert_int_equal(service_select(arena, service, &no_tags, PROTOCOL_TCP, &selection), 0);
	return selection_text(arena, &selection);
}

#define PUT(service, name, text) \
	service_put(service, &(struct document){.key = name, .value = text, .length = strlen(text)})

static void test_service_that_is_new_is_empty(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);

	(void)state;
	assert_string_equal(service_key(service), "/s/a");
	assert_int_equal(service_count(service), 0);
	assert_string_equal(selected(arena, service), "");
	assert_int_equal(service_replace(service, NULL, 0), 0);
	assert_int_equal(service_remove(service, "/s/a/1"), 0);
	service_free(NULL);
}

static void test_service_put_of_what_matters_is_a_change(void **state)
{
	static const struct {
		const char *value;
		int changed;
	} puts[] = {
		{"10.0.0.1:80", 1},
		{"10.0.0.1:80", 0},
		{" 10.0.0.1:080\n", 0},
		{"{\"host\":\"10.0.0.1\",\"port\":\"80\"}", 0},
		{"{\"ipaddress\":\"10.0.0.1\",\"host_port\":80,\"env\":{\"A\":1},\"tags\":[]}", 0},
		{"{\"ipaddress\":\"10.0.0.1\",\"host_port\":80,\"weight\":2}", 1},
		{"{\"weight\":\"2\",\"ipaddress\":\"10.0.0.1\",\"host_port\":80}", 0},
		{"{\"host\":\"10.0.0.1\",\"port\":80,\"weight\":2,\"tags\":[\"b\",\"a\"]}", 1},
		{"{\"host\":\"10.0.0.1\",\"port\":80,\"weight\":2,\"tags\":[\"a\",\"b\",\"a\"]}",
		 0},
		{"{\"host\":\"10.0.0.1\",\"port\":80,\"weight\":2,\"tags\":[\"ab\"]}", 1},
		{"{\"host\":\"10.0.0.1\",\"port\":80,\"proto\":\"ab\"}", 1},
		{"{\"host\":\"10.0.0.1\",\"port\":80,\"proto\":\"tcp\"}", 1},
		{"{\"host\":\"10.0.0.1\",\"port\":80}", 1},
		{"{\"host\":\"10.0.0.1\",\"port\":81}", 1},
		{"{\"host\":\"10.0.0.1\"}", 1},
		{"{\"host\":\"10.0.0.2\"}", 0},
		{"10.0.0.1", 1},
		{"", 1},
	};
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(puts); i++) {
		if (PUT(service, "/s/a/1", puts[i].value) != puts[i].changed)
			fail_msg("%s should give %d", puts[i].value, puts[i].changed);
		assert_int_equal(service_count(service), 1);
	}
}

static void test_service_remove_takes_just_that_key(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);

	(void)state;
	assert_int_equal(PUT(service, "/s/a/2", "10.0.0.2:80"), 1);
	assert_int_equal(PUT(service, "/s/a/1", "10.0.0.1:80"), 1);
	assert_int_equal(PUT(service, "/s/a", "10.0.0.3:80"), 1);
	assert_string_equal(selected(arena, service), "+/s/a 10.0.0.3:80 1\n"
						      "+/s/a/1 10.0.0.1:80 1\n"
						      "+/s/a/2 10.0.0.2:80 1\n");
	assert_int_equal(service_remove(service, "/s/a/3"), 0);
	assert_int_equal(service_remove(service, "/s/a/"), 0);
	assert_int_equal(service_remove(service, "/s/a/1"), 1);
	assert_int_equal(service_remove(service, "/s/a/1"), 0);
	assert_int_equal(service_remove(service, "/s/a"), 1);
	assert_string_equal(selected(arena, service), "+/s/a/2 10.0.0.2:80 1\n");
}

static void test_service_passes_over_what_is_not_below_its_key(void **state)
{
	static const char *const keys[] = {"/s/a2",  "/s/a2/1", "/s/", "/s/A/1",
					   "/s/b/1", "s/a/1",   ""};
	struct document documents[ARRAY_SIZE(keys)];
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		documents[i] = document(keys[i], "10.0.0.1:80");
		assert_int_equal(service_put(service, &documents[i]), 0);
		assert_int_equal(service_remove(service, keys[i]), 0);
	}
	assert_int_equal(service_replace(service, documents, ARRAY_SIZE(documents)), 0);
	assert_int_equal(service_count(service), 0);
}

static void test_service_replace_of_the_same_is_no_change(void **state)
{
	struct document documents[] = {
		document("/s/a/2", "10.0.0.2:80"),
		document("/s/a/1", "10.0.0.1:80"),
		document("/s/a/1", "10.0.0.1:79"),
		document("/t", "10.0.0.3:80"),
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);

	(void)state;
	assert_int_equal(service_replace(service, documents, ARRAY_SIZE(documents)), 1);
	assert_string_equal(selected(arena, service),
			    "+/s/a/1 10.0.0.1:79 1\n+/s/a/2 10.0.0.2:80 1\n");
	assert_int_equal(service_replace(service, documents, ARRAY_SIZE(documents)), 0);
	assert_int_equal(service_replace(service, documents, 3), 0);
	assert_int_equal(service_replace(service, documents, 1), 1);
	assert_string_equal(selected(arena, service), "+/s/a/2 10.0.0.2:80 1\n");
	assert_int_equal(PUT(service, "/s/a/1", "10.0.0.1:80"), 1);
	assert_int_equal(service_replace(service, documents, 0), 1);
	assert_int_equal(service_count(service), 0);
}

/* A mistake behind the protocol is told to those whom the protocol suits. */
static void test_service_select_tells_each_protocol_its_own_reason(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(service_freep) struct service *service = service_new("", &by_default);
	struct selection selection;

	(void)state;
	assert_int_equal(PUT(service, "/1",
			     "{\"host\":\"10.0.0.1\",\"port\":80,"
			     "\"proto\":\"Udp\",\"weight\":-1}"),
			 1);
	assert_string_equal(selected(arena, service), "-/1 proto Udp, not tcp\n");
	assert_int_equal(service_select(arena, service, &no_tags, PROTOCOL_UDP, &selection), 0);
	assert_string_equal(selection_text(arena, &selection), "-/1 weight -1 is not 0..256\n");
}

/* What fails its checks is skipped, and says why; it is not for an operator to mend. */
static void test_service_document_that_fails_is_skipped_and_not_unusable(void **state)
{
	static const char why[] = "check \"web\" is critical \x1b";
	struct document failing = {
		.key = "/s/a/1", .value = why, .length = sizeof(why) - 1, .is_failing = true};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);
	struct service_unusable unusable;
	struct selection selection;

	(void)state;
	assert_int_equal(PUT(service, "/s/a/1", "10.0.0.1:80"), 1);
	assert_int_equal(service_put(service, &failing), 1);
	assert_int_equal(service_put(service, &failing), 0);
	assert_int_equal(service_select(arena, service, &no_tags, PROTOCOL_UDP, &selection), 0);
	assert_string_equal(selection_text(arena, &selection),
			    "-/s/a/1 check \"web\" is critical \\x1b\n");
	assert_false(selection.skipped[0].is_unusable);
	service_unusable(service, &unusable);
	assert_int_equal(unusable.count, 0);
	failing.is_failing = false;
	assert_int_equal(service_put(service, &failing), 1);
	service_unusable(service, &unusable);
	assert_int_equal(unusable.count, 1);
}

static void test_service_selection_outlives_the_documents(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct service *service = service_new("/s/a", &by_default);
	struct selection selection;

	(void)state;
	assert_int_equal(PUT(service, "/s/a/1",
			     "{\"host\":\"10.0.0.1\",\"port\":80,\"tags\":[\"x\",\"y\"]}"),
			 1);
	assert_int_equal(PUT(service, "/s/a/2", "nothing"), 1);
	assert_int_equal(service_select(arena, service, &no_tags, PROTOCOL_TCP, &selection), 0);
	service_free(service);
	assert_string_equal(selection_text(arena, &selection),
			    "+/s/a/1 10.0.0.1:80 1 x,y\n"
			    "-/s/a/2 neither a JSON object nor ip:port\n");
}

/* --- Any sequence -------------------------------------------------------------- */

enum { KEYS = 24, STEPS = 600 };

/* A character lies across the service's key and what is behind it in none of these. */
static const char *const bases[] = {"/s/a", "", "/s/gr\xc3\xbc\x01", "/s/\xff"};

static const char *const values[] = {
	"10.0.0.1:80",
	"10.0.0.2:80",
	"[::ffff:10.0.0.2]:80",
	"[2001:db8::1]:80",
	"127.0.0.1:80",
	"nothing",
	"",
	"{\"host\":\"10.0.0.1\",\"port\":80,\"tags\":[\"a\",\"b\"]}",
	"{\"host\":\"10.0.0.3\",\"port\":80,\"tags\":[\"b\",\"c\",\"\\u0001\"],\"weight\":7}",
	"{\"host\":\"10.0.0.1\",\"port\":80,\"tags\":[\"b\"],\"weight\":5}",
	"{\"host\":\"10.0.0.4\",\"port\":80,\"tags\":[\"\",\"a\"],\"proto\":\"udp\"}",
	"{\"host\":\"10.0.0.5\",\"port\":80,\"tags\":7,\"proto\":\"udp\"}",
	"{\"host\":\"10.0.0.6\",\"port\":80,\"proto\":\"TCP\",\"x\":1}",
	"{\"host\":\"10.0.0.6\",\"port\":80,\"proto\":\"tcp\"}",
	"{\"host\":\"10.0.0.7\",\"port\":80,\"proto\":\"sctp\",\"tags\":[\"a\"]}",
	"{\"host\":\"10.0.0.7\",\"port\":0}",
};

/* The documents that are there, and a service that is told of each change. */
struct world {
	struct arena *arena;
	struct service *service;
	char keys[KEYS][64];
	const char *present[KEYS]; /* values, or NULL */
};

static size_t documents_there(const struct world *world, struct document *into)
{
	size_t count = 0;

	for (size_t i = 0; i < KEYS; i++) {
		if (world->present[i])
			into[count++] = document(world->keys[i], world->present[i]);
	}
	return count;
}

/* Who plans rules gets the same endpoints, with the same weights, in their order. */
static void shares_are_those(const struct world *world, const struct tags *tags,
			     enum protocol protocol, const struct selection *selection)
{
	struct share *shares, *expected;
	size_t count;

	assert_int_equal(
		service_shares(world->arena, world->service, tags, protocol, &shares, &count), 0);
	assert_int_equal(selection_shares(world->arena, selection, &expected), 0);
	assert_int_equal(count, selection->endpoint_count);
	assert_memory_equal(shares, expected, count * sizeof(*shares));
}

/* What either of them comes to, for each of some requests. */
static const char *told(const struct world *world, bool from_service)
{
	static char *const names[] = {"a", "b", "c"};
	static const unsigned wanted[][2] = {{0, 0}, {0, 1}, {1, 1}, {0, 2}, {2, 1}};
	struct document documents[KEYS];
	size_t count = documents_there(world, documents);
	const char *text = "";

	for (size_t i = 0; i < ARRAY_SIZE(wanted) * 2; i++) {
		enum protocol protocol = i % 2 ? PROTOCOL_TCP : PROTOCOL_UDP;
		char *tag_names[2] = {names[0], names[1]};
		struct tags tags = {tag_names, wanted[i / 2][1]};
		struct selection selection;
		int r;

		for (size_t n = 0; n < tags.count; n++)
			tag_names[n] = names[(wanted[i / 2][0] + n) % 3];
		r = from_service ? service_select(world->arena, world->service, &tags, protocol,
						  &selection)
				 : documents_select(world->arena, documents, count, &tags, protocol,
						    &by_default, &selection);
		assert_int_equal(r, 0);
		text = arena_printf(world->arena, "%s%zu:\n%s", text, i,
				    selection_text(world->arena, &selection));
		if (from_service)
			shares_are_those(world, &tags, protocol, &selection);
	}
	return text;
}

static int change_one(struct world *world, bool remove)
{
	size_t i = (size_t)rand() % KEYS;
	struct document put;

	if (remove) {
		world->present[i] = NULL;
		return service_remove(world->service, world->keys[i]);
	}
	world->present[i] = values[(size_t)rand() % ARRAY_SIZE(values)];
	put = document(world->keys[i], world->present[i]);
	return service_put(world->service, &put);
}

static int change_all(struct world *world)
{
	struct document documents[KEYS];
	bool anew = rand() % 2;
	size_t count;

	for (size_t i = 0; i < KEYS && anew; i++)
		world->present[i] = rand() % 2 ? values[(size_t)rand() % ARRAY_SIZE(values)] : NULL;
	count = documents_there(world, documents);
	for (size_t i = count; i > 1; i--) {
		size_t other = (size_t)rand() % i;
		struct document kept = documents[i - 1];

		documents[i - 1] = documents[other];
		documents[other] = kept;
	}
	return service_replace(world->service, documents, count);
}

static void world_begin(struct world *world, const char *base)
{
	*world = (struct world){.service = service_new(base, &by_default)};
	for (size_t i = 0; i < KEYS; i++) {
		static const char *const forms[] = {"%s/%zu", "%s/%zu/x", "%s/%zu\xff", "%s/%zu-"};

		(void)snprintf(world->keys[i], sizeof(world->keys[i]), forms[i % 4], base, i / 4);
	}
	(void)snprintf(world->keys[0], sizeof(world->keys[0]), "%s", base);
}

static void run_steps(struct world *world)
{
	CLEANUP(arena_freep) struct arena *first = arena_new();
	const char *before;

	world->arena = first;
	before = told(world, false);
	for (int step = 0; step < STEPS; step++) {
		CLEANUP(memory_free) char *kept = strdup(before);
		int kind = rand() % 20, changed;
		struct document documents[KEYS];

		arena_freep(&first);
		world->arena = first = arena_new();
		changed = kind == 0 ? change_all(world) : change_one(world, kind < 8);
		before = told(world, false);
		assert_string_equal(told(world, true), before);
		assert_int_equal(service_count(world->service), documents_there(world, documents));
		/* Of "TCP" and "tcp" only those who ask for udp see which it was. */
		assert_int_equal(changed, strcmp(kept, before) != 0);
	}
}

static void test_service_after_any_changes_selects_as_from_the_documents(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);

	(void)state;
	print_message("SEED=%u\n", seed);
	srand(seed);
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct world world;

		world_begin(&world, bases[i]);
		run_steps(&world);
		service_free(world.service);
	}
}

/* --- Memory --------------------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWN_MALLOC 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define OWN_MALLOC 1
#endif

static void fill(struct service *service, size_t number)
{
	enum { DOCUMENTS = 10 };
	struct document documents[DOCUMENTS];
	char keys[DOCUMENTS][128], all[DOCUMENTS][256];

	for (size_t i = 0; i < DOCUMENTS; i++) {
		(void)snprintf(keys[i], sizeof(keys[i]), "%s/docker-host-07.example.org:%zu",
			       service_key(service), 49000 + i);
		(void)snprintf(all[i], sizeof(all[i]),
			       "{\"ipaddress\":\"10.%zu.%zu.%zu\",\"host_port\":\"%zu\","
			       "\"proto\":\"tcp\",\"tags\":[\"production\",\"stats\"]}",
			       number >> 8, number & 255, i, 49000 + i);
		documents[i] = document(keys[i], all[i]);
	}
	assert_int_equal(service_replace(service, documents, DOCUMENTS), 1);
	assert_int_equal(service_count(service), DOCUMENTS);
}

static void test_service_of_many_is_small(void **state)
{
	enum { SERVICES = 10000 };
	struct service **services = calloc(SERVICES, sizeof(struct service *));
	struct mallinfo2 before = mallinfo2(), after;
	size_t bytes;

	(void)state;
	assert_non_null(services);
	for (size_t i = 0; i < SERVICES; i++) {
		char key[64];

		(void)snprintf(key, sizeof(key), "/services/production/application-%zu", i);
		services[i] = service_new(key, &by_default);
		fill(services[i], i);
	}
	after = mallinfo2();
	bytes = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
	print_message("%d services of 10 documents: %zu KiB in use, %zu KiB from the system\n",
		      SERVICES, bytes / 1024, (after.arena - before.arena) / 1024);
#ifndef OWN_MALLOC
	assert_in_range(bytes, 1, 20 * 1024 * 1024);
#endif
	for (size_t i = 0; i < SERVICES; i++)
		service_free(services[i]);
	free(services);
}

static void test_service_tells_of_documents_that_nobody_can_use(void **state)
{
	static const struct {
		const char *key, *value, *first, *reason;
		size_t count;
	} steps[] = {
		{"/s/a/5", "10.0.0.5:80", "", "", 0},
		/* Not asked for by all, but good. */
		{"/s/a/6", "{\"host\":\"10.0.0.6\",\"port\":80,\"proto\":\"udp\",\"tags\":[\"x\"]}",
		 "", "", 0},
		{"/s/a/4", "10.0.0.5", "/s/a/4", "an address without a port (ip:port, [v6]:port)",
		 1},
		{"/s/a/7", "127.0.0.1:80", "/s/a/4",
		 "an address without a port (ip:port, [v6]:port)", 2},
		{"/s/a/\x1b\xff\xc3\xa9", "10.0.0.1:80", "/s/a/4",
		 "an address without a port (ip:port, [v6]:port)", 2},
		{"/s/a/4", "10.0.0.4:80", "/s/a/7", "loopback address (see --allow-endpoints)", 1},
		{"/s/a/\x1b\xff\xc3\xa9", "x", "/s/a/\\x1b\\xff\xc3\xa9",
		 "neither a JSON object nor ip:port", 2},
	};
	CLEANUP(service_freep) struct service *service = service_new("/s/a", &by_default);
	struct service_unusable told;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		assert_int_equal(PUT(service, steps[i].key, steps[i].value), 1);
		service_unusable(service, &told);
		assert_int_equal(told.count, steps[i].count);
		assert_string_equal(told.key, steps[i].first);
		assert_string_equal(told.reason, steps[i].reason);
	}
}

static void test_service_key_of_an_unusable_document_is_cut(void **state)
{
	char key[4000], service_key[300];
	struct service_unusable told;

	(void)state;
	memset(service_key, 's', sizeof(service_key) - 1);
	service_key[0] = '/';
	service_key[sizeof(service_key) - 1] = '\0';
	for (size_t length = 200; length < sizeof(service_key); length += 7) {
		CLEANUP(service_freep)
		struct service *service = service_new(
			service_key + sizeof(service_key) - 1 - length, &by_default);

		for (size_t more = 40; more < 3000; more += 83) {
			(void)snprintf(key, sizeof(key), "%s/%0*d",
				       service_key + sizeof(service_key) - 1 - length, (int)more,
				       0);
			assert_int_equal(PUT(service, key, "x"), 1);
			service_unusable(service, &told);
			assert_int_equal(told.count, 1);
			assert_in_range(strlen(told.key), 240, SHOWN_KEY_MAX - 1);
			assert_int_equal(strncmp(told.key, key, 200), 0);
			assert_int_equal(service_remove(service, key), 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_service_that_is_new_is_empty),
		cmocka_unit_test(test_service_put_of_what_matters_is_a_change),
		cmocka_unit_test(test_service_remove_takes_just_that_key),
		cmocka_unit_test(test_service_passes_over_what_is_not_below_its_key),
		cmocka_unit_test(test_service_replace_of_the_same_is_no_change),
		cmocka_unit_test(test_service_select_tells_each_protocol_its_own_reason),
		cmocka_unit_test(test_service_document_that_fails_is_skipped_and_not_unusable),
		cmocka_unit_test(test_service_selection_outlives_the_documents),
		cmocka_unit_test(test_service_after_any_changes_selects_as_from_the_documents),
		cmocka_unit_test(test_service_of_many_is_small),
		cmocka_unit_test(test_service_tells_of_documents_that_nobody_can_use),
		cmocka_unit_test(test_service_key_of_an_unusable_document_is_cut),
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
