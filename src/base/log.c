/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A line is formatted into a buffer and written in one piece: stderr is
 * unbuffered, and glibc collects one fprintf() into one write(2), so lines of
 * several processes on one terminal do not mix. errno is kept, because a line
 * is often written between a failure and the code that looks at it.
 */
#include "dragoman/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "log_system.h"

static enum log_level log_level = LOG_INFO;

static bool log_graded, log_system;

/* LOG_ERR, LOG_WARNING, LOG_INFO and LOG_DEBUG of syslog.h, whose names are ours, too. */
static const int priorities[] = {
	[LOG_ERROR] = 3,
	[LOG_WARN] = 4,
	[LOG_INFO] = 6,
	[LOG_DEBUG] = 7,
};

static const char *const names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};
static_assert(ARRAY_SIZE(names) == LOG_DEBUG + 1, "a level without a name");

void log_set_graded(bool graded)
{
	log_graded = graded;
}

void log_set_system(bool system)
{
	log_system = system;
	if (system)
		log_system_open();
}

void log_set_level(enum log_level level)
{
	log_level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

int log_parse_level(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		*ret = (enum log_level)i;
		return 0;
	}
	return -EINVAL;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[2048];
	va_list arguments;
	int saved = errno;

	if (!log_enabled(level))
		return;
	va_start(arguments, format);
	(void)text_format_list(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (log_graded)
		(void)fprintf(stderr, "<%d>%s\n", priorities[level], line);
	else
		(void)fprintf(stderr, "dragoman: %s\n", line);
	if (log_system)
		log_system_line(priorities[level], line);
	errno = saved;
}
