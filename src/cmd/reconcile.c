/* SPDX-License-Identifier: MIT */
/*
 * dragoman reconcile, dragoman plan
 *
 * Theory of operation: target, descriptors, registry, ruleset, kernel; `plan`
 * stops before the commit. What is wrong with single descriptors, or with the
 * reads of single services, is reported and does not stop the others. What
 * makes the whole desired state unknown (no target, no descriptors to read, no
 * answer from the registry at all) ends it before the kernel is looked at.
 */
#include "job.h"

/* From the target to the ruleset. Returns whether there is one; if not, it was reported why. */
static bool find_desired(struct job *job, struct arena *arena, struct lookup *lookup,
			 struct ruleset *ret)
{
	struct descriptor_set set = {.arena = arena, .root = job->options->root};
	struct error error = {0};

	if (!job_open(job))
		return false;
	if (target_read_descriptors(&job->target, job->options, &set, &error) < 0) {
		report_error(&job->report, &error);
		return false;
	}
	return job_desire(job, arena, &set, lookup, ret);
}

static enum status run_sync(const struct options *options, bool only_plan)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	CLEANUP(job_done) struct job job;
	struct lookup lookup = {0};
	struct ruleset desired;
	struct error error = {0};
	enum status status;

	job_init(&job, options);
	if (only_plan)
		job.outcome.done = "";
	if (!arena) {
		error_no_memory(&error);
		report_error(&job.report, &error);
	} else if (find_desired(&job, arena, &lookup, &desired)) {
		job_sync(&job, &desired, only_plan);
		lookup_warn(arena, options, &job.deadline, &lookup);
	}
	status = job_finish(&job);
	if (status == STATUS_DONE && only_plan && job.outcome.change_count)
		return STATUS_CHANGES;
	return status;
}

static int reconcile(const struct options *options)
{
	return (int)run_sync(options, false);
}

static int plan(const struct options *options)
{
	return (int)run_sync(options, true);
}

const struct command command_reconcile = {
	.name = "reconcile",
	.bit = COMMAND_RECONCILE,
	.has_target = true,
	.summary = "make one network namespace true, once",
	.description =
		"Reads what the namespace's descriptors ask for, looks it up in the registry, and "
		"makes the kernel's rules in the namespace so, in one step. Where nothing differs "
		"nothing is written. Prints what was changed.\n"
		"\n"
		"The descriptors are BACKEND_ variables, 'SERVICE[TAG,...];PORT/PROTO': of this "
		"command's own environment with --netns, of the process's with --pid, and of all "
		"containers that share the namespace with --container. Rules for "
		"what is not asked for any more are removed.",
	.examples = "BACKEND_DB='/services/prod/db;3306' dragoman reconcile --netns web\n"
		    "dragoman reconcile --netns web -b CACHE='redis.master[prod];6379'\n"
		    "dragoman reconcile --container web\n"
		    "dragoman reconcile --pid 4711 --registry etcds://etcd.example.net:2379",
	.status = "0  the namespace is as the registry says\n"
		  "1  something could not be done; each thing is named on standard error\n"
		  "2  usage",
	.run = reconcile,
};

const struct command command_plan = {
	.name = "plan",
	.bit = COMMAND_PLAN,
	.has_target = true,
	.summary = "show what reconcile would change; change nothing",
	.description =
		"Does all that reconcile does, but for the last step: prints what it would change "
		"in the namespace. + is added, ~ replaced, - removed.",
	.examples = "BACKEND_DB='/services/prod/db;3306' dragoman plan --netns web\n"
		    "dragoman plan --netns web --env-file web.env --json",
	.status = "0  nothing to change\n"
		  "1  something could not be found out; each thing is named on standard error\n"
		  "2  usage\n"
		  "3  there are changes to make",
	.run = plan,
};
