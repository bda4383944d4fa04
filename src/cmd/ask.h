/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_ASK_H
#define DRAGOMAN_CMD_ASK_H

/*
 * Asking the running agent over its Unix socket.
 */

#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"

/*
 * Waits for its /status, at most timeout nanoseconds, and appends it to ret.
 * Returns 0, or with error set: -ENOENT (no socket), -ECONNREFUSED (nobody
 * listens any more), -EACCES, -ETIMEDOUT, -EIO (another answer), -ENOMEM.
 */
int agent_ask(const char *socket, uint64_t timeout, struct text *ret, struct error *error);

/* For those who ask again and again, without waiting. */
struct agent_line;

/* What came: the answer, or the error as above. Borrowed for the call. */
typedef void agent_answer_function(const struct text *answer, const struct error *error,
				   void *user);

/* socket is borrowed for the life of the line. Returns 0 or -errno with error set. */
int agent_line_new(struct loop *loop, const char *socket, uint64_t timeout,
		   agent_answer_function *function, void *user, struct agent_line **ret,
		   struct error *error);
/* One question at a time; the function is not called from within. */
int agent_line_ask(struct agent_line *line, struct error *error);
void agent_line_free(struct agent_line *line); /* NULL is fine */

#endif
