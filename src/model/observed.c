/* SPDX-License-Identifier: MIT */
#include "dragoman/model/observed.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "dragoman/model/document.h"

static const char *const set_names[] = {
	[SET_SERVICES4] = "services4",       [SET_SERVICES6] = "services6",
	[SET_ENDPOINTS4] = "endpoints4",     [SET_ENDPOINTS6] = "endpoints6",
	[SET_UNAVAILABLE4] = "unavailable4", [SET_UNAVAILABLE6] = "unavailable6",
};
static_assert(ARRAY_SIZE(set_names) == SET_COUNT, "a name for each set");

static const char *const base_names[] = {
	[CHAIN_OUTPUT] = "output",
	[CHAIN_POSTROUTING] = "postrouting",
	[CHAIN_GUARD] = "guard",
	[CHAIN_UNAVAILABLE] = "unavailable",
};
static_assert(ARRAY_SIZE(base_names) == CHAIN_BASE_COUNT, "a name for each base chain");

const char *set_name(enum set_kind set)
{
	return set < SET_FOREIGN ? set_names[set] : "?";
}

enum set_kind set_parse(const char *name)
{
	for (unsigned set = 0; set < SET_COUNT; set++) {
		if (strcmp(name, set_names[set]) == 0)
			return (enum set_kind)set;
	}
	return SET_FOREIGN;
}

static int family_digit(const struct chain *chain)
{
	return chain->family == FAMILY_IPV4 ? 4 : 6;
}

char *chain_format(const struct chain *chain, char *into)
{
	switch ((enum chain_kind)chain->kind) {
	case CHAIN_OUTPUT:
	case CHAIN_POSTROUTING:
	case CHAIN_GUARD:
	case CHAIN_UNAVAILABLE:
		(void)snprintf(into, CHAIN_NAME_MAX, "%s", base_names[chain->kind]);
		break;
	case CHAIN_BALANCE:
		(void)snprintf(into, CHAIN_NAME_MAX, "balance%d-%u", family_digit(chain),
			       chain->slots);
		break;
	case CHAIN_NTH:
		(void)snprintf(into, CHAIN_NAME_MAX, "nth%d-%u-%s", family_digit(chain),
			       chain->listen.port, protocol_name(chain->listen.protocol));
		break;
	case CHAIN_FOREIGN:
		(void)snprintf(into, CHAIN_NAME_MAX, "?");
		break;
	}
	return into;
}

/* Reads "4-" or "6-" and the number behind; NULL where there is neither. */
static const char *parse_numbers(const char *text, uint64_t max, uint8_t *ret_family,
				 uint16_t *ret_number)
{
	uint64_t number;
	size_t digits;

	if ((text[0] != '4' && text[0] != '6') || text[1] != '-')
		return NULL;
	*ret_family = text[0] == '4' ? FAMILY_IPV4 : FAMILY_IPV6;
	digits = strspn(text + 2, "0123456789");
	if (text_parse_number(text + 2, digits, max, &number) < 0 || number == 0)
		return NULL;
	*ret_number = (uint16_t)number;
	return text + 2 + digits;
}

struct chain chain_parse(const char *name)
{
	struct chain chain = {0};
	char again[CHAIN_NAME_MAX];
	const char *rest = NULL;

	for (unsigned kind = 0; kind < CHAIN_BASE_COUNT; kind++) {
		chain.kind = (uint8_t)kind;
		if (strcmp(name, base_names[kind]) == 0)
			return chain;
	}
	if (strncmp(name, "balance", 7) == 0) {
		chain.kind = CHAIN_BALANCE;
		rest = parse_numbers(name + 7, SLOTS_MAX, &chain.family, &chain.slots);
	} else if (strncmp(name, "nth", 3) == 0) {
		chain.kind = CHAIN_NTH;
		rest = parse_numbers(name + 3, UINT16_MAX, &chain.family, &chain.listen.port);
		chain.listen.protocol = rest && strcmp(rest, "-udp") == 0 ? PROTOCOL_UDP
									  : PROTOCOL_TCP;
	}
	/* Only what we would write ourselves is ours: no leading zeros, no tail. */
	if (rest && strcmp(chain_format(&chain, again), name) == 0)
		return chain;
	return (struct chain){.kind = CHAIN_FOREIGN};
}

bool chain_equal(const struct chain *a, const struct chain *b)
{
	if (a->kind != b->kind || a->family != b->family)
		return false;
	switch ((enum chain_kind)a->kind) {
	case CHAIN_BALANCE:
		return a->slots == b->slots;
	case CHAIN_NTH:
		return listen_compare(&a->listen, &b->listen) == 0;
	case CHAIN_FOREIGN:
		return false;
	case CHAIN_OUTPUT:
	case CHAIN_POSTROUTING:
	case CHAIN_GUARD:
	case CHAIN_UNAVAILABLE:
		return true;
	}
	return false;
}
