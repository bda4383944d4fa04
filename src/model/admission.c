/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A registry is written by many hands, and an entry decides where a container
 * connects to: an endpoint of 169.254.169.254 would hand out a cloud's
 * credentials, one of 127.0.0.1 would lead back into the container. So what
 * no service of another host can have as its address is refused unless the
 * user names it; and whoever names anything has named everything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/endpoint.h"

enum { IPV4_BITS = 32, IPV6_BITS = 128, MAPPED_BITS = 96 };

#define HINT " (see --allow-endpoints)"

/* The first that holds an address gives the reason. */
static const struct {
	struct cidr prefix;
	const char *reason;
} refused[] = {
	{{FAMILY_IPV4, 8, {0}}, "unspecified address" HINT},
	{{FAMILY_IPV4, 8, {127}}, "loopback address" HINT},
	{{FAMILY_IPV4, 16, {169, 254}}, "link-local address" HINT},
	{{FAMILY_IPV4, 4, {224}}, "multicast address" HINT},
	{{FAMILY_IPV4, 32, {255, 255, 255, 255}}, "broadcast address" HINT},
	{{FAMILY_IPV6, 128, {0}}, "unspecified address" HINT},
	{{FAMILY_IPV6, 128, {[15] = 1}}, "loopback address" HINT},
	{{FAMILY_IPV6, 10, {0xfe, 0x80}}, "link-local address" HINT},
	{{FAMILY_IPV6, 8, {0xff}}, "multicast address" HINT},
};

/* The bits of byte number `index` that a prefix of `length` bits looks at. */
static uint8_t mask_of(unsigned length, size_t index)
{
	size_t before = index * 8;

	if (length <= before)
		return 0;
	if (length >= before + 8)
		return 0xff;
	return (uint8_t)(0xff << (before + 8 - length));
}

static bool cidr_holds(const struct cidr *prefix, const struct endpoint *endpoint)
{
	const size_t whole = prefix->length / 8;

	if (prefix->family != endpoint->family ||
	    memcmp(prefix->address, endpoint->address, whole) != 0)
		return false;
	return prefix->length % 8 == 0 || ((prefix->address[whole] ^ endpoint->address[whole]) &
					   mask_of(prefix->length, whole)) == 0;
}

/* Parses the length of a prefix whose address was written with so many bits. */
static int parse_bits(const char *text, size_t length, bool mapped, unsigned bits, uint16_t *ret)
{
	uint64_t value;

	if (text_parse_number(text, length, mapped ? IPV6_BITS : bits, &value) < 0)
		return -EINVAL;
	/* ::ffff:10.0.0.0/104 is 10.0.0.0/8; a shorter one holds more than IPv4. */
	if (mapped && value < MAPPED_BITS)
		return -EINVAL;
	*ret = (uint16_t)(mapped ? value - MAPPED_BITS : value);
	return 0;
}

static int cidr_parse(const char *text, size_t length, struct cidr *ret)
{
	const char *slash = memchr(text, '/', length);
	size_t address_length = slash ? (size_t)(slash - text) : length;
	struct endpoint address = {0};
	unsigned bits;
	bool mapped;

	if (endpoint_parse_address(text, address_length, &address) < 0)
		return -EINVAL;
	bits = address.family == FAMILY_IPV6 ? IPV6_BITS : IPV4_BITS;
	mapped = address.family == FAMILY_IPV4 && memchr(text, ':', address_length);
	ret->family = address.family;
	ret->length = (uint16_t)bits;
	if (slash &&
	    parse_bits(slash + 1, length - address_length - 1, mapped, bits, &ret->length) < 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(ret->address); i++)
		ret->address[i] = address.address[i] & mask_of(ret->length, i);
	return 0;
}

static size_t items_in(const char *list)
{
	size_t items = 1;

	for (; *list; list++)
		items += *list == ',';
	return items;
}

int admission_parse(struct admission *admission, const char *list, size_t *ret_column)
{
	size_t more = items_in(list), added = 0;
	const char *item = list;
	struct cidr *grown;

	grown = reallocarray(admission->prefixes, admission->count + more, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	admission->prefixes = grown;
	for (; added < more; added++) {
		const char *start = item + strspn(item, " \t");
		const char *end = item + strcspn(item, ",");
		size_t length = end > start ? (size_t)(end - start) : 0;

		while (length > 0 && (start[length - 1] == ' ' || start[length - 1] == '\t'))
			length--;
		if (cidr_parse(start, length, &grown[admission->count + added]) < 0) {
			*ret_column = (size_t)(start - list) + 1;
			return -EINVAL;
		}
		item = end + 1;
	}
	admission->count += added;
	return 0;
}

void admission_done(struct admission *admission)
{
	free(admission->prefixes);
	*admission = (struct admission){0};
}

const char *admission_refuses(const struct admission *admission, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < admission->count; i++) {
		if (cidr_holds(&admission->prefixes[i], endpoint))
			return NULL;
	}
	if (admission->count)
		return "not in --allow-endpoints";
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		if (cidr_holds(&refused[i].prefix, endpoint))
			return refused[i].reason;
	}
	return NULL;
}
