/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: `failed` decides the exit status, so it does not depend
 * on memory; only the copy for JSON may be lost when there is none.
 */
#include "report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

static void complaint_done(struct complaint *complaint)
{
	free(complaint->variable);
	free(complaint->message);
}

void report_done(struct report *report)
{
	for (size_t i = 0; i < report->count; i++)
		complaint_done(&report->complaints[i]);
	free(report->complaints);
	*report = (struct report){0};
}

static void keep(struct report *report, const char *variable, const char *message)
{
	struct complaint complaint;

	if (array_reserve(&report->complaints, &report->capacity, report->count, 1,
			  sizeof(*report->complaints)) < 0)
		return;
	complaint.variable = variable ? strdup(variable) : NULL;
	complaint.message = strdup(message);
	if ((variable && !complaint.variable) || !complaint.message)
		complaint_done(&complaint);
	else
		report->complaints[report->count++] = complaint;
}

void report_add(struct report *report, const char *variable, const char *format, ...)
{
	char message[ERROR_MESSAGE_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)text_format_list(message, sizeof(message), format, arguments);
	va_end(arguments);
	report->failed = true;
	if (variable)
		log_error("%s: %s", variable, message);
	else
		log_error("%s", message);
	keep(report, variable, message);
}

void report_error(struct report *report, const struct error *error)
{
	report_add(report, NULL, "%s", error->message);
}
