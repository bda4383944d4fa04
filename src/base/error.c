/* SPDX-License-Identifier: MIT */
#include "dragoman/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, int code, enum error_class class, const char *format, ...)
{
	va_list arguments;

	if (!error)
		return code;
	error->code = code;
	error->class = class;
	va_start(arguments, format);
	(void)vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return code;
}

int error_wrap(struct error *error, const char *format, ...)
{
	char inner[ERROR_MESSAGE_MAX];
	va_list arguments;
	int length;

	if (!error)
		return -EIO;
	if (!error->code)
		return 0;
	memcpy(inner, error->message, sizeof(inner));
	va_start(arguments, format);
	length = vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	if (length >= 0 && (size_t)length < sizeof(error->message))
		(void)snprintf(error->message + length, sizeof(error->message) - (size_t)length,
			       ": %s", inner);
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
	case EINTR:
	case ENOBUFS:
	case ETIMEDOUT:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return ERROR_TRANSIENT;
	case ENOMEM:
	case EPERM:
	case EACCES:
	case EMFILE:
	case ENFILE:
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
