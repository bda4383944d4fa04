/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the one table of options. A row says how an option is
 * written, where its value comes from when it is not given, which commands
 * take it, what help says, and the function that takes its value, whichever of
 * the three it came from (options_values.c): a default goes the same way as what
 * a user typed.
 */
#include <stddef.h>

#include "dragoman/base/memory.h"
#include "options_values.h"

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
		.set = option_set_netns,
		FIELD(netns),
	},
	{
		.name = "pid",
		.argument = "PID",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "The namespace of process PID.",
		.set = option_set_pid,
	},
	{
		.name = "container",
		.argument = "NAME|ID",
		.commands = ONE_TARGET | COMMAND_STATUS,
		.section = SECTION_TARGET,
		.help = "The namespace of that Docker container, and the descriptors of every "
			"running container in it. To status, a namespace given by hand is one by "
			"its name.",
		.set = option_set_container,
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
		.set = option_set_string,
		FIELD(docker),
	},
	{
		.name = "allow-host-netns",
		.commands = TARGETED,
		.section = SECTION_TARGET,
		.help = "Work on the host's own namespace too, which is refused otherwise.",
		.set = option_set_flag,
		FIELD(allow_host_netns),
	},
	{
		.name = "force",
		.commands = COMMAND_RECONCILE | COMMAND_FLUSH,
		.section = SECTION_TARGET,
		.help = "Work on a namespace that a running agent keeps, which is refused "
			"otherwise.",
		.set = option_set_flag,
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
		.set = option_set_backend,
	},
	{
		.name = "env-file",
		.argument = "FILE",
		.commands = DESCRIBED,
		.section = SECTION_DESCRIPTORS,
		.help = "Descriptors from lines NAME=DESCRIPTOR, instead of the target's own. May "
			"be given again, and beside -b.",
		.set = option_set_env_file,
	},
	{
		.name = "env-prefix",
		.argument = "PREFIX",
		.variable = "DRAGOMAN_ENV_PREFIX",
		.fallback = "BACKEND_",
		.commands = DESCRIBED | COMMAND_HOOK,
		.section = SECTION_DESCRIPTORS,
		.help = "What the names of descriptor variables begin with.",
		.set = option_set_env_prefix,
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
		.set = option_set_registry,
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
		.set = option_set_root,
	},
	{
		.name = "tls-ca",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_CA",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "CA certificates that are trusted, PEM, instead of the system's.",
		.set = option_set_string,
		FIELD(tls_ca),
	},
	{
		.name = "tls-cert",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_CERT",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "A client certificate, PEM.",
		.set = option_set_string,
		FIELD(tls_cert),
	},
	{
		.name = "tls-key",
		.argument = "FILE",
		.variable = "DRAGOMAN_TLS_KEY",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Its key, PEM.",
		.set = option_set_string,
		FIELD(tls_key),
	},
	{
		.name = "registry-user",
		.argument = "USER",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Log in as USER.",
		.set = option_set_string,
		FIELD(registry_user),
	},
	{
		.name = "registry-password-file",
		.argument = "FILE",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "The password, or Consul's token, is the first line of FILE.",
		.set = option_set_string,
		FIELD(registry_password_file),
	},
	{
		.name = "consul-datacenter",
		.argument = "NAME",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Look services up in that datacenter of Consul, not in its own.",
		.set = option_set_string,
		FIELD(consul_datacenter),
	},
	{
		.name = "consul-namespace",
		.argument = "NAME",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Look services up in that namespace of Consul (Enterprise).",
		.set = option_set_string,
		FIELD(consul_namespace),
	},
	{
		.name = "consul-stale",
		.commands = READING,
		.section = SECTION_REGISTRY,
		.help = "Let any server of Consul answer with what it knows, without its leader.",
		.set = option_set_flag,
		FIELD(consul_stale),
	},
	{
		.name = "consul-connections",
		.argument = "N",
		.commands = COMMAND_RUN,
		.section = SECTION_REGISTRY,
		.help = "Ask Consul for N services at once, 64 without it, of the 200 connections "
			"that it takes of one address; where there are more, they take turns.",
		.set = option_set_connections,
	},
	{
		.name = "allow-endpoints",
		.argument = "CIDR[,CIDR...]",
		.commands = READING,
		.section = SECTION_RULES,
		.help = "Admit just these addresses. Without it, all but unspecified, multicast, "
			"broadcast, loopback and link-local ones. May be given again.",
		.set = option_set_allow_endpoints,
	},
	{
		.name = "balance",
		.argument = "random|nth",
		.variable = "DRAGOMAN_BALANCE",
		.fallback = "random",
		.commands = FOLLOWING | COMMAND_HOOK,
		.section = SECTION_RULES,
		.help = "Choose endpoints at random, or one after the other.",
		.set = option_set_balance,
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
		.set = option_set_on_empty,
	},
	{
		.name = "on-remove",
		.argument = "drain|reset",
		.fallback = "drain",
		.commands = FOLLOWING | COMMAND_FLUSH,
		.section = SECTION_RULES,
		.help = "TCP connections to an endpoint that is gone: let them go on until they "
			"end, or reset them. Flows of UDP are led elsewhere in both cases.",
		.set = option_set_on_remove,
	},
	{
		.name = "timeout",
		.argument = "SECONDS",
		.fallback = "10",
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "Time limit for the whole command; of run, for one request to the registry.",
		.set = option_set_timeout,
	},
	{
		.name = "resync",
		.argument = "SECONDS",
		.fallback = "300",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "How often everything is looked at anew, whatever was told.",
		.set = option_set_resync,
	},
	{
		.name = "flush-on-exit",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Take every trace out of every namespace at the end. Without it the rules "
			"stay.",
		.set = option_set_flag,
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
		.set = option_set_socket,
		FIELD(socket),
	},
	{
		.name = "metrics",
		.argument = "ADDR:PORT",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Answer there over TCP as well: /status, /metrics, /healthz, /readyz.",
		.set = option_set_metrics,
		FIELD(metrics),
	},
	{
		.name = "no-seccomp",
		.commands = COMMAND_RUN,
		.section = SECTION_AGENT,
		.help = "Do not filter the agent's own system calls: for kernels without seccomp(2), "
			"and for debuggers.",
		.set = option_set_flag,
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
		.set = option_set_string,
		FIELD(config),
	},
	{
		.name = "required",
		.commands = COMMAND_HOOK,
		.section = SECTION_GENERAL,
		.help = "Keep the container from starting where something could not be done.",
		.set = option_set_flag,
		FIELD(required),
	},
	{
		.name = "probe",
		.commands = COMMAND_EXPLAIN,
		.section = SECTION_GENERAL,
		.help = "Try it: a TCP connection to each endpoint, and one through localhost.",
		.set = option_set_flag,
		FIELD(probe),
	},
	{
		.name = "watch",
		.letter = 'w',
		.commands = COMMAND_STATUS,
		.section = SECTION_GENERAL,
		.help = "Show it again each second; q ends it.",
		.set = option_set_flag,
		FIELD(watch),
	},
	{
		.name = "json",
		.commands = EVERY & ~(unsigned)(COMMAND_RUN | COMMAND_HOOK),
		.section = SECTION_GENERAL,
		.help = "Print one JSON document instead of text.",
		.set = option_set_flag,
		FIELD(json),
	},
	{
		.name = "log-level",
		.argument = "error|warn|info|debug",
		.fallback = "info",
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "What to say on standard error.",
		.set = option_set_log_level,
	},
	{
		.name = "help",
		.letter = 'h',
		.commands = EVERY,
		.section = SECTION_GENERAL,
		.help = "Show this help.",
		.set = option_set_flag,
		FIELD(help),
	},
};

const struct option *options_table(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(table);
	return table;
}
