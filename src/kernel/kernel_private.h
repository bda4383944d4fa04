/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_KERNEL_PRIVATE_H
#define DRAGOMAN_KERNEL_KERNEL_PRIVATE_H

#include <stdint.h>

#include "dragoman/kernel/kernel.h"

/*
 * The ports (nl_pid, netlink(7)) that a kernel's changes are made from: what
 * the kernel tells others of them carries these. Nobody else in the namespace
 * has them as long as it is open.
 */
void kernel_ports(const struct kernel *kernel, uint32_t *ret_nfnl, uint32_t *ret_route);

/* Asks for the generation: where it is not that of the last commit, that is not known any more. */
void kernel_confirm_generation(struct kernel *kernel);

#endif
