/* SPDX-License-Identifier: MIT */
/*
 * dragoman explain
 *
 * Theory of operation: every station on the way of a port is asked for itself:
 * the agent for what it knows, where there is one; the registry for what it
 * holds now; the kernel for what stands. Where they disagree, the first that
 * does is the one to look at (explain_judge.c). None of them is needed for the
 * others: what cannot be asked is told, and the rest is shown.
 *
 * Who the port belongs to is the agent's word where it keeps the namespace,
 * since its word is what counts there; -b and --env-file, or no agent, have the
 * target's own descriptors looked at, as plan does. Without a target it is the
 * one namespace of the agent in which the port is asked for.
 */
#include "explain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "explain_agent.h"
#include "explain_kernel.h"
#include "hint.h"
#include "lookup.h"
#include "output.h"
#include "target.h"

enum { WORDS_MAX = 256 };
static const uint64_t agent_patience = UINT64_C(2000000000);

struct explaining {
	struct options options; /* a copy: the agent may know better where the registry is */
	struct arena *arena;
	struct deadline deadline;
	struct target target;
	bool is_open; /* the target */
	struct descriptor_set set;
	struct descriptor wanted; /* what is looked up for the port */
	bool has_wanted;
	struct lookup lookup;
	struct agent_answer answer;
	struct story story;
	struct report report;
};

static void explaining_done(struct explaining *explaining)
{
	agent_answer_done(&explaining->answer);
	target_done(&explaining->target);
	report_done(&explaining->report);
	arena_free(explaining->arena);
}

/* --- The port --------------------------------------------------------------------- */

/* Behind a name or address of this host, which may stand before it: "localhost:80". */
static const char *skip_host(const char *text)
{
	static const char *const hosts[] = {"localhost:", "127.0.0.1:", "[::1]:", ":"};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		if (strncmp(text, hosts[i], strlen(hosts[i])) == 0)
			return text + strlen(hosts[i]);
	}
	return text;
}

static int parse_port(const char *argument, struct listen *ret)
{
	const char *text = skip_host(argument), *slash = strchr(text, '/');
	uint64_t port = 0;

	ret->protocol = PROTOCOL_TCP;
	if (text_parse_number(text, slash ? (size_t)(slash - text) : strlen(text), UINT16_MAX,
			      &port) < 0 ||
	    port == 0)
		return -EINVAL;
	ret->port = (uint16_t)port;
	return slash ? protocol_parse(slash + 1, strlen(slash + 1), &ret->protocol) : 0;
}

/* --- The target ------------------------------------------------------------------- */

static void name_target(struct explaining *explaining)
{
	const struct options *options = &explaining->options;
	struct story *story = &explaining->story;

	story->target = explaining->target.name.data;
	if (options->pid)
		story->words = arena_printf(explaining->arena, "--pid %d", (int)options->pid);
	else if (options->container)
		story->words = arena_printf(explaining->arena, "--container %s",
					    arena_printable(explaining->arena, options->container,
							    strlen(options->container)));
	else
		story->words = arena_printf(
			explaining->arena, "--netns %s",
			arena_printable(explaining->arena, options->netns, strlen(options->netns)));
}

static bool has_target(const struct options *options)
{
	return options->netns || options->pid || options->container;
}

/* The one that the agent keeps, and in which the port is asked for. */
static int choose_target(struct explaining *explaining, struct error *error)
{
	struct agent_choice choice;
	int code = agent_choose(explaining->arena, &explaining->answer, &explaining->story.listen,
				&choice, error);

	if (code < 0)
		return code;
	explaining->options.netns = choice.netns;
	explaining->options.pid = choice.pid;
	return 0;
}

static int open_target(struct explaining *explaining, struct error *error)
{
	int code;

	if (!has_target(&explaining->options) && (code = choose_target(explaining, error)) < 0)
		return code;
	code = target_open(&explaining->options, &explaining->deadline, &explaining->target, error);
	name_target(explaining);
	explaining->story.netns = explaining->target.netns.inode;
	explaining->is_open = code == 0;
	return code;
}

/* --- Variables -------------------------------------------------------------------- */

static bool is_of_port(const struct descriptor *descriptor, const struct listen *listen)
{
	switch (descriptor->state) {
	case DESCRIPTOR_INVALID:
	case DESCRIPTOR_IGNORED:
		return true;
	case DESCRIPTOR_USED:
	case DESCRIPTOR_MERGED:
	case DESCRIPTOR_CONFLICT:
		break;
	}
	return listen_compare(&descriptor->listen, listen) == 0;
}

static void add_claim(struct explaining *explaining, const struct descriptor *descriptor)
{
	struct story *story = &explaining->story;
	const char *reason = descriptor->reason[0] ? descriptor->reason : NULL;

	if (reason && descriptor->column)
		reason = arena_printf(explaining->arena, "column %zu: %s", descriptor->column,
				      reason);
	story->claims[story->claim_count++] = (struct claim){
		.variable = descriptor->variable,
		.whose = descriptor->origin.name,
		.state = descriptor_state_name(descriptor->state),
		.reason = reason,
		.is_winner = descriptor->state == DESCRIPTOR_USED,
	};
	if (descriptor->state != DESCRIPTOR_USED)
		return;
	explaining->wanted = *descriptor;
	explaining->has_wanted = true;
}

/* "80/tcp, 81/tcp": what is asked for besides. */
static const char *other_ports(struct arena *arena, const struct descriptor_set *set)
{
	CLEANUP(text_done) struct text text = {0};

	for (size_t i = 0; i < set->count && text.length < WORDS_MAX; i++) {
		const struct descriptor *descriptor = set->items[i];

		if (descriptor->state == DESCRIPTOR_USED)
			text_printf(&text, "%s%u/%s", text.length ? ", " : "",
				    descriptor->listen.port,
				    protocol_name(descriptor->listen.protocol));
	}
	return text.length && !text.failed ? arena_text(arena, text.data, text.length) : NULL;
}

static int read_claims(struct explaining *explaining, struct error *error)
{
	struct story *story = &explaining->story;
	struct descriptor_set *set = &explaining->set;
	int code = target_read_descriptors(&explaining->target, &explaining->options, set, error);

	if (code < 0)
		return code;
	story->claims = arena_array(explaining->arena, set->count + 1, sizeof(*story->claims));
	if (!story->claims)
		return error_no_memory(error);
	for (size_t i = 0; i < set->count; i++) {
		if (is_of_port(set->items[i], &story->listen))
			add_claim(explaining, set->items[i]);
	}
	story->ports = other_ports(explaining->arena, set);
	story->claims_are_known = true;
	return 0;
}

/* The agent's word, or the target's own variables. */
static int find_claims(struct explaining *explaining, struct error *error)
{
	const struct options *options = &explaining->options;
	struct story *story = &explaining->story;
	bool given = options->backend_count || options->env_file_count;

	if (story->agent.presence == AGENT_KEEPS && !given)
		return agent_claims(explaining->arena, &explaining->answer, story,
				    &explaining->wanted, &explaining->has_wanted, error);
	return explaining->is_open ? read_claims(explaining, error) : 0;
}

/* --- The agent -------------------------------------------------------------------- */

static void ask_agent(struct explaining *explaining)
{
	struct story *story = &explaining->story;
	struct error error = {0};

	if (agent_answer_get(explaining->options.socket, agent_patience, &explaining->answer,
			     &error) < 0) {
		story->agent.presence = error.code == -ENOENT || error.code == -ECONNREFUSED
						? AGENT_NOT_THERE
						: AGENT_SILENT;
		story->agent.message = arena_text(explaining->arena, error.message,
						  strlen(error.message));
	}
}

/* The registry is where the agent has it, unless somebody says something else. */
static void take_registry(struct explaining *explaining)
{
	const char *url = agent_registry(&explaining->answer), *set = getenv("DRAGOMAN_REGISTRY");

	if (url && !options_given(&explaining->options, "registry") && !(set && *set))
		explaining->options.registry = url;
}

/* --- The registry ----------------------------------------------------------------- */

static int desire(struct explaining *explaining)
{
	struct story *story = &explaining->story;

	story->desired.listen = story->listen;
	return ruleset_service_fill(explaining->arena, &story->registry.selection, &story->desired);
}

static int look_up(struct explaining *explaining, struct error *error)
{
	struct registry_view *view = &explaining->story.registry;
	struct descriptor *items[] = {&explaining->wanted};
	const struct descriptor_set set = {.arena = explaining->arena, .items = items, .count = 1};
	const struct wanted *wanted;
	int code;

	view->url = explaining->options.registry;
	if (!explaining->has_wanted)
		return 0;
	view->tags = &explaining->wanted.tags;
	view->key = descriptor_key(explaining->arena, &explaining->wanted,
				   explaining->options.root);
	if (!view->key)
		return error_no_memory(error);
	code = lookup_run(explaining->arena, &explaining->options, &explaining->deadline, &set,
			  &explaining->lookup, error);
	if (code < 0) {
		view->failure = arena_text(explaining->arena, error->message,
					   strlen(error->message));
		return code;
	}
	wanted = &explaining->lookup.wanted[0];
	if (wanted->failure) {
		view->failure = wanted->failure;
		return error_set(error, -EIO, ERROR_TRANSIENT, "%s: %s", view->key, view->failure);
	}
	view->selection = wanted->selection;
	view->lack = selection_lack(explaining->arena, &view->selection, view->tags);
	view->hint = lookup_hint(explaining->arena, &explaining->options, &explaining->deadline,
				 wanted);
	return desire(explaining) < 0 ? error_no_memory(error) : 0;
}

/* --- All of it -------------------------------------------------------------------- */

static void tell(struct explaining *explaining, int code, const struct error *error)
{
	if (code < 0)
		report_error(&explaining->report, error);
}

static void gather(struct explaining *explaining)
{
	const struct netns *netns = &explaining->target.netns;
	struct error error = {0};

	ask_agent(explaining);
	take_registry(explaining);
	tell(explaining, open_target(explaining, &error), &error);
	agent_view(explaining->arena, &explaining->answer, &explaining->options,
		   &explaining->story);
	tell(explaining, find_claims(explaining, &error), &error);
	tell(explaining, look_up(explaining, &error), &error);
	if (!explaining->is_open)
		explaining->story.kernel.failure = "the namespace could not be opened";
	else
		tell(explaining, story_look(&explaining->story, netns, &error), &error);
	if (explaining->is_open && explaining->options.probe)
		tell(explaining,
		     story_probe(&explaining->story, netns, &explaining->deadline, &error), &error);
}

static enum status print(struct explaining *explaining)
{
	const struct story *story = &explaining->story;
	CLEANUP(text_done) struct text text = {0};
	struct page page = page_of(STDOUT_FILENO);
	struct error error = {0};

	page.colour = output_wants_colour(STDOUT_FILENO);
	if (explaining->options.json)
		story_print_json(&text, story, &explaining->report);
	else if (story->target)
		story_print_text(&text, story, &page);
	if (output_write(STDOUT_FILENO, &text, &error) < 0)
		report_error(&explaining->report, &error);
	if (explaining->report.failed)
		return STATUS_FAILED;
	return story_is_broken(story) ? STATUS_CHANGES : STATUS_DONE;
}

static int explain(const struct options *options)
{
	CLEANUP(explaining_done)
	struct explaining explaining = {
		.options = *options,
		.arena = arena_new(),
		.deadline = deadline_start(options->timeout),
		.target = TARGET_NONE,
	};
	struct story *story = &explaining.story;
	struct error error = {0};

	if (parse_port(options->argument, &story->listen) < 0) {
		log_error("'%s' is no PORT[/PROTO], such as 6379 or 53/udp (see dragoman explain "
			  "--help)",
			  options->argument);
		return STATUS_USAGE;
	}
	if (!explaining.arena) {
		(void)error_no_memory(&error);
		report_error(&explaining.report, &error);
		return STATUS_FAILED;
	}
	story->arena = explaining.set.arena = explaining.arena;
	explaining.set.root = options->root;
	gather(&explaining);
	story_judge(story);
	return (int)print(&explaining);
}

const struct command command_explain = {
	.name = "explain",
	.bit = COMMAND_EXPLAIN,
	.argument = "PORT[/PROTO]",
	.may_have_target = true,
	.summary = "show why localhost:PORT goes where it goes",
	.description =
		"Follows one port the whole way: the variable that asks for it, what the running "
		"agent makes of that, the service in the registry with the documents that are used "
		"and skipped, the elements in the kernel with their counters. Says what is wrong, "
		"and what to look at first. Changes nothing.\n"
		"\n"
		"Without a target it is the namespace in which the running agent was asked for that "
		"port. Without an agent, or with -b or --env-file, the descriptors are those that "
		"plan would read.\n"
		"\n"
		"--probe makes a TCP connection to each endpoint, and one through localhost, from "
		"inside the namespace, and closes it at once: the servers see them, and one is "
		"counted.",
	.examples = "dragoman explain 6379\n"
		    "dragoman explain --container web 6379 --probe\n"
		    "dragoman explain --netns web -b DNS='dns;53/udp' 53/udp --json",
	.status = "0  the port is as it should be\n"
		  "1  something could not be found out; each thing is named on standard error\n"
		  "2  usage\n"
		  "3  something is wrong; it is said what, and what to look at",
	.run = explain,
};
