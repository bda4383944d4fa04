/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_OTHERS_RULE_H
#define DRAGOMAN_KERNEL_OTHERS_RULE_H

/*
 * Whether a rule of somebody else may match a connection to 127.0.0.1. What a
 * rule asks for that is not understood may be so: "no" is only said of what is
 * known. No input or output.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/model/endpoint.h"

struct nftnl_rule;

/* A rule of nftables, by the expressions that compare address, protocol and port. */
bool rule_may_match(const struct nftnl_rule *rule, const struct listen *listen);

/*
 * A rule of iptables, struct ipt_entry of linux/netfilter_ipv4/ip_tables.h with
 * its matches, of `length` bytes. One that is cut off may match.
 */
bool entry_may_match(const void *entry, size_t length, const struct listen *listen);

#endif
