/* SPDX-License-Identifier: MIT */
/*
 * ours SERVICES ENDPOINTS [NAMESPACES]
 *
 * The agent's own path from a document to the kernel: what src/agent does when
 * the registry tells of a change, with the registry, Docker and the loop left
 * out. The agent is the real one, with a target by hand for each namespace; the
 * updates are made here beforehand, as the registry would have told them, and
 * what is timed is subscriptions_update() and the reconciler's run that follows:
 * parsing the document, selecting, planning, encoding, committing, remembering,
 * logging.
 *
 * Speaks as raw does (raw.c), and besides
 *
 *     same N           a document that is written again unchanged
 *     resync N         everything is read and compared, and nothing is found
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../src/agent/agent_private.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "support/console.h"
#include "support/spaces.h"
#include "support/state.h"

/* With a document, or NULL where it is gone. */
struct told {
	char service[32], key[48], value[128];
	struct document document;
	const char *removed;
	struct registry_update update;
};

struct ours {
	struct state state;
	struct spaces spaces;
	struct loop *loop;
	struct agent *agent;
	/* By service and document, of which there is one more than endpoints: the spare. */
	uint32_t *numbers;
	unsigned *spare;
	int registry; /* a file that holds nothing */
};

static uint32_t *number_of(struct ours *ours, unsigned service, unsigned document)
{
	return &ours->numbers[(size_t)service * (ours->state.endpoints + 1) + document];
}

static int fail(const char *what, const struct error *error)
{
	(void)fprintf(stderr, "%s: %s\n", what, error->message);
	return -1;
}

/* --- What the registry tells --------------------------------------------------- */

static void name_key(struct told *told, unsigned service, unsigned document)
{
	(void)snprintf(told->service, sizeof(told->service), "/services/s%u", service);
	(void)snprintf(told->key, sizeof(told->key), "/services/s%u/%04u", service, document);
}

static void write_value(char *into, size_t size, uint32_t number)
{
	uint32_t address = state_address(number);

	(void)snprintf(into, size,
		       "{\"ipaddress\": \"%u.%u.%u.%u\", \"host_port\": \"%u\", \"tags\": [], "
		       "\"weight\": 1}",
		       address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255,
		       STATE_ENDPOINT_PORT);
}

static void tell_put(struct told *told, unsigned service, unsigned document, uint32_t number)
{
	name_key(told, service, document);
	write_value(told->value, sizeof(told->value), number);
	told->document = (struct document){
		.key = told->key, .value = told->value, .length = strlen(told->value)};
	told->update = (struct registry_update){
		.key = told->service, .documents = &told->document, .count = 1};
}

static void tell_removed(struct told *told, unsigned service, unsigned document)
{
	name_key(told, service, document);
	told->removed = told->key;
	told->update = (struct registry_update){
		.key = told->service, .removed = &told->removed, .removed_count = 1};
}

/* All of a service, as it is at first. */
static void tell_whole(struct ours *ours, unsigned service)
{
	unsigned count = ours->state.endpoints;
	struct told *each = console_memory(count, sizeof(*each));
	struct document *documents = console_memory(count, sizeof(*documents));

	for (unsigned j = 0; j < count; j++) {
		*number_of(ours, service, j) = state_number(&ours->state, service, j);
		tell_put(&each[j], service, j, *number_of(ours, service, j));
		documents[j] = each[j].document;
	}
	subscriptions_update(ours->agent,
			     &(struct registry_update){.key = each[0].service,
						       .whole = true,
						       .documents = documents,
						       .count = count,
						       .received = loop_now(ours->loop)});
	free(documents);
	free(each);
}

/* --- What the agent makes of it ------------------------------------------------ */

static bool is_done(const struct agent *agent)
{
	return TAILQ_EMPTY(&agent->dirty) && TAILQ_EMPTY(&agent->stale);
}

/* A target whose commit failed waits for its turn in a timer: nothing here calls that. */
static int check(const struct agent *agent)
{
	const struct target *target;

	LIST_FOREACH (target, &agent->targets, entry) {
		if (target->failure || !target->synced) {
			(void)fprintf(stderr, "ours: %s\n",
				      target->failure ? target->failure : "it is not true");
			return -1;
		}
	}
	return 0;
}

static uint64_t reconcile(struct ours *ours)
{
	uint64_t began = console_now();

	while (!is_done(ours->agent)) {
		reconciler_run(ours->agent);
		/* What goes on beside the loop is told on it, and nothing runs that here. */
		syncs_done(ours->agent);
	}
	return console_now() - began;
}

/* On a busy machine a commit that had to wait is charged, and the next put off: not here. */
static void forgive(const struct agent *agent)
{
	struct target *target;

	LIST_FOREACH (target, &agent->targets, entry)
		target->debt = target->suspect = 0;
}

/* Nanoseconds, from the update to the commit. */
static uint64_t take(struct ours *ours, struct told *told)
{
	uint64_t began;

	forgive(ours->agent);
	began = console_now();
	told->update.received = began;
	subscriptions_update(ours->agent, &told->update);
	(void)reconcile(ours);
	return console_now() - began;
}

/* Commits that there have to be, so that none of what is timed was for nothing. */
static int check_commits(const struct ours *ours, uint64_t before, uint64_t expected)
{
	if (ours->agent->metrics.commits - before == expected * ours->spaces.count)
		return check(ours->agent);
	(void)fprintf(stderr, "ours: %llu commits instead of %llu\n",
		      (unsigned long long)(ours->agent->metrics.commits - before),
		      (unsigned long long)(expected * ours->spaces.count));
	return -1;
}

/* --- Verbs --------------------------------------------------------------------- */

static int add_descriptors(struct descriptor_set *set, const struct origin *origin, void *user,
			   struct error *error)
{
	const struct ours *ours = user;
	char variable[32], value[48];

	for (unsigned i = 0; i < ours->state.services; i++) {
		int name = snprintf(variable, sizeof(variable), "BACKEND_S%u", i);
		int length = snprintf(value, sizeof(value), "s%u;%u", i, state_port(i));

		if (descriptor_set_add(set, origin, variable, (size_t)name, value, (size_t)length) <
		    0)
			return error_no_memory(error);
	}
	return 0;
}

static int open_agent(struct ours *ours)
{
	char url[64];
	/* Where process 1 cannot be seen, the namespace that we are in would count as the host's.
	 */
	struct agent_options options = {.registry = {.url = url},
					.root = "/services",
					.env_prefix = "BACKEND_",
					.allow_host_netns = true};
	static struct admission admission;
	struct error error = {0};

	options.admission = &admission;
	(void)snprintf(url, sizeof(url), "file:///proc/self/fd/%d", ours->registry);
	if (agent_new(ours->loop, &options, &ours->agent, &error) < 0)
		return fail("agent", &error);
	for (size_t i = 0; i < ours->spaces.count; i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ours->spaces.fds[i]);
		if (agent_add_target(ours->agent, path, 0, add_descriptors, ours, &error) < 0)
			return fail("target", &error);
	}
	return 0;
}

static int clear(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	struct error error = {0};

	(void)numbers;
	if (ours->agent && agent_flush(ours->agent, &error) < 0)
		return fail("flushing", &error);
	agent_freep(&ours->agent);
	return 0;
}

static int load(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	uint64_t took, before;

	(void)numbers;
	if (open_agent(ours) < 0)
		return -1;
	for (unsigned i = 0; i < ours->state.services; i++) {
		ours->spare[i] = ours->state.endpoints;
		tell_whole(ours, i);
	}
	before = ours->agent->metrics.commits;
	took = reconcile(ours);
	console_list("load", &took, 1, 1);
	return check_commits(ours, before, 1);
}

static int replace(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	unsigned from = numbers[0], count = numbers[1];
	uint64_t *took = console_memory(count, sizeof(*took)),
		 before = ours->agent->metrics.commits;
	struct told told;

	for (unsigned i = 0; i < count; i++) {
		unsigned service = state_changed_service(&ours->state, from + i);
		unsigned document = state_changed_endpoint(&ours->state, from + i);

		if (document == ours->spare[service])
			document = ours->state.endpoints;
		*number_of(ours, service, document) = STATE_REPLACED_FIRST + from + i;
		tell_put(&told, service, document, STATE_REPLACED_FIRST + from + i);
		took[i] = take(ours, &told);
	}
	console_list("replace", took, count, 1);
	free(took);
	return check_commits(ours, before, count);
}

static int grow(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	unsigned from = numbers[0], count = numbers[1];
	uint64_t *added = console_memory(2 * (size_t)count, sizeof(*added));
	uint64_t *removed = added + count, before = ours->agent->metrics.commits;
	struct told told;

	for (unsigned i = 0; i < count; i++) {
		unsigned service = state_changed_service(&ours->state, from + i);
		unsigned document = state_changed_endpoint(&ours->state, from + i);
		unsigned spare = ours->spare[service];

		if (document == spare)
			document = ours->state.endpoints;
		*number_of(ours, service, spare) = STATE_ADDED_FIRST + from + i;
		tell_put(&told, service, spare, STATE_ADDED_FIRST + from + i);
		added[i] = take(ours, &told);
		tell_removed(&told, service, document);
		removed[i] = take(ours, &told);
		ours->spare[service] = document;
	}
	console_list("add", added, count, 1);
	console_list("remove", removed, count, 0);
	free(added);
	return check_commits(ours, before, 2 * (uint64_t)count);
}

static int same(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	uint64_t *took = console_memory(numbers[0], sizeof(*took));
	uint64_t before = ours->agent->metrics.commits;
	struct told told;

	for (unsigned i = 0; i < numbers[0]; i++) {
		unsigned service = state_changed_service(&ours->state, i);
		unsigned document = ours->spare[service] == 0;

		tell_put(&told, service, document, *number_of(ours, service, document));
		took[i] = take(ours, &told);
	}
	console_list("same", took, numbers[0], 1);
	free(took);
	return check_commits(ours, before, 0);
}

static int resync(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	uint64_t *took = console_memory(numbers[0], sizeof(*took));
	uint64_t before = ours->agent->metrics.commits, reads = ours->agent->metrics.reads;
	struct target *target;

	for (unsigned i = 0; i < numbers[0]; i++) {
		forgive(ours->agent);
		LIST_FOREACH (target, &ours->agent->targets, entry) {
			reconciler_mark_stale(target);
		}
		took[i] = reconcile(ours);
	}
	console_list("resync", took, numbers[0], 1);
	free(took);
	if (ours->agent->metrics.reads - reads < numbers[0] * ours->spaces.count) {
		(void)fprintf(stderr, "ours: not everything was read\n");
		return -1;
	}
	return check_commits(ours, before, 0);
}

/* The descriptor of a namespace, by which others can look into it. */
static int tell_descriptor(void *user, const unsigned *numbers)
{
	const struct ours *ours = user;

	printf("\"descriptor\": %d", ours->spaces.fds[numbers[0]]);
	return 0;
}

static int show(void *user, const unsigned *numbers)
{
	struct ours *ours = user;
	uint64_t *found = console_memory(ours->state.endpoints, sizeof(*found));
	unsigned count = 0;

	for (unsigned j = 0; j <= ours->state.endpoints; j++) {
		if (j != ours->spare[numbers[0]])
			found[count++] = *number_of(ours, numbers[0], j);
	}
	console_list("endpoints", found, count, 1);
	free(found);
	return 0;
}

/* --- Beginning ----------------------------------------------------------------- */

/* The registry is never asked: nothing runs the loop. But it has to be one. */
static int open_registry(struct ours *ours)
{
	ours->registry = memfd_create("registry", MFD_CLOEXEC);
	if (ours->registry < 0)
		return -1;
	return write(ours->registry, "{}", 2) == 2 ? 0 : -1;
}

int main(int argc, char **argv)
{
	static const struct console_verb verbs[] = {
		{"clear", 0, clear},     {"load", 0, load},
		{"replace", 2, replace}, {"grow", 2, grow},
		{"same", 1, same},       {"resync", 1, resync},
		{"show", 1, show},       {"descriptor", 1, tell_descriptor},
	};
	struct ours ours = {0};

	memory_settle();
	if (state_parse(argc, argv, &ours.state) < 0)
		return 2;
	ours.numbers = console_memory((size_t)ours.state.services * (ours.state.endpoints + 1),
				      sizeof(*ours.numbers));
	ours.spare = console_memory(ours.state.services, sizeof(*ours.spare));
	if (loop_new(&ours.loop) < 0 || open_registry(&ours) < 0 ||
	    spaces_open(&ours.spaces, ours.state.namespaces) < 0)
		return console_fail("ours") < 0;
	return console_run(verbs, ARRAY_SIZE(verbs), &ours);
}
