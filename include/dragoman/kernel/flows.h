/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_FLOWS_H
#define DRAGOMAN_KERNEL_FLOWS_H

/*
 * Flows that the kernel remembers, and that the rules no longer lead to: it
 * translates a flow by its first packet, and whatever belongs to the same flow
 * goes the same way, also when the endpoint is gone.
 *
 * UDP has no end, so its entries are removed from conntrack, and the next
 * packet is a first one again. A TCP connection lives on, unless somebody asks
 * for its end (--on-remove reset): then its socket is closed, and whoever waits
 * on it knows at once.
 *
 * Nothing here waits for the network, but a look through conntrack takes the
 * kernel some milliseconds (see flows_step()): it belongs behind the changes of
 * rules, never before them.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/flow.h"

/* What was done so far. */
struct flows_count {
	size_t removed; /* entries of conntrack, TCP's included */
	size_t closed;  /* sockets of TCP */
};

/* A sweep of one namespace. */
struct flows;

/*
 * Prepares a sweep for any number of filters, of which nothing is borrowed. It
 * has sockets of its own, opened inside the namespace, which keep that alive:
 * netns may be closed afterwards (kernel_netns() gives one), and a sweep has to
 * be as soon as the namespace has no use any more. It may be made and run by
 * any thread. Filters of one port and family, with others, count as one that
 * names the endpoints of all. Errors: -EPERM (CAP_NET_ADMIN, CAP_SYS_ADMIN),
 * -EPROTONOSUPPORT (a kernel without ctnetlink), -EOPNOTSUPP (with TCP, on one
 * that cannot close sockets), -ENOMEM, or what socket(2) says.
 */
int flows_open(const struct netns *netns, const struct flow_filter *filters, size_t count,
	       struct flows **ret, struct error *error);

/*
 * Does a bounded amount of it. A sweep looks through conntrack once for each
 * family and protocol that filters name, however many they are, and not at all
 * in a namespace that has no flow. A step that has to look through all of the
 * kernel's table costs what that costs: 12 to 15 ms where it has 262,144
 * buckets, whoever they belong to. Any other has some hundred flows to do.
 * Returns 1 when there is more to do, 0 when that was all, or -errno: what is
 * left is the next sweep's then, so close this one. Errors: -EAGAIN (conntrack
 * changed too often meanwhile; ERROR_CONFLICT), or what the kernel says. A flow
 * or socket that is gone already is no error.
 */
int flows_step(struct flows *flows, struct error *error);

/* All steps. Returns 0, or -errno. */
int flows_sweep(struct flows *flows, struct error *error);

/*
 * Begins once more, with the same filters, from where flows_step() returned 0:
 * a flow whose first packet was under way during the change of rules may have
 * come into conntrack behind the sweep, so a second one has to follow.
 */
void flows_again(struct flows *flows);

struct flows_count flows_counted(const struct flows *flows);

/* May be called at any time; the namespace is let go of at once. NULL is fine. */
void flows_close(struct flows *flows);
void flows_closep(struct flows **flows);

#endif
