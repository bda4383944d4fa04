/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_ATTR_H
#define DRAGOMAN_KERNEL_ATTR_H

/*
 * Reading netlink attributes without trust: each getter checks the length, and
 * says so by its result. nf_tables' integers are in network byte order.
 */

#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline bool attr_ok(const struct nlattr *attr, const char *end)
{
	ptrdiff_t left = end - (const char *)attr;

	return left >= (ptrdiff_t)sizeof(*attr) && attr->nla_len >= sizeof(*attr) &&
	       attr->nla_len <= left;
}

/* The attributes in `size` bytes at `data`; declares attr. */
#define attr_for_each(attr, data, size)                                                       \
	for (const struct nlattr *attr = (const void *)(data),                                \
				 *attr##_end = (const void *)((const char *)(data) + (size)); \
	     attr_ok(attr, (const char *)attr##_end); attr = mnl_attr_next(attr))

#define attr_for_each_nested(attr, nest) \
	attr_for_each (attr, mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest))

/* Those of a message behind a family header of `skip` bytes. */
#define attr_for_each_message(attr, message, skip)                                  \
	attr_for_each (attr, (const char *)mnl_nlmsg_get_payload(message) + (skip), \
		       mnl_nlmsg_get_payload_len(message) - (skip))

static inline bool attr_get_u32(const struct nlattr *attr, uint32_t *ret)
{
	if (mnl_attr_get_payload_len(attr) != sizeof(*ret))
		return false;
	memcpy(ret, mnl_attr_get_payload(attr), sizeof(*ret));
	return true;
}

static inline bool attr_get_u16(const struct nlattr *attr, uint16_t *ret)
{
	if (mnl_attr_get_payload_len(attr) != sizeof(*ret))
		return false;
	memcpy(ret, mnl_attr_get_payload(attr), sizeof(*ret));
	return true;
}

static inline bool attr_get_be32(const struct nlattr *attr, uint32_t *ret)
{
	if (!attr_get_u32(attr, ret))
		return false;
	*ret = ntohl(*ret);
	return true;
}

static inline bool attr_get_be64(const struct nlattr *attr, uint64_t *ret)
{
	if (mnl_attr_get_payload_len(attr) != sizeof(*ret))
		return false;
	memcpy(ret, mnl_attr_get_payload(attr), sizeof(*ret));
	*ret = be64toh(*ret);
	return true;
}

/* A string that ends within its attribute; NULL where it does not. */
static inline const char *attr_get_text(const struct nlattr *attr)
{
	const char *text = mnl_attr_get_payload(attr);

	return memchr(text, '\0', mnl_attr_get_payload_len(attr)) ? text : NULL;
}

#endif
