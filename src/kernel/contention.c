/* SPDX-License-Identifier: MIT */
#include "contention.h"

#include <linux/netlink.h>
#include <sys/resource.h>
#include <time.h>

#include "dragoman/kernel/kernel.h"
#include "netlink.h"

/*
 * Theory of operation
 *
 * A namespace's ruleset has one mutex (commit_mutex of net/netfilter/
 * nf_tables_api.c), held from a batch's first message to its commit. A batch
 * that finds it taken sleeps in nfnetlink_rcv_batch() with the lock of the whole
 * subsystem, which is the host's and not the namespace's: until the first one is
 * done no batch begins in any namespace. Nothing tries without waiting, and
 * nothing shows from outside whether it is taken.
 *
 * But the end of a bound netlink socket takes it, too, for a moment, and without
 * the lock of the subsystem (nft_rcv_nl_event(), which looks for tables that the
 * socket owned; Linux 5.12). So a socket is opened and closed: if that did not
 * have to wait, the mutex was free, and who sends a batch at once will hardly
 * meet anybody.
 *
 * While it has the mutex it also waits until what earlier transactions of the
 * namespace have removed is freed, ours among them, which takes a grace period
 * of RCU. So one that had to wait says nothing yet, and is followed by another.
 *
 * Whether it had to is not a matter of time alone, since a thread may be stopped
 * for longer by a busy machine: a mutex is waited for asleep, which counts as a
 * voluntary switch, or by turning around on the processor while its owner runs.
 */

enum { PROBES = 4 };

#define MILLISECONDS UINT64_C(1000000)
static const uint64_t quick = 2 * MILLISECONDS; /* of the clock */
static const uint64_t spun = MILLISECONDS / 2;  /* of the processor */

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec now = {0};

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 * MILLISECONDS + (uint64_t)now.tv_nsec;
}

static long sleeps(void)
{
	struct rusage usage = {0};

	(void)getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

struct moment moment_now(void)
{
	return (struct moment){nanoseconds(CLOCK_MONOTONIC), sleeps()};
}

bool moment_slept_since(const struct moment *before, uint64_t longer)
{
	return nanoseconds(CLOCK_MONOTONIC) - before->clock > longer && sleeps() != before->sleeps;
}

static int open_inside(void *user, struct error *error)
{
	return netlink_open(user, NETLINK_NETFILTER, error);
}

/* Returns 1 where it had to wait, 0 where not, or -errno. */
static int probe(const struct netns *netns, struct error *error)
{
	struct netlink netlink = {0};
	struct moment before;
	uint64_t used;
	int r = netns_call(netns, open_inside, &netlink, error);

	if (r < 0)
		return r;
	before = moment_now();
	used = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
	netlink_close(&netlink);
	return moment_slept_since(&before, quick) ||
	       nanoseconds(CLOCK_THREAD_CPUTIME_ID) - used > spun;
}

int kernel_await_others(const struct kernel *kernel, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r = kernel_netns(kernel, &netns, error);

	for (unsigned i = 0; i < PROBES; i++) {
		if (r == 0)
			r = probe(&netns, error);
		if (r <= 0)
			return r;
		r = 0;
	}
	return 1;
}
