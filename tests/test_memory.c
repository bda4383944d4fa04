/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Memory that runs out, in what takes bytes from outside apart (exhaust.h).
 * Each of these says that it is out of memory,
 * whole, and never takes what it could not read for what is wrong: a document
 * that is "not JSON" loses its endpoint. What rules are made of, and the
 * kernel, are in test_memory_rules.c.
 */
#include "exhaust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../src/container/docker_codec.h"
#include "../src/registry/consul_codec.h"
#include "../src/registry/etcd2_codec.h"
#include "../src/registry/etcd3_watch_codec.h"
#include "../src/registry/file.h"
#include "dragoman/base/json.h"
#include "dragoman/base/json_stream.h"
#include "dragoman/model/service.h"

static int wrong_result(struct error *error)
{
	return error_set(error, -EINVAL, ERROR_INVALID, "what came of it is wrong");
}

/* --- What users write ------------------------------------------------------------- */

static int read_descriptors(void *user, struct error *error)
{
	static const char block[] = "BACKEND_DB=/services/prod/db[a, b,c];3306/udp\0"
				    "BACKEND_URL=https://example.org\0"
				    "BACKEND_BAD=a;b\0"
				    "BACKEND_DB2=other;3306/udp\0"
				    "OTHER=1";
	const struct origin origin = {.id = "0123456789ab", .name = "web"};
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct descriptor_set set = {.arena = arena, .root = "/services"};
	const struct descriptor *used = NULL;
	char *key;

	(void)user;
	if (!arena || descriptor_set_add_block(&set, &origin, "BACKEND_", block, sizeof(block)) < 0)
		return error_no_memory(error);
	descriptor_set_settle(&set);
	assert_int_equal(set.count, 4);
	for (size_t i = 0; i < set.count; i++) {
		if (set.items[i]->state == DESCRIPTOR_USED)
			used = set.items[i];
	}
	assert_non_null(used);
	key = descriptor_key(arena, used, "/services");
	if (!key)
		return error_no_memory(error);
	assert_string_equal(key, "/services/prod/db");
	return 0;
}

/* --- Documents ---------------------------------------------------------------------- */

/* A string longer than jansson's first buffer, or it never grows. */
#define LONG "0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct admission by_default;
static const char endpoint_one[] =
	"{\"ipaddress\": \"10.0.0.1\", \"host_port\": \"49161\", \"tags\": [\"prod\", \"" LONG
	"\"],"
	" \"weight\": 3, \"attributes\": {\"a\": [1, 2.5, null, true, {\"" LONG "\": \"" LONG
	"\"}]}}";
static const char endpoint_two[] = "10.0.0.2:7000";

static int read_documents(void *user, struct error *error)
{
	const struct document documents[] = {
		{.key = "/services/web/a",
		 .value = endpoint_one,
		 .length = sizeof(endpoint_one) - 1},
		{.key = "/services/web/b",
		 .value = endpoint_two,
		 .length = sizeof(endpoint_two) - 1},
		{.key = "/services/web/c",
		 .value = "{\"host\": \"nowhere\", \"port\": 1}",
		 .length = 31},
	};
	CLEANUP(service_freep) struct service *service = service_new("/services/web", &by_default);
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct tags none = {0};
	struct selection selection;
	int r = service && arena ? service_replace(service, documents, 2) : -ENOMEM;

	(void)user;
	if (r >= 0)
		r = service_put(service, &documents[2]);
	if (r >= 0)
		r = service_select(arena, service, &none, PROTOCOL_TCP, &selection);
	if (r < 0)
		return error_no_memory(error);
	assert_int_equal(selection.endpoint_count, 2);
	assert_int_equal(selection.endpoints[0].endpoint.port, 49161);
	assert_int_equal(selection.endpoints[0].weight, 3);
	assert_int_equal(selection.endpoints[0].tags.count, 2);
	assert_int_equal(selection.skipped_count, 1);
	return 0;
}

/* What was known stays, when what comes instead of it cannot be read. */
static int replace_documents(void *user, struct error *error)
{
	const struct document documents[] = {
		{.key = "/services/web/b",
		 .value = endpoint_one,
		 .length = sizeof(endpoint_one) - 1},
		{.key = "/services/web/c",
		 .value = endpoint_one,
		 .length = sizeof(endpoint_one) - 1},
	};
	struct service *service = user;
	int r = service_replace(service, documents, ARRAY_SIZE(documents));

	assert_int_equal(service_count(service), r < 0 ? 1 : 2);
	if (r < 0)
		return error_no_memory(error);
	return 0;
}

static int replace_documents_of_one(void *user, struct error *error)
{
	const struct document document = {.key = "/services/web/a",
					  .value = endpoint_two,
					  .length = sizeof(endpoint_two) - 1};
	CLEANUP(service_freep) struct service *service = NULL;
	bool was = exhaust_pause();

	(void)user;
	service = service_new("/services/web", &by_default);
	assert_non_null(service);
	assert_int_equal(service_replace(service, &document, 1), 1);
	exhaust_go_on(was);
	return replace_documents(service, error);
}

static int read_json(void *user, struct error *error)
{
	json_t *root;
	int r = json_read(user, strlen(user), 0, &root, NULL);

	if (r == -ENOMEM)
		return error_no_memory(error);
	assert_int_equal(r, 0);
	assert_string_equal(json_string_value(json_object_get(root, "name")), LONG LONG);
	json_decref(root);
	return 0;
}

/* --- Registries ------------------------------------------------------------------ */

#define HEADER \
	"\"header\":{\"cluster_id\":\"13072187803621650447\",\"revision\":\"3\",\"raft_term\":\"2\"}"

/* /services/app/b = two */
#define KV                                                                                    \
	"{\"key\":\"L3NlcnZpY2VzL2FwcC9i\",\"create_revision\":\"3\",\"mod_revision\":\"3\"," \
	"\"version\":\"1\",\"value\":\"dHdv\"}"

static int read_etcd3(void *user, struct error *error)
{
	static const char body[] = "{" HEADER
				   ",\"succeeded\":true,\"responses\":[{\"response_range\":{" HEADER
				   ",\"kvs\":[" KV "],\"count\":\"1\"}}]}";
	static const struct etcd3_range range = {
		"/services/app/", "/services/app0", 14, 14, 0, 0, false};
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	struct etcd3_result result = {.list = &list};
	struct registry_position position;
	CLEANUP(text_done) struct text request = {0};
	int r;

	(void)user;
	etcd3_encode_txn(&range, 1, &request);
	if (!list.arena || request.failed)
		return error_no_memory(error);
	r = etcd3_decode_txn(body, sizeof(body) - 1, &range, 1, &result, &position, error);
	if (r < 0)
		return r;
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].key, "/services/app/b");
	assert_string_equal(list.items[0].value, "two");
	return 0;
}

static int authenticate(void *user, struct error *error)
{
	static const char body[] = "{" HEADER ",\"token\":\"" LONG "\"}";
	CLEANUP(text_done) struct text request = {0};
	CLEANUP(memory_free) char *token = NULL;
	int r = etcd3_encode_authenticate("someone", LONG "\"", &request);

	(void)user;
	if (r < 0)
		return error_no_memory(error);
	assert_string_equal(request.data, "{\"name\":\"someone\",\"password\":\"" LONG "\\\"\"}");
	r = etcd3_decode_authenticate(body, sizeof(body) - 1, &token, error);
	assert_true(r < 0 || strcmp(token, LONG) == 0);
	return r;
}

static int read_stream(void *user, struct error *error)
{
	static const char all[] =
		"{\"result\":{" HEADER ",\"watch_id\":\"1\",\"created\":true}}\n"
		"{\"result\":{" HEADER ",\"watch_id\":\"1\",\"events\":[{\"kv\":" KV "},{\"type\":"
		"\"DELETE\",\"kv\":{\"key\":\"L3NlcnZpY2VzL2FwcC9h\",\"mod_revision\":\"3\"}}]}}";
	CLEANUP(json_stream_done) struct json_stream stream = {.max = 4096};
	CLEANUP(change_list_done) struct change_list list = {0};
	const char *data = all;
	size_t length = sizeof(all) - 1;
	int more;

	(void)user;
	while ((more = json_stream_next(&stream, &data, &length)) > 0) {
		CLEANUP(etcd3_watch_answer_done) struct etcd3_watch_answer answer;
		int r = etcd3_decode_watch(stream.object.data, stream.object.length, &answer,
					   error);

		if (r == 0)
			r = etcd3_decode_events(&answer, "/services/app", &list, error);
		if (r < 0)
			return r;
	}
	if (more < 0) {
		assert_int_equal(more, -ENOMEM);
		return error_no_memory(error);
	}
	if (!list.items || list.count != 2)
		return wrong_result(error);
	assert_string_equal(list.items[0].document.value, "two");
	assert_true(list.items[1].removed);
	return 0;
}

static int read_etcd2(void *user, struct error *error)
{
	static const char keys[] =
		"{\"action\":\"get\",\"node\":{\"key\":\"/services/app\",\"dir\":true,\"nodes\":[{"
		"\"key\":\"/services/app/b\",\"value\":\"" LONG "\",\"modifiedIndex\":7,"
		"\"createdIndex\":7}],\"modifiedIndex\":5,\"createdIndex\":5}}";
	static const char event[] =
		"{\"action\":\"set\",\"node\":{\"key\":\"/services/app/c\",\"value\":\"" LONG
		"\",\"modifiedIndex\":8,\"createdIndex\":8}}";
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(change_list_done) struct change_list changes = {0};
	uint64_t index;
	bool more;
	int r = list.arena ? 0 : error_no_memory(error);

	(void)user;
	if (r == 0)
		r = etcd2_decode_keys(keys, sizeof(keys) - 1, "/services/app", false, &list, error);
	if (r == 0)
		r = etcd2_decode_event(event, sizeof(event) - 1, "/services/app", &changes, &index,
				       &more, error);
	if (r != 0)
		return r;
	if (!list.items || !changes.items || list.count != 1)
		return wrong_result(error);
	assert_string_equal(list.items[0].value, LONG);
	assert_int_equal(changes.count, 1);
	assert_string_equal(changes.items[0].document.value, LONG);
	return 0;
}

#define INSTANCE(id, weight, status)                                                    \
	"{\"Node\":{\"Node\":\"n\",\"Address\":\"10.0.0.1\"},\"Service\":{\"ID\":\"" id \
	"\",\"Port\":80,\"Tags\":[\"" LONG "\"],\"Weights\":{\"Passing\":" weight       \
	"}},\"Checks\":[{\"Name\":\"" LONG "\",\"Status\":\"" status "\"}]}"

static int read_consul(void *user, struct error *error)
{
	static const char body[] = "[" INSTANCE("a", "900", "passing") "," INSTANCE("b", "300",
										    "critical") "]";
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	int r = list.arena ? 0 : error_no_memory(error);

	(void)user;
	if (r == 0)
		r = consul_decode_instances(body, sizeof(body) - 1, "app", &list, error);
	if (r != 0)
		return r;
	if (!list.items || list.count != 2)
		return wrong_result(error);
	assert_string_equal(list.items[0].key, "app/n/a");
	assert_string_equal(list.items[0].value,
			    "{\"host\":\"10.0.0.1\",\"port\":80,\"tags\":[\"" LONG
			    "\"],\"weight\":3}");
	assert_true(list.items[1].is_failing);
	assert_string_equal(list.items[1].value, "check \"" LONG "\" is critical");
	return 0;
}

static int read_file(void *user, struct error *error)
{
	static const char data[] =
		"{\"/services/app/b\": \"" LONG "\","
		" \"/services/app/a/\": {\"host\": \"10.0.0.1\", \"port\": 1e3}}";
	CLEANUP(document_list_done) struct document_list list = {.arena = arena_new()};
	CLEANUP(document_list_done) struct document_list some = {.arena = arena_new()};
	int r = list.arena && some.arena ? 0 : error_no_memory(error);

	(void)user;
	if (r == 0)
		r = file_decode(data, sizeof(data) - 1, &list, error);
	if (r == 0 && file_select(&list, "/services/app/b", &some) < 0)
		r = error_no_memory(error);
	if (r != 0)
		return r;
	if (!list.items || list.count != 2)
		return wrong_result(error);
	assert_string_equal(list.items[0].key, "/services/app/a");
	assert_string_equal(list.items[0].value, "{\"host\":\"10.0.0.1\",\"port\":1000.0}");
	assert_int_equal(some.count, 1);
	return 0;
}

/* --- Engines ------------------------------------------------------------------------ */

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int read_engine(void *user, struct error *error)
{
	static const char event[] =
		"{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"" ID
		"\"},\"time\":1}";
	static const char list[] = "[{\"Id\":\"" ID "\",\"Names\":[\"/" LONG "\"]}]";
	static const char inspect[] =
		"{\"Id\":\"" ID "\",\"Name\":\"/web\",\"Created\":\"2026-01-02T03:04:05.678Z\","
		"\"State\":{\"Running\":true,\"Pid\":77,\"Status\":\"running\","
		"\"StartedAt\":\"2026-01-02T03:04:05.7Z\"},"
		"\"HostConfig\":{\"NetworkMode\":\"bridge\"},"
		"\"Config\":{\"Labels\":null,\"Env\":[\"BACKEND_A=" LONG ";1\",\"PATH=/bin\"]}}";
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(memory_free) struct docker_id *ids = NULL;
	struct docker_container container = {0};
	struct docker_id id = {0};
	size_t count = 0;
	int r = docker_decode_event(event, sizeof(event) - 1, &id, error);

	(void)user;
	if (r == 0)
		r = docker_decode_list(list, sizeof(list) - 1, &ids, &count, error);
	if (r == 0)
		r = arena ? docker_decode_container(inspect, sizeof(inspect) - 1, arena, &container,
						    error)
			  : error_no_memory(error);
	if (r != 0)
		return r;
	assert_string_equal(id.text, ID);
	assert_int_equal(count, 1);
	assert_int_equal(container.container.environment_length,
			 sizeof("BACKEND_A=" LONG ";1") + sizeof("PATH=/bin"));
	return 0;
}

/* --- Tests ---------------------------------------------------------------------------- */

static void test_memory_exhausted_while_descriptors_are_read_says_so(void **state)
{
	(void)state;
	SURVIVES(read_descriptors, NULL);
}

static void test_memory_exhausted_never_makes_a_document_a_wrong_one(void **state)
{
	char text[] = "{\"a\": [1, -2, 3.5e7, null, \"\\u00e9\"],"
		      " \"name\": \"" LONG LONG "\"}";

	(void)state;
	SURVIVES(read_documents, NULL);
	SURVIVES(read_json, text);
}

static void test_memory_exhausted_leaves_a_service_as_it_was(void **state)
{
	(void)state;
	SURVIVES(replace_documents_of_one, NULL);
}

static void test_memory_exhausted_while_registries_are_read_says_so(void **state)
{
	(void)state;
	SURVIVES(read_etcd3, NULL);
	SURVIVES(authenticate, NULL);
	SURVIVES(read_stream, NULL);
	SURVIVES(read_etcd2, NULL);
	SURVIVES(read_consul, NULL);
	SURVIVES(read_file, NULL);
}

static void test_memory_exhausted_while_an_engine_is_read_says_so(void **state)
{
	(void)state;
	SURVIVES(read_engine, NULL);
}

/* --- The instrument ------------------------------------------------------------------- */

static int leak(void *user, struct error *error)
{
	static char *kept;
	char *first = malloc(16);
	char *second = malloc(16);

	(void)user;
	if (!first || !second) {
		kept = first;
		free(second);
		return error_no_memory(error);
	}
	free(first);
	free(second);
	free(TAKE(kept));
	return 0;
}

static int mumble(void *user, struct error *error)
{
	char *block = malloc(16);

	(void)user;
	if (!block)
		return error_set(error, -EINVAL, ERROR_INVALID, "not JSON");
	free(block);
	return 0;
}

static void test_memory_tests_would_see_a_leak_and_a_wrong_word(void **state)
{
	unsigned long count = 0;
	struct error error;

	(void)state;
	assert_string_equal(exhaust_run(leak, NULL, &count), "leaks");
	assert_int_equal(count, 2);
	assert_int_equal(exhaust_once(leak, NULL, 0, false, &error), 0);
	assert_string_equal(exhaust_run(mumble, NULL, &count), "not JSON");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_exhausted_while_descriptors_are_read_says_so),
		cmocka_unit_test(test_memory_exhausted_never_makes_a_document_a_wrong_one),
		cmocka_unit_test(test_memory_exhausted_leaves_a_service_as_it_was),
		cmocka_unit_test(test_memory_exhausted_while_registries_are_read_says_so),
		cmocka_unit_test(test_memory_exhausted_while_an_engine_is_read_says_so),
		cmocka_unit_test(test_memory_tests_would_see_a_leak_and_a_wrong_word),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
