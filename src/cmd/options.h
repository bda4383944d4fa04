/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_OPTIONS_H
#define DRAGOMAN_CMD_OPTIONS_H

/*
 * The options of all commands: one table, out of which both the parser and
 * the help are made, so that they cannot drift apart.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/cmd/command.h"
#include "dragoman/model/endpoint.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/registry/registry.h"

/* One -b NAME=DESCRIPTOR. */
struct backend {
	const char *name; /* as given, with or without the prefix; not terminated */
	size_t name_length;
	const char *value;
};

/*
 * One of several targets, of `run`. What was given with -b and --env-file
 * belongs to the target before it, and to every target when it stands before
 * the first: here is where a target's own begin.
 */
struct options_target {
	const char *netns; /* or NULL */
	pid_t pid;         /* or 0 */
	size_t backend_first, env_file_first;
};

/* What the command line and the environment came to. Strings are borrowed from them. */
struct options {
	struct arena *arena; /* of the lists below and of root */
	uint64_t given;      /* bits of options_table(): what the command line had */
	bool help;           /* --help was met: nothing else counts */

	bool has_targets; /* of the command: netns and pid are not used, but targets */
	bool allow_host_netns;
	bool force;
	pid_t pid;             /* 0: not given */
	const char *netns;     /* NULL: not given */
	const char *container; /* NULL: not given */
	const char *docker;
	struct options_target *targets;
	size_t target_count, target_capacity;

	struct backend *backends;
	size_t backend_count, backend_capacity;
	const char **env_files;
	size_t env_file_count, env_file_capacity;
	const char *env_prefix;

	const char *registry;
	char *root; /* canonical; NULL: the registry has no keys */
	const char *tls_ca, *tls_cert, *tls_key;
	const char *registry_user, *registry_password_file;
	const char *consul_datacenter, *consul_namespace;
	bool consul_stale;
	unsigned consul_connections; /* 0: not given */

	struct admission admission;
	enum balance balance;
	bool hold_when_empty;
	bool reset_when_removed;

	bool required;        /* of a hook: what cannot be done keeps the container from starting */
	const char *config;   /* of a hook: the file that the agent has its settings from */
	char *config_failure; /* why it could not be used, or NULL */

	bool flush_on_exit;
	bool no_seccomp;
	bool json;
	bool watch;
	bool probe;
	const char *socket;  /* the agent's */
	const char *metrics; /* ADDR:PORT, or NULL */
	uint64_t resync;     /* nanoseconds */

	uint64_t timeout; /* nanoseconds */
	enum log_level log_level;

	const char *argument; /* the command's one argument, or NULL */
};

/* The parts of a command's help, in their order. */
enum option_section {
	SECTION_TARGET,
	SECTION_DESCRIPTORS,
	SECTION_REGISTRY,
	SECTION_RULES,
	SECTION_AGENT,
	SECTION_GENERAL,
};
enum { SECTION_COUNT = SECTION_GENERAL + 1 };

struct option {
	const char *name;     /* without the dashes */
	char letter;          /* 0: none */
	const char *argument; /* what help calls it; NULL: the option is a flag */
	const char *variable; /* of the environment, or NULL */
	const char *fallback; /* as the user could have written it, or NULL */
	unsigned commands;    /* enum command_bit */
	enum option_section section;
	const char *help;
	/*
	 * Takes a value (of a flag: NULL) into options; where an error is set,
	 * the message lacks the name of the option.
	 */
	int (*set)(struct options *options, const struct option *option, const char *value,
		   struct error *error);
	size_t offset; /* into struct options, of those that are stored as they are */
};

/* Whether the command line, and not the environment or a default, had an option. */
bool options_given(const struct options *options, const char *name);

/* What the options say of the registry; timeout in nanoseconds, for one request. */
struct registry_options options_registry(const struct options *options, uint64_t timeout);

/* The table, in the order of help. */
const struct option *options_table(size_t *ret_count);

/*
 * Parses the arguments behind the command's name (argv[0] is the first of
 * them). An option that is not given takes its value from its variable, then
 * from its default; an empty variable counts as none. Sets *ret, which is to
 * be released with options_done() whatever is returned. Returns 0, -EINVAL
 * with the whole message of a usage error, or -ENOMEM.
 */
int options_parse(struct options *ret, const struct command *command, int argc, char **argv,
		  struct error *error);
void options_done(struct options *options);

#endif
