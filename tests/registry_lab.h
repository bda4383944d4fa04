/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_REGISTRY_LAB_H
#define DRAGOMAN_TESTS_REGISTRY_LAB_H

/*
 * Reads against servers that are as wrong as each test wants them. Every
 * server runs on the loop of the read itself, so nothing here waits for
 * anything but an event. What goes wrong fails the test that calls.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/registry/registry_private.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/registry.h"
#include "http_server.h"

enum { SERVICES_MAX = 200, SECONDS = 1000000000 };

struct registry_lab {
	struct loop *loop;
	struct http_server *servers[2];
	struct registry *registry;
	struct loop_source *deadline;
	char password_file[32];
	/* What came back. */
	struct text errors[SERVICES_MAX];
	struct text documents[SERVICES_MAX]; /* keys, joined by blanks */
	uint64_t revisions[SERVICES_MAX];
	size_t answers, failed, done;
	struct error unreachable;
	bool free_in_answer, free_in_done;
};

/* For cmocka, around each test. */
int registry_lab_begin(void **state);
int registry_lab_end(void **state);

#define registry_test(function) \
	cmocka_unit_test_setup_teardown(function, registry_lab_begin, registry_lab_end)

/* Opens a registry of the servers that there are. */
void registry_lab_open(struct registry_lab *lab, const char *scheme, bool with_user);
/* Reads "/s0", "/s1"... to the end. */
void registry_lab_read(struct registry_lab *lab, size_t count);
/* How often `what` is in a text. */
size_t registry_lab_count(const char *text, const char *what);

/* Servers: nothing in any range; an error; an answer that is cut off. */
http_server_function registry_lab_serve_empty, registry_lab_serve_500, registry_lab_serve_cut_off;

#endif
