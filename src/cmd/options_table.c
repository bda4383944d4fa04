/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the one table of options. A row says how an option is
 * written, where its value comes from when it is not given, which commands
 * take it, what help says, and the function that takes its value, whichever of
 * the three it came from: a default goes the same way as what a user typed.
 */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/http/server.h"
#include "dragoman/model/descriptor.h"
#include "dragoman/registry/registry.h"

enum { QUOTE_MAX = 160, TIMEOUT_SECONDS_MAX = 86400 };
enum { NANOSECONDS = 1000 * 1000 * 1000, TIMEOUT_MIN = NANOSECONDS / 1000 };

static int refuse(struct error *error, const char *value, const char *why)
{
	char quoted[QUOTE_MAX];

	text_printable(quoted, sizeof(quoted), value, strlen(value));
	return error_set(error, -EINVAL, ERROR_INVALID, "'%s' %s", quoted, why);
}

static void *field(struct options *options, const struct option *option)
{
	return (char *)options + option->offset;
}

static int set_string(struct options *options, const struct option *option, const char *value,
		      struct error *error)
{
	(void)error;
	*(const char **)field(options, option) = value;
	return 0;
}

static int set_flag(struct options *options, const struct option *option, const char *value,
		    struct error *error)
{
	(void)value;
	(void)error;
	*(bool *)field(options, option) = true;
	return 0;
}

static int add_target(struct options *options, const char *netns, pid_t pid, struct error *error)
{
	if (array_reserve(&options->targets, &options->target_capacity, options->target_count, 1,
			  sizeof(*options->targets)) < 0)
		return error_no_memory(error);
	options->targets[options->target_count++] = (struct options_target){
		.netns = netns,
		.pid = pid,
		.backend_first = options->backend_count,
		.env_file_first = options->env_file_count,
	};
	return 0;
}

static int set_netns(struct options *options, const struct option *option, const char *value,
		     struct error *error)
{
	if (options->has_targets)
		return add_target(options, value, 0, error);
	if (options->netns)
		return error_set(error, -EINVAL, ERROR_INVALID, "given twice");
	return set_string(options, option, value, error);
}

static int set_container(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	if (options->container)
		return error_set(error, -EINVAL, ERROR_INVALID, "given twice");
	return set_string(options, option, value, error);
}

static int set_pid(struct options *options, const struct option *option, const char *value,
		   struct error *error)
{
	uint64_t pid;

	(void)option;
	if (options->pid && !options->has_targets)
		return error_set(error, -EINVAL, ERROR_INVALID, "given twice");
	if (text_parse_number(value, strlen(value), INT_MAX, &pid) < 0 || pid == 0)
		return refuse(error, value, "is not a process ID");
	if (options->has_targets)
		return add_target(options, NULL, (pid_t)pid, error);
	options->pid = (pid_t)pid;
	return 0;
}

static int set_backend(struct options *options, const struct option *option, const char *value,
		       struct error *error)
{
	const char *equals = strchr(value, '=');

	(void)option;
	if (!equals)
		return refuse(error, value, "has no '=': NAME=DESCRIPTOR is wanted");
	if (equals == value)
		return refuse(error, value, "has no name before the '='");
	if (*value == '"' || *value == '\'')
		return refuse(error, value,
			      "begins with a quote: one pair, for the shell, is enough");
	if (array_reserve(&options->backends, &options->backend_capacity, options->backend_count, 1,
			  sizeof(*options->backends)) < 0)
		return error_no_memory(error);
	options->backends[options->backend_count++] = (struct backend){
		.name = value,
		.name_length = (size_t)(equals - value),
		.value = equals + 1,
	};
	return 0;
}

static int set_env_file(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	(void)option;
	if (array_reserve(&options->env_files, &options->env_file_capacity, options->env_file_count,
			  1, sizeof(*options->env_files)) < 0)
		return error_no_memory(error);
	options->env_files[options->env_file_count++] = value;
	return 0;
}

static int set_env_prefix(struct options *options, const struct option *option, const char *value,
			  struct error *error)
{
	for (const char *c = value; *c; c++) {
		if (*c <= ' ' || *c > '~' || *c == '=')
			return refuse(error, value, "cannot begin the name of a variable");
	}
	if (strlen(value) >= DESCRIPTOR_VARIABLE_MAX)
		return refuse(error, value, "is too long");
	return set_string(options, option, value, error);
}

static int set_registry(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	int code = registry_check_url(value, error);

	return code < 0 ? code : set_string(options, option, value, error);
}

static int set_root(struct options *options, const struct option *option, const char *value,
		    struct error *error)
{
	const char *reason = "is no key path";
	int code = key_path_parse(options->arena, value, &options->root, &reason);

	(void)option;
	if (code == -ENOMEM)
		return error_no_memory(error);
	if (code < 0) {
		char quoted[QUOTE_MAX];

		text_printable(quoted, sizeof(quoted), value, strlen(value));
		return error_set(error, -EINVAL, ERROR_INVALID, "'%s': %s", quoted, reason);
	}
	return 0;
}

static int set_connections(struct options *options, const struct option *option, const char *value,
			   struct error *error)
{
	uint64_t number;

	(void)option;
	if (text_parse_number(value, strlen(value), CONSUL_CONNECTIONS_MAX, &number) < 0 ||
	    number == 0)
		return refuse(error, value, "is not a number from 1 to 4096");
	options->consul_connections = (unsigned)number;
	return 0;
}

static int set_balance(struct options *options, const struct option *option, const char *value,
		       struct error *error)
{
	(void)option;
	if (strcmp(value, "random") == 0)
		options->balance = BALANCE_RANDOM;
	else if (strcmp(value, "nth") == 0)
		options->balance = BALANCE_NTH;
	else
		return refuse(error, value, "is neither random nor nth");
	return 0;
}

static int set_on_empty(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	(void)option;
	if (strcmp(value, "reject") != 0 && strcmp(value, "hold") != 0)
		return refuse(error, value, "is neither reject nor hold");
	options->hold_when_empty = value[0] == 'h';
	return 0;
}

static int set_on_remove(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	(void)option;
	if (strcmp(value, "drain") != 0 && strcmp(value, "reset") != 0)
		return refuse(error, value, "is neither drain nor reset");
	options->reset_when_removed = value[0] == 'r';
	return 0;
}

static int set_allow_endpoints(struct options *options, const struct option *option,
			       const char *value, struct error *error)
{
	char quoted[QUOTE_MAX];
	size_t column = 0;
	int code = admission_parse(&options->admission, value, &column);

	(void)option;
	if (code == -ENOMEM)
		return error_no_memory(error);
	if (code < 0) {
		text_printable(quoted, sizeof(quoted), value, strlen(value));
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "'%s': column %zu: neither an address nor a CIDR prefix", quoted,
				 column);
	}
	return 0;
}

static int set_socket(struct options *options, const struct option *option, const char *value,
		      struct error *error)
{
	int r = server_check_unix(value, error);

	return r < 0 ? r : set_string(options, option, value, error);
}

static int set_metrics(struct options *options, const struct option *option, const char *value,
		       struct error *error)
{
	int r = server_check_tcp(value, error);

	return r < 0 ? r : set_string(options, option, value, error);
}

/* The digits behind the point of a number of seconds, as nanoseconds. */
static int parse_fraction(const char *digits, uint64_t *ret)
{
	size_t length = strlen(digits);
	uint64_t value;

	if (length > 9 || text_parse_number(digits, length, NANOSECONDS, &value) < 0)
		return -EINVAL;
	for (size_t i = length; i < 9; i++)
		value *= 10;
	*ret = value;
	return 0;
}

static int set_timeout(struct options *options, const struct option *option, const char *value,
		       struct error *error)
{
	const char *point = strchr(value, '.');
	size_t length = point ? (size_t)(point - value) : strlen(value);
	uint64_t seconds = 0, fraction = 0, time = 0;

	(void)option;
	if (text_parse_number(value, length, TIMEOUT_SECONDS_MAX, &seconds) == 0 &&
	    (!point || parse_fraction(point + 1, &fraction) == 0))
		time = seconds * NANOSECONDS + fraction;
	if (time < TIMEOUT_MIN || time > (uint64_t)TIMEOUT_SECONDS_MAX * NANOSECONDS)
		return refuse(error, value, "is not a number of seconds from 0.001 to 86400");
	options->timeout = time;
	return 0;
}

static int set_resync(struct options *options, const struct option *option, const char *value,
		      struct error *error)
{
	uint64_t seconds;

	(void)option;
	if (text_parse_number(value, strlen(value), TIMEOUT_SECONDS_MAX, &seconds) < 0 ||
	    seconds == 0)
		return refuse(error, value, "is not a number of seconds from 1 to 86400");
	options->resync = seconds * NANOSECONDS;
	return 0;
}

static int set_log_level(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	(void)option;
	if (log_parse_level(value, &options->log_level) < 0)
		return refuse(error, value, "is none of error, warn, info, debug");
	return 0;
}

#define FIELD(name) .offset = offsetof(struct options, name)

enum {
	SYNC = COMMAND_RECONCILE | COMMAND_PLAN,
	ONE_TARGET = SYNC | COMMAND_FLUSH | COMMAND_EXPLAIN,
	FOLLOWING = SYNC | COMMAND_RUN,
	DESCRIBED = FOLLOWING | COMMAND_EXPLAIN,
	TARGETED = ONE_TARGET | COMMAND_RUN,
	READING = DESCRIBED | COMMAND_RESOLVE | COMMAND_HOOK,
	EVERY = TARGETED | COMMAND_RESOLVE | COMMAND_STATUS | COMMAND_HOOK,
};

static const struct option table[] = {
	{
		.name = "netns",
		.argument = "NAME|PATH",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "The namespace that ip-netns(8) knows by NAME, or the nsfs file at PATH.",
		.set = set_netns,
		FIELD(netns),
	},
	{
		.name = "pid",
		.argument = "PID",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "The namespace of process PID.",
		.set = set_pid,
	},
	{
		.name = "container",
		.argument = "NAME|ID",
		.commands = ONE_TARGET | COMMAND_STATUS,
		.section = SECTION_TARGET,
		.help = "The namespace of that Docker container, and the descriptors of every "
			"running container in it. To status, a namespace given by hand is one by "
			"its name.",
		.set = set_container,
		FIELD(container),
	},
	{
		.name = "docker",
		.argument = "URL",
		.variable = "DOCKER_HOST",
		.fallback = "unix:///var/run/docker.sock",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "The Docker engine of this host: unix:///PATH or tcp://HOST:PORT.",
		.set = set_string,
		FIELD(docker),
	},
	{
		.name = "allow-host-netns",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "Work on the host's own namespace too, which is refused otherwise.",
		.set = set_flag,
		FIELD(allow_host_netns),
	},
	{
		.name = "force",
		.commands = COMMAND_RECONCILE | COMMAND_FLUSH,
		.section = SECTION_TARGET,
		.help = "Work on a namespace that a running agent keeps, which is refused "
			"otherwise.",
		.set = set_flag,
		FIELD(force),
	},
	{
		.name = "backend",
		.letter = 'b',
		.argument = "NAME=DESCRIPTOR",
		.commands = DESCRIBED,
		.section = SECTION_DESCRIPTORS,
		.help = "A descriptor, instead of the target's own. NAME may be written with or "
			"without the prefix. May be given again.",
		.set = set_backend,
	},
	{
		.name = "env-file",
		.argument = "FILE",
		.commands = DESCRIBED,
		.section = SECTION_DESCRIPTORS,
		.help = "Descriptors from lines NAME=DESCRIPTOR, instead of the target's own. May "
			"be given again, and beside -b.",
		.set = set_env_file,
	},
	{
		.name = "env-prefix",
		.argument = "PREFIX",
		.variable = "DRAGOMAN_ENV_PREFIX",
		.fallback = "BACKEND_",
		.commands = DESCRIBED | COMMAND_HOOK,
		.section = SECTION_DESCRIPTORS,
		.help = "What the names of descriptor variables begin with.",
		.set = set_env_prefix,
		FIELD(env_prefix),
	},
	{
		.name = "registry",
		.argument = "URL",
		.variable = "DRAGOMAN_REGISTRY",
		.fallback = "etcd://127.0.0.1:2379",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Where services are registered: etcd://HOST:PORT[,HOST:PORT...] or "
			"etcds:// (v3), etcd2:// or etcd2s:// (v2), consul:// or consuls://, "
			"file:///PATH.",
		.set = set_registry,
		FIELD(registry),
	},
	{
		.name = "root",
		.argument = "PATH",
		.variable = "DRAGOMAN_ROOT",
		.fallback = "/services",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "The key below which bare service names are looked up.",
		.set = set_root,
	},
	{
		.name = "tls-ca",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_CA",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "CA certificates that are trusted, PEM, instead of the system's.",
		.set = set_string,
		FIELD(tls_ca),
	},
	{
		.name = "tls-cert",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_CERT",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "A client certificate, PEM.",
		.set = set_string,
		FIELD(tls_cert),
	},
	{
		.name = "tls-key",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_KEY",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Its key, PEM.",
		.set = set_string,
		FIELD(tls_key),
	},
	{
		.name = "registry-user",
		.argument = "USER",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Log in as USER.",
		.set = set_string,
		FIELD(registry_user),
	},
	{
		.name = "registry-password-file",
		.argument = "FILE",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "The password, or Consul's token, is the first line of FILE.",
		.set = set_string,
		FIELD(registry_password_file),
	},
	{
		.name = "consul-datacenter",
		.argument = "NAME",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Look services up in that datacenter of Consul, not in its own.",
		.set = set_string,
		FIELD(consul_datacenter),
	},
	{
		.name = "consul-namespace",
		.argument = "NAME",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Look services up in that namespace of Consul (Enterprise).",
		.set = set_string,
		FIELD(consul_namespace),
	},
	{
		.name = "consul-stale",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Let any server of Consul answer with what it knows, without its leader.",
		.set = set_flag,
		FIELD(consul_stale),
	},
	{
		.name = "consul-connections",
		.argument = "N",
		.commands = COMMAND_RUN,
		.section = SECTION_REGISTRY,
		.help = "Ask Consul for N services at once, 64 without it, of the 200 connections "
			"that it takes of one address; where there are more, they take turns.",
		.set = set_connections,
	},
	{
		.name = "allow-endpoints",
		.argument = "CIDR[,CIDR...]",
		.commands = READING,
		.section = SECTION_RULES,
		.help = "Admit just these addresses. Without it, all but unspecified, multicast, "
			"broadcast, loopback and link-local ones. May be given again.",
		.set = set_allow_endpoints,
	},
	{
		.name = "balance",
		.argument = "random|nth",
		.variable = "DRAGOMAN_BALANCE",
		.fallback = "random",
		.commands = FOLLOWING | COMMAND_HOOK,
		.section = SECTION_RULES,
		.help = "Choose endpoints at random, or one after the other.",
		.set = set_balance,
	},
	{
		.name = "on-empty",
		.argument = "reject|hold",
		.variable = "DRAGOMAN_ON_EMPTY",
		.fallback = "reject",
		.commands = FOLLOWING | COMMAND_HOOK,
		.section = SECTION_RULES,
		.help = "With no endpoint left: refuse connections, or hold the endpoints that "
			"stand.",
		.set = set_on_empty,
	},
	{
		.name = "on-remove",
		.argument = "drain|reset",
		.fallback = "drain",
		.commands = FOLLOWING | COMMAND_FLUSH,
		.section = SECTION_RULES,
		.help = "TCP connections to an endpoint that is gone: let them go on until they "
			"end, or reset them. Flows of UDP are led elsewhere in both cases.",
		.set = set_on_remove,
	},
	{
		.name = "timeout",
		.argument = "SECONDS",
		.fallback = "10",
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "Time limit for the whole command; of run, for one request to the registry.",
		.set = set_timeout,
	},
	{
		.name = "resync",
		.argument = "SECONDS",
		.fallback = "300",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "How often everything is looked at anew, whatever was told.",
		.set = set_resync,
	},
	{
		.name = "flush-on-exit",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Take every trace out of every namespace at the end. Without it the rules "
			"stay.",
		.set = set_flag,
		FIELD(flush_on_exit),
	},
	{
		.name = "socket",
		.argument = "PATH",
		.variable = "DRAGOMAN_SOCKET",
		.fallback = "/run/dragoman/dragoman.sock",
		.commands = COMMAND_RUN | COMMAND_STATUS | COMMAND_RECONCILE | COMMAND_FLUSH |
			    COMMAND_EXPLAIN | COMMAND_HOOK,
		.section = SECTION_AGENT,
		.help = "The Unix socket on which the agent of this host answers.",
		.set = set_socket,
		FIELD(socket),
	},
	{
		.name = "metrics",
		.argument = "ADDR:PORT",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Answer there over TCP as well: /status, /metrics, /healthz, /readyz.",
		.set = set_metrics,
		FIELD(metrics),
	},
	{
		.name = "no-seccomp",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Do not filter the agent's own system calls: for kernels without seccomp(2), "
			"and for debuggers.",
		.set = set_flag,
		FIELD(no_seccomp),
	},
	{
		.name = "config",
		.argument = "FILE",
		.fallback = "/etc/default/dragoman",
		.commands = COMMAND_HOOK,
		.section = SECTION_GENERAL,
		.help = "The settings of this host's agent: lines NAME=VALUE, of which DRAGOMAN_ "
			"variables count that neither an option nor the environment overrides, and "
			"what the options in DRAGOMAN_OPTIONS say of registry, descriptors and "
			"rules.",
		.set = set_string,
		FIELD(config),
	},
	{
		.name = "required",
		.commands = COMMAND_HOOK,
		.section = SECTION_GENERAL,
		.help = "Keep the container from starting where something could not be done.",
		.set = set_flag,
		FIELD(required),
	},
	{
		.name = "probe",
		.commands = COMMAND_EXPLAIN,
		.section = SECTION_GENERAL,
		.help = "Try it: a TCP connection to each endpoint, and one through localhost.",
		.set = set_flag,
		FIELD(probe),
	},
	{
		.name = "watch",
		.letter = 'w',
		.commands = COMMAND_STATUS,
		.section = SECTION_GENERAL,
		.help = "Show it again each second; q ends it.",
		.set = set_flag,
		FIELD(watch),
	},
	{
		.name = "json",
		.commands = EVERY & ~(unsigned)(COMMAND_RUN | COMMAND_HOOK),
		.section = SECTION_GENERAL,
		.help = "Print one JSON document instead of text.",
		.set = set_flag,
		FIELD(json),
	},
	{
		.name = "log-level",
		.argument = "error|warn|info|debug",
		.fallback = "info",
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "What to say on standard error.",
		.set = set_log_level,
	},
	{
		.name = "help",
		.letter = 'h',
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "Show this help.",
		.set = set_flag,
		FIELD(help),
	},
};

const struct option *options_table(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(table);
	return table;
}
