/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_KERNEL_H
#define DRAGOMAN_KERNEL_KERNEL_H

/*
 * The kernel side of one namespace: reads what stands there, commits verdicts.
 *
 * Sockets and the sysctl's descriptor are opened inside the namespace once;
 * after that no namespace is switched. A netlink socket keeps its namespace
 * alive: kernel_close() it as soon as the namespace has no use any more.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/memory.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/verdict.h"

/* The routing protocol number (rtm_protocol, rtnetlink(7)) of our routes to ::1. */
enum { KERNEL_ROUTE_PROTOCOL = 213, KERNEL_ROUTE_METRIC = 2048 };

struct kernel;

/*
 * Opens what is needed inside the namespace; netns may be closed afterwards.
 * Errors: -EPERM (CAP_NET_ADMIN, CAP_SYS_ADMIN), -EPROTONOSUPPORT (a kernel
 * without nf_tables), -ENOMEM, or what socket(2) says.
 */
int kernel_open(const struct netns *netns, struct kernel **ret, struct error *error);
/* It may have to wait for others' transactions in the namespace. NULL is fine. */
void kernel_close(struct kernel *kernel);
void kernel_closep(struct kernel **kernel);

/*
 * The namespace that it was opened in, to enter it once more. Close it soon.
 * Errors: -EPERM (CAP_NET_ADMIN is missing), or what there is no memory for.
 */
int kernel_netns(const struct kernel *kernel, struct netns *ret, struct error *error);

/*
 * Reads our table, whole and of one generation, the sysctl, links and routes.
 * What is in *ret lives in the arena. A dump that the kernel interrupted is
 * taken again, a bounded number of times. Errors: -EAGAIN (it kept changing;
 * ERROR_CONFLICT), -ENOBUFS (the kernel had no memory for the answer, again and
 * again), or what else it says.
 */
int kernel_read(struct kernel *kernel, struct arena *arena, struct observed *ret,
		struct error *error);

/*
 * Reads the counters of elements of endpoints4 and endpoints6 that are known to
 * stand, by their keys: it costs what these are, whatever else somebody has put
 * there. Sets their packets and bytes. Errors: -EAGAIN (another stands in the
 * place of one, or none, or the ruleset changed meanwhile; ERROR_CONFLICT), or what
 * the kernel says; some may be set then.
 */
int kernel_read_endpoints(struct kernel *kernel, struct observed_endpoint *endpoints, size_t count,
			  struct error *error);

/*
 * Completes verdicts that were planned without counters (`uncounted`): reads
 * those of the elements that move to another slot, each by itself. Errors:
 * -EAGAIN (the ruleset has changed since; ERROR_CONFLICT), or what the kernel
 * says.
 */
int kernel_read_counters(struct kernel *kernel, struct verdicts *verdicts, struct error *error);

/*
 * Applies verdicts: one nfnetlink batch, all or nothing, stamped with their
 * generation; then, or before, the sysctl and the routes, so that localhost
 * is never open without its guard. Chains that are new and that services will
 * go to are made by a batch of their own before it, which changes nothing for
 * any packet, and stays where the other is refused. Errors:
 *   -ERESTART  the generation moved on; nothing was changed, but for sysctl
 *              and routes where the table was to go. Read and plan again
 *              (ERROR_CONFLICT)
 *   -EAGAIN    the kernel's answer was lost (ENOBUFS): read and see
 *              (ERROR_CONFLICT)
 *   -EBUSY...  the kernel refused the batch; nothing was changed. The message
 *              names the object and the kernel's own reason.
 */
int kernel_commit(struct kernel *kernel, const struct verdicts *verdicts, struct error *error);

/*
 * Waits until no transaction is under way in the namespace. Returns 0 when there
 * was none a moment ago, or 1 where there was one again and again. For where
 * others may make transactions that take long, right before kernel_commit(),
 * since that must not wait for them: a kernel that has a batch wait for another
 * in its namespace has those of all namespaces wait behind it. It may take as
 * long as others like, and shortly after a commit of our own a grace period of
 * RCU. Kernels before 5.12 do not tell: 0. Errors: as kernel_netns() and
 * socket(2).
 */
int kernel_await_others(const struct kernel *kernel, struct error *error);

/* Whether the last kernel_commit() had to wait for somebody else's transaction. */
bool kernel_was_held_up(const struct kernel *kernel);

/*
 * The generation of the ruleset that the last kernel_commit() made, host byte
 * order; where it had nothing to send to nf_tables, that of its verdicts. So
 * what was planned then stands, as of this generation, and the next plan can
 * be made from it without reading. 0 where that is not known, as after any
 * error but those of the sysctl and the routes: read.
 */
uint32_t kernel_generation(const struct kernel *kernel);

#endif
