/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Endpoint documents as tables: the forms that are understood, and each reason
 * for which one is skipped. Then selections: what many documents come to, in
 * any order, up to the limits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"

#define BYTES(literal) (literal), sizeof(literal) - 1

/* "address:port weight tag,tag", or the reason. */
static const char *shown(struct arena *arena, const char *value, size_t length,
			 enum protocol protocol)
{
	char reason[DOCUMENT_REASON_MAX], endpoint[ENDPOINT_TEXT_MAX];
	struct candidate candidate;
	const char *text;
	int r;

	memset(&candidate, 0xee, sizeof(candidate));
	r = document_parse(arena, value, length, protocol, &candidate, reason);
	if (r == -EINVAL)
		return arena_text(arena, reason, strlen(reason));
	assert_int_equal(r, 0);
	text = arena_printf(arena, "%s %u", endpoint_format(&candidate.endpoint, endpoint),
			    candidate.weight);
	for (size_t i = 0; i < candidate.tags.count; i++)
		text = arena_printf(arena, "%s%c%s", text, i ? ',' : ' ', candidate.tags.names[i]);
	return text;
}

#define SERVICE(port) "{\"ipaddress\":\"10.0.0.1\",\"host_port\":" port "}"
#define WITH(members) "{\"ipaddress\":\"10.0.0.1\",\"host_port\":80," members "}"

static const struct {
	const char *value;
	size_t length;
	const char *expected;
} documents[] = {
	/* The service document, as registrars write it. */
	{BYTES("{\"id\":\"13532987eae2\",\"host\":\"fury\",\"ipaddress\":\"192.168.13.90\","
	       "\"env\":{\"HOME\":\"/\"},\"tags\":[],\"host_port\":\"49161\",\"proto\":\"tcp\","
	       "\"port\":\"80\",\"path\":\"/services/x\"}"),
	 "192.168.13.90:49161 1"},
	{BYTES(" \r\n\t{\"ipaddress\" : \"2001:db8::1\", \"host_port\" : 80}\n"),
	 "[2001:db8::1]:80 1"},
	{BYTES("{\"ipaddress\":\"::ffff:10.0.0.1\",\"host_port\":80}"), "10.0.0.1:80 1"},
	{BYTES(SERVICE("1")), "10.0.0.1:1 1"},
	{BYTES(SERVICE("65535")), "10.0.0.1:65535 1"},
	{BYTES(SERVICE("1e3")), "10.0.0.1:1000 1"},
	{BYTES(SERVICE("49161.0")), "10.0.0.1:49161 1"},
	{BYTES(SERVICE("\"00080\"")), "10.0.0.1:80 1"},
	{BYTES(WITH("\"tags\":[\"b\",\"a\",\"b\"],\"weight\":3")), "10.0.0.1:80 3 a,b"},
	{BYTES(WITH("\"tags\":null,\"proto\":null,\"weight\":null")), "10.0.0.1:80 1"},
	{BYTES(WITH("\"tags\":[\"a\\\\b\",\"\\u001b\",\"\\u0000\",\"gr\\u00fc\",\"\"]")),
	 "10.0.0.1:80 1 ,\\x00,\\x1b,a\\\\b,gr\xc3\xbc"},
	{BYTES(WITH("\"proto\":\"TCP\"")), "10.0.0.1:80 1"},
	{BYTES(WITH("\"weight\":0")), "10.0.0.1:80 0"},
	{BYTES(WITH("\"weight\":\"256\"")), "10.0.0.1:80 256"},
	{BYTES(WITH("\"weight\":2e0")), "10.0.0.1:80 2"},
	/* What nobody asks for may be anything. */
	{BYTES(WITH("\"x\":123456789012345678901234567890,\"y\":\"\\u0000\"")), "10.0.0.1:80 1"},
	/* Of a member that stands twice the last counts. */
	{BYTES(WITH("\"host_port\":81")), "10.0.0.1:81 1"},
	/* SkyDNS, nerve. */
	{BYTES("{\"host\":\"10.0.0.1\",\"port\":80}"), "10.0.0.1:80 1"},
	{BYTES("{\"host\":\"10.0.0.1\",\"port\":\"80\",\"weight\":7,\"tags\":[\"a\"]}"),
	 "10.0.0.1:80 7 a"},
	/* Plain text. */
	{BYTES("10.0.0.1:80"), "10.0.0.1:80 1"},
	{BYTES("\n 10.0.0.1:00080\t\n"), "10.0.0.1:80 1"},
	{BYTES("[2001:db8::1]:80"), "[2001:db8::1]:80 1"},
	{BYTES("[::ffff:10.0.0.1]:80"), "10.0.0.1:80 1"},

	/* The address. */
	{BYTES("{\"host_port\":80}"), "missing ipaddress"},
	{BYTES("{\"host_port\":80,\"host\":\"10.0.0.1\",\"port\":81}"), "missing ipaddress"},
	{BYTES("{\"ipaddress\":null,\"host_port\":80}"), "ipaddress is null"},
	{BYTES("{\"ipaddress\":17,\"host_port\":80}"), "ipaddress is not a string"},
	{BYTES("{\"ipaddress\":\"fury\",\"host_port\":80}"),
	 "ipaddress \"fury\" is not an IP literal"},
	{BYTES("{\"ipaddress\":\"\",\"host_port\":80}"), "ipaddress \"\" is not an IP literal"},
	{BYTES("{\"ipaddress\":\"10.0.0.1\\u0000\",\"host_port\":80}"),
	 "ipaddress \"10.0.0.1\\x00\" is not an IP literal"},
	{BYTES("{\"ipaddress\":\"\\u001b[2J\",\"host_port\":80}"),
	 "ipaddress \"\\x1b[2J\" is not an IP literal"},
	{BYTES("{\"host\":\"fury\",\"port\":80}"), "host \"fury\" is not an IP literal"},
	{BYTES("{\"port\":80}"), "missing host"},
	{BYTES("fury:80"), "\"fury\" is not an IP literal"},
	{BYTES("[::1%lo]:80"), "\"::1%lo\" is not an IP literal"},
	/* The port. */
	{BYTES("{\"ipaddress\":\"10.0.0.1\"}"), "missing host_port"},
	{BYTES("{\"ipaddress\":\"10.0.0.1\",\"port\":80}"), "missing host_port"},
	{BYTES("{\"host\":\"10.0.0.1\"}"), "missing port"},
	{BYTES("{\"host\":\"10.0.0.1\",\"port\":0}"), "port 0 is not 1..65535"},
	{BYTES(SERVICE("null")), "host_port is null"},
	{BYTES(SERVICE("70000")), "host_port 70000 is not 1..65535"},
	{BYTES(SERVICE("\"70000\"")), "host_port 70000 is not 1..65535"},
	{BYTES(SERVICE("0")), "host_port 0 is not 1..65535"},
	{BYTES(SERVICE("\"0\"")), "host_port 0 is not 1..65535"},
	{BYTES(SERVICE("-1")), "host_port -1 is not 1..65535"},
	{BYTES(SERVICE("1.5")), "host_port 1.5 is not 1..65535"},
	{BYTES(SERVICE("99999999999")), "host_port 99999999999 is not 1..65535"},
	{BYTES(SERVICE("99999999999999999999")), "host_port 1e+20 is not 1..65535"},
	{BYTES(SERVICE("\"99999999999999999999\"")),
	 "host_port 99999999999999999999 is not 1..65535"},
	{BYTES(SERVICE("1e300")), "host_port 1e+300 is not 1..65535"},
	{BYTES(SERVICE("true")), "host_port is not a number"},
	{BYTES(SERVICE("[80]")), "host_port is not a number"},
	{BYTES(SERVICE("\"0x50\"")), "host_port is not a number: \"0x50\""},
	{BYTES(SERVICE("\" 80\"")), "host_port is not a number: \" 80\""},
	{BYTES(SERVICE("\"-1\"")), "host_port is not a number: \"-1\""},
	{BYTES(SERVICE("\"\"")), "host_port is not a number: \"\""},
	{BYTES("10.0.0.1:0"), "port 0 is not 1..65535"},
	{BYTES("10.0.0.1:65536"), "port 65536 is not 1..65535"},
	/* The rest. */
	{BYTES(WITH("\"proto\":\"udp\"")), "proto udp, not tcp"},
	{BYTES(WITH("\"proto\":\"sc\\ttp\"")), "proto sc\\x09tp, not tcp"},
	{BYTES(WITH("\"proto\":\"\"")), "proto \"\", not tcp"},
	{BYTES(WITH("\"proto\":6")), "proto is not a string"},
	{BYTES(WITH("\"tags\":\"prod\"")), "tags is not an array of strings"},
	{BYTES(WITH("\"tags\":[\"prod\",1]")), "tags is not an array of strings"},
	{BYTES(WITH("\"tags\":{}")), "tags is not an array of strings"},
	{BYTES(WITH("\"weight\":300")), "weight 300 is not 0..256"},
	{BYTES(WITH("\"weight\":-1")), "weight -1 is not 0..256"},
	{BYTES(WITH("\"weight\":0.5")), "weight 0.5 is not 0..256"},
	{BYTES(WITH("\"weight\":\"x\"")), "weight is not a number: \"x\""},
	{BYTES(WITH("\"weight\":{}")), "weight is not a number"},
	/* The form. */
	{BYTES(""), "empty"},
	{BYTES(" \n\t"), "empty"},
	{BYTES("{}"), "neither a service document nor host and port"},
	{BYTES("{\"x\":1}"), "neither a service document nor host and port"},
	{BYTES("[]"), "neither a JSON object nor ip:port"},
	{BYTES("[\"10.0.0.1:80\"]"), "neither a JSON object nor ip:port"},
	{BYTES("\"10.0.0.1:80\""), "neither a JSON object nor ip:port"},
	{BYTES("null"), "neither a JSON object nor ip:port"},
	{BYTES("80"), "neither a JSON object nor ip:port"},
	{BYTES("<html>"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1:"), "neither a JSON object nor ip:port"},
	{BYTES(":80"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1:80:81"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1:http"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1:-80"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1:80/tcp"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1: 80"), "neither a JSON object nor ip:port"},
	{BYTES("[10.0.0.1]:80"), "neither a JSON object nor ip:port"},
	{BYTES("[2001:db8::1:80"), "neither a JSON object nor ip:port"},
	{BYTES("2001:db8::1]:80"), "neither a JSON object nor ip:port"},
	{BYTES("]:80"), "neither a JSON object nor ip:port"},
	{BYTES("[:80"), "neither a JSON object nor ip:port"},
	{BYTES("10.0.0.1"), "an address without a port (ip:port, [v6]:port)"},
	{BYTES("2001:db8::1:80"), "an address without a port (ip:port, [v6]:port)"},
	{BYTES("{\"a\":1"), "not JSON (line 1, column 6: '}' expected near end of file)"},
	{BYTES("\n{\n"), "not JSON (line 2, column 1: string or '}' expected near end of file)"},
	{BYTES("{\"a\":\x1b}"), "not JSON (line 1, column 6: invalid token near '\\x1b')"},
	{BYTES("{} x"), "not JSON (line 1, column 4: end of file expected near 'x')"},
	{BYTES("{\"a\":\"\xff\"}"),
	 "not JSON (line 1, column 6: unable to decode byte 0xff near '\"')"},
	{BYTES("{\"a\":1e999}"), "not JSON (line 1, column 10: real number overflow near '1e999')"},
	{BYTES("{\"a\\u0000b\":1}"),
	 "not JSON (line 1, column 11: NUL byte in object key not supported near "
	 "'\"a\\\\u0000b\"')"},
};

static void test_document_of_each_form_is_understood_or_told(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		CLEANUP(memory_free) char *value = malloc(documents[i].length + 1);

		/* Of just that size, so that a read behind it is seen. */
		value = realloc(value, documents[i].length ? documents[i].length : 1);
		memcpy(value, documents[i].value, documents[i].length);
		assert_string_equal(shown(arena, value, documents[i].length, PROTOCOL_TCP),
				    documents[i].expected);
	}
}

static void test_document_for_udp_takes_udp_or_nothing_said(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_string_equal(shown(arena, BYTES(WITH("\"proto\":\"Udp\"")), PROTOCOL_UDP),
			    "10.0.0.1:80 1");
	assert_string_equal(shown(arena, BYTES(SERVICE("80")), PROTOCOL_UDP), "10.0.0.1:80 1");
	assert_string_equal(shown(arena, BYTES(WITH("\"proto\":\"tcp\"")), PROTOCOL_UDP),
			    "proto tcp, not udp");
}

static void test_document_of_the_greatest_size_is_read_and_no_more(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const char *value = arena_printf(arena, "%-68000s", SERVICE("80"));

	(void)state;
	assert_string_equal(shown(arena, value, 65536, PROTOCOL_TCP), "10.0.0.1:80 1");
	assert_string_equal(shown(arena, value, 65537, PROTOCOL_TCP), "65537 bytes, at most 65536");
	assert_string_equal(shown(arena, value, 68000, PROTOCOL_TCP), "68000 bytes, at most 65536");
}

/* A registry does not keep them: there is nothing to look at behind one byte. */
static void test_document_beyond_the_greatest_size_is_not_looked_at(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(memory_free) char *value = malloc(1);
	struct document all[] = {
		{.key = "/s/1", .value = value, .length = 1536 * 1024},
		{.key = "/s/1", .value = value, .length = 65537},
	};
	const struct admission admission = {0};
	struct selection selection;

	(void)state;
	assert_int_equal(documents_select(arena, all, ARRAY_SIZE(all), &(struct tags){0},
					  PROTOCOL_TCP, &admission, &selection),
			 0);
	assert_int_equal(selection.skipped_count, 2);
	assert_string_equal(selection.skipped[0].reason, "65537 bytes, at most 65536");
	assert_string_equal(selection.skipped[1].reason, "1572864 bytes, at most 65536");
}

static void test_document_nested_deeply_is_told_and_survived(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	char *brackets = arena_alloc(arena, 60000);
	const char *value;

	(void)state;
	memset(brackets, '[', 59999);
	value = arena_printf(arena, "{\"a\":%s", brackets);
	assert_string_equal(shown(arena, value, strlen(value), PROTOCOL_TCP),
			    "not JSON (line 1, column 2053: maximum parsing depth reached near "
			    "'[')");
}

static void test_document_reason_of_long_input_is_cut(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const char *value = arena_printf(arena, "{\"host_port\":80,\"ipaddress\":\"%05000d\"}", 0);
	const char *reason = shown(arena, value, strlen(value), PROTOCOL_TCP);

	(void)state;
	assert_true(strlen(reason) < DOCUMENT_REASON_MAX);
	assert_memory_equal(reason, "ipaddress \"000", 14);
	assert_non_null(strstr(reason, "0...\" is not an IP literal"));
}

static struct document document(const char *key, const char *value)
{
	return (struct document){.key = key, .value = value, .length = strlen(value)};
}

/* "+key address:port" and "-key reason", one a line. */
static const char *selected(struct arena *arena, const struct document *all, size_t count,
			    const char *descriptor, const struct admission *admission)
{
	static const struct admission by_default = {0};
	struct descriptor asked = {0};
	struct selection selection;
	const char *text = "";

	assert_int_equal(descriptor_parse(arena, descriptor, strlen(descriptor), false, &asked), 0);
	assert_int_equal(asked.state, DESCRIPTOR_USED);
	assert_int_equal(documents_select(arena, all, count, &asked.tags, asked.listen.protocol,
					  admission ? admission : &by_default, &selection),
			 0);
	assert_int_equal(selection.endpoint_count + selection.skipped_count, count);
	for (size_t i = 0; i < selection.endpoint_count; i++) {
		char endpoint[ENDPOINT_TEXT_MAX];

		text = arena_printf(arena, "%s+%s %s\n", text, selection.endpoints[i].key,
				    endpoint_format(&selection.endpoints[i].endpoint, endpoint));
	}
	for (size_t i = 0; i < selection.skipped_count; i++)
		text = arena_printf(arena, "%s-%s %s\n", text, selection.skipped[i].key,
				    selection.skipped[i].reason);
	return text;
}

static void test_select_of_none_is_empty(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_string_equal(selected(arena, NULL, 0, "a[x];1", NULL), "");
}

static void test_select_in_any_order_is_the_same(void **state)
{
	struct document all[] = {
		document("/s/1", "10.0.0.1:80"),          document("/s/2", "10.0.0.2:80"),
		document("/s/3", "10.0.0.1:80"),          document("/s/4", "fury:80"),
		document("/s/5", "[::ffff:10.0.0.2]:80"), document("/s/6", "127.0.0.1:80"),
		document("/s/7", "10.0.0.1:81"),          document("/s/\xff", "[2001:db8::1]:80"),
		document("/s/\xff", "[2001:db8::2]:80"),  document("/s/a\nb", "[2001:db8::1]:80"),
	};
	static const char expected[] = "+/s/1 10.0.0.1:80\n"
				       "+/s/2 10.0.0.2:80\n"
				       "+/s/7 10.0.0.1:81\n"
				       "+/s/a\\x0ab [2001:db8::1]:80\n"
				       "+/s/\\xff [2001:db8::2]:80\n"
				       "-/s/3 same endpoint as /s/1\n"
				       "-/s/4 \"fury\" is not an IP literal\n"
				       "-/s/5 same endpoint as /s/2\n"
				       "-/s/6 loopback address (see --allow-endpoints)\n"
				       "-/s/\\xff same endpoint as /s/a\\x0ab\n";
	unsigned seed = 11;
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 300; round++) {
		assert_string_equal(selected(arena, all, ARRAY_SIZE(all), "a;1", NULL), expected);
		for (size_t i = ARRAY_SIZE(all) - 1; i > 0; i--) {
			size_t other = (size_t)rand() % (i + 1);
			struct document kept = all[i];

			all[i] = all[other];
			all[other] = kept;
		}
	}
}

/* No registry has a key twice, but the result must not hang on the order even then. */
static void test_select_of_one_key_twice_is_the_same_both_ways(void **state)
{
	struct document light = document("/s/1", WITH("\"weight\":2"));
	struct document heavy = document("/s/1", WITH("\"weight\":9"));
	struct document both[2][2] = {{light, heavy}, {heavy, light}};
	const struct admission admission = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		struct selection selection;

		assert_int_equal(documents_select(arena, both[i], 2, &(struct tags){0},
						  PROTOCOL_TCP, &admission, &selection),
				 0);
		assert_int_equal(selection.endpoint_count, 1);
		assert_int_equal(selection.endpoints[0].weight, 2);
	}
}

static void test_select_by_tags_takes_those_with_all_of_them(void **state)
{
	static const struct {
		const char *tags, *descriptor, *expected;
	} cases[] = {
		{"[]", "a;1", "+k 10.0.0.1:80\n"},
		{"[\"x\"]", "a[];1", "+k 10.0.0.1:80\n"},
		{"[\"x\",\"prod\",\"y\"]", "a[y,prod];1", "+k 10.0.0.1:80\n"},
		{"[\"stats\"]", "a[stats,prod];1", "-k lacks tag prod\n"},
		{"[\"Prod\",\" prod\"]", "a[prod];1", "-k lacks tag prod\n"},
		{"null", "a[prod];1", "-k lacks tag prod\n"},
		/* A backslash is shown twice, but compared once. */
		{"[\"a\\\\b\"]", "a[a\\b];1", "+k 10.0.0.1:80\n"},
		{"[\"a\\\\\\\\b\"]", "a[a\\b];1", "-k lacks tag a\\\\b\n"},
		{"[\"\\u001b\"]", "a[\\x1b];1", "-k lacks tag \\\\x1b\n"},
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct document one = document(
			"k", arena_printf(arena, WITH("\"tags\":%s"), cases[i].tags));

		assert_string_equal(selected(arena, &one, 1, cases[i].descriptor, NULL),
				    cases[i].expected);
	}
}

static void test_select_repeated_counts_only_among_those_that_fit(void **state)
{
	struct document all[] = {
		document("/s/1", WITH("\"tags\":[\"x\"]")),
		document("/s/2", WITH("\"tags\":[\"prod\"]")),
		document("/s/3", WITH("\"tags\":[\"prod\"],\"weight\":9")),
	};
	CLEANUP(arena_freep) struct arena *arena = arena_new();

	(void)state;
	assert_string_equal(selected(arena, all, 3, "a[prod];1", NULL),
			    "+/s/2 10.0.0.1:80\n"
			    "-/s/1 lacks tag prod\n"
			    "-/s/3 same endpoint as /s/2\n");
}

static void test_select_with_admission_takes_just_what_it_names(void **state)
{
	struct document all[] = {document("/s/1", "127.0.0.1:80"), document("/s/2", "10.0.0.1:80")};
	CLEANUP(admission_done) struct admission admission = {0};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	size_t column;

	(void)state;
	assert_int_equal(admission_parse(&admission, "127.0.0.0/8", &column), 0);
	assert_string_equal(selected(arena, all, 2, "a;1", &admission),
			    "+/s/1 127.0.0.1:80\n-/s/2 not in --allow-endpoints\n");
}

/* What is wrong with a document is one thing, what somebody asks for another. */
static void test_select_tells_the_unusable_from_what_is_not_asked_for(void **state)
{
	struct document all[] = {
		document("/s/1", WITH("\"tags\":[\"prod\"]")),
		document("/s/2", WITH("\"tags\":[\"prod\"]")),
		document("/s/3", WITH("\"tags\":[\"x\"]")),
		document("/s/4", WITH("\"proto\":\"udp\"")),
		document("/s/5", "127.0.0.1:80"),
		document("/s/6", WITH("\"tags\":[\"prod\"],\"weight\":-1")),
		document("/s/7", "{"),
	};
	struct tags tags = {.names = (char *[]){(char[]){"prod"}}, .count = 1};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	const struct admission admission = {0};
	const struct skipped *first;
	struct selection selection;

	(void)state;
	/* Without a tag it is of the loopback; with one it is not asked for, whatever it is. */
	assert_int_equal(documents_select(arena, all, ARRAY_SIZE(all), &tags, PROTOCOL_TCP,
					  &admission, &selection),
			 0);
	assert_int_equal(selection.endpoint_count, 1);
	assert_int_equal(skipped_unusable(selection.skipped, selection.skipped_count, &first), 2);
	assert_string_equal(first->key, "/s/6");
	assert_int_equal(documents_select(arena, all, ARRAY_SIZE(all), &(struct tags){0},
					  PROTOCOL_TCP, &admission, &selection),
			 0);
	assert_int_equal(skipped_unusable(selection.skipped, selection.skipped_count, &first), 3);
	assert_string_equal(first->key, "/s/5");
	assert_int_equal(skipped_unusable(selection.skipped, 1, &first), 0);
	assert_null(first);
}

static void test_select_of_a_long_key_is_cut_in_reasons_only(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct document all[2];
	struct selection selection;
	const struct admission admission = {0};
	char key[1000];

	(void)state;
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	all[0] = document(key, "10.0.0.1:80");
	all[1] = document("z", "10.0.0.1:80");
	assert_int_equal(documents_select(arena, all, 2, &(struct tags){0}, PROTOCOL_TCP,
					  &admission, &selection),
			 0);
	assert_string_equal(selection.endpoints[0].key, key);
	assert_memory_equal(selection.skipped[0].reason, "same endpoint as kkkk", 21);
	assert_true(strlen(selection.skipped[0].reason) < DOCUMENT_REASON_MAX);
}

/* MANY documents: every tenth repeats the one before, and there are more than there may be. */
static void test_select_of_many_is_limited_and_quick(void **state)
{
	enum { MANY = 100000 };
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct document *all = arena_array(arena, MANY, sizeof(*all));
	const struct admission admission = {0};
	struct selection selection;
	size_t repeated = 0, beyond = 0;
	clock_t start;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		int number = i % 10 == 9 ? i - 1 : i;

		/* Against the order of the keys. */
		all[MANY - 1 - i] = document(arena_printf(arena, "/s/%06d", i),
					     arena_printf(arena, "10.%d.%d.%d:80", number >> 16,
							  number >> 8 & 255, number & 255));
	}
	start = clock();
	assert_int_equal(documents_select(arena, all, MANY, &(struct tags){0}, PROTOCOL_TCP,
					  &admission, &selection),
			 0);
	/* A loop over all pairs would take minutes. */
	assert_true(clock() - start < 10 * CLOCKS_PER_SEC);
	assert_int_equal(selection.endpoint_count, 4096);
	assert_int_equal(selection.skipped_count, MANY - 4096);
	assert_string_equal(selection.endpoints[4095].key, "/s/004550");
	for (size_t i = 0; i < selection.skipped_count; i++) {
		repeated += strncmp(selection.skipped[i].reason, "same endpoint as", 16) == 0;
		beyond += strcmp(selection.skipped[i].reason, "more than 4096 endpoints") == 0;
	}
	assert_int_equal(repeated, MANY / 10);
	assert_int_equal(beyond, MANY - MANY / 10 - 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_document_of_each_form_is_understood_or_told),
		cmocka_unit_test(test_document_for_udp_takes_udp_or_nothing_said),
		cmocka_unit_test(test_document_of_the_greatest_size_is_read_and_no_more),
		cmocka_unit_test(test_document_beyond_the_greatest_size_is_not_looked_at),
		cmocka_unit_test(test_document_nested_deeply_is_told_and_survived),
		cmocka_unit_test(test_document_reason_of_long_input_is_cut),
		cmocka_unit_test(test_select_of_none_is_empty),
		cmocka_unit_test(test_select_in_any_order_is_the_same),
		cmocka_unit_test(test_select_of_one_key_twice_is_the_same_both_ways),
		cmocka_unit_test(test_select_by_tags_takes_those_with_all_of_them),
		cmocka_unit_test(test_select_repeated_counts_only_among_those_that_fit),
		cmocka_unit_test(test_select_with_admission_takes_just_what_it_names),
		cmocka_unit_test(test_select_tells_the_unusable_from_what_is_not_asked_for),
		cmocka_unit_test(test_select_of_a_long_key_is_cut_in_reasons_only),
		cmocka_unit_test(test_select_of_many_is_limited_and_quick),
	};

	return cmocka_run_group_tests_name("document", tests, NULL, NULL);
}
