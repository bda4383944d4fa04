/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_TARGET_CONTAINER_H
#define DRAGOMAN_CMD_TARGET_CONTAINER_H

/* The target that --container names, and the descriptors of all who share its namespace. */

#include "deadline.h"
#include "target.h"

/*
 * Opens the namespace of the container. A container that is not there, does
 * not run, or has opted out (label dragoman.enable=false) is an error. Returns
 * 0 or -errno with error set.
 */
int container_open(const struct options *options, const struct deadline *deadline,
		   struct target *target, struct error *error);

/*
 * Adds the variables of every running container in the target's namespace;
 * those that have opted out are passed over. The set borrows from target.
 */
int container_add_environments(const struct target *target, const struct options *options,
			       struct descriptor_set *set, struct error *error);

#endif
