/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Documents are read into leaves first, in the order of their keys, and every
 * decision is taken in that order, so the result does not depend on the one in
 * which a registry happened to send them. A service that is known for longer
 * has its leaves at hand, and begins here; it also has them in the order of
 * their endpoints, so that who plans rules walks over them once.
 *
 * Each leaf has an outcome: an endpoint, or the reason why it is none. Checks
 * that look at one leaf come first (its form, tags, admission), then those
 * that look at several: repeated endpoints, found by sorting, and the limit.
 * The outcomes are told apart at the end, when it is known how many there are
 * of either kind.
 *
 * Outcomes are scratch and freed here; the arena gets what is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "leaf.h"
#include "reading.h"

struct outcome {
	const struct leaf *leaf;
	const char *reason; /* NULL: the leaf is an endpoint */
	bool is_unusable, lacks_tag;
};

/* Makes tags printable, as those of a leaf are. */
static int printable_tags(struct arena *arena, const struct tags *tags, struct tags *ret)
{
	ret->names = arena_array(arena, tags->count, sizeof(*tags->names));
	if (!ret->names)
		return -ENOMEM;
	for (size_t i = 0; i < tags->count; i++) {
		ret->names[i] = arena_printable(arena, tags->names[i], strlen(tags->names[i]));
		if (!ret->names[i])
			return -ENOMEM;
	}
	ret->count = tags->count;
	tags_settle(ret);
	return 0;
}

/* By endpoint, then in the order of the keys: outcomes lie in one array. */
static int compare_endpoints(const void *a, const void *b)
{
	const struct outcome *left = *(struct outcome *const *)a;
	const struct outcome *right = *(struct outcome *const *)b;
	int order = endpoint_compare(&left->leaf->endpoint, &right->leaf->endpoint);

	return order ? order : (left > right) - (left < right);
}

/* Both are in byte order, so one walk finds all. */
static const char *missing_tag(const struct tags *wanted, const struct leaf *leaf)
{
	const char *tag = leaf_tags(leaf);
	unsigned left = leaf->tag_count;

	for (size_t i = 0; i < wanted->count; i++) {
		int order = 1;

		for (; left > 0; left--, tag += strlen(tag) + 1) {
			order = strcmp(tag, wanted->names[i]);
			if (order >= 0)
				break;
		}
		if (left == 0 || order != 0)
			return wanted->names[i];
	}
	return NULL;
}

/* The key of a leaf, whole and printable. */
static char *full_key(const struct request *request, const struct leaf *leaf)
{
	CLEANUP(text_done) struct text key = {0};

	if (!request->prefix[0])
		return arena_printable(request->arena, leaf_key(leaf), strlen(leaf_key(leaf)));
	/* Joined before it is made printable: a character may lie on the border. */
	text_puts(&key, request->prefix);
	text_puts(&key, leaf_key(leaf));
	return key.failed ? NULL : arena_printable(request->arena, key.data, key.length);
}

/* Puts a reason into the outcome. Returns 0 or -ENOMEM. */
static int skip(const struct request *request, struct outcome *outcome, const char *what,
		const char *which)
{
	char reason[DOCUMENT_REASON_MAX];

	(void)text_format(reason, sizeof(reason), "%s%s", what, which);
	outcome->reason = arena_text(request->arena, reason, strlen(reason));
	return outcome->reason ? 0 : -ENOMEM;
}

static int judge(const struct request *request, struct outcome *outcome)
{
	const struct leaf *leaf = outcome->leaf;
	char reason[DOCUMENT_REASON_MAX];
	const char *tag;

	if (leaf->has_proto && proto_suits(leaf_proto(leaf), request->protocol, reason) < 0)
		return skip(request, outcome, reason, "");
	if (leaf->has_reason) {
		outcome->is_unusable = !leaf->is_failing;
		return skip(request, outcome, leaf_reason(leaf), "");
	}
	tag = missing_tag(request->tags, leaf);
	outcome->lacks_tag = tag;
	if (tag)
		return skip(request, outcome, "lacks tag ", tag);
	outcome->is_unusable = leaf->is_refused;
	if (leaf->is_refused)
		outcome->reason = admission_refuses(request->admission, &leaf->endpoint);
	return 0;
}

static int judge_all(const struct request *request, struct outcome *outcomes,
		     struct leaf *const *leaves, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r;

		outcomes[i] = (struct outcome){.leaf = leaves[i]};
		r = judge(request, &outcomes[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int skip_repeated(const struct request *request, struct outcome *outcomes, size_t count)
{
	CLEANUP(memory_free) struct outcome **sorted = NULL;
	size_t found = 0, capacity = 0;
	const char *key = NULL;

	if (array_reserve(&sorted, &capacity, 0, count, sizeof(struct outcome *)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (!outcomes[i].reason)
			sorted[found++] = &outcomes[i];
	}
	if (found == 0)
		return 0;
	sort_unless_sorted(sorted, found, sizeof(struct outcome *), compare_endpoints);
	for (size_t i = 1, first = 0; i < found; i++) {
		if (endpoint_compare(&sorted[first]->leaf->endpoint, &sorted[i]->leaf->endpoint)) {
			first = i;
			continue;
		}
		if (i == first + 1)
			key = full_key(request, sorted[first]->leaf);
		if (!key || skip(request, sorted[i], "same endpoint as ", key) < 0)
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
		outcomes[i].is_unusable = found == ENDPOINTS_MAX;
		if (outcomes[i].is_unusable)
			outcomes[i].reason = "more than 4096 endpoints";
		else
			found++;
	}
	return found;
}

/* The tags of a leaf, one copy for all of them. */
static int unpack_tags(struct arena *arena, const struct leaf *leaf, struct tags *ret)
{
	const char *packed = leaf_tags(leaf);
	char *tag;

	*ret = (struct tags){0};
	if (leaf->tag_count == 0)
		return 0;
	ret->names = arena_array(arena, leaf->tag_count, sizeof(*ret->names));
	tag = arena_text(arena, packed, (size_t)(leaf->text + leaf->length - packed));
	if (!ret->names || !tag)
		return -ENOMEM;
	for (; ret->count < leaf->tag_count; tag += strlen(tag) + 1)
		ret->names[ret->count++] = tag;
	return 0;
}

static int tell_apart(const struct request *request, const struct outcome *outcomes, size_t count,
		      struct selection *ret)
{
	for (size_t i = 0; i < count; i++) {
		const struct leaf *leaf = outcomes[i].leaf;
		const char *key = full_key(request, leaf);
		struct candidate *candidate;

		if (!key)
			return -ENOMEM;
		if (outcomes[i].reason) {
			ret->skipped[ret->skipped_count++] = (struct skipped){
				key, outcomes[i].reason, outcomes[i].is_unusable,
				outcomes[i].lacks_tag};
			continue;
		}
		candidate = &ret->endpoints[ret->endpoint_count++];
		*candidate = (struct candidate){
			.key = key, .endpoint = leaf->endpoint, .weight = leaf->weight};
		if (unpack_tags(request->arena, leaf, &candidate->tags) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Returns 0 or -ENOMEM. */
static int add_present(struct arena *arena, const char *tag, struct selection *ret)
{
	struct tags *present = &ret->present;

	if (tags_contain(present, tag))
		return 0;
	ret->has_more_tags = present->count == TAGS_SHOWN_MAX;
	if (ret->has_more_tags)
		return 0;
	present->names[present->count] = arena_text(arena, tag, strlen(tag));
	if (!present->names[present->count++])
		return -ENOMEM;
	tags_settle(present);
	return 0;
}

/* The tags of those that lack one, each once, as long as there is room for them. */
static int find_present(struct arena *arena, const struct outcome *outcomes, size_t count,
			struct selection *ret)
{
	ret->present.names = arena_array(arena, TAGS_SHOWN_MAX, sizeof(*ret->present.names));
	if (!ret->present.names)
		return -ENOMEM;
	for (size_t i = 0; i < count && !ret->has_more_tags; i++) {
		const struct leaf *leaf = outcomes[i].leaf;
		const char *tag = leaf_tags(leaf);

		for (unsigned n = 0; n < leaf->tag_count && outcomes[i].lacks_tag; n++) {
			if (add_present(arena, tag, ret) < 0)
				return -ENOMEM;
			tag += strlen(tag) + 1;
		}
	}
	return 0;
}

/* With the request's tags made printable. */
static int select_all(const struct request *request, struct outcome *outcomes,
		      struct leaf *const *leaves, size_t count, struct selection *ret)
{
	size_t found;
	int r = judge_all(request, outcomes, leaves, count);

	if (r == 0)
		r = skip_repeated(request, outcomes, count);
	if (r < 0)
		return r;
	found = skip_beyond_limit(outcomes, count);
	ret->endpoints = arena_array(request->arena, found, sizeof(*ret->endpoints));
	ret->skipped = arena_array(request->arena, count - found, sizeof(*ret->skipped));
	if (!ret->endpoints || !ret->skipped)
		return -ENOMEM;
	if (found == 0 && find_present(request->arena, outcomes, count, ret) < 0)
		return -ENOMEM;
	return tell_apart(request, outcomes, count, ret);
}

int leaves_select(const struct request *request, struct leaf *const *leaves, size_t count,
		  struct selection *ret)
{
	CLEANUP(memory_free) struct outcome *outcomes = NULL;
	struct request printable = *request;
	struct selection selection = {0};
	struct tags tags = {0};
	size_t capacity = 0;
	int r;

	*ret = selection;
	if (count == 0)
		return 0;
	printable.tags = &tags;
	r = array_reserve(&outcomes, &capacity, 0, count, sizeof(*outcomes));
	if (r == 0)
		r = printable_tags(request->arena, request->tags, &tags);
	if (r == 0)
		r = select_all(&printable, outcomes, leaves, count, &selection);
	if (r == 0)
		*ret = selection;
	return r;
}

/* Whether tags and protocol are those that are asked for. */
static bool is_asked_for(const struct request *request, const struct tags *tags,
			 const struct leaf *leaf)
{
	char reason[DOCUMENT_REASON_MAX];

	if (leaf->has_proto && proto_suits(leaf_proto(leaf), request->protocol, reason) < 0)
		return false;
	return tags->count == 0 || !missing_tag(tags, leaf);
}

int leaves_shares(const struct request *request, struct leaf *const *leaves, size_t count,
		  struct share **ret, size_t *ret_count)
{
	struct share *shares = arena_room(request->arena, count, sizeof(*shares));
	const struct leaf *last = NULL;
	size_t found = 0;
	struct tags tags;

	if (!shares || printable_tags(request->arena, request->tags, &tags) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct leaf *leaf = leaves[i];

		/* Of one endpoint the first key counts. */
		if (!is_asked_for(request, &tags, leaf) ||
		    (last && endpoint_compare(&last->endpoint, &leaf->endpoint) == 0))
			continue;
		if (found == ENDPOINTS_MAX)
			return -E2BIG;
		shares[found++] = (struct share){leaf->endpoint, leaf->weight};
		last = leaf;
	}
	*ret = shares;
	*ret_count = found;
	return 0;
}

size_t skipped_unusable(const struct skipped *skipped, size_t count,
			const struct skipped **ret_first)
{
	size_t unusable = 0;

	*ret_first = NULL;
	for (size_t i = 0; i < count; i++) {
		if (!skipped[i].is_unusable)
			continue;
		if (unusable++ == 0)
			*ret_first = &skipped[i];
	}
	return unusable;
}

int documents_select(struct arena *arena, const struct document *documents, size_t count,
		     const struct tags *tags, enum protocol protocol,
		     const struct admission *admission, struct selection *ret)
{
	const struct request request = {
		.arena = arena,
		.prefix = "",
		.tags = tags,
		.protocol = protocol,
		.admission = admission,
	};
	struct leaf **leaves;
	int r;

	*ret = (struct selection){0};
	r = leaves_new(documents, count, 0, admission, &leaves);
	if (r < 0)
		return r;
	r = leaves_select(&request, leaves, count, ret);
	leaves_free(leaves, count);
	return r;
}
