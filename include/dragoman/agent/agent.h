/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_AGENT_AGENT_H
#define DRAGOMAN_AGENT_AGENT_H

/*
 * The agent: follows containers and the registry, and keeps the rules of each
 * namespace true.
 *
 *     container --> descriptors --> services --> desired ruleset --+
 *                                                                  plan --> commit
 *     kernel ------------------------------> observed ruleset -----+
 *
 * Everything runs on one loop. What happens outside only marks namespaces as
 * dirty; at the end of the wake-up each dirty one is planned and committed once,
 * whatever the number of events: a part of it, from what is remembered of it, or
 * the whole, read anew.
 *
 * The agent keeps no state on disk: what stands in the kernel is the truth, what
 * is remembered of that is given up as soon as it may not be so, and the agent
 * may be killed at any instant.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/base/text.h"
#include "dragoman/http/server.h"
#include "dragoman/model/descriptor.h"
#include "dragoman/model/ruleset.h"
#include "dragoman/registry/registry.h"

/* Copied by agent_new(), but for what it points to, which must outlive the agent. */
struct agent_options {
	struct registry_options registry;
	const char *docker; /* URL of the engine; NULL: no containers are followed */
	const char *root;   /* as key_path_parse() gives it; NULL: services have names alone */
	const char *env_prefix;
	enum balance balance;
	bool hold_when_empty;
	bool reset_when_removed; /* TCP connections to endpoints that are gone are closed */
	bool allow_host_netns;
	const struct admission *admission;
	uint64_t resync; /* nanoseconds */
};

struct agent;

/* Makes it, and starts nothing yet. Returns 0 or -errno with error set. */
int agent_new(struct loop *loop, const struct agent_options *options, struct agent **ret,
	      struct error *error);

/* Lets go of everything; the rules stay. NULL is fine. */
void agent_free(struct agent *agent);
void agent_freep(struct agent **agent);

/*
 * Where the descriptors of a namespace given by hand come from: adds them to
 * the set, with that origin. Called whenever they are wanted anew, which is on
 * agent_resync(), too. Returns 0 or -errno with error set; then what was there
 * before stays.
 */
typedef int agent_source(struct descriptor_set *set, const struct origin *origin, void *user,
			 struct error *error);

/*
 * A namespace given by hand, by name or path (netns) or process (pid). It is
 * followed until it ends: the process exits, or the name is removed. Errors:
 * as netns_open() and netns_open_pid(), -EPERM (the host's own), -EEXIST
 * (given twice), or what the source says.
 */
int agent_add_target(struct agent *agent, const char *netns, pid_t pid, agent_source *source,
		     void *user, struct error *error);

/* Starts to follow containers and the registry. */
int agent_start(struct agent *agent, struct error *error);

/* Everything is looked at anew: registry, containers, every namespace. */
void agent_resync(struct agent *agent);

/* Takes every trace out of every namespace that is kept. Returns 0, or the first -errno. */
int agent_flush(struct agent *agent, struct error *error);

/* The first full round is done: containers listed, services read, rules written. */
bool agent_is_ready(const struct agent *agent);

/* Called when that becomes so. */
void agent_on_ready(struct agent *agent, void (*function)(void *user), void *user);

/* The JSON of `dragoman status`; the Prometheus text of /metrics. Appended. */
void agent_status(const struct agent *agent, struct text *ret);
void agent_metrics(const struct agent *agent, struct text *ret);

/*
 * An http_handler (http/server.h) of the agent, which is its user: /status,
 * /metrics, /healthz, /readyz.
 */
void agent_answer(const char *path, struct http_reply *reply, void *agent);

#endif
