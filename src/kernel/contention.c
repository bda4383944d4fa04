/* SPDX-License-Identifier: MIT */
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

static const uint64_t quick = 2000000; /* nanoseconds, of the clock */
static const uint64_t spun = 500000;   /* and of the processor */

struct moment {
	uint64_t clock, processor;
	long sleeps;
};

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec now = {0};

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct moment now(void)
{
	struct rusage usage = {0};

	(void)getrusage(RUSAGE_THREAD, &usage);
	return (struct moment){nanoseconds(CLOCK_MONOTONIC), nanoseconds(CLOCK_THREAD_CPUTIME_ID),
			       usage.ru_nvcsw};
}

static bool had_to_wait(const struct moment *before, const struct moment *after)
{
	return after->clock - before->clock > quick &&
	       (after->sleeps != before->sleeps || after->processor - before->processor > spun);
}

static int open_inside(void *user, struct error *error)
{
	return netlink_open(user, NETLINK_NETFILTER, error);
}

/* Returns 1 where it had to wait, 0 where not, or -errno. */
static int probe(const struct netns *netns, struct error *error)
{
	struct netlink netlink = {0};
	struct moment before, after;
	int r = netns_call(netns, open_inside, &netlink, error);

	if (r < 0)
		return r;
	before = now();
	netlink_close(&netlink);
	after = now();
	return had_to_wait(&before, &after);
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
