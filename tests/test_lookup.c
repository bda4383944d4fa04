/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * From descriptors to the desired ruleset, against a registry of the test's
 * own, which takes the place of the real one when this program is linked. It
 * answers from the loop, as the real one does, out of a list of documents; a
 * key may fail, or never be answered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/lookup.h"
#include "dragoman/base/log.h"
#include "dragoman/base/loop.h"
#include "dragoman/registry/registry.h"

enum { KEYS_MAX = 8 };
enum { MILLISECOND = 1000 * 1000 };

/* Releases of clang-format differ about these. */
/* clang-format off */
#define DOCUMENT(key_text, value_text)                                                      \
	{                                                                                   \
		.key = (key_text), .value = (value_text), .length = sizeof(value_text) - 1, \
	}
/* clang-format on */

static const struct document documents[] = {
	DOCUMENT("/services/a/1", "10.0.0.1:80"),
	DOCUMENT("/services/a/2", "10.0.0.2:80"),
	DOCUMENT("/services/junk/1", "junk"),
	DOCUMENT("/services/drained/1", "{\"host\": \"10.0.0.3\", \"port\": 80, \"weight\": 0}"),
};

static struct {
	const char *silent; /* a key that gets no answer */
	const char *broken; /* a key whose read fails */
	bool unreachable;
	uint64_t timeout; /* that the registry was given */
	size_t reads, cancelled, open;
	char *keys[KEYS_MAX];
	size_t key_count;
	registry_answer_function *on_answer;
	registry_done_function *on_done;
	void *user;
} world;

struct registry {
	struct loop *loop;
	struct loop_source *source;
};

int registry_open(struct loop *loop, const struct registry_options *options, struct registry **ret,
		  struct error *error)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	(void)error;
	assert_non_null(registry);
	registry->loop = loop;
	world.timeout = options->timeout;
	world.open++;
	*ret = registry;
	return 0;
}

void registry_free(struct registry *registry)
{
	if (!registry)
		return;
	loop_source_free(registry->source);
	free(registry);
	world.open--;
}

void registry_freep(struct registry **registry)
{
	registry_free(*registry);
}

const char *registry_url(const struct registry *registry)
{
	(void)registry;
	return "test://";
}

static void answer(size_t index)
{
	const struct error broken = {.code = -EIO, .message = "cut off"};
	const char *key = world.keys[index];
	struct document found[ARRAY_SIZE(documents)];
	struct registry_answer answer = {.key = key, .documents = found};

	if (world.broken && strcmp(key, world.broken) == 0)
		answer.error = &broken;
	for (size_t i = 0; i < ARRAY_SIZE(documents) && !answer.error; i++) {
		if (strncmp(documents[i].key, key, strlen(key)) == 0)
			found[answer.count++] = documents[i];
	}
	world.on_answer(index, &answer, world.user);
}

static void answer_all(struct loop_source *source, void *user)
{
	const struct error unreachable = {.code = -ECONNREFUSED, .message = "h:1: refused"};
	bool silent = false;

	(void)source;
	(void)user;
	/* The last key first: nobody promised an order. */
	for (size_t i = world.key_count; i-- > 0 && !world.unreachable;) {
		if (world.silent && strcmp(world.keys[i], world.silent) == 0)
			silent = true;
		else
			answer(i);
	}
	if (!silent)
		world.on_done(world.unreachable ? &unreachable : NULL, world.user);
}

int registry_read_start(struct registry *registry, const char *const *keys, size_t count,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error)
{
	(void)error;
	assert_true(count > 0 && count <= KEYS_MAX);
	world.reads++;
	world.key_count = count;
	for (size_t i = 0; i < count; i++)
		world.keys[i] = strdup(keys[i]);
	world.on_answer = on_answer;
	world.on_done = on_done;
	world.user = user;
	*ret = (struct registry_read *)registry;
	return loop_add_timer(registry->loop, "answer", 0, answer_all, NULL, &registry->source);
}

/* Hints are not what is tested here. */
int registry_list_start(struct registry *registry, const char *key, size_t most,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error)
{
	(void)registry;
	(void)key;
	(void)most;
	(void)on_answer;
	(void)on_done;
	(void)user;
	(void)ret;
	return error_set(error, -ENOSYS, ERROR_FATAL, "not here");
}

void registry_read_cancel(struct registry_read *read)
{
	assert_non_null(read);
	world.cancelled++;
}

/* What one case has at hand. */
struct fixture {
	struct arena *arena;
	struct options options;
	struct descriptor_set set;
	struct lookup lookup;
	struct ruleset ruleset;
	struct report report;
	struct error error;
};

static int setup(void **state)
{
	static char root[] = "/services";
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	memset(&world, 0, sizeof(world));
	log_set_level(LOG_ERROR);
	fixture->arena = arena_new();
	assert_non_null(fixture->arena);
	fixture->set.arena = fixture->arena;
	fixture->options.root = root;
	fixture->set.root = root;
	fixture->options.registry = "test://";
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(world.open, 0);
	for (size_t i = 0; i < world.key_count; i++)
		free(world.keys[i]);
	report_done(&fixture->report);
	arena_free(fixture->arena);
	free(fixture);
	return 0;
}

static void want(struct fixture *fixture, const char *variable, const char *value)
{
	static const struct origin nowhere;

	assert_int_equal(descriptor_set_add(&fixture->set, &nowhere, variable, strlen(variable),
					    value, strlen(value)),
			 0);
}

static int run(struct fixture *fixture, uint64_t timeout)
{
	const struct deadline deadline = deadline_start(timeout);
	int code;

	descriptor_set_settle(&fixture->set);
	code = lookup_run(fixture->arena, &fixture->options, &deadline, &fixture->set,
			  &fixture->lookup, &fixture->error);
	if (code == 0)
		assert_int_equal(lookup_ruleset(fixture->arena, &fixture->options, &fixture->lookup,
						&fixture->ruleset),
				 0);
	return code;
}

enum { ENOUGH = 10 * 1000 };

static int run_with_time(struct fixture *fixture)
{
	return run(fixture, (uint64_t)ENOUGH * MILLISECOND);
}

static void test_lookup_of_nothing_asks_nobody(void **state)
{
	struct fixture *fixture = *state;

	want(fixture, "B_X", "not for us");
	want(fixture, "B_Y", "a b;1");
	assert_int_equal(run_with_time(fixture), 0);
	assert_int_equal(world.reads, 0);
	assert_int_equal(fixture->ruleset.count, 0);
}

static void test_lookup_of_one_key_by_many_reads_it_once(void **state)
{
	struct fixture *fixture = *state;

	want(fixture, "B_1", "a;81");
	want(fixture, "B_2", "/services/a;80");
	want(fixture, "B_3", "a;80/udp");
	want(fixture, "B_4", "none;79");
	assert_int_equal(run_with_time(fixture), 0);
	assert_int_equal(world.reads, 1);
	assert_int_equal(world.key_count, 2);
	assert_int_equal(fixture->ruleset.count, 4);
	for (size_t i = 0; i < 4; i++) {
		static const uint16_t ports[] = {79, 80, 80, 81};
		const struct ruleset_service *service = &fixture->ruleset.services[i];

		assert_int_equal(service->listen.port, ports[i]);
		assert_int_equal(service->mode, RULESET_SET);
		assert_int_equal(service->share_count[FAMILY_IPV4], i ? 2 : 0);
	}
}

static void test_lookup_with_a_failed_read_keeps_what_stands_there(void **state)
{
	struct fixture *fixture = *state;

	world.broken = "/services/b";
	want(fixture, "B_A", "a;1");
	want(fixture, "B_B", "b;2");
	assert_int_equal(run_with_time(fixture), 0);
	assert_int_equal(fixture->lookup.failed, 1);
	assert_int_equal(fixture->ruleset.services[0].mode, RULESET_SET);
	assert_int_equal(fixture->ruleset.services[1].mode, RULESET_KEEP);
	lookup_report(&fixture->lookup, &fixture->report);
	assert_int_equal(fixture->report.count, 1);
	assert_string_equal(fixture->report.complaints[0].variable, "B_B");
	assert_string_equal(fixture->report.complaints[0].message, "/services/b: cut off");
}

static void test_lookup_with_a_silent_key_ends_at_the_deadline(void **state)
{
	struct fixture *fixture = *state;

	world.silent = "/services/b";
	want(fixture, "B_A", "a;1");
	want(fixture, "B_B", "b;2");
	assert_int_equal(run(fixture, 50 * MILLISECOND), 0);
	assert_int_equal(world.cancelled, 1);
	assert_int_equal(fixture->lookup.failed, 1);
	assert_int_equal(fixture->ruleset.services[0].mode, RULESET_SET);
	assert_int_equal(fixture->ruleset.services[1].mode, RULESET_KEEP);
	assert_string_equal(fixture->lookup.wanted[1].failure,
			    "no answer within the 0.05 seconds of --timeout");
}

static void test_lookup_with_nothing_but_silence_fails(void **state)
{
	struct fixture *fixture = *state;

	world.silent = "/services/a";
	want(fixture, "B_A", "a;1");
	assert_int_equal(run(fixture, 50 * MILLISECOND), -ETIMEDOUT);
	assert_string_equal(fixture->error.message,
			    "registry test://: no answer within the 0.05 seconds of --timeout");
	assert_int_equal(fixture->error.class, ERROR_TRANSIENT);
}

static void test_lookup_of_an_unreachable_registry_fails_in_its_words(void **state)
{
	struct fixture *fixture = *state;

	world.unreachable = true;
	want(fixture, "B_A", "a;1");
	assert_int_equal(run_with_time(fixture), -ECONNREFUSED);
	assert_string_equal(fixture->error.message, "registry test://: h:1: refused");
}

static void test_lookup_of_several_hosts_gives_the_registry_all_of_the_time(void **state)
{
	struct fixture *fixture = *state;

	fixture->options.registry = "test://a,b,c";
	want(fixture, "B_A", "a;1");
	assert_int_equal(run_with_time(fixture), 0);
	assert_true(world.timeout < (uint64_t)ENOUGH * MILLISECOND);
	assert_true(world.timeout > (uint64_t)ENOUGH * MILLISECOND * 3 / 4);
}

static void test_lookup_of_an_empty_service_is_as_on_empty_says(void **state)
{
	static const struct {
		const char *value;
		bool hold;
		enum ruleset_mode mode;
	} cases[] = {
		{"none;1", false, RULESET_SET},
		{"none;1", true, RULESET_HOLD},
		{"junk;1", false, RULESET_SET},
		{"junk;1", true, RULESET_HOLD},
		/* Somebody said so. */
		{"drained;1", true, RULESET_SET},
		{"a;1", true, RULESET_SET},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *fixture;

		assert_int_equal(setup(state), 0);
		fixture = *state;
		fixture->options.hold_when_empty = cases[i].hold;
		want(fixture, "B_X", cases[i].value);
		assert_int_equal(run_with_time(fixture), 0);
		assert_int_equal(fixture->ruleset.services[0].mode, cases[i].mode);
		assert_int_equal(teardown(state), 0);
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_lookup_of_nothing_asks_nobody),
		CASE(test_lookup_of_one_key_by_many_reads_it_once),
		CASE(test_lookup_with_a_failed_read_keeps_what_stands_there),
		CASE(test_lookup_with_a_silent_key_ends_at_the_deadline),
		CASE(test_lookup_with_nothing_but_silence_fails),
		CASE(test_lookup_of_an_unreachable_registry_fails_in_its_words),
		CASE(test_lookup_of_several_hosts_gives_the_registry_all_of_the_time),
		cmocka_unit_test(test_lookup_of_an_empty_service_is_as_on_empty_says),
	};

	return cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
}
