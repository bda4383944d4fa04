/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_SWEEP_H
#define DRAGOMAN_CMD_SWEEP_H

#include <stdbool.h>

#include "sync.h"

/*
 * Flows that outlived what was committed: those of UDP are removed from
 * conntrack, and, with `reset`, TCP sockets of endpoints that are gone are
 * closed. desired is what was committed, NULL for a flush. Returns 0, or -errno
 * with error set; the rules are true in any case.
 */
int sweep_run(const struct netns *netns, const struct sync_result *result,
	      const struct ruleset *desired, bool reset, struct error *error);

#endif
