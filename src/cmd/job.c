/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a job is one command on one namespace. Whatever fails
 * on the way is reported and leaves the outcome without changes; the outcome
 * is printed in any case, so that --json always is one document.
 *
 * Two jobs that change one namespace come one after the other, by the
 * namespace's lock: a flush that closes route_localnet between another's
 * transaction and its routes would leave half of each.
 */
#include "job.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "keeper.h"
#include "sweep.h"

enum { LOCK_PAUSE = 1000 * 1000 }; /* nanoseconds */

void job_init(struct job *job, const struct options *options)
{
	*job = (struct job){
		.options = options,
		.deadline = deadline_start(options->timeout),
		.target = TARGET_NONE,
		.outcome = {.done = " made", .still = "in sync"},
	};
}

void job_done(struct job *job)
{
	sync_result_done(&job->result);
	report_done(&job->report);
	target_done(&job->target);
}

bool job_open(struct job *job)
{
	struct error error = {0};
	int code = target_open(job->options, &job->deadline, &job->target, &error);

	job->outcome.target = job->target.name.data;
	job->outcome.netns = job->target.netns.inode;
	if (code < 0)
		report_error(&job->report, &error);
	return code == 0;
}

/* Descriptors of containers say whose they are, since several may have that variable. */
static void report_wrong(const struct descriptor *descriptor, struct report *report)
{
	const char *name = descriptor->origin.name;
	const char *kind = descriptor->state == DESCRIPTOR_CONFLICT ? "conflict: " : "";
	CLEANUP(text_done) struct text where = {0};

	if (name)
		text_printf(&where, "container %s: ", name);
	if (descriptor->column)
		text_printf(&where, "column %zu: ", descriptor->column);
	report_add(report, descriptor->variable, "%s%s%s", where.data ? where.data : "", kind,
		   descriptor->reason);
}

static void report_descriptor(const struct descriptor *descriptor, struct report *report)
{
	switch (descriptor->state) {
	case DESCRIPTOR_USED:
	case DESCRIPTOR_MERGED:
		return;
	case DESCRIPTOR_IGNORED:
		log_debug("%s: ignored: %s", descriptor->variable, descriptor->reason);
		return;
	case DESCRIPTOR_INVALID:
	case DESCRIPTOR_CONFLICT:
		report_wrong(descriptor, report);
		return;
	}
}

bool job_desire(struct job *job, struct arena *arena, const struct descriptor_set *set,
		struct lookup *lookup, struct ruleset *ret)
{
	struct error error = {0};

	for (size_t i = 0; i < set->count; i++)
		report_descriptor(set->items[i], &job->report);
	if (lookup_run(arena, job->options, &job->deadline, set, lookup, &error) < 0) {
		report_error(&job->report, &error);
		return false;
	}
	lookup_report(lookup, &job->report);
	if (lookup->count && lookup->failed == lookup->count)
		return false;
	if (lookup_ruleset(arena, job->options, lookup, ret) < 0) {
		error_no_memory(&error);
		report_error(&job->report, &error);
		return false;
	}
	return true;
}

/*
 * Anybody who can open the namespace, every process in it too, can hold the
 * lock: that delays a job, and must not forbid it.
 */
static void job_lock(const struct job *job)
{
	const struct deadline patience = deadline_start(deadline_left(&job->deadline) / 2);
	int code = netns_try_lock(&job->target.netns);

	if (code == -EAGAIN)
		log_debug("%s: waiting for another that changes it", job->target.name.data);
	while (code == -EAGAIN && deadline_left(&patience)) {
		deadline_pause(&patience, LOCK_PAUSE);
		code = netns_try_lock(&job->target.netns);
	}
	if (code < 0)
		log_warn("%s: going on without the namespace's lock: %s", job->target.name.data,
			 code == -EAGAIN ? "another process keeps it" : strerror(-code));
}

void job_sync(struct job *job, const struct ruleset *desired, bool only_plan)
{
	const struct sync sync = {
		.netns = &job->target.netns,
		.desired = desired,
		.only_plan = only_plan,
		.only_add = job->only_add,
		.deadline = &job->deadline,
	};
	struct error error = {0};

	if (!only_plan && keeper_check(job->options, &job->target.netns, &error) < 0) {
		error_wrap(&error, "%s", job->target.name.data);
		report_error(&job->report, &error);
		return;
	}
	if (!only_plan)
		job_lock(job);
	if (sync_run(&sync, &job->result, &error) < 0) {
		error_wrap(&error, "%s", job->target.name.data);
		report_error(&job->report, &error);
		return;
	}
	if (!only_plan && sweep_run(&job->target.netns, &job->result, desired,
				    job->options->reset_when_removed, &error) < 0) {
		error_wrap(&error, "%s: the rules are true, flows of before may go on",
			   job->target.name.data);
		report_error(&job->report, &error);
	}
	job->outcome.changes = job->result.verdicts.changes;
	job->outcome.change_count = job->result.verdicts.change_count;
	job->outcome.valid = true;
}

enum status job_finish(struct job *job)
{
	CLEANUP(text_done) struct text text = {0};
	struct error error = {0};

	if (job->options->json)
		outcome_print_json(&text, &job->outcome, &job->report);
	else
		outcome_print_text(&text, &job->outcome, output_wants_colour(STDOUT_FILENO));
	if (output_write(STDOUT_FILENO, &text, &error) < 0)
		report_error(&job->report, &error);
	return job->report.failed ? STATUS_FAILED : STATUS_DONE;
}
