/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: one function for each kind of value. It reads what was
 * written and puts it where it belongs; what it refuses it quotes, made
 * printable, and says why.
 */
#include "options_values.h"

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

int option_set_string(struct options *options, const struct option *option, const char *value,
		      struct error *error)
{
	(void)error;
	*(const char **)field(options, option) = value;
	return 0;
}

int option_set_flag(struct options *options, const struct option *option, const char *value,
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

int option_set_netns(struct options *options, const struct option *option, const char *value,
		     struct error *error)
{
	if (options->has_targets)
		return add_target(options, value, 0, error);
	if (options->netns)
		return error_set(error, -EINVAL, ERROR_INVALID, "given twice");
	return option_set_string(options, option, value, error);
}

int option_set_container(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	if (options->container)
		return error_set(error, -EINVAL, ERROR_INVALID, "given twice");
	return option_set_string(options, option, value, error);
}

int option_set_pid(struct options *options, const struct option *option, const char *value,
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

int option_set_backend(struct options *options, const struct option *option, const char *value,
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

int option_set_env_file(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	(void)option;
	if (array_reserve(&options->env_files, &options->env_file_capacity, options->env_file_count,
			  1, sizeof(*options->env_files)) < 0)
		return error_no_memory(error);
	options->env_files[options->env_file_count++] = value;
	return 0;
}

int option_set_env_prefix(struct options *options, const struct option *option, const char *value,
			  struct error *error)
{
	for (const char *c = value; *c; c++) {
		if (*c <= ' ' || *c > '~' || *c == '=')
			return refuse(error, value, "cannot begin the name of a variable");
	}
	if (strlen(value) >= DESCRIPTOR_VARIABLE_MAX)
		return refuse(error, value, "is too long");
	return option_set_string(options, option, value, error);
}

int option_set_registry(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	int code = registry_check_url(value, error);

	return code < 0 ? code : option_set_string(options, option, value, error);
}

int option_set_root(struct options *options, const struct option *option, const char *value,
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

int option_set_connections(struct options *options, const struct option *option, const char *value,
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

int option_set_balance(struct options *options, const struct option *option, const char *value,
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

int option_set_on_empty(struct options *options, const struct option *option, const char *value,
			struct error *error)
{
	(void)option;
	if (strcmp(value, "reject") != 0 && strcmp(value, "hold") != 0)
		return refuse(error, value, "is neither reject nor hold");
	options->hold_when_empty = value[0] == 'h';
	return 0;
}

int option_set_on_remove(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	(void)option;
	if (strcmp(value, "drain") != 0 && strcmp(value, "reset") != 0)
		return refuse(error, value, "is neither drain nor reset");
	options->reset_when_removed = value[0] == 'r';
	return 0;
}

int option_set_allow_endpoints(struct options *options, const struct option *option,
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

int option_set_socket(struct options *options, const struct option *option, const char *value,
		      struct error *error)
{
	int r = server_check_unix(value, error);

	return r < 0 ? r : option_set_string(options, option, value, error);
}

int option_set_metrics(struct options *options, const struct option *option, const char *value,
		       struct error *error)
{
	int r = server_check_tcp(value, error);

	return r < 0 ? r : option_set_string(options, option, value, error);
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

int option_set_timeout(struct options *options, const struct option *option, const char *value,
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

int option_set_resync(struct options *options, const struct option *option, const char *value,
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

int option_set_log_level(struct options *options, const struct option *option, const char *value,
			 struct error *error)
{
	(void)option;
	if (log_parse_level(value, &options->log_level) < 0)
		return refuse(error, value, "is none of error, warn, info, debug");
	return 0;
}
