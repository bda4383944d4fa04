/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attr.h"
#include "contention.h"
#include "decode.h"
#include "dragoman/base/text.h"
#include "encode.h"
#include "kernel_private.h"
#include "netlink.h"
#include "route.h"
#include "schema.h"

/*
 * Theory of operation
 *
 * Three handles into a namespace, all opened in one visit: a socket of
 * nfnetlink, one of rtnetlink, and the sysctl's file, which stays that of the
 * namespace it was opened in.
 *
 * Reading starts with the generation of the ruleset and dumps table, sets,
 * chains, rules and elements; whenever a message is of another generation, an
 * element comes twice (see decode_elements.c), or the kernel says that a dump
 * was interrupted, all of it is read again. So what is read was true at one
 * instant, and the transaction that is planned from it carries that generation:
 * the kernel refuses it if anything changed since.
 *
 * The generation that a transaction makes comes back with its answer, sent by
 * the kernel before anybody else could commit. It is not computed: one that
 * came to nothing makes none, and somebody else's may follow at once.
 *
 * A chain that services will go to is there a transaction earlier. A packet
 * keeps to the rules of the generation in which it entered the hook, but finds
 * the elements of the one that is true when it looks; a chain that was made
 * together with the verdict that goes to it has no rules yet in the generation
 * before (nf_tables_commit_chain() of the kernel), so a packet that met the
 * commit would pass through it untranslated, and its connection be refused.
 *
 * The guard stands before localhost is opened, and goes after it is closed:
 * route_localnet is set behind the transaction, and put back before one that
 * removes the table. The routes go the same way, so that the table, which
 * remembers what route_localnet was, stands as long as anything of ours does.
 */

#define LOCALNET_PATH "/proc/sys/net/ipv4/conf/all/route_localnet"

enum { READ_TRIES = 32 };

static const uint64_t held_up = 20000000; /* nanoseconds of sleep that are no accident */

struct kernel {
	struct netlink nfnl;
	struct netlink route;
	int localnet;        /* descriptor of the sysctl */
	uint32_t generation; /* that the last commit made; 0: not known */
	bool held_up;        /* the last commit, by another's */
};

static int open_inside(void *user, struct error *error)
{
	struct kernel *kernel = user;
	int r;

	r = netlink_open(&kernel->nfnl, NETLINK_NETFILTER, error);
	if (r == 0)
		r = netlink_open(&kernel->route, NETLINK_ROUTE, error);
	if (r < 0)
		return r;
	kernel->localnet = open(LOCALNET_PATH, O_RDWR | O_CLOEXEC);
	if (kernel->localnet < 0) /* reading is enough until it has to be changed */
		kernel->localnet = open(LOCALNET_PATH, O_RDONLY | O_CLOEXEC);
	if (kernel->localnet < 0)
		return error_set(error, -errno, error_class_of(errno), "%s: %s", LOCALNET_PATH,
				 strerror(errno));
	return 0;
}

int kernel_open(const struct netns *netns, struct kernel **ret, struct error *error)
{
	CLEANUP(kernel_closep) struct kernel *kernel = calloc(1, sizeof(*kernel));
	int r;

	if (!kernel)
		return error_no_memory(error);
	kernel->localnet = -1;
	r = netns_call(netns, open_inside, kernel, error);
	if (r == 0)
		*ret = TAKE(kernel);
	return r;
}

void kernel_close(struct kernel *kernel)
{
	if (!kernel)
		return;
	netlink_close(&kernel->nfnl);
	netlink_close(&kernel->route);
	fd_close(&kernel->localnet);
	free(kernel);
}

int kernel_netns(const struct kernel *kernel, struct netns *ret, struct error *error)
{
	/* Either may be lost, where it had to be replaced and could not be (mend()). */
	const struct mnl_socket *socket = kernel->nfnl.socket ? kernel->nfnl.socket
							      : kernel->route.socket;

	if (!socket)
		return error_set(error, -EBADF, ERROR_FATAL, "its sockets are lost");
	return netns_open_socket(mnl_socket_get_fd(socket), ret, error);
}

uint32_t kernel_generation(const struct kernel *kernel)
{
	return kernel->generation;
}

bool kernel_was_held_up(const struct kernel *kernel)
{
	return kernel->held_up;
}

struct netlink *kernel_nfnl(struct kernel *kernel)
{
	return &kernel->nfnl;
}

void kernel_ports(const struct kernel *kernel, uint32_t *ret_nfnl, uint32_t *ret_route)
{
	*ret_nfnl = kernel->nfnl.port;
	*ret_route = kernel->route.port;
}

void kernel_closep(struct kernel **kernel)
{
	kernel_close(*kernel);
	*kernel = NULL;
}

static int localnet_read(const struct kernel *kernel, int *ret, struct error *error)
{
	char digits[16];
	ssize_t length = pread(kernel->localnet, digits, sizeof(digits) - 1, 0);

	if (length < 0)
		return error_set(error, -errno, error_class_of(errno), "%s: %s", LOCALNET_PATH,
				 strerror(errno));
	digits[length] = '\0';
	/* Any other number switches it on, too; as found, it is never written back. */
	*ret = atoi(digits) != 0;
	return 0;
}

static int localnet_write(const struct kernel *kernel, int value, struct error *error)
{
	char digits[16];
	int length = snprintf(digits, sizeof(digits), "%d\n", value);

	if (pwrite(kernel->localnet, digits, (size_t)length, 0) == length)
		return 0;
	return error_set(error, -errno, error_class_of(errno),
			 "cannot set net.ipv4.conf.all.route_localnet to %d: %s%s", value,
			 strerror(errno),
			 errno == EBADF ? " (" LOCALNET_PATH " is not writable here)" : "");
}

struct nlmsghdr *kernel_question(char *buffer, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *header;

	message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	message->nlmsg_flags = flags;
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = NFPROTO_INET;
	header->version = NFNETLINK_V0;
	return message;
}

static int take_generation(const struct nlmsghdr *message, void *user)
{
	uint32_t *generation = user;

	if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN))
		return 0;
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_GEN_ID)
			(void)attr_get_be32(attr, generation);
	}
	return 0;
}

int kernel_read_generation(struct kernel *kernel, struct observed *ret, struct error *error)
{
	NETLINK_BUFFER(buffer, KERNEL_QUESTION_SIZE);
	struct nlmsghdr *message = kernel_question(buffer, NFT_MSG_GETGEN, 0);
	int r = netlink_ask(&kernel->nfnl, message, "reading nf_tables", take_generation,
			    &ret->generation, error);

	if (r == -EPERM)
		return error_set(error, r, ERROR_FATAL,
				 "reading nf_tables: %s (root, or CAP_NET_ADMIN, is needed)",
				 strerror(-r));
	if (r == -EINVAL || r == -EOPNOTSUPP)
		return error_set(error, -EPROTONOSUPPORT, ERROR_FATAL,
				 "reading nf_tables: this kernel has none (CONFIG_NF_TABLES)");
	return r;
}

void kernel_confirm_generation(struct kernel *kernel)
{
	struct observed now = {0};
	struct error error;

	if (kernel->generation == 0)
		return;
	if (kernel_read_generation(kernel, &now, &error) < 0 ||
	    now.generation != kernel->generation)
		kernel->generation = 0;
}

static int read_table(struct kernel *kernel, struct decoder *decoder, struct error *error)
{
	NETLINK_BUFFER(buffer, KERNEL_QUESTION_SIZE);
	struct nlmsghdr *message = kernel_question(buffer, NFT_MSG_GETTABLE, 0);
	int r;

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, SCHEMA_TABLE);
	r = netlink_ask(&kernel->nfnl, message, "reading table inet dragoman", decode_table,
			decoder, error);
	return r == -ENOENT ? 0 : r;
}

static int dump(struct kernel *kernel, uint16_t type, uint16_t table_attribute,
		netlink_function *function, struct decoder *decoder, const char *what,
		struct error *error)
{
	NETLINK_BUFFER(buffer, KERNEL_QUESTION_SIZE);
	struct nlmsghdr *message = kernel_question(buffer, type, NLM_F_DUMP);

	if (table_attribute)
		mnl_attr_put_strz(message, table_attribute, SCHEMA_TABLE);
	return netlink_ask(&kernel->nfnl, message, what, function, decoder, error);
}

static int dump_elements(struct kernel *kernel, struct decoder *decoder, enum set_kind set,
			 struct error *error)
{
	NETLINK_BUFFER(buffer, KERNEL_QUESTION_SIZE);
	char what[64];
	struct nlmsghdr *message = kernel_question(buffer, NFT_MSG_GETSETELEM, NLM_F_DUMP);

	decoder->set = set;
	(void)snprintf(what, sizeof(what), "reading the elements of %s", set_name(set));
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, SCHEMA_TABLE);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set_name(set));
	return netlink_ask(&kernel->nfnl, message, what, decode_elements, decoder, error);
}

static int read_inside_table(struct kernel *kernel, struct decoder *decoder, struct error *error)
{
	int r = dump(kernel, NFT_MSG_GETSET, NFTA_SET_TABLE, decode_set, decoder, "listing sets",
		     error);

	/* Chains of all tables come; the kernel has no filter for them. */
	if (r == 0)
		r = dump(kernel, NFT_MSG_GETCHAIN, 0, decode_chain, decoder, "listing chains",
			 error);
	if (r < 0)
		return r;
	decode_chains_end(decoder);
	r = dump(kernel, NFT_MSG_GETRULE, NFTA_RULE_TABLE, decode_rule, decoder, "listing rules",
		 error);
	decode_rules_end(decoder);
	for (unsigned set = 0; set < SET_COUNT && r == 0; set++) {
		if (decoder->observed->has_set[set])
			r = dump_elements(kernel, decoder, (enum set_kind)set, error);
	}
	return r;
}

/* Once; -EINTR, -EAGAIN, -ENOENT or -ENOBUFS where it changed meanwhile, or was lost. */
static int read_once(struct kernel *kernel, struct arena *arena, struct observed *ret,
		     struct error *error)
{
	CLEANUP(decoder_done) struct decoder decoder = {.arena = arena, .observed = ret};
	int r;

	*ret = (struct observed){.saved_localnet = -1};
	r = kernel_read_generation(kernel, ret, error);
	if (r == 0)
		r = read_table(kernel, &decoder, error);
	if (r == 0 && ret->table)
		r = read_inside_table(kernel, &decoder, error);
	if (r == 0 && decode_finish(&decoder) < 0)
		r = error_no_memory(error);
	if (r == 0)
		r = localnet_read(kernel, &ret->localnet, error);
	if (r == 0)
		r = route_read(&kernel->route, arena, ret, error);
	return r;
}

static int mend_inside(void *user, struct error *error)
{
	struct kernel *kernel = user;
	int r = kernel->nfnl.stuck ? netlink_reopen(&kernel->nfnl, error) : 0;

	if (r == 0 && kernel->route.stuck)
		r = netlink_reopen(&kernel->route, error);
	return r;
}

/* A socket whose dump came to no end is replaced by another of the same port. */
static int mend(struct kernel *kernel, struct error *error)
{
	CLEANUP(netns_done) struct netns netns = NETNS_NONE;
	int r;

	if (!kernel->nfnl.stuck && !kernel->route.stuck)
		return 0;
	r = kernel_netns(kernel, &netns, error);
	return r < 0 ? r : netns_call(&netns, mend_inside, kernel, error);
}

int kernel_read(struct kernel *kernel, struct arena *arena, struct observed *ret,
		struct error *error)
{
	int r = 0;

	for (unsigned tries = 0; tries < READ_TRIES; tries++) {
		r = mend(kernel, error);
		if (r == 0)
			r = read_once(kernel, arena, ret, error);
		if (r != -EINTR && r != -EAGAIN && r != -ENOENT && r != -ENOBUFS)
			return r;
	}
	if (r == -ENOBUFS) /* that is not for others to end */
		return r;
	return error_set(error, -EAGAIN, ERROR_CONFLICT,
			 "the ruleset changed while it was read, %d times over", READ_TRIES);
}

static int explain_refusal(const struct batch *batch, const struct netlink_refusal *refusal,
			   struct error *error)
{
	const struct nlmsghdr *message = refusal->seq || refusal->code == -ERESTART
						 ? batch_find(batch, refusal->seq)
						 : NULL;
	char what[ERROR_MESSAGE_MAX / 2] = "sending the transaction";

	if (refusal->code == -ERESTART)
		return error_set(error, -ERESTART, ERROR_CONFLICT,
				 "the ruleset has changed since it was read");
	if (message)
		batch_describe(message, refusal->offset, what, sizeof(what));
	return error_set(error, refusal->code, error_class_of(refusal->code), "%s: %s%s%s%s%s",
			 what, strerror(-refusal->code), refusal->text[0] ? " (the kernel: " : "",
			 refusal->text, refusal->text[0] ? ")" : "",
			 batch_lacking(message, refusal->code));
}

/* Elements alone: nothing in it has the kernel wait for anything but the lock. */
static bool is_plain(const struct verdicts *verdicts)
{
	return !verdicts->table_add && !verdicts->table_remove && verdicts->chain_count == 0 &&
	       verdicts->set_count == 0;
}

static int commit_batch(struct kernel *kernel, const struct verdicts *verdicts, struct error *error)
{
	CLEANUP(batch_done) struct batch batch = {0};
	struct netlink_refusal refusal;
	uint32_t last_seq, generation = 0;
	struct moment before;
	int r = encode_verdicts(&batch, verdicts, &last_seq);

	if (r < 0)
		return error_no_memory(error);
	batch_echo(&batch);
	before = moment_now();
	r = netlink_send_batch(&kernel->nfnl, batch.data, batch.length, last_seq, batch.messages,
			       take_generation, &generation, &refusal);
	kernel->held_up |= is_plain(verdicts) && moment_slept_since(&before, held_up);
	if (r == 0) {
		kernel->generation = generation;
		return 0;
	}
	if (refusal.code == 0)
		return error_set(error, -EAGAIN, ERROR_CONFLICT,
				 "the kernel's answer to the transaction was lost");
	return explain_refusal(&batch, &refusal, error);
}

static int commit_routes(struct kernel *kernel, const struct verdicts *verdicts,
			 struct error *error)
{
	struct error further;
	int first = 0;

	/* One link that refuses is no reason to leave the others out. */
	for (size_t i = 0; i < verdicts->route_count; i++) {
		int r = route_commit(&kernel->route, &verdicts->routes[i],
				     first ? &further : error);

		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

/* What stands beside the table. One that refuses is no reason to leave the other out. */
static int commit_beside(struct kernel *kernel, const struct verdicts *verdicts,
			 struct error *error)
{
	struct error further;
	int first = 0, r;

	if (verdicts->localnet_set)
		first = localnet_write(kernel, verdicts->localnet, error);
	r = commit_routes(kernel, verdicts, first ? &further : error);
	return first ? first : r;
}

static bool is_ahead(const struct chain_verdict *chain)
{
	return chain->verdict == VERDICT_ADD && !chain->name &&
	       (chain->chain.kind == CHAIN_BALANCE || chain->chain.kind == CHAIN_NTH);
}

/* Chains that nothing goes to yet, of a table that stands; the first of the array. */
static size_t split_chains(const struct verdicts *verdicts, struct chain_verdict *ret)
{
	size_t ahead = 0, at;

	for (size_t i = 0; i < verdicts->chain_count; i++)
		ahead += is_ahead(&verdicts->chains[i]);
	at = ahead;
	ahead = 0;
	for (size_t i = 0; i < verdicts->chain_count; i++) {
		const struct chain_verdict *chain = &verdicts->chains[i];

		ret[is_ahead(chain) ? ahead++ : at++] = *chain;
	}
	return ahead;
}

/*
 * In one transaction, or, where a chain is new that services go to, in two:
 * see the theory of operation. Another's transaction in between has the second
 * refused.
 */
static int commit_table(struct kernel *kernel, const struct verdicts *verdicts, struct error *error)
{
	CLEANUP(memory_free) struct chain_verdict *chains = NULL;
	struct verdicts ahead = {.generation = verdicts->generation}, rest = *verdicts;
	int r;

	/* Rules of a chain need the sets: those that are missing come with it. */
	if (verdicts->table_add || verdicts->set_count || verdicts->service_count == 0 ||
	    verdicts->chain_count == 0)
		return commit_batch(kernel, verdicts, error);
	chains = calloc(verdicts->chain_count, sizeof(*chains));
	if (!chains)
		return error_no_memory(error);
	ahead.chains = chains;
	ahead.chain_count = split_chains(verdicts, chains);
	if (ahead.chain_count == 0)
		return commit_batch(kernel, verdicts, error);
	r = commit_batch(kernel, &ahead, error);
	if (r < 0)
		return r;
	/* Without it nothing would tell of another's transaction in between. */
	if (kernel->generation == 0)
		return error_set(error, -EAGAIN, ERROR_CONFLICT,
				 "the kernel's answer to the transaction was lost");
	rest.generation = kernel->generation;
	kernel->generation = 0;
	rest.chains = chains + ahead.chain_count;
	rest.chain_count = verdicts->chain_count - ahead.chain_count;
	return commit_batch(kernel, &rest, error);
}

int kernel_commit(struct kernel *kernel, const struct verdicts *verdicts, struct error *error)
{
	bool leaving = verdicts->table_remove && !verdicts->table_add;
	int r = 0;

	kernel->held_up = false;
	kernel->generation = verdicts_have_batch(verdicts) ? 0 : verdicts->generation;
	if (leaving)
		r = commit_beside(kernel, verdicts, error);
	if (r == 0 && verdicts_have_batch(verdicts))
		r = commit_table(kernel, verdicts, error);
	if (r == 0 && !leaving)
		r = commit_beside(kernel, verdicts, error);
	return r;
}
