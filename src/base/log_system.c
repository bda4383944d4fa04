/* SPDX-License-Identifier: MIT */
#include "log_system.h"

#include <syslog.h>

void log_system_open(void)
{
	openlog("dragoman", LOG_PID, LOG_DAEMON);
}

void log_system_line(int priority, const char *line)
{
	syslog(LOG_DAEMON | priority, "%s", line);
}
