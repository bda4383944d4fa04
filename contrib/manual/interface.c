/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: src/main.o hands its table of commands to
 * program_main(). Linked with this one instead of the program's own, it prints
 * that table, and that of the options, as JSON: what the parser goes by, for
 * contrib/check-manual, which holds help, manual and completions against it.
 * It is built for that check, and installed nowhere.
 *
 *     {"commands": [{"name", "argument", "target", "summary", "statuses"}],
 *      "options": [{"name", "letter", "argument", "variable", "default",
 *                   "commands", "help"}]}
 */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/cmd/options.h"
#include "dragoman/cmd/command.h"

static const char *target_of(const struct command *command)
{
	if (command->has_targets)
		return "any";
	if (command->has_target)
		return "one";
	return command->may_have_target ? "optional" : NULL;
}

/* The numbers at the start of the lines that help shows of exit statuses. */
static json_t *statuses_of(const char *lines)
{
	json_t *statuses = json_array();

	for (const char *line = lines; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (isdigit((unsigned char)*line))
			json_array_append_new(statuses, json_integer(strtol(line, NULL, 10)));
	}
	return statuses;
}

static json_t *describe_command(const struct command *command)
{
	return json_pack("{s:s, s:s?, s:s?, s:s, s:o}", "name", command->name, "argument",
			 command->argument, "target", target_of(command), "summary",
			 command->summary, "statuses", statuses_of(command->status));
}

static json_t *describe_option(const struct option *option, const struct command *const *commands,
			       size_t count)
{
	const char letter[] = {option->letter, '\0'};
	json_t *takers = json_array();

	for (size_t i = 0; i < count; i++) {
		if (option->commands & commands[i]->bit)
			json_array_append_new(takers, json_string(commands[i]->name));
	}
	return json_pack("{s:s, s:s?, s:s?, s:s?, s:s?, s:o, s:s}", "name", option->name, "letter",
			 option->letter ? letter : NULL, "argument", option->argument, "variable",
			 option->variable, "default", option->fallback, "commands", takers, "help",
			 option->help);
}

int program_main(const struct command *const *commands, size_t count, int argc, char **argv)
{
	json_t *described = json_array(), *options = json_array(), *whole;
	size_t option_count;
	const struct option *table = options_table(&option_count);
	int r;

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < count; i++)
		json_array_append_new(described, describe_command(commands[i]));
	for (size_t i = 0; i < option_count; i++)
		json_array_append_new(options, describe_option(&table[i], commands, count));
	whole = json_pack("{s:o, s:o}", "commands", described, "options", options);
	r = json_dumpf(whole, stdout, JSON_INDENT(1));
	json_decref(whole);
	return r < 0 || puts("") < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
