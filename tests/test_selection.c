/* SPDX-License-Identifier: MIT */
/* Why a service has no endpoint: a table of documents, and what is said of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/model/document.h"

enum { DOCUMENTS_MAX = 12 };

#define WITH(members) "{\"ipaddress\":\"10.0.0.1\",\"host_port\":80," members "}"
#define TAGGED(tags) WITH("\"tags\":[" tags "]")

static const char nothing[] = "the registry holds nothing there";

static const struct {
	const char *descriptor;
	const char *documents[DOCUMENTS_MAX]; /* of keys /s/0, /s/1... */
	const char *expected;                 /* NULL: it takes connections */
} cases[] = {
	{"s;1", {NULL}, nothing},
	{"s[prod];1", {NULL}, nothing},
	{"s;1", {"10.0.0.1:80"}, NULL},
	{"s;1", {"10.0.0.1:80", "nonsense"}, NULL},
	{"s;1", {WITH("\"weight\":0")}, "the weight of all endpoints is 0: no new connections"},
	{"s;1", {WITH("\"weight\":0"), "10.0.0.2:80"}, NULL},
	{"s[prod];1",
	 {TAGGED("")},
	 "the one document does not carry the tag prod; there are no tags at all"},
	{"s[prod];1",
	 {TAGGED("\"test\"")},
	 "the one document does not carry the tag prod; the tags there are: test"},
	{"s[prod,stats];1",
	 {TAGGED("\"prod\",\"test\""), TAGGED("\"stats\""), TAGGED("")},
	 "none of the 3 documents carries all the tags prod, stats; the tags there are: prod, "
	 "stats, test"},
	{"s[\\x1b];1",
	 {TAGGED("\"\\u001b[2J\"")},
	 "the one document does not carry the tag \\\\x1b; the tags there are: \\x1b[2J"},
	{"s[z];1",
	 {TAGGED("\"a\",\"b\",\"c\",\"d\",\"e\""), TAGGED("\"f\",\"g\",\"h\",\"i\"")},
	 "none of the 2 documents carries the tag z; the tags there are: a, b, c, d, e, f, g, h, "
	 "..."},
	{"s;1",
	 {"127.0.0.1:80"},
	 "the one document was skipped, /s/0: loopback address (see --allow-endpoints)"},
	{"s[prod];1",
	 {TAGGED("\"test\""), "nonsense"},
	 "all 2 documents were skipped, the first one /s/0: lacks tag prod"},
};

static void select_from(struct arena *arena, size_t index, struct descriptor *descriptor,
			struct selection *ret)
{
	const char *text = cases[index].descriptor;
	const struct admission admission = {0};
	struct document documents[DOCUMENTS_MAX];
	size_t count = 0;

	assert_int_equal(descriptor_parse(arena, text, strlen(text), false, descriptor), 0);
	assert_int_equal(descriptor->state, DESCRIPTOR_USED);
	for (; cases[index].documents[count]; count++)
		documents[count] = (struct document){
			.key = arena_printf(arena, "/s/%zu", count),
			.value = cases[index].documents[count],
			.length = strlen(cases[index].documents[count]),
		};
	assert_int_equal(documents_select(arena, documents, count, &descriptor->tags,
					  descriptor->listen.protocol, &admission, ret),
			 0);
}

static void test_selection_without_endpoints_says_why(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct descriptor descriptor = {0};
		struct selection selection;
		const char *found;

		select_from(arena, i, &descriptor, &selection);
		found = selection_lack(arena, &selection, &descriptor.tags);
		if (!cases[i].expected) {
			assert_null(found);
			continue;
		}
		assert_non_null(found);
		assert_string_equal(found, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selection_without_endpoints_says_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
