/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a socket belongs to the namespace that it was made in.
 * So all are made inside, in one go, and everything else happens outside. What
 * is connected is closed by a reset: the server sees a client that came and
 * went, and no port stays behind in TIME_WAIT.
 */
#include "probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "deadline.h"
#include "dragoman/base/memory.h"

enum { MILLISECOND = 1000 * 1000 };

struct sockets {
	const struct probe_result *probes;
	struct pollfd *items;
	size_t count;
};

static int open_all(void *user, struct error *error)
{
	struct sockets *sockets = user;

	for (size_t i = 0; i < sockets->count; i++) {
		int domain = sockets->probes[i].endpoint.family == FAMILY_IPV6 ? AF_INET6 : AF_INET;
		int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		/* A family that the kernel has not got. */
		if (fd < 0 && errno != EAFNOSUPPORT)
			return error_set(error, -errno, error_class_of(errno), "socket: %s",
					 strerror(errno));
		sockets->items[i] = (struct pollfd){.fd = fd, .events = POLLOUT};
	}
	return 0;
}

static void close_one(struct pollfd *item)
{
	const struct linger now = {.l_onoff = 1};

	if (item->fd < 0)
		return;
	(void)setsockopt(item->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(item->fd);
	item->fd = -1;
}

static int start(int fd, const struct endpoint *endpoint)
{
	struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(endpoint->port)};
	const void *address = &ipv4;
	socklen_t length = sizeof(ipv4);

	memcpy(&ipv4.sin_addr, endpoint->address, sizeof(ipv4.sin_addr));
	memcpy(&ipv6.sin6_addr, endpoint->address, sizeof(ipv6.sin6_addr));
	if (endpoint->family == FAMILY_IPV6) {
		address = &ipv6;
		length = sizeof(ipv6);
	}
	return connect(fd, address, length) < 0 ? -errno : 0;
}

static void settle(struct probe_result *probe, struct pollfd *item, int code, uint64_t time)
{
	probe->code = code;
	probe->time = time;
	close_one(item);
}

static int result_of(int fd)
{
	int code = 0;
	socklen_t length = sizeof(code);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) < 0 ? -errno : -code;
}

/* Returns how many are under way. */
static size_t start_all(struct probe_result *probes, struct sockets *sockets)
{
	size_t waiting = 0;

	for (size_t i = 0; i < sockets->count; i++) {
		struct pollfd *item = &sockets->items[i];
		int code = item->fd < 0 ? -EAFNOSUPPORT : start(item->fd, &probes[i].endpoint);

		if (code == -EINPROGRESS)
			waiting++;
		else
			settle(&probes[i], item, code, 0);
	}
	return waiting;
}

static void wait_all(struct probe_result *probes, struct sockets *sockets, uint64_t timeout)
{
	const struct deadline deadline = deadline_start(timeout);
	size_t waiting = start_all(probes, sockets);
	uint64_t left;

	while (waiting && (left = deadline_left(&deadline))) {
		if (poll(sockets->items, sockets->count, (int)(left / MILLISECOND) + 1) < 0)
			continue;
		for (size_t i = 0; i < sockets->count; i++) {
			struct pollfd *item = &sockets->items[i];

			if (item->fd < 0 || !item->revents)
				continue;
			settle(&probes[i], item, result_of(item->fd),
			       timeout - deadline_left(&deadline));
			waiting--;
		}
	}
	for (size_t i = 0; i < sockets->count; i++) {
		if (sockets->items[i].fd >= 0)
			settle(&probes[i], &sockets->items[i], -ETIMEDOUT, timeout);
	}
}

int probe_run(const struct netns *netns, struct probe_result *probes, size_t count,
	      uint64_t timeout, struct error *error)
{
	struct pollfd items[PROBES_MAX];
	struct sockets sockets = {
		.probes = probes,
		.items = items,
		.count = count < PROBES_MAX ? count : PROBES_MAX,
	};
	int code;

	for (size_t i = 0; i < sockets.count; i++)
		items[i] = (struct pollfd){.fd = -1};
	code = netns_call(netns, open_all, &sockets, error);
	if (code == 0)
		wait_all(probes, &sockets, timeout);
	for (size_t i = 0; i < sockets.count; i++)
		close_one(&items[i]);
	return code;
}
