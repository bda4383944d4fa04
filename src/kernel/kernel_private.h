/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_KERNEL_PRIVATE_H
#define DRAGOMAN_KERNEL_KERNEL_PRIVATE_H

#include <stdint.h>

#include "dragoman/kernel/kernel.h"
#include "netlink.h"

/*
 * The ports (nl_pid, netlink(7)) that a kernel's changes are made from: what
 * the kernel tells others of them carries these. Nobody else in the namespace
 * has them as long as it is open.
 */
void kernel_ports(const struct kernel *kernel, uint32_t *ret_nfnl, uint32_t *ret_route);

/* The socket of nfnetlink; the kernel's, and open as long as that is. */
struct netlink *kernel_nfnl(struct kernel *kernel);

/* A question to nf_tables in a buffer of so many bytes, or more where attributes follow. */
enum { KERNEL_QUESTION_SIZE = 512 };
struct nlmsghdr *kernel_question(char *buffer, uint16_t type, uint16_t flags);

/* Sets ret->generation. Returns 0 or a negative errno with *error set. */
int kernel_read_generation(struct kernel *kernel, struct observed *ret, struct error *error);

/* Asks for the generation: where it is not that of the last commit, that is not known any more. */
void kernel_confirm_generation(struct kernel *kernel);

#endif
