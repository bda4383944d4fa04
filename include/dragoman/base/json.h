/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_JSON_H
#define DRAGOMAN_BASE_JSON_H

/*
 * Reading JSON with jansson, where memory may be exhausted. jansson alone goes
 * on with half of a string then, reads beyond its end, or says that what was
 * right is no JSON; here it is an error of its own. So it is where a text of
 * whatever length has so many values that they would take more memory than
 * anything that is meant.
 */

#include <stddef.h>

struct json_t;
struct json_error_t;

/*
 * json_loadb() of jansson, with its flags. Returns 0 with a value in *ret, which
 * is the caller's; -EINVAL where it is no JSON, or far too many values, and then the reason is in
 * *reason, if that is not NULL; or -ENOMEM. *ret is NULL on failure. Not
 * thread-safe, and not to be called while another call is under way.
 */
int json_read(const char *data, size_t length, size_t flags, struct json_t **ret,
	      struct json_error_t *reason);

#endif
