/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_ROUTE_H
#define DRAGOMAN_KERNEL_ROUTE_H

#include "dragoman/base/memory.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/verdict.h"
#include "netlink.h"

/*
 * Links, and our routes to ::1 over them, by rtnetlink(7). netlink is a socket
 * of NETLINK_ROUTE. Reading fills ipv6, links and routes of an observed.
 * Returns 0 or -errno with error set.
 */
int route_read(struct netlink *netlink, struct arena *arena, struct observed *ret,
	       struct error *error);

/* Adds or removes one route. A link that is gone, or a route that is as wanted, is fine. */
int route_commit(struct netlink *netlink, const struct route_verdict *route, struct error *error);

#endif
