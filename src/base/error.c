/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The message grows from right to left: the place that failed writes the end
 * of the line, every caller that knows more puts its context in front. There
 * is no memory to own, so there is no failing while telling of a failure. What
 * does not fit is cut at its end, at a character's border, because the line
 * goes into JSON as well.
 */
#include "dragoman/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "dragoman/base/text.h"

int error_set(struct error *error, int code, enum error_class class, const char *format, ...)
{
	va_list arguments;

	if (!error)
		return code;
	error->code = code;
	error->class = class;
	va_start(arguments, format);
	(void)text_format_list(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return code;
}

int error_wrap(struct error *error, const char *format, ...)
{
	char inner[ERROR_MESSAGE_MAX], context[ERROR_MESSAGE_MAX];
	va_list arguments;

	if (!error)
		return -EIO;
	if (!error->code)
		return 0;
	/* Formatted aside: an argument may point into the message. */
	va_start(arguments, format);
	(void)text_format_list(context, sizeof(context), format, arguments);
	va_end(arguments);
	memcpy(inner, error->message, sizeof(inner));
	(void)text_format(error->message, sizeof(error->message), "%s: %s", context, inner);
	return error->code;
}

int error_no_memory(struct error *error)
{
	return error_set(error, -ENOMEM, ERROR_FATAL, "out of memory");
}

enum error_class error_class_of(int code)
{
	switch (code < 0 ? -code : code) {
	case ERESTART:
		return ERROR_CONFLICT;
	case EAGAIN:
	case EBUSY:
	case EINTR:
	case ENOBUFS:
	case EPIPE:
	case ETIMEDOUT:
	case ECONNABORTED:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENETDOWN:
	case ENETRESET:
	case ENETUNREACH:
		return ERROR_TRANSIENT;
	case ENOMEM:
	case EPERM:
	case EACCES:
	case EMFILE:
	case ENFILE:
	case ENOSYS:
	case EOPNOTSUPP:
		return ERROR_FATAL;
	default:
		return ERROR_INVALID;
	}
}

const char *error_class_name(enum error_class class)
{
	switch (class) {
	case ERROR_TRANSIENT:
		return "transient";
	case ERROR_CONFLICT:
		return "conflict";
	case ERROR_INVALID:
		return "invalid";
	case ERROR_FATAL:
		return "fatal";
	}
	return "?";
}
