/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a job is one command on one namespace. Whatever fails
 * on the way is reported and leaves the outcome without changes; the outcome
 * is printed in any case, so that --json always is one document.
 */
#include "job.h"

#include <unistd.h>

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
	int code = target_open(job->options, &job->target, &error);

	job->outcome.target = job->target.name.data;
	job->outcome.netns = job->target.netns.inode;
	if (code < 0)
		report_error(&job->report, &error);
	return code == 0;
}

void job_sync(struct job *job, const struct ruleset *desired, bool only_plan)
{
	const struct sync sync = {
		.netns = &job->target.netns,
		.desired = desired,
		.only_plan = only_plan,
		.deadline = &job->deadline,
	};
	struct error error = {0};

	if (sync_run(&sync, &job->result, &error) < 0) {
		error_wrap(&error, "%s", job->target.name.data);
		report_error(&job->report, &error);
		return;
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
