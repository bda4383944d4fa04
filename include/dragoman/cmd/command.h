/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_COMMAND_H
#define DRAGOMAN_CMD_COMMAND_H

/*
 * The subcommands of the program: what each is called, what its help says,
 * which options it takes, and the function that does it.
 */

#include <stdbool.h>
#include <stddef.h>

struct options;

/* One bit for each command: the table of options says with them who takes what. */
enum command_bit {
	COMMAND_RECONCILE = 1 << 0,
	COMMAND_PLAN = 1 << 1,
	COMMAND_RESOLVE = 1 << 2,
	COMMAND_FLUSH = 1 << 3,
	COMMAND_STATUS = 1 << 4,
	COMMAND_RUN = 1 << 5,
	COMMAND_EXPLAIN = 1 << 6,
	COMMAND_HOOK = 1 << 7,
};

/* Exit status; the higher bar first: FAILED beats CHANGES. */
enum status {
	STATUS_DONE = 0,
	STATUS_FAILED = 1,  /* something could not be done */
	STATUS_USAGE = 2,   /* the command line, or a DRAGOMAN_ variable, is wrong */
	STATUS_CHANGES = 3, /* `plan` found changes, `explain` something wrong */
};

struct command {
	const char *name;
	enum command_bit bit;
	const char *argument;    /* the name of its one argument, or NULL: it takes none */
	bool has_target;         /* exactly one of the target options is needed */
	bool may_have_target;    /* one of them, or none */
	bool has_targets;        /* any number of them, each with descriptors of its own */
	const char *summary;     /* half a line, for `dragoman --help` */
	const char *description; /* paragraphs, each a line, wrapped when they are shown */
	const char *examples;    /* lines, shown as they stand */
	const char *status;      /* as description */
	/* Does it; prints results and errors itself; returns an enum status. */
	int (*run)(const struct options *options);
};

extern const struct command command_reconcile;
extern const struct command command_plan;
extern const struct command command_resolve;
extern const struct command command_flush;
extern const struct command command_status;
extern const struct command command_run;
extern const struct command command_explain;
extern const struct command command_hook;

/*
 * The whole program: finds the command, parses its options, runs it. Returns
 * the exit status.
 */
int program_main(const struct command *const *commands, size_t count, int argc, char **argv);

#endif
