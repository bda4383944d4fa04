/* SPDX-License-Identifier: MIT */
/* Else glibc has inline functions of the names that faulty_calls.h defines. */
#undef _FORTIFY_SOURCE

/*
 * Theory of operation
 *
 * Every call by which the kernel is asked or told something fails once
 * (faulty_calls.h), in a namespace for each test (kernel_lab.h). Whatever comes
 * of it, what stands is the old ruleset or the new one, whole; who says that it
 * was done is right, who does not says why; and the next try needs no care.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <linux/netfilter/nf_tables.h>

#include "faulty_calls.h"

#include "../src/cmd/sync.h"
#include "../src/kernel/kernel_private.h"
#include "dragoman/base/loop.h"
#include "dragoman/kernel/monitor.h"
#include "flow_lab.h"
#include "kernel_lab.h"
#include "plan_model.h"

/*
 * Of the calls of a kind every Nth fails, from one on that is another one in
 * each run: EVERY=1 in the environment is all of them, SEED=N repeats a run.
 */
enum { EVERY = 4 };

static unsigned every, first;

static unsigned first_at(size_t kind)
{
	return 1 + (first + (unsigned)kind) % every;
}

static int faults_begin(void **state)
{

	every = (unsigned)random_every(EVERY);
	first = (unsigned)random_first_seed((unsigned long)time(NULL));
	print_message("SEED=%u, every %u of the calls of a kind\n", first, every);
	return every ? lab_group_begin(state) : -1;
}

static const char *const call_names[CALL_COUNT] = {
	"send", "receive", "socket", "bind",  "connect", "option",
	"open", "setns",   "read",   "write", "ioctl",
};
static const char *const way_names[] = {"fails",   "lost",    "stuck",
					"changed", "refused", "overtaken"};

struct kind {
	enum fault_call call;
	enum fault_way way;
	int code;
	bool harmless; /* what was wanted is done all the same */
};

static const struct kind kinds[] = {
	{CALL_SEND, WAY_FAILS, ENOBUFS, false},    {CALL_SEND, WAY_FAILS, EMSGSIZE, false},
	{CALL_SEND, WAY_FAILS, EINTR, true},       {CALL_SEND, WAY_FAILS, EAGAIN, false},
	{CALL_SEND, WAY_FAILS, ENOMEM, false},     {CALL_SEND, WAY_FAILS, EPERM, false},
	{CALL_SEND, WAY_REFUSED, EBUSY, true},     {CALL_SEND, WAY_REFUSED, ERESTART, true},
	{CALL_SEND, WAY_REFUSED, EAGAIN, true},    {CALL_SEND, WAY_REFUSED, ENOENT, true},
	{CALL_SEND, WAY_REFUSED, EEXIST, true},    {CALL_SEND, WAY_REFUSED, ENOMEM, false},
	{CALL_SEND, WAY_REFUSED, ENOBUFS, false},  {CALL_SEND, WAY_OVERTAKEN, 0, true},
	{CALL_RECEIVE, WAY_FAILS, EINTR, true},    {CALL_RECEIVE, WAY_FAILS, ENOBUFS, false},
	{CALL_RECEIVE, WAY_FAILS, ENOMEM, false},  {CALL_RECEIVE, WAY_LOST, ENOBUFS, false},
	{CALL_RECEIVE, WAY_STUCK, ENOBUFS, false}, {CALL_RECEIVE, WAY_CHANGED, 0, true},
	{CALL_SOCKET, WAY_FAILS, EMFILE, false},   {CALL_BIND, WAY_FAILS, ENOMEM, false},
	{CALL_CONNECT, WAY_FAILS, ENOMEM, false},  {CALL_OPTION, WAY_FAILS, EPERM, true},
	{CALL_OPTION, WAY_FAILS, ENOBUFS, true},   {CALL_OPEN, WAY_FAILS, EMFILE, false},
	{CALL_OPEN, WAY_FAILS, EINTR, false},      {CALL_SETNS, WAY_FAILS, EPERM, false},
	{CALL_SETNS, WAY_FAILS, ENOMEM, false},    {CALL_READ, WAY_FAILS, EIO, false},
	{CALL_WRITE, WAY_FAILS, EROFS, false},     {CALL_WRITE, WAY_FAILS, EINTR, false},
	{CALL_IOCTL, WAY_FAILS, ENOMEM, false},
};

#define wrong(kind, at, ...)                                                  \
	do {                                                                  \
		print_error("%s %u %s, %s: ", call_names[(kind)->call], (at), \
			    way_names[(kind)->way], strerror((kind)->code));  \
		fail_msg(__VA_ARGS__);                                        \
	} while (0)

/* Somebody else's transaction, which has nothing to do with us. */
static void overtake(void)
{
	fault.armed = false;
	lab_run("nft 'add table ip dgm-other; delete table ip dgm-other'");
	fault.armed = true;
}

static bool stands(struct lab *lab, const struct ruleset *desired)
{
	lab_plan(lab, desired);
	return lab_is_empty(&lab->verdicts);
}

/* desired NULL: a flush. */
static int sync_once(const struct ruleset *desired, struct error *error)
{
	const struct deadline deadline = deadline_start(UINT64_C(20000000000));
	CLEANUP(sync_result_done) struct sync_result result = {0};
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	struct sync sync = {.desired = desired, .netns = &netns, .deadline = &deadline};
	const bool armed = fault.armed;

	fault.armed = false;
	*error = (struct error){0};
	if (netns_open("/proc/self/ns/net", &netns, error) < 0)
		fail_msg("%s", error->message);
	fault.armed = armed;
	return sync_run(&sync, &result, error);
}

static void check_error(const struct kind *kind, unsigned at, int r, const struct error *error)
{
	if (kind->harmless)
		wrong(kind, at, "%s", error->message);
	if (error->code != r || !error->message[0])
		wrong(kind, at, "%d, and it says %d: %s", r, error->code, error->message);
}

/* A ruleset takes the place of another, with that fault. Returns whether there was that call. */
static bool replace(struct lab *lab, const struct kind *kind, unsigned at,
		    const struct ruleset *old, const struct ruleset *new)
{
	struct error error;
	bool hit;
	int r;

	fault_arm(kind->call, kind->way, kind->code, at);
	r = sync_once(new, &error);
	hit = fault_disarm();
	if (r < 0)
		check_error(kind, at, r, &error);
	if (!stands(lab, new)) {
		if (r == 0)
			wrong(kind, at, "it said that it was done");
		/* Routes and the sysctl may be new where the table is old, not other than that. */
		if (!stands(lab, old) && verdicts_have_batch(&lab->verdicts))
			wrong(kind, at, "a mixture stands");
	}
	if (sync_once(new, &error) < 0)
		wrong(kind, at, "the next try fails: %s", error.message);
	if (!stands(lab, new))
		wrong(kind, at, "the next try does not mend it");
	return hit;
}

static void test_faults_of_any_call_leave_the_old_or_the_new_rules(void **state)
{
	struct lab *lab = *state;
	struct ruleset a = lab_service(lab, FAMILY_IPV4, 3), b = lab_service(lab, FAMILY_IPV6, 2);
	struct error error;

	fault.overtake = overtake;
	b.services[0].listen.port = 81;
	assert_int_equal(sync_once(&a, &error), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		bool there = true, of_a = true;
		unsigned at;

		for (at = first_at(i); there; at += every, of_a = !of_a)
			there = replace(lab, &kinds[i], at, of_a ? &a : &b, of_a ? &b : &a);
		if (at == 2 && kinds[i].call != CALL_WRITE && kinds[i].call != CALL_IOCTL)
			wrong(&kinds[i], 1, "there is no such call");
		assert_int_equal(sync_once(&a, &error), 0);
	}
}

/* From nothing to rules, and back, with the order of guard and sysctl. */
static bool come_and_go(struct lab *lab, const struct kind *kind, unsigned at,
			const struct ruleset *desired)
{
	const struct ruleset *const steps[] = {desired, NULL};
	bool hit = false;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct error error;
		int r;

		fault_arm(kind->call, kind->way, kind->code, at);
		r = sync_once(steps[i], &error);
		hit |= fault_disarm();
		/* A flush has nothing to replace the table with. */
		if (r < 0 && !(steps[i] == NULL && kind->way == WAY_REFUSED))
			check_error(kind, at, r, &error);
		lab_read(lab);
		if (lab->observed.localnet && !lab->observed.table)
			wrong(kind, at, "localhost is open without a guard");
		if (lab->observed.table && lab->observed.foreign)
			wrong(kind, at, "half a table: %s", lab->observed.foreign);
		if (r == 0 && lab->observed.table != !i)
			wrong(kind, at, "it said that it was done");
		if (sync_once(steps[i], &error) < 0)
			wrong(kind, at, "the next try fails: %s", error.message);
	}
	lab_read(lab);
	if (lab->observed.table || lab->observed.localnet || lab->observed.route_count ||
	    lab->observed.links[0].routed)
		wrong(kind, at, "something is left");
	return hit;
}

static void test_faults_of_any_call_keep_the_guard_before_the_sysctl(void **state)
{
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 2);

	fault.overtake = overtake;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (unsigned at = first_at(i); come_and_go(lab, &kinds[i], at, &desired);)
			at += every;
	}
}

/* --- The agent's way: a part from what is remembered, and a monitor ------------------- */

struct follower {
	struct loop *loop;
	struct kernel *kernel;
	struct kernel_monitor *monitor;
};

static void on_news(const struct kernel_news *news, void *user)
{
	(void)news;
	(void)user;
}

static int follow(struct follower *follower, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r = netns_open("/proc/self/ns/net", &netns, error);

	if (r == 0)
		r = kernel_open(&netns, &follower->kernel, error);
	if (r == 0)
		r = kernel_monitor_open(follower->loop, &netns, follower->kernel, on_news, NULL,
					&follower->monitor, error);
	return r;
}

static void unfollow(struct follower *follower)
{
	kernel_monitor_closep(&follower->monitor);
	kernel_closep(&follower->kernel);
}

/* Reads, plans and commits on sockets that stay open, as often as it takes. */
static int keep_true(struct lab *lab, struct follower *follower, const struct ruleset *desired,
		     unsigned tries, struct error *error)
{
	int r = -EAGAIN;

	for (; tries && r < 0; tries--) {
		CLEANUP(arena_freep) struct arena *arena = arena_new();
		struct observed observed;
		struct verdicts verdicts;

		*error = (struct error){0};
		r = kernel_read(follower->kernel, arena, &observed, error);
		if (r == 0) {
			assert_int_equal(plan_make(arena, desired, &observed, 0, &verdicts), 0);
			r = kernel_read_counters(follower->kernel, &verdicts, error);
		}
		if (r == 0 && !lab_is_empty(&verdicts))
			r = kernel_monitor_commit(follower->monitor, follower->kernel, &verdicts,
						  error);
		if (r < 0)
			assert_int_equal(error->code, r);
	}
	(void)lab;
	return r;
}

static void test_faults_of_open_sockets_are_over_with_the_next_try(void **state)
{
	struct lab *lab = *state;
	struct ruleset a = lab_service(lab, FAMILY_IPV4, 3), b = lab_service(lab, FAMILY_IPV4, 2);
	struct follower follower = {0};
	struct error error;

	fault.overtake = overtake;
	assert_int_equal(loop_new(&follower.loop), 0);
	assert_int_equal(follow(&follower, &error), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		bool there = true, of_a = true;

		for (unsigned at = first_at(i); there; at += every, of_a = !of_a) {
			const struct ruleset *desired = of_a ? &b : &a;

			fault_arm(kind->call, kind->way, kind->code, at);
			(void)keep_true(lab, &follower, desired, 1, &error);
			there = fault_disarm();
			if (keep_true(lab, &follower, desired, 3, &error) < 0)
				wrong(kind, at, "it goes on: %s", error.message);
			if (!stands(lab, desired))
				wrong(kind, at, "it said that it was done");
		}
	}
	unfollow(&follower);
	loop_free(follower.loop);
}

static void test_faults_of_opening_a_namespace_leave_nothing_open(void **state)
{
	struct follower follower = {0};
	struct error error;
	int before, after;

	(void)state;
	assert_int_equal(loop_new(&follower.loop), 0);
	before = dup(STDIN_FILENO);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		bool there = true;

		for (unsigned at = first_at(i); there; at += every) {
			int r;

			fault_arm(kind->call, kind->way, kind->code, at);
			r = follow(&follower, &error);
			there = fault_disarm();
			if (r < 0 && (error.code != r || !error.message[0]))
				wrong(kind, at, "it fails without a word");
			unfollow(&follower);
		}
	}
	/* The lowest that is free is the same one. */
	assert_int_equal(close(before), 0);
	after = dup(STDIN_FILENO);
	assert_int_equal(after, before);
	assert_int_equal(close(after), 0);
	loop_free(follower.loop);
}

/* --- Others in the namespace -------------------------------------------------------------- */

/* Whoever has CAP_NET_ADMIN there may send to any socket of these families, but to ours. */
static void assert_out_of_reach(int family, uint32_t port)
{
	struct {
		struct nlmsghdr header;
		struct nfgenmsg body;
	} forged = {.header = {.nlmsg_len = sizeof(forged), .nlmsg_type = NLMSG_MIN_TYPE}};
	const struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);

	assert_true(fd >= 0 && port != 0);
	assert_int_equal(
		sendto(fd, &forged, sizeof(forged), 0, (const struct sockaddr *)&to, sizeof(to)),
		-1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(close(fd), 0);
}

static void test_sockets_in_a_namespace_take_nothing_from_anybody_there(void **state)
{
	struct lab *lab = *state;
	uint32_t nfnl, route;

	kernel_ports(lab->kernel, &nfnl, &route);
	assert_out_of_reach(NETLINK_NETFILTER, nfnl);
	assert_out_of_reach(NETLINK_ROUTE, route);
	lab_read(lab);
}

/* --- Flows ------------------------------------------------------------------------------ */

static int sweep(const struct flow_filter *filter, size_t *ret_removed, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	CLEANUP(flows_closep) struct flows *flows = NULL;
	int r = netns_open("/proc/self/ns/net", &netns, error);

	if (r == 0)
		r = flows_open(&netns, filter, 1, &flows, error);
	if (r == 0)
		r = flows_sweep(flows, error);
	*ret_removed = flows ? flows_counted(flows).removed : 0;
	return r;
}

static void test_faults_of_a_sweep_are_told_and_the_next_one_takes_the_flow(void **state)
{
	const struct endpoint gone = flow_endpoint("10.0.0.2", 9000);
	const struct flow_filter filter = {.listen = {PROTOCOL_UDP, 53},
					   .family = FAMILY_IPV4,
					   .endpoints = &gone,
					   .count = 1};
	struct flow_lab world;
	struct lab *lab = *state;

	flow_lab_begin(&world, lab);
	flow_lab_set_endpoint(&world, UDP_53, "10.0.0.2", 9000);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		bool there = true;

		if (kind->way == WAY_OVERTAKEN || kind->way == WAY_REFUSED)
			continue;
		for (unsigned at = first_at(i); there; at += every) {
			int fd = flow_lab_send(&world, PROTOCOL_UDP, "127.0.0.1", 53);
			size_t removed = 0, more = 0;
			struct error error = {0};
			int r;

			fault_arm(kind->call, kind->way, kind->code, at);
			r = sweep(&filter, &removed, &error);
			there = fault_disarm();
			if (r < 0 && (error.code != r || !error.message[0]))
				wrong(kind, at, "it fails without a word");
			if (r == 0 && removed != 1)
				wrong(kind, at, "it said that it was done");
			if (sweep(&filter, &more, &error) < 0)
				wrong(kind, at, "the next one fails: %s", error.message);
			assert_true(removed + more <= 1);
			assert_int_equal(close(fd), 0);
			world.client_count--;
		}
	}
	flow_lab_done(&world);
}

/* What a kernel says of the first objects of their kind that it has no code for. */
static void test_faults_of_a_kernel_that_lacks_something_say_what(void **state)
{
	static const struct {
		uint16_t type;
		int code;
		const char *text;
	} cases[] = {
		{NFT_MSG_NEWCHAIN, ENOENT,
		 "adding chain output: No such file or directory (does this kernel have NAT for "
		 "nftables, CONFIG_NFT_NAT? see lsmod for nft_chain_nat)"},
		{NFT_MSG_NEWCHAIN, EOPNOTSUPP,
		 "adding chain output: Operation not supported (does this kernel have NAT for "
		 "nftables, CONFIG_NFT_NAT? see lsmod for nft_chain_nat)"},
		{NFT_MSG_NEWRULE, ENOENT,
		 "adding a rule of chain output: No such file or directory (is this kernel 5.10 or "
		 "later, with CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_REJECT, "
		 "CONFIG_NFT_NUMGEN and CONFIG_NFT_CT?)"},
		{NFT_MSG_NEWSET, ENOENT, "adding set services4: No such file or directory"},
		{NFT_MSG_NEWCHAIN, EBUSY, "adding chain output: Device or resource busy"},
	};
	struct lab *lab = *state;
	struct ruleset desired = lab_service(lab, FAMILY_IPV4, 1);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r;

		lab_plan(lab, &desired);
		fault_arm(CALL_SEND, WAY_REFUSED, cases[i].code, 1);
		fault.refused_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | cases[i].type);
		r = kernel_commit(lab->kernel, &lab->verdicts, &lab->error);
		assert_true(fault_disarm());
		assert_int_equal(r, -cases[i].code);
		assert_string_equal(lab->error.message, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_faults_of_any_call_leave_the_old_or_the_new_rules),
		lab_test(test_faults_of_any_call_keep_the_guard_before_the_sysctl),
		lab_test(test_faults_of_open_sockets_are_over_with_the_next_try),
		lab_test(test_faults_of_opening_a_namespace_leave_nothing_open),
		lab_test(test_sockets_in_a_namespace_take_nothing_from_anybody_there),
		lab_test(test_faults_of_a_sweep_are_told_and_the_next_one_takes_the_flow),
		lab_test(test_faults_of_a_kernel_that_lacks_something_say_what),
	};

	return cmocka_run_group_tests_name("faults", tests, faults_begin, lab_group_end);
}
