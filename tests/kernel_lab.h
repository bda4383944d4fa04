/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_KERNEL_LAB_H
#define DRAGOMAN_TESTS_KERNEL_LAB_H

/*
 * A network namespace for each test, with lo and a pair of links in it, one of
 * them without IPv6; and the kernel module opened there. Root is needed, and
 * its lack is a failure. What goes wrong fails the test that calls.
 */

#include <stdbool.h>

#include "dragoman/base/text.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/plan/plan.h"

#define LOCALNET "/proc/sys/net/ipv4/conf/all/route_localnet"

struct lab {
	struct kernel *kernel;
	struct arena *arena;
	struct observed observed;
	struct verdicts verdicts;
	struct error error;
};

/* Of the namespace that the program was started in. */
extern int lab_first_namespace;

/* For cmocka: around the group, and around each test. */
int lab_group_begin(void **state);
int lab_group_end(void **state);
int lab_begin(void **state);
int lab_end(void **state);

#define lab_test(function) cmocka_unit_test_setup_teardown(function, lab_begin, lab_end)

/* Runs a shell command in the namespace at hand; what it says goes to nowhere. */
bool lab_try_run(const char *command);
void lab_run(const char *command);

/* What a command prints. */
void lab_run_text(const char *command, struct text *ret);

void lab_read(struct lab *lab);
void lab_plan(struct lab *lab, const struct ruleset *desired);
void lab_commit(struct lab *lab);
void lab_flush(struct lab *lab);

/* Makes it true; what was done is right, and there is nothing more to do. */
void lab_sync(struct lab *lab, const struct ruleset *desired);

/* Commits the verdicts at hand, which has to fail with the code and the whole text. */
void lab_refused(struct lab *lab, int code, enum error_class class, const char *text);

bool lab_is_empty(const struct verdicts *verdicts);
void lab_tell_changes(const struct verdicts *verdicts);

/* Port 80/tcp with `slots` endpoints of one family. */
struct ruleset lab_service(struct lab *lab, enum family family, unsigned slots);

#endif
