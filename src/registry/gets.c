/* SPDX-License-Identifier: MIT */
#include "gets.h"

#include <stdlib.h>

/*
 * Theory of operation
 *
 * One GET a service, a few under way at a time, in the order of the keys. When
 * one comes back the next goes out. Once no host is left to ask, the rest fail
 * without being asked for.
 */

enum { GETS_UNDER_WAY = 8 };

struct gets {
	struct registry_read *read;
	const struct gets_kind *kind;
	struct get *items; /* one a service */
	size_t next;       /* the first that was not started */
	size_t under_way;
};

static void gets_pump(struct gets *gets);

struct registry_read *get_read(const struct get *get)
{
	return get->gets->read;
}

const char *get_key(const struct get *get)
{
	return get->gets->read->keys[get->index];
}

enum verdict_of_answer get_answer(struct get *get, struct document_list *list,
				  const struct registry_position *position, struct error *error)
{
	if (read_is_foreign(get->gets->read, position, error))
		return ANSWER_NEXT_HOST;
	read_answer(get->gets->read, get->index, list, position);
	return ANSWER_ACCEPTED;
}

enum verdict_of_answer get_fail(struct get *get, const struct error *error)
{
	read_fail(get->gets->read, get->index, error);
	return ANSWER_ACCEPTED;
}

static void get_end(struct get *get)
{
	get->gets->under_way--;
	gets_pump(get->gets);
}

static enum verdict_of_answer get_on_answer(const struct exchange_answer *answer,
					    struct error *error, void *user)
{
	struct get *get = user;
	enum verdict_of_answer verdict;

	if (error->code)
		verdict = exchange_verdict(error);
	else
		verdict = get->gets->kind->judge(get, answer, error);
	if (verdict == ANSWER_ACCEPTED)
		get_end(get);
	return verdict;
}

static void get_start(struct get *get);

static void get_on_failed(const struct error *error, void *user)
{
	struct get *get = user;

	if (!get->takes_foreign && read_takes_foreign(get->gets->read)) {
		get->takes_foreign = true;
		get_start(get);
	} else {
		(void)get_fail(get, error);
	}
	get_end(get);
}

static void get_start(struct get *get)
{
	struct registry_read *read = get->gets->read;
	CLEANUP(text_done) struct text path = {0};
	struct exchange_call call = {.answer_max = TREE_BYTES_MAX,
				     .on_answer = get_on_answer,
				     .on_failed = get_on_failed,
				     .user = get};
	struct error error;
	int code;

	get->gets->kind->encode(get, &path);
	call.path = path.data;
	if (path.failed)
		code = error_no_memory(&error);
	else
		code = exchange_start(&read->group, &call, &error);
	if (code < 0)
		read_fail(read, get->index, &error);
	else
		get->gets->under_way++;
}

static void gets_pump(struct gets *gets)
{
	struct registry_read *read = gets->read;
	struct error error;

	while (gets->under_way < GETS_UNDER_WAY && gets->next < read->count) {
		struct get *get = &gets->items[gets->next++];

		if (!exchange_group_is_down(&read->group)) {
			get_start(get);
			continue;
		}
		exchange_group_error(&read->group, &error);
		read_fail(read, get->index, &error);
	}
}

void gets_end(struct registry_read *read)
{
	struct gets *gets = read->state;

	if (!gets)
		return;
	exchange_group_done(&read->group);
	free(gets->items);
	free(gets);
	read->state = NULL;
}

int gets_start(struct registry_read *read, const struct gets_kind *kind, struct error *error)
{
	struct gets *gets = calloc(1, sizeof(*gets));

	if (!gets)
		return error_no_memory(error);
	read->state = gets;
	gets->read = read;
	gets->kind = kind;
	gets->items = calloc(read->count + 1, sizeof(*gets->items));
	if (exchange_group_init(&read->group, &read->registry->hosts) < 0 || !gets->items)
		return error_no_memory(error);
	for (size_t i = 0; i < read->count; i++)
		gets->items[i] = (struct get){.gets = gets, .index = i};
	gets_pump(gets);
	return 0;
}
