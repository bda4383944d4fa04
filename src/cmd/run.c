/* SPDX-License-Identifier: MIT */
/*
 * dragoman run
 *
 * Theory of operation: one agent a host, which a lock beside its socket makes
 * sure of. What it may do is narrowed before anything is read: capabilities by
 * the program, before it comes here (rights.c), system calls here. Signals come through the loop
 * like everything else: SIGHUP looks at everything anew, SIGTERM and SIGINT end the program and
 * leave the rules, unless --flush-on-exit wants them gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dragoman/agent/agent.h"
#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/privilege.h"
#include "dragoman/http/http.h"
#include "dragoman/http/server.h"
#include "notify.h"
#include "report.h"
#include "target.h"

/* A target by hand, and where its descriptors come from. */
struct followed {
	struct options options; /* borrows from those of the command */
	struct target target;
};

struct running {
	const struct options *options;
	struct loop *loop;
	struct agent *agent;
	struct followed *followed;
	size_t followed_count;
	struct server *local, *tcp;
	struct loop_source *signals, *watchdog;
	uint64_t watchdog_interval;
	int signal_fd, lock_fd;
};

static void running_done(struct running *running)
{
	server_free(running->local);
	server_free(running->tcp);
	loop_source_free(running->signals);
	loop_source_free(running->watchdog);
	agent_free(running->agent);
	for (size_t i = 0; i < running->followed_count; i++)
		target_done(&running->followed[i].target);
	free(running->followed);
	loop_free(running->loop);
	fd_close(&running->signal_fd);
	fd_close(&running->lock_fd);
}

/* "/run/dragoman" of "/run/dragoman/dragoman.sock" is made where it is missing. */
static void make_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char directory[4096];

	if (!slash || slash == path || (size_t)(slash - path) >= sizeof(directory))
		return;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = '\0';
	(void)mkdir(directory, 0755);
}

static int take_lock(struct running *running, struct error *error)
{
	char path[4096], printable[512];
	int length = snprintf(path, sizeof(path), "%s.lock", running->options->socket);

	text_printable(printable, sizeof(printable), path, strlen(path));
	if (length < 0 || (size_t)length >= sizeof(path))
		return error_set(error, -ENAMETOOLONG, ERROR_INVALID, "--socket: too long");
	make_directory(path);
	running->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (running->lock_fd < 0)
		return error_set(error, -errno, error_class_of(errno), "%s: %s%s", printable,
				 strerror(errno),
				 errno == ENOENT ? " (make the socket's folder, or name another "
						   "socket with --socket)"
						 : "");
	if (flock(running->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return error_set(error, -errno, error_class_of(errno), "%s: %s", printable,
				 strerror(errno));
	return error_set(error, -EBUSY, ERROR_INVALID,
			 "another agent runs on this host: it holds %s (dragoman status shows what "
			 "it does; end it first)",
			 printable);
}

static void on_signal(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct running *running = user;
	struct signalfd_siginfo info;

	(void)source;
	(void)events;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			log_info("SIGHUP: looking at everything anew");
			agent_resync(running->agent);
			continue;
		}
		log_info("signal %u: ending", info.ssi_signo);
		loop_stop(running->loop);
	}
}

static int open_signals(struct running *running, struct error *error)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set(error, -errno, ERROR_FATAL, "signals: %s", strerror(errno));
	running->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (running->signal_fd < 0 ||
	    loop_add_io(running->loop, "signals", running->signal_fd, LOOP_READ, on_signal, running,
			&running->signals) < 0)
		return error_set(error, -errno, ERROR_FATAL, "signals: %s", strerror(errno));
	return 0;
}

static void on_watchdog(struct loop_source *source, void *user)
{
	struct running *running = user;

	notify("WATCHDOG=1");
	loop_source_arm(source, loop_now(running->loop) + running->watchdog_interval);
}

static int open_watchdog(struct running *running, struct error *error)
{
	running->watchdog_interval = notify_watchdog();
	if (!running->watchdog_interval)
		return 0;
	if (loop_add_timer(running->loop, "watchdog", loop_now(running->loop), on_watchdog, running,
			   &running->watchdog) < 0)
		return error_no_memory(error);
	return 0;
}

static void on_ready(void *user)
{
	(void)user;
	log_info("ready");
	notify("READY=1");
}

static int open_servers(struct running *running, struct error *error)
{
	const struct options *options = running->options;
	int r = server_new_unix(running->loop, options->socket, 0660, agent_answer, running->agent,
				&running->local, error);

	if (r < 0 || !options->metrics)
		return r;
	r = server_new_tcp(running->loop, options->metrics, agent_answer, running->agent,
			   &running->tcp, error);
	return r < 0 ? error_wrap(error, "--metrics") : 0;
}

/* Warns of an address that the network can reach: what is told there is for the host alone. */
static void warn_of_metrics(const char *address)
{
	if (address && strncmp(address, "127.", 4) != 0 && strncmp(address, "[::1]", 5) != 0)
		log_warn("--metrics %s: this is open to whoever can reach it", address);
}

static int open_agent(struct running *running, struct error *error)
{
	const struct options *options = running->options;
	const bool docker = options->target_count == 0 || options_given(options, "docker");
	const struct agent_options agent_options = {
		.registry = options_registry(options, options->timeout),
		.docker = docker ? options->docker : NULL,
		.root = options->root,
		.env_prefix = options->env_prefix,
		.balance = options->balance,
		.hold_when_empty = options->hold_when_empty,
		.reset_when_removed = options->reset_when_removed,
		.allow_host_netns = options->allow_host_netns,
		.admission = &options->admission,
		.resync = options->resync,
	};

	return agent_new(running->loop, &agent_options, &running->agent, error);
}

/*
 * The options as one target sees them: its own -b and --env-file, or those
 * that stand before the first target.
 */
static void narrow(struct options *options, const struct options *whole, size_t index)
{
	const struct options_target *targets = whole->targets, *target = &targets[index];
	bool last = index + 1 == whole->target_count;
	size_t backend_end = last ? whole->backend_count : targets[index + 1].backend_first;
	size_t file_end = last ? whole->env_file_count : targets[index + 1].env_file_first;

	*options = *whole;
	options->netns = target->netns;
	options->pid = target->pid;
	if (backend_end > target->backend_first || file_end > target->env_file_first) {
		options->backends = whole->backends + target->backend_first;
		options->backend_count = backend_end - target->backend_first;
		options->env_files = whole->env_files + target->env_file_first;
		options->env_file_count = file_end - target->env_file_first;
	} else {
		options->backend_count = targets[0].backend_first;
		options->env_file_count = targets[0].env_file_first;
	}
}

static int read_descriptors(struct descriptor_set *set, const struct origin *origin, void *user,
			    struct error *error)
{
	struct followed *followed = user;

	followed->target.origin = *origin;
	return target_add_descriptors(&followed->target, &followed->options, set, error);
}

static int add_target(struct running *running, size_t index, struct error *error)
{
	struct followed *followed = &running->followed[index];
	pid_t pid;

	narrow(&followed->options, running->options, index);
	followed->target = TARGET_NONE;
	running->followed_count++;
	pid = followed->options.pid;
	target_name(&followed->options, &followed->target.name);
	if (followed->target.name.failed)
		return error_no_memory(error);
	/* Where this fails, the agent fails for the same reason, and has the words. */
	if (pid)
		followed->target.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return agent_add_target(running->agent, followed->options.netns, pid, read_descriptors,
				followed, error);
}

static int add_targets(struct running *running, struct error *error)
{
	size_t count = running->options->target_count;

	running->followed = calloc(count + 1, sizeof(*running->followed));
	if (!running->followed)
		return error_no_memory(error);
	for (size_t i = 0; i < count; i++) {
		int r = add_target(running, i, error);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A few descriptors for each namespace: as many as may be. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * What one change needs takes a tenth of a millisecond, and until it is done
 * connections go where they should not any more. To a scheduler that knows short
 * slices (EEVDF, since Linux 6.12; sched(7)) that says: let it run before those
 * who have long ones, for no more of the processor than anybody else gets. To
 * the others it says nothing. Threads inherit it.
 */
static void ask_for_short_slices(void)
{
	enum { SLICE = 200000 }; /* nanoseconds */
	struct sched_attr attributes = {.size = sizeof(attributes)};

	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 ||
	    (attributes.sched_policy != SCHED_NORMAL && attributes.sched_policy != SCHED_BATCH))
		return;
	attributes.sched_runtime = SLICE;
	(void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

/* Whatever loads code is called first: none can be loaded afterwards. */
static int filter_system_calls(const struct options *options, struct error *error)
{
	int r = http_prepare(error);

	if (r < 0 || !options->no_seccomp)
		return r < 0 ? r : privilege_filter(error);
	log_warn("--no-seccomp: system calls are not filtered");
	return 0;
}

static int start(struct running *running, struct error *error)
{
	int r;

	/* Limits stand still once system calls are filtered. */
	raise_limits();
	memory_settle();
	ask_for_short_slices();
	if ((r = privilege_check(PRIVILEGE_KERNEL, error)) < 0 ||
	    (r = filter_system_calls(running->options, error)) < 0)
		return r;
	r = loop_new(&running->loop);
	if (r < 0)
		return error_set(error, r, error_class_of(r), "loop: %s", strerror(-r));
	if ((r = take_lock(running, error)) < 0 || (r = open_signals(running, error)) < 0 ||
	    (r = open_agent(running, error)) < 0 || (r = open_servers(running, error)) < 0 ||
	    (r = open_watchdog(running, error)) < 0 || (r = add_targets(running, error)) < 0)
		return r;
	warn_of_metrics(running->options->metrics);
	agent_on_ready(running->agent, on_ready, running);
	return agent_start(running->agent, error);
}

static int run_loop(struct running *running, struct error *error)
{
	int r = loop_run(running->loop);

	if (r < 0)
		return error_set(error, r, error_class_of(r), "loop: %s", strerror(-r));
	notify("STOPPING=1");
	return running->options->flush_on_exit ? agent_flush(running->agent, error) : 0;
}

/* Who is root does not expect to be refused a file. */
static const char *explain_refusal(const struct error *error)
{
	if (error->code != -EACCES || geteuid() != 0)
		return "";
	return " (started as root, the agent has no right to other users' files)";
}

static int run(const struct options *options)
{
	CLEANUP(running_done)
	struct running running = {.options = options, .signal_fd = -1, .lock_fd = -1};
	struct error error = {0};

	if (start(&running, &error) == 0 && run_loop(&running, &error) == 0)
		return STATUS_DONE;
	log_error("%s%s", error.message, explain_refusal(&error));
	return STATUS_FAILED;
}

const struct command command_run = {
	.name = "run",
	.bit = COMMAND_RUN,
	.has_targets = true,
	.summary = "watch this host's containers and keep their rules true",
	.description =
		"Follows the containers of a Docker engine, or the targets that are given, and the "
		"registry, and writes each change to the kernel as it comes. Without a target it "
		"follows Docker; with targets just those, unless --docker is given as well. -b and "
		"--env-file belong to the target before them, and to every target when they stand "
		"before the first.\n"
		"\n"
		"SIGHUP looks at everything anew. SIGTERM ends the agent and leaves the rules.",
	.examples = "dragoman run --registry etcd://10.0.0.5:2379,10.0.0.6:2379\n"
		    "dragoman run --netns web -b CACHE='redis.master[prod];6379' --pid 4711",
	.status = "0  it was ended by a signal\n"
		  "1  it could not start, or not go on\n"
		  "2  usage",
	.run = run,
};
