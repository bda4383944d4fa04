/* SPDX-License-Identifier: MIT */
#include "base64.h"

#include <errno.h>
#include <stdint.h>

/*
 * Three bytes are four digits of six bits each. What is left at the end, one
 * byte or two, is two digits or three, filled up with "=".
 */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct text *into, const char *data, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)data;

	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t bits = (uint32_t)bytes[i] << 16;
		char group[4];

		if (left > 1)
			bits |= (uint32_t)bytes[i + 1] << 8;
		if (left > 2)
			bits |= bytes[i + 2];
		group[0] = digits[bits >> 18];
		group[1] = digits[bits >> 12 & 63];
		group[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
		group[3] = left > 2 ? digits[bits & 63] : '=';
		text_add(into, group, sizeof(group));
	}
}

static int digit_value(char digit)
{
	if (digit >= 'A' && digit <= 'Z')
		return digit - 'A';
	if (digit >= 'a' && digit <= 'z')
		return digit - 'a' + 26;
	if (digit >= '0' && digit <= '9')
		return digit - '0' + 52;
	if (digit == '+')
		return 62;
	return digit == '/' ? 63 : -1;
}

/* Decodes `count` digits (2 to 4) into count - 1 bytes. Returns 0 or -EINVAL. */
static int group_decode(const char *group, size_t count, unsigned char *into)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < 4; i++) {
		int value = i < count ? digit_value(group[i]) : 0;

		if (value < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)value;
	}
	if ((count == 2 && bits & 0xffff) || (count == 3 && bits & 0xff))
		return -EINVAL;
	into[0] = (unsigned char)(bits >> 16);
	if (count > 2)
		into[1] = (unsigned char)(bits >> 8);
	if (count > 3)
		into[2] = (unsigned char)bits;
	return 0;
}

int base64_decode(const char *text, size_t length, char *into, size_t *ret_length)
{
	unsigned char *out = (unsigned char *)into;
	size_t used = 0;

	if (length % 4 != 0)
		return -EINVAL;
	for (size_t i = 0; i < length; i += 4) {
		size_t count = 4;

		if (i + 4 == length && text[i + 3] == '=')
			count = text[i + 2] == '=' ? 2 : 3;
		if (group_decode(text + i, count, out + used) < 0)
			return -EINVAL;
		used += count - 1;
	}
	*ret_length = used;
	return 0;
}
