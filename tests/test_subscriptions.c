/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What the agent makes of updates of a service: driven here with the watch, the
 * reconciler and the metrics of the test's own, which take the place of the
 * real ones when this program is linked. Each case is a script of updates, and
 * says what is known after each, in a word: "ab" is documents a and b; "+" that
 * the kernel's rules were marked to be looked at, "?" that the service is held.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/agent/agent_private.h"

static struct {
	size_t marks, armed, errors, resyncs;
	enum registry_state state;
} world;

int registry_watch_add(struct registry_watch *watch, const char *key)
{
	(void)watch;
	(void)key;
	return 0;
}

void registry_watch_remove(struct registry_watch *watch, const char *key)
{
	(void)watch;
	(void)key;
}

void registry_watch_resync(struct registry_watch *watch)
{
	(void)watch;
	world.resyncs++;
}

enum registry_state registry_watch_state(const struct registry_watch *watch)
{
	(void)watch;
	return world.state;
}

void reconciler_mark_backend(struct backend *backend, uint64_t since)
{
	(void)backend;
	(void)since;
	world.marks++;
}

void metrics_error(struct agent *agent, const struct error *error)
{
	(void)agent;
	(void)error;
	world.errors++;
}

void documents_look(struct agent *agent, struct subscription *subscription)
{
	(void)agent;
	(void)subscription;
}

void documents_forget(struct agent *agent, struct subscription *subscription)
{
	(void)agent;
	(void)subscription;
}

void agent_arm_resync(struct agent *agent)
{
	(void)agent;
	world.armed++;
}

bool agent_is_held(const struct agent *agent)
{
	(void)agent;
	return false;
}

struct step {
	/*
	 * What comes: "whole ab", "restored ab" (a dash: nothing is there), "event ab"
	 * (a whole one), "put a", "gone a", "error", "resync".
	 */
	const char *update;
	const char *known;
	uint64_t resync_changes;
};

static void update_documents(struct registry_update *update, const char *names)
{
	static struct document documents[8];
	static char keys[8][8], values[8][32];

	for (; *names && *names != '-'; names++) {
		size_t i = update->count++;

		(void)snprintf(keys[i], sizeof(keys[i]), "/s/%c", *names);
		(void)snprintf(values[i], sizeof(values[i]), "10.0.0.%d:80", *names - 'a' + 1);
		documents[i] = (struct document){
			.key = keys[i], .value = values[i], .length = strlen(values[i])};
	}
	update->documents = documents;
}

static void take(struct agent *agent, const char *what)
{
	struct registry_update update = {.key = "/s"};
	struct error error = {.code = -1, .message = "no"};
	const char *names = strchr(what, ' ') ? strchr(what, ' ') + 1 : "";
	char gone[8];
	const char *const removed[] = {gone};

	if (strcmp(what, "resync") == 0) {
		subscriptions_resync(agent);
		return;
	}
	update.error = strcmp(what, "error") == 0 ? &error : NULL;
	update.restored = strncmp(what, "restored", 8) == 0;
	update.is_event = strncmp(what, "event", 5) == 0;
	update.whole = update.restored || update.is_event || strncmp(what, "whole", 5) == 0;
	if (strncmp(what, "gone", 4) == 0) {
		(void)snprintf(gone, sizeof(gone), "/s/%c", *names);
		update.removed = removed;
		update.removed_count = 1;
	} else {
		update_documents(&update, names);
	}
	subscriptions_update(agent, &update);
}

/* The names of the documents that are known, by their addresses. */
static void describe(const struct agent *agent, char *into)
{
	const struct subscription *subscription = agent->subscriptions[0];
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const struct tags none = {0};
	struct selection selection;

	assert_non_null(arena);
	assert_int_equal(
		service_select(arena, subscription->service, &none, PROTOCOL_TCP, &selection), 0);
	for (size_t i = 0; i < selection.endpoint_count; i++) {
		char address[ENDPOINT_TEXT_MAX];

		(void)endpoint_format_address(&selection.endpoints[i].endpoint, address);
		*into++ = (char)('a' + address[strlen(address) - 1] - '1');
	}
	if (world.marks)
		*into++ = '+';
	if (subscription_is_held(agent, subscription))
		*into++ = '?';
	*into = '\0';
}

static void play(const struct step *steps, size_t count)
{
	static const struct admission by_default;
	struct agent agent = {.options.admission = &by_default};
	struct backend backend = {0};
	char known[16];

	memset(&world, 0, sizeof(world));
	world.state = REGISTRY_LIVE;
	assert_int_equal(subscription_join(&agent, &backend, "/s"), 0);
	for (size_t i = 0; i < count; i++) {
		world.marks = 0;
		take(&agent, steps[i].update);
		describe(&agent, known);
		if (strcmp(known, steps[i].known) != 0)
			fail_msg("step %zu, %s: known is \"%s\", and should be \"%s\"", i,
				 steps[i].update, known, steps[i].known);
		assert_int_equal(agent.metrics.resync_changes, steps[i].resync_changes);
	}
	subscription_leave(&agent, &backend);
	free(agent.subscriptions);
}

#define PLAY(...)                                                 \
	do {                                                      \
		static const struct step steps[] = {__VA_ARGS__}; \
		play(steps, ARRAY_SIZE(steps));                   \
	} while (0)

static void test_subscription_told_whole_and_by_events_is_what_was_told(void **state)
{
	(void)state;
	PLAY({"whole ab", "ab+", 0}, {"put c", "abc+", 0}, {"put c", "abc", 0},
	     {"gone a", "bc+", 0}, {"whole b", "b+", 0}, {"whole -", "+", 0});
}

static void test_subscription_not_told_keeps_what_is_known(void **state)
{
	(void)state;
	PLAY({"error", "+?", 0}, {"error", "?", 0}, {"whole ab", "ab+", 0}, {"error", "ab?", 0},
	     {"put c", "abc+", 0}, {"error", "abc?", 0}, {"whole -", "+", 0});
	assert_int_equal(world.errors, 4);
}

static void test_subscription_restored_with_documents_is_what_they_are(void **state)
{
	(void)state;
	PLAY({"whole ab", "ab+", 0}, {"restored bc", "bc+", 0}, {"restored bc", "bc", 0},
	     {"gone b", "c+", 0});
	assert_int_equal(world.armed, 0);
}

static void test_subscription_restored_without_documents_is_spared_until_there_are(void **state)
{
	(void)state;
	PLAY({"whole ab", "ab+", 0}, {"restored -", "ab?", 0}, {"whole -", "ab?", 0},
	     {"error", "ab?", 0}, {"restored -", "ab?", 0}, {"put c", "c+", 0}, {"gone c", "+", 0});
	assert_int_equal(world.armed, 2);
	PLAY({"whole ab", "ab+", 0}, {"restored -", "ab?", 0}, {"whole ab", "ab", 0},
	     {"whole -", "+", 0});
	/* Registered and removed in one go: that one was removed. */
	PLAY({"whole ab", "ab+", 0}, {"restored -", "ab?", 0}, {"gone a", "b+?", 0},
	     {"gone b", "+", 0});
}

static void test_subscription_spared_and_empty_at_the_resync_is_empty(void **state)
{
	(void)state;
	PLAY({"whole ab", "ab+", 0}, {"restored -", "ab?", 0}, {"resync", "ab?", 0},
	     {"whole -", "+", 0});
	/* One that was under way when the registry came back says nothing of it. */
	PLAY({"whole ab", "ab+", 0}, {"resync", "ab", 0}, {"restored -", "ab?", 0},
	     {"whole -", "ab?", 0}, {"resync", "ab?", 0}, {"error", "ab?", 0}, {"whole -", "+", 0});
}

static void test_subscription_restored_with_nothing_known_spares_nothing(void **state)
{
	(void)state;
	PLAY({"whole -", "+", 0}, {"restored -", "", 0});
	PLAY({"restored -", "+", 0});
}

static void test_subscription_changed_by_a_resync_is_counted(void **state)
{
	(void)state;
	PLAY({"whole ab", "ab+", 0}, {"resync", "ab", 0}, {"whole ab", "ab", 0},
	     {"resync", "ab", 0}, {"whole a", "a+", 1}, {"whole b", "b+", 1}, {"resync", "b", 1},
	     {"put c", "bc+", 1}, {"whole c", "c+", 2});
	/* What comes whole by itself meanwhile is not the resync's. */
	PLAY({"whole ab", "ab+", 0}, {"resync", "ab", 0}, {"event a", "a+", 0}, {"whole a", "a", 0},
	     {"resync", "a", 0}, {"event b", "b+", 0}, {"whole c", "c+", 1});
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_subscription_told_whole_and_by_events_is_what_was_told),
		cmocka_unit_test(test_subscription_not_told_keeps_what_is_known),
		cmocka_unit_test(test_subscription_restored_with_documents_is_what_they_are),
		cmocka_unit_test(
			test_subscription_restored_without_documents_is_spared_until_there_are),
		cmocka_unit_test(test_subscription_spared_and_empty_at_the_resync_is_empty),
		cmocka_unit_test(test_subscription_restored_with_nothing_known_spares_nothing),
		cmocka_unit_test(test_subscription_changed_by_a_resync_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
