/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_ERROR_H
#define DRAGOMAN_BASE_ERROR_H

/*
 * Errors that a person will read.
 *
 * Every function of dragoman that can fail returns 0 or -errno. One that
 * crosses an I/O boundary takes, as its last parameter, a caller-owned struct
 * error besides: what went wrong in words, and the class that says whether
 * trying again can help. An error is filled where it happens, wrapped with
 * context on its way up, and printed once, at the top.
 *
 * A struct error holds no memory: it may live on the stack and be copied.
 */

enum error_class {
	ERROR_TRANSIENT, /* may go away by itself: the network, a busy kernel */
	ERROR_CONFLICT,  /* somebody else was faster: read again, plan again */
	ERROR_INVALID,   /* the input is wrong; the same input fails again */
	ERROR_FATAL,     /* this process cannot do it: no privilege, no memory */
};

enum { ERROR_MESSAGE_MAX = 1024 };

struct error {
	int code; /* the -errno that the function returned; 0 when unset */
	enum error_class class;
	char message[ERROR_MESSAGE_MAX];
};

/*
 * Fills error (which may be NULL) and returns code, so that a caller can write
 * `return error_set(error, -EINVAL, ERROR_INVALID, "...")`. The text is one
 * line without a newline; what does not fit is cut. Anything in it that came
 * from outside is the caller's to make printable (text_printable()).
 */
int error_set(struct error *error, int code, enum error_class class, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * Puts "context: " before the message that is there, keeping code and class,
 * and returns the code. Does nothing but return 0 on an unset error. With a
 * NULL error it returns -EIO: use error_set() where the code must survive.
 */
int error_wrap(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shorthand for the one failure that has nothing to tell: returns -ENOMEM. */
int error_no_memory(struct error *error);

/* The class that an errno (positive or negative) has where nothing more is known. */
enum error_class error_class_of(int code);

/* "transient", "conflict", "invalid", "fatal". */
const char *error_class_name(enum error_class class);

#endif
