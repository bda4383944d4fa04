/* SPDX-License-Identifier: MIT */
#include "dragoman/kernel/others.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dragoman/base/text.h"
#include "netlink.h"
#include "others_rule.h"
#include "schema.h"

/*
 * Theory of operation: sockets are opened inside the namespace. nftables lists
 * the chains of all tables, and of those that translate at output the rules;
 * what iptables-nft writes is among them. iptables-legacy is asked the way it
 * asks itself, by getsockopt(2): whether the namespace has its table is looked
 * up in /proc first, since the question alone would make one.
 */

enum { CHAINS_MAX = 64, ASK_SIZE = 256, TABLE_BYTES_MAX = 16 * 1024 * 1024, NAMES_MAX = 4096 };

struct search {
	const struct listen *listen;
	struct arena *arena;
	struct kernel_other *others;
	size_t count;
	struct nftnl_chain *chains[CHAINS_MAX]; /* of others, by index; NULL: none of nftables */
	bool out_of_memory;
};

static void search_done(struct search *search)
{
	for (size_t i = 0; i < search->count; i++) {
		if (search->chains[i])
			nftnl_chain_free(search->chains[i]);
	}
}

/* --- nftables --------------------------------------------------------------------- */

static bool is_of_interest(const struct nftnl_chain *chain)
{
	const char *type = nftnl_chain_get_str(chain, NFTNL_CHAIN_TYPE);
	const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
	uint32_t family = nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY);

	if (!type || !table || !nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM))
		return false;
	if (family == NFPROTO_INET && strcmp(table, SCHEMA_TABLE) == 0)
		return false;
	return strcmp(type, "nat") == 0 && (family == NFPROTO_INET || family == NFPROTO_IPV4) &&
	       nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM) == NF_INET_LOCAL_OUT;
}

/* "chain OUTPUT of table ip nat" */
static const char *name_chain(struct arena *arena, const struct nftnl_chain *chain)
{
	const char *name = nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME);
	const char *table = nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE);
	CLEANUP(text_done) struct text text = {0};

	text_puts(&text, "chain ");
	text_add_printable(&text, name ? name : "?", strlen(name ? name : "?"));
	text_puts(&text, nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY) == NFPROTO_INET
				 ? " of table inet "
				 : " of table ip ");
	text_add_printable(&text, table, strlen(table));
	return text.failed ? NULL : arena_text(arena, text.data, text.length);
}

static int on_chain(const struct nlmsghdr *message, void *user)
{
	struct search *search = user;
	struct nftnl_chain *chain = nftnl_chain_alloc();

	if (!chain)
		return -ENOMEM;
	if (search->count == CHAINS_MAX || nftnl_chain_nlmsg_parse(message, chain) < 0 ||
	    !is_of_interest(chain)) {
		nftnl_chain_free(chain);
		return 0;
	}
	search->others[search->count].where = name_chain(search->arena, chain);
	search->chains[search->count++] = chain;
	return search->others[search->count - 1].where ? 0 : -ENOMEM;
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static int on_rule(const struct nlmsghdr *message, void *user)
{
	struct search *search = user;
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (!rule)
		return -ENOMEM;
	if (nftnl_rule_nlmsg_parse(message, rule) < 0) {
		nftnl_rule_free(rule);
		return 0;
	}
	for (size_t i = 0; i < search->count; i++) {
		const struct nftnl_chain *chain = search->chains[i];

		if (!same(nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
			  nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN)) ||
		    !same(nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE),
			  nftnl_rule_get_str(rule, NFTNL_RULE_TABLE)) ||
		    nftnl_chain_get_u32(chain, NFTNL_CHAIN_FAMILY) !=
			    nftnl_rule_get_u32(rule, NFTNL_RULE_FAMILY))
			continue;
		search->others[i].rules++;
		search->others[i].fitting += rule_may_match(rule, search->listen);
	}
	nftnl_rule_free(rule);
	return 0;
}

static int ask(struct netlink *netlink, uint16_t type, const char *what, netlink_function *function,
	       struct search *search, struct error *error)
{
	NETLINK_BUFFER(buffer, ASK_SIZE);
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *family;

	message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	family = mnl_nlmsg_put_extra_header(message, sizeof(*family));
	family->nfgen_family = NFPROTO_UNSPEC;
	family->version = NFNETLINK_V0;
	return netlink_ask(netlink, message, what, function, search, error);
}

static int search_nftables(struct search *search, struct error *error)
{
	struct netlink netlink = {0};
	int code = netlink_open(&netlink, NETLINK_NETFILTER, error);

	if (code < 0)
		return code;
	code = ask(&netlink, NFT_MSG_GETCHAIN, "listing the chains of others", on_chain, search,
		   error);
	if (code == 0 && search->count)
		code = ask(&netlink, NFT_MSG_GETRULE, "listing the rules of others", on_rule,
			   search, error);
	netlink_close(&netlink);
	return code;
}

/* --- iptables-legacy -------------------------------------------------------------- */

static bool has_legacy_nat(void)
{
	CLEANUP(memory_free) char *names = NULL;
	size_t length;

	if (text_read_file("/proc/thread-self/net/ip_tables_names", NAMES_MAX, &names, &length) < 0)
		return false;
	for (char *line = names; *line;) {
		size_t end = strcspn(line, "\n");

		if (end == 3 && memcmp(line, "nat", 3) == 0)
			return true;
		line += end + (line[end] ? 1 : 0);
	}
	return false;
}

/* What is between the beginning of the chain OUTPUT and its policy. */
static void count_entries(const struct ipt_getinfo *info, const struct ipt_get_entries *table,
			  const struct listen *listen, struct kernel_other *ret)
{
	const char *entries = (const char *)table->entrytable;
	size_t at = info->hook_entry[NF_INET_LOCAL_OUT];
	size_t end = info->underflow[NF_INET_LOCAL_OUT];
	struct ipt_entry head;

	while (at + sizeof(head) <= end && end <= table->size) {
		memcpy(&head, entries + at, sizeof(head));
		if (head.next_offset < sizeof(head) || head.next_offset > end - at)
			break;
		ret->rules++;
		ret->fitting += entry_may_match(entries + at, head.next_offset, listen);
		at += head.next_offset;
	}
}

static int read_legacy(int fd, const struct listen *listen, struct kernel_other *ret)
{
	struct ipt_getinfo info = {.name = "nat"};
	socklen_t length = sizeof(info);
	CLEANUP(memory_free) struct ipt_get_entries *table = NULL;

	if (getsockopt(fd, IPPROTO_IP, IPT_SO_GET_INFO, &info, &length) < 0)
		return -errno;
	if (info.size > TABLE_BYTES_MAX)
		return -EFBIG;
	table = calloc(1, sizeof(*table) + info.size);
	if (!table)
		return -ENOMEM;
	memcpy(table->name, info.name, sizeof(table->name));
	table->size = info.size;
	length = (socklen_t)(sizeof(*table) + info.size);
	if (getsockopt(fd, IPPROTO_IP, IPT_SO_GET_ENTRIES, table, &length) < 0)
		return -errno;
	count_entries(&info, table, listen, ret);
	return 0;
}

static void search_legacy(struct search *search)
{
	CLEANUP(fd_close) int fd = -1;
	struct kernel_other other = {.where = "chain OUTPUT of table nat", .is_legacy = true};

	if (!has_legacy_nat() || search->count == CHAINS_MAX)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* It may have changed between the two questions: then it is not told this time. */
	if (fd < 0 || read_legacy(fd, search->listen, &other) < 0)
		return;
	search->others[search->count++] = other;
}

static int search_inside(void *user, struct error *error)
{
	struct search *search = user;
	int code = search_nftables(search, error);

	search_legacy(search);
	return code;
}

int kernel_others(const struct netns *netns, const struct listen *listen, struct arena *arena,
		  struct kernel_other **ret, size_t *ret_count, struct error *error)
{
	CLEANUP(search_done) struct search search = {.listen = listen, .arena = arena};
	size_t kept = 0;
	int code;

	search.others = arena_array(arena, CHAINS_MAX, sizeof(*search.others));
	if (!search.others)
		return error_no_memory(error);
	code = netns_call(netns, search_inside, &search, error);
	for (size_t i = 0; i < search.count; i++) {
		if (search.others[i].rules)
			search.others[kept++] = search.others[i];
	}
	*ret = search.others;
	*ret_count = kept;
	return code;
}
