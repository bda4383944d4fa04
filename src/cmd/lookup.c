/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a loop that lives as long as one read. The descriptors
 * are sorted by key, so that those that want one service lie side by side and
 * its answer, which comes once and is borrowed, is selected from for each of
 * them at once. A timer ends the read before the command's deadline: what was
 * not answered by then has failed, and there is still time to program the
 * rest.
 */
#include "lookup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/log.h"
#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/registry.h"
#include "hint.h"

/* A tenth of the time that is left is kept for the kernel's part, a second at most. */
enum { RESERVE_DIVISOR = 10, RESERVE_MAX = 1000 * 1000 * 1000 };

enum { UNUSABLE_TOLD = 10, HINTS_MAX = 3 };

struct reading {
	struct arena *arena;
	const struct options *options;
	struct lookup *lookup;
	size_t *starts; /* by index of the key: the first of its wanted, and one past the last */
	const char **keys;
	size_t key_count;
	uint64_t whole; /* of the deadline, for messages */
	struct loop *loop;
	struct registry_read *read; /* NULL: it has ended */
	bool out_of_memory;
	bool unreachable;
	struct error error; /* of unreachable */
};

static int compare_wanted(const void *a, const void *b)
{
	const struct wanted *left = a, *right = b;
	int order = strcmp(left->key, right->key);

	return order ? order
		     : listen_compare(&left->descriptor->listen, &right->descriptor->listen);
}

static int collect_wanted(struct arena *arena, const struct options *options,
			  const struct descriptor_set *set, struct lookup *ret)
{
	ret->wanted = arena_array(arena, set->count ? set->count : 1, sizeof(*ret->wanted));
	if (!ret->wanted)
		return -ENOMEM;
	for (size_t i = 0; i < set->count; i++) {
		struct wanted *wanted = &ret->wanted[ret->count];

		if (set->items[i]->state != DESCRIPTOR_USED)
			continue;
		wanted->descriptor = set->items[i];
		wanted->key = descriptor_key(arena, set->items[i], options->root);
		if (!wanted->key)
			return -ENOMEM;
		ret->count++;
	}
	qsort(ret->wanted, ret->count, sizeof(*ret->wanted), compare_wanted);
	return 0;
}

static int collect_keys(struct reading *reading)
{
	const struct lookup *lookup = reading->lookup;

	reading->keys = arena_array(reading->arena, lookup->count, sizeof(*reading->keys));
	reading->starts = arena_array(reading->arena, lookup->count + 1, sizeof(*reading->starts));
	if (!reading->keys || !reading->starts)
		return -ENOMEM;
	for (size_t i = 0; i < lookup->count; i++) {
		const char *key = lookup->wanted[i].key;

		if (i && strcmp(key, lookup->wanted[i - 1].key) == 0)
			continue;
		reading->starts[reading->key_count] = i;
		reading->keys[reading->key_count++] = key;
	}
	reading->starts[reading->key_count] = lookup->count;
	return 0;
}

static void fail(struct reading *reading, struct wanted *wanted, const char *message)
{
	wanted->answered = true;
	wanted->failure = arena_text(reading->arena, message, strlen(message));
	if (!wanted->failure)
		wanted->failure = "out of memory";
	reading->lookup->failed++;
}

static void select_for(struct reading *reading, struct wanted *wanted,
		       const struct registry_answer *answer)
{
	const struct descriptor *descriptor = wanted->descriptor;

	wanted->answered = true;
	if (documents_select(reading->arena, answer->documents, answer->count, &descriptor->tags,
			     descriptor->listen.protocol, &reading->options->admission,
			     &wanted->selection) < 0)
		reading->out_of_memory = true;
}

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct reading *reading = user;

	for (size_t i = reading->starts[index]; i < reading->starts[index + 1]; i++) {
		struct wanted *wanted = &reading->lookup->wanted[i];

		if (answer->error)
			fail(reading, wanted, answer->error->message);
		else
			select_for(reading, wanted, answer);
	}
}

static void on_done(const struct error *unreachable, void *user)
{
	struct reading *reading = user;

	reading->read = NULL;
	if (unreachable) {
		reading->unreachable = true;
		reading->error = *unreachable;
	}
	loop_stop(reading->loop);
}

static void on_deadline(struct loop_source *source, void *user)
{
	struct reading *reading = user;
	struct lookup *lookup = reading->lookup;
	char message[128];

	(void)source;
	registry_read_cancel(TAKE(reading->read));
	(void)snprintf(message, sizeof(message), "no answer within the %g seconds of --timeout",
		       (double)reading->whole / 1e9);
	for (size_t i = 0; i < lookup->count; i++) {
		if (!lookup->wanted[i].answered)
			fail(reading, &lookup->wanted[i], message);
	}
	if (lookup->failed == lookup->count) {
		reading->unreachable = true;
		(void)error_set(&reading->error, -ETIMEDOUT, ERROR_TRANSIENT, "%s", message);
	}
	loop_stop(reading->loop);
}

/* For one request, on however many hosts; the rest is for telling what happened. */
static uint64_t time_per_request(uint64_t left)
{
	return left - left / RESERVE_DIVISOR + 1;
}

static int open_registry(struct reading *reading, uint64_t time, struct registry **ret,
			 struct error *error)
{
	const struct registry_options registry_options = options_registry(reading->options,
									  time_per_request(time));

	return registry_open(reading->loop, &registry_options, ret, error);
}

/* Runs the loop until the read has ended, or `time` is over. */
static int run_read(struct reading *reading, struct registry *registry, uint64_t time,
		    struct error *error)
{
	struct loop_source *timer = NULL;
	int code = registry_read_start(registry, reading->keys, reading->key_count, on_answer,
				       on_done, reading, &reading->read, error);

	if (code < 0)
		return code;
	code = loop_add_timer(reading->loop, "deadline", loop_now(reading->loop) + time,
			      on_deadline, reading, &timer);
	if (code == 0)
		code = loop_run(reading->loop);
	loop_source_free(timer);
	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	if (!reading->unreachable)
		return 0;
	*error = reading->error;
	return error_wrap(error, "registry %s", registry_url(registry));
}

static int read_all(struct reading *reading, const struct deadline *deadline, struct error *error)
{
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(registry_freep) struct registry *registry = NULL;
	uint64_t left = deadline_left(deadline), reserve = left / RESERVE_DIVISOR;
	int code = loop_new(&loop);

	left -= reserve < RESERVE_MAX ? reserve : RESERVE_MAX;
	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	reading->loop = loop;
	code = open_registry(reading, left, &registry, error);
	return code < 0 ? code : run_read(reading, registry, left, error);
}

int lookup_run(struct arena *arena, const struct options *options, const struct deadline *deadline,
	       const struct descriptor_set *set, struct lookup *ret, struct error *error)
{
	struct reading reading = {
		.arena = arena,
		.options = options,
		.lookup = ret,
		.whole = deadline->whole,
	};
	int code;

	*ret = (struct lookup){0};
	if (collect_wanted(arena, options, set, ret) < 0)
		return error_no_memory(error);
	if (ret->count == 0)
		return 0;
	if (collect_keys(&reading) < 0)
		return error_no_memory(error);
	code = read_all(&reading, deadline, error);
	if (code == 0 && reading.out_of_memory)
		return error_no_memory(error);
	return code;
}

void lookup_report(const struct lookup *lookup, struct report *report)
{
	for (size_t i = 0; i < lookup->count; i++) {
		const struct wanted *wanted = &lookup->wanted[i];

		if (wanted->failure)
			report_add(report, wanted->descriptor->variable, "%s: %s", wanted->key,
				   wanted->failure);
	}
}

/* A service that comes out empty may be meant so; it may also be a spelling mistake. */
static void warn_of_empty(const struct wanted *wanted, const char *why, const char *hint)
{
	log_warn("%s: %s: no endpoint, %s%s%s", wanted->descriptor->variable, wanted->key, why,
		 hint ? "; " : "", hint ? hint : "");
}

/* Said once of a service, however many descriptors want it, and of UNUSABLE_TOLD of them at most.
 */
static bool warn_of_unusable(const struct wanted *wanted)
{
	const struct selection *selection = &wanted->selection;
	const struct skipped *first;
	size_t count = skipped_unusable(selection->skipped, selection->skipped_count, &first);
	char key[SHOWN_KEY_MAX];

	if (count == 0)
		return false;
	log_warn("%s: %zu of %zu documents cannot be used, the first one %s: %s", wanted->key,
		 count, selection->skipped_count + selection->endpoint_count,
		 text_format(key, sizeof(key), "%s", first->key), first->reason);
	return true;
}

static void warn_of_documents(const struct lookup *lookup)
{
	size_t told = 0;

	for (size_t i = 0; i < lookup->count && told < UNUSABLE_TOLD; i++) {
		if (i && strcmp(lookup->wanted[i].key, lookup->wanted[i - 1].key) == 0)
			continue;
		told += warn_of_unusable(&lookup->wanted[i]);
	}
	if (told == UNUSABLE_TOLD)
		log_warn("there may be more services with such documents: see resolve");
}

void lookup_warn(struct arena *arena, const struct options *options,
		 const struct deadline *deadline, const struct lookup *lookup)
{
	size_t hints = 0;

	warn_of_documents(lookup);
	for (size_t i = 0; i < lookup->count; i++) {
		const struct wanted *wanted = &lookup->wanted[i];
		const char *why = wanted->failure ? NULL
						  : selection_lack(arena, &wanted->selection,
								   &wanted->descriptor->tags);

		if (!why)
			continue;
		warn_of_empty(wanted, why,
			      hints++ < HINTS_MAX ? lookup_hint(arena, options, deadline, wanted)
						  : NULL);
	}
}

static int fill_service(struct arena *arena, const struct options *options,
			const struct wanted *wanted, struct ruleset_service *ret)
{
	ret->listen = wanted->descriptor->listen;
	if (wanted->failure) {
		ret->mode = RULESET_KEEP;
		return 0;
	}
	for (size_t i = 0; i < wanted->selection.skipped_count; i++)
		log_debug("%s: skipped %s: %s", wanted->descriptor->variable,
			  wanted->selection.skipped[i].key, wanted->selection.skipped[i].reason);
	if (ruleset_service_fill(arena, &wanted->selection, ret) < 0)
		return -ENOMEM;
	ret->mode = RULESET_SET;
	/* A weight of 0 is somebody's word, not a registry that came up empty. */
	if (wanted->selection.endpoint_count == 0 && options->hold_when_empty)
		ret->mode = RULESET_HOLD;
	return 0;
}

static int compare_services(const void *a, const void *b)
{
	const struct ruleset_service *left = a, *right = b;

	return listen_compare(&left->listen, &right->listen);
}

int lookup_ruleset(struct arena *arena, const struct options *options, const struct lookup *lookup,
		   struct ruleset *ret)
{
	*ret = (struct ruleset){.balance = options->balance, .count = lookup->count};
	ret->services = arena_array(arena, lookup->count ? lookup->count : 1,
				    sizeof(*ret->services));
	if (!ret->services)
		return -ENOMEM;
	for (size_t i = 0; i < lookup->count; i++) {
		if (fill_service(arena, options, &lookup->wanted[i], &ret->services[i]) < 0)
			return -ENOMEM;
	}
	qsort(ret->services, ret->count, sizeof(*ret->services), compare_services);
	return 0;
}
