/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An endpoint has one form only, so that two of them are the same exactly when
 * their bytes are: an IPv4 address leaves the rest of its 16 bytes zero, and
 * an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) becomes the IPv4 address
 * that it stands for before anything else looks at it; admission, above all.
 */
#include "dragoman/model/endpoint.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static_assert(sizeof(struct endpoint) == 20, "endpoints are compared and hashed as bytes");
static_assert(ENDPOINT_TEXT_MAX > INET6_ADDRSTRLEN + sizeof("[]:65535/tcp"),
	      "an address with its port has to fit");

const char *protocol_name(enum protocol protocol)
{
	switch (protocol) {
	case PROTOCOL_TCP:
		return "tcp";
	case PROTOCOL_UDP:
		return "udp";
	}
	return "?";
}

int protocol_parse(const char *text, size_t length, enum protocol *ret)
{
	static const enum protocol protocols[] = {PROTOCOL_TCP, PROTOCOL_UDP};

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		const char *name = protocol_name(protocols[i]);

		if (length != strlen(name) || strncasecmp(text, name, length) != 0)
			continue;
		*ret = protocols[i];
		return 0;
	}
	return -EINVAL;
}

int listen_compare(const struct listen *a, const struct listen *b)
{
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	if (a->protocol != b->protocol)
		return a->protocol < b->protocol ? -1 : 1;
	return 0;
}

/* Half of an address, as a number that compares as its bytes do. */
static uint64_t half(const uint8_t *address)
{
	uint64_t number;

	memcpy(&number, address, sizeof(number));
	return be64toh(number);
}

int endpoint_compare(const struct endpoint *a, const struct endpoint *b)
{
	uint64_t x, y;

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	x = half(a->address);
	y = half(b->address);
	if (x == y) {
		x = half(a->address + sizeof(x));
		y = half(b->address + sizeof(y));
	}
	if (x != y)
		return x < y ? -1 : 1;
	return (a->port > b->port) - (a->port < b->port);
}

char *endpoint_format_address(const struct endpoint *endpoint, char *into)
{
	int family = endpoint->family == FAMILY_IPV6 ? AF_INET6 : AF_INET;

	if (!inet_ntop(family, endpoint->address, into, ENDPOINT_TEXT_MAX))
		into[0] = '\0';
	return into;
}

char *endpoint_format(const struct endpoint *endpoint, char *into)
{
	char address[ENDPOINT_TEXT_MAX];
	bool ipv6 = endpoint->family == FAMILY_IPV6;

	(void)endpoint_format_address(endpoint, address);
	(void)snprintf(into, ENDPOINT_TEXT_MAX, "%s%.*s%s:%u", ipv6 ? "[" : "", INET6_ADDRSTRLEN,
		       address, ipv6 ? "]" : "", (unsigned)endpoint->port);
	return into;
}

char *listen_format(const struct listen *listen, enum family family, char *into)
{
	(void)snprintf(into, ENDPOINT_TEXT_MAX, "%s:%u/%s",
		       family == FAMILY_IPV6 ? "[::1]" : "127.0.0.1", (unsigned)listen->port,
		       protocol_name(listen->protocol));
	return into;
}

static void set_ipv4(struct endpoint *endpoint, const void *address)
{
	endpoint->family = FAMILY_IPV4;
	memset(endpoint->address, 0, sizeof(endpoint->address));
	memcpy(endpoint->address, address, sizeof(struct in_addr));
}

int endpoint_parse_address(const char *text, size_t length, struct endpoint *ret)
{
	char literal[INET6_ADDRSTRLEN];
	struct in6_addr ipv6;
	struct in_addr ipv4;

	if (length >= sizeof(literal) || memchr(text, '\0', length))
		return -EINVAL;
	memcpy(literal, text, length);
	literal[length] = '\0';
	if (inet_pton(AF_INET, literal, &ipv4) == 1) {
		set_ipv4(ret, &ipv4);
		return 0;
	}
	if (inet_pton(AF_INET6, literal, &ipv6) != 1)
		return -EINVAL;
	if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
		set_ipv4(ret, ipv6.s6_addr + 12);
		return 0;
	}
	ret->family = FAMILY_IPV6;
	memcpy(ret->address, &ipv6, sizeof(ret->address));
	return 0;
}
