/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_EXPLAIN_H
#define DRAGOMAN_CMD_EXPLAIN_H

/*
 * The way of one port of localhost, station by station, as it was found:
 *
 *     variable -> agent -> registry -> kernel -> endpoints
 *
 * Gathered by explain.c, judged by explain_judge.c, told by explain_text.c and
 * explain_json.c. Everything lives in one arena, and is printable.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/kernel/others.h"
#include "dragoman/model/document.h"
#include "dragoman/model/observed.h"
#include "dragoman/model/ruleset.h"
#include "page.h"
#include "probe.h"
#include "report.h"

/* A variable that has to do with the port: asks for it, or would, or may have been meant to. */
struct claim {
	const char *variable;
	const char *whose;  /* the container's name, or NULL */
	const char *state;  /* "used", "merged", "conflict", "invalid", "ignored" */
	const char *reason; /* of the last three; or NULL */
	bool is_winner;     /* the port goes where this says */
};

enum agent_presence {
	AGENT_NOT_THERE, /* nobody listens; message says why */
	AGENT_SILENT,    /* somebody may be there, and gave us no answer; message says why */
	AGENT_ELSEWHERE, /* it does not keep this namespace; message, where it says why */
	AGENT_KEEPS,     /* it does; state, and message where there is more to say */
};

struct agent_view {
	enum agent_presence presence;
	const char *message;        /* or NULL */
	const char *registry_state; /* "live", "lost"...; or NULL */
	const char *namespace_state;
	const char
		*backend_state; /* of the port's backend: "ready", "held"...; NULL: it has none */
	const char *backend_reason;
};

struct registry_view {
	const char *url;
	const char *key;         /* of the service; NULL: there is no claim to look up */
	const struct tags *tags; /* asked for */
	const char *failure;     /* why it could not be read; NULL: selection is true */
	const char *lack;        /* why there is no endpoint that takes connections; or NULL */
	const char *hint;        /* what somebody may have meant; or NULL */
	struct selection selection;
};

/* One family's side of the port, in the kernel. */
struct kernel_face {
	bool stands; /* there is a verdict element */
	struct chain target;
	struct observed_endpoint *slots; /* by slot */
	size_t slot_count;
	bool unavailable;
};

struct kernel_view {
	const char *failure; /* why it could not be read; NULL: all else is true */
	bool table;
	const char *foreign;  /* why the table is none of ours, or of another version */
	const char *missing;  /* a chain or set of ours that is not as it should be; or NULL */
	int localnet;         /* route_localnet */
	bool ipv6;            /* ::1 is usable */
	const char *unrouted; /* a link that lacks the route to ::1; or NULL */
	struct kernel_other *others; /* who else translates in this namespace */
	size_t other_count;
	struct kernel_face faces[FAMILY_COUNT];
};

/* What is wrong, or worth to be known, and what to look at first. */
struct finding {
	bool is_wrong;
	const char *what;
	const char *look; /* or NULL */
};

enum { FINDINGS_MAX = 24 };

struct story {
	struct arena *arena;
	struct listen listen;
	const char *target; /* "container web"; NULL: not known */
	const char *words;  /* of the command line, that name it again: "--container web" */
	ino_t netns;        /* 0: not known */

	bool claims_are_known; /* else nobody could be asked */
	struct claim *claims;
	size_t claim_count;
	const char *ports; /* other ports that are asked for, in words; or NULL */
	struct agent_view agent;
	struct registry_view registry;
	struct ruleset_service desired; /* of registry.selection, where that is true */
	struct kernel_view kernel;
	struct probe_result *probes;
	size_t probe_count;
	bool probed;

	struct finding findings[FINDINGS_MAX];
	size_t finding_count;
	bool out_of_memory;
};

/* Fills the findings, what comes first on the way first. Pure. */
void story_judge(struct story *story);
bool story_is_broken(const struct story *story);

void story_print_text(struct text *out, const struct story *story, const struct page *page);
void story_print_json(struct text *out, const struct story *story, const struct report *report);

#endif
