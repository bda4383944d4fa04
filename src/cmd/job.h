/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_JOB_H
#define DRAGOMAN_CMD_JOB_H

/*
 * What the commands on one namespace have in common: opening it, making it
 * true, and telling what came of it.
 */

#include "deadline.h"
#include "dragoman/base/error.h"
#include "lookup.h"
#include "options.h"
#include "output.h"
#include "report.h"
#include "sync.h"
#include "target.h"

struct job {
	const struct options *options;
	struct deadline deadline;
	struct target target;
	struct report report;
	struct outcome outcome;
	bool only_add;             /* what stands of ports that are not asked for stays */
	struct sync_result result; /* lends the outcome its changes */
};

void job_init(struct job *job, const struct options *options);
void job_done(struct job *job);

/* Opens the target. Returns whether that worked; if not, it was reported. */
bool job_open(struct job *job);

/*
 * From descriptors to the ruleset. What is wrong with single ones, or with the
 * reads of single services, is reported. Returns whether there is a ruleset; if
 * not, it was reported why.
 */
bool job_desire(struct job *job, struct arena *arena, const struct descriptor_set *set,
		struct lookup *lookup, struct ruleset *ret);

/* Makes the namespace so (desired NULL: empty of us), or only plans. Reports what fails. */
void job_sync(struct job *job, const struct ruleset *desired, bool only_plan);

/*
 * Prints the outcome. Returns the exit status: STATUS_DONE or STATUS_FAILED.
 */
enum status job_finish(struct job *job);

#endif
