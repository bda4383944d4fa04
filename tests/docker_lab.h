/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_DOCKER_LAB_H
#define DRAGOMAN_TESTS_DOCKER_LAB_H

/*
 * An engine on the test's own loop, as wrong as a test wants it, and a source
 * of containers that looks at it. What the engine was asked, and what the
 * source told, are written down as words; a test waits until the words that it
 * expects are there. What goes wrong fails the test that calls.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/text.h"
#include "dragoman/container/container.h"
#include "http_server.h"

enum { DOCKER_BOXES = 24 };

/* A container that the engine has. */
struct docker_box {
	char id[CONTAINER_ID_MAX + 1];
	char name[16];
	int pid; /* 0: it does not run; -1: there is none */
	bool unlisted;
};

struct docker_lab {
	struct loop *loop;
	struct loop_source *deadline;
	char directory[32], path[64], url[80];
	struct http_server *server;
	struct http_connection *events;
	struct containers *containers;
	struct text asked, told; /* words, each with a blank behind it */
	const char *awaited;
	struct docker_box boxes[DOCKER_BOXES];
	size_t box_count;
	uint64_t event; /* of the last that was told to run */
	struct error error;

	/* What the engine does instead. */
	const char *version, *list, *inspect; /* whole answers */
	bool hold;                            /* looks are not answered before docker_release() */
	struct http_connection *held[DOCKER_BOXES];
	struct docker_box *held_boxes[DOCKER_BOXES];
	size_t held_count, held_most;
	bool silent; /* no head of the events */
	const char *free_in;
};

/* For cmocka, around each test. */
int docker_lab_begin(void **state);
int docker_lab_end(void **state);

#define docker_test(function) \
	cmocka_unit_test_setup_teardown(function, docker_lab_begin, docker_lab_end)

/* --- The engine --- */

void docker_up(struct docker_lab *lab);
void docker_down(struct docker_lab *lab);
/* A container that it has from now on; nothing is told of it. */
struct docker_box *docker_add_box(struct docker_lab *lab, const char *name, int pid);
/* What it answers to who looks at that container. */
void docker_answer_look(const struct docker_box *box, struct text *answer);
/* Answers the looks that were held. */
void docker_release(struct docker_lab *lab);
void docker_write_event(struct text *into, const char *action, const struct docker_box *box);
void docker_send_event(struct docker_lab *lab, const char *action, const struct docker_box *box);
/* Any bytes, on the stream of events. */
void docker_send_chunk(struct docker_lab *lab, const char *data, size_t length);

/* --- The source --- */

void docker_source_up(struct docker_lab *lab);
/* Both, and waits until the source is done with its listing; that is forgotten. */
void docker_all_up(struct docker_lab *lab);
/* Waits until the words are there, in one row, of those asked or of those told. */
void docker_wait_for(struct docker_lab *lab, const char *words);
void docker_forget(struct docker_lab *lab);
const char *docker_told(const struct docker_lab *lab);

#endif
