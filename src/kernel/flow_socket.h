/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_FLOW_SOCKET_H
#define DRAGOMAN_KERNEL_FLOW_SOCKET_H

/* The socket at the sender's end of a TCP flow, through sock_diag(7). */

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "flow.h"

/* Which socket it is, whatever its addresses become: sk_cookie. */
struct flow_socket {
	uint32_t cookie[2];
};

/* These make one message at `into`, of FLOW_MESSAGE_MAX zeroed bytes. */

/* Asks for nothing, of everybody: whether there is anybody to ask. */
struct nlmsghdr *flow_socket_encode_probe(void *into);

/* Asks for the socket of a flow. */
struct nlmsghdr *flow_socket_encode_get(void *into, const struct flow *flow);

/* Closes it; a socket of that flow, but with another cookie, is left alone. */
struct nlmsghdr *flow_socket_encode_close(void *into, const struct flow *flow,
					  const struct flow_socket *socket);

/*
 * Of an answer. False when it is not that flow's: the kernel gives a listening
 * socket when there is none that is connected.
 */
bool flow_socket_decode(const struct nlmsghdr *message, const struct flow *flow,
			struct flow_socket *ret);

#endif
