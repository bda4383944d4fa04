/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_HOOK_STATE_H
#define DRAGOMAN_CMD_HOOK_STATE_H

/*
 * What a container runtime tells a hook: the state, and the configuration that
 * lies in the bundle that it names. See "State" and "POSIX-platform Hooks" of the
 * OCI runtime specification,
 * https://github.com/opencontainers/runtime-spec/blob/main/runtime.md
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

enum { HOOK_STATE_MAX = 1024 * 1024, HOOK_CONFIG_MAX = 16 * 1024 * 1024 };

/* In the arena that it was parsed into. */
struct hook_state {
	const char *id; /* printable */
	const char *bundle;
	pid_t pid;
	bool disabled; /* annotation dragoman.enable=false */
};

/*
 * Parses the state. Errors: -EBADMSG (ERROR_INVALID), where it is none, or has no
 * process yet or any more; -ENOMEM. The ID is set as soon as it is known.
 */
int hook_parse_state(struct arena *arena, const char *data, size_t length, struct hook_state *ret,
		     struct error *error);

/*
 * Parses the bundle's config.json: appends the environment that the process will
 * have, strings each ended by a NUL, and notes whether its annotations opt out.
 * Errors as above.
 */
int hook_parse_config(const char *data, size_t length, struct hook_state *state,
		      struct text *ret_environment, struct error *error);

#endif
