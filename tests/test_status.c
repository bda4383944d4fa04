/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What a running agent says of itself, as a table, as changes and in a line, is
 * held against golden text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/status_text.h"
#include "dragoman/base/memory.h"

static const char full[] =
	"{\"version\": \"0.2.0\","
	" \"registry\": {\"url\": \"etcd://10.0.0.5:2379\", \"state\": \"connected\","
	"  \"revision\": 4711},"
	" \"docker\": {\"state\": \"connected\"},"
	" \"namespaces\": ["
	"  {\"netns\": 4026531840, \"containers\": [{\"id\": \"0123456789abcdef\", \"name\": "
	"\"adm\"}],"
	"   \"note\": \"host network: left alone\", \"backends\": []},"
	"  {\"netns\": 4026532281, \"containers\": [{\"id\": \"aa\", \"name\": \"web\"},"
	"    {\"id\": \"0123456789abcdef\", \"name\": null}], \"note\": null,"
	"   \"backends\": ["
	"    {\"variable\": \"BACKEND_URL\", \"listen\": null, \"service\": null, \"tags\": [],"
	"     \"state\": \"ignored\", \"reason\": \"no ';'\", \"endpoints\": []},"
	"    {\"variable\": \"BACKEND_REDIS\", \"listen\": \"127.0.0.1:6379/tcp\","
	"     \"service\": \"/services/redis.master\", \"tags\": [\"prod\", \"stats\"],"
	"     \"state\": \"ready\", \"reason\": null, \"endpoints\": ["
	"      {\"address\": \"10.0.0.2\", \"port\": 49161, \"weight\": 1, \"connections\": 17},"
	"      {\"address\": \"2001:db8::2\", \"port\": 80, \"weight\": 256, \"connections\": 1},"
	"      {\"address\": \"10.0.0.3\", \"port\": 49161, \"weight\": 0, \"connections\": null}"
	"]},"
	"    {\"variable\": \"BACKEND_X\", \"listen\": null, \"service\": null, \"tags\": [],"
	"     \"state\": \"invalid\", \"reason\": \"column 7: no port\", \"endpoints\": []},"
	"    {\"variable\": \"BACKEND_DNS\", \"listen\": \"127.0.0.1:53/udp\","
	"     \"service\": \"/services/dns\", \"tags\": [], \"state\": \"empty\","
	"     \"reason\": \"the registry holds nothing there\", \"endpoints\": []}]}]}";

static const char full_table[] =
	"dragoman 0.2.0\n"
	"registry etcd://10.0.0.5:2379: connected, revision 4711\n"
	"docker   connected\n"
	"2 namespaces, 4 backends, 2 problems\n"
	"\n"
	"web, 0123456789ab (namespace 4026532281)\n"
	"  invalid   -                   BACKEND_X\n"
	"             column 7: no port\n"
	"  empty     127.0.0.1:53/udp    /services/dns\n"
	"             BACKEND_DNS: the registry holds nothing there\n"
	"  ready     127.0.0.1:6379/tcp  /services/redis.master[prod,stats]\n"
	"             10.0.0.2:49161    weight 1    17 conns   94% ###############\n"
	"             [2001:db8::2]:80  weight 256   1 conn     6% #\n"
	"             10.0.0.3:49161    weight 0\n"
	"  ignored   -                   BACKEND_URL\n"
	"             no ';'\n"
	"\n"
	"adm (namespace 4026531840)\n"
	"  host network: left alone\n";

static const char full_wide[] =
	"dragoman 0.2.0\n"
	"registry etcd://10.0.0.5:2379: connected, revision 4711\n"
	"docker   connected\n"
	"2 namespaces, 4 backends, 2 problems\n"
	"\n"
	"web, 0123456789ab (namespace 4026532281)\n"
	"  invalid   -                   -                                   BACKEND_X      column "
	"7: no port\n"
	"  empty     127.0.0.1:53/udp    /services/dns                       BACKEND_DNS    the "
	"registry holds nothing there\n"
	"  ready     127.0.0.1:6379/tcp  /services/redis.master[prod,stats]  BACKEND_REDIS\n"
	"             10.0.0.2:49161    weight 1    17 connections   94% "
	"######################################\n"
	"             [2001:db8::2]:80  weight 256   1 connection     6% ##\n"
	"             10.0.0.3:49161    weight 0\n"
	"  ignored   -                   -                                   BACKEND_URL    no ';'\n"
	"\n"
	"adm (namespace 4026531840)\n"
	"  host network: left alone\n";

static const struct page narrow = {.width = 80}, wide = {.width = 200};

static void parse_status(const char *document, struct status_document *ret)
{
	struct error error = {0};

	*ret = (struct status_document){0};
	if (status_parse(document, strlen(document), ret, &error) < 0)
		fail_msg("%s", error.message);
}

static void print(struct text *text, const char *document, const struct page *page)
{
	CLEANUP(status_done) struct status_document status;

	parse_status(document, &status);
	status_print_text(text, &status, NULL, page);
	assert_false(text->failed);
}

static void assert_page(const char *document, const struct page *page, const char *expected)
{
	CLEANUP(text_done) struct text text = {0};

	print(&text, document, page);
	assert_string_equal(text.data, expected);
}

static void assert_table(const char *document, const char *expected)
{
	assert_page(document, &narrow, expected);
}

static void test_status_table_of_a_wide_page_has_more_on_a_line(void **state)
{
	(void)state;
	assert_page(full, &wide, full_wide);
}

static void test_status_table_has_problems_first(void **state)
{
	(void)state;
	assert_table(full, full_table);
}

static void test_status_table_without_namespaces_is_its_head(void **state)
{
	(void)state;
	assert_table("{\"version\": \"1\", \"registry\": {\"url\": \"file:///x\", \"state\": "
		     "\"lost\", \"revision\": null, \"reason\": \"no such file\"}, \"docker\": "
		     "{\"state\": null}, \"namespaces\": []}",
		     "dragoman 1\n"
		     "registry file:///x: lost: no such file\n"
		     "0 namespaces, 0 backends, 1 problem\n");
}

static void test_status_table_takes_what_is_missing_or_something_else(void **state)
{
	static const char none[] = "dragoman\n0 namespaces, 0 backends, 0 problems\n";

	(void)state;
	assert_table("{}", none);
	assert_table("{\"version\": null, \"registry\": null, \"docker\": null, "
		     "\"namespaces\": null}",
		     none);
	assert_table("{\"version\": [], \"registry\": \"x\", \"docker\": 7, \"namespaces\": {}}",
		     none);
	assert_table(
		"{\"registry\": {\"revision\": 7}, \"namespaces\": [null, "
		"{\"containers\": [null, {\"id\": \"ab\"}], \"note\": 7, \"backends\": "
		"[null, {\"state\": \"ready\"}, {\"state\": \"ready\", \"listen\": 5, "
		"\"service\": \"/a\", \"tags\": \"t\", \"endpoints\": [null, {\"port\": 1}]}]}]}",
		"dragoman\n"
		"registry revision 7\n"
		"2 namespaces, 3 backends, 1 problem\n"
		"\n"
		"?, ab\n"
		"  7\n"
		"            -\n"
		"  ready     -\n"
		"  ready     5  /a\n"
		"             :\n"
		"             :1\n"
		"\n"
		"namespace -\n");
}

static void test_status_table_shows_an_unknown_state_as_a_problem(void **state)
{
	(void)state;
	assert_table("{\"namespaces\": [{\"netns\": 1, \"backends\": [{\"state\": \"ready\", "
		     "\"service\": \"/a\"}, {\"state\": \"haunted-by-ghosts\", \"service\": "
		     "\"/b\"}]}]}",
		     "dragoman\n"
		     "1 namespace, 2 backends, 1 problem\n"
		     "\n"
		     "namespace 1\n"
		     "  haunted-by-ghosts -  /b\n"
		     "  ready     -  /a\n");
}

static void test_status_table_has_no_control_characters(void **state)
{
	static const char document[] =
		"{\"version\": \"\\u001b[2J\", \"registry\": {\"url\": \"\\u009b2J\\n\", \"state\": "
		"\"\\u0000\"}, \"docker\": {\"state\": \"\\r\"}, \"namespaces\": [{\"netns\": "
		"\"\\u0007\", \"note\": \"\\u0008\", \"containers\": [{\"name\": \"\\u001b]0;\"}, "
		"{\"id\": \"\\u007f\"}], \"backends\": [{\"variable\": \"\\u001b\", \"listen\": "
		"\"\\t\", \"service\": \"\\u001bc\", \"tags\": [\"\\u000c\"], \"state\": "
		"\"\\u001b[8m\", \"reason\": \"\\u0001\", \"endpoints\": [{\"address\": "
		"\"\\u001b\", \"port\": \"\\u001b\", \"weight\": \"\\u001b\"}]}]}]}";
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	print(&text, document, &narrow);
	print(&text, document, &wide);
	for (size_t i = 0; i < text.length; i++) {
		if (text.data[i] != '\n' && (text.data[i] < ' ' || text.data[i] > '~'))
			fail_msg("byte %zu: %.20s", i, text.data + i);
	}
	assert_non_null(strstr(text.data, "\\x1b[2J"));
	assert_non_null(strstr(text.data, "\\x00"));
}

/* Of the longest line, in characters. */
static size_t widest_line(const char *text)
{
	size_t width = 0, widest = 0;

	for (; *text; text++) {
		width += ((unsigned char)*text & 0xc0) != 0x80;
		if (*text == '\n')
			width = 0;
		widest = width > widest ? width : widest;
	}
	return widest;
}

static void test_status_table_breaks_what_is_wide_and_loses_nothing(void **state)
{
	CLEANUP(text_done) struct text document = {0}, text = {0};
	char name[2 * 140 + 1] = "";
	size_t found = 0;

	(void)state;
	/* Two bytes each: no half of one may be on a line. */
	for (size_t i = 0; i < 2 * 140; i += 2)
		memcpy(name + i, "\xc3\xa4", 2);
	text_printf(&document,
		    "{\"version\": \"%s\", \"registry\": {\"url\": \"%s\", \"state\": \"%s\"},"
		    " \"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"%s\"}],"
		    " \"note\": \"%s and more\", \"backends\": [{\"variable\": \"%s\", \"listen\": "
		    "\"%s\", \"service\": \"%s\", \"tags\": [\"%s\"], \"state\": \"%s\","
		    " \"reason\": \"a word, %s, a word\", \"endpoints\": [{\"address\": \"%s\","
		    " \"port\": \"%s\"}]}]}]}",
		    name, name, name, name, name, name, name, name, name, name, name, name, name);
	print(&text, document.data, &narrow);
	assert_int_equal(widest_line(text.data), 80);
	assert_true(text_is_utf8(text.data, text.length));
	assert_null(strstr(text.data, "\n\n\n"));
	for (size_t i = 0; i + 1 < text.length; i++)
		found += memcmp(text.data + i, "\xc3\xa4", 2) == 0;
	assert_int_equal(found, 13 * 140);
}

static void test_status_table_in_colour_is_the_same_between_escapes(void **state)
{
	CLEANUP(text_done) struct text text = {0}, plain = {0};

	(void)state;
	print(&text, full, &(struct page){.width = 80, .colour = true});
	assert_non_null(strstr(text.data, "  \033[31minvalid\033[0m   -  "));
	assert_non_null(strstr(text.data, "\n\033[1mweb, "));
	for (const char *c = text.data; *c; c++) {
		if (*c == '\033')
			c += strcspn(c, "m");
		else
			text_add(&plain, c, 1);
	}
	assert_string_equal(plain.data, full_table);
}

static void test_status_table_of_no_object_is_refused(void **state)
{
	static const char *const documents[] = {"", "[]", "7", "{", "null", "<html>", "{} {}"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		struct status_document status = {0};
		struct error error = {0};

		assert_int_equal(status_parse(documents[i], strlen(documents[i]), &status, &error),
				 -EINVAL);
		assert_int_equal(error.class, ERROR_INVALID);
		assert_string_equal(error.message, "this is no JSON object");
		assert_null(status.root);
	}
}

/* Of four columns, since the two are of double width; and one that has none. */
static void test_status_table_measures_in_columns(void **state)
{
	static const char document[] =
		"{\"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"a\"}], \"backends\": ["
		"{\"state\": \"ready\", \"listen\": \"1/tcp\", \"service\": \"/s\", \"endpoints\": ["
		"{\"address\": \"\u4e2d\u6587\", \"port\": 1, \"weight\": 1},"
		"{\"address\": \"e\u0301\", \"port\": 1, \"weight\": 1},"
		"{\"address\": \"wide\", \"port\": 1, \"weight\": 1}]}]}]}";

	(void)state;
	assert_table(document, "dragoman\n"
			       "1 namespace, 1 backend, 0 problems\n"
			       "\n"
			       "a (namespace 1)\n"
			       "  ready     1/tcp  /s\n"
			       "             \u4e2d\u6587:1  weight 1\n"
			       "             e\u0301:1     weight 1\n"
			       "             wide:1  weight 1\n");
}

static void test_page_lines_are_broken_where_they_are_wide_and_nowhere_else(void **state)
{
	CLEANUP(text_done) struct text lines = {0}, text = {0}, none = {0}, out = {0};

	(void)state;
	text_puts(&lines, "short\n\nten  and more  words than forty columns can hold\nlast");
	page_lines(&(struct page){.width = 40}, &text, 4, &lines);
	assert_string_equal(text.data, "short\n\nten  and more  words than forty columns\n"
				       "    can hold\nlast\n");
	page_lines(&narrow, &out, 4, &none);
	assert_int_equal(out.length, 0);
}

static void test_status_table_puts_what_is_broken_first_and_then_goes_by_name(void **state)
{
	static const char document[] =
		"{\"version\": \"1\", \"ready\": false, \"commits\": 12, \"event_to_commit\": {\"last\": 0.0004, \"p50\": "
		"0.0005, \"p99\": 0.002}, \"namespaces\": ["
		"{\"netns\": 3, \"state\": \"kept\", \"containers\": [{\"name\": \"c\"}], \"backends\": "
		"[{\"state\": \"ready\", \"service\": \"/s\"}]},"
		"{\"netns\": null, \"state\": \"left alone\", \"note\": \"why\", \"containers\": "
		"[{\"name\": \"a\"}], \"backends\": []},"
		"{\"netns\": 2, \"state\": \"waiting\", \"containers\": [{\"name\": \"b\"}], "
		"\"backends\": [{\"state\": \"ready\", \"service\": \"/s\"}]},"
		"{\"netns\": 4, \"state\": \"failing\", \"note\": \"EBUSY\", \"containers\": "
		"[{\"name\": \"d\"}], \"backends\": []}]}";

	(void)state;
	assert_table(document, "dragoman 1, not ready: the first full round is not done\n"
			       "commits  12, event to commit 0.4 ms (p50 0.5 ms, p99 2 ms)\n"
			       "4 namespaces, 2 backends, 1 problem\n"
			       "\n"
			       "d (namespace 4)\n"
			       "  EBUSY\n"
			       "\n"
			       "b (namespace 2)\n"
			       "  its rules are not written yet\n"
			       "  ready     -  /s\n"
			       "\n"
			       "c (namespace 3)\n"
			       "  ready     -  /s\n"
			       "\n"
			       "a\n"
			       "  why\n");
}

/* The variable, state, tags and port of a backend of one endpoint, which is /services/s. */
#define BACKEND(variable, state, tags, listen)                                             \
	"{\"variable\": \"" variable "\", \"state\": \"" state "\", \"tags\": [" tags "]," \
	" \"listen\": \"" listen "\", \"service\": \"/services/s\", \"reason\": null,"     \
	" \"endpoints\": [{\"address\": \"10.0.0.1\", \"port\": 80, \"weight\": 1,"        \
	" \"connections\": 10}]}"

static const char twins[] =
	"{\"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"a\"}], \"backends\": [" BACKEND(
		"B_ONE", "ready", "",
		"80/tcp") "," BACKEND("B_TWO", "ready", "",
				      "80/tcp") "," BACKEND("B_TAG", "ready", "\"x\"",
							    "80/tcp") "," BACKEND("B_UDP", "ready",
										  "",
										  "80/udp") "]}]}";

static void test_status_table_has_the_endpoints_of_merged_backends_once(void **state)
{
	(void)state;
	assert_table(twins,
		     "dragoman\n"
		     "1 namespace, 4 backends, 0 problems\n"
		     "\n"
		     "a (namespace 1)\n"
		     "  ready     80/tcp  /services/s\n"
		     "             10.0.0.1:80  weight 1  10 conns  100% ################\n"
		     "  ready     80/tcp  /services/s\n"
		     "             B_TWO: the same as B_ONE\n"
		     "  ready     80/tcp  /services/s[x]\n"
		     "             10.0.0.1:80  weight 1  10 conns  100% ################\n"
		     "  ready     80/udp  /services/s\n"
		     "             10.0.0.1:80  weight 1  10 conns  100% ################\n");
}

static void test_status_since_before_counts_merged_backends_once(void **state)
{
	CLEANUP(status_done) struct status_document now, before;
	CLEANUP(text_done) struct text line = {0};

	(void)state;
	parse_status(twins, &now);
	parse_status("{}", &before);
	status_print_summary(&line, &now, &(struct status_before){&before, 1});
	assert_string_equal(line.data, "1 namespace, 4 backends, 0 problems, 30.0 connections/s");
}

static void test_status_narrowed_has_the_changes_of_that_namespace(void **state)
{
	static const char document[] =
		"{\"changes\": [{\"name\": \"db\"}, {\"name\": \"web\"}, {\"name\": null}, 7],"
		" \"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"web\"}]},"
		" {\"netns\": 2, \"containers\": [{\"name\": \"db\"}]}]}";
	CLEANUP(status_done) struct status_document status;
	struct error error = {0};
	const json_t *changes;

	(void)state;
	parse_status(document, &status);
	assert_int_equal(status_narrow(&status, "web", &error), 0);
	changes = json_object_get(status.root, "changes");
	assert_int_equal(json_array_size(changes), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(changes, 0), "name")),
			    "web");
}

static void test_status_narrowed_has_one_namespace(void **state)
{
	static const char *const names[] = {"web", "aa", "0123456789", "a"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP(status_done) struct status_document status;
		CLEANUP(text_done) struct text text = {0};
		struct error error = {0};

		parse_status(full, &status);
		assert_int_equal(status_narrow(&status, names[i], &error), 0);
		status_print_namespaces(&text, &status, NULL, &narrow);
		assert_non_null(strstr(text.data, "\nweb, 0123456789ab"));
		/* An ID that begins so is in both. */
		assert_int_equal(strstr(text.data, "\nadm") != NULL, i == 2);
	}
}

static void test_status_narrowed_to_nobody_says_who_there_is(void **state)
{
	CLEANUP(status_done) struct status_document status;
	CLEANUP(status_done) struct status_document none;
	struct error error = {0};

	(void)state;
	parse_status(full, &status);
	assert_int_equal(status_narrow(&status, "wbe", &error), -ENOENT);
	assert_string_equal(error.message,
			    "the agent knows no container or namespace 'wbe'; there are adm, web, "
			    "0123456789ab (did you mean web?)");
	parse_status("{}", &none);
	assert_int_equal(status_narrow(&none, "\033[2J", &error), -ENOENT);
	assert_string_equal(error.message, "the agent knows no container or namespace "
					   "'\\x1b[2J'; it has none at all");
}

static const char earlier[] =
	"{\"changes\": [{\"time\": 10.5, \"name\": \"web\", \"verdict\": \"add\", \"listen\": "
	"\"127.0.0.1:80/tcp\", \"endpoint\": \"10.0.0.1:80\"}],"
	" \"namespaces\": [{\"netns\": 1, \"containers\": [{\"name\": \"web\"}], \"backends\": ["
	"{\"variable\": \"B\", \"listen\": \"80/tcp\", \"state\": \"ready\", \"service\": \"/s\","
	" \"endpoints\": [{\"address\": \"10.0.0.1\", \"port\": 80, \"connections\": 10}]}]}]}";
static const char later[] =
	"{\"changes\": ["
	"{\"time\": 70, \"name\": \"\\u001b[2J\", \"verdict\": \"remove\", \"listen\": "
	"\"[::1]:80/tcp\", \"endpoint\": null},"
	"{\"time\": 69, \"name\": \"web\", \"verdict\": \"replace\", \"listen\": "
	"\"127.0.0.1:80/tcp\", \"endpoint\": \"10.0.0.2:80\"},"
	"{\"time\": 10.5, \"name\": \"web\", \"verdict\": \"add\", \"listen\": "
	"\"127.0.0.1:80/tcp\", \"endpoint\": \"10.0.0.1:80\"}],"
	" \"namespaces\": [{\"netns\": 2, \"backends\": []},"
	"{\"netns\": 1, \"containers\": [{\"name\": \"web\"}], \"backends\": ["
	"{\"variable\": \"B\", \"listen\": \"80/tcp\", \"state\": \"ready\", \"service\": \"/s\","
	" \"endpoints\": [{\"address\": \"10.0.0.2\", \"port\": 80, \"connections\": 5},"
	" {\"address\": \"10.0.0.1\", \"port\": 80, \"connections\": 510}]}]}]}";

static void test_status_since_before_tells_how_fast_connections_come(void **state)
{
	CLEANUP(status_done) struct status_document old;
	CLEANUP(status_done) struct status_document new;
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	parse_status(earlier, &old);
	parse_status(later, &new);
	status_print_text(&text, &new, &(struct status_before){&old, 2}, &narrow);
	/* One that was not there before had none then. */
	assert_string_equal(text.data,
			    "dragoman\n"
			    "2 namespaces, 1 backend, 0 problems, 252 connections/s\n"
			    "\n"
			    "web (namespace 1)\n"
			    "  ready     80/tcp  /s\n"
			    "             10.0.0.2:80    5 conns  2.5/s   <1% #\n"
			    "             10.0.0.1:80  510 conns  250/s   99% ################\n"
			    "\n"
			    "namespace 2\n");
}

/* While its rules are written an agent does not count: that is no connection, and no end of one. */
static void test_status_since_before_leaves_out_what_was_not_counted(void **state)
{
	CLEANUP(status_done) struct status_document old;
	CLEANUP(status_done) struct status_document new;
	CLEANUP(text_done) struct text there = {0}, back = {0};
	CLEANUP(text_done) struct text uncounted = {0};
	const char *number = strstr(later, "510");

	(void)state;
	text_add(&uncounted, later, (size_t)(number - later));
	text_puts(&uncounted, "null");
	text_puts(&uncounted, number + strlen("510"));
	parse_status(earlier, &old);
	parse_status(uncounted.data, &new);
	status_print_summary(&there, &new, &(struct status_before){&old, 1});
	assert_string_equal(there.data, "2 namespaces, 1 backend, 0 problems, 5.0 connections/s");
	status_print_summary(&back, &old, &(struct status_before){&new, 1});
	assert_string_equal(back.data, "1 namespace, 1 backend, 0 problems, 0.0 connections/s");
}

static void test_status_changes_are_told_the_newest_first(void **state)
{
	CLEANUP(status_done) struct status_document status;
	CLEANUP(text_done) struct text text = {0};

	(void)state;
	parse_status(later, &status);
	status_print_changes(&text, &status, 2, 75, &narrow);
	assert_string_equal(text.data,
			    "\nlast changes\n"
			    "  5 s ago     \\x1b[2J  - [::1]:80/tcp unavailable\n"
			    "  6 s ago     web      ~ 127.0.0.1:80/tcp -> 10.0.0.2:80\n");
}

static void test_status_news_are_the_changes_since_before(void **state)
{
	CLEANUP(status_done) struct status_document old;
	CLEANUP(status_done) struct status_document new;
	CLEANUP(text_done) struct text text = {0};
	const char *line;

	(void)state;
	parse_status(earlier, &old);
	parse_status(later, &new);
	status_print_news(&text, &new, &(struct status_before){&old, 2}, 75);
	line = strchr(text.data, '\n') + 1;
	assert_non_null(strstr(text.data, "  web: ~ 127.0.0.1:80/tcp -> 10.0.0.2:80\n"));
	assert_non_null(strstr(line, "  \\x1b[2J: - [::1]:80/tcp unavailable\n"));
	assert_non_null(strstr(line, "  2 namespaces, 1 backend, 0 problems, 252 connections/s\n"));
	assert_null(strstr(text.data, "10.0.0.1:80"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_table_has_problems_first),
		cmocka_unit_test(test_status_table_without_namespaces_is_its_head),
		cmocka_unit_test(test_status_table_takes_what_is_missing_or_something_else),
		cmocka_unit_test(test_status_table_shows_an_unknown_state_as_a_problem),
		cmocka_unit_test(test_status_table_has_no_control_characters),
		cmocka_unit_test(test_status_table_breaks_what_is_wide_and_loses_nothing),
		cmocka_unit_test(test_status_table_in_colour_is_the_same_between_escapes),
		cmocka_unit_test(test_status_table_of_no_object_is_refused),
		cmocka_unit_test(test_status_table_of_a_wide_page_has_more_on_a_line),
		cmocka_unit_test(test_status_table_measures_in_columns),
		cmocka_unit_test(test_page_lines_are_broken_where_they_are_wide_and_nowhere_else),
		cmocka_unit_test(test_status_table_puts_what_is_broken_first_and_then_goes_by_name),
		cmocka_unit_test(test_status_table_has_the_endpoints_of_merged_backends_once),
		cmocka_unit_test(test_status_since_before_counts_merged_backends_once),
		cmocka_unit_test(test_status_narrowed_has_the_changes_of_that_namespace),
		cmocka_unit_test(test_status_narrowed_has_one_namespace),
		cmocka_unit_test(test_status_narrowed_to_nobody_says_who_there_is),
		cmocka_unit_test(test_status_since_before_tells_how_fast_connections_come),
		cmocka_unit_test(test_status_since_before_leaves_out_what_was_not_counted),
		cmocka_unit_test(test_status_changes_are_told_the_newest_first),
		cmocka_unit_test(test_status_news_are_the_changes_since_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
