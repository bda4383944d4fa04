/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_MONITOR_H
#define DRAGOMAN_KERNEL_MONITOR_H

/*
 * Listening to one namespace: what others do to our table, to links, and to
 * the routes to ::1.
 *
 * What is planned stays true from one generation of the ruleset to the next as
 * long as nobody else touches our table, so whoever keeps a plan, with the
 * generation that it is of, goes by three rules:
 *
 *   after a commit   the plan is of kernel_generation(); 0: read
 *   table or lost    read, unless the plan is of table_generation or later
 *   generation       where the plan is of an earlier one, it now is of this
 *
 * A plan that has to be read anew is of no generation until it was: the last
 * rule is not for it. A monitor that is late costs a commit that is refused
 * (-ERESTART), never one that is wrong.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/kernel/netns.h"

struct kernel_monitor;

/*
 * News of one wake-up. Generations are in host byte order, 0 where there is
 * none to tell. What our own kernel did is not among it.
 */
struct kernel_news {
	bool lost;                 /* there was more than could be kept: look at everything */
	bool table;                /* somebody changed our table, or something in it, */
	uint32_t table_generation; /* up to this generation */
	uint32_t generation;       /* the last that somebody else made, whatever it changed */
	bool links;                /* links, their IPv6, or routes to ::1 changed */
};

/* Called by the loop; may close the monitor. */
typedef void kernel_monitor_function(const struct kernel_news *news, void *user);

/* Whether generation a came after b; they wrap around. */
static inline bool generation_is_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/*
 * Opens what is needed inside the namespace, and listens from now on: open it
 * before the first kernel_read(), and nothing is missed. netns may be closed
 * afterwards. Changes made through kernel are our own and not told; it has to
 * be open before, and as long as the monitor. NULL: everything is told. Like a
 * kernel, a monitor keeps its namespace alive. Errors: as kernel_open(), or
 * what the loop says.
 */
int kernel_monitor_open(struct loop *loop, const struct netns *netns, const struct kernel *kernel,
			kernel_monitor_function *function, void *user, struct kernel_monitor **ret,
			struct error *error);

/*
 * kernel_commit() for a kernel that is listened to. During a large one nobody
 * listens: it would take the kernel four times as long. Where somebody else
 * changed the ruleset meanwhile, kernel_generation() is 0 afterwards, which
 * means: read. The same after a failure, as ever. It may be called on another
 * thread than the loop's, as long as nobody closes the monitor meanwhile.
 * Returns as kernel_commit().
 */
int kernel_monitor_commit(struct kernel_monitor *monitor, struct kernel *kernel,
			  const struct verdicts *verdicts, struct error *error);

/*
 * Nothing is told any more, and the loop is not needed from here on: for one that
 * cannot be closed yet.
 */
void kernel_monitor_mute(struct kernel_monitor *monitor);

/* Nothing is told any more; the namespace is let go of at once. NULL is fine. */
void kernel_monitor_close(struct kernel_monitor *monitor);
void kernel_monitor_closep(struct kernel_monitor **monitor);

#endif
