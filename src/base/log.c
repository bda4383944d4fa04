/* SPDX-License-Identifier: MIT */
#include "dragoman/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/memory.h"

static enum log_level log_level = LOG_INFO;

static const char *const names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

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

	if (!log_enabled(level))
		return;
	va_start(arguments, format);
	(void)vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* One call, so that lines of several processes do not mix. */
	(void)fprintf(stderr, "dragoman: %s\n", line);
}
