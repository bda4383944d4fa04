/* SPDX-License-Identifier: MIT */
#include "route.h"

/* Before the kernel's headers, which define the same and look whether somebody has. */
#include <netinet/in.h>

#include <errno.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "dragoman/base/text.h"
#include "dragoman/kernel/kernel.h"

/*
 * Theory of operation
 *
 * A packet to ::1 that was translated to another address gets its answer back
 * through the link it left by; the answer's destination, translated back, is
 * ::1, and the kernel looks loopback destinations up strictly by interface. So
 * every link needs a route of its own,
 *
 *     local ::1/128 dev IF table local metric 2048 proto 213
 *
 * behind lo's, which has metric 0. The kernel drops it when the link goes
 * down, and refuses it while it is down or has no IPv6; such links are passed
 * over. Where lo itself has no IPv6 there is no ::1 to be reached, and nothing
 * to add; what was added before stands on without lo, so it is read all the
 * same, to be taken out.
 */

enum { REQUEST_SIZE = 256 };

struct links {
	struct arena *arena;
	struct observed *observed;
	struct observed_link *items; /* malloc()ed until all are there */
	size_t capacity;
};

struct link {
	unsigned index;
	unsigned flags;
	const char *name;
	bool ipv6;
};

/* IFLA_INET6_CONF: an array of int32, by the DEVCONF_ numbers of linux/ipv6.h. */
static bool has_ipv6(const struct nlattr *inet6)
{
	attr_for_each_nested (attr, inet6) {
		int32_t disabled;

		if (mnl_attr_get_type(attr) != IFLA_INET6_CONF ||
		    mnl_attr_get_payload_len(attr) < (DEVCONF_DISABLE_IPV6 + 1) * sizeof(disabled))
			continue;
		memcpy(&disabled,
		       (const char *)mnl_attr_get_payload(attr) +
			       DEVCONF_DISABLE_IPV6 * sizeof(disabled),
		       sizeof(disabled));
		return !disabled;
	}
	return false;
}

static void parse_link(const struct nlmsghdr *message, struct link *ret)
{
	const struct ifinfomsg *header = mnl_nlmsg_get_payload(message);

	*ret = (struct link){.index = (unsigned)header->ifi_index, .flags = header->ifi_flags};
	attr_for_each_message (attr, message, sizeof(*header)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			ret->name = attr_get_text(attr);
		if (mnl_attr_get_type(attr) != IFLA_AF_SPEC)
			continue;
		attr_for_each_nested (family, attr) {
			if (mnl_attr_get_type(family) == AF_INET6)
				ret->ipv6 = has_ipv6(family);
		}
	}
}

static int take_link(const struct nlmsghdr *message, void *user)
{
	struct links *links = user;
	char name[4 * IFNAMSIZ + 1];
	struct link link;

	if (message->nlmsg_type != RTM_NEWLINK ||
	    mnl_nlmsg_get_payload_len(message) < sizeof(struct ifinfomsg))
		return 0;
	parse_link(message, &link);
	if (link.flags & IFF_LOOPBACK)
		links->observed->ipv6 = link.ipv6 && (link.flags & IFF_UP);
	if ((link.flags & IFF_LOOPBACK) || !(link.flags & IFF_UP) || !link.ipv6 || !link.name)
		return 0;
	if (array_reserve(&links->items, &links->capacity, links->observed->link_count, 1,
			  sizeof(*links->items)) < 0)
		return -ENOMEM;
	text_printable(name, sizeof(name), link.name, strlen(link.name));
	links->items[links->observed->link_count] = (struct observed_link){
		.index = link.index, .name = arena_text(links->arena, name, strlen(name))};
	if (!links->items[links->observed->link_count].name)
		return -ENOMEM;
	links->observed->link_count++;
	return 0;
}

static int read_links(struct netlink *netlink, struct links *links, struct error *error)
{
	NETLINK_BUFFER(buffer, REQUEST_SIZE);
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *header;
	struct observed_link *moved;
	int r;

	request->nlmsg_type = RTM_GETLINK;
	request->nlmsg_flags = NLM_F_DUMP;
	header = mnl_nlmsg_put_extra_header(request, sizeof(*header));
	header->ifi_family = AF_UNSPEC;
	r = netlink_ask(netlink, request, "listing links", take_link, links, error);
	if (r < 0)
		return r;
	moved = arena_array(links->arena, links->observed->link_count, sizeof(*moved));
	if (!moved)
		return error_no_memory(error);
	if (links->observed->link_count)
		memcpy(moved, links->items, links->observed->link_count * sizeof(*moved));
	links->observed->links = moved;
	return 0;
}

struct route {
	uint32_t table, metric, index;
	bool loopback; /* to ::1/128 */
};

static void parse_route(const struct nlmsghdr *message, struct route *ret)
{
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);

	*ret = (struct route){.table = header->rtm_table};
	attr_for_each_message (attr, message, sizeof(*header)) {
		switch (mnl_attr_get_type(attr)) {
		case RTA_TABLE:
			(void)attr_get_u32(attr, &ret->table);
			break;
		case RTA_PRIORITY:
			(void)attr_get_u32(attr, &ret->metric);
			break;
		case RTA_OIF:
			(void)attr_get_u32(attr, &ret->index);
			break;
		case RTA_DST:
			ret->loopback = header->rtm_dst_len == 128 &&
					mnl_attr_get_payload_len(attr) == 16 &&
					memcmp(mnl_attr_get_payload(attr), &in6addr_loopback, 16) ==
						0;
			break;
		default:
			break;
		}
	}
}

struct routes {
	struct arena *arena;
	struct observed *observed;
	struct observed_route *items; /* malloc()ed until all are there */
	size_t capacity;
};

static int take_route(const struct nlmsghdr *message, void *user)
{
	struct routes *routes = user;
	struct observed *observed = routes->observed;
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct route route;

	if (message->nlmsg_type != RTM_NEWROUTE ||
	    mnl_nlmsg_get_payload_len(message) < sizeof(*header) ||
	    header->rtm_protocol != KERNEL_ROUTE_PROTOCOL)
		return 0;
	parse_route(message, &route);
	if (!route.loopback)
		return 0;
	for (size_t i = 0; i < observed->link_count; i++) {
		struct observed_link *link = &observed->links[i];

		if (link->index != route.index || route.table != RT_TABLE_LOCAL ||
		    route.metric != KERNEL_ROUTE_METRIC || link->routed)
			continue;
		link->routed = true;
		return 0;
	}
	if (array_reserve(&routes->items, &routes->capacity, observed->route_count, 1,
			  sizeof(*routes->items)) < 0)
		return -ENOMEM;
	routes->items[observed->route_count++] = (struct observed_route){
		.index = route.index,
		.name = arena_printf(routes->arena, "interface %u", route.index),
		.metric = route.metric,
		.table = route.table,
	};
	return routes->items[observed->route_count - 1].name ? 0 : -ENOMEM;
}

static struct rtmsg *put_route_header(struct nlmsghdr *request)
{
	struct rtmsg *header = mnl_nlmsg_put_extra_header(request, sizeof(*header));

	header->rtm_family = AF_INET6;
	header->rtm_protocol = KERNEL_ROUTE_PROTOCOL;
	return header;
}

static int read_routes(struct netlink *netlink, struct routes *routes, struct error *error)
{
	struct observed *observed = routes->observed;
	NETLINK_BUFFER(buffer, REQUEST_SIZE);
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	int r;

	request->nlmsg_type = RTM_GETROUTE;
	request->nlmsg_flags = NLM_F_DUMP;
	(void)put_route_header(request);
	r = netlink_ask(netlink, request, "listing IPv6 routes", take_route, routes, error);
	if (r < 0)
		return r;
	observed->routes = arena_array(routes->arena, observed->route_count,
				       sizeof(*observed->routes));
	if (!observed->routes)
		return error_no_memory(error);
	if (observed->route_count)
		memcpy(observed->routes, routes->items,
		       observed->route_count * sizeof(*observed->routes));
	return 0;
}

int route_read(struct netlink *netlink, struct arena *arena, struct observed *ret,
	       struct error *error)
{
	struct links links = {.arena = arena, .observed = ret};
	struct routes routes = {.arena = arena, .observed = ret};
	int r = read_links(netlink, &links, error);

	if (r == 0)
		r = read_routes(netlink, &routes, error);
	/* A kernel without IPv6 has no such routes, and may not know the question. */
	if (!ret->ipv6 && (r == -EOPNOTSUPP || r == -EAFNOSUPPORT || r == -EINVAL))
		r = 0;
	free(links.items);
	free(routes.items);
	return r;
}

int route_commit(struct netlink *netlink, const struct route_verdict *route, struct error *error)
{
	NETLINK_BUFFER(buffer, REQUEST_SIZE);
	char what[96];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	bool adding = route->verdict == VERDICT_ADD;
	struct rtmsg *header;
	int r;

	(void)snprintf(what, sizeof(what), "%s route local ::1/128 dev %s",
		       adding ? "adding" : "removing", route->name);
	request->nlmsg_type = adding ? RTM_NEWROUTE : RTM_DELROUTE;
	request->nlmsg_flags = adding ? NLM_F_CREATE : 0;
	header = put_route_header(request);
	header->rtm_dst_len = 128;
	header->rtm_table = RT_TABLE_UNSPEC;
	header->rtm_scope = RT_SCOPE_UNIVERSE;
	header->rtm_type = RTN_LOCAL;
	mnl_attr_put(request, RTA_DST, sizeof(in6addr_loopback), &in6addr_loopback);
	mnl_attr_put_u32(request, RTA_TABLE, route->table);
	mnl_attr_put_u32(request, RTA_OIF, route->index);
	mnl_attr_put_u32(request, RTA_PRIORITY, route->metric);
	r = netlink_ask(netlink, request, what, NULL, NULL, error);
	/* Links come and go, and somebody else may have been here since the plan. */
	if (r == -ENODEV || r == -ENETDOWN || r == (adding ? -EEXIST : -ESRCH))
		return 0;
	return r;
}
