/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_RIGHTS_H
#define DRAGOMAN_CMD_RIGHTS_H

/*
 * Which rights a command needs to do what its options say.
 */

#include "dragoman/base/privilege.h"
#include "options.h"

/* Bits of enum privilege. */
unsigned rights_needed(const struct command *command, const struct options *options);

#endif
