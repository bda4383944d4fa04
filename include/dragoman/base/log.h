/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_LOG_H
#define DRAGOMAN_BASE_LOG_H

/*
 * The log: lines on standard error, "dragoman: text", one each.
 *
 * Only src/cmd and src/agent log above debug; a library says what happened
 * through its struct error. Text from outside must be printable by the time it
 * comes here.
 */

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Sets the level up to which lines are written; LOG_INFO at start. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/*
 * Whether lines begin with "<N>", N being the priority of syslog(3), by which
 * journald grades what a service writes (sd-daemon(3)). Off at start.
 */
void log_set_graded(bool graded);

/*
 * Whether lines also go to syslog(3), for a program whose standard error may have
 * no reader. Off at start.
 */
void log_set_system(bool system);

/* "error", "warn", "info", "debug" -> level. Returns 0 or -EINVAL. */
int log_parse_level(const char *name, enum log_level *ret);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                    \
	do {                                              \
		if (log_enabled(LOG_DEBUG))               \
			log_line(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
