/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent_private.h"
#include "dragoman/base/log.h"

/*
 * A namespace is known by the device and inode of its nsfs file. Its
 * descriptors are the union of its members', settled anew when these change:
 * new subscriptions are taken before old ones are dropped, so that a service
 * which is still wanted is never read again.
 */

enum { FAULTS_TOLD = 50 };

/* See the rules in kernel/monitor.h. */
static void take_news(struct target *target, const struct kernel_news *news)
{
	struct rules *rules = target->rules;
	bool known = rules->generation != 0;

	if (news->lost || (news->table && (!known || generation_is_after(news->table_generation,
									 rules->generation)))) {
		target->drifted = true;
		rules->generation = 0;
		reconciler_mark(target, 0);
		return;
	}
	if (known && news->generation && generation_is_after(news->generation, rules->generation))
		rules->generation = news->generation;
	target->disturbed |= news->links;
	if (news->links)
		reconciler_mark(target, 0);
}

static void keep_news(struct kernel_news *kept, const struct kernel_news *news)
{
	kept->lost |= news->lost;
	kept->table |= news->table;
	kept->links |= news->links;
	if (news->table_generation)
		kept->table_generation = news->table_generation;
	if (news->generation)
		kept->generation = news->generation;
}

static void on_news(const struct kernel_news *news, void *user)
{
	struct target *target = user;

	if (target->sync)
		keep_news(&target->news, news);
	else
		take_news(target, news);
}

void target_take_news(struct target *target)
{
	const struct kernel_news news = target->news;

	target->news = (struct kernel_news){0};
	take_news(target, &news);
}

static void on_later(struct loop_source *source, void *user)
{
	(void)source;
	reconciler_mark(user, 0);
}

static void drop_backends(struct agent *agent, struct backend *backends, size_t count)
{
	for (size_t i = 0; i < count; i++)
		subscription_leave(agent, &backends[i]);
}

static void target_free(struct target *target)
{
	reconciler_forget(target);
	LIST_REMOVE(target, entry);
	drop_backends(target->agent, target->backends, target->backend_count);
	sweeper_forget(target);
	sync_leave(target);
	loop_source_free(target->later);
	arena_free(target->arena);
	free(target->reported);
	free(target->failure);
	free(target);
}

static int target_open(struct target *target, const struct netns *netns, struct error *error)
{
	int r = rules_open(target->agent->loop, netns, on_news, target, &target->rules, error);

	if (r < 0)
		return r;
	r = loop_add_timer(target->agent->loop, "target later", UINT64_MAX, on_later, target,
			   &target->later);
	return r < 0 ? error_no_memory(error) : 0;
}

static struct target *target_new(struct agent *agent, const struct netns *netns,
				 struct error *error)
{
	struct target *target = calloc(1, sizeof(*target));

	if (!target) {
		(void)error_no_memory(error);
		return NULL;
	}
	target->agent = agent;
	target->device = netns->device;
	target->inode = netns->inode;
	TAILQ_INIT(&target->members);
	LIST_INSERT_HEAD(&agent->targets, target, entry);
	if (target_open(target, netns, error) == 0)
		return target;
	target_free(target);
	return NULL;
}

static int collect_descriptors(struct target *target, struct descriptor_set *set,
			       struct error *error)
{
	const struct agent_options *options = &target->agent->options;
	struct member *member;

	TAILQ_FOREACH (member, &target->members, of_target) {
		const struct origin origin = {
			.id = member->id, .name = member->name, .created = member->created};

		int r = 0;

		if (member->source)
			r = member->source(set, &origin, member->source_user, error);
		else if (descriptor_set_add_block(set, &origin, options->env_prefix, member->block,
						  member->block_length) < 0)
			r = error_no_memory(error);
		if (r < 0)
			return r;
	}
	descriptor_set_settle(set);
	return 0;
}

static int compare_backends(const void *a, const void *b)
{
	const struct backend *x = a, *y = b;

	return listen_compare(&x->descriptor->listen, &y->descriptor->listen);
}

/* Each becomes a user of its service. On failure none is. */
static int join_backends(struct target *target, struct arena *arena, struct backend *backends,
			 size_t count)
{
	struct agent *agent = target->agent;

	for (size_t i = 0; i < count; i++) {
		const char *key = descriptor_key(arena, backends[i].descriptor,
						 agent->options.root);

		backends[i].target = target;
		if (!key || subscription_join(agent, &backends[i], key) < 0) {
			drop_backends(agent, backends, i);
			return -ENOMEM;
		}
	}
	return 0;
}

/* One backend for each descriptor that is used. */
static int collect_backends(struct target *target, struct arena *arena,
			    const struct descriptor_set *set, struct backend **ret,
			    size_t *ret_count)
{
	struct backend *backends = arena_array(arena, set->count, sizeof(*backends));
	size_t count = 0;

	if (!backends)
		return -ENOMEM;
	for (size_t i = 0; i < set->count; i++) {
		if (set->items[i]->state == DESCRIPTOR_USED)
			backends[count++] = (struct backend){.descriptor = set->items[i]};
	}
	/* Sorted before anything points to them. */
	if (count)
		qsort(backends, count, sizeof(*backends), compare_backends);
	if (join_backends(target, arena, backends, count) < 0)
		return -ENOMEM;
	*ret = backends;
	*ret_count = count;
	return 0;
}

static bool is_faulty(const struct descriptor *descriptor)
{
	return descriptor->state == DESCRIPTOR_INVALID || descriptor->state == DESCRIPTOR_CONFLICT;
}

/*
 * One line for each that is wrong, up to FAULTS_TOLD: a container may have ten
 * thousand, and start again and again.
 */
static void describe_faults(const struct descriptor_set *set, struct text *ret)
{
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct descriptor *descriptor = set->items[i];
		const char *who = descriptor->origin.name ? descriptor->origin.name : "";

		if (!is_faulty(descriptor) || count++ >= FAULTS_TOLD)
			continue;
		text_printf(ret, "%s: %s: ", who, descriptor->variable);
		if (descriptor->state == DESCRIPTOR_CONFLICT)
			text_puts(ret, "conflict: ");
		else if (descriptor->column)
			text_printf(ret, "column %zu: ", descriptor->column);
		text_printf(ret, "%s\n", descriptor->reason);
	}
	if (count > FAULTS_TOLD)
		text_printf(ret, "and %zu more (`dragoman status` shows them)\n",
			    count - FAULTS_TOLD);
}

/* Whether it is one of the lines of text, which may be NULL. */
static bool has_line(const char *text, const char *line, size_t length)
{
	while (text && *text) {
		size_t other = strcspn(text, "\n");

		if (other == length && memcmp(text, line, length) == 0)
			return true;
		text += other + (text[other] ? 1 : 0);
	}
	return false;
}

/* Each said once: not at each resync, nor when another member comes or goes. */
static void report_faults(struct target *target)
{
	struct text faults = {0};

	text_puts(&faults, "");
	describe_faults(&target->descriptors, &faults);
	if (faults.failed || (target->reported && strcmp(target->reported, faults.data) == 0)) {
		text_done(&faults);
		return;
	}
	for (const char *line = faults.data; *line;) {
		size_t length = strcspn(line, "\n");

		if (!has_line(target->reported, line, length))
			log_error("%.*s", (int)length, line);
		line += length + 1;
	}
	free(target->reported);
	target->reported = faults.data;
}

int target_settle(struct target *target, struct error *error)
{
	struct agent *agent = target->agent;
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena, .root = agent->options.root};
	struct backend *backends = NULL, *old = target->backends, **dirty = NULL;
	size_t count = 0, old_count = target->backend_count;
	int r = arena ? collect_descriptors(target, &set, error) : error_no_memory(error);

	if (r < 0)
		return r;
	dirty = arena_array(arena, set.count, sizeof(struct backend *));
	if (!dirty || collect_backends(target, arena, &set, &backends, &count) < 0)
		return error_no_memory(error);
	drop_backends(agent, old, old_count);
	arena_free(target->arena);
	target->arena = TAKE(arena);
	target->descriptors = set;
	target->backends = backends;
	target->backend_count = count;
	target->dirty = dirty;
	/* What was marked is forgotten: the whole has to be looked at now. */
	target->dirty_count = 0;
	target->whole = true;
	report_faults(target);
	return 0;
}

static struct target *target_find(const struct agent *agent, const struct netns *netns)
{
	struct target *target;

	LIST_FOREACH (target, &agent->targets, entry) {
		if (target->device == netns->device && target->inode == netns->inode)
			return target;
	}
	return NULL;
}

int target_join(struct agent *agent, const struct netns *netns, struct member *member,
		struct error *error)
{
	struct target *target = target_find(agent, netns);
	int r;

	if (!target)
		target = target_new(agent, netns, error);
	if (!target)
		return error->code;
	TAILQ_INSERT_TAIL(&target->members, member, of_target);
	member->target = target;
	r = target_settle(target, error);
	if (r < 0) {
		target_leave(member);
		return r;
	}
	reconciler_mark(target, 0);
	return 0;
}

void target_leave(struct member *member)
{
	struct target *target = member->target;
	struct error error;

	TAILQ_REMOVE(&target->members, member, of_target);
	member->target = NULL;
	if (TAILQ_EMPTY(&target->members)) {
		target_free(target);
		return;
	}
	/* Where that fails, what was asked for stays until the next change. */
	if (target_settle(target, &error) < 0)
		log_error("%s", error.message);
	reconciler_mark(target, 0);
}

/* A container's environment never changes; what is given by hand may be a file. */
static bool has_source(const struct target *target)
{
	const struct member *member;

	TAILQ_FOREACH (member, &target->members, of_target) {
		if (member->source)
			return true;
	}
	return false;
}

void target_resync(struct target *target)
{
	struct error error;

	if (has_source(target) && target_settle(target, &error) < 0) {
		log_error("%s; what was read before stays", error.message);
		metrics_error(target->agent, &error);
	}
	reconciler_mark_stale(target);
}

struct backend *target_backend(const struct target *target, const struct listen *listen)
{
	size_t low = 0, high = target->backend_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct backend *backend = &target->backends[middle];
		int order = listen_compare(listen, &backend->descriptor->listen);

		if (order == 0)
			return backend;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

bool target_is_meddled_with(const struct target *target)
{
	return target->drifted || target->overtaken || target->disturbed;
}

bool target_is_able(const struct target *target)
{
	const struct member *member;

	TAILQ_FOREACH (member, &target->members, of_target) {
		if (member->is_able)
			return true;
	}
	return false;
}

bool target_is_shared(const struct target *target)
{
	return target_is_able(target) ||
	       (target->suspect && loop_now(target->agent->loop) < target->suspect);
}

const char *target_label(const struct target *target)
{
	const struct member *member = TAILQ_FIRST(&target->members);

	return member ? member->name : "?";
}

bool target_is_pending(const struct target *target)
{
	for (size_t i = 0; i < target->backend_count; i++) {
		const struct subscription *subscription = target->backends[i].subscription;

		if (!subscription->known && !subscription->failed)
			return true;
	}
	return false;
}
