/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Looking at containers, one by one (docker_lab.h): those that a listing names,
 * or lacks, and those that cannot be looked at, which keep nobody else waiting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "docker_lab.h"
#include "dragoman/base/memory.h"

/* --- Listing --------------------------------------------------------------------- */

static void test_resync_tells_what_was_missed_and_nothing_else(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101),
			  *db = docker_add_box(lab, "db", 102);

	(void)docker_add_box(lab, "same", 103);
	docker_all_up(lab);
	web->pid = -1;
	db->pid = 112;
	containers_resync(lab->containers);
	containers_resync(lab->containers);
	docker_wait_for(lab, "listed ");
	assert_non_null(strstr(docker_told(lab), "gone:web "));
	assert_non_null(strstr(docker_told(lab), "running:db:112 "));
	assert_null(strstr(docker_told(lab), "same"));
	assert_null(strstr(docker_told(lab), "live"));
}

static void test_resync_while_listing_lists_again(void **state)
{
	struct docker_lab *lab = *state;

	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "list ");
	containers_resync(lab->containers);
	docker_wait_for(lab, "listed listed ");
}

static void test_container_missing_in_a_listing_is_asked_for_before_it_is_gone(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	web->unlisted = true;
	containers_resync(lab->containers);
	docker_wait_for(lab, "listed ");
	assert_string_equal(lab->asked.data, "list inspect:web ");
	assert_string_equal(docker_told(lab), "listed ");
}

static void test_listing_that_fails_loses_nothing(void **state)
{
	static const struct {
		const char *answer, *message;
	} cases[] = {
		{"HTTP/1.1 500 Oops\r\nContent-Length: 21\r\n\r\n{\"message\":\"no disk\"}",
		 "status 500: no disk"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no list of containers"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[{}", "is not JSON"},
	};
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	web->pid = -1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		lab->list = cases[i].answer;
		containers_resync(lab->containers);
		docker_wait_for(lab, "lost ");
		if (!strstr(lab->error.message, cases[i].message))
			fail_msg("%s", lab->error.message);
		assert_string_equal(docker_told(lab), "lost ");
		docker_forget(lab);
	}
	lab->list = NULL;
	docker_wait_for(lab, "listed ");
	assert_string_equal(docker_told(lab), "gone:web live listed ");
}

/* --- One container that cannot be looked at ---------------------------------------- */

static void test_looks_that_take_long_make_room_for_others(void **state)
{
	struct docker_lab *lab = *state;
	char name[24];

	docker_all_up(lab);
	lab->hold = true;
	for (int i = 0; i < 12; i++) {
		(void)snprintf(name, sizeof(name), "stuck%d", i);
		docker_send_event(lab, "start", docker_add_box(lab, name, 200 + i));
	}
	docker_wait_for(lab, "inspect:stuck7 ");
	lab->hold = false;
	docker_send_event(lab, "start", docker_add_box(lab, "good", 101));
	docker_wait_for(lab, "running:good:101 ");
	/* Those before it came first. */
	assert_non_null(strstr(docker_told(lab), "running:stuck11:211 "));
	docker_release(lab);
	docker_wait_for(lab, "running:stuck7:207 ");
	assert_null(strstr(docker_told(lab), "lost "));
}

static void test_start_is_looked_at_before_what_a_listing_named(void **state)
{
	struct docker_lab *lab = *state;
	char name[24];

	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "old%d", i);
		(void)docker_add_box(lab, name, 200 + i);
	}
	docker_all_up(lab);
	lab->hold = true;
	containers_resync(lab->containers);
	docker_wait_for(lab, "inspect:old");
	lab->hold = false;
	docker_send_event(lab, "start", docker_add_box(lab, "new", 101));
	docker_wait_for(lab, "list ");
	docker_release(lab);
	docker_wait_for(lab, "running:new:101 ");
	assert_null(strstr(docker_told(lab), "listed "));
}

static void test_container_that_is_doubted_is_told_again(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	for (int i = 0; i < 2; i++) {
		docker_forget(lab);
		containers_ask_again(lab->containers, web->id);
		docker_wait_for(lab, "running:web:101 ");
		assert_string_equal(lab->asked.data, "inspect:web ");
	}
	/* Once for each doubt. */
	docker_forget(lab);
	containers_resync(lab->containers);
	docker_wait_for(lab, "listed ");
	assert_string_equal(docker_told(lab), "listed ");
	containers_ask_again(lab->containers, "0123456789ab");
}

static void test_look_that_fails_is_tried_again_before_all_was_listed(void **state)
{
	struct docker_lab *lab = *state;

	(void)docker_add_box(lab, "web", 101);
	lab->inspect = "HTTP/1.1 500 Oops\r\nContent-Length: 18\r\n\r\n{\"message\":\"oops\"}";
	docker_up(lab);
	docker_source_up(lab);
	docker_wait_for(lab, "inspect:web inspect:web ");
	lab->inspect = NULL;
	docker_wait_for(lab, "listed ");
	assert_string_equal(docker_told(lab), "running:web:101 live listed ");
}

static void test_look_that_fails_for_good_is_told_and_loses_nothing(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101);

	docker_all_up(lab);
	lab->inspect = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	docker_send_event(lab, "die", web);
	docker_wait_for(lab, "live ");
	assert_non_null(strstr(lab->error.message,
			       "container 010000000000: answer has a container without an ID"));
	assert_string_equal(docker_told(lab), "live ");
	lab->inspect = NULL;
	web->pid = 0;
	docker_send_event(lab, "die", web);
	docker_wait_for(lab, "gone:web ");
}

static void test_look_answered_for_another_container_is_refused(void **state)
{
	struct docker_lab *lab = *state;
	struct docker_box *web = docker_add_box(lab, "web", 101),
			  *db = docker_add_box(lab, "db", 102);
	CLEANUP(text_done) struct text answer = {0};

	docker_all_up(lab);
	docker_answer_look(db, &answer);
	lab->inspect = answer.data;
	web->pid = 0;
	docker_send_event(lab, "die", web);
	docker_wait_for(lab, "live ");
	assert_non_null(strstr(lab->error.message, "about another container"));
	assert_string_equal(docker_told(lab), "live ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		docker_test(test_resync_tells_what_was_missed_and_nothing_else),
		docker_test(test_resync_while_listing_lists_again),
		docker_test(test_container_missing_in_a_listing_is_asked_for_before_it_is_gone),
		docker_test(test_listing_that_fails_loses_nothing),
		docker_test(test_looks_that_take_long_make_room_for_others),
		docker_test(test_start_is_looked_at_before_what_a_listing_named),
		docker_test(test_container_that_is_doubted_is_told_again),
		docker_test(test_look_that_fails_is_tried_again_before_all_was_listed),
		docker_test(test_look_that_fails_for_good_is_told_and_loses_nothing),
		docker_test(test_look_answered_for_another_container_is_refused),
	};

	return cmocka_run_group_tests_name("docker look", tests, NULL, NULL);
}
