/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: everything is added to a growing text, a word at a
 * time where lines have to be broken. An option is two columns: how it is
 * written, then what it does, its variable and its default; one that is too
 * wide for its column has that on the lines below it.
 */
#include "help.h"

#include <string.h>

#include "options.h"

enum { WIDTH = 79, OPTION_COLUMN = 26, COMMAND_COLUMN = 14 };

static const char *const section_titles[] = {
	[SECTION_TARGET] = "Target, one of --netns, --pid and --container",
	[SECTION_DESCRIPTORS] = "Descriptors",
	[SECTION_REGISTRY] = "Registry",
	[SECTION_RULES] = "Endpoints and rules",
	[SECTION_AGENT] = "Agent",
	[SECTION_GENERAL] = "General",
};
_Static_assert(ARRAY_SIZE(section_titles) == SECTION_COUNT, "a title for each section");

static const char *section_title(const struct command *command, enum option_section section)
{
	if (section == SECTION_TARGET && command->has_targets)
		return "Targets, any number of --netns and --pid";
	if (section == SECTION_TARGET && !command->has_target && !command->may_have_target)
		return "Which namespace";
	return section_titles[section];
}

static void pad_to(struct text *out, size_t *column, size_t target)
{
	while (*column < target) {
		text_puts(out, " ");
		(*column)++;
	}
}

/* Adds words, from column on, breaking lines at WIDTH and indenting them. */
static void add_words(struct text *out, size_t *column, size_t indent, const char *words)
{
	while (*words) {
		size_t length = strcspn(words, " ");

		if (*column > indent && *column + 1 + length > WIDTH) {
			text_puts(out, "\n");
			*column = 0;
		} else if (*column > indent) {
			text_puts(out, " ");
			(*column)++;
		}
		pad_to(out, column, indent);
		text_add(out, words, length);
		*column += length;
		words += length;
		words += strspn(words, " ");
	}
}

/* Paragraphs, each a line of `lines`. */
static void add_paragraphs(struct text *out, size_t indent, const char *lines)
{
	while (*lines) {
		size_t length = strcspn(lines, "\n"), column = 0;
		CLEANUP(text_done) struct text line = {0};

		text_add(&line, lines, length);
		if (line.failed)
			out->failed = true;
		else
			add_words(out, &column, indent, line.data);
		text_puts(out, "\n");
		lines += length + (lines[length] ? 1 : 0);
	}
}

static void add_indented(struct text *out, const char *lines)
{
	while (*lines) {
		size_t length = strcspn(lines, "\n");

		text_puts(out, "  ");
		text_add(out, lines, length);
		text_puts(out, "\n");
		lines += length + (lines[length] ? 1 : 0);
	}
}

static size_t add_option_name(struct text *out, const struct option *option)
{
	size_t start = out->length;

	if (option->letter)
		text_printf(out, "  -%c, --%s", option->letter, option->name);
	else
		text_printf(out, "  --%s", option->name);
	if (option->argument)
		text_printf(out, " %s", option->argument);
	return out->length - start;
}

/* Where the value comes from when the option is not given: on a line of its own, or two. */
static void add_sources(struct text *out, const struct option *option)
{
	CLEANUP(text_done) struct text words = {0};
	size_t column = 0;

	if (!option->variable && !option->fallback)
		return;
	text_printf(&words, "(%s%s%s%s)", option->variable ? option->variable : "",
		    option->variable && option->fallback ? ", " : "",
		    option->fallback ? "default " : "", option->fallback ? option->fallback : "");
	if (words.failed) {
		out->failed = true;
		return;
	}
	pad_to(out, &column, OPTION_COLUMN);
	add_words(out, &column, OPTION_COLUMN, words.data);
	text_puts(out, "\n");
}

static void add_option(struct text *out, const struct option *option)
{
	size_t column = add_option_name(out, option);

	if (column + 2 > OPTION_COLUMN) {
		text_puts(out, "\n");
		column = 0;
	}
	pad_to(out, &column, OPTION_COLUMN);
	add_words(out, &column, OPTION_COLUMN, option->help);
	text_puts(out, "\n");
	add_sources(out, option);
}

static void add_section(struct text *out, const struct command *command,
			enum option_section section)
{
	size_t count;
	const struct option *table = options_table(&count);
	bool titled = false;

	for (size_t i = 0; i < count; i++) {
		if (table[i].section != section || !(table[i].commands & command->bit))
			continue;
		if (!titled)
			text_printf(out, "\n%s:\n", section_title(command, section));
		titled = true;
		add_option(out, &table[i]);
	}
}

static const char *target_usage(const struct command *command)
{
	if (command->has_targets)
		return "[TARGET...] ";
	if (command->may_have_target)
		return "[TARGET] ";
	return command->has_target ? "TARGET " : "";
}

void help_command(struct text *out, const struct command *command)
{
	text_printf(out, "Usage: dragoman %s %s[OPTION...]%s%s\n\n", command->name,
		    target_usage(command), command->argument ? " " : "",
		    command->argument ? command->argument : "");
	add_paragraphs(out, 0, command->description);
	for (unsigned section = 0; section < SECTION_COUNT; section++)
		add_section(out, command, (enum option_section)section);
	text_puts(out,
		  "\nIn parentheses: the environment variable that an option is taken from, then\n"
		  "its default.\n\nExamples:\n");
	add_indented(out, command->examples);
	text_puts(out, "\nExit status:\n");
	add_paragraphs(out, 2, command->status);
	text_puts(out, "\nMore in dragoman(8).\n");
}

static const char introduction[] =
	"dragoman reads what a container says it needs, variables such as "
	"BACKEND_DB='postgres;5432', looks the service up in a registry, and programs the kernel "
	"so that localhost:5432 in the container's network namespace reaches one of the service's "
	"endpoints.";

static const char program_examples[] =
	"dragoman resolve 'redis.master[prod];6379'\n"
	"dragoman plan --netns web -b CACHE='redis.master[prod];6379'\n"
	"dragoman reconcile --netns web --env-file web.env\n"
	"dragoman reconcile --pid 4711 --registry etcd://10.0.0.5:2379,10.0.0.6:2379\n"
	"dragoman reconcile --container web\n"
	"dragoman explain --container web 6379\n"
	"dragoman flush --netns web";

static void add_command_line(struct text *out, const char *name, const char *summary)
{
	size_t column = 2 + strlen(name);

	text_printf(out, "  %s", name);
	pad_to(out, &column, COMMAND_COLUMN);
	add_words(out, &column, COMMAND_COLUMN, summary);
	text_puts(out, "\n");
}

void help_program(struct text *out, const struct command *const *commands, size_t count)
{
	text_puts(out, "Usage: dragoman COMMAND [OPTION...]\n\n");
	add_paragraphs(out, 0, introduction);
	text_puts(out, "\nCommands:\n");
	for (size_t i = 0; i < count; i++)
		add_command_line(out, commands[i]->name, commands[i]->summary);
	add_command_line(out, "help", "show this, or the help of a command");
	text_puts(out, "\nExamples:\n");
	add_indented(out, program_examples);
	text_puts(out,
		  "\nThe options of a command: dragoman COMMAND --help\n"
		  "The version:              dragoman --version\n"
		  "The manual:               man 8 dragoman\n"
		  "Descriptors, the kernel:  man 7 dragoman-descriptor, man 7 dragoman-kernel\n");
}
