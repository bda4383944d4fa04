/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_HELP_H
#define DRAGOMAN_CMD_HELP_H

/*
 * The help of the program and of each command, at most 80 columns wide, made
 * out of the table of commands and the table of options.
 */

#include <stddef.h>

#include "dragoman/base/text.h"
#include "dragoman/cmd/command.h"

void help_program(struct text *out, const struct command *const *commands, size_t count);
void help_command(struct text *out, const struct command *command);

#endif
