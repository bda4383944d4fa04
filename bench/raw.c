/* SPDX-License-Identifier: MIT */
/*
 * raw SERVICES ENDPOINTS [NAMESPACES]
 *
 * The limit: what the kernel itself needs for the messages of our layout. A
 * program with nothing but libmnl, which knows beforehand what it will be asked
 * to send, makes each batch outside of what is timed, checks nothing, and keeps
 * nothing but which endpoint stands in which slot. What is timed is one
 * sendmsg(2) and its answer.
 *
 * Works in the network namespace that it is started in, or, with NAMESPACES, in
 * as many of its own, the same change in each. Verbs (console.h):
 *
 *     clear            removes what stands
 *     load             all of it, into nothing
 *     replace FROM N   one endpoint each by another: the changes FROM, FROM + 1...
 *     grow FROM N      one endpoint more, then one of those that were there less
 *     read N           all elements that stand
 *     show SERVICE     the numbers of its endpoints
 *     descriptor I     of the namespace of that number
 */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "support/batch.h"
#include "support/console.h"
#include "support/layout.h"
#include "support/spaces.h"
#include "support/state.h"

enum { READ_SIZE = 64 * 1024 };

struct raw {
	struct state state;
	struct spaces spaces;
	struct mnl_socket **sockets; /* one a namespace */
	uint32_t *slots;             /* numbers of endpoints, by service and slot */
	bool loaded;
};

static uint32_t *slot_of(struct raw *raw, unsigned service, unsigned slot)
{
	return &raw->slots[(size_t)service * (raw->state.endpoints + 1) + slot];
}

/* The batch to each namespace. Returns nanoseconds; 0 with errno. */
static uint64_t send_all(const struct raw *raw, const struct batch *batch)
{
	uint64_t began;

	for (size_t i = 0; i < raw->spaces.count; i++) {
		if (batch_prepare(batch, raw->sockets[i]) < 0)
			return 0;
	}
	began = console_now();
	for (size_t i = 0; i < raw->spaces.count; i++) {
		if (batch_send(batch, raw->sockets[i]) < 0)
			return 0;
	}
	return console_now() - began;
}

/* --- Loading ------------------------------------------------------------------- */

static int clear(void *user, const unsigned *numbers)
{
	struct raw *raw = user;
	struct batch batch = {0};
	uint64_t took;

	(void)numbers;
	if (!raw->loaded)
		return 0;
	batch_begin(&batch);
	layout_remove_table(&batch);
	batch_end(&batch);
	took = send_all(raw, &batch);
	batch_done(&batch);
	raw->loaded = false;
	return took ? 0 : console_fail("removing the table");
}

static void put_elements(struct raw *raw, struct batch *batch)
{
	struct layout_list endpoints = layout_open(batch, LAYOUT_ENDPOINTS, true);
	struct layout_list services, unavailable;

	for (unsigned i = 0; i < raw->state.services; i++) {
		for (unsigned j = 0; j < raw->state.endpoints; j++)
			layout_endpoint(&endpoints, state_port(i), j,
					state_address(*slot_of(raw, i, j)));
	}
	layout_close(&endpoints);
	services = layout_open(batch, LAYOUT_SERVICES, true);
	for (unsigned i = 0; i < raw->state.services; i++)
		layout_service(&services, state_port(i), raw->state.endpoints);
	layout_close(&services);
	unavailable = layout_open(batch, LAYOUT_UNAVAILABLE6, true);
	for (unsigned i = 0; i < raw->state.services; i++)
		layout_unavailable6(&unavailable, state_port(i));
	layout_close(&unavailable);
}

/* What services of one endpoint more go to is there beforehand. */
static int add_next_balance(struct raw *raw)
{
	struct batch batch = {0};
	uint64_t took;

	batch_begin(&batch);
	layout_balance(&batch, raw->state.endpoints + 1);
	batch_end(&batch);
	took = send_all(raw, &batch);
	batch_done(&batch);
	return took ? 0 : console_fail("adding a chain");
}

static int load(void *user, const unsigned *numbers)
{
	struct raw *raw = user;
	struct batch batch = {0};
	uint64_t took;

	(void)numbers;
	for (unsigned i = 0; i < raw->state.services; i++) {
		for (unsigned j = 0; j < raw->state.endpoints; j++)
			*slot_of(raw, i, j) = state_number(&raw->state, i, j);
	}
	batch_begin(&batch);
	layout_structure(&batch);
	layout_balance(&batch, raw->state.endpoints);
	put_elements(raw, &batch);
	batch_end(&batch);
	took = send_all(raw, &batch);
	batch_done(&batch);
	if (!took)
		return console_fail("loading");
	raw->loaded = true;
	console_list("load", &took, 1, 1);
	return add_next_balance(raw);
}

/* --- Changes ------------------------------------------------------------------- */

static void put_endpoint(struct batch *batch, bool adding, unsigned service, unsigned slot,
			 uint32_t number)
{
	struct layout_list list = layout_open(batch, LAYOUT_ENDPOINTS, adding);

	layout_endpoint(&list, state_port(service), slot, adding ? state_address(number) : 0);
	layout_close(&list);
}

/* The service goes elsewhere. */
static void put_service(struct batch *batch, unsigned service, unsigned slots)
{
	struct layout_list list = layout_open(batch, LAYOUT_SERVICES, false);

	layout_service(&list, state_port(service), 0);
	layout_close(&list);
	list = layout_open(batch, LAYOUT_SERVICES, true);
	layout_service(&list, state_port(service), slots);
	layout_close(&list);
}

static int replace(void *user, const unsigned *numbers)
{
	struct raw *raw = user;
	unsigned from = numbers[0], count = numbers[1];
	uint64_t *took = console_memory(count, sizeof(*took));
	struct batch batch = {0};
	int r = 0;

	for (unsigned i = 0; i < count && r == 0; i++) {
		unsigned service = state_changed_service(&raw->state, from + i);
		unsigned slot = state_changed_endpoint(&raw->state, from + i);

		*slot_of(raw, service, slot) = STATE_REPLACED_FIRST + from + i;
		batch_begin(&batch);
		put_endpoint(&batch, false, service, slot, 0);
		put_endpoint(&batch, true, service, slot, STATE_REPLACED_FIRST + from + i);
		batch_end(&batch);
		took[i] = send_all(raw, &batch);
		r = took[i] ? 0 : console_fail("replacing");
	}
	if (r == 0)
		console_list("replace", took, count, 1);
	batch_done(&batch);
	free(took);
	return r;
}

static uint64_t add(struct raw *raw, struct batch *batch, unsigned change)
{
	unsigned service = state_changed_service(&raw->state, change);

	*slot_of(raw, service, raw->state.endpoints) = STATE_ADDED_FIRST + change;
	batch_begin(batch);
	put_endpoint(batch, true, service, raw->state.endpoints, STATE_ADDED_FIRST + change);
	put_service(batch, service, raw->state.endpoints + 1);
	batch_end(batch);
	return send_all(raw, batch);
}

/* The counter of the element that moves is read before, as the layout wants it. */
static int read_one(const struct raw *raw, unsigned service, unsigned slot)
{
	char buffer[READ_SIZE];

	for (size_t i = 0; i < raw->spaces.count; i++) {
		struct nlmsghdr *message = layout_ask_endpoint(buffer, state_port(service), slot);

		if (mnl_socket_sendto(raw->sockets[i], message, message->nlmsg_len) < 0)
			return -1;
		/* The element, and the acknowledgement. */
		for (int part = 0; part < 2; part++) {
			if (recv(mnl_socket_get_fd(raw->sockets[i]), buffer, sizeof(buffer),
				 MSG_DONTWAIT) < 0)
				return -1;
		}
	}
	return 0;
}

/* The last slot moves into the hole. */
static uint64_t remove_one(struct raw *raw, struct batch *batch, unsigned change)
{
	unsigned service = state_changed_service(&raw->state, change);
	unsigned slot = state_changed_endpoint(&raw->state, change), last = raw->state.endpoints;
	uint64_t began, read;

	began = console_now();
	if (read_one(raw, service, last) < 0)
		return 0;
	read = console_now() - began;
	*slot_of(raw, service, slot) = *slot_of(raw, service, last);
	batch_begin(batch);
	put_endpoint(batch, false, service, slot, 0);
	put_endpoint(batch, false, service, last, 0);
	put_endpoint(batch, true, service, slot, *slot_of(raw, service, slot));
	put_service(batch, service, last);
	batch_end(batch);
	began = send_all(raw, batch);
	return began ? began + read : 0;
}

static int grow(void *user, const unsigned *numbers)
{
	struct raw *raw = user;
	unsigned from = numbers[0], count = numbers[1];
	uint64_t *added = console_memory(2 * (size_t)count, sizeof(*added)),
		 *removed = added + count;
	struct batch batch = {0};
	int r = 0;

	for (unsigned i = 0; i < count && r == 0; i++) {
		added[i] = add(raw, &batch, from + i);
		removed[i] = added[i] ? remove_one(raw, &batch, from + i) : 0;
		r = removed[i] ? 0 : console_fail("growing");
	}
	if (r == 0) {
		console_list("add", added, count, 1);
		console_list("remove", removed, count, 0);
	}
	batch_done(&batch);
	free(added);
	return r;
}

/* --- Reading ------------------------------------------------------------------- */

static int read_set(const struct mnl_socket *socket, enum layout_set set, char *buffer)
{
	struct nlmsghdr *message = layout_ask_all(buffer, set);

	if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0)
		return -1;
	for (;;) {
		ssize_t received = recv(mnl_socket_get_fd(socket), buffer, READ_SIZE, 0);
		const struct nlmsghdr *first = (const struct nlmsghdr *)(const void *)buffer;

		if (received < 0)
			return -1;
		if (first->nlmsg_type == NLMSG_ERROR)
			return errno = EPROTO, -1;
		/* A dump's end comes by itself, or behind the last part. */
		for (int left = (int)received; mnl_nlmsg_ok(first, left);
		     first = mnl_nlmsg_next(first, &left)) {
			if (first->nlmsg_type == NLMSG_DONE)
				return 0;
		}
	}
}

static int read_all(void *user, const unsigned *numbers)
{
	static const enum layout_set sets[] = {LAYOUT_SERVICES, LAYOUT_ENDPOINTS,
					       LAYOUT_UNAVAILABLE6};
	struct raw *raw = user;
	uint64_t *took = console_memory(numbers[0], sizeof(*took)), began;
	char *buffer = console_memory(READ_SIZE, 1);
	int r = 0;

	for (unsigned i = 0; i < numbers[0] && r == 0; i++) {
		began = console_now();
		for (size_t set = 0; set < sizeof(sets) / sizeof(sets[0]) && r == 0; set++)
			r = read_set(raw->sockets[0], sets[set], buffer);
		took[i] = console_now() - began;
	}
	if (r == 0)
		console_list("read", took, numbers[0], 1);
	else
		(void)console_fail("reading");
	free(buffer);
	free(took);
	return r;
}

/* The descriptor of a namespace, by which others can look into it. */
static int tell_descriptor(void *user, const unsigned *numbers)
{
	const struct raw *raw = user;

	printf("\"descriptor\": %d", raw->spaces.fds[numbers[0]]);
	return 0;
}

static int show(void *user, const unsigned *numbers)
{
	struct raw *raw = user;
	uint64_t *found = console_memory(raw->state.endpoints, sizeof(*found));

	for (unsigned j = 0; j < raw->state.endpoints; j++)
		found[j] = *slot_of(raw, numbers[0], j);
	console_list("endpoints", found, raw->state.endpoints, 1);
	free(found);
	return 0;
}

/* --- Beginning ----------------------------------------------------------------- */

static int open_sockets(struct raw *raw)
{
	raw->sockets = console_memory(raw->spaces.count, sizeof(struct mnl_socket *));
	for (size_t i = 0; i < raw->spaces.count; i++) {
		if (spaces_enter(&raw->spaces, i) < 0)
			return -1;
		raw->sockets[i] = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
		if (!raw->sockets[i] || mnl_socket_bind(raw->sockets[i], 0, MNL_SOCKET_AUTOPID) < 0)
			return -1;
	}
	spaces_leave(&raw->spaces);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct console_verb verbs[] = {
		{"clear", 0, clear},
		{"load", 0, load},
		{"replace", 2, replace},
		{"grow", 2, grow},
		{"read", 1, read_all},
		{"show", 1, show},
		{"descriptor", 1, tell_descriptor},
	};
	struct raw raw = {0};

	if (state_parse(argc, argv, &raw.state) < 0)
		return 2;
	raw.slots = console_memory((size_t)raw.state.services * (raw.state.endpoints + 1),
				   sizeof(*raw.slots));
	if (spaces_open(&raw.spaces, raw.state.namespaces) < 0 || open_sockets(&raw) < 0)
		return console_fail("raw") < 0;
	return console_run(verbs, sizeof(verbs) / sizeof(verbs[0]), &raw);
}
