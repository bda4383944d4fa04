/* SPDX-License-Identifier: MIT */
#include "flow_socket.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * The socket knows localhost as its peer; where the flow was led to, only
 * conntrack knows. So the way goes from conntrack's entry to the socket that
 * has its source as local address, and localhost as peer.
 *
 * A socket is found in the kernel's hash, without a look through all of them
 * (inet_diag_find_one_icsk()). That look-up falls back to one that listens on
 * the port when nobody is connected, so closing what it finds could close some
 * server that happens to listen on the port that a dead flow came from. Hence
 * two questions: which socket is it, and, when it is the right one, close that
 * one, by its cookie.
 */

static struct inet_diag_req_v2 *begin(void *into, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(into);
	struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(message, sizeof(*request));

	message->nlmsg_type = type;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	request->sdiag_family = family;
	request->sdiag_protocol = IPPROTO_TCP;
	request->id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
	request->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	return request;
}

struct nlmsghdr *flow_socket_encode_probe(void *into)
{
	/* Of all states none: no socket is looked at. */
	(void)begin(into, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, AF_INET);
	return into;
}

static struct inet_diag_req_v2 *begin_flow(void *into, uint16_t type, const struct flow *flow)
{
	struct inet_diag_req_v2 *request = begin(
		into, type, 0, flow->to.family == FAMILY_IPV6 ? AF_INET6 : AF_INET);

	request->idiag_states = UINT32_MAX;
	request->id.idiag_sport = htons(flow->from.port);
	request->id.idiag_dport = htons(flow->to.port);
	memcpy(request->id.idiag_src, flow->from.address, sizeof(request->id.idiag_src));
	memcpy(request->id.idiag_dst, flow->to.address, sizeof(request->id.idiag_dst));
	return request;
}

struct nlmsghdr *flow_socket_encode_get(void *into, const struct flow *flow)
{
	(void)begin_flow(into, SOCK_DIAG_BY_FAMILY, flow);
	return into;
}

struct nlmsghdr *flow_socket_encode_close(void *into, const struct flow *flow,
					  const struct flow_socket *socket)
{
	struct inet_diag_req_v2 *request = begin_flow(into, SOCK_DESTROY, flow);

	memcpy(request->id.idiag_cookie, socket->cookie, sizeof(socket->cookie));
	return into;
}

/* A socket of IPv6 that talks IPv4 shows mapped addresses. */
static bool is_address(const __be32 shown[4], uint8_t family, const struct endpoint *endpoint)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *bytes = (const uint8_t *)shown;

	if (endpoint->family == FAMILY_IPV6)
		return family == AF_INET6 && memcmp(bytes, endpoint->address, 16) == 0;
	if (family == AF_INET)
		return memcmp(bytes, endpoint->address, 4) == 0;
	return family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0 &&
	       memcmp(bytes + sizeof(mapped), endpoint->address, 4) == 0;
}

bool flow_socket_decode(const struct nlmsghdr *message, const struct flow *flow,
			struct flow_socket *ret)
{
	const struct inet_diag_msg *found = mnl_nlmsg_get_payload(message);

	if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    mnl_nlmsg_get_payload_len(message) < sizeof(*found))
		return false;
	memcpy(ret->cookie, found->id.idiag_cookie, sizeof(ret->cookie));
	/* Behind TIME_WAIT there is nobody any more. */
	return found->idiag_state != TCP_LISTEN && found->idiag_state != TCP_TIME_WAIT &&
	       found->id.idiag_sport == htons(flow->from.port) &&
	       found->id.idiag_dport == htons(flow->to.port) &&
	       is_address(found->id.idiag_src, found->idiag_family, &flow->from) &&
	       is_address(found->id.idiag_dst, found->idiag_family, &flow->to);
}
