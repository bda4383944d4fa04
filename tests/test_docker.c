/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The session with an engine (docker_lab.h): how it begins, its events, how it
 * is lost and comes back. What the source looks at in between, one container at a
 * time, is test_docker_look.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "docker_lab.h"
#include "dragoman/base/memory.h"

/* --- Starting -------------------------------------------------------------------- */

static void test_source_subscribes_before_it_lists(void **state)
{
	struct docker_lab *lab = *state;

	(void)docker_add_box(lab, "web", 101);
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "listed ");
	assert_string_equal(lab->asked.data, "version events list inspect:web ");
	assert_string_equal(docker_told(lab), "running:web:101 live listed ");
	assert_int_equal(lab->event, 0);
}

static void test_source_of_an_engine_without_containers_is_live(void **state)
{
	struct docker_lab *lab = *state;

	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "listed ");
	assert_string_equal(docker_told(lab), "live listed ");
}

static void test_source_lists_though_the_head_of_the_events_is_late(void **state)
{
	struct docker_lab *lab = *state;

	lab->silent = true;
	docker_all_up(lab);
}

static void test_source_asks_for_eight_containers_at_once(void **state)
{
	struct docker_lab *lab = *state;

	for (size_t i = 0; i < 20; i++)
		(void)docker_add_box(lab, (char[]){(char)('a' + i), '\0'}, 100);
	lab->hold = true;
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "inspect:h ");
	docker_release(lab);
	docker_wait_for(lab, "inspect:p ");
	assert_int_equal(lab->held_most, 8);
	lab->hold = false;
	docker_release(lab);
	docker_wait_for(lab, "listed ");
	for (size_t i = 0; i < 20; i++) {
		char words[32];

		(void)snprintf(words, sizeof(words), "running:%c:100 ", (char)('a' + i));
		assert_non_null(strstr(docker_told(lab), words));
	}
}

/* --- Events ---------------------------------------------------------------------- */

static void test_event_of_a_start_is_told_with_its_time(void **state)
{
	struct docker_lab *lab = *state;
	uint64_t before;

	docker_all_up(lab);
	before = loop_now(lab->loop);
	docker_send_event(lab, "start", docker_add_box(lab, "web", 101));
	docker_wait_for(lab, "running:web:101 ");
	assert_true(lab->event >= before && lab->event <= loop_now(lab->loop));
}

static void test_event_before_the_listing_is_told_once(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *box = docker_add_box(lab, "web", 101);

	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "events ");
	docker_send_event(lab, "start", box);
	docker_wait_for(lab, "listed ");
	docker_send_event(lab, "start", docker_add_box(lab, "last", 102));
	docker_wait_for(lab, "running:last:102 ");
	assert_string_equal(docker_told(lab), "running:web:101 live listed running:last:102 ");
}

static void test_event_cut_at_any_byte_is_understood(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *box = docker_add_box(lab, "web", 1000);
	CLEANUP(text_done) struct text event = {0};

	docker_all_up(lab);
	docker_write_event(&event, "restart", box);
	for (size_t cut = 1; cut < event.length; cut++) {
		char words[32];

		box->pid++;
		(void)snprintf(words, sizeof(words), "running:web:%d ", box->pid);
		docker_forget(lab);
		docker_send_chunk(lab, event.data, cut);
		/* An answer to something else says that the first part was read. */
		containers_resync(lab->containers);
		box->pid--;
		docker_wait_for(lab, "listed ");
		assert_string_equal(docker_told(lab), "listed ");
		box->pid++;
		docker_send_chunk(lab, event.data + cut, event.length - cut);
		docker_wait_for(lab, words);
	}
}

static void write_chunk(struct text *into, const struct text *data)
{
	text_printf(into, "%zx\r\n", data->length);
	text_add(into, data->data, data->length);
	text_puts(into, "\r\n");
}

static void test_stream_that_ends_at_any_byte_loses_nothing(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *box = docker_add_box(lab, "web", 1000);
	CLEANUP(text_done) struct text event = {0};
	CLEANUP(text_done) struct text chunk = {0};

	docker_all_up(lab);
	docker_write_event(&event, "restart", box);
	write_chunk(&chunk, &event);
	for (size_t end = 0; end <= chunk.length; end++) {
		char words[32];

		docker_forget(lab);
		box->pid++;
		(void)snprintf(words, sizeof(words), "running:web:%d ", box->pid);
		if (end)
			http_connection_send(lab->events, chunk.data, end);
		http_connection_close(lab->events);
		docker_wait_for(lab, "lost ");
		/* Without the pause between sessions. */
		containers_resync(lab->containers);
		docker_wait_for(lab, "listed ");
		assert_non_null(strstr(docker_told(lab), words));
	}
}

static void test_event_of_an_end_is_told(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101),
			  *db = docker_add_box(lab, "db", 102);

	docker_all_up(lab);
	web->pid = 0;
	docker_send_event(lab, "die", web);
	docker_wait_for(lab, "gone:web ");
	db->pid = -1;
	docker_send_event(lab, "destroy", db);
	docker_wait_for(lab, "gone:db ");
	docker_send_event(lab, "destroy", web);
	docker_send_event(lab, "start", docker_add_box(lab, "last", 103));
	docker_wait_for(lab, "running:last:103 ");
	assert_string_equal(docker_told(lab), "gone:web gone:db running:last:103 ");
}

static void test_event_that_is_late_or_doubled_changes_nothing(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	docker_send_event(lab, "die", web);
	docker_send_event(lab, "start", web);
	docker_send_event(lab, "start", web);
	docker_send_event(lab, "start", docker_add_box(lab, "last", 103));
	docker_wait_for(lab, "running:last:103 ");
	assert_string_equal(docker_told(lab), "running:last:103 ");
}

static void test_event_of_another_name_or_process_is_told(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	(void)snprintf(web->name, sizeof(web->name), "www");
	docker_send_event(lab, "rename", web);
	docker_wait_for(lab, "running:www:101 ");
	web->pid = 102;
	docker_send_event(lab, "restart", web);
	docker_wait_for(lab, "running:www:102 ");
}

static void test_events_of_one_container_are_one_look_and_another(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	lab->hold = true;
	docker_send_event(lab, "restart", web);
	docker_wait_for(lab, "inspect:web ");
	for (int i = 0; i < 10; i++)
		docker_send_event(lab, "restart", web);
	docker_send_event(lab, "start", docker_add_box(lab, "last", 103));
	docker_wait_for(lab, "inspect:last ");
	/* What the engine says now is older than those events. */
	docker_release(lab);
	docker_wait_for(lab, "inspect:web inspect:last inspect:web ");
	web->pid = 102;
	docker_release(lab);
	docker_wait_for(lab, "running:web:102 ");
	assert_string_equal(lab->asked.data, "inspect:web inspect:last inspect:web ");
}

static void test_event_that_cannot_be_used_makes_it_list(void **state)
{
	static const char *const events[] = {"{}", "{\"Type\":7}",
					     "{\"Type\":\"container\",\"Action\":\"start\"}"};
	struct docker_lab *lab = *state;

	docker_all_up(lab);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		docker_forget(lab);
		docker_send_chunk(lab, events[i], strlen(events[i]));
		docker_wait_for(lab, "listed ");
		assert_string_equal(lab->asked.data, "list ");
	}
}

static void test_event_longer_than_the_cap_makes_it_list(void **state)
{
	struct docker_lab *lab = *state;
	char piece[16 * 1024];

	docker_all_up(lab);
	memset(piece, 'x', sizeof(piece));
	docker_send_chunk(lab, "{\"a\":\"", 6);
	for (int i = 0; i < 80; i++) {
		docker_send_chunk(lab, piece, sizeof(piece));
		/* So that it is read: the socket's buffer is small. */
		containers_resync(lab->containers);
		docker_forget(lab);
		docker_wait_for(lab, "listed ");
	}
	docker_forget(lab);
	docker_send_chunk(lab, "\"}", 2);
	docker_wait_for(lab, "listed ");
	docker_send_event(lab, "start", docker_add_box(lab, "last", 103));
	docker_wait_for(lab, "running:last:103 ");
	assert_null(strstr(docker_told(lab), "lost"));
}

/* --- The engine goes, and comes ------------------------------------------------------ */

static void test_engine_that_restarts_is_listed_anew(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	(void)docker_add_box(lab, "same", 102);
	docker_all_up(lab);
	docker_down(lab);
	docker_wait_for(lab, "lost ");
	assert_int_equal(containers_state(lab->containers), CONTAINERS_LOST);
	assert_string_equal(docker_told(lab), "lost ");
	web->pid = -1;
	(void)docker_add_box(lab, "new", 103);
	docker_up(lab);
	docker_wait_for(lab, "listed ");
	assert_non_null(strstr(docker_told(lab), "gone:web "));
	assert_non_null(strstr(docker_told(lab), "running:new:103 "));
	assert_null(strstr(docker_told(lab), "same"));
	assert_non_null(strstr(lab->asked.data, "version events list "));
	docker_forget(lab);
	web->pid = 104;
	docker_send_event(lab, "start", web);
	docker_wait_for(lab, "running:web:104 ");
}

static void test_engine_that_goes_while_it_is_listed_is_listed_whole(void **state)
{
	struct docker_lab *lab = *state;

	(void)docker_add_box(lab, "web", 101);
	(void)docker_add_box(lab, "db", 102);
	lab->hold = true;
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "inspect:db ");
	docker_down(lab);
	docker_wait_for(lab, "lost ");
	lab->hold = false;
	docker_up(lab);
	docker_wait_for(lab, "listed ");
	assert_non_null(strstr(docker_told(lab), "running:web:101 "));
	assert_non_null(strstr(docker_told(lab), "running:db:102 "));
}

static void test_engine_that_ends_its_events_is_connected_again(void **state)
{
	struct docker_lab *lab = *state;

	docker_all_up(lab);
	docker_send_chunk(lab, "{\"Type\":", 8);
	http_connection_send(lab->events, "0\r\n\r\n", 5);
	docker_wait_for(lab, "lost ");
	assert_non_null(strstr(lab->error.message, "has ended its stream of events"));
	docker_wait_for(lab, "listed ");
	/* Nothing is left of the event that was cut off. */
	docker_send_event(lab, "start", docker_add_box(lab, "web", 101));
	docker_wait_for(lab, "running:web:101 ");
}

static void test_engine_that_sends_no_events_is_connected_again(void **state)
{
	struct docker_lab *lab = *state;

	docker_all_up(lab);
	docker_send_chunk(lab, "<html>", 6);
	docker_wait_for(lab, "lost ");
	assert_non_null(strstr(lab->error.message, "events: the stream holds what is no JSON"));
	docker_wait_for(lab, "listed ");
}

static void test_engine_that_is_not_there_is_told_with_a_hint(void **state)
{
	static const struct {
		const char *version, *message;
	} cases[] = {
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
		 "status 404: this is not a Docker engine (--docker names another)"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
		 "this is not a Docker engine (--docker names another): answer is not JSON"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"ApiVersion\":\"1.23\"}",
		 "API is 1.23, 1.24 or later is needed"},
	};
	struct docker_lab *lab = *state;

	docker_source_up(lab);
	docker_wait_for(lab, "lost ");
	assert_non_null(strstr(lab->error.message, lab->url));
	assert_non_null(strstr(lab->error.message, "is Docker running?"));
	docker_up(lab);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		lab->version = cases[i].version;
		docker_forget(lab);
		docker_wait_for(lab, "lost ");
		if (!strstr(lab->error.message, cases[i].message))
			fail_msg("%s", lab->error.message);
	}
}

static void test_engine_that_stays_away_is_told_once(void **state)
{
	struct docker_lab *lab = *state;

	docker_up(lab);
	lab->version = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	docker_source_up(lab);
	docker_wait_for(lab, "version version version ");
	assert_string_equal(docker_told(lab), "lost ");
}

/* --- Freeing --------------------------------------------------------------------------- */

static void test_containers_may_be_freed_in_any_function(void **state)
{
	static const char *const functions[] = {"running", "live", "listed", "gone", "lost"};
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		web->pid = 101;
		lab->free_in = functions[i];
		docker_up(lab);
		docker_source_up(lab);
		if (i >= 3)
			docker_wait_for(lab, "listed ");
		web->pid = i == 3 ? 0 : 101;
		if (i == 3)
			docker_send_event(lab, "die", web);
		if (i == 4)
			docker_down(lab);
		docker_wait_for(lab, "freed ");
		assert_null(lab->containers);
		http_server_free(TAKE(lab->server));
		docker_forget(lab);
	}
}

static void test_containers_freed_under_way_leave_nothing(void **state)
{
	struct docker_lab *lab = *state;

	(void)docker_add_box(lab, "web", 101);
	lab->hold = true;
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "inspect:web ");
	containers_free(TAKE(lab->containers));
	assert_string_equal(docker_told(lab), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		docker_test(test_source_subscribes_before_it_lists),
		docker_test(test_source_of_an_engine_without_containers_is_live),
		docker_test(test_source_lists_though_the_head_of_the_events_is_late),
		docker_test(test_source_asks_for_eight_containers_at_once),
		docker_test(test_event_of_a_start_is_told_with_its_time),
		docker_test(test_event_before_the_listing_is_told_once),
		docker_test(test_event_cut_at_any_byte_is_understood),
		docker_test(test_stream_that_ends_at_any_byte_loses_nothing),
		docker_test(test_event_of_an_end_is_told),
		docker_test(test_event_that_is_late_or_doubled_changes_nothing),
		docker_test(test_event_of_another_name_or_process_is_told),
		docker_test(test_events_of_one_container_are_one_look_and_another),
		docker_test(test_event_that_cannot_be_used_makes_it_list),
		docker_test(test_event_longer_than_the_cap_makes_it_list),
		docker_test(test_engine_that_restarts_is_listed_anew),
		docker_test(test_engine_that_goes_while_it_is_listed_is_listed_whole),
		docker_test(test_engine_that_ends_its_events_is_connected_again),
		docker_test(test_engine_that_sends_no_events_is_connected_again),
		docker_test(test_engine_that_is_not_there_is_told_with_a_hint),
		docker_test(test_engine_that_stays_away_is_told_once),
		docker_test(test_containers_may_be_freed_in_any_function),
		docker_test(test_containers_freed_under_way_leave_nothing),
	};

	return cmocka_run_group_tests_name("docker", tests, NULL, NULL);
}
