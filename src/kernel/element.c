/* SPDX-License-Identifier: MIT */
#include "element.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "dragoman/model/document.h"
#include "schema.h"

static bool is_endpoints(enum set_kind set)
{
	return set == SET_ENDPOINTS4 || set == SET_ENDPOINTS6;
}

static size_t loopback(enum set_kind set, uint8_t *into)
{
	const uint32_t loopback4 = htonl(INADDR_LOOPBACK);

	if (set % 2) {
		memcpy(into, &in6addr_loopback, KEY_ADDRESS6);
		return KEY_ADDRESS6;
	}
	memcpy(into, &loopback4, KEY_ADDRESS4);
	return KEY_ADDRESS4;
}

size_t element_key(enum set_kind set, const struct listen *listen, unsigned slot,
		   uint8_t into[ELEMENT_KEY_MAX])
{
	size_t at = loopback(set, into);
	const uint16_t port = htons(listen->port);
	const uint32_t number = slot; /* numgen's result is in host byte order */

	memset(into + at, 0, KEY_PROTOCOL + KEY_PORT);
	into[at] = (uint8_t)listen->protocol;
	at += KEY_PROTOCOL;
	memcpy(into + at, &port, sizeof(port));
	at += KEY_PORT;
	if (is_endpoints(set)) {
		memcpy(into + at, &number, sizeof(number));
		at += KEY_SLOT;
	}
	return at;
}

bool element_parse_key(enum set_kind set, const void *key, size_t length, struct listen *ret_listen,
		       unsigned *ret_slot)
{
	uint8_t again[ELEMENT_KEY_MAX];
	const uint8_t *bytes = key;
	size_t address = set % 2 ? KEY_ADDRESS6 : KEY_ADDRESS4;
	uint32_t slot = 0;
	uint16_t port;

	if (length != schema_key_length(set))
		return false;
	if (bytes[address] != PROTOCOL_TCP && bytes[address] != PROTOCOL_UDP)
		return false;
	memcpy(&port, bytes + address + KEY_PROTOCOL, sizeof(port));
	if (is_endpoints(set))
		memcpy(&slot, bytes + address + KEY_PROTOCOL + KEY_PORT, sizeof(slot));
	if (port == 0 || slot >= SLOTS_MAX)
		return false;
	*ret_listen = (struct listen){.protocol = (enum protocol)bytes[address],
				      .port = ntohs(port)};
	*ret_slot = slot;
	/* What is left, address and padding, is right when writing gives the same. */
	return element_key(set, ret_listen, slot, again) == length &&
	       memcmp(again, key, length) == 0;
}
