/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_SCHEMA_H
#define DRAGOMAN_KERNEL_SCHEMA_H

/*
 * What stands in the kernel, as libnftnl objects: the one place that knows how
 * our table looks. Both ways: objects are built for a batch, and those of a
 * dump are recognised.
 *
 * Objects that are returned belong to the caller; NULL is out of memory.
 */

#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <stdbool.h>

#include "dragoman/base/text.h"
#include "dragoman/model/observed.h"

#define SCHEMA_TABLE "dragoman"

enum { SCHEMA_VERSION = 1 };

/* The table, whose comment carries the schema's version and route_localnet as it was found. */
struct nftnl_table *schema_table(int saved_localnet);

/* Whether a comment is of this version; then *ret_saved_localnet is what it carries. */
bool schema_comment_parse(const char *comment, int *ret_saved_localnet);

struct nftnl_set *schema_set(enum set_kind kind);
/* NULL, or what is different about an observed set under that name. */
const char *schema_set_differs(enum set_kind kind, const struct nftnl_set *observed);

struct nftnl_chain *schema_chain(const struct chain *chain);
/* NULL, or what is different about an observed chain under that name, its rules aside. */
const char *schema_chain_differs(const struct chain *chain, const struct nftnl_chain *observed);

unsigned schema_rule_count(const struct chain *chain);
struct nftnl_rule *schema_rule(const struct chain *chain, unsigned index);

/* The number of slots that the first rule of an nth chain counts to; 0: none. */
unsigned schema_rule_modulus(const struct nftnl_rule *rule);

/*
 * What a rule does, in libnftnl's words: two rules of one text do the same,
 * whoever wrote them. A failed allocation is latched in the text.
 */
void schema_rule_text(const struct nftnl_rule *rule, struct text *ret);

/* Sizes in the kernel: a field of a concatenated key is padded to 4 bytes. */
enum {
	KEY_ADDRESS4 = 4,
	KEY_ADDRESS6 = 16,
	KEY_PROTOCOL = 4,
	KEY_PORT = 4,
	KEY_SLOT = 4,
};

unsigned schema_key_length(enum set_kind set);
unsigned schema_data_length(enum set_kind set); /* 0: none, or a verdict */

/* schema_typeof.c: the user data by which nft(8) lists a map with its typeof. */
struct nftnl_udata_buf *schema_typeof(enum set_kind set);

#endif
