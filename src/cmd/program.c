/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the program around the commands. The first word is a
 * command, `help`, or one of --help and --version; everything behind it is
 * the command's. Usage errors are told here, in one line with a pointer to
 * the help, and end the program with status 2 before anything was touched.
 *
 * Standard descriptors that were handed over closed are filled first, each
 * with one that fails when it is used: otherwise a socket could come to lie
 * on descriptor 1 and have our results written into it. SIGPIPE is ignored,
 * so that a reader who went away is an error like a full disk.
 *
 * Between the options and the command, rights are given up that the command
 * has no use for: before any file is opened, or any byte of others is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/base/privilege.h"
#include "dragoman/cmd/command.h"
#include "help.h"
#include "notify.h"
#include "options.h"
#include "output.h"
#include "rights.h"
#include "suggest.h"

struct program {
	const struct command *const *commands;
	size_t count;
};

static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* The lowest free descriptor is this one. CLOEXEC would be undone by nobody. */
		(void)open("/dev/null", (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	}
}

static const struct command *find(const struct program *program, const char *name)
{
	for (size_t i = 0; i < program->count; i++) {
		if (strcmp(program->commands[i]->name, name) == 0)
			return program->commands[i];
	}
	return NULL;
}

static int print_text(const struct text *text, enum status status)
{
	struct error error = {0};

	if (output_write(status == STATUS_DONE ? STDOUT_FILENO : STDERR_FILENO, text, &error) < 0) {
		log_error("%s", error.message);
		return STATUS_FAILED;
	}
	return (int)status;
}

static int show_program_help(const struct program *program, enum status status)
{
	CLEANUP(text_done) struct text text = {0};

	help_program(&text, program->commands, program->count);
	return print_text(&text, status);
}

static int show_command_help(const struct command *command)
{
	CLEANUP(text_done) struct text text = {0};

	help_command(&text, command);
	return print_text(&text, STATUS_DONE);
}

static int show_version(void)
{
	CLEANUP(text_done) struct text text = {0};

	text_puts(&text, "dragoman " DRAGOMAN_VERSION "\n");
	return print_text(&text, STATUS_DONE);
}

static int refuse_command(const struct program *program, const char *name)
{
	struct suggestion suggestion = {0};
	CLEANUP(text_done) struct text line = {0};

	text_puts(&line, "unknown command '");
	text_add_printable(&line, name, strnlen(name, 64));
	text_puts(&line, "'");
	for (size_t i = 0; i < program->count; i++)
		suggestion_offer(&suggestion, name, strlen(name), program->commands[i]->name);
	if (suggestion.best)
		text_printf(&line, " (did you mean '%s'?)", suggestion.best);
	text_puts(&line, ", there are");
	for (size_t i = 0; i < program->count; i++)
		text_printf(&line, " %s,", program->commands[i]->name);
	text_puts(&line, " help");
	log_error("%s", line.failed ? "unknown command" : line.data);
	return STATUS_USAGE;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	CLEANUP(options_done) struct options options;
	struct error error = {0};
	int code;

	/* Also what keeps the agent from starting is for the journal. */
	log_set_graded(command->bit == COMMAND_RUN && notify_has_journal());
	code = options_parse(&options, command, argc, argv, &error);
	if (code == -ENOMEM) {
		log_error("%s", error.message);
		return STATUS_FAILED;
	}
	if (code < 0) {
		log_error("%s (see dragoman %s --help)", error.message, command->name);
		return STATUS_USAGE;
	}
	if (options.help)
		return show_command_help(command);
	log_set_level(options.log_level);
	if (privilege_drop(rights_needed(command, &options), &error) < 0) {
		log_error("%s", error.message);
		return STATUS_FAILED;
	}
	return command->run(&options);
}

static int run_help(const struct program *program, int argc, char **argv)
{
	const struct command *command;

	if (argc == 0)
		return show_program_help(program, STATUS_DONE);
	command = find(program, argv[0]);
	if (!command)
		return refuse_command(program, argv[0]);
	return show_command_help(command);
}

int program_main(const struct command *const *commands, size_t count, int argc, char **argv)
{
	struct program program = {commands, count};
	const struct command *command;
	const char *word;

	fill_standard_descriptors();
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return show_program_help(&program, STATUS_USAGE);
	word = argv[1];
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
		return run_help(&program, argc - 2, argv + 2);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return show_version();
	command = find(&program, word);
	if (command)
		return run_command(command, argc - 2, argv + 2);
	if (word[0] == '-') {
		log_error("the command comes first, its options behind it (see dragoman --help)");
		return STATUS_USAGE;
	}
	return refuse_command(&program, word);
}
