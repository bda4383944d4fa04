/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_HINT_H
#define DRAGOMAN_CMD_HINT_H

/*
 * What somebody may have meant by a key where nothing is. For commands that do
 * one thing once: the registry is asked once more for it.
 */

#include "deadline.h"
#include "lookup.h"
#include "options.h"

/*
 * "did you mean /services/redis.master?", or that the other API of the same
 * etcd holds documents there. NULL where the read has failed, where something
 * is there, where nothing is near, or nobody answers in a part of the time that
 * is left.
 */
const char *lookup_hint(struct arena *arena, const struct options *options,
			const struct deadline *deadline, const struct wanted *wanted);

#endif
