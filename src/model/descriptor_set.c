/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * All the descriptors of one namespace come together here, from as many
 * containers and sources as there are, and every port and protocol gets one
 * that stands for it.
 *
 * Settling has two steps. First, variables of one name and one origin, which
 * sorting has put next to each other: the first of them counts, and those that
 * ask for something else are out. What is left competes for ports: sorted by
 * port, and in the order of rank within one, the first of each port wins.
 * Sorting twice instead of searching keeps 10,000 descriptors cheap, and
 * nothing has to be allocated, so settling cannot fail. Every state that it
 * gives is derived anew each time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/descriptor.h"

enum {
	SHOWN_VARIABLE_MAX = 4 * DESCRIPTOR_VARIABLE_MAX + 1, /* every byte as \xNN */
	SHOWN_NAME_MAX = 64,
	SHORT_ID = 12, /* as Docker abbreviates them */
};

/* A piece of a block or a file; borrowed from there. */
struct slice {
	const char *data;
	size_t length;
};

/* One variable on its way into the set. */
struct variable {
	struct slice name; /* with the prefix */
	struct slice value;
	const char *wrong; /* what is wrong with the name, or NULL */
};

static int set_append(struct descriptor_set *set, struct descriptor *descriptor)
{
	if (set->count == set->capacity) {
		size_t capacity = set->capacity ? set->capacity * 2 : 16;
		struct descriptor **grown = arena_array(set->arena, capacity,
							sizeof(struct descriptor *));

		if (!grown)
			return -ENOMEM;
		if (set->count)
			memcpy(grown, set->items, set->count * sizeof(struct descriptor *));
		set->items = grown;
		set->capacity = capacity;
	}
	descriptor->order = set->count;
	set->items[set->count++] = descriptor;
	return 0;
}

static void check_name(struct descriptor *descriptor, const struct variable *variable)
{
	if (descriptor->state == DESCRIPTOR_IGNORED)
		return;
	if (variable->name.length > DESCRIPTOR_VARIABLE_MAX)
		(void)text_format(descriptor->reason, sizeof(descriptor->reason),
				  "name of %zu bytes, at most %d", variable->name.length,
				  DESCRIPTOR_VARIABLE_MAX);
	else if (variable->wrong)
		(void)text_format(descriptor->reason, sizeof(descriptor->reason), "%s",
				  variable->wrong);
	else
		return;
	descriptor->state = DESCRIPTOR_INVALID;
	descriptor->column = 0;
	descriptor->service = NULL;
	descriptor->tags = (struct tags){0};
	descriptor->listen = (struct listen){0};
}

static int set_add(struct descriptor_set *set, const struct origin *origin,
		   const struct variable *variable)
{
	struct descriptor *descriptor = arena_alloc(set->arena, sizeof(*descriptor));
	char shown[SHOWN_VARIABLE_MAX];
	int r;

	if (!descriptor)
		return -ENOMEM;
	(void)text_printable(shown, sizeof(shown), variable->name.data, variable->name.length);
	descriptor->origin = *origin;
	descriptor->variable = arena_text(set->arena, shown, strlen(shown));
	if (!descriptor->variable)
		return -ENOMEM;
	r = descriptor_parse(set->arena, variable->value.data, variable->value.length, !set->root,
			     descriptor);
	if (r < 0)
		return r;
	check_name(descriptor, variable);
	return set_append(set, descriptor);
}

int descriptor_set_add(struct descriptor_set *set, const struct origin *origin,
		       const char *variable, size_t variable_length, const char *value,
		       size_t value_length)
{
	const struct variable item = {
		.name = {variable, variable_length},
		.value = {value, value_length},
		.wrong = variable_length ? NULL : "the variable has no name",
	};

	return set_add(set, origin, &item);
}

static bool has_prefix(struct slice name, struct slice prefix)
{
	return name.length >= prefix.length && memcmp(name.data, prefix.data, prefix.length) == 0;
}

static const char *prefix_alone(struct slice name, struct slice prefix)
{
	return name.length == prefix.length ? "no name after the prefix" : NULL;
}

/* Takes the next slice, up to `end`, off the front of rest. Returns false when it is empty. */
static bool next_slice(struct slice *rest, char end, struct slice *ret)
{
	const char *border;

	if (rest->length == 0)
		return false;
	border = memchr(rest->data, end, rest->length);
	ret->data = rest->data;
	ret->length = border ? (size_t)(border - rest->data) : rest->length;
	rest->data += ret->length;
	rest->length -= ret->length;
	if (border) {
		rest->data++;
		rest->length--;
	}
	return true;
}

/* Returns whether there is a '='; name is all of the line where there is none. */
static bool split_assignment(struct slice line, struct slice *ret_name, struct slice *ret_value)
{
	const char *equals = memchr(line.data, '=', line.length);

	*ret_name = line;
	*ret_value = (struct slice){line.data + line.length, 0};
	if (!equals)
		return false;
	ret_name->length = (size_t)(equals - line.data);
	ret_value->data = equals + 1;
	ret_value->length = line.length - ret_name->length - 1;
	return true;
}

int descriptor_set_add_block(struct descriptor_set *set, const struct origin *origin,
			     const char *prefix, const char *block, size_t length)
{
	const struct slice wanted = {prefix, strlen(prefix)};
	struct slice rest = {block, length}, string;

	while (next_slice(&rest, '\0', &string)) {
		struct variable item = {0};
		int r;

		if (!split_assignment(string, &item.name, &item.value) ||
		    !has_prefix(item.name, wanted))
			continue;
		item.wrong = prefix_alone(item.name, wanted);
		r = set_add(set, origin, &item);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_space(char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* The next line that holds a variable: no comment, not blank. */
static bool next_line(struct slice *rest, struct slice *ret)
{
	while (next_slice(rest, '\n', ret)) {
		if (ret->length && ret->data[ret->length - 1] == '\r')
			ret->length--;
		while (ret->length && is_space(ret->data[0])) {
			ret->data++;
			ret->length--;
		}
		if (ret->length && ret->data[0] != '#')
			return true;
	}
	return false;
}

static struct slice without_byte_order_mark(struct slice file)
{
	if (file.length >= 3 && memcmp(file.data, "\xef\xbb\xbf", 3) == 0) {
		file.data += 3;
		file.length -= 3;
	}
	return file;
}

static bool file_has_prefix(struct slice file, struct slice prefix)
{
	struct slice line, name, value;

	while (next_line(&file, &line)) {
		(void)split_assignment(line, &name, &value);
		if (has_prefix(name, prefix))
			return true;
	}
	return false;
}

static const char *wrong_in_file(struct slice name, struct slice prefix)
{
	for (size_t i = 0; i < name.length; i++) {
		if (is_space(name.data[i]))
			return "a blank in the variable's name";
	}
	return prefix_alone(name, prefix);
}

/* Puts the prefix before the name. */
static int add_prefix(struct arena *arena, struct slice prefix, struct slice *name)
{
	char *whole = arena_alloc(arena, prefix.length + name->length + 1);

	if (!whole)
		return -ENOMEM;
	memcpy(whole, prefix.data, prefix.length);
	memcpy(whole + prefix.length, name->data, name->length);
	name->data = whole;
	name->length += prefix.length;
	return 0;
}

/* Returns 1 with the value, 0 where this process has no such variable, or -ENOMEM. */
static int value_from_environment(struct arena *arena, struct slice name, struct slice *ret)
{
	char *copy = arena_text(arena, name.data, name.length);
	const char *value;

	if (!copy)
		return -ENOMEM;
	if (strlen(copy) != name.length)
		return 0;
	value = getenv(copy);
	if (!value)
		return 0;
	*ret = (struct slice){value, strlen(value)};
	return 1;
}

static int add_line(struct descriptor_set *set, const struct origin *origin, struct slice prefix,
		    bool prefixed, struct slice line)
{
	struct variable item = {0};
	bool assigned = split_assignment(line, &item.name, &item.value);
	int r;

	if (prefixed && !has_prefix(item.name, prefix))
		return 0;
	if (!prefixed) {
		r = add_prefix(set->arena, prefix, &item.name);
		if (r < 0)
			return r;
	}
	if (!assigned) {
		r = value_from_environment(set->arena, item.name, &item.value);
		if (r <= 0)
			return r;
	}
	item.wrong = wrong_in_file(item.name, prefix);
	return set_add(set, origin, &item);
}

int descriptor_set_add_file(struct descriptor_set *set, const struct origin *origin,
			    const char *prefix, const char *data, size_t length)
{
	const struct slice wanted = {prefix, strlen(prefix)};
	struct slice rest = without_byte_order_mark((struct slice){data, length}), line;
	bool prefixed = file_has_prefix(rest, wanted);
	int r;

	while (next_line(&rest, &line)) {
		r = add_line(set, origin, wanted, prefixed, line);
		if (r < 0)
			return r;
	}
	return 0;
}

/* NULL is before everything. */
static int compare_texts(const char *a, const char *b)
{
	if (!a || !b)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int compare_origins(const struct origin *a, const struct origin *b)
{
	if (a->created != b->created)
		return a->created < b->created ? -1 : 1;
	return compare_texts(a->id, b->id);
}

/* Who is first. Total: no two have the same order of adding. */
static int compare_ranks(const void *a, const void *b)
{
	const struct descriptor *left = *(struct descriptor *const *)a;
	const struct descriptor *right = *(struct descriptor *const *)b;
	int order = compare_origins(&left->origin, &right->origin);

	if (order == 0)
		order = strcmp(left->variable, right->variable);
	if (order == 0)
		order = (left->order > right->order) - (left->order < right->order);
	return order;
}

static int compare_listens(const void *a, const void *b)
{
	const struct descriptor *left = *(struct descriptor *const *)a;
	const struct descriptor *right = *(struct descriptor *const *)b;
	int order = listen_compare(&left->listen, &right->listen);

	return order ? order : compare_ranks(a, b);
}

/* Whether path is the bare name below root. */
static bool is_below_root(const char *path, const char *name, const char *root)
{
	size_t length;

	if (!root)
		return false;
	length = strcmp(root, "/") == 0 ? 0 : strlen(root);
	return strncmp(path, root, length) == 0 && path[length] == '/' &&
	       strcmp(path + length + 1, name) == 0;
}

static bool services_equal(const char *a, const char *b, const char *root)
{
	if ((a[0] == '/') == (b[0] == '/'))
		return strcmp(a, b) == 0;
	return a[0] == '/' ? is_below_root(a, b, root) : is_below_root(b, a, root);
}

static bool ask_for_the_same(const struct descriptor *a, const struct descriptor *b,
			     const char *root)
{
	return listen_compare(&a->listen, &b->listen) == 0 && a->service && b->service &&
	       services_equal(a->service, b->service, root) && tags_equal(&a->tags, &b->tags);
}

static bool is_settled(const struct descriptor *descriptor)
{
	return descriptor->state == DESCRIPTOR_IGNORED || descriptor->state == DESCRIPTOR_INVALID;
}

/*
 * Puts everything that competes for a port to USED, and takes out what stands
 * twice. Items are in the order of rank. An equal repetition goes on: it will
 * meet the first again at its port.
 */
static void settle_repetitions(struct descriptor_set *set)
{
	struct descriptor *first = NULL;

	for (size_t i = 0; i < set->count; i++) {
		struct descriptor *item = set->items[i];
		bool again = first && compare_origins(&first->origin, &item->origin) == 0 &&
			     strcmp(first->variable, item->variable) == 0;

		if (!again)
			first = item;
		if (is_settled(item))
			continue;
		item->state = DESCRIPTOR_USED;
		item->reason[0] = '\0';
		if (!again || ask_for_the_same(first, item, set->root))
			continue;
		item->state = DESCRIPTOR_CONFLICT;
		(void)text_format(item->reason, sizeof(item->reason),
				  "stands twice: the first counts");
	}
}

static void lose_against(struct descriptor *loser, const struct descriptor *winner)
{
	const struct origin *origin = &winner->origin;
	const char *name = origin->name ? origin->name : origin->id;
	char shown[SHOWN_NAME_MAX];

	loser->state = DESCRIPTOR_CONFLICT;
	if (!name) {
		(void)text_format(loser->reason, sizeof(loser->reason), "port %u/%s is taken by %s",
				  (unsigned)winner->listen.port,
				  protocol_name(winner->listen.protocol), winner->variable);
		return;
	}
	(void)text_printable(shown, sizeof(shown), name,
			     origin->name ? strlen(name) : strnlen(name, SHORT_ID));
	(void)text_format(loser->reason, sizeof(loser->reason),
			  "port %u/%s is taken by %s (container %s)", (unsigned)winner->listen.port,
			  protocol_name(winner->listen.protocol), winner->variable, shown);
}

/* Items are in the order of their ports, and of rank within one. */
static void settle_ports(struct descriptor_set *set)
{
	struct descriptor *winner = NULL;

	for (size_t i = 0; i < set->count; i++) {
		struct descriptor *item = set->items[i];

		if (item->state != DESCRIPTOR_USED)
			continue;
		if (!winner || listen_compare(&winner->listen, &item->listen) != 0)
			winner = item;
		else if (ask_for_the_same(winner, item, set->root))
			item->state = DESCRIPTOR_MERGED;
		else
			lose_against(item, winner);
	}
}

void descriptor_set_settle(struct descriptor_set *set)
{
	if (set->count == 0)
		return;
	qsort(set->items, set->count, sizeof(struct descriptor *), compare_ranks);
	settle_repetitions(set);
	qsort(set->items, set->count, sizeof(struct descriptor *), compare_listens);
	settle_ports(set);
	qsort(set->items, set->count, sizeof(struct descriptor *), compare_ranks);
}
