/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Documents are put in the order of their keys first, and every decision is
 * taken in that order, so the result does not depend on the one in which a
 * registry happened to send them. Each document has an outcome: an endpoint,
 * or the reason why it is none. Checks that look at one document come first
 * (its form, tags, admission), then those that look at several: repeated
 * endpoints, found by sorting, and the limit. The outcomes are told apart at
 * the end, when it is known how many there are of either kind.
 *
 * Outcomes are scratch and freed here; the arena gets what is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"

struct outcome {
	const struct document *document;
	const char *reason; /* NULL: the candidate is an endpoint */
	struct candidate candidate;
};

/* What all documents are asked for. */
struct request {
	struct arena *arena;
	struct tags tags; /* printable, as those of a candidate are */
	enum protocol protocol;
	const struct admission *admission;
};

static int request_tags(struct request *request, const struct tags *tags)
{
	request->tags.names = arena_array(request->arena, tags->count, sizeof(*tags->names));
	if (!request->tags.names)
		return -ENOMEM;
	for (size_t i = 0; i < tags->count; i++) {
		request->tags.names[i] = arena_printable(request->arena, tags->names[i],
							 strlen(tags->names[i]));
		if (!request->tags.names[i])
			return -ENOMEM;
	}
	request->tags.count = tags->count;
	return 0;
}

/* The values decide between equal keys, which no registry has but a caller may. */
static int compare_documents(const void *a, const void *b)
{
	const struct document *left = ((const struct outcome *)a)->document;
	const struct document *right = ((const struct outcome *)b)->document;
	size_t shorter = left->length < right->length ? left->length : right->length;
	int order = strcmp(left->key, right->key);

	if (order == 0 && shorter)
		order = memcmp(left->value, right->value, shorter);
	if (order == 0)
		order = (left->length > right->length) - (left->length < right->length);
	return order;
}

/* By endpoint, then in the order of the keys: outcomes lie in one array. */
static int compare_endpoints(const void *a, const void *b)
{
	const struct outcome *left = *(struct outcome *const *)a;
	const struct outcome *right = *(struct outcome *const *)b;
	int order = endpoint_compare(&left->candidate.endpoint, &right->candidate.endpoint);

	return order ? order : (left > right) - (left < right);
}

static const char *missing_tag(const struct tags *wanted, const struct tags *found)
{
	for (size_t i = 0; i < wanted->count; i++) {
		if (!tags_contain(found, wanted->names[i]))
			return wanted->names[i];
	}
	return NULL;
}

/* Puts a reason into the outcome. Returns 0 or -ENOMEM. */
static int skip(struct arena *arena, struct outcome *outcome, const char *what, const char *which)
{
	char reason[DOCUMENT_REASON_MAX];

	(void)text_format(reason, sizeof(reason), "%s%s", what, which);
	outcome->reason = arena_text(arena, reason, strlen(reason));
	return outcome->reason ? 0 : -ENOMEM;
}

static int judge(const struct request *request, struct outcome *outcome)
{
	const struct document *document = outcome->document;
	char reason[DOCUMENT_REASON_MAX];
	const char *tag;
	int r;

	r = document_parse(request->arena, document->value, document->length, request->protocol,
			   &outcome->candidate, reason);
	if (r == -EINVAL)
		return skip(request->arena, outcome, reason, "");
	if (r < 0)
		return r;
	tag = missing_tag(&request->tags, &outcome->candidate.tags);
	if (tag)
		return skip(request->arena, outcome, "lacks tag ", tag);
	outcome->reason = admission_refuses(request->admission, &outcome->candidate.endpoint);
	return 0;
}

static int judge_all(const struct request *request, struct outcome *outcomes,
		     const struct document *documents, size_t count)
{
	for (size_t i = 0; i < count; i++)
		outcomes[i] = (struct outcome){.document = &documents[i]};
	qsort(outcomes, count, sizeof(*outcomes), compare_documents);
	for (size_t i = 0; i < count; i++) {
		int r = judge(request, &outcomes[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int skip_repeated(struct arena *arena, struct outcome *outcomes, size_t count)
{
	CLEANUP(memory_free) struct outcome **sorted = NULL;
	size_t found = 0, capacity = 0;
	struct outcome *first;

	if (array_reserve(&sorted, &capacity, 0, count, sizeof(struct outcome *)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (!outcomes[i].reason)
			sorted[found++] = &outcomes[i];
	}
	if (found == 0)
		return 0;
	qsort(sorted, found, sizeof(struct outcome *), compare_endpoints);
	first = sorted[0];
	for (size_t i = 1; i < found; i++) {
		char key[DOCUMENT_REASON_MAX];

		if (endpoint_compare(&first->candidate.endpoint, &sorted[i]->candidate.endpoint)) {
			first = sorted[i];
			continue;
		}
		(void)text_printable(key, sizeof(key), first->document->key,
				     strlen(first->document->key));
		if (skip(arena, sorted[i], "same endpoint as ", key) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Returns how many endpoints there are. */
static size_t skip_beyond_limit(struct outcome *outcomes, size_t count)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++) {
		if (outcomes[i].reason)
			continue;
		if (found == ENDPOINTS_MAX)
			outcomes[i].reason = "more than 4096 endpoints";
		else
			found++;
	}
	return found;
}

static int tell_apart(struct arena *arena, const struct outcome *outcomes, size_t count,
		      size_t found, struct selection *ret)
{
	ret->endpoints = arena_array(arena, found, sizeof(*ret->endpoints));
	ret->skipped = arena_array(arena, count - found, sizeof(*ret->skipped));
	if (!ret->endpoints || !ret->skipped)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct outcome *outcome = &outcomes[i];
		const char *raw = outcome->document->key;
		const char *key = arena_printable(arena, raw, strlen(raw));

		if (!key)
			return -ENOMEM;
		if (outcome->reason) {
			ret->skipped[ret->skipped_count++] = (struct skipped){key, outcome->reason};
			continue;
		}
		ret->endpoints[ret->endpoint_count] = outcome->candidate;
		ret->endpoints[ret->endpoint_count++].key = key;
	}
	return 0;
}

int documents_select(struct arena *arena, const struct document *documents, size_t count,
		     const struct tags *tags, enum protocol protocol,
		     const struct admission *admission, struct selection *ret)
{
	struct request request = {.arena = arena, .protocol = protocol, .admission = admission};
	CLEANUP(memory_free) struct outcome *outcomes = NULL;
	struct selection selection = {0};
	size_t found, capacity = 0;
	int r;

	*ret = selection;
	if (count == 0)
		return 0;
	r = array_reserve(&outcomes, &capacity, 0, count, sizeof(*outcomes));
	if (r == 0)
		r = request_tags(&request, tags);
	if (r == 0)
		r = judge_all(&request, outcomes, documents, count);
	if (r == 0)
		r = skip_repeated(arena, outcomes, count);
	if (r < 0)
		return r;
	found = skip_beyond_limit(outcomes, count);
	r = tell_apart(arena, outcomes, count, found, &selection);
	if (r == 0)
		*ret = selection;
	return r;
}
