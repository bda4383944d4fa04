/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_LOG_SYSTEM_H
#define DRAGOMAN_BASE_LOG_SYSTEM_H

/* A file of its own, since syslog.h has names that are log.h's, too. */

/* Before the first line: its sender is called dragoman, with the number of this process. */
void log_system_open(void);

/* A line for syslog(3), of a priority that stands there; where nobody takes it, it is lost. */
void log_system_line(int priority, const char *line);

#endif
