/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the parser over the table of options. The command line
 * comes first; what it did not set is then taken from the environment, and
 * what that does not hold from the table's defaults, so that a wrong variable
 * hurts nobody who overrides it. getopt_long(3) is not used: it would want a
 * second table, prints by itself, and cannot say which command an option is
 * for.
 *
 * A hook's command has the agent's settings between the environment and the
 * defaults. Who wrote them meant the agent, not the hook: what is wrong there is
 * kept for the command to tell, and is no usage error of its own.
 */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "settings.h"
#include "suggest.h"

enum { QUOTE_MAX = 96, SETTINGS_MAX = 256 * 1024 };

struct parser {
	struct options *options;
	const struct command *command;
	const struct option *table;
	size_t table_count;
	uint64_t given; /* bits: rows of the table that were on the command line */
	char **argv;
	int argc, next;
	struct error *error;
};

static const char *quote(char *into, const char *data, size_t length)
{
	return text_printable(into, QUOTE_MAX, data, length);
}

static int usage(struct parser *parser, const char *text, const char *subject, size_t length)
{
	char quoted[QUOTE_MAX];

	return error_set(parser->error, -EINVAL, ERROR_INVALID, "%s '%s'", text,
			 quote(quoted, subject, length));
}

static int refuse_unknown(struct parser *parser, const char *name, size_t length)
{
	struct suggestion suggestion = {0};
	char quoted[QUOTE_MAX];

	quote(quoted, name, length);
	for (size_t i = 0; i < parser->table_count; i++) {
		if (parser->table[i].commands & parser->command->bit)
			suggestion_offer(&suggestion, name, length, parser->table[i].name);
	}
	if (!suggestion.best)
		return error_set(parser->error, -EINVAL, ERROR_INVALID, "unknown option --%s",
				 quoted);
	return error_set(parser->error, -EINVAL, ERROR_INVALID,
			 "unknown option --%s, did you mean --%s?", quoted, suggestion.best);
}

/* Takes one option; attached is the value behind "=" or the letter, or NULL. */
static int take(struct parser *parser, const struct option *option, const char *attached)
{
	const char *value = attached;
	int code;

	if (!(option->commands & parser->command->bit))
		return error_set(parser->error, -EINVAL, ERROR_INVALID, "%s does not take --%s",
				 parser->command->name, option->name);
	if (!option->argument && attached)
		return error_set(parser->error, -EINVAL, ERROR_INVALID, "--%s takes no value",
				 option->name);
	if (option->argument && !attached && parser->next < parser->argc)
		value = parser->argv[parser->next++];
	if (option->argument && (!value || !*value))
		return error_set(parser->error, -EINVAL, ERROR_INVALID, "--%s needs a value: %s",
				 option->name, option->argument);
	parser->given |= UINT64_C(1) << (option - parser->table);
	code = option->set(parser->options, option, value, parser->error);
	if (code < 0)
		error_wrap(parser->error, "--%s", option->name);
	return code;
}

static const struct option *find_option(const char *name, size_t length)
{
	size_t count;
	const struct option *table = options_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
			return &table[i];
	}
	return NULL;
}

static int parse_long(struct parser *parser, const char *text)
{
	size_t length = strcspn(text, "=");
	const char *attached = text[length] ? text + length + 1 : NULL;

	const struct option *option = find_option(text, length);

	return option ? take(parser, option, attached) : refuse_unknown(parser, text, length);
}

static int parse_short(struct parser *parser, const char *text)
{
	for (size_t i = 0; i < parser->table_count; i++) {
		const struct option *option = &parser->table[i];

		if (option->letter == text[0])
			return take(parser, option, text[1] ? text + 1 : NULL);
	}
	return usage(parser, "unknown option", text - 1, strlen(text - 1));
}

static int parse_argument(struct parser *parser, const char *text)
{
	if (!parser->command->argument)
		return usage(parser, "unexpected argument", text, strlen(text));
	if (parser->options->argument)
		return usage(parser, "one argument is enough, what is", text, strlen(text));
	parser->options->argument = text;
	return 0;
}

static int parse_words(struct parser *parser)
{
	bool only_arguments = false;
	int code = 0;

	while (code == 0 && parser->next < parser->argc && !parser->options->help) {
		const char *word = parser->argv[parser->next++];

		if (only_arguments || word[0] != '-' || !word[1])
			code = parse_argument(parser, word);
		else if (strcmp(word, "--") == 0)
			only_arguments = true;
		else if (word[1] == '-')
			code = parse_long(parser, word + 2);
		else
			code = parse_short(parser, word + 1);
	}
	return code;
}

/* The environment's value, or the default, of an option that was not given. */
static int settle(struct parser *parser, const struct option *option)
{
	const char *value = option->variable ? getenv(option->variable) : NULL;
	int code;

	if (value && *value) {
		code = option->set(parser->options, option, value, parser->error);
		if (code < 0)
			error_wrap(parser->error, "%s", option->variable);
		return code;
	}
	if (!option->fallback)
		return 0;
	return option->set(parser->options, option, option->fallback, parser->error);
}

/* Whether the agent's value is for this command, too, and nothing nearer overrides it. */
static bool is_shared(const struct parser *parser, const struct option *option)
{
	const char *nearer = option->variable ? getenv(option->variable) : NULL;

	return option->commands & COMMAND_RUN && option->commands & parser->command->bit &&
	       option->section != SECTION_GENERAL && !(nearer && *nearer) &&
	       !(parser->given >> (option - parser->table) & 1);
}

/* Options that `run` takes, each followed by its value; *ret_taken has bits of those used. */
static int take_shared_options(struct parser *parser, const char **words, size_t count,
			       uint64_t *ret_taken)
{
	for (size_t i = 0; i < count; i++) {
		const char *text = words[i] + (strncmp(words[i], "--", 2) == 0 ? 2 : 0);
		size_t length = strcspn(text, "=");
		const struct option *option = find_option(text, length);
		const char *value = text[length] ? text + length + 1 : NULL;
		int code;

		/* -b, with its value; and what the agent itself would refuse. */
		if (text == words[i] || !option)
			continue;
		if (option->argument && !value)
			value = i + 1 < count ? words[++i] : "";
		if (!is_shared(parser, option))
			continue;
		*ret_taken |= UINT64_C(1) << (option - parser->table);
		code = option->set(parser->options, option, value, parser->error);
		if (code < 0)
			return error_wrap(parser->error, "DRAGOMAN_OPTIONS: --%s", option->name);
	}
	return 0;
}

static int take_shared_variables(struct parser *parser, const struct settings *settings,
				 uint64_t *ret_taken)
{
	for (size_t i = 0; i < parser->table_count; i++) {
		const struct option *option = &parser->table[i];
		const char *value = option->variable ? settings_value(settings, option->variable)
						     : NULL;
		int code;

		/* As on the command line, an option beats its variable. */
		if (!value || !*value || *ret_taken >> i & 1 || !is_shared(parser, option))
			continue;
		*ret_taken |= UINT64_C(1) << i;
		code = option->set(parser->options, option, value, parser->error);
		if (code < 0)
			return error_wrap(parser->error, "%s", option->variable);
	}
	return 0;
}

static int take_settings(struct parser *parser, const char *path, uint64_t *ret_taken)
{
	struct arena *arena = parser->options->arena;
	CLEANUP(memory_free) char *data = NULL;
	struct settings settings;
	const char *value, **words = NULL;
	size_t length, count = 0;
	int code = text_read_file(path, SETTINGS_MAX, &data, &length);

	if (code == -ENOENT && !options_given(parser->options, "config"))
		return 0;
	if (code < 0)
		return error_set(parser->error, code, error_class_of(code), "%s", strerror(-code));
	code = settings_parse(arena, data, length, &settings, parser->error);
	if (code < 0)
		return code;
	value = settings_value(&settings, "DRAGOMAN_OPTIONS");
	code = value ? settings_words(arena, value, &words, &count) : 0;
	if (code < 0)
		return error_set(parser->error, code, ERROR_INVALID,
				 "DRAGOMAN_OPTIONS: a quote has no other");
	code = take_shared_options(parser, words, count, ret_taken);
	return code < 0 ? code : take_shared_variables(parser, &settings, ret_taken);
}

/* What the agent of this host was told, where the command takes it. */
static int settle_as_agent(struct parser *parser)
{
	const struct option *option = find_option("config", strlen("config"));
	char quoted[QUOTE_MAX];
	uint64_t taken = 0;
	int code;

	if (!option || !(option->commands & parser->command->bit))
		return 0;
	parser->options->given = parser->given;
	if (!parser->options->config)
		parser->options->config = option->fallback;
	code = take_settings(parser, parser->options->config, &taken);
	/* Nothing else takes the place of a value that was wrong. */
	parser->given |= taken;
	if (code == 0 || code == -ENOMEM)
		return code;
	quote(quoted, parser->options->config, strlen(parser->options->config));
	parser->options->config_failure = arena_printf(parser->options->arena, "%s: %s", quoted,
						       parser->error->message);
	return parser->options->config_failure ? 0 : error_no_memory(parser->error);
}

static int settle_all(struct parser *parser)
{
	int code = 0;

	for (size_t i = 0; i < parser->table_count && code == 0; i++) {
		const struct option *option = &parser->table[i];

		if (!(parser->given >> i & 1) && option->commands & parser->command->bit)
			code = settle(parser, option);
	}
	return code;
}

static int check_whole(struct parser *parser)
{
	const struct command *command = parser->command;
	const struct options *options = parser->options;
	int targets = (options->netns != NULL) + (options->pid != 0) + (options->container != NULL);

	if ((command->has_target || command->may_have_target) && targets > 1)
		return error_set(parser->error, -EINVAL, ERROR_INVALID,
				 "--netns, --pid, --container: one target is enough");
	if (command->has_target && targets == 0)
		return error_set(parser->error, -EINVAL, ERROR_INVALID,
				 "no target: one of --netns, --pid and --container is needed");
	if (options->watch && options->json)
		return error_set(parser->error, -EINVAL, ERROR_INVALID,
				 "--watch, --json: one of them is enough (--json is one document)");
	if (command->argument && !options->argument)
		return error_set(parser->error, -EINVAL, ERROR_INVALID, "no %s was given",
				 command->argument);
	return 0;
}

int options_parse(struct options *ret, const struct command *command, int argc, char **argv,
		  struct error *error)
{
	struct parser parser = {
		.options = ret,
		.command = command,
		.argv = argv,
		.argc = argc,
		.error = error,
	};
	int code;

	*ret = (struct options){.arena = arena_new(), .has_targets = command->has_targets};
	if (!ret->arena)
		return error_no_memory(error);
	parser.table = options_table(&parser.table_count);
	code = parse_words(&parser);
	ret->given = parser.given;
	if (code < 0 || ret->help)
		return code;
	code = settle_as_agent(&parser);
	if (code == 0)
		code = settle_all(&parser);
	/* A root is for keys, wherever it came from. */
	if (code == 0 && ret->registry && !registry_has_keys(ret->registry))
		ret->root = NULL;
	return code < 0 ? code : check_whole(&parser);
}

bool options_given(const struct options *options, const char *name)
{
	size_t count;
	const struct option *table = options_table(&count);
	const struct option *option = find_option(name, strlen(name));

	return option && options->given >> (option - table) & 1;
}

struct registry_options options_registry(const struct options *options, uint64_t timeout)
{
	return (struct registry_options){
		.url = options->registry,
		.tls_ca = options->tls_ca,
		.tls_cert = options->tls_cert,
		.tls_key = options->tls_key,
		.user = options->registry_user,
		.password_file = options->registry_password_file,
		.consul_datacenter = options->consul_datacenter,
		.consul_namespace = options->consul_namespace,
		.consul_stale = options->consul_stale,
		.consul_connections = options->consul_connections,
		.timeout = timeout,
	};
}

void options_done(struct options *options)
{
	free(options->targets);
	free(options->backends);
	free(options->env_files);
	admission_done(&options->admission);
	arena_free(options->arena);
	*options = (struct options){0};
}
