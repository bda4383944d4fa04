/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the stations are judged in their order, and each adds
 * what is wrong there. What is wrong at one often comes from what is wrong at
 * an earlier one, so the first is the one to look at, and stations that depend
 * on one that failed are not judged: an element cannot be missing where nobody
 * knows what should stand.
 */
#include "explain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOCALHOST(family) ((family) == FAMILY_IPV6 ? "[::1]" : "127.0.0.1")

static struct finding *add(struct story *story, const char *what)
{
	struct finding *finding;

	if (!what)
		story->out_of_memory = true;
	if (!what || story->finding_count == FINDINGS_MAX)
		return NULL;
	finding = &story->findings[story->finding_count++];
	*finding = (struct finding){.what = what};
	return finding;
}

static void wrong(struct story *story, const char *what, const char *look)
{
	struct finding *finding = add(story, what);

	if (!finding)
		return;
	finding->is_wrong = true;
	finding->look = look;
}

static void worth(struct story *story, const char *what, const char *look)
{
	struct finding *finding = add(story, what);

	if (finding)
		finding->look = look;
}

#define PRINT(...) arena_printf(story->arena, __VA_ARGS__)

/* "--container web", as far as it is known how to name it. */
static const char *words(const struct story *story)
{
	return story->words ? story->words : "TARGET";
}

/* --- Variables -------------------------------------------------------------------- */

static const struct claim *winner(const struct story *story)
{
	for (size_t i = 0; i < story->claim_count; i++) {
		if (story->claims[i].is_winner)
			return &story->claims[i];
	}
	return NULL;
}

static const char *of_whom(struct story *story, const struct claim *claim)
{
	return claim->whose ? PRINT("%s of container %s", claim->variable, claim->whose)
			    : claim->variable;
}

/* Those that were meant for us, and may have been meant for this port. */
static void judge_claims(struct story *story)
{
	const struct claim *first = winner(story);

	if (!first && story->claims_are_known)
		wrong(story,
		      PRINT("nobody asks for %" PRIu16 "/%s here%s%s: localhost is left alone on "
			    "it",
			    story->listen.port, protocol_name(story->listen.protocol),
			    story->ports ? ", but for " : "", story->ports ? story->ports : ""),
		      "the container's environment: BACKEND_NAME='SERVICE[TAG,...];PORT/PROTO', "
		      "in quotes, since a shell takes ';' and '[' for itself");
	for (size_t i = 0; i < story->claim_count; i++) {
		const struct claim *claim = &story->claims[i];

		if (strcmp(claim->state, "invalid") == 0 && !first)
			wrong(story,
			      PRINT("%s is invalid: %s", of_whom(story, claim), claim->reason),
			      "it may have been meant for this port");
		else if (strcmp(claim->state, "ignored") == 0 && !first)
			worth(story,
			      PRINT("%s is ignored: %s", of_whom(story, claim), claim->reason),
			      "it may have been meant for this port");
		else if (strcmp(claim->state, "conflict") == 0)
			wrong(story, PRINT("%s loses: %s", of_whom(story, claim), claim->reason),
			      "one of the two has to take another port; the container that was "
			      "created first wins, then the variable's name");
	}
}

/* --- The agent -------------------------------------------------------------------- */

static void judge_held(struct story *story)
{
	const struct agent_view *agent = &story->agent;

	if (!agent->backend_state || strcmp(agent->backend_state, "held") != 0)
		return;
	wrong(story,
	      PRINT("the agent holds what it knew last: %s",
		    agent->backend_reason ? agent->backend_reason : "no answer"),
	      "the registry, and the agent's way to it: dragoman status, and its log");
}

static void judge_agent(struct story *story)
{
	const struct agent_view *agent = &story->agent;

	switch (agent->presence) {
	case AGENT_NOT_THERE:
		worth(story, "no agent answers: what stands was made by hand, and stays as it is",
		      agent->message);
		return;
	case AGENT_SILENT:
		worth(story, "what the agent knows could not be asked", agent->message);
		return;
	case AGENT_ELSEWHERE:
		if (agent->message)
			wrong(story,
			      PRINT("the agent does not keep this namespace: %s", agent->message),
			      "what it says of it in dragoman status");
		else
			worth(story,
			      "the agent does not keep this namespace, and has never heard of "
			      "it",
			      "dragoman status, and the targets that it was started with");
		return;
	case AGENT_KEEPS:
		if (agent->namespace_state && strcmp(agent->namespace_state, "failing") == 0)
			wrong(story,
			      PRINT("the agent cannot write the rules: %s",
				    agent->message ? agent->message : "see its log"),
			      "the agent's log");
		judge_held(story);
		return;
	}
}

/* --- The registry ----------------------------------------------------------------- */

static bool has_endpoints(const struct story *story)
{
	return story->registry.key && !story->registry.failure && !story->registry.lack;
}

static void judge_registry(struct story *story)
{
	const struct registry_view *registry = &story->registry;

	if (!registry->key)
		return;
	if (registry->failure)
		wrong(story, PRINT("the registry gave no answer: %s", registry->failure),
		      "whether it runs, at that address, and can be reached from this host");
	else if (registry->lack)
		wrong(story,
		      PRINT("%s has no endpoint: %s%s%s", registry->key, registry->lack,
			    registry->hint ? "; " : "", registry->hint ? registry->hint : ""),
		      registry->selection.skipped_count
			      ? "the documents above, and who writes them"
			      : "the service's name, --root, and whoever should register it");
}

/* --- The kernel ------------------------------------------------------------------- */

static size_t slots_of(const struct kernel_face *face, const struct endpoint *endpoint)
{
	size_t count = 0;

	for (size_t i = 0; i < face->slot_count; i++)
		count += endpoint_compare(&face->slots[i].endpoint, endpoint) == 0;
	return count;
}

static size_t desired_slots(const struct story *story, enum family family)
{
	size_t count = 0;

	for (size_t i = 0; i < story->desired.share_count[family]; i++)
		count += story->desired.shares[family][i].slots;
	return count;
}

/* What stands for a family is what the registry says. */
static bool is_true(const struct story *story, enum family family)
{
	const struct kernel_face *face = &story->kernel.faces[family];
	size_t wanted = desired_slots(story, family);

	if (wanted == 0)
		return face->unavailable && !face->stands;
	if (!face->stands || face->slot_count != wanted)
		return false;
	for (size_t i = 0; i < story->desired.share_count[family]; i++) {
		const struct share *share = &story->desired.shares[family][i];

		if (slots_of(face, &share->endpoint) != share->slots)
			return false;
	}
	return true;
}

static const char *repair(struct story *story)
{
	if (story->agent.presence == AGENT_KEEPS)
		return "the agent's log: it should have put that right within milliseconds";
	return PRINT("dragoman plan %s shows what is to be changed, reconcile changes it",
		     words(story));
}

/* The elements of the port; whether there was anything to say. */
static bool judge_elements(struct story *story)
{
	const struct registry_view *registry = &story->registry;
	bool found = false;

	if (!registry->key || registry->failure)
		return false;
	for (unsigned family = 0; family < FAMILY_COUNT; family++) {
		const struct kernel_face *face = &story->kernel.faces[family];

		/* --on-empty hold keeps what stood. */
		if (is_true(story, (enum family)family) || (registry->lack && face->stands))
			continue;
		found = true;
		if (!face->stands && !face->unavailable)
			wrong(story,
			      PRINT("nothing stands for %s:%" PRIu16 " in the kernel",
				    LOCALHOST(family), story->listen.port),
			      repair(story));
		else
			wrong(story,
			      PRINT("what stands for %s:%" PRIu16 " is not what the registry says",
				    LOCALHOST(family), story->listen.port),
			      repair(story));
	}
	return found;
}

static void judge_families(struct story *story)
{
	bool ipv4 = story->kernel.faces[FAMILY_IPV4].stands;
	bool ipv6 = story->kernel.faces[FAMILY_IPV6].stands;

	if (ipv4 == ipv6)
		return;
	worth(story,
	      PRINT("all endpoints are of %s: %s:%" PRIu16 " is refused at once",
		    ipv4 ? "IPv4" : "IPv6", LOCALHOST(ipv4 ? FAMILY_IPV6 : FAMILY_IPV4),
		    story->listen.port),
	      PRINT("what the client connects to: localhost, or %s",
		    LOCALHOST(ipv4 ? FAMILY_IPV4 : FAMILY_IPV6)));
	if (ipv6 && !story->kernel.ipv6)
		wrong(story, "and IPv6 is off in this namespace, so nothing reaches them",
		      "sysctl net.ipv6.conf.all.disable_ipv6, or endpoints of IPv4");
}

static void judge_surroundings(struct story *story)
{
	const struct kernel_view *kernel = &story->kernel;
	bool claimed = winner(story);

	if (kernel->foreign)
		wrong(story, PRINT("table inet dragoman is not ours: %s", kernel->foreign),
		      repair(story));
	else if (kernel->missing)
		wrong(story, PRINT("%s of the table is not as it was written", kernel->missing),
		      repair(story));
	if (!claimed || !kernel->table)
		return;
	if (!kernel->localnet)
		wrong(story,
		      "net.ipv4.conf.all.route_localnet is 0: what goes to 127.0.0.1 does not "
		      "leave the namespace",
		      repair(story));
	if (kernel->unrouted && kernel->faces[FAMILY_IPV6].stands)
		wrong(story,
		      PRINT("the route to ::1 on %s is missing: answers to [::1] find no way",
			    kernel->unrouted),
		      repair(story));
}

static size_t fitting(const struct story *story)
{
	size_t count = 0;

	for (size_t i = 0; i < story->kernel.other_count; i++)
		count += story->kernel.others[i].fitting;
	return count;
}

/* The command that shows the first who may be in the way. */
static const char *show_other(struct story *story)
{
	for (size_t i = 0; i < story->kernel.other_count; i++) {
		if (!story->kernel.others[i].fitting)
			continue;
		if (story->kernel.others[i].is_legacy)
			return PRINT("nsenter into the namespace, and iptables-legacy -t nat -S "
				     "OUTPUT: nft does not show these");
		return PRINT("nsenter into the namespace, and nft list ruleset: %s",
			     story->kernel.others[i].where);
	}
	return NULL;
}

static void judge_others(struct story *story)
{
	size_t count = fitting(story);

	/* Where it was tried it is known. */
	if (count == 0 || story->probed || story->listen.protocol != PROTOCOL_TCP ||
	    !story->kernel.faces[FAMILY_IPV4].stands)
		return;
	worth(story,
	      PRINT("%zu rule%s of others may take connections to 127.0.0.1:%" PRIu16
		    " before ours: --probe tries it",
		    count, count == 1 ? "" : "s", story->listen.port),
	      show_other(story));
}

static void judge_kernel(struct story *story)
{
	if (story->kernel.failure)
		return;
	if (!story->kernel.table && winner(story)) {
		wrong(story, "the kernel has no table inet dragoman in this namespace",
		      story->agent.presence == AGENT_KEEPS
			      ? repair(story)
			      : PRINT("start the agent (dragoman run), or dragoman reconcile %s",
				      words(story)));
		return;
	}
	judge_surroundings(story);
	if (!judge_elements(story) && has_endpoints(story))
		judge_families(story);
	judge_others(story);
}

/* --- Trying it -------------------------------------------------------------------- */

static const char *explain_failure(int code)
{
	switch (-code) {
	case ECONNREFUSED:
		return "the server: nothing listens on that address and port";
	case ETIMEDOUT:
		return "its host, and firewalls in between: nothing came back";
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "the namespace's routes, and whether the host is up: there is no way to it";
	case EPERM:
		return "rules in this namespace that refuse it: nft list ruleset, iptables-legacy -S";
	default:
		return NULL;
	}
}

static void judge_localhost(struct story *story, const struct probe_result *probe)
{
	char endpoint[ENDPOINT_TEXT_MAX];

	endpoint_format(&probe->endpoint, endpoint);
	if (probe->code == 0 && !probe->is_counted)
		wrong(story,
		      PRINT("%s answers, but not through our rules: something else takes the "
			    "connection before them",
			    endpoint),
		      fitting(story) ? show_other(story)
				     : "other rules in the namespace: nft list ruleset, "
				       "iptables-legacy-save");
}

static void judge_probes(struct story *story)
{
	char endpoint[ENDPOINT_TEXT_MAX];
	size_t failed = 0;

	for (size_t i = 0; i < story->probe_count; i++) {
		const struct probe_result *probe = &story->probes[i];

		if (probe->is_localhost || probe->code == 0)
			continue;
		failed++;
		wrong(story,
		      PRINT("%s does not answer: %s", endpoint_format(&probe->endpoint, endpoint),
			    strerror(-probe->code)),
		      explain_failure(probe->code));
	}
	for (size_t i = 0; i < story->probe_count; i++) {
		const struct probe_result *probe = &story->probes[i];

		if (!probe->is_localhost)
			continue;
		judge_localhost(story, probe);
		/* With all endpoints well it is the way to them. */
		if (probe->code < 0 && failed == 0)
			wrong(story,
			      PRINT("%s does not answer, although each endpoint does: %s",
				    endpoint_format(&probe->endpoint, endpoint),
				    strerror(-probe->code)),
			      fitting(story) ? show_other(story) : explain_failure(probe->code));
	}
}

void story_judge(struct story *story)
{
	judge_claims(story);
	judge_agent(story);
	judge_registry(story);
	judge_kernel(story);
	judge_probes(story);
}

bool story_is_broken(const struct story *story)
{
	for (size_t i = 0; i < story->finding_count; i++) {
		if (story->findings[i].is_wrong)
			return true;
	}
	return false;
}
