/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a key where nothing stands is most often one that is
 * spelt wrong, or one that was put through etcd's other API, whose keys are in
 * a tree of their own. So the other API is asked for it, then the keys beside it
 * are listed, and those above where there are none: each a bounded request, in a
 * bounded part of the time. Whatever goes wrong on the way is no error of the
 * command, which has its answer already: there is no hint then.
 */
#include "hint.h"

#include <string.h>

#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/registry.h"
#include "suggest.h"

enum { LISTED_MAX = 5000, NAMES_SHOWN = 6, TIME_DIVISOR = 3, LEVELS = 4 };
static const uint64_t time_most = UINT64_C(1000000000);

struct asking {
	struct arena *arena;
	const struct options *options;
	const struct deadline *deadline;
};

/* As much as one question may take. */
static struct deadline patience(const struct asking *asking)
{
	uint64_t left = deadline_left(asking->deadline) / TIME_DIVISOR;

	return deadline_start(left < time_most ? left : time_most);
}

/* --- The other API of etcd -------------------------------------------------------- */

/* The same hosts by the other API, or NULL: "etcd2://h:2379" of "etcd://h:2379". */
static const char *other_url(const struct asking *asking, const char **ret_name)
{
	static const struct {
		const char *scheme, *other, *name;
	} schemes[] = {
		{"etcd://", "etcd2://", "etcd v2"},
		{"etcds://", "etcd2s://", "etcd v2"},
		{"etcd2://", "etcd://", "etcd v3"},
		{"etcd2s://", "etcds://", "etcd v3"},
	};
	const char *url = asking->options->registry;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t length = strlen(schemes[i].scheme);

		if (strncmp(url, schemes[i].scheme, length) != 0)
			continue;
		*ret_name = schemes[i].name;
		return arena_printf(asking->arena, "%s%s", schemes[i].other, url + length);
	}
	return NULL;
}

static const char *ask_other_api(const struct asking *asking, const struct wanted *wanted)
{
	struct descriptor descriptor = *wanted->descriptor, *items[] = {&descriptor};
	const struct descriptor_set set = {.arena = asking->arena, .items = items, .count = 1};
	const struct deadline deadline = patience(asking);
	struct options options = *asking->options;
	const char *name = NULL;
	struct error ignored = {0};
	struct lookup lookup;
	size_t count;

	options.registry = other_url(asking, &name);
	if (!options.registry ||
	    lookup_run(asking->arena, &options, &deadline, &set, &lookup, &ignored) < 0 ||
	    lookup.failed)
		return NULL;
	count = lookup.wanted[0].selection.endpoint_count +
		lookup.wanted[0].selection.skipped_count;
	if (count == 0)
		return NULL;
	return arena_printf(asking->arena,
			    "but %s has %zu document%s there, which is another store of the same "
			    "server: --registry %s",
			    name, count, count == 1 ? "" : "s", options.registry);
}

/* --- What stands beside it -------------------------------------------------------- */

/* The names right below a key. */
struct names {
	const struct asking *asking;
	const char *above; /* "/services", or "": the top */
	struct loop *loop;
	struct registry_read *read; /* NULL: it has ended */
	char **items;
	size_t count;
	bool is_whole;
};

static bool is_repeated(const struct names *names, const char *name, size_t length)
{
	const char *last = names->count ? names->items[names->count - 1] : NULL;

	/* Keys come in order, so the documents of a service follow each other. */
	return last && strlen(last) == length && memcmp(last, name, length) == 0;
}

static void add_name(struct names *names, const char *key)
{
	size_t border = strlen(names->above), length;

	if (strncmp(key, names->above, border) != 0 || key[border] != '/')
		return;
	key += border + 1;
	length = strcspn(key, "/");
	if (length == 0 || names->count == LISTED_MAX || is_repeated(names, key, length))
		return;
	names->items[names->count] = arena_text(names->asking->arena, key, length);
	names->count += names->items[names->count] != NULL;
}

static void on_answer(size_t index, const struct registry_answer *answer, void *user)
{
	struct names *names = user;

	(void)index;
	names->is_whole = !answer->error;
	for (size_t i = 0; !answer->error && i < answer->count; i++)
		add_name(names, answer->documents[i].key);
}

static void on_done(const struct error *unreachable, void *user)
{
	struct names *names = user;

	(void)unreachable;
	names->read = NULL;
	loop_stop(names->loop);
}

static void on_deadline(struct loop_source *source, void *user)
{
	struct names *names = user;

	(void)source;
	registry_read_cancel(TAKE(names->read));
	loop_stop(names->loop);
}

static bool run(struct names *names, const struct deadline *deadline)
{
	const struct registry_options options = options_registry(names->asking->options,
								 deadline_left(deadline) + 1);
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(registry_freep) struct registry *registry = NULL;
	struct loop_source *timer = NULL;
	struct error ignored = {0};
	bool ran;

	if (loop_new(&loop) < 0 || registry_open(loop, &options, &registry, &ignored) < 0)
		return false;
	names->loop = loop;
	if (registry_list_start(registry, names->above, LISTED_MAX, on_answer, on_done, names,
				&names->read, &ignored) < 0)
		return false;
	ran = loop_add_timer(loop, "deadline", loop_now(loop) + deadline_left(deadline),
			     on_deadline, names, &timer) == 0 &&
	      loop_run(loop) == 0;
	registry_read_cancel(names->read);
	loop_source_free(timer);
	return ran && names->is_whole;
}

/* Returns whether the registry has said what stands below `above`. */
static bool list(const struct asking *asking, const char *above, struct names *ret)
{
	const struct deadline deadline = patience(asking);

	*ret = (struct names){.asking = asking, .above = above};
	ret->items = arena_array(asking->arena, LISTED_MAX, sizeof(*ret->items));
	return ret->items && deadline_left(&deadline) && run(ret, &deadline);
}

static const char *quote(struct arena *arena, const char *text)
{
	const char *quoted = arena_printable(arena, text, strlen(text));

	return quoted ? quoted : "?";
}

/* "did you mean ...?", or what else there is. name is a segment, and rest what follows it. */
static const char *choose(const struct asking *asking, const struct names *names, const char *name,
			  const char *rest)
{
	struct suggestion suggestion = {0};
	CLEANUP(text_done) struct text text = {0};

	for (size_t i = 0; i < names->count; i++)
		suggestion_offer(&suggestion, name, strlen(name), names->items[i]);
	if (suggestion.best)
		return arena_printf(asking->arena, "did you mean %s/%s%s?", names->above,
				    quote(asking->arena, suggestion.best), rest);
	text_printf(&text, "below %s there %s ", *names->above ? names->above : "/",
		    names->count == 1 ? "is only" : "are");
	for (size_t i = 0; i < names->count && i < NAMES_SHOWN; i++)
		text_printf(&text, "%s%s", i ? ", " : "", quote(asking->arena, names->items[i]));
	text_puts(&text, names->count > NAMES_SHOWN ? ", ..." : "");
	return text.failed ? NULL : arena_text(asking->arena, text.data, text.length);
}

/* The key's own level first; where nothing is there at all, the one above it. */
static const char *look_beside(const struct asking *asking, const char *key)
{
	char *above = arena_text(asking->arena, key, strlen(key)), *slash;

	for (unsigned level = 0; above && level < LEVELS; level++) {
		struct names names;

		slash = strrchr(above, '/');
		if (!slash)
			return NULL;
		*slash = '\0';
		if (!list(asking, above, &names))
			return NULL;
		if (names.count)
			return choose(asking, &names, slash + 1,
				      key + strlen(above) + 1 + strlen(slash + 1));
		if (!*above)
			return "and nothing else either: the registry is empty";
	}
	return NULL;
}

const char *lookup_hint(struct arena *arena, const struct options *options,
			const struct deadline *deadline, const struct wanted *wanted)
{
	const struct asking asking = {arena, options, deadline};
	const char *hint;

	if (wanted->failure || wanted->selection.endpoint_count || wanted->selection.skipped_count)
		return NULL;
	hint = ask_other_api(&asking, wanted);
	return hint ? hint : look_beside(&asking, wanted->key);
}
