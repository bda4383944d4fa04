/* SPDX-License-Identifier: MIT */
/*
 * dragoman hook
 *
 * Theory of operation: a container runtime runs this between the making of a
 * container's namespaces and the start of its process, and waits for it. So the
 * rules stand before the process can ask for anything, where the agent hears of a
 * container some milliseconds after it runs.
 *
 * Most containers have no business here, and the hook none with them: without a
 * descriptor, with the annotation that opts out, or in the host's own network it
 * ends without a word, before anything is asked of anybody.
 *
 * What it does is what reconcile does, with three differences:
 *
 *   Others may live in the namespace, of a pod or by --net=container:x, whose
 *   descriptors are in nobody's hands here. So what stands of other ports stays.
 *
 *   Where the agent keeps the namespace already, it knows those others, and would
 *   take away what it has not heard of. It is left to do all of it.
 *
 *   A container that is late is worse than one whose backend is missing for a
 *   moment: what fails is told, and the container starts, unless --required says
 *   otherwise. Runtimes throw away what a hook that did not fail has said, so it
 *   goes to syslog(3) as well.
 *
 * When the agent hears of the container, it finds what it would have made itself,
 * if both were told the same: the hook takes the agent's own settings (--config).
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/kernel/netns.h"
#include "hook_state.h"
#include "job.h"
#include "keeper.h"

struct hook {
	struct options options; /* as they were given, but for what follows from the state */
	struct job job;
	struct arena *arena;
	struct hook_state state;
	struct text environment;
};

static void hook_done(struct hook *hook)
{
	job_done(&hook->job);
	text_done(&hook->environment);
	arena_free(hook->arena);
}

/* Reports an error as one of this container, where it is known which one that is. */
static void complain(struct hook *hook, struct error *error)
{
	if (hook->state.id)
		error_wrap(error, "container %s", hook->state.id);
	report_error(&hook->job.report, error);
}

/* All of standard input; whoever writes it may never end. */
static int read_input(const struct deadline *deadline, struct text *ret, struct error *error)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char buffer[4096];
	ssize_t length;

	do {
		int ready = poll(&input, 1, (int)(deadline_left(deadline) / 1000000));

		if (ready == 0)
			return error_set(error, -ETIMEDOUT, ERROR_TRANSIENT,
					 "standard input: no whole state within the time of "
					 "--timeout");
		length = ready < 0 ? -1 : read(STDIN_FILENO, buffer, sizeof(buffer));
		if (length < 0 && errno != EINTR)
			return error_set(error, -errno, error_class_of(-errno),
					 "standard input: %s", strerror(errno));
		if (length > 0)
			text_add(ret, buffer, (size_t)length);
		if (ret->length > HOOK_STATE_MAX)
			return error_set(error, -EFBIG, ERROR_INVALID,
					 "standard input: a state of more than 1 MiB");
	} while (length);
	return ret->failed ? error_no_memory(error) : 0;
}

static int read_state(struct hook *hook, struct error *error)
{
	CLEANUP(text_done) struct text input = {0};
	int code = isatty(STDIN_FILENO) ? 0 : read_input(&hook->job.deadline, &input, error);

	if (code < 0)
		return code;
	return hook_parse_state(hook->arena, input.data, input.length, &hook->state, error);
}

static int read_config(struct hook *hook, struct error *error)
{
	CLEANUP(memory_free) char *data = NULL;
	char *path = arena_printf(hook->arena, "%s/config.json", hook->state.bundle);
	char printable[512];
	size_t length;
	int code;

	if (!path)
		return error_no_memory(error);
	code = text_read_file(path, HOOK_CONFIG_MAX, &data, &length);
	if (code < 0)
		return error_set(error, code, error_class_of(code), "%s: %s",
				 text_printable(printable, sizeof(printable), path, strlen(path)),
				 strerror(-code));
	return hook_parse_config(data, length, &hook->state, &hook->environment, error);
}

/* Whether something is asked for; what is wrong counts, so that it is told. */
static bool asks_for_something(const struct descriptor_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		if (set->items[i]->state != DESCRIPTOR_IGNORED)
			return true;
	}
	return false;
}

/* Adds what the container asks for. Returns 1 where that is nothing, 0, or -errno. */
static int read_descriptors(struct hook *hook, struct descriptor_set *set, struct error *error)
{
	const struct origin origin = {.id = hook->state.id, .name = hook->state.id};
	int code;

	code = read_config(hook, error);
	if (code < 0)
		return code;
	if (hook->state.disabled) {
		log_debug("container %s has opted out", hook->state.id);
		return 1;
	}
	if (descriptor_set_add_block(set, &origin, hook->options.env_prefix, hook->environment.data,
				     hook->environment.length) < 0)
		return error_no_memory(error);
	descriptor_set_settle(set);
	return !asks_for_something(set);
}

/* Opens the namespace. Returns 1 where it is none of our business, 0, or -errno. */
static int open_namespace(struct hook *hook, struct error *error)
{
	struct target *target = &hook->job.target;
	int code = target_open(&hook->options, &hook->job.deadline, target, error);

	if (code == 0)
		code = netns_is_host(&target->netns, error);
	if (code > 0)
		log_debug("container %s: in the host's own network", hook->state.id);
	if (code != 0)
		return code;
	text_done(&target->name);
	text_printf(&target->name, "container %s", hook->state.id);
	return target->name.failed ? error_no_memory(error) : 0;
}

/* Whether the agent keeps it, which is told. */
static int leave_to_agent(struct hook *hook, struct error *error)
{
	int code = keeper_check(&hook->options, &hook->job.target.netns, error);

	if (code != -EBUSY)
		return code;
	log_info("container %s: joins a namespace that the agent keeps, which gives it its rules "
		 "as soon as it hears of its start",
		 hook->state.id);
	return 1;
}

/* From standard input to what the container asks for. As above: 1 where there is nothing to do. */
static int find_work(struct hook *hook, struct descriptor_set *set, struct error *error)
{
	int code = read_state(hook, error);

	if (code < 0)
		return code;
	hook->options.pid = hook->state.pid;
	code = read_descriptors(hook, set, error);
	if (code == 0)
		code = open_namespace(hook, error);
	if (code == 0)
		code = leave_to_agent(hook, error);
	/* Before this nothing depended on them. */
	if (code == 0 && hook->options.config_failure)
		return error_set(error, -EINVAL, ERROR_INVALID, "%s", hook->options.config_failure);
	return code;
}

static void work(struct hook *hook, const struct descriptor_set *set)
{
	struct job *job = &hook->job;
	struct lookup lookup = {0};
	struct ruleset desired;

	if (!job_desire(job, hook->arena, set, &lookup, &desired))
		return;
	job_sync(job, &desired, false);
	if (job->outcome.valid && job->outcome.change_count)
		log_info("container %s: %zu changes made before its start", hook->state.id,
			 job->outcome.change_count);
}

static enum status judge(const struct hook *hook)
{
	const char *id = hook->state.id ? hook->state.id : "?";

	if (!hook->job.report.failed)
		return STATUS_DONE;
	if (hook->options.required) {
		log_error("container %s is kept from starting (--required)", id);
		return STATUS_FAILED;
	}
	log_warn(
		"container %s starts all the same; an agent that runs here makes it good when it can",
		id);
	return STATUS_DONE;
}

static int hook(const struct options *options)
{
	CLEANUP(hook_done) struct hook hook = {.options = *options, .arena = arena_new()};
	struct descriptor_set set = {.arena = hook.arena, .root = options->root};
	struct error error = {0};
	int code;

	log_set_system(true);
	/* It is refused in its own way, and the agent is asked once. */
	hook.options.allow_host_netns = true;
	job_init(&hook.job, &hook.options);
	hook.job.only_add = true;
	code = hook.arena ? find_work(&hook, &set, &error) : error_no_memory(&error);
	hook.options.force = true;
	if (code < 0)
		complain(&hook, &error);
	else if (code == 0)
		work(&hook, &set);
	return (int)judge(&hook);
}

const struct command command_hook = {
	.name = "hook",
	.bit = COMMAND_HOOK,
	.summary = "make a container's namespace true before its process starts",
	.description =
		"For container runtimes: an OCI hook of the stage createRuntime, which has the "
		"container's state on standard input. The descriptors are the BACKEND_ variables "
		"that its process will have. A container without one, with the annotation "
		"dragoman.enable=false, or in the host's own network is left alone, at once and "
		"without a word.\n"
		"\n"
		"What stands in the namespace for others stays, and a namespace that the running "
		"agent keeps already is left to it. What cannot be done is told on standard error "
		"and to syslog(3), and the container starts; with --required it does not. "
		"--timeout has to be shorter than the time that the runtime gives its hooks.",
	.examples = "dragoman hook --timeout 2 <state.json",
	.status = "0  it is done, or there is nothing to do, or, without --required, it was told\n"
		  "1  with --required: something could not be done\n"
		  "2  usage",
	.run = hook,
};
