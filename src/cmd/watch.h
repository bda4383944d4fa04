/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_WATCH_H
#define DRAGOMAN_CMD_WATCH_H

#include "options.h"

/*
 * dragoman status --watch: shows what the agent knows, again each second, until
 * somebody has seen enough. On a terminal as a page, else as lines. Returns an
 * enum status, and has told what went wrong.
 */
int status_watch(const struct options *options);

#endif
