/* SPDX-License-Identifier: MIT */
/*
 * dragoman: localhost, led to the right door.
 *
 * The table of subcommands, in the order in which help lists them. Each is
 * one file of src/cmd.
 */
#include "dragoman/base/memory.h"
#include "dragoman/cmd/command.h"

static const struct command *const commands[] = {
	&command_reconcile, &command_plan,   &command_resolve, &command_flush,
	&command_run,       &command_status, &command_explain, &command_hook,
};

int main(int argc, char **argv)
{
	return program_main(commands, ARRAY_SIZE(commands), argc, argv);
}
