/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_BASE64_H
#define DRAGOMAN_REGISTRY_BASE64_H

/* Base64 as in RFC 4648, section 4: the standard alphabet, padded. */

#include <stddef.h>

#include "dragoman/base/text.h"

void base64_encode(struct text *into, const char *data, size_t length);

/*
 * Strict: no line ends, no missing padding, no bits left over. into is of
 * base64_decoded_max(length) bytes. Returns 0 or -EINVAL.
 */
int base64_decode(const char *text, size_t length, char *into, size_t *ret_length);

static inline size_t base64_decoded_max(size_t length)
{
	return length / 4 * 3 + 3;
}

#endif
