/* SPDX-License-Identifier: MIT */
/*
 * dragoman flush
 *
 * Theory of operation: the same tries as reconcile's, towards nothing at all:
 * neither the registry nor any descriptor is needed for that.
 */
#include "dragoman/base/log.h"
#include "job.h"

static int flush(const struct options *options)
{
	CLEANUP(job_done) struct job job;

	job_init(&job, options);
	job.outcome.still = "nothing of dragoman's stands there";
	if (job_open(&job))
		job_sync(&job, NULL, false);
	if (job.outcome.valid && job.result.verdicts.localnet_unclaimed)
		log_warn("%s: net.ipv4.conf.all.route_localnet is 1, and nothing tells whose doing "
			 "that is: where nobody else needs it, set it to 0",
			 job.target.name.data);
	return (int)job_finish(&job);
}

const struct command command_flush = {
	.name = "flush",
	.bit = COMMAND_FLUSH,
	.has_target = true,
	.summary = "take every trace out of a network namespace",
	.description =
		"Removes the rules from the namespace, and puts back what they needed there: the "
		"routes to ::1, and net.ipv4.conf.all.route_localnet as it was found.",
	.examples = "dragoman flush --netns web\n"
		    "dragoman flush --pid 4711\n"
		    "dragoman flush --container web",
	.status = "0  no trace is left\n"
		  "1  something could not be done; each thing is named on standard error\n"
		  "2  usage",
	.run = flush,
};
