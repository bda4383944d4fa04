/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "dragoman/base/memory.h"
#include "request.h"

/*
 * Theory of operation
 *
 * How long a request may take. The time to connect is libcurl's to keep, since
 * it shares it out among the addresses of a host. The time for the whole is a
 * timer of the loop (request_set_limit()), in words of ours.
 *
 * libcurl leaves the timers of connecting behind when that is done: each would
 * wake up the process once, for nothing, seconds later, and again for each
 * request of a connection that stands. So libcurl's timer is armed only while
 * a request is connecting, that is until CURLOPT_PREREQFUNCTION(3), or for
 * what it wants done at once.
 *
 * A stream has no limit, and may be silent for days. Whether its other end is
 * still there is the kernel's to ask (tcp(7), keepalive), which wakes nobody
 * up: a minute after it has vanished the stream has ended.
 */

static void client_arm(struct http_client *client)
{
	bool due = client->wanted <= loop_now(client->loop);

	loop_source_arm(client->timer, due || client->connecting > 0 ? client->wanted : UINT64_MAX);
}

void request_set_connecting(struct http_request *request, bool connecting)
{
	struct http_client *client = request->client;

	if (request->connecting == connecting)
		return;
	request->connecting = connecting;
	client->connecting += connecting ? 1 : (size_t)-1;
	client_arm(client);
}

/* CURLMOPT_TIMERFUNCTION(3) */
int client_on_curl_timer(CURLM *multi, long milliseconds, void *user)
{
	struct http_client *client = user;

	(void)multi;
	client->wanted = milliseconds < 0
				 ? UINT64_MAX
				 : loop_now(client->loop) + (uint64_t)milliseconds * 1000000;
	client_arm(client);
	return 0;
}

/* Where it cannot be set it is done without. */
static void keep_alive(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 30},
		{IPPROTO_TCP, TCP_KEEPINTVL, 10},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

/* CURLOPT_OPENSOCKETFUNCTION(3): libcurl's own sockets are inherited by whatever is executed. */
static curl_socket_t on_curl_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_request *request = user;
	int fd;

	(void)purpose;
	/* Again, where a connection that stood turns out to be dead. */
	request_set_connecting(request, true);
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd >= 0 && address->family != AF_UNIX)
		keep_alive(fd);
	return fd;
}

/* CURLOPT_PREREQFUNCTION(3) */
static int on_curl_connected(void *user, char *address, char *local_address, int port,
			     int local_port)
{
	(void)address;
	(void)local_address;
	(void)port;
	(void)local_port;
	request_set_connecting(user, false);
	return CURL_PREREQFUNC_OK;
}

void request_describe_timeout(struct http_request *request)
{
	const char *what = request->connecting           ? "no connection"
			   : request->header_length == 0 ? "no answer"
							 : "no end of the answer";
	uint64_t limit = request->connecting ? request->connect_timeout : request->timeout;

	(void)snprintf(request->failure, sizeof(request->failure), "%s within %g s", what,
		       (double)limit / 1e9);
}

static void on_limit(struct loop_source *source, void *user)
{
	(void)source;
	request_fail(user, CURLE_OPERATION_TIMEDOUT);
}

/* Rounded up, and never 0, which to libcurl means the default. */
static long milliseconds(uint64_t nanoseconds)
{
	uint64_t rounded = nanoseconds / 1000000 + (nanoseconds % 1000000 != 0);

	return rounded > LONG_MAX ? LONG_MAX : (long)rounded;
}

CURLcode request_set_limits(struct http_request *request, const struct http_call *call)
{
	struct loop *loop = request->client->loop;
	CURLcode result = CURLE_OK;

	request->timeout = call->timeout;
	request->connect_timeout = call->connect_timeout ? call->connect_timeout : call->timeout;
	if (call->timeout && loop_add_timer(loop, "http limit", loop_now(loop) + call->timeout,
					    on_limit, request, &request->limit) < 0)
		return CURLE_OUT_OF_MEMORY;
	SET(CURLOPT_OPENSOCKETFUNCTION, on_curl_open);
	SET(CURLOPT_OPENSOCKETDATA, request);
	SET(CURLOPT_PREREQFUNCTION, on_curl_connected);
	SET(CURLOPT_PREREQDATA, request);
	if (request->connect_timeout)
		SET(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request->connect_timeout));
	return result;
}
