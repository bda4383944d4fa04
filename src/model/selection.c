/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: what people ask first of a service without endpoints is
 * why. A spelling mistake in the key leaves nothing, one in a tag leaves
 * documents that all lack it; what they have instead often says which.
 */
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"

/* Those of a descriptor: as somebody wrote them. */
static void add_wanted(struct text *text, const struct tags *tags)
{
	for (size_t i = 0; i < tags->count; i++) {
		text_puts(text, i ? ", " : "");
		text_add_printable(text, tags->names[i], strlen(tags->names[i]));
	}
}

static void add_present(struct text *text, const struct selection *selection)
{
	if (selection->present.count == 0) {
		text_puts(text, "; there are no tags at all");
		return;
	}
	text_puts(text, "; the tags there are: ");
	for (size_t i = 0; i < selection->present.count; i++)
		text_printf(text, "%s%s", i ? ", " : "", selection->present.names[i]);
	text_puts(text, selection->has_more_tags ? ", ..." : "");
}

static bool all_lack_a_tag(const struct selection *selection)
{
	for (size_t i = 0; i < selection->skipped_count; i++) {
		if (!selection->skipped[i].lacks_tag)
			return false;
	}
	return true;
}

static void add_documents(struct text *text, size_t count, const char *one, const char *more)
{
	if (count == 1)
		text_puts(text, one);
	else
		text_printf(text, "%s %zu documents", more, count);
}

static void add_lack_of_tags(struct text *text, const struct selection *selection,
			     const struct tags *tags)
{
	add_documents(text, selection->skipped_count, "the one document", "none of the");
	text_puts(text, selection->skipped_count == 1 ? " does not carry " : " carries ");
	text_puts(text, tags->count == 1 ? "the tag " : "all the tags ");
	add_wanted(text, tags);
	add_present(text, selection);
}

static void add_skipped(struct text *text, const struct selection *selection)
{
	char key[SHOWN_KEY_MAX];
	const struct skipped *first = &selection->skipped[0];

	add_documents(text, selection->skipped_count, "the one document was skipped,", "all");
	text_puts(text, selection->skipped_count == 1 ? " " : " were skipped, the first one ");
	text_printf(text, "%s: %s", text_format(key, sizeof(key), "%s", first->key), first->reason);
}

static bool takes_connections(const struct selection *selection)
{
	for (size_t i = 0; i < selection->endpoint_count; i++) {
		if (selection->endpoints[i].weight)
			return true;
	}
	return false;
}

char *selection_lack(struct arena *arena, const struct selection *selection,
		     const struct tags *tags)
{
	CLEANUP(text_done) struct text text = {0};

	if (takes_connections(selection))
		return NULL;
	if (selection->endpoint_count)
		text_puts(&text, "the weight of all endpoints is 0: no new connections");
	else if (selection->skipped_count == 0)
		text_puts(&text, "the registry holds nothing there");
	else if (all_lack_a_tag(selection))
		add_lack_of_tags(&text, selection, tags);
	else
		add_skipped(&text, selection);
	return text.failed ? NULL : arena_text(arena, text.data, text.length);
}
