/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_OTHERS_H
#define DRAGOMAN_KERNEL_OTHERS_H

/*
 * Who else has a say about connections to localhost in a namespace: rules of
 * nftables and of iptables, in tables that are not ours, that translate what is
 * sent from there. Of several that would the kernel lets the first translate,
 * and no one after it: by priority, and among equals (as iptables' and ours are)
 * the one whose chain came last, as nf_hook_entries_grow() of Linux has it.
 *
 * IPv4 alone: it is to find out why 127.0.0.1 goes elsewhere.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/endpoint.h"

struct kernel_other {
	const char *where; /* "chain OUTPUT of table ip nat", printable */
	bool is_legacy;    /* of iptables-legacy: nft does not show it */
	size_t rules;
	size_t fitting; /* of these, rules that a connection to the port may match */
};

/*
 * Chains that have rules; *ret lives in the arena. Errors: those of entering the
 * namespace, and of asking the kernel. What is not there to be asked, such as
 * iptables-legacy in a kernel without it, is no error.
 */
int kernel_others(const struct netns *netns, const struct listen *listen, struct arena *arena,
		  struct kernel_other **ret, size_t *ret_count, struct error *error);

#endif
