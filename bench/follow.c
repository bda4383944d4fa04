/* SPDX-License-Identifier: MIT */
/*
 * follow ETCD_PORT REGISTRY HOSTS RATE CHANGES WRITERS THERE HERE
 *
 * From etcd's acknowledgement of a put to the commit in the kernel, and to the
 * first connection that was led to the new endpoint.
 *
 * Runs in the network namespace that an agent keeps; HOSTS (a file of nsfs) is
 * where every endpoint there may be answers, at one socket. Etcd is on the
 * loopback of REGISTRY, such a file too. Each of the writers has a connection of its own, and a
 * service of its own, /services/s0 and on, of one endpoint, which it replaces
 * again and again; together they make RATE changes a second. THERE and HERE are masks of
 * processors: of what would be on etcd's host, and of what is on the agent's.
 *
 *     writers    a thread each, there: put, wait for the acknowledgement, note the time
 *     watcher    a thread, there: notes when etcd told of a change to one who does nothing
 *                but watch, which is what the machine and etcd need of the time
 *     listener   a thread, here: notes when an element came, by what nf_tables tells
 *     client     a thread, here: connects to each service that has an acknowledged
 *                change nobody was led to yet, again and again
 *
 * A change that was overtaken by the next before any connection was made is
 * over with the first connection to that or a later one: so is its commit.
 *
 * Prints one JSON object: nanoseconds of each change from its acknowledgement to
 * the watcher's event and to the commit (negative where that came first), and to
 * the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/console.h"
#include "support/state.h"

enum {
	WRITERS_MAX = 64,
	REQUEST_MAX = 1024,
	ANSWER_MAX = 4096,
	RECEIVE_SIZE = 64 * 1024,
	RECEIVE_QUEUE = 8 * 1024 * 1024,
};

static const uint64_t second = 1000000000, patience = UINT64_C(10000000000);

struct change {
	uint64_t acknowledged;
	atomic_uint_fast64_t told, committed, connected;
};

struct writer {
	struct follow *follow;
	pthread_t thread;
	unsigned number;
	int socket;
	unsigned count;
	struct change *changes;
	atomic_uint acknowledged; /* how many changes are */
	unsigned connected;       /* how many of them somebody was led to; the client's own */
	bool failed;
};

struct follow {
	struct writer writers[WRITERS_MAX];
	unsigned count;
	uint64_t pause; /* of a writer from one change to the next */
	int server;     /* of all endpoints */
	int watcher;    /* the connection of the one who only watches */
	struct mnl_socket *listener;
	unsigned there, here;
	atomic_bool done;
	unsigned long connections, failures;
};

/* The endpoint of a writer's change: its number holds both. 0 stands there before the first. */
static uint32_t number_of(unsigned writer, unsigned change)
{
	return writer << 16 | change;
}

static struct change *change_of(const struct follow *follow, uint32_t address)
{
	uint32_t number = address - STATE_ADDRESS_FIRST;
	unsigned which = number >> 16, change = number & 0xffff;

	return which < follow->count && change < follow->writers[which].count
		       ? &follow->writers[which].changes[change]
		       : NULL;
}

/* --- The registry ------------------------------------------------------------ */

static void encode(char *into, const char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t length = strlen(text);

	for (size_t i = 0; i < length; i += 3) {
		uint32_t three = 0;

		for (size_t j = 0; j < 3; j++)
			three = three << 8 | (i + j < length ? (uint8_t)text[i + j] : 0);
		for (size_t j = 0; j < 4; j++)
			*into++ = i + j > length ? '=' : digits[three >> (18 - 6 * j) & 63];
	}
	*into = '\0';
}

static size_t write_request(char *into, unsigned writer, uint32_t number)
{
	const uint32_t address = state_address(number);
	char key[64], value[128], key64[128], value64[256], body[512];
	int length;

	(void)snprintf(key, sizeof(key), "/services/s%u/0", writer);
	(void)snprintf(value, sizeof(value),
		       "{\"ipaddress\": \"%u.%u.%u.%u\", \"host_port\": \"%u\"}", address >> 24,
		       address >> 16 & 255, address >> 8 & 255, address & 255, STATE_ENDPOINT_PORT);
	encode(key64, key);
	encode(value64, value);
	length = snprintf(body, sizeof(body), "{\"key\":\"%s\",\"value\":\"%s\"}", key64, value64);
	length = snprintf(into, REQUEST_MAX,
			  "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%s",
			  length, body);
	return (size_t)length;
}

/* The answer is short, and comes in one piece or two: it ends with what its head says. */
static int take_answer(int socket)
{
	char answer[ANSWER_MAX];
	size_t length = 0;

	for (;;) {
		ssize_t got = recv(socket, answer + length, sizeof(answer) - 1 - length, 0);
		const char *body, *field;

		if (got <= 0)
			return -1;
		length += (size_t)got;
		answer[length] = '\0';
		body = strstr(answer, "\r\n\r\n");
		if (!body)
			continue;
		if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
			return errno = EPROTO, -1;
		field = strstr(answer, "Content-Length: ");
		if (field && strlen(body + 4) >= strtoul(field + 16, NULL, 10))
			return 0;
	}
}

static int open_connection(uint16_t port, int *ret)
{
	const struct sockaddr_in etcd = {.sin_family = AF_INET,
					 .sin_port = htons(port),
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct timeval limit = {.tv_sec = 10};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -1;
	return connect(fd, (const struct sockaddr *)&etcd, sizeof(etcd));
}

static int put(struct writer *writer, uint32_t number)
{
	char request[REQUEST_MAX];
	size_t length = write_request(request, writer->number, number);

	if (send(writer->socket, request, length, MSG_NOSIGNAL) != (ssize_t)length)
		return -1;
	return take_answer(writer->socket);
}

/* The thread's own processors. 0: as they are. */
static void keep_to(unsigned mask)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned cpu = 0; cpu < 32; cpu++) {
		if (mask >> cpu & 1)
			CPU_SET(cpu, &set);
	}
	if (mask)
		(void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void wait_until(uint64_t when)
{
	const struct timespec time = {.tv_sec = (time_t)(when / second),
				      .tv_nsec = (long)(when % second)};

	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void *write_changes(void *user)
{
	struct writer *writer = user;
	struct follow *follow = writer->follow;
	uint64_t next = console_now() + follow->pause * writer->number / follow->count;

	keep_to(follow->there);

	for (unsigned i = 1; i < writer->count; i++) {
		next += follow->pause;
		wait_until(next);
		if (put(writer, number_of(writer->number, i)) < 0) {
			writer->failed = true;
			break;
		}
		writer->changes[i].acknowledged = console_now();
		atomic_store(&writer->acknowledged, i);
	}
	return NULL;
}

/* --- One who only watches ---------------------------------------------------- */

static size_t decode(char *into, size_t size, const char *digits)
{
	uint32_t bits = 0;
	size_t length = 0;

	for (size_t i = 0; digits[i] && digits[i] != '"' && length + 1 < size; i++) {
		char digit = digits[i];
		int value = digit >= 'A' && digit <= 'Z'   ? digit - 'A'
			    : digit >= 'a' && digit <= 'z' ? digit - 'a' + 26
			    : digit >= '0' && digit <= '9' ? digit - '0' + 52
			    : digit == '+'                 ? 62
			    : digit == '/'                 ? 63
							   : -1;

		if (value < 0)
			break;
		bits = bits << 6 | (uint32_t)value;
		if (i % 4)
			into[length++] = (char)(bits >> (6 - 2 * (i % 4)));
	}
	into[length] = '\0';
	return length;
}

/* All values of a piece of the stream; what is cut in two is found by the next change. */
static void take_events(const struct follow *follow, const char *text, uint64_t now)
{
	static const char name[] = "\"value\":\"", field[] = "\"ipaddress\": \"";
	char value[128];

	while ((text = strstr(text, name))) {
		const char *found;
		struct in_addr address;
		struct change *change;

		text += sizeof(name) - 1;
		(void)decode(value, sizeof(value), text);
		found = strstr(value, field);
		if (!found)
			continue;
		found += sizeof(field) - 1;
		value[(size_t)(found - value) + strcspn(found, "\"")] = '\0';
		if (inet_pton(AF_INET, found, &address) != 1)
			continue;
		change = change_of(follow, ntohl(address.s_addr));
		if (change)
			atomic_store(&change->told, now);
	}
}

static void *watch(void *user)
{
	struct follow *follow = user;
	char *buffer = console_memory(RECEIVE_SIZE + 1, 1);

	keep_to(follow->there);

	while (!atomic_load(&follow->done)) {
		ssize_t got = recv(follow->watcher, buffer, RECEIVE_SIZE, 0);

		if (got <= 0)
			continue;
		buffer[got] = '\0';
		take_events(follow, buffer, console_now());
	}
	free(buffer);
	return NULL;
}

/* Everything below /services/; the answer begins when it is watched. */
static int open_watcher(struct follow *follow, uint16_t port)
{
	static const char body[] = "{\"create_request\":{\"key\":\"L3NlcnZpY2VzLw==\","
				   "\"range_end\":\"L3NlcnZpY2VzMA==\"}}";
	const struct timeval limit = {.tv_usec = 100000};
	char text[REQUEST_MAX];
	int length = snprintf(text, sizeof(text),
			      "POST /v3/watch HTTP/1.1\r\nHost: etcd\r\n"
			      "Content-Length: %zu\r\n\r\n%s",
			      strlen(body), body);

	if (open_connection(port, &follow->watcher) < 0 ||
	    send(follow->watcher, text, (size_t)length, MSG_NOSIGNAL) != length ||
	    recv(follow->watcher, text, sizeof(text), 0) <= 0)
		return -1;
	return setsockopt(follow->watcher, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* --- The kernel -------------------------------------------------------------- */

/* The attribute of a type among those in a stretch of memory, or NULL. */
static const struct nlattr *find(const void *from, size_t length, unsigned type)
{
	const struct nlattr *attribute = from;
	const char *end = (const char *)from + length;

	for (; mnl_attr_ok(attribute, (int)(end - (const char *)attribute));
	     attribute = mnl_attr_next(attribute)) {
		if (mnl_attr_get_type(attribute) == type)
			return attribute;
	}
	return NULL;
}

static const struct nlattr *find_in(const struct nlattr *nest, unsigned type)
{
	return nest ? find(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest), type) : NULL;
}

static void take_element(struct follow *follow, const struct nlattr *element, uint64_t now)
{
	const struct nlattr *value = find_in(find_in(element, NFTA_SET_ELEM_DATA), NFTA_DATA_VALUE);
	struct change *change;
	uint32_t address;

	if (!value || mnl_attr_get_payload_len(value) != 8)
		return;
	memcpy(&address, mnl_attr_get_payload(value), sizeof(address));
	change = change_of(follow, ntohl(address));
	if (change)
		atomic_store(&change->committed, now);
}

/* Each message tells of one element: so nf_tables_setelem_notify() of the kernel has it. */
static void take_message(struct follow *follow, const struct nlmsghdr *message, uint64_t now)
{
	const struct nlattr *list;

	if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM))
		return;
	list = find((const char *)mnl_nlmsg_get_payload(message) + sizeof(struct nfgenmsg),
		    mnl_nlmsg_get_payload_len(message) - sizeof(struct nfgenmsg),
		    NFTA_SET_ELEM_LIST_ELEMENTS);
	if (list)
		take_element(follow, find_in(list, NFTA_LIST_ELEM), now);
}

static void *listen_to_kernel(void *user)
{
	struct follow *follow = user;
	char *buffer = console_memory(RECEIVE_SIZE, 1);

	keep_to(follow->here);

	while (!atomic_load(&follow->done)) {
		ssize_t received = mnl_socket_recvfrom(follow->listener, buffer, RECEIVE_SIZE);
		const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)buffer;
		uint64_t now = console_now();
		int left = (int)received;

		for (; received > 0 && mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			take_message(follow, message, now);
	}
	free(buffer);
	return NULL;
}

static int open_listener(struct follow *follow)
{
	const struct timeval limit = {.tv_usec = 100000};
	const int size = RECEIVE_QUEUE;
	int group = NFNLGRP_NFTABLES, fd;

	follow->listener = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!follow->listener || mnl_socket_bind(follow->listener, 0, MNL_SOCKET_AUTOPID) < 0)
		return -1;
	fd = mnl_socket_get_fd(follow->listener);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -1;
	return mnl_socket_setsockopt(follow->listener, NETLINK_ADD_MEMBERSHIP, &group,
				     sizeof(group));
}

/* --- Connections ------------------------------------------------------------- */

/* Where a connection to a service ends. Both ends are ours: nothing waits. */
static int connect_once(const struct follow *follow, unsigned writer, uint32_t *ret)
{
	static const struct linger reset = {.l_onoff = 1};
	const struct sockaddr_in service = {.sin_family = AF_INET,
					    .sin_port = htons(state_port(writer)),
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in own = {0};
	socklen_t length = sizeof(own);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other = -1, r = -1;

	if (client >= 0 && setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0 &&
	    connect(client, (const struct sockaddr *)&service, sizeof(service)) == 0)
		other = accept4(follow->server, NULL, NULL, SOCK_CLOEXEC);
	if (other >= 0 && getsockname(other, (struct sockaddr *)&own, &length) == 0)
		r = 0;
	*ret = ntohl(own.sin_addr.s_addr) - STATE_ADDRESS_FIRST;
	if (client >= 0)
		(void)close(client);
	if (other >= 0)
		(void)close(other);
	return r;
}

static void try_writer(struct follow *follow, struct writer *writer)
{
	unsigned acknowledged = atomic_load(&writer->acknowledged);
	uint32_t reached;
	uint64_t now;

	if (writer->connected >= acknowledged)
		return;
	follow->connections++;
	if (connect_once(follow, writer->number, &reached) < 0) {
		follow->failures++;
		return;
	}
	now = console_now();
	while (reached >> 16 == writer->number && writer->connected < acknowledged &&
	       writer->connected < (reached & 0xffff))
		atomic_store(&writer->changes[++writer->connected].connected, now);
}

static void *connect_to_services(void *user)
{
	static const struct timespec moment = {.tv_nsec = 20000};
	struct follow *follow = user;

	keep_to(follow->here);
	/* With pauses: on the agent's processor nobody computes for the time of a tick. */
	while (!atomic_load(&follow->done)) {
		for (unsigned i = 0; i < follow->count; i++)
			try_writer(follow, &follow->writers[i]);
		(void)nanosleep(&moment, NULL);
	}
	return NULL;
}

/* --- The whole --------------------------------------------------------------- */

static int enter(int fd)
{
	return setns(fd, CLONE_NEWNET);
}

static int open_server(struct follow *follow)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_port = htons(STATE_ENDPOINT_PORT)};
	const struct timeval limit = {.tv_sec = 5};

	follow->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (follow->server < 0 ||
	    setsockopt(follow->server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    bind(follow->server, (const struct sockaddr *)&any, sizeof(any)) < 0)
		return -1;
	return listen(follow->server, SOMAXCONN);
}

static int open_all(struct follow *follow, uint16_t port, const char *registry, const char *hosts)
{
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there = open(hosts, O_RDONLY | O_CLOEXEC);
	int etcd = open(registry, O_RDONLY | O_CLOEXEC);

	if (here < 0 || there < 0 || etcd < 0 || open_listener(follow) < 0 || enter(etcd) < 0)
		return -1;
	for (unsigned i = 0; i < follow->count; i++) {
		follow->writers[i].changes = console_memory(follow->writers[i].count,
							    sizeof(struct change));
		if (open_connection(port, &follow->writers[i].socket) < 0)
			return -1;
	}
	if (open_watcher(follow, port) < 0)
		return -1;
	if (enter(there) < 0 || open_server(follow) < 0 || enter(here) < 0)
		return -1;
	(void)close(there);
	(void)close(etcd);
	return close(here);
}

static bool is_over(const struct follow *follow)
{
	for (unsigned i = 0; i < follow->count; i++) {
		const struct writer *writer = &follow->writers[i];

		if (!atomic_load(&writer->changes[writer->count - 1].connected))
			return false;
	}
	return true;
}

static int run(struct follow *follow)
{
	pthread_t listener, client, watcher;
	uint64_t until;
	bool failed = false;

	if (pthread_create(&listener, NULL, listen_to_kernel, follow) != 0 ||
	    pthread_create(&watcher, NULL, watch, follow) != 0 ||
	    pthread_create(&client, NULL, connect_to_services, follow) != 0)
		return -1;
	for (unsigned i = 0; i < follow->count; i++) {
		if (pthread_create(&follow->writers[i].thread, NULL, write_changes,
				   &follow->writers[i]) != 0)
			return -1;
	}
	for (unsigned i = 0; i < follow->count; i++) {
		(void)pthread_join(follow->writers[i].thread, NULL);
		failed |= follow->writers[i].failed;
	}
	until = console_now() + patience;
	while (!failed && !is_over(follow) && console_now() < until)
		wait_until(console_now() + second / 1000);
	failed |= !is_over(follow);
	/* What was told of the last change is in the queue by now; the listener looks up soon. */
	wait_until(console_now() + second / 100);
	atomic_store(&follow->done, true);
	(void)pthread_join(client, NULL);
	(void)pthread_join(listener, NULL);
	(void)pthread_join(watcher, NULL);
	return failed ? (errno = ETIMEDOUT, -1) : 0;
}

enum event { TOLD, COMMITTED, CONNECTED };

static uint64_t time_of(const struct change *change, enum event event)
{
	switch (event) {
	case TOLD:
		return atomic_load(&change->told);
	case COMMITTED:
		return atomic_load(&change->committed);
	case CONNECTED:
		return atomic_load(&change->connected);
	}
	return 0;
}

/* Of the first change, from this one on, that has one. */
static uint64_t when(const struct writer *writer, unsigned change, enum event event)
{
	for (; change < writer->count; change++) {
		uint64_t time = time_of(&writer->changes[change], event);

		if (time)
			return time;
	}
	return 0;
}

static void print(const struct follow *follow, const char *name, enum event event)
{
	const char *comma = "";

	printf(", \"%s\": [", name);
	for (unsigned i = 0; i < follow->count; i++) {
		const struct writer *writer = &follow->writers[i];

		for (unsigned j = 1; j < writer->count; j++) {
			uint64_t time = when(writer, j, event);

			if (!time)
				continue;
			printf("%s%" PRId64, comma,
			       (int64_t)(time - writer->changes[j].acknowledged));
			comma = ", ";
		}
	}
	printf("]");
}

static unsigned argument(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	static struct follow follow;
	uint64_t began;
	unsigned changes;

	if (argc != 9 || argument(argv[6]) - 1 >= WRITERS_MAX || !argument(argv[4])) {
		(void)fprintf(stderr, "usage: follow ETCD_PORT REGISTRY HOSTS RATE CHANGES "
				      "WRITERS THERE HERE\n");
		return 2;
	}
	follow.count = argument(argv[6]);
	follow.there = argument(argv[7]);
	follow.here = argument(argv[8]);
	follow.pause = second * follow.count / argument(argv[4]);
	changes = argument(argv[5]) / follow.count;
	for (unsigned i = 0; i < follow.count; i++)
		follow.writers[i] = (struct writer){
			.follow = &follow, .number = i, .count = changes + 1};
	if (changes >= 0xffff ||
	    open_all(&follow, (uint16_t)argument(argv[1]), argv[2], argv[3]) < 0)
		return console_fail("follow") < 0;
	began = console_now();
	if (run(&follow) < 0)
		return console_fail("follow") < 0;
	printf("{\"seconds\": %.3f, \"connections\": %lu, \"failures\": %lu",
	       (double)(console_now() - began) / 1e9, follow.connections, follow.failures);
	print(&follow, "told", TOLD);
	print(&follow, "committed", COMMITTED);
	print(&follow, "connected", CONNECTED);
	printf("}\n");
	return 0;
}
