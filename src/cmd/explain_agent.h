/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_EXPLAIN_AGENT_H
#define DRAGOMAN_CMD_EXPLAIN_AGENT_H

/* What the running agent knows of one namespace and one port, out of its /status. */

#include <jansson.h>

#include "explain.h"
#include "options.h"

/* Zero-initialise. */
struct agent_answer {
	json_t *root;            /* NULL: there is none */
	const json_t *namespace; /* the one in question, once that is known */
};

/* Asks it. Returns 0, or -errno with error set. */
int agent_answer_get(const char *socket, uint64_t timeout, struct agent_answer *ret,
		     struct error *error);
void agent_answer_done(struct agent_answer *answer);

/* The URL of its registry, which lives as long as the answer; or NULL. */
const char *agent_registry(const struct agent_answer *answer);

/* A namespace by a name, or by a process of it. */
struct agent_choice {
	const char *netns; /* or NULL */
	pid_t pid;         /* or 0 */
};

/*
 * The one namespace in which it was asked for a port. Returns 0, -ENOENT, or
 * -EINVAL with error naming those that there are.
 */
int agent_choose(struct arena *arena, struct agent_answer *answer, const struct listen *listen,
		 struct agent_choice *ret, struct error *error);

/* Fills story->agent for the namespace of the story, or the one that the options name. */
void agent_view(struct arena *arena, struct agent_answer *answer, const struct options *options,
		struct story *story);

/*
 * Fills the claims of the story by the agent's word, and what is looked up for
 * the port. Returns 0 or -ENOMEM with error set.
 */
int agent_claims(struct arena *arena, const struct agent_answer *answer, struct story *story,
		 struct descriptor *wanted, bool *has_wanted, struct error *error);

#endif
