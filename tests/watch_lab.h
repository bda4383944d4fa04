/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_WATCH_LAB_H
#define DRAGOMAN_TESTS_WATCH_LAB_H

/*
 * A watch against an etcd v3 that does what each test wants: one server, which
 * answers reads with the content that it is given, and watchers with what the
 * test sends. What is told is written down, a line each; a test waits until
 * its log is what it should be. What goes wrong fails the test that calls.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/registry/watch_private.h"
#include "http_server.h"

enum { MILLISECONDS = 1000000 };

struct watch_lab {
	struct loop *loop;
	struct loop_source *deadline;
	struct http_server *server;
	struct registry *registry;
	struct registry_watch *watch;
	char password_file[32];
	/* What the server holds. */
	const char *kvs; /* of the service /s */
	unsigned revision, cluster;
	bool fail_reads, hold_reads, hold_creates, no_streams;
	const char *refuse;             /* the next create, with this reason */
	unsigned compacted;             /* creates below this revision are cancelled */
	struct http_connection *reader; /* whose read is held */
	struct http_connection *stream; /* the one that is open */
	unsigned streams, reads, tokens;
	uint64_t last_id;
	struct text requests; /* on streams: "create 1 from 3" */
	struct text log;
	const char *remove_in_update;
};

/* /s/a is "1", /s/b is "2" (base64 of both). */
#define KV(key, value) "{\"key\":\"" key "\",\"value\":\"" value "\"}"
#define KEY_A "L3MvYQ=="
#define KEY_B "L3MvYg=="
#define ONE "MQ=="
#define TWO "Mg=="
#define PUT(key, value, revision) \
	"{\"kv\":{\"key\":\"" key "\",\"value\":\"" value "\",\"mod_revision\":\"" revision "\"}}"
#define GONE(key, revision) \
	"{\"type\":\"DELETE\",\"kv\":{\"key\":\"" key "\",\"mod_revision\":\"" revision "\"}}"

/* For cmocka, around each test. */
int watch_lab_begin(void **state);
int watch_lab_end(void **state);

#define watch_test(function) \
	cmocka_unit_test_setup_teardown(function, watch_lab_begin, watch_lab_end)

/* A watch of the server, of nothing yet. */
void watch_lab_open(struct watch_lab *lab, bool with_user);
/* The service /s is followed, from revision 2 on; /s/a is 1. */
void watch_lab_follow(struct watch_lab *lab);

/* Sends an answer of the stream: its fields behind the header; of one watcher. */
void watch_lab_says(const struct watch_lab *lab, const char *fields);
void watch_lab_says_of(const struct watch_lab *lab, uint64_t id, const char *fields);
/* Of the last watcher; the server's revision is that from then on. */
void watch_lab_says_events(struct watch_lab *lab, unsigned revision, const char *events);
/* Answers the read that is held. */
void watch_lab_answer_read(struct watch_lab *lab, const char *kvs, unsigned revision);

/* Runs until the log, or what was asked on streams, is `expected`, and empties it. */
void watch_lab_expect(struct watch_lab *lab, const char *expected);
void watch_lab_expect_requests(struct watch_lab *lab, const char *expected);

#endif
