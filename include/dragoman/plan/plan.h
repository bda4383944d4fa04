/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_PLAN_PLAN_H
#define DRAGOMAN_PLAN_PLAN_H

/*
 * Desired and observed in, verdicts out. Pure: no input or output, the same
 * arguments give the same result, and planning again after applying gives
 * nothing.
 */

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/model/verdict.h"

enum {
	PLAN_REBUILD = 1, /* replace the whole table, though it could be changed in place */
	PLAN_PART = 2,    /* observed and desired are of some ports only; leave the others alone */
	PLAN_ADD = 4,     /* desired is of some ports only, observed of all: what stands stays */
};

/*
 * What has to change so that the namespace observed is as desired. The
 * verdicts live in the arena, and borrow names from observed. A part is planned
 * from standing_view(), and may have no services at all. Returns 0 or -ENOMEM.
 */
int plan_make(struct arena *arena, const struct ruleset *desired, const struct observed *observed,
	      unsigned flags, struct verdicts *ret);

/* What takes every trace of us out of the namespace observed. Returns 0 or -ENOMEM. */
int plan_flush(struct arena *arena, const struct observed *observed, struct verdicts *ret);

#endif
