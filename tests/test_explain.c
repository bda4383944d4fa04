/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one story in which all is well, made anew for each test;
 * a test breaks one thing of it, and says what is to be found. How stories are
 * told is held against golden text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../src/cmd/explain.h"
#include "dragoman/base/memory.h"

static char prod[] = "prod";
static char *tag_names[] = {prod};
static const struct tags tags = {.names = tag_names, .count = 1};

static struct endpoint at(const char *address, uint16_t port)
{
	struct endpoint endpoint = {.port = port};

	assert_int_equal(endpoint_parse_address(address, strlen(address), &endpoint), 0);
	return endpoint;
}

/* Two endpoints, one of them with a weight of 2. */
static struct selection two(struct arena *arena)
{
	struct selection selection = {.endpoint_count = 2, .skipped_count = 1};

	selection.endpoints = arena_array(arena, 2, sizeof(*selection.endpoints));
	selection.skipped = arena_array(arena, 1, sizeof(*selection.skipped));
	assert_true(selection.endpoints && selection.skipped);
	selection.endpoints[0] = (struct candidate){
		.key = "/services/redis/a", .endpoint = at("10.0.0.1", 49161), .weight = 2};
	selection.endpoints[1] = (struct candidate){
		.key = "/services/redis/b", .endpoint = at("10.0.0.2", 49161), .weight = 1};
	selection.skipped[0] = (struct skipped){
		.key = "/services/redis/c", .reason = "lacks tag prod", .lacks_tag = true};
	return selection;
}

static struct kernel_face face(struct arena *arena)
{
	struct kernel_face face = {
		.stands = true, .slot_count = 3, .target = {.kind = CHAIN_BALANCE, .slots = 3}};

	face.slots = arena_array(arena, 3, sizeof(*face.slots));
	assert_non_null(face.slots);
	for (uint16_t slot = 0; slot < 3; slot++)
		face.slots[slot] = (struct observed_endpoint){
			.slot = slot,
			.endpoint = at(slot < 2 ? "10.0.0.1" : "10.0.0.2", 49161),
			.packets = slot + 1U,
		};
	return face;
}

static struct story well(struct arena *arena)
{
	struct story story = {
		.arena = arena,
		.listen = {PROTOCOL_TCP, 6379},
		.target = "container web",
		.words = "--container web",
		.netns = 4026532281,
		.agent = {.presence = AGENT_KEEPS,
			  .namespace_state = "kept",
			  .backend_state = "ready"},
		.registry = {.url = "etcd://10.0.0.5:2379",
			     .key = "/services/redis",
			     .tags = &tags,
			     .selection = two(arena)},
		.kernel = {.table = true, .localnet = 1, .ipv6 = true},
	};

	story.claims = arena_array(arena, 4, sizeof(*story.claims));
	story.claims_are_known = true;
	assert_non_null(story.claims);
	story.claims[story.claim_count++] = (struct claim){
		.variable = "BACKEND_REDIS", .whose = "web", .state = "used", .is_winner = true};
	assert_int_equal(ruleset_service_fill(arena, &story.registry.selection, &story.desired), 0);
	story.kernel.faces[FAMILY_IPV4] = face(arena);
	story.kernel.faces[FAMILY_IPV6] = (struct kernel_face){.unavailable = true};
	return story;
}

/* The first thing that is wrong; "" where nothing is. */
static const char *first_wrong(struct story *story)
{
	story_judge(story);
	assert_false(story->out_of_memory);
	for (size_t i = 0; i < story->finding_count; i++) {
		if (story->findings[i].is_wrong)
			return story->findings[i].what;
	}
	return "";
}

static const char *look_of(const struct story *story, const char *what)
{
	for (size_t i = 0; i < story->finding_count; i++) {
		if (strcmp(story->findings[i].what, what) == 0)
			return story->findings[i].look;
	}
	return "";
}

static void break_nothing(struct story *story)
{
	(void)story;
}

static void break_claim(struct story *story)
{
	story->claims[0] = (struct claim){.variable = "BACKEND_REDIS",
					  .whose = "web",
					  .state = "invalid",
					  .reason = "column 6: no port"};
	story->registry.key = NULL;
	story->ports = "80/tcp";
}

static void break_agent(struct story *story)
{
	story->agent.namespace_state = "failing";
	story->agent.message = "EBUSY";
}

static void break_agents_registry(struct story *story)
{
	story->agent.backend_state = "held";
	story->agent.backend_reason = "the registry is out of reach";
}

static void leave_alone(struct story *story)
{
	story->agent = (struct agent_view){.presence = AGENT_ELSEWHERE,
					   .message = "left alone: it is in the host's own network "
						      "namespace"};
}

static void break_registry(struct story *story)
{
	story->registry.failure = "10.0.0.5: refused";
}

static void empty_registry(struct story *story)
{
	story->registry.selection = (struct selection){0};
	story->registry.lack = "the registry holds nothing there";
	story->registry.hint = "did you mean /services/redis.master?";
	story->desired = (struct ruleset_service){.listen = story->listen};
	story->kernel.faces[FAMILY_IPV4] = (struct kernel_face){.unavailable = true};
}

static void lose_table(struct story *story)
{
	story->kernel.table = false;
	story->agent = (struct agent_view){.presence = AGENT_NOT_THERE, .message = "nobody"};
}

static void lose_chain(struct story *story)
{
	story->kernel.missing = "chain output";
}

static void lose_sysctl(struct story *story)
{
	story->kernel.localnet = 0;
}

static void lose_element(struct story *story)
{
	story->kernel.faces[FAMILY_IPV4].stands = false;
}

static void lose_slot(struct story *story)
{
	story->kernel.faces[FAMILY_IPV4].slot_count--;
}

static void move_endpoint(struct story *story)
{
	story->kernel.faces[FAMILY_IPV4].slots[0].endpoint = at("10.0.0.9", 49161);
}

static const struct {
	void (*break_it)(struct story *story);
	const char *wrong, *look;
} cases[] = {
	{break_nothing, "", ""},
	{break_claim,
	 "nobody asks for 6379/tcp here, but for 80/tcp: localhost is left alone on it",
	 "the container's environment: BACKEND_NAME='SERVICE[TAG,...];PORT/PROTO', in quotes, "
	 "since a shell takes ';' and '[' for itself"},
	{break_agent, "the agent cannot write the rules: EBUSY", "the agent's log"},
	{break_agents_registry, "the agent holds what it knew last: the registry is out of reach",
	 "the registry, and the agent's way to it: dragoman status, and its log"},
	{leave_alone,
	 "the agent does not keep this namespace: left alone: it is in the host's own network "
	 "namespace",
	 "what it says of it in dragoman status"},
	{break_registry, "the registry gave no answer: 10.0.0.5: refused",
	 "whether it runs, at that address, and can be reached from this host"},
	{empty_registry,
	 "/services/redis has no endpoint: the registry holds nothing there; did you mean "
	 "/services/redis.master?",
	 "the service's name, --root, and whoever should register it"},
	{lose_table, "the kernel has no table inet dragoman in this namespace",
	 "start the agent (dragoman run), or dragoman reconcile --container web"},
	{lose_chain, "chain output of the table is not as it was written",
	 "the agent's log: it should have put that right within milliseconds"},
	{lose_sysctl,
	 "net.ipv4.conf.all.route_localnet is 0: what goes to 127.0.0.1 does not leave the "
	 "namespace",
	 "the agent's log: it should have put that right within milliseconds"},
	{lose_element, "nothing stands for 127.0.0.1:6379 in the kernel",
	 "the agent's log: it should have put that right within milliseconds"},
	{lose_slot, "what stands for 127.0.0.1:6379 is not what the registry says",
	 "the agent's log: it should have put that right within milliseconds"},
	{move_endpoint, "what stands for 127.0.0.1:6379 is not what the registry says",
	 "the agent's log: it should have put that right within milliseconds"},
};

static void test_explain_finds_the_first_that_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct story story = well(arena);
		const char *found;

		cases[i].break_it(&story);
		found = first_wrong(&story);
		assert_string_equal(found, cases[i].wrong);
		assert_string_equal(look_of(&story, found), cases[i].look);
		assert_int_equal(story_is_broken(&story), cases[i].wrong[0] != '\0');
	}
}

static void test_explain_of_a_held_service_takes_what_stands(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct story story = well(arena);
	struct kernel_face stands = story.kernel.faces[FAMILY_IPV4];

	(void)state;
	empty_registry(&story);
	story.kernel.faces[FAMILY_IPV4] = stands;
	assert_string_equal(first_wrong(&story),
			    "/services/redis has no endpoint: the registry holds nothing there; "
			    "did you mean /services/redis.master?");
	assert_int_equal(story.finding_count, 1);
}

static void test_explain_of_probes_tells_the_server_from_the_way_to_it(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct story story = well(arena);
	struct probe_result probes[] = {
		{.endpoint = at("10.0.0.1", 49161)},
		{.endpoint = at("127.0.0.1", 6379), .is_localhost = true, .code = -ETIMEDOUT},
	};

	(void)state;
	story.probes = probes;
	story.probe_count = ARRAY_SIZE(probes);
	story.probed = true;
	assert_string_equal(first_wrong(&story),
			    "127.0.0.1:6379 does not answer, although each endpoint does: "
			    "Connection timed out");
	story.finding_count = 0;
	probes[0].code = -ECONNREFUSED;
	assert_string_equal(first_wrong(&story),
			    "10.0.0.1:49161 does not answer: Connection refused");
	story.finding_count = 0;
	probes[0].code = probes[1].code = 0;
	assert_string_equal(first_wrong(&story),
			    "127.0.0.1:6379 answers, but not through our rules: something else "
			    "takes the connection before them");
	story.finding_count = 0;
	probes[1].is_counted = true;
	assert_string_equal(first_wrong(&story), "");
}

static const char narrow_text[] =
	"localhost:6379/tcp in container web (namespace 4026532281)\n"
	"\n"
	"variable   BACKEND_REDIS of container web asks for it\n"
	"           BACKEND_X of container \\x1b[2J is invalid: column 4: no port\n"
	"agent      keeps this namespace: ready\n"
	"service    /services/redis[prod] in etcd://10.0.0.5:2379\n"
	"documents  2 used, 1 skipped\n"
	"             used     10.0.0.1:49161, weight 2: /services/redis/a\n"
	"             used     10.0.0.2:49161, weight 1: /services/redis/b\n"
	"             skipped  /services/redis/c: lacks tag prod\n"
	"kernel     table inet dragoman; route_localnet is 0\n"
	"           127.0.0.1:6379/tcp goes to chain balance4-3, at random one of 3 slots\n"
	"             slots 0-1  -> 10.0.0.1:49161, 3 connections\n"
	"             slot 2     -> 10.0.0.2:49161, 3 connections\n"
	"           [::1]:6379/tcp is refused at once: there is no endpoint of that\n"
	"             family\n"
	"\n"
	"What is wrong, first things first:\n"
	"1. net.ipv4.conf.all.route_localnet is 0: what goes to 127.0.0.1 does not leave\n"
	"   the namespace\n"
	"   Look at: the agent's log: it should have put that right within milliseconds\n"
	"\n"
	"Worth to know:\n"
	"-  all endpoints are of IPv4: [::1]:6379 is refused at once\n"
	"   Look at: what the client connects to: localhost, or 127.0.0.1\n";

static void test_explain_text_fits_the_page(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(text_done) struct text text = {0}, wide = {0};
	struct story story = well(arena);

	(void)state;
	lose_sysctl(&story);
	story.claims[story.claim_count++] = (struct claim){.variable = "BACKEND_X",
							   .whose = "\\x1b[2J",
							   .state = "invalid",
							   .reason = "column 4: no port"};
	story_judge(&story);
	story_print_text(&text, &story, &(struct page){.width = 80});
	assert_string_equal(text.data, narrow_text);
	story_print_text(&wide, &story, &(struct page){.width = 200});
	assert_non_null(strstr(wide.data, "1. net.ipv4.conf.all.route_localnet is 0: what goes to "
					  "127.0.0.1 does not leave the namespace\n"));
}

/* Twelve slots, the last two of one endpoint; a key that no line can hold; others' variables. */
static void test_explain_text_of_much_stays_in_its_columns(void **state)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(text_done) struct text text = {0};
	struct story story = well(arena);
	struct kernel_face *face = &story.kernel.faces[FAMILY_IPV4];
	enum { SLOTS = 12 };

	(void)state;
	story.claims[story.claim_count++] = (struct claim){
		.variable = "BACKEND_URL", .state = "ignored", .reason = "no ';' in it"};
	story.registry.selection.skipped[0].key =
		"/services/redis/a-key-of-seventy-characters-that-stands-on-a-line-of-its-own";
	face->slot_count = SLOTS;
	face->slots = arena_array(arena, SLOTS, sizeof(*face->slots));
	assert_non_null(face->slots);
	for (size_t slot = 0; slot < SLOTS; slot++)
		face->slots[slot].endpoint = at("10.0.0.1",
						(uint16_t)(slot < 10 ? 80 + slot : 100));
	story_print_text(&text, &story, &(struct page){.width = 80});
	assert_null(strstr(text.data, "BACKEND_URL"));
	assert_non_null(strstr(text.data, "             skipped\n"
					  "               /services/redis/a-key-of-seventy-"));
	assert_non_null(strstr(text.data,
			       "             slot 9      -> 10.0.0.1:89, 0 connections\n"
			       "             slots 10-11 -> 10.0.0.1:100, 0 connections\n"));
	text_done(&text);
	story.claims[0].is_winner = false;
	story_print_text(&text, &story, &(struct page){.width = 80});
	assert_non_null(strstr(text.data, "BACKEND_URL is ignored: no ';' in it\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_explain_finds_the_first_that_is_wrong),
		cmocka_unit_test(test_explain_of_a_held_service_takes_what_stands),
		cmocka_unit_test(test_explain_of_probes_tells_the_server_from_the_way_to_it),
		cmocka_unit_test(test_explain_text_fits_the_page),
		cmocka_unit_test(test_explain_text_of_much_stays_in_its_columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
