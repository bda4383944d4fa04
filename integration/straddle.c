/* SPDX-License-Identifier: MIT */
/*
 * straddle ROUNDS [until-failure | new-chains]
 *
 * Theory of operation: runs inside a network namespace that has the addresses
 * 10.88.0.1 to 10.88.0.3. One thread, on one CPU, shrinks a service from three
 * endpoints to two and grows it again, ROUNDS times, through the program's own
 * plan and kernel modules. Another, on another CPU, connects to that service
 * meanwhile, as fast as it can. It is its own server too: over loopback a
 * handshake is over when connect(2) returns, so one thread does for both ends,
 * and nothing waits for a scheduler. Connections end in a reset, or the ports
 * would run out in seconds.
 *
 * Before it begins it makes all chains, says "ready" and waits for a line of
 * input, so that a test can add counters to the table, or take rules out of
 * it. At the end it prints what it counted as one JSON object. With
 * `until-failure` it ends at the first connection that failed. With `new-chains`
 * a round goes from three endpoints to one, to two, and to three again: each
 * time the chain that the service goes to is a new one, since it was out of use
 * for two transactions.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/kernel/kernel.h"
#include "dragoman/plan/plan.h"

enum {
	LISTEN_PORT = 8080,
	ENDPOINT_PORT = 9090,
	ENDPOINTS = 3,
	BEYOND = ENDPOINTS, /* left out: all from this much less on */
	BACKLOG = 4096,
	ROUNDS_MAX = 10000000
};

/* Of a connection, and of waiting for its other end: far more than it ever takes. */
static const struct timeval limit = {.tv_sec = 1};

struct client {
	pthread_t thread;
	size_t cpu;
	int listener; /* of all endpoints */
	atomic_bool stop;
	atomic_ulong connects, refused, timeouts, others;
};

struct writer {
	struct kernel *kernel;
	struct ruleset_service service;
	struct ruleset desired;
	struct share shares[ENDPOINTS];
	bool new_chains;
	unsigned long commits, conflicts; /* a conflict is a commit that was tried again */
};

static int die(const char *what, int code)
{
	(void)fprintf(stderr, "straddle: %s: %s\n", what, strerror(-code));
	return 1;
}

/* --- The client ------------------------------------------------------------ */

static int pin(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* The first two CPUs that this process may use. */
static int two_cpus(size_t ret[2])
{
	cpu_set_t set;
	int found = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	for (size_t cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
		if (CPU_ISSET(cpu, &set))
			ret[found++] = cpu;
	}
	return found == 2 ? 0 : -ENODEV;
}

static struct sockaddr_in ipv4(uint32_t address, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

static int open_listener(int *ret)
{
	const struct sockaddr_in any = ipv4(INADDR_ANY, ENDPOINT_PORT);
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* The other end of the connection that was just made. */
static void accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	fd_close(&fd);
}

static void count(struct client *client, int code)
{
	atomic_fetch_add(&client->connects, 1);
	switch (code) {
	case 0:
		break;
	case ECONNREFUSED:
		atomic_fetch_add(&client->refused, 1);
		break;
	case EINPROGRESS: /* what SO_SNDTIMEO makes of it */
	case ETIMEDOUT:
		atomic_fetch_add(&client->timeouts, 1);
		break;
	default:
		atomic_fetch_add(&client->others, 1);
	}
}

static void connect_once(struct client *client)
{
	static const struct linger reset = {.l_onoff = 1};
	const struct sockaddr_in service = ipv4(INADDR_LOOPBACK, LISTEN_PORT);
	CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&service, sizeof(service)) < 0) {
		count(client, errno);
		return;
	}
	count(client, 0);
	accept_one(client->listener);
}

static void *run_client(void *user)
{
	struct client *client = user;

	if (pin(client->cpu) < 0)
		return NULL;
	while (!atomic_load(&client->stop))
		connect_once(client);
	return NULL;
}

static unsigned long failures(struct client *client)
{
	return atomic_load(&client->refused) + atomic_load(&client->timeouts) +
	       atomic_load(&client->others);
}

/* --- The writer ------------------------------------------------------------ */

static int open_kernel(struct kernel **ret, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r = netns_open("/proc/self/ns/net", &netns, error);

	return r < 0 ? r : kernel_open(&netns, ret, error);
}

/*
 * All three endpoints, or, with one left out, the others; or those below a
 * number.
 */
static void choose(struct writer *writer, unsigned left_out)
{
	unsigned end = left_out > BEYOND ? left_out - BEYOND : ENDPOINTS;
	size_t chosen = 0;

	for (unsigned i = 0; i < end; i++) {
		if (i != left_out)
			writer->shares[chosen++] = (struct share){
				.endpoint = {.family = FAMILY_IPV4,
					     .port = ENDPOINT_PORT,
					     .address = {10, 88, 0, (uint8_t)(i + 1)}},
				.slots = 1};
	}
	writer->service = (struct ruleset_service){
		.listen = {.protocol = PROTOCOL_TCP, .port = LISTEN_PORT},
		.shares = {writer->shares, NULL},
		.share_count = {chosen, 0}};
	writer->desired = (struct ruleset){.services = &writer->service, .count = 1};
}

/*
 * The rules that a test adds to our chains, or takes out of them, would be put
 * right by the first commit: here they are as they should be.
 */
static void overlook_rules(struct observed *observed)
{
	for (size_t i = 0; i < observed->chain_count; i++)
		observed->chains[i].intact = true;
}

static int commit_once(struct writer *writer, struct error *error)
{
	CLEANUP(arena_freep) struct arena *arena = arena_new();
	struct observed observed;
	struct verdicts verdicts;
	int r;

	if (!arena)
		return error_no_memory(error);
	r = kernel_read(writer->kernel, arena, &observed, error);
	if (r < 0)
		return r;
	overlook_rules(&observed);
	if (plan_make(arena, &writer->desired, &observed, 0, &verdicts) < 0)
		return error_no_memory(error);
	return kernel_commit(writer->kernel, &verdicts, error);
}

static int commit(struct writer *writer, unsigned left_out, struct error *error)
{
	int r;

	choose(writer, left_out);
	while ((r = commit_once(writer, error)) < 0 && error->class == ERROR_CONFLICT)
		writer->conflicts++;
	writer->commits++;
	return r;
}

/* With the last endpoint gone its slot goes; with another, that slot moves into the hole. */
static int shrink_and_grow(struct writer *writer, unsigned long round, struct error *error)
{
	int r = commit(writer, (unsigned)(round % ENDPOINTS), error);

	return r < 0 ? r : commit(writer, ENDPOINTS, error);
}

/* One, two and three endpoints: with those left out that are beyond. */
static int through_new_chains(struct writer *writer, struct error *error)
{
	int r = 0;

	for (unsigned endpoints = 1; endpoints <= ENDPOINTS && r == 0; endpoints++)
		r = commit(writer, BEYOND + endpoints, error);
	return r;
}

static int change(struct writer *writer, unsigned long round, struct error *error)
{
	return writer->new_chains ? through_new_chains(writer, error)
				  : shrink_and_grow(writer, round, error);
}

/* --- Both ------------------------------------------------------------------- */

static double now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void report(struct client *client, const struct writer *writer, unsigned long rounds,
		   double seconds)
{
	unsigned long connects = atomic_load(&client->connects);

	printf("{\"rounds\": %lu, \"commits\": %lu, \"conflicts\": %lu, \"seconds\": %.3f, "
	       "\"connects\": %lu, \"rate\": %.0f, \"refused\": %lu, \"timeouts\": %lu, "
	       "\"others\": %lu}\n",
	       rounds, writer->commits, writer->conflicts, seconds, connects,
	       (double)connects / seconds, atomic_load(&client->refused),
	       atomic_load(&client->timeouts), atomic_load(&client->others));
}

static int run(struct writer *writer, struct client *client, unsigned long rounds,
	       bool until_failure)
{
	struct error error = {0};
	unsigned long round = 0;
	double start = now();
	int r = -pthread_create(&client->thread, NULL, run_client, client);

	if (r < 0)
		return die("pthread_create", r);
	while (r == 0 && round < rounds && !(until_failure && failures(client)))
		r = change(writer, round++, &error);
	/* Those on their way count too, so that the rate is of all this time. */
	atomic_store(&client->stop, true);
	(void)pthread_join(client->thread, NULL);
	if (r < 0)
		(void)fprintf(stderr, "straddle: %s\n", error.message);
	else
		report(client, writer, round, now() - start);
	return r < 0;
}

static int wait_for_go(void)
{
	char line[16];

	printf("ready\n");
	(void)fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 0 : -EPIPE;
}

/*
 * Others may be busy on these CPUs: comes before them, in a scheduling group
 * of its own (sched(7), autogroup). Where that is refused the rate will tell.
 */
static void come_first(void)
{
	CLEANUP(fd_close) int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);

	(void)setsid();
	(void)setpriority(PRIO_PROCESS, 0, -20);
	if (fd >= 0 && write(fd, "-20", 3) < 0)
		return;
}

static int prepare(struct writer *writer, struct client *client, const size_t cpus[2])
{
	struct error error = {0};
	int r = pin(cpus[0]);

	client->cpu = cpus[1];
	come_first();
	if (r == 0)
		r = open_listener(&client->listener);
	if (r < 0)
		return die("preparing", r);
	if (open_kernel(&writer->kernel, &error) < 0 || commit(writer, ENDPOINTS, &error) < 0 ||
	    shrink_and_grow(writer, 0, &error) < 0) {
		(void)fprintf(stderr, "straddle: %s\n", error.message);
		return 1;
	}
	r = wait_for_go();
	return r < 0 ? die("waiting for a line", r) : 0;
}

int main(int argc, char **argv)
{
	struct writer writer = {0};
	struct client client = {.listener = -1};
	uint64_t rounds;
	size_t cpus[2] = {0};
	int r;

	if (argc < 2 || argc > 3 ||
	    text_parse_number(argv[1], strlen(argv[1]), ROUNDS_MAX, &rounds) < 0) {
		(void)fprintf(stderr, "usage: straddle ROUNDS [until-failure | new-chains]\n");
		return 2;
	}
	writer.new_chains = argc > 2 && strcmp(argv[2], "new-chains") == 0;
	r = two_cpus(cpus);
	if (r < 0)
		return die("two CPUs are needed", r);
	r = prepare(&writer, &client, cpus);
	if (r == 0)
		r = run(&writer, &client, rounds,
			argc > 2 && strcmp(argv[2], "until-failure") == 0);
	kernel_close(writer.kernel);
	fd_close(&client.listener);
	return r;
}
