/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/container/docker_codec.h"
#include "../src/container/docker_splitter.h"
#include "../src/container/docker_url.h"
#include "dragoman/base/text.h"

#define ID "274a18200f87f756b73b3fb9fae3398452f44e5555096562257d8a021bc90716"

/* As an engine of API 1.41 answers, with the members that nobody reads left out. */
#define INSPECT(name, state, mode, config)                                                       \
	"{\"Id\":\"" ID "\",\"Created\":\"2026-11-22T16:29:34.779855489Z\",\"Path\":\"/bin/s\"," \
	"\"State\":" state ",\"Name\":" name ",\"Mounts\":[],\"HostConfig\":{\"Binds\":null,"    \
	"\"NetworkMode\":" mode "},\"Config\":" config ",\"NetworkSettings\":{\"Ports\":{}}}"
#define RUNNING                                                                    \
	"{\"Status\":\"running\",\"Running\":true,\"Paused\":false,\"Pid\":19271," \
	"\"StartedAt\":\"2026-11-22T16:30:01.686104133Z\",\"FinishedAt\":\"0001-01-01T00:00:00Z\"}"
#define CONFIG "{\"Env\":[\"BACKEND_X=redis;6379\",\"PATH=/bin\"],\"Labels\":{\"a\":\"b\"}}"
#define GOOD INSPECT("\"/web\"", RUNNING, "\"none\"", CONFIG)

struct fixture {
	struct arena *arena;
	struct docker_container container;
	struct error error;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	*state = fixture;
	return fixture && (fixture->arena = arena_new()) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	arena_free(fixture->arena);
	free(fixture);
	return 0;
}

static int decode(struct fixture *fixture, const char *body)
{
	fixture->error = (struct error){0};
	return docker_decode_container(body, strlen(body), fixture->arena, &fixture->container,
				       &fixture->error);
}

/* --- GET /containers/ID/json ------------------------------------------------ */

static void test_container_of_an_engine_is_read_whole(void **state)
{
	static const char block[] = "BACKEND_X=redis;6379\0PATH=/bin";
	struct fixture *fixture = *state;
	const struct container *container = &fixture->container.container;

	assert_int_equal(decode(fixture, GOOD), 0);
	assert_true(fixture->container.running);
	assert_string_equal(container->id, ID);
	assert_string_equal(container->name, "web");
	assert_int_equal(container->created, 1795364974779855489);
	assert_int_equal(container->started, 1795365001686104133);
	assert_int_equal(container->pid, 19271);
	assert_int_equal(container->environment_length, sizeof(block));
	assert_memory_equal(container->environment, block, sizeof(block));
	assert_int_equal(container->environment_dropped, 0);
	assert_false(container->host_network);
	assert_false(container->disabled);
}

static void test_container_with_null_for_empty_is_read(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(decode(fixture, INSPECT("\"/web\"", RUNNING, "\"none\"",
						 "{\"Env\":null,\"Labels\":null}")),
			 0);
	assert_int_equal(fixture->container.container.environment_length, 0);
	assert_non_null(fixture->container.container.environment);
}

static void test_container_state_says_whether_it_runs(void **state)
{
	static const struct {
		const char *body;
		bool running;
		const char *status;
	} cases[] = {
		{INSPECT("\"/w\"", "{\"Running\":true,\"Pid\":1}", "\"none\"", CONFIG), true,
		 "running"},
		{INSPECT("\"/w\"", "{\"Status\":\"paused\",\"Running\":true,\"Pid\":1}", "\"none\"",
			 CONFIG),
		 true, "paused"},
		{INSPECT("\"/w\"", "{\"Status\":\"exited\",\"Running\":false,\"Pid\":0}",
			 "\"none\"", CONFIG),
		 false, "exited"},
		{INSPECT("\"/w\"", "{\"Status\":\"restarting\",\"Running\":true,\"Pid\":0}",
			 "\"none\"", CONFIG),
		 false, "restarting"},
		{INSPECT("\"/w\"", "{\"Status\":\"a\\u001bb\",\"Running\":false}", "\"none\"",
			 CONFIG),
		 false, "a\\x1bb"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(decode(fixture, cases[i].body), 0);
		assert_int_equal(fixture->container.running, cases[i].running);
		assert_string_equal(fixture->container.status, cases[i].status);
	}
}

static void test_container_network_and_label_are_told(void **state)
{
	static const struct {
		const char *body;
		bool host, disabled;
	} cases[] = {
		{INSPECT("\"/w\"", RUNNING, "\"host\"", CONFIG), true, false},
		{INSPECT("\"/w\"", RUNNING, "\"container:" ID "\"", CONFIG), false, false},
		{INSPECT("\"/w\"", RUNNING, "\"hosts\"", CONFIG), false, false},
		{INSPECT("\"/w\"", RUNNING, "\"none\"",
			 "{\"Labels\":{\"dragoman.enable\":\"false\"}}"),
		 false, true},
		{INSPECT("\"/w\"", RUNNING, "\"none\"",
			 "{\"Labels\":{\"dragoman.enable\":\"False\"}}"),
		 false, true},
		{INSPECT("\"/w\"", RUNNING, "\"none\"",
			 "{\"Labels\":{\"dragoman.enable\":\"true\"}}"),
		 false, false},
		{INSPECT("\"/w\"", RUNNING, "\"none\"",
			 "{\"Labels\":{\"dragoman.enabled\":\"false\"}}"),
		 false, false},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(decode(fixture, cases[i].body), 0);
		assert_int_equal(fixture->container.container.host_network, cases[i].host);
		assert_int_equal(fixture->container.container.disabled, cases[i].disabled);
	}
}

static void test_container_name_is_printable(void **state)
{
	static const struct {
		const char *body, *name;
	} cases[] = {
		{INSPECT("\"plain\"", RUNNING, "\"none\"", CONFIG), "plain"},
		{INSPECT("\"/a/b\"", RUNNING, "\"none\"", CONFIG), "a/b"},
		{INSPECT("\"/a\\u001b[31m\\u0000b\\n\"", RUNNING, "\"none\"", CONFIG),
		 "a\\x1b[31m\\x00b\\x0a"},
		{INSPECT("\"/caf\\u00e9\"", RUNNING, "\"none\"", CONFIG), "caf\xc3\xa9"},
		{INSPECT("\"\"", RUNNING, "\"none\"", CONFIG), "274a18200f87"},
		{INSPECT("\"/\"", RUNNING, "\"none\"", CONFIG), "274a18200f87"},
		{INSPECT("null", RUNNING, "\"none\"", CONFIG), "274a18200f87"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(decode(fixture, cases[i].body), 0);
		assert_string_equal(fixture->container.container.name, cases[i].name);
	}
}

static void test_container_variable_with_nul_does_not_become_two(void **state)
{
	static const char block[] = "A=1\0B=2";
	struct fixture *fixture = *state;

	assert_int_equal(decode(fixture, INSPECT("\"/w\"", RUNNING, "\"none\"",
						 "{\"Env\":[\"A=1\",\"X=b\\u0000BACKEND_EVIL=x;1\","
						 "\"\\u0000BACKEND_EVIL=x;1\",\"B=2\"]}")),
			 0);
	assert_int_equal(fixture->container.container.environment_length, sizeof(block));
	assert_memory_equal(fixture->container.container.environment, block, sizeof(block));
	assert_int_equal(fixture->container.container.environment_dropped, 2);
}

static void test_container_environment_beyond_the_cap_is_left_out(void **state)
{
	struct fixture *fixture = *state;
	const struct container *container = &fixture->container.container;
	CLEANUP(text_done) struct text body = {0};
	CLEANUP(memory_free) char *large = malloc(CONTAINER_ENVIRONMENT_MAX);

	assert_non_null(large);
	memset(large, 'x', CONTAINER_ENVIRONMENT_MAX);
	text_puts(&body,
		  "{\"Id\":\"" ID "\",\"Created\":\"2026-11-22T16:29:34Z\",\"State\":" RUNNING
		  ",\"HostConfig\":{\"NetworkMode\":\"none\"},\"Config\":{\"Env\":[\"");
	text_add(&body, large, CONTAINER_ENVIRONMENT_MAX - 4);
	text_puts(&body, "\",\"LONG=er\",\"A=\",\"B\"]}}");
	assert_false(body.failed);
	assert_int_equal(decode(fixture, body.data), 0);
	assert_int_equal(container->environment_dropped, 2);
	assert_int_equal(container->environment_length, CONTAINER_ENVIRONMENT_MAX);
	assert_string_equal(container->environment + CONTAINER_ENVIRONMENT_MAX - 3, "A=");
}

static void test_container_answer_that_is_damaged_is_refused(void **state)
{
	static const struct {
		const char *body, *message;
	} cases[] = {
		{"", "is not JSON"},
		{"<html>", "is not JSON (starts with \"<html>\")"},
		{"[]", "without an ID"},
		{"{}", "without an ID"},
		{"{\"Id\":7}", "without an ID"},
		{"{\"Id\":\"../../etc\"}", "an ID that is none: \"../../etc\""},
		{"{\"Id\":\"274A18200F87\"}", "an ID that is none"},
		{"{\"Id\":\"274a18200f8\"}", "an ID that is none"},
		{"{\"Id\":\"" ID "0\"}", "an ID that is none"},
		{"{\"Id\":\"" ID "\"}", "no date in \"Created\""},
		{"{\"Id\":\"" ID "\",\"Created\":\"yesterday\"}", "no date in \"Created\""},
		{INSPECT("7", RUNNING, "\"none\"", CONFIG), "\"Name\" that is no string"},
		{INSPECT("\"/w\"", "null", "\"none\"", CONFIG), "no \"State.Running\""},
		{INSPECT("\"/w\"", "{\"Running\":1}", "\"none\"", CONFIG), "no \"State.Running\""},
		{INSPECT("\"/w\"", "{\"Running\":true,\"Pid\":\"1\"}", "\"none\"", CONFIG),
		 "\"State.Pid\" that is no number"},
		{INSPECT("\"/w\"", "{\"Running\":true,\"Pid\":-1}", "\"none\"", CONFIG),
		 "\"State.Pid\" that no process has"},
		{INSPECT("\"/w\"", "{\"Running\":true,\"Pid\":4294967297}", "\"none\"", CONFIG),
		 "\"State.Pid\" that no process has"},
		{INSPECT("\"/w\"", RUNNING, "7", CONFIG), "no \"HostConfig.NetworkMode\""},
		{INSPECT("\"/w\"", RUNNING, "\"none\"", "null"), "no \"Config\""},
		{INSPECT("\"/w\"", RUNNING, "\"none\"", "{\"Env\":{}}"), "is no array"},
		{INSPECT("\"/w\"", RUNNING, "\"none\"", "{\"Env\":[\"A=1\",7]}"),
		 "with what is no string"},
		{INSPECT("\"/w\"", RUNNING, "\"none\"", "{\"Labels\":[]}"), "are no object"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(decode(fixture, cases[i].body), -EBADMSG);
		assert_int_equal(fixture->error.class, ERROR_TRANSIENT);
		if (!strstr(fixture->error.message, cases[i].message))
			fail_msg("case %zu: %s", i, fixture->error.message);
	}
}

static void test_container_answer_cut_anywhere_is_refused(void **state)
{
	struct fixture *fixture = *state;
	static const char body[] = GOOD;

	for (size_t length = 0; length < sizeof(body) - 1; length++)
		assert_int_equal(docker_decode_container(body, length, fixture->arena,
							 &fixture->container, &fixture->error),
				 -EBADMSG);
}

/* --- GET /version, /containers/json, /events ---------------------------------- */

static void test_version_to_speak_is_one_that_both_know(void **state)
{
	static const struct {
		const char *body, *api;
	} cases[] = {
		{"{\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}", "v1.41"},
		{"{\"ApiVersion\":\"1.24\"}", "v1.24"},
		{"{\"ApiVersion\":\"1.40\",\"MinAPIVersion\":\"1.24\"}", "v1.40"},
		{"{\"ApiVersion\":\"1.51\",\"MinAPIVersion\":\"1.24\"}", "v1.41"},
		{"{\"ApiVersion\":\"1.52\",\"MinAPIVersion\":\"1.44\"}", "v1.44"},
		{"{\"ApiVersion\":\"2.0\",\"MinAPIVersion\":\"1.50\"}", "v1.50"},
	};
	char api[DOCKER_API_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			docker_decode_version(cases[i].body, strlen(cases[i].body), api, NULL), 0);
		assert_string_equal(api, cases[i].api);
	}
}

static void test_version_that_is_none_or_too_old_is_refused(void **state)
{
	static const struct {
		const char *body;
		int code;
		const char *message;
	} cases[] = {
		{"{\"ApiVersion\":\"1.23\"}", -EOPNOTSUPP,
		 "the engine's API is 1.23, 1.24 or later is needed"},
		{"{\"ApiVersion\":\"0.99\"}", -EOPNOTSUPP, "1.24 or later"},
		{"{}", -EBADMSG, "no \"ApiVersion\""},
		{"{\"ApiVersion\":1.41}", -EBADMSG, "no \"ApiVersion\""},
		{"{\"ApiVersion\":\"1\"}", -EBADMSG, "no \"ApiVersion\""},
		{"{\"ApiVersion\":\"1.4/../x\"}", -EBADMSG, "no \"ApiVersion\""},
		{"<html>", -EBADMSG, "is not JSON"},
	};
	char api[DOCKER_API_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error error = {0};

		assert_int_equal(
			docker_decode_version(cases[i].body, strlen(cases[i].body), api, &error),
			cases[i].code);
		assert_non_null(strstr(error.message, cases[i].message));
	}
}

static int list(const char *body, struct docker_id **ids, size_t *count, struct error *error)
{
	return docker_decode_list(body, strlen(body), ids, count, error);
}

static void test_list_gives_every_id(void **state)
{
	CLEANUP(memory_free) struct docker_id *ids = NULL;
	size_t count;

	(void)state;
	assert_int_equal(list("[{\"Id\":\"" ID "\",\"Names\":[\"/w\"]},{\"Id\":\"0123456789ab\"}]",
			      &ids, &count, NULL),
			 0);
	assert_int_equal(count, 2);
	assert_string_equal(ids[0].text, ID);
	assert_string_equal(ids[1].text, "0123456789ab");
}

/* One container's words hide none of the others. */
static void test_list_with_what_is_no_text_gives_every_id(void **state)
{
	static const char *const words[] = {
		"\xff",      "\xc3",     "\xed\xa0\x80",   "\x1b[2J",        "\n",
		"\x7f",      "\\ud800",  "\\udc00\\ud800", "\\ud800\\u0041", "\\ud83d\\ude00",
		"\\\\ud800", "\\\"\xff", "\\u0000\xff",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		CLEANUP(memory_free) struct docker_id *ids = NULL;
		char body[512];
		size_t count;
		int length = snprintf(body, sizeof(body),
				      "[{\"Id\":\"" ID
				      "\",\"Labels\":{\"a%s\":\"%s\"}},{\"Id\":\"" ID "\"}]",
				      words[i], words[i]);

		assert_int_equal(docker_decode_list(body, (size_t)length, &ids, &count, NULL), 0);
		assert_int_equal(count, 2);
		assert_string_equal(ids[1].text, ID);
	}
}

static void test_container_words_that_are_no_text_are_replaced(void **state)
{
	static const char body[] =
		"{\"Id\":\"" ID "\",\"Name\":\"/we\xff\x1b"
		"b\",\"Created\":\"2026-11-22T16:29:34Z\","
		"\"State\":{\"Running\":true,\"Pid\":1},\"HostConfig\":{\"NetworkMode\":\"none\"},"
		"\"Config\":{\"Env\":[\"A=\\ud83d\\ude00\\ud83d\",\"B=\xc3\xa4\xc3\"]}}";
	static const char block[] = "A=\xf0\x9f\x98\x80\xef\xbf\xbd\0B=\xc3\xa4\xef\xbf\xbd";
	struct fixture *fixture = *state;
	const struct container *container = &fixture->container.container;

	assert_int_equal(docker_decode_container(body, sizeof(body) - 1, fixture->arena,
						 &fixture->container, &fixture->error),
			 0);
	assert_string_equal(container->name, "we\xef\xbf\xbd\xef\xbf\xbd"
					     "b");
	assert_int_equal(container->environment_length, sizeof(block));
	assert_memory_equal(container->environment, block, sizeof(block));
}

static void test_list_that_is_damaged_is_refused(void **state)
{
	static const char *const bodies[] = {"",
					     "{}",
					     "[{}]",
					     "[{\"Id\":\"" ID "\"}",
					     "[{\"Id\":\"" ID "\"},{\"Id\":\"x\"}]",
					     "[null]",
					     "[\"" ID "\"]"};
	struct docker_id *ids = NULL;
	size_t count;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		assert_int_equal(list(bodies[i], &ids, &count, NULL), -EBADMSG);
	assert_null(ids);
}

#define START_EVENT                                                                             \
	"{\"status\":\"start\",\"id\":\"" ID "\",\"from\":\"box\",\"Type\":\"container\","      \
	"\"Action\":\"start\",\"Actor\":{\"ID\":\"" ID "\",\"Attributes\":{\"a\":\"}{\\\"\"}}," \
	"\"scope\":\"local\",\"time\":1795365001,\"timeNano\":1795365001060403094}"
/* As API 1.52 writes it, and of a network. */
#define NEW_EVENT \
	"{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"0123456789abcdef\"}}"
#define NETWORK_EVENT "{\"Type\":\"network\",\"Action\":\"connect\",\"Actor\":{\"ID\":\"x\"}}"

static void test_event_names_its_container(void **state)
{
	static const struct {
		const char *body;
		int code;
		const char *id;
	} cases[] = {
		{START_EVENT, 0, ID},
		{NEW_EVENT, 0, "0123456789abcdef"},
		{NETWORK_EVENT, 0, ""},
		{"{}", -EBADMSG, ""},
		{"{\"Type\":\"container\"}", -EBADMSG, ""},
		{"{\"Type\":\"container\",\"Action\":\"die\"}", -EBADMSG, ""},
		{"{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"/\"}}", -EBADMSG,
		 ""},
		{"{{}", -EBADMSG, ""},
	};
	struct docker_id id;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			docker_decode_event(cases[i].body, strlen(cases[i].body), &id, NULL),
			cases[i].code);
		assert_string_equal(id.text, cases[i].id);
	}
}

static void test_failure_message_is_printable(void **state)
{
	static const struct {
		const char *body, *message;
	} cases[] = {
		{"{\"message\":\"No such container: x\"}", "No such container: x"},
		{"{\"message\":\"a\\u001b[m\"}", "a\\x1b[m"},
		{"{\"message\":7}", ""},
		{"<html>", ""},
		{"", ""},
	};
	char message[DOCKER_FAILURE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		docker_decode_failure(cases[i].body, strlen(cases[i].body), message);
		assert_string_equal(message, cases[i].message);
	}
}

static void test_time_is_read_as_go_writes_it(void **state)
{
	static const struct {
		const char *text;
		int code;
		uint64_t time;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0, 0},
		{"1970-01-01T00:00:01.5Z", 0, 1500000000},
		{"2026-11-22T16:29:34.779855489Z", 0, 1795364974779855489},
		{"2026-11-22T18:29:34.779855489+02:00", 0, 1795364974779855489},
		{"2026-11-22T10:59:34.779855489-05:30", 0, 1795364974779855489},
		{"0001-01-01T00:00:00Z", 0, 0},
		{"", -EINVAL, 0},
		{"2026-11-22", -EINVAL, 0},
		{"2026-11-22T16:29:34", -EINVAL, 0},
		{"2026-11-22T16:29:34Zx", -EINVAL, 0},
		{"2026-11-22T16:29:34.Z", -EINVAL, 0},
		{"2026-11-22T16:29:34.1234567890Z", -EINVAL, 0},
		{"2026-13-22T16:29:34Z", -EINVAL, 0},
		{"2026-00-22T16:29:34Z", -EINVAL, 0},
		{"9999-01-01T00:00:00Z", -EINVAL, 0},
		{"2026-11-22T16:29:34+25:00", -EINVAL, 0},
		{NULL, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t time = 0;

		assert_int_equal(docker_parse_time(cases[i].text, &time), cases[i].code);
		assert_int_equal(time, cases[i].time);
	}
}

static void test_http_date_is_read(void **state)
{
	static const char *const wrong[] = {
		NULL,
		"",
		"Sun, 22 Nov 2026 16:29:34",
		"Sun, 22 Nov 2026 16:29:34 CET",
		"Sun, 22 ovD 2026 16:29:34 GMT",
		"Sunday, 22-Nov-26 16:29:34 GMT",
		"Sun, 22 Nov 2026 16:29:34 GMT+1",
	};
	uint64_t time;

	(void)state;
	assert_int_equal(docker_parse_http_date("Sun, 22 Nov 2026 16:29:34 GMT", &time), 0);
	assert_int_equal(time, 1795364974);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(docker_parse_http_date(wrong[i], &time), -EINVAL);
}

/* --- The stream ---------------------------------------------------------------- */

struct objects {
	struct text text; /* each object, or "lost", and a newline */
};

static void on_object(const char *object, size_t length, void *user)
{
	struct objects *objects = user;

	if (length == 0)
		text_puts(&objects->text, "lost");
	text_add(&objects->text, object, length);
	text_puts(&objects->text, "\n");
}

static void test_splitter_finds_the_same_objects_however_they_are_cut(void **state)
{
	static const char stream[] = START_EVENT NEW_EVENT "\n\n " NETWORK_EVENT "\r\n{}{\"a\\\\\":"
							   "{\"b\":[{}]}}";
	static const char expected[] = START_EVENT "\n" NEW_EVENT "\n" NETWORK_EVENT "\n{}\n"
						   "{\"a\\\\\":{\"b\":[{}]}}\n";

	(void)state;
	for (size_t cut = 0; cut < sizeof(stream); cut++) {
		struct docker_splitter splitter = {0};
		struct objects objects = {0};

		assert_int_equal(docker_splitter_feed(&splitter, stream, cut, 4096, on_object,
						      &objects, NULL),
				 0);
		assert_int_equal(docker_splitter_feed(&splitter, stream + cut,
						      sizeof(stream) - 1 - cut, 4096, on_object,
						      &objects, NULL),
				 0);
		assert_string_equal(objects.text.data, expected);
		text_done(&objects.text);
		docker_splitter_done(&splitter);
	}
}

static void test_splitter_finds_objects_that_come_byte_by_byte(void **state)
{
	static const char stream[] = START_EVENT NEW_EVENT;
	struct docker_splitter splitter = {0};
	struct objects objects = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(stream) - 1; i++)
		assert_int_equal(docker_splitter_feed(&splitter, stream + i, 1, 4096, on_object,
						      &objects, NULL),
				 0);
	assert_string_equal(objects.text.data, START_EVENT "\n" NEW_EVENT "\n");
	text_done(&objects.text);
	docker_splitter_done(&splitter);
}

static void test_splitter_passes_over_what_is_too_long_and_finds_the_next(void **state)
{
	static const char stream[] = "{\"a\":\"0123456789\"}{\"b\":1}{\"c\":\"}}}}}}}}}}}\"}{}";

	(void)state;
	for (size_t cut = 0; cut < sizeof(stream); cut++) {
		struct docker_splitter splitter = {0};
		struct objects objects = {0};

		assert_int_equal(
			docker_splitter_feed(&splitter, stream, cut, 12, on_object, &objects, NULL),
			0);
		assert_int_equal(docker_splitter_feed(&splitter, stream + cut,
						      sizeof(stream) - 1 - cut, 12, on_object,
						      &objects, NULL),
				 0);
		assert_string_equal(objects.text.data, "lost\n{\"b\":1}\nlost\n{}\n");
		text_done(&objects.text);
		docker_splitter_done(&splitter);
	}
}

static void test_splitter_refuses_an_object_without_end(void **state)
{
	enum { MAX = 12 };
	size_t first = 0;

	(void)state;
	for (size_t step = 1; step <= 100; step += 33) {
		struct docker_splitter splitter = {0};
		struct objects objects = {0};
		struct error error = {0};
		char endless[100] = "{}{\"";
		size_t fed = 0;
		int code = 0;

		memset(endless + 4, 'x', sizeof(endless) - 4);
		while (code == 0 && fed < 10000) {
			code = docker_splitter_feed(&splitter, endless, step, MAX, on_object,
						    &objects, &error);
			fed += step;
			if (fed >= 4)
				memset(endless, 'x', 4);
			if (step == 1)
				endless[0] = "{}{\"x"[fed < 4 ? fed : 4];
		}
		assert_int_equal(code, -EBADMSG);
		assert_string_equal(error.message, "the stream holds an object without end");
		assert_string_equal(objects.text.data, "{}\n");
		/* However it is cut. */
		first = first ? first : fed;
		assert_in_range(fed, first, first + step);
		text_done(&objects.text);
		docker_splitter_done(&splitter);
	}
}

static void test_splitter_refuses_what_is_no_object(void **state)
{
	static const char *const streams[] = {"[]", "null", "{}x", "{}}", "\"{}\""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		struct docker_splitter splitter = {0};
		struct objects objects = {0};
		struct error error = {0};

		assert_int_equal(docker_splitter_feed(&splitter, streams[i], strlen(streams[i]),
						      4096, on_object, &objects, &error),
				 -EBADMSG);
		assert_non_null(strstr(error.message, "no JSON object"));
		text_done(&objects.text);
		docker_splitter_done(&splitter);
	}
}

/* --- The URL --------------------------------------------------------------------- */

static void test_url_of_an_engine_is_taken_apart(void **state)
{
	static const struct {
		const char *text, *name, *base, *socket;
	} cases[] = {
		{"unix:///run/d.sock", "unix:///run/d.sock", "http://localhost", "/run/d.sock"},
		{"UNIX:///a b\x1b@c", "unix:///a b\\x1b@c", "http://localhost", "/a b\x1b@c"},
		{"tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375", "http://127.0.0.1:2375", ""},
		{"tcp://h/", "tcp://h:2375", "http://h:2375", ""},
		{"http://[::1]:80/", "tcp://[::1]:80", "http://[::1]:80", ""},
		{"tcp://[fe80::1]", "tcp://[fe80::1]:2375", "http://[fe80::1]:2375", ""},
	};
	struct docker_url url;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(docker_url_parse(cases[i].text, &url, NULL), 0);
		assert_string_equal(url.name, cases[i].name);
		assert_string_equal(url.base, cases[i].base);
		assert_string_equal(url.socket, cases[i].socket);
	}
}

static void test_url_that_is_wrong_is_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "unix:///PATH or tcp://HOST:PORT is wanted: \"\""},
		{"/var/run/docker.sock", "is wanted"},
		{"unix://run/docker.sock", "not absolute"},
		{"unix:///0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456",
		 "longer than 107 bytes"},
		{"tcp://", "no host"},
		{"tcp://:2375", "no host"},
		{"tcp://-h", "no host"},
		{"tcp://[::g]:1", "no host"},
		{"tcp://h:0", "the port"},
		{"tcp://h:65536", "the port"},
		{"tcp://h:1/x", "the port"},
		{"tcp://h/x", "nothing may stand behind"},
		{"ssh://host", "ssh is not built"},
		{"https://h:2376", "TLS is not built"},
		{"fd://", "for dockerd itself"},
	};
	struct docker_url url;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error error = {0};

		assert_int_equal(docker_url_parse(cases[i].text, &url, &error), -EINVAL);
		if (!strstr(error.message, cases[i].message))
			fail_msg("%s: %s", cases[i].text, error.message);
	}
}

static void test_url_with_a_password_is_not_quoted(void **state)
{
	struct docker_url url;
	struct error error = {0};

	(void)state;
	assert_int_equal(docker_url_parse("tcp://user:secret@host:1", &url, &error), -EINVAL);
	assert_null(strstr(error.message, "secret"));
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(test_container_of_an_engine_is_read_whole),
		WITH_FIXTURE(test_container_words_that_are_no_text_are_replaced),
		WITH_FIXTURE(test_container_with_null_for_empty_is_read),
		WITH_FIXTURE(test_container_state_says_whether_it_runs),
		WITH_FIXTURE(test_container_network_and_label_are_told),
		WITH_FIXTURE(test_container_name_is_printable),
		WITH_FIXTURE(test_container_variable_with_nul_does_not_become_two),
		WITH_FIXTURE(test_container_environment_beyond_the_cap_is_left_out),
		WITH_FIXTURE(test_container_answer_that_is_damaged_is_refused),
		WITH_FIXTURE(test_container_answer_cut_anywhere_is_refused),
		cmocka_unit_test(test_version_to_speak_is_one_that_both_know),
		cmocka_unit_test(test_version_that_is_none_or_too_old_is_refused),
		cmocka_unit_test(test_list_gives_every_id),
		cmocka_unit_test(test_list_with_what_is_no_text_gives_every_id),
		cmocka_unit_test(test_list_that_is_damaged_is_refused),
		cmocka_unit_test(test_event_names_its_container),
		cmocka_unit_test(test_failure_message_is_printable),
		cmocka_unit_test(test_time_is_read_as_go_writes_it),
		cmocka_unit_test(test_http_date_is_read),
		cmocka_unit_test(test_splitter_finds_the_same_objects_however_they_are_cut),
		cmocka_unit_test(test_splitter_finds_objects_that_come_byte_by_byte),
		cmocka_unit_test(test_splitter_passes_over_what_is_too_long_and_finds_the_next),
		cmocka_unit_test(test_splitter_refuses_an_object_without_end),
		cmocka_unit_test(test_splitter_refuses_what_is_no_object),
		cmocka_unit_test(test_url_of_an_engine_is_taken_apart),
		cmocka_unit_test(test_url_that_is_wrong_is_refused),
		cmocka_unit_test(test_url_with_a_password_is_not_quoted),
	};

	return cmocka_run_group_tests_name("docker codec", tests, NULL, NULL);
}
