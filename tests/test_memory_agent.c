/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An agent for which one allocation fails (exhaust.h), any of those between its
 * beginning and rules that stand: it says that it cannot begin, or it tries
 * again by itself, and is true in the end. The same of a request over HTTP, to
 * a server in a process of its own. What came of it is looked at each time, and
 * whether all was given back.
 *
 * Every Nth of them fails, from one on that is another one in each run: EVERY=1
 * in the environment is all of them, SEED=N repeats a run.
 */
#include "exhaust.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dragoman/agent/agent.h"
#include "dragoman/base/log.h"
#include "dragoman/http/http.h"
#include "kernel_lab.h"
#include "random.h"

enum { EVERY = 8, KEPT_MAX = 2 };

static const uint64_t patience = UINT64_C(20000000000);

struct waiting {
	struct loop *loop;
	struct loop_source *deadline;
	bool late, done;
	int code;
	long status;
};

static void on_deadline(struct loop_source *source, void *user)
{
	struct waiting *waiting = user;

	(void)source;
	waiting->late = true;
	loop_stop(waiting->loop);
}

static int wait_begin(struct waiting *waiting, struct error *error)
{
	if (loop_new(&waiting->loop) < 0 ||
	    loop_add_timer(waiting->loop, "deadline", UINT64_MAX, on_deadline, waiting,
			   &waiting->deadline) < 0)
		return error_no_memory(error);
	loop_source_arm(waiting->deadline, loop_now(waiting->loop) + patience);
	return 0;
}

static void wait_done(struct waiting *waiting)
{
	loop_source_free(waiting->deadline);
	loop_free(waiting->loop);
}

/*
 * One allocation after the other, alone. Returns how many there are. Some blocks
 * may be kept for later: libcurl looks names up in a thread, and glibc keeps the
 * stack of one that has ended, or has not quite.
 */
static unsigned long try_each(exhaust_scenario *scenario, void *user, const char *name, size_t kept)
{
	unsigned long every = random_every(EVERY);
	unsigned long first = random_first_seed((unsigned long)time(NULL)), at;
	struct error error;

	print_message("SEED=%lu\n", first);
	if (exhaust_once(scenario, user, 0, false, &error) < 0)
		fail_msg("%s without a fault: %s", name, error.message);
	for (at = 1 + first % every;; at += every) {
		int r = exhaust_once(scenario, user, at, false, &error);

		if (exhaust.live > kept)
			fail_msg("%s, at allocation %lu: leaks %zu blocks", name, at, exhaust.live);
		if (r != 0 && (r != -ENOMEM || error.code != -ENOMEM || !error.message[0]))
			fail_msg("%s, at allocation %lu: %d, %s", name, at, r, error.message);
		if (!exhaust.hit)
			break;
	}
	print_message("%s: about %lu allocations\n", name, at);
	return at;
}

/* --- The agent -------------------------------------------------------------------------- */

static int find_descriptors(struct descriptor_set *set, const struct origin *origin, void *user,
			    struct error *error)
{
	static const char block[] = "BACKEND_WEB=web;80";

	(void)user;
	if (descriptor_set_add_block(set, origin, "BACKEND_", block, sizeof(block)) < 0)
		return error_no_memory(error);
	return 0;
}

struct place {
	struct lab *lab;
	struct agent_options options;
	char namespace[64];
};

/* Whether the rules of the one endpoint stand. */
static bool is_true(struct lab *lab)
{
	const struct observed *observed = &lab->observed;

	lab_read(lab);
	return observed->table && !observed->foreign && observed->localnet &&
	       observed->service_count == 1 && observed->endpoint_count == 1 &&
	       observed->endpoints[0].endpoint.port == 7000 && observed->unavailable_count == 1;
}

struct look {
	const struct place *place;
	struct waiting *waiting;
	struct agent *agent;
	bool is_true;
};

/* Every few milliseconds, until what has to stand stands. */
static void on_look(struct loop_source *source, void *user)
{
	struct look *look = user;
	bool was = exhaust_pause();

	look->is_true = agent_is_ready(look->agent) && is_true(look->place->lab);
	exhaust_go_on(was);
	if (look->is_true)
		loop_stop(look->waiting->loop);
	else
		loop_source_arm(source, loop_now(look->waiting->loop) + 5000000);
}

static int begin_agent(const struct place *place, struct waiting *waiting, struct agent **ret,
		       struct error *error)
{
	int r = wait_begin(waiting, error);

	if (r == 0)
		r = agent_new(waiting->loop, &place->options, ret, error);
	if (r == 0)
		r = agent_add_target(*ret, place->namespace, 0, find_descriptors, NULL, error);
	return r == 0 ? agent_start(*ret, error) : r;
}

static int wait_for_rules(const struct place *place, struct waiting *waiting, struct agent *agent,
			  struct error *error)
{
	struct look look = {place, waiting, agent, false};
	struct loop_source *source;
	bool was;

	if (loop_add_timer(waiting->loop, "look", 0, on_look, &look, &source) < 0)
		return error_no_memory(error);
	assert_int_equal(loop_run(waiting->loop), 0);
	loop_source_free(source);
	was = exhaust_pause();
	if (!look.is_true)
		fail_msg("the rules do not stand");
	exhaust_go_on(was);
	return 0;
}

static int run_agent(void *user, struct error *error)
{
	const struct place *place = user;
	struct waiting waiting = {0};
	struct agent *agent = NULL;
	bool was = exhaust_pause();
	int r;

	lab_flush(place->lab);
	exhaust_go_on(was);
	r = begin_agent(place, &waiting, &agent, error);
	if (r == 0)
		r = wait_for_rules(place, &waiting, agent, error);
	agent_free(agent);
	wait_done(&waiting);
	return r;
}

static void *do_nothing(void *user)
{
	return user;
}

/* The C library keeps the stack of a thread that has ended for the next one: it shall have one. */
static void have_a_stack_kept(void)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, do_nothing, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_memory_exhausted_once_an_agent_is_true_in_the_end(void **state)
{
	static const struct admission admission;
	struct place place = {
		.lab = *state,
		.options =
			{
				.root = "/services",
				.env_prefix = "BACKEND_",
				.admission = &admission,
				.resync = UINT64_C(300000000000),
				.allow_host_netns = true,
			},
	};
	char path[] = "/tmp/dgm-memory-XXXXXX", url[64];
	int fd = mkstemp(path);
	static const char content[] = "{\"/services/web/a\": \"10.0.0.1:7000\"}";

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, sizeof(content) - 1), sizeof(content) - 1);
	assert_int_equal(close(fd), 0);
	(void)snprintf(url, sizeof(url), "file://%s", path);
	(void)snprintf(place.namespace, sizeof(place.namespace), "/proc/%d/task/%d/ns/net",
		       (int)getpid(), (int)gettid());
	place.options.registry.url = url;
	log_set_level(LOG_ERROR);
	have_a_stack_kept();
	assert_true(try_each(run_agent, &place, "agent", 0) > 100);
	assert_int_equal(unlink(path), 0);
}

/* --- HTTP -------------------------------------------------------------------------------- */

/* Answers one request a connection, until it is killed. */
static void serve(int listener)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n"
				     "Connection: close\r\n\r\nhello\n";
	char request[4096];

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			_exit(1);
		if (read(fd, request, sizeof(request)) > 0)
			(void)!write(fd, answer, sizeof(answer) - 1);
		(void)close(fd);
	}
}

static void on_done(struct http_request *request, const struct http_answer *answer,
		    const struct error *error, void *user)
{
	struct waiting *waiting = user;

	(void)request;
	waiting->done = true;
	waiting->code = error ? error->code : 0;
	waiting->status = answer->status;
	if (!error && (answer->status != 200 || strcmp(answer->body, "hello\n") != 0))
		waiting->status = 0;
	loop_stop(waiting->loop);
}

/* A whole answer, or an error, of whatever libcurl calls it; never half of it, nor none. */
static int ask(void *user, struct error *error)
{
	struct waiting waiting = {0};
	const struct http_call call = {
		.name = user,
		.url = user,
		.body = "question",
		.body_length = 8,
		.answer_max = 4096,
		.timeout = patience / 2,
		.on_done = on_done,
		.user_data = &waiting,
	};
	struct http_client *client = NULL;
	struct http_request *request;
	int r = wait_begin(&waiting, error);

	if (r == 0)
		r = http_client_new(waiting.loop, NULL, &client, error);
	if (r == 0)
		r = http_start(client, &call, &request, error);
	if (r == 0)
		r = loop_run(waiting.loop);
	http_client_free(client);
	wait_done(&waiting);
	if (r == 0) {
		assert_true(waiting.done && !waiting.late);
		assert_true(waiting.code != 0 || waiting.status == 200);
	}
	return r;
}

static void test_memory_exhausted_once_a_request_fails_or_is_answered(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status;
	char url[64];
	pid_t server;

	(void)state;
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &length), 0);
	server = fork();
	assert_true(server >= 0);
	if (server == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	assert_int_equal(close(listener), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", ntohs(at.sin_port));
	assert_true(try_each(ask, url, "request", KEPT_MAX) > 50);
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_memory_exhausted_once_an_agent_is_true_in_the_end),
		lab_test(test_memory_exhausted_once_a_request_fails_or_is_answered),
	};

	return cmocka_run_group_tests_name("memory of the agent", tests, lab_group_begin,
					   lab_group_end);
}
