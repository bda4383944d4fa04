/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_EXPLAIN_KERNEL_H
#define DRAGOMAN_CMD_EXPLAIN_KERNEL_H

/* What stands in the namespace for the port of a story, and whether it works. */

#include "deadline.h"
#include "dragoman/kernel/netns.h"
#include "explain.h"

/* Fills story->kernel. Returns 0, or -errno with error set, which is the view's failure then. */
int story_look(struct story *story, const struct netns *netns, struct error *error);

/*
 * Tries each endpoint that stands, then localhost, and fills story->probes. Does
 * nothing where the kernel could not be read. Returns 0, or -errno with error
 * set: -EINVAL of UDP.
 */
int story_probe(struct story *story, const struct netns *netns, const struct deadline *deadline,
		struct error *error);

#endif
