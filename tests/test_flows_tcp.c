/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Connections to an endpoint that is gone, with --on-remove reset (flow_lab.h):
 * the listener is at an address of the namespace's own, or nowhere. Sockets of
 * every kind are closed, and whoever waits on one knows; others live on.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "flow_lab.h"

/* A listener at an address of the namespace's own. */
static int listen_at(struct flow_lab *world, const char *address, uint16_t port)
{
	struct endpoint at = flow_endpoint(address, port);
	struct sockaddr_storage into;
	socklen_t length = flow_address(&into, &at);
	int fd = flow_lab_keep(world, socket(into.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)),
	    on = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&into, length), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

/* A connection that stands; family AF_INET6 with an IPv4 address: mapped. */
static int connect_to(struct flow_lab *world, int family, const char *address, uint16_t port)
{
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct endpoint to = flow_endpoint(address, port);
	struct sockaddr_storage into;
	socklen_t length = flow_address(&into, &to);
	int fd = flow_lab_keep(world, socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));

	if (family == AF_INET6 && to.family == FAMILY_IPV4) {
		memset(mapped.sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(mapped.sin6_addr.s6_addr + 12, to.address, 4);
		assert_int_equal(connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)), 0);
	} else {
		assert_int_equal(connect(fd, (struct sockaddr *)&into, length), 0);
	}
	return fd;
}

static int accept_one(struct flow_lab *world, int listener)
{
	return flow_lab_keep(world, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void *read_idly(void *user)
{
	char byte;
	ssize_t r = recv(*(int *)user, &byte, 1, 0);

	return (void *)(intptr_t)(r < 0 ? errno : 0);
}

static void test_sweep_of_tcp_wakes_an_idle_reader(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.254", 9000);
	struct timespec deadline;
	struct pollfd waiting;
	struct flows_count count;
	pthread_t reader;
	void *result;
	int listener, fd, peer;
	char byte;

	flow_lab_begin(&world, *state);
	listener = listen_at(&world, "10.0.0.254", 9000);
	flow_lab_set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	fd = connect_to(&world, AF_INET, "127.0.0.1", 80);
	peer = accept_one(&world, listener);
	assert_led_to(fd, "10.0.0.254#9000");
	assert_int_equal(pthread_create(&reader, NULL, read_idly, &fd), 0);
	count = flow_lab_sweep(&world, TCP_80, &gone);
	assert_int_equal(count.closed, 1);
	assert_int_equal(count.removed, 1);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &deadline), 0);
	deadline.tv_sec += 10;
	assert_int_equal(pthread_timedjoin_np(reader, &result, &deadline), 0);
	assert_int_equal((intptr_t)result, ECONNABORTED);
	/* The endpoint was told, through the rules. */
	waiting = (struct pollfd){.fd = peer, .events = POLLIN};
	assert_int_equal(poll(&waiting, 1, 10000), 1);
	assert_int_equal(recv(peer, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_false(conntrack_has_flow(fd, NULL));
	flow_lab_done(&world);
}

static void test_sweep_of_tcp_takes_every_kind_of_client(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.254", 9000);
	const struct endpoint gone_six = flow_endpoint("2001:db8::fe", 9000);
	const struct endpoint nobody = flow_endpoint("10.0.0.77", 9000);
	const struct flow_filter filters[] = {
		{.listen = flow_listens[TCP_80], .endpoints = &gone, .count = 1},
		{.listen = flow_listens[TCP_53], .endpoints = &nobody, .count = 1},
		{.listen = flow_listens[TCP_80],
		 .family = FAMILY_IPV6,
		 .endpoints = &gone_six,
		 .count = 1},
	};
	int four, six, mapped, waiting;

	flow_lab_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	(void)listen_at(&world, "2001:db8::fe", 9000);
	flow_lab_set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	flow_lab_set_endpoint(&world, TCP_80, "2001:db8::fe", 9000);
	flow_lab_set_endpoint(&world, TCP_53, "10.0.0.77", 9000);
	four = connect_to(&world, AF_INET, "127.0.0.1", 80);
	mapped = connect_to(&world, AF_INET6, "127.0.0.1", 80);
	six = connect_to(&world, AF_INET6, "::1", 80);
	waiting = flow_lab_send(&world, PROTOCOL_TCP, "127.0.0.1", 53);
	assert_int_equal(flow_lab_sweep_all(&world, filters, ARRAY_SIZE(filters)).closed, 4);
	assert_int_equal(flow_error(four), ECONNABORTED);
	assert_int_equal(flow_error(mapped), ECONNABORTED);
	assert_int_equal(flow_error(six), ECONNABORTED);
	assert_int_equal(flow_error(waiting), ECONNABORTED);
	flow_lab_done(&world);
}

static void test_sweep_of_tcp_leaves_other_connections(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.254", 9000);
	int others[5];

	flow_lab_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	(void)listen_at(&world, "10.0.0.254", 9001);
	(void)listen_at(&world, "127.0.0.1", 8080);
	flow_lab_set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	flow_lab_set_endpoint(&world, TCP_53, "10.0.0.254", 9000);
	(void)connect_to(&world, AF_INET, "127.0.0.1", 80);
	/* Another port to the same endpoint, the endpoint itself, a local server. */
	others[0] = connect_to(&world, AF_INET, "127.0.0.1", 53);
	others[1] = connect_to(&world, AF_INET, "10.0.0.254", 9000);
	others[2] = connect_to(&world, AF_INET6, "10.0.0.254", 9000);
	others[3] = connect_to(&world, AF_INET, "127.0.0.1", 8080);
	/* The same port to another endpoint. */
	flow_lab_set_endpoint(&world, TCP_80, "10.0.0.254", 9001);
	others[4] = connect_to(&world, AF_INET, "127.0.0.1", 80);
	assert_int_equal(flow_lab_sweep(&world, TCP_80, &gone).closed, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(flow_error(others[i]), 0);
		assert_int_equal(send(others[i], "x", 1, MSG_NOSIGNAL), 1);
	}
	flow_lab_done(&world);
}

/* Its port has another use by now: the kernel's look-up finds that, too. */
static void test_sweep_of_tcp_leaves_a_server_on_the_port_of_a_dead_client(void **state)
{
	struct flow_lab world;
	const struct endpoint gone = flow_endpoint("10.0.0.254", 9000);
	const struct linger at_once = {.l_onoff = 1};
	struct flows_count count;
	int fd, server;
	uint16_t port;

	flow_lab_begin(&world, *state);
	(void)listen_at(&world, "10.0.0.254", 9000);
	flow_lab_set_endpoint(&world, TCP_80, "10.0.0.254", 9000);
	fd = connect_to(&world, AF_INET, "127.0.0.1", 80);
	port = flow_port(fd);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	assert_int_equal(close(fd), 0);
	world.client_count--;
	server = listen_at(&world, "127.0.0.1", port);
	count = flow_lab_sweep(&world, TCP_80, &gone);
	assert_int_equal(count.removed, 1);
	assert_int_equal(count.closed, 0);
	assert_int_equal(flow_error(server), 0);
	(void)connect_to(&world, AF_INET, "127.0.0.1", port);
	(void)accept_one(&world, server);
	flow_lab_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_sweep_of_tcp_wakes_an_idle_reader),
		lab_test(test_sweep_of_tcp_takes_every_kind_of_client),
		lab_test(test_sweep_of_tcp_leaves_other_connections),
		lab_test(test_sweep_of_tcp_leaves_a_server_on_the_port_of_a_dead_client),
	};

	return cmocka_run_group_tests(tests, lab_group_begin, lab_group_end);
}
