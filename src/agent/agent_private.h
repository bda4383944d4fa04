/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_AGENT_PRIVATE_H
#define DRAGOMAN_AGENT_PRIVATE_H

/*
 * What the files of this room share.
 *
 *     member        one that asks for something: a container, or a target given by hand
 *     target        a network namespace, with the members that live in it
 *     backend       one descriptor of a target that is used, and the service it wants
 *     subscription  one service, for all backends of the host that want it
 */

#include <jansson.h>
#include <sys/queue.h>

#include "dragoman/agent/agent.h"
#include "dragoman/base/memory.h"
#include "dragoman/container/container.h"
#include "dragoman/kernel/flows.h"
#include "dragoman/kernel/monitor.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/descriptor.h"
#include "dragoman/model/service.h"
#include "dragoman/plan/stale.h"
#include "dragoman/registry/watch.h"
#include "rules.h"

struct target;

/* A service that is followed once, however many want it. */
struct subscription {
	struct service *service;
	LIST_HEAD(, backend) users;
	bool known;   /* it was told whole at least once */
	bool failed;  /* the last read failed: what is known stays */
	bool spared;  /* the registry came back without it: what is known stays, for a while */
	bool resync;  /* the next whole answer is one of the resync */
	char *reason; /* of failed; or NULL */

	/* Documents that nobody can use: how many there are, and how many were told of. */
	size_t unusable, unusable_told;
	bool is_untold;
	TAILQ_ENTRY(subscription) of_untold;
};

struct backend {
	LIST_ENTRY(backend) of_subscription;
	struct target *target;
	const struct descriptor *descriptor;
	struct subscription *subscription;
	bool dirty;           /* among its target's dirty ones */
	bool had_endpoints;   /* at the last plan, with weights of 0 */
	uint64_t connections; /* when they were last counted */
};

enum member_note {
	MEMBER_FOLLOWED,
	MEMBER_HOST_NETWORK,
	MEMBER_DISABLED,
	MEMBER_UNREACHABLE,
	MEMBER_DOUBTED, /* its process may be another's: the engine is asked again */
};

struct member {
	LIST_ENTRY(member) of_agent;
	TAILQ_ENTRY(member) of_target; /* where there is one */
	struct agent *agent;
	struct target *target; /* NULL: noted only */
	enum member_note note;
	char *id;   /* of a container; of a target by hand, its name */
	char *name; /* printable */
	bool by_hand;
	uint64_t created, started;
	pid_t pid;
	int pidfd;
	struct loop_source *exit; /* of the pidfd */
	char *block;              /* of a container: what carries the prefix of its environment */
	size_t block_length;
	agent_source *source; /* of a target by hand */
	void *source_user;
	bool by_name; /* a target whose name may be removed */
	bool is_able; /* to change the ruleset of its namespace itself */
	char *reason; /* of MEMBER_UNREACHABLE; or NULL */
};

struct target {
	LIST_ENTRY(target) entry;
	struct agent *agent;
	dev_t device;
	ino_t inode;
	TAILQ_HEAD(, member) members;

	/* Made anew when the members change. */
	struct arena *arena;
	struct descriptor_set descriptors;
	struct backend *backends; /* by listen_compare() */
	size_t backend_count;
	char *reported; /* what was logged of its descriptors; or NULL */

	struct rules *rules;     /* the sync's, while there is one */
	struct sync *sync;       /* under way; or NULL */
	struct kernel_news news; /* that came in meanwhile */
	uint64_t suspect;        /* until when: others have had a hand in the ruleset */

	/* What is to be done; see reconciler.c. */
	TAILQ_ENTRY(target) of_dirty, of_stale;
	struct backend **dirty; /* room for all */
	size_t dirty_count;
	uint64_t since;            /* when the event came in that made it dirty; 0: none to time */
	uint64_t repaired;         /* when a drift was last repaired */
	uint64_t failed, pause;    /* the last try, if it failed, and how long before the next */
	struct loop_source *later; /* a repair put off, or a failure tried again */
	char *failure;             /* why the last try failed; or NULL */
	unsigned repairs_in_a_row; /* without a pause of a second in between */
	uint64_t debt, charged;    /* time that others' hands have cost us, and until when */
	uint64_t told;             /* when a repair was last logged; 0: never */
	unsigned untold;           /* repairs since */
	bool is_dirty, is_stale;
	bool whole;     /* not just the dirty backends */
	bool synced;    /* once at least */
	bool drifted;   /* somebody else changed our table */
	bool disturbed; /* or its links, or the route to ::1 */
	bool overtaken; /* somebody else may have, during our last commit */

	/* Ports whose flows are to be looked at, and the sweep that does; see sweeper.c. */
	bool is_sweeping;
	bool sweep_again;
	unsigned sweep_failures; /* in a row */
	uint64_t sweep_when;
	struct stale *stale;
	size_t stale_count, stale_capacity;
	struct flows *flows;
	struct flows_count swept;
	TAILQ_ENTRY(target) of_sweeping;
};

enum { HISTOGRAM_BUCKETS = 12 };

struct metrics {
	uint64_t container_events, commits, adds, replaces, removes, repairs, reads;
	uint64_t resync_changes, doubts;
	uint64_t flows_removed, sockets_closed;
	uint64_t errors[4]; /* by enum error_class */
	uint64_t documents_rejected;
	uint64_t buckets[HISTOGRAM_BUCKETS + 1];
	double seconds; /* the histogram's sum */
	uint64_t observations;
};

/* Syncs beside the loop at once, and of them those of namespaces that have made us wait. */
enum { SYNCS_BESIDE_MAX = 16, SYNCS_SLOW_MAX = 4 };

/* One go at making a target true; see sync.c. */
struct sync {
	struct agent *agent;
	struct target *target; /* NULL: it has gone */
	struct rules *rules;
	struct arena *arena;
	struct ruleset desired;
	bool part; /* desired is of some services only */

	/* The marks that it is for. */
	bool drifted, disturbed, overtaken;
	uint64_t since;

	/* What came of it. */
	struct rules_outcome outcome;
	int code;
	struct error error;
	uint64_t took; /* nanoseconds */

	struct work *work; /* beside the loop; or NULL */
	LIST_ENTRY(sync) of_agent;
};

/* What happened last, for those who look: see recent.c. */
enum { RECENT_CHANGES = 32, RECENT_LATENCIES = 128, RECENT_NAME_MAX = 64 };

struct recent_change {
	double time;                /* seconds since 1970 */
	char name[RECENT_NAME_MAX]; /* of the namespace, printable */
	enum verdict verdict;
	struct listen listen;
	uint8_t family;
	bool has_endpoint;
	struct endpoint endpoint;
};

struct recent {
	struct recent_change changes[RECENT_CHANGES];
	uint64_t change_count; /* that there ever were */
	float latencies[RECENT_LATENCIES];
	uint64_t latency_count;
};

struct agent {
	struct loop *loop;
	struct agent_options options;
	struct registry *registry;
	struct registry_watch *watch;
	struct containers *containers;
	bool listed;                   /* containers, once at least */
	bool connected;                /* to the engine, once at least */
	bool numbers_settled;          /* whether its processes are seen here */
	char *registry_failure;        /* why it is lost; or NULL */
	char *containers_failure;      /* likewise */
	uint64_t live;                 /* when the registry was last live; 0: never */
	uint64_t started, resynced;    /* seconds since 1970 */
	struct loop_source *reconcile; /* deferred */
	struct loop_source *resync;
	LIST_HEAD(, target) targets;
	TAILQ_HEAD(target_queue, target) dirty, stale, sweeping;
	struct loop_source *sweep;
	uint64_t sweep_due; /* when that is armed for; UINT64_MAX: it is not */
	struct sweep_job *job;
	LIST_HEAD(, sync) syncs; /* beside the loop */
	unsigned syncs_beside;
	LIST_HEAD(, closing) closings;
	bool is_ending;
	LIST_HEAD(, member) members;
	int names; /* inotify(7) of the directories of all targets by name, where there is one */
	struct loop_source *on_names;
	struct subscription **subscriptions; /* by key */
	size_t subscription_count, subscription_capacity;
	TAILQ_HEAD(, subscription) untold;
	struct loop_source *complain; /* about their documents */
	uint64_t complained;          /* when; 0: never */
	bool ready;
	void (*on_ready)(void *user);
	void *on_ready_user;
	struct metrics metrics;
	struct recent recent;
};

/* subscriptions.c: the backend becomes a user of the service, which is followed from then on. */
int subscription_join(struct agent *agent, struct backend *backend, const char *key);
void subscription_leave(struct agent *agent, struct backend *backend);
/* Its place among agent->subscriptions. */
size_t subscription_position(const struct agent *agent, const struct subscription *subscription);
void subscriptions_update(struct agent *agent, const struct registry_update *update);
/* All of them are about to be read anew: what is told then is believed. */
void subscriptions_resync(struct agent *agent);
/* Whether what is known of it may be out of date, and stays. */
bool subscription_is_held(const struct agent *agent, const struct subscription *subscription);
void subscriptions_free(struct agent *agent);

/* documents.c: the documents of a service may have changed; it is about to go; the timer. */
void documents_look(struct agent *agent, struct subscription *subscription);
void documents_forget(struct agent *agent, struct subscription *subscription);
void documents_complain(struct agent *agent);

/* members.c */
void member_running(struct agent *agent, const struct container *container);
void member_gone(struct agent *agent, const char *id);
int member_by_hand(struct agent *agent, const char *netns, pid_t pid, agent_source *source,
		   void *user, struct error *error);
void members_free(struct agent *agent);

/* targets.c */
/* The target of a namespace, made where there is none. The member is put into it. */
int target_join(struct agent *agent, const struct netns *netns, struct member *member,
		struct error *error);
/* Takes the member out; a target without members is let go of at once. */
void target_leave(struct member *member);
/* Reads the members' descriptors anew. Returns 0, or -errno with all as it was. */
int target_settle(struct target *target, struct error *error);
/* Everything about it is looked at anew, when there is nothing more urgent. */
void target_resync(struct target *target);
/* Whether a service that it wants has not been read yet. */
bool target_is_pending(const struct target *target);
/* Its backend for a port, or NULL. */
struct backend *target_backend(const struct target *target, const struct listen *listen);
/* Something that only a hand in the namespace can have done waits to be put right. */
bool target_is_meddled_with(const struct target *target);
/* Whether one of its members may change its ruleset itself. */
bool target_is_able(const struct target *target);
/* Whether somebody else may hold its ruleset's lock for long: waiting is not for the loop. */
bool target_is_shared(const struct target *target);
/* Tells what the monitor has told while the target was synced. */
void target_take_news(struct target *target);
/* For the log: the name of a member. */
const char *target_label(const struct target *target);

/* reconciler.c: what is to be looked at; `since` is when the event came in, or 0. */
void reconciler_mark(struct target *target, uint64_t since);
void reconciler_mark_backend(struct backend *backend, uint64_t since);
void reconciler_mark_stale(struct target *target);
void reconciler_forget(struct target *target); /* it is about to go */
void reconciler_run(struct agent *agent);
/* A sync is done, and the target has its rules back. */
void reconciler_synced(struct target *target, const struct sync *sync);

/*
 * sync.c: begins to make a target true that is not being synced.
 * reconciler_synced() is called when it is done: within the call, or by the
 * loop. Returns 0, or -ENOMEM with nothing begun.
 */
int sync_begin(struct target *target, struct error *error);
/* The target is about to go, and its rules with it. */
void sync_leave(struct target *target);
/* Takes all out of the namespace, at the agent's end. Errors: as rules_flush(). */
int sync_flush(struct target *target, struct error *error);
/* Waits for one that goes on beside the loop, and then is done with it. */
void sync_wait(struct sync *sync);
/* All of them, at the agent's end. */
void syncs_done(struct agent *agent);

/* closer.c: closes it when the kernel likes; NULL is fine. Waits for what is under way. */
void closer_rules(struct agent *agent, struct rules *rules);
void closer_flows(struct agent *agent, struct flows *flows);
void closer_done(struct agent *agent);

/* desired.c: the ruleset of all backends, and of those that are dirty. Return 0 or -ENOMEM. */
int desired_whole(struct arena *arena, struct target *target, struct ruleset *ret);
int desired_part(struct arena *arena, struct target *target, struct ruleset *ret);
/* The desired shares of a backend, from what is known. Returns 0 or -ENOMEM. */
int backend_select(struct arena *arena, const struct backend *backend, struct selection *ret);

/* The same as a service of a ruleset. */
int backend_fill(struct arena *arena, const struct agent *agent, const struct backend *backend,
		 struct ruleset_service *ret);

/* sweeper.c: what a commit leaves behind among flows; the first time, all ports. */
void sweeper_note(struct target *target, struct arena *arena, const struct verdicts *verdicts);
void sweeper_note_first(struct target *target);
void sweeper_run(struct agent *agent);
void sweeper_forget(struct target *target);
void sweeper_done(struct agent *agent);

/* status.c: the kernel's counters at one moment. */
struct snapshot {
	struct arena *arena;
	bool is_known;                      /* else nothing of what follows is */
	struct observed_endpoint *elements; /* by port, then by endpoint */
	size_t count;
};
void snapshot_take(const struct target *target, struct snapshot *ret);
void snapshot_done(struct snapshot *snapshot);
/* Of one port; of one of its endpoints where endpoint is not NULL. */
uint64_t snapshot_connections(const struct snapshot *snapshot, const struct listen *listen,
			      const struct endpoint *endpoint);

/* agent.c: the registry has been out of reach for longer than the resync interval. */
bool agent_is_held(const struct agent *agent);
/* The next resync is a whole interval away. */
void agent_arm_resync(struct agent *agent);

/* recent.c: what was committed in the namespace of that name; how long after its event, in seconds.
 */
void recent_changes(struct agent *agent, const char *name, const struct verdicts *verdicts);
void recent_latency(struct agent *agent, double seconds);
/* The newest first. */
json_t *recent_changes_json(const struct agent *agent);
json_t *recent_latencies_json(const struct agent *agent);

/* metrics.c */
void metrics_error(struct agent *agent, const struct error *error);
void metrics_commit(struct agent *agent, const struct verdicts *verdicts, uint64_t since);

#endif
