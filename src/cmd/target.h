/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_TARGET_H
#define DRAGOMAN_CMD_TARGET_H

/*
 * The target of a command: one network namespace, and where the descriptors
 * for it come from.
 */

#include "deadline.h"
#include "dragoman/base/error.h"
#include "dragoman/base/text.h"
#include "dragoman/container/container.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/descriptor.h"
#include "options.h"

struct target {
	struct text name; /* for people: "web", "process 4711"; printable */
	struct netns netns;
	int pidfd; /* of --pid: as long as it is held, the number is that process's; else -1 */
	struct container_list containers; /* of --container: all that run */
	struct origin origin;             /* of descriptors that no container has */
};

#define TARGET_NONE ((struct target){.netns = NETNS_NONE, .pidfd = -1})

/* "web", "process 4711", "container web", of the target that the options name; appended. */
void target_name(const struct options *options, struct text *into);

/*
 * Opens the target that the options name, within the deadline, and refuses the host's own namespace
 * unless they allow it (-EPERM). *ret is TARGET_NONE before; the name and, as
 * soon as it is known, the namespace are set even where an error is returned.
 */
int target_open(const struct options *options, const struct deadline *deadline, struct target *ret,
		struct error *error);
void target_done(struct target *target);

/*
 * Adds what the options give for the target: descriptors of -b and --env-file,
 * or else its own. Returns 0 or -errno with error set.
 */
int target_add_descriptors(const struct target *target, const struct options *options,
			   struct descriptor_set *set, struct error *error);

/*
 * Adds the target's descriptors to the set, which may borrow from the target,
 * and settles them. -b and --env-file
 * replace the target's own; what a file held was asked for by its name, so it
 * being missing is an error. Where there are no descriptors, a warning says
 * so. Returns 0 or -errno with error set.
 */
int target_read_descriptors(const struct target *target, const struct options *options,
			    struct descriptor_set *set, struct error *error);

#endif
