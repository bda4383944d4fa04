/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_ENDPOINT_H
#define DRAGOMAN_MODEL_ENDPOINT_H

/*
 * Where a connection can go: an address and a port; and which addresses are
 * admitted at all.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/memory.h"

/* IANA protocol numbers (RFC 1700 and after); these two have ports that we translate. */
enum protocol { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* "tcp", "udp". */
const char *protocol_name(enum protocol protocol);

/* Case-insensitive. Returns 0 or -EINVAL. */
int protocol_parse(const char *text, size_t length, enum protocol *ret);

enum family { FAMILY_IPV4, FAMILY_IPV6 };
enum { FAMILY_COUNT = 2 };

/* What is asked for on localhost: a protocol and a port (host byte order). */
struct listen {
	enum protocol protocol;
	uint16_t port;
};

/* By port, then protocol: the order in which people read them. */
int listen_compare(const struct listen *a, const struct listen *b);

/*
 * An endpoint. The address is in network byte order, 4 bytes of IPv4 with the
 * rest zero or 16 of IPv6; the port in host byte order. No padding: endpoints
 * compare with memcmp(), and hash as bytes.
 */
struct endpoint {
	uint16_t family; /* enum family */
	uint16_t port;
	uint8_t address[16];
};

/* Family, address, port. Returns <0, 0, >0. */
int endpoint_compare(const struct endpoint *a, const struct endpoint *b);

enum { ENDPOINT_TEXT_MAX = 64 };

/* "10.0.0.2:80", "[2001:db8::2]:80" (RFC 5952). Returns into, of ENDPOINT_TEXT_MAX bytes. */
char *endpoint_format(const struct endpoint *endpoint, char *into);

/* The same of the address alone, without port and brackets. */
char *endpoint_format_address(const struct endpoint *endpoint, char *into);

/* "127.0.0.1:6379/tcp", "[::1]:6379/tcp". Returns into, of ENDPOINT_TEXT_MAX bytes. */
char *listen_format(const struct listen *listen, enum family family, char *into);

/*
 * Parses an IP literal as inet_pton(3) does, so "010.0.0.1", "1.2.3" and zone
 * identifiers are no addresses; an IPv4-mapped IPv6 address is its IPv4
 * address. Sets family and address, leaves the port alone. Returns 0 or
 * -EINVAL.
 */
int endpoint_parse_address(const char *text, size_t length, struct endpoint *ret);

/* A prefix of addresses. */
struct cidr {
	uint16_t family;
	uint16_t length; /* bits */
	uint8_t address[16];
};

/*
 * The admission of addresses. Without prefixes: everything but unspecified,
 * multicast, broadcast, loopback and link-local addresses. With prefixes: what
 * one of them holds, and nothing else.
 */
struct admission {
	struct cidr *prefixes; /* malloc()ed */
	size_t count;
};

/*
 * Adds a list "CIDR[,CIDR...]" (a bare address is its own /32 or /128; bits
 * behind the prefix are not looked at; blanks around an item are ignored; an
 * IPv4-mapped prefix of /96 and longer is the IPv4 one). Returns 0, -ENOMEM,
 * or -EINVAL with *ret_column set to the 1-based column of the item that is
 * wrong; then nothing was added.
 */
int admission_parse(struct admission *admission, const char *list, size_t *ret_column);
void admission_done(struct admission *admission);

/*
 * NULL when the endpoint's address is admitted, or the reason it is not, a
 * string literal: "loopback address", "not in --allow-endpoints".
 */
const char *admission_refuses(const struct admission *admission, const struct endpoint *endpoint);

#endif
