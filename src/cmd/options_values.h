/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_OPTIONS_VALUES_H
#define DRAGOMAN_CMD_OPTIONS_VALUES_H

/*
 * What takes a value into the options: for the rows of the table alone. See
 * struct option for what each is given.
 */

#include "options.h"

typedef int option_setter(struct options *options, const struct option *option, const char *value,
			  struct error *error);

/* As it is written: into the field that the row names. */
option_setter option_set_string;
/* Of an option without an argument. */
option_setter option_set_flag;

option_setter option_set_netns, option_set_container, option_set_pid, option_set_backend,
	option_set_env_file, option_set_env_prefix, option_set_registry, option_set_root,
	option_set_connections, option_set_balance, option_set_on_empty, option_set_on_remove,
	option_set_allow_endpoints, option_set_socket, option_set_metrics, option_set_timeout,
	option_set_resync, option_set_log_level;

#endif
