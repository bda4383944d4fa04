/* SPDX-License-Identifier: MIT */
#include "kernel_lab.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "plan_model.h"

int lab_first_namespace = -1;

int lab_group_begin(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_error("root is needed: this makes network namespaces\n");
		return -1;
	}
	lab_first_namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return lab_first_namespace < 0 ? -1 : 0;
}

int lab_group_end(void **state)
{
	(void)state;
	return close(lab_first_namespace);
}

/* Runs a shell command in the namespace at hand; what it says goes to nowhere. */
bool lab_try_run(const char *command)
{
	char line[1024];

	(void)snprintf(line, sizeof(line), "{ %s; } >/dev/null 2>&1", command);
	return system(line) == 0;
}

void lab_run(const char *command)
{
	if (!lab_try_run(command))
		fail_msg("failed: %s", command);
}

/* What a command prints. */
void lab_run_text(const char *command, struct text *ret)
{
	FILE *pipe = popen(command, "re");
	char buffer[4096];
	size_t length;

	assert_non_null(pipe);
	text_add(ret, "", 0);
	while ((length = fread(buffer, 1, sizeof(buffer), pipe)) > 0)
		text_add(ret, buffer, length);
	if (pclose(pipe) != 0 || ret->failed)
		fail_msg("failed: %s", command);
}

int lab_begin(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct netns netns = NETNS_NONE;

	*state = lab;
	if (!lab || unshare(CLONE_NEWNET) < 0 || !lab_try_run("ip link set lo up") ||
	    !lab_try_run(
		    "ip link add d0 type veth peer name d9 && ip link set d0 up && ip link set d9 up"
		    " && echo 1 >/proc/sys/net/ipv6/conf/d9/disable_ipv6"))
		return -1;
	lab->arena = arena_new();
	if (!lab->arena || netns_open("/proc/self/ns/net", &netns, &lab->error) < 0 ||
	    kernel_open(&netns, &lab->kernel, &lab->error) < 0) {
		print_error("%s\n", lab->error.message);
		return -1;
	}
	netns_done(&netns);
	return 0;
}

int lab_end(void **state)
{
	struct lab *lab = *state;

	kernel_close(lab->kernel);
	arena_free(lab->arena);
	free(lab);
	return setns(lab_first_namespace, CLONE_NEWNET);
}

void lab_read(struct lab *lab)
{
	if (kernel_read(lab->kernel, lab->arena, &lab->observed, &lab->error) < 0)
		fail_msg("reading: %s", lab->error.message);
}

void lab_plan(struct lab *lab, const struct ruleset *desired)
{
	lab_read(lab);
	assert_int_equal(plan_make(lab->arena, desired, &lab->observed, 0, &lab->verdicts), 0);
}

void lab_commit(struct lab *lab)
{
	if (kernel_commit(lab->kernel, &lab->verdicts, &lab->error) < 0)
		fail_msg("committing: %s", lab->error.message);
}

void lab_flush(struct lab *lab)
{
	lab_read(lab);
	assert_int_equal(plan_flush(lab->arena, &lab->observed, &lab->verdicts), 0);
	lab_commit(lab);
}

/* Commits the verdicts at hand, which has to fail with the code and the whole text. */
void lab_refused(struct lab *lab, int code, enum error_class class, const char *text)
{
	memset(&lab->error, 0, sizeof(lab->error));
	assert_int_equal(kernel_commit(lab->kernel, &lab->verdicts, &lab->error), code);
	assert_string_equal(lab->error.message, text);
	assert_int_equal(lab->error.code, code);
	assert_int_equal(lab->error.class, class);
}

bool lab_is_empty(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}

void lab_tell_changes(const struct verdicts *verdicts)
{
	for (size_t i = 0; i < verdicts->change_count; i++)
		print_message("  %s %s\n", verdict_name(verdicts->changes[i].verdict),
			      verdicts->changes[i].is_object ? verdicts->changes[i].object
							     : "an endpoint");
}

/* Makes it true; what was done is right, and there is nothing more to do. */
void lab_sync(struct lab *lab, const struct ruleset *desired)
{
	struct model before, after;
	const char *what;

	lab_plan(lab, desired);
	before = (struct model){.observed = lab->observed};
	if (kernel_commit(lab->kernel, &lab->verdicts, &lab->error) < 0) {
		lab_tell_changes(&lab->verdicts);
		fail_msg("committing: %s", lab->error.message);
	}
	lab_plan(lab, desired);
	after = (struct model){.observed = lab->observed};
	if (!lab_is_empty(&lab->verdicts)) {
		lab_tell_changes(&lab->verdicts);
		fail_msg("planning again gives something");
	}
	what = model_differs(desired, &before, &after);
	if (what)
		fail_msg("%s", what);
}

/* Port 80/tcp with `slots` endpoints of one family. */
struct ruleset lab_service(struct lab *lab, enum family family, unsigned slots)
{
	struct ruleset ruleset = {
		.services = arena_array(lab->arena, 1, sizeof(*ruleset.services)),
		.count = 1,
	};
	struct share *shares = arena_array(lab->arena, slots, sizeof(*shares));

	assert_non_null(ruleset.services);
	assert_non_null(shares);
	for (unsigned i = 0; i < slots; i++) {
		shares[i] = (struct share){model_endpoint(family, 2 * i), 1};
		assert_true(i == 0 ||
			    endpoint_compare(&shares[i - 1].endpoint, &shares[i].endpoint) < 0);
	}
	ruleset.services[0].listen = (struct listen){PROTOCOL_TCP, 80};
	ruleset.services[0].shares[family] = shares;
	ruleset.services[0].share_count[family] = slots;
	return ruleset;
}
