/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_ASK_H
#define DRAGOMAN_CMD_ASK_H

/*
 * Asking the running agent over its Unix socket.
 */

#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"

/*
 * Waits for its /status, at most timeout nanoseconds, and appends it to ret.
 * Returns 0, or with error set: -ENOENT (no socket), -ECONNREFUSED (nobody
 * listens any more), -EACCES, -ETIMEDOUT, -EIO (another answer), -ENOMEM.
 */
int agent_ask(const char *socket, uint64_t timeout, struct text *ret, struct error *error);

#endif
