/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_LAYOUT_RULES_H
#define DRAGOMAN_BENCH_LAYOUT_RULES_H

/* The expressions of each rule of the layout, in the registers that nft(8) would use. */

#include <libmnl/libmnl.h>

#define LAYOUT_TABLE "dragoman"

/* Puts the expressions of a chain's rule; slots: of a balance chain. */
typedef void layout_rule(struct nlmsghdr *message, unsigned index, unsigned slots);

layout_rule rule_output, rule_postrouting, rule_guard, rule_unavailable, rule_balance;

#endif
