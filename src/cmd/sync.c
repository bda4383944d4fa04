/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: each try reads the namespace and plans in an arena of
 * its own. What a commit says decides what comes next:
 *
 *   done             the plan is the result
 *   conflict         the ruleset changed under us: a short pause, that grows
 *                    and is jittered, and another try
 *   an answer lost   the same; but where the next plan is empty, the commit
 *                    had come through, and its plan is the result
 *   refused          the kernel does not take these changes on what stands:
 *                    once, plan a table that replaces all of it
 *   anything else    an error
 *
 * After SYNC_TRIES conflicts, or when the command's time is over, it gives up;
 * nothing was changed then, since every commit is all or nothing, but for the
 * sysctl and the routes that a flush puts back before the table goes.
 */
#include "sync.h"

#include <errno.h>

#include "dragoman/base/log.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/plan/plan.h"

/* Nanoseconds between two tries: about 0.2 ms at first, 20 ms at most. */
enum { PAUSE_MIN = 200 * 1000, PAUSE_MAX = 20 * 1000 * 1000 };

struct attempt {
	struct arena *arena;
	struct observed observed;
	struct verdicts verdicts;
};

struct run {
	const struct sync *sync;
	struct kernel *kernel;
	bool rebuild;            /* a batch was refused: replace the whole table */
	struct error refusal;    /* what the kernel said then */
	struct sync_result lost; /* the plan whose commit nobody confirmed, or nothing */
};

void sync_result_done(struct sync_result *result)
{
	arena_free(result->arena);
	*result = (struct sync_result){0};
}

static void run_done(struct run *run)
{
	kernel_close(run->kernel);
	sync_result_done(&run->lost);
}

static int plan(const struct run *run, struct attempt *attempt, unsigned flags, struct error *error)
{
	const struct ruleset *desired = run->sync->desired;
	int code;

	if (run->sync->only_add)
		flags |= PLAN_ADD;
	if (desired)
		code = plan_make(attempt->arena, desired, &attempt->observed, flags,
				 &attempt->verdicts);
	else
		code = plan_flush(attempt->arena, &attempt->observed, &attempt->verdicts);
	return code < 0 ? error_no_memory(error) : 0;
}

static int look(const struct run *run, struct attempt *attempt, struct error *error)
{
	int code = kernel_read(run->kernel, attempt->arena, &attempt->observed, error);

	if (code == 0)
		code = plan(run, attempt, 0, error);
	if (code < 0 || !run->rebuild || verdicts_are_empty(&attempt->verdicts))
		return code;
	/* The batch went in, then: what was refused is a sysctl or a route. */
	if (!verdicts_have_batch(&attempt->verdicts)) {
		*error = run->refusal;
		return error->code;
	}
	return plan(run, attempt, PLAN_REBUILD, error);
}

static void give(struct attempt *attempt, struct sync_result *ret)
{
	sync_result_done(ret);
	ret->arena = TAKE(attempt->arena);
	ret->observed = attempt->observed;
	ret->verdicts = attempt->verdicts;
}

static void attempt_done(struct attempt *attempt)
{
	arena_free(attempt->arena);
}

/* Sets *ret_refused when it was the commit that failed, and not by a conflict. */
static int try_once(struct run *run, struct sync_result *ret, bool *ret_refused,
		    struct error *error)
{
	CLEANUP(attempt_done) struct attempt attempt = {.arena = arena_new()};
	int code;

	if (!attempt.arena)
		return error_no_memory(error);
	code = look(run, &attempt, error);
	if (code < 0)
		return code;
	if (run->lost.arena && verdicts_are_empty(&attempt.verdicts)) {
		*ret = run->lost;
		run->lost = (struct sync_result){0};
		return 0;
	}
	sync_result_done(&run->lost);
	if (!run->sync->only_plan && !verdicts_are_empty(&attempt.verdicts))
		code = kernel_commit(run->kernel, &attempt.verdicts, error);
	if (code == 0)
		give(&attempt, ret);
	else if (code == -EAGAIN)
		give(&attempt, &run->lost);
	else
		*ret_refused = code != -ERESTART;
	return code;
}

/* Errors that say: not on this table. Others would come again with any table. */
static bool may_rebuild(const struct run *run, int code)
{
	if (!run->sync->desired || run->rebuild)
		return false;
	switch (-code) {
	case EBUSY:
	case EEXIST:
	case EINVAL:
	case ELOOP:
	case EMLINK:
	case ENOENT:
	case EOPNOTSUPP:
	case ERANGE:
		return true;
	default:
		return false;
	}
}

static void prepare_rebuild(struct run *run, const struct error *error)
{
	log_debug("refused, replacing the whole table: %s", error->message);
	run->rebuild = true;
	run->refusal = *error;
}

static bool is_conflict(int code, const struct error *error)
{
	return code == -ERESTART || code == -EAGAIN || error->class == ERROR_CONFLICT;
}

static int run_tries(struct run *run, struct sync_result *ret, struct error *error)
{
	uint64_t pause = PAUSE_MIN;
	unsigned tries;

	for (tries = 0; tries < SYNC_TRIES; tries++) {
		bool refused = false;
		int code;

		if (tries && deadline_left(run->sync->deadline) == 0)
			break;
		code = try_once(run, ret, &refused, error);
		if (code == 0)
			return 0;
		if (refused && may_rebuild(run, code)) {
			prepare_rebuild(run, error);
			continue;
		}
		if (!is_conflict(code, error))
			return code;
		log_debug("try %u: %s", tries + 1, error->message);
		deadline_pause(run->sync->deadline, pause);
		pause = pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
	}
	return error_set(error, -EAGAIN, ERROR_CONFLICT,
			 "conflict: the ruleset changed under us %u times, gave up%s", tries,
			 tries < SYNC_TRIES ? " when the time of --timeout was over" : "");
}

int sync_run(const struct sync *sync, struct sync_result *ret, struct error *error)
{
	CLEANUP(run_done) struct run run = {.sync = sync};
	int code;

	if (deadline_left(sync->deadline) == 0)
		return error_set(error, -ETIMEDOUT, ERROR_TRANSIENT,
				 "the time of --timeout was over before anything was changed");
	code = kernel_open(sync->netns, &run.kernel, error);
	return code < 0 ? code : run_tries(&run, ret, error);
}
