/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Messages about flows: what is sent is compared with golden bytes, as a
 * little-endian machine writes them; what comes is made by hand, cut off at
 * every length, and changed at random. Filters are compared with the plainest
 * idea of them.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/inet_diag.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>

#include "../src/kernel/flow.h"
#include "../src/kernel/flow_filter.h"
#include "../src/kernel/flow_socket.h"
#include "../src/kernel/netlink.h"
#include "dragoman/base/text.h"
#include "random.h"

static struct endpoint endpoint_of(const char *address, uint16_t port)
{
	struct endpoint endpoint = {.port = port};

	assert_int_equal(endpoint_parse_address(address, strlen(address), &endpoint), 0);
	return endpoint;
}

static struct flow flow_of(enum family family, enum protocol protocol)
{
	const bool six = family == FAMILY_IPV6;

	return (struct flow){
		.from = endpoint_of(six ? "::1" : "127.0.0.1", 40000),
		.to = endpoint_of(six ? "::1" : "127.0.0.1", 53),
		.endpoint = endpoint_of(six ? "2001:db8::2" : "10.0.0.2", 5353),
		.id = 0x44332211,
		.protocol = (uint8_t)protocol,
	};
}

/* --- Encoding ------------------------------------------------------------------------ */

static void assert_bytes(const struct nlmsghdr *message, const char *wanted)
{
	CLEANUP(text_done) struct text text = {0};
	const unsigned char *bytes = (const unsigned char *)message;

	for (uint32_t i = 0; i < message->nlmsg_len; i++)
		text_printf(&text, "%02x%s", bytes[i], i % 4 == 3 ? " " : "");
	assert_false(text.failed);
	assert_string_equal(text.data, wanted);
}

static void test_encode_of_a_dump_of_one_endpoint_is_golden(void **state)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	const struct flow_question question = {
		.family = FAMILY_IPV4,
		.protocol = PROTOCOL_UDP,
		.has_port = true,
		.has_address = true,
		.has_endpoint_port = true,
		.port = 53,
		.endpoint = endpoint_of("10.0.0.2", 5353),
	};

	(void)state;
	assert_bytes(flow_encode_dump(buffer, &question),
		     "70000000 01010103 00000000 00000000 02000000 "
		     /* to 127.0.0.1, UDP, port 53 */
		     "24000180 0c000180 08000200 7f000001 14000280 05000100 11000000 06000300 "
		     "00350000 "
		     /* from 10.0.0.2, UDP, port 5353 */
		     "24000280 0c000180 08000100 0a000002 14000280 05000100 11000000 06000200 "
		     "14e90000 "
		     /* destination, protocol, destination port; source, protocol, source port */
		     "14001980 08000100 2a000000 08000200 19000000 ");
}

static void test_encode_of_a_dump_with_ipv6_asks_for_no_address(void **state)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	const struct flow_question question = {
		.family = FAMILY_IPV6,
		.protocol = PROTOCOL_TCP,
		.has_port = true,
		.has_address = true,
		.port = 80,
		.endpoint = endpoint_of("2001:db8::2", 0),
	};

	(void)state;
	assert_bytes(flow_encode_dump(buffer, &question),
		     "38000000 01010103 00000000 00000000 0a000000 "
		     "18000180 14000280 05000100 06000000 06000300 00500000 "
		     "0c001980 08000100 28000000 ");
}

static void test_encode_of_a_removal_names_the_whole_flow(void **state)
{
	NETLINK_BUFFER(buffer, FLOW_MESSAGE_MAX);
	NETLINK_BUFFER(other, FLOW_MESSAGE_MAX);
	struct flow flow = flow_of(FAMILY_IPV4, PROTOCOL_UDP);

	(void)state;
	assert_bytes(flow_encode_remove(buffer, &flow),
		     "50000000 02010100 00000000 00000000 02000000 "
		     "34000180 14000180 08000100 7f000001 08000200 7f000001 "
		     "1c000280 05000100 11000000 06000200 9c400000 06000300 00350000 "
		     "08000c00 11223344 ");
	flow = flow_of(FAMILY_IPV6, PROTOCOL_TCP);
	flow.has_zone = flow.has_tuple_zone = true;
	flow.zone = htons(5);
	flow.tuple_zone = htons(7);
	assert_bytes(flow_encode_remove(other, &flow),
		     "78000000 02010100 00000000 00000000 0a000000 "
		     "54000180 2c000180 14000300 00000000 00000000 00000000 00000001 "
		     "14000400 00000000 00000000 00000000 00000001 "
		     "1c000280 05000100 06000000 06000200 9c400000 06000300 00350000 "
		     "06000300 00070000 06001200 00050000 08000c00 11223344 ");
}

static void test_encode_of_socket_questions_is_golden(void **state)
{
	NETLINK_BUFFER(get, FLOW_MESSAGE_MAX);
	NETLINK_BUFFER(end, FLOW_MESSAGE_MAX);
	NETLINK_BUFFER(probe, FLOW_MESSAGE_MAX);
	const struct flow flow = flow_of(FAMILY_IPV4, PROTOCOL_TCP);
	const struct flow_socket found = {{0x04030201, 0x08070605}};

	(void)state;
	assert_bytes(flow_socket_encode_get(get, &flow),
		     "48000000 14000100 00000000 00000000 02060000 ffffffff 9c400035 "
		     "7f000001 00000000 00000000 00000000 7f000001 00000000 00000000 00000000 "
		     "00000000 ffffffff ffffffff ");
	assert_bytes(flow_socket_encode_close(end, &flow, &found),
		     "48000000 15000100 00000000 00000000 02060000 ffffffff 9c400035 "
		     "7f000001 00000000 00000000 00000000 7f000001 00000000 00000000 00000000 "
		     "00000000 01020304 05060708 ");
	assert_bytes(flow_socket_encode_probe(probe),
		     "48000000 14000103 00000000 00000000 02060000 00000000 00000000 "
		     "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 "
		     "00000000 ffffffff ffffffff ");
}

/* --- Decoding ------------------------------------------------------------------------ */

enum { ENTRY_MAX = 512 };

static void put_side(struct nlmsghdr *message, uint16_t type, const struct flow *flow,
		     const struct endpoint *source, const struct endpoint *destination)
{
	const bool six = source->family == FAMILY_IPV6;
	struct nlattr *tuple = mnl_attr_nest_start(message, type), *nest;

	nest = mnl_attr_nest_start(message, CTA_TUPLE_IP);
	mnl_attr_put(message, six ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, six ? 16 : 4, source->address);
	mnl_attr_put(message, six ? CTA_IP_V6_DST : CTA_IP_V4_DST, six ? 16 : 4,
		     destination->address);
	mnl_attr_nest_end(message, nest);
	nest = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(message, CTA_PROTO_NUM, flow->protocol);
	mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(source->port));
	mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(destination->port));
	mnl_attr_nest_end(message, nest);
	if (flow->has_tuple_zone && type == CTA_TUPLE_ORIG)
		mnl_attr_put_u16(message, CTA_TUPLE_ZONE, flow->tuple_zone);
	mnl_attr_nest_end(message, tuple);
}

/* As the kernel tells of a flow; what is answered to is not looked at. */
static struct nlmsghdr *make_entry(void *into, const struct flow *flow)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(into);
	struct nfgenmsg *header;

	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	header = mnl_nlmsg_put_extra_header(message, sizeof(*header));
	header->nfgen_family = flow->to.family == FAMILY_IPV6 ? AF_INET6 : AF_INET;
	put_side(message, CTA_TUPLE_ORIG, flow, &flow->from, &flow->to);
	put_side(message, CTA_TUPLE_REPLY, flow, &flow->endpoint, &flow->from);
	mnl_attr_put_u32(message, CTA_STATUS, htonl(8));
	if (flow->has_zone)
		mnl_attr_put_u16(message, CTA_ZONE, flow->zone);
	mnl_attr_put_u32(message, CTA_ID, flow->id);
	return message;
}

static void assert_same_flow(const struct flow *a, const struct flow *b)
{
	assert_int_equal(endpoint_compare(&a->from, &b->from), 0);
	assert_int_equal(endpoint_compare(&a->to, &b->to), 0);
	assert_int_equal(endpoint_compare(&a->endpoint, &b->endpoint), 0);
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->protocol, b->protocol);
	assert_int_equal(a->has_zone, b->has_zone);
	assert_int_equal(a->zone, b->zone);
	assert_int_equal(a->has_tuple_zone, b->has_tuple_zone);
	assert_int_equal(a->tuple_zone, b->tuple_zone);
}

static struct endpoint random_endpoint(struct random *random, enum family family)
{
	struct endpoint endpoint = {.family = (uint16_t)family,
				    .port = (uint16_t)(1 + random_below(random, 4))};

	endpoint.address[family == FAMILY_IPV6 ? 15 : 3] = (uint8_t)random_below(random, 4);
	if (random_once_in(random, 3))
		endpoint = flow_localhost(family, endpoint.port);
	return endpoint;
}

static struct flow random_flow(struct random *random)
{
	enum family family = random_below(random, 2) ? FAMILY_IPV6 : FAMILY_IPV4;
	struct flow flow = {
		.from = random_endpoint(random, family),
		.to = random_endpoint(random, family),
		.endpoint = random_endpoint(random, family),
		.id = (uint32_t)random_next(random),
		.protocol = random_below(random, 2) ? PROTOCOL_UDP : PROTOCOL_TCP,
		.has_zone = random_once_in(random, 4),
		.has_tuple_zone = random_once_in(random, 4),
	};

	if (!random_once_in(random, 4))
		flow.to = flow_localhost(family, flow.to.port);
	if (flow.has_zone)
		flow.zone = (uint16_t)random_next(random);
	if (flow.has_tuple_zone)
		flow.tuple_zone = (uint16_t)random_next(random);
	return flow;
}

static void test_decode_of_an_entry_gives_the_flow(void **state)
{
	struct random random = {.state = random_first_seed(1)};

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		NETLINK_BUFFER(buffer, ENTRY_MAX);
		struct flow flow = random_flow(&random), decoded;

		assert_true(flow_decode(make_entry(buffer, &flow), &decoded));
		assert_same_flow(&decoded, &flow);
	}
}

/* The message in memory that ends where it does, for the sanitizer to watch. */
static bool decode_copy(const struct nlmsghdr *message, struct flow *ret)
{
	CLEANUP(memory_free) struct nlmsghdr *copy = malloc(message->nlmsg_len);

	assert_non_null(copy);
	memcpy(copy, message, message->nlmsg_len);
	return flow_decode(copy, ret);
}

static void test_decode_survives_whatever_comes(void **state)
{
	const unsigned long seed = random_first_seed(2);
	struct random random = {.state = seed};

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		NETLINK_BUFFER(buffer, ENTRY_MAX);
		struct flow flow = random_flow(&random), decoded;
		struct nlmsghdr *message = make_entry(buffer, &flow);
		const uint32_t length = message->nlmsg_len;

		/* Without its last attribute, the number, it is no entry of ours. */
		for (uint32_t cut = sizeof(*message); cut < length; cut++) {
			message->nlmsg_len = cut;
			assert_false(decode_copy(message, &decoded));
		}
		message->nlmsg_len = length;
		for (unsigned changes = 0; changes < 20; changes++) {
			buffer[sizeof(*message) +
			       random_below(&random, length - sizeof(*message))] = (char)
				random_next(&random);
			(void)decode_copy(message, &decoded);
		}
	}
}

static void test_decode_passes_over_what_is_no_flow_of_ours(void **state)
{
	struct flow flow = flow_of(FAMILY_IPV4, PROTOCOL_UDP), decoded;
	alignas(struct nlmsghdr) char buffer[ENTRY_MAX] = {0};
	struct nlmsghdr *message = make_entry(buffer, &flow);
	struct nfgenmsg *header = mnl_nlmsg_get_payload(message);

	(void)state;
	assert_true(flow_decode(message, &decoded));
	header->nfgen_family = AF_INET6;
	assert_false(flow_decode(message, &decoded));
	header->nfgen_family = AF_BRIDGE;
	assert_false(flow_decode(message, &decoded));
	header->nfgen_family = AF_INET;
	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
	assert_false(flow_decode(message, &decoded));
	memset(buffer, 0, sizeof(buffer));
	flow.protocol = 132; /* SCTP */
	assert_false(flow_decode(make_entry(buffer, &flow), &decoded));
}

static void test_decode_of_a_socket_wants_the_flow_s_own(void **state)
{
	const struct flow flow = flow_of(FAMILY_IPV4, PROTOCOL_TCP);
	const struct flow six = flow_of(FAMILY_IPV6, PROTOCOL_TCP);
	static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
	NETLINK_BUFFER(buffer, ENTRY_MAX);
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct inet_diag_msg *found = mnl_nlmsg_put_extra_header(message, sizeof(*found));
	struct flow_socket socket;

	(void)state;
	message->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	found->idiag_family = AF_INET;
	found->idiag_state = TCP_SYN_SENT;
	found->id.idiag_sport = htons(40000);
	found->id.idiag_dport = htons(53);
	found->id.idiag_cookie[1] = 9;
	memcpy(found->id.idiag_src, flow.from.address, 16);
	memcpy(found->id.idiag_dst, flow.to.address, 16);
	assert_true(flow_socket_decode(message, &flow, &socket));
	assert_int_equal(socket.cookie[1], 9);
	assert_false(flow_socket_decode(message, &six, &socket));
	found->idiag_state = TCP_LISTEN;
	assert_false(flow_socket_decode(message, &flow, &socket));
	found->idiag_state = TCP_ESTABLISHED;
	found->id.idiag_dport = htons(54);
	assert_false(flow_socket_decode(message, &flow, &socket));
	found->id.idiag_dport = htons(53);
	/* A socket of IPv6 that talks IPv4. */
	found->idiag_family = AF_INET6;
	assert_false(flow_socket_decode(message, &flow, &socket));
	memcpy(found->id.idiag_src, mapped, 16);
	memcpy(found->id.idiag_dst, mapped, 16);
	assert_true(flow_socket_decode(message, &flow, &socket));
	memcpy(found->id.idiag_src, six.from.address, 16);
	memcpy(found->id.idiag_dst, six.to.address, 16);
	assert_false(flow_socket_decode(message, &flow, &socket));
	assert_true(flow_socket_decode(message, &six, &socket));
	message->nlmsg_len -= 4;
	assert_false(flow_socket_decode(message, &six, &socket));
}

static void test_decode_of_a_count_wants_it_whole(void **state)
{
	NETLINK_BUFFER(buffer, ENTRY_MAX);
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	uint32_t count = 7;

	(void)state;
	message->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS;
	assert_false(flow_decode_count(message, &count));
	(void)mnl_nlmsg_put_extra_header(message, sizeof(struct nfgenmsg));
	mnl_attr_put_u16(message, CTA_STATS_GLOBAL_ENTRIES, 1);
	assert_false(flow_decode_count(message, &count));
	assert_int_equal(count, 7);
	mnl_attr_put_u32(message, CTA_STATS_GLOBAL_ENTRIES, htonl(258));
	assert_true(flow_decode_count(message, &count));
	assert_int_equal(count, 258);
}

/* --- Filters ------------------------------------------------------------------------- */

enum { FILTERS_MAX = 6, ENDPOINTS = 4 };

struct filters {
	struct flow_filter items[FILTERS_MAX];
	struct endpoint endpoints[FILTERS_MAX][ENDPOINTS];
	size_t count;
};

static void random_filters(struct random *random, struct filters *ret)
{
	ret->count = 1 + random_below(random, FILTERS_MAX);
	for (size_t i = 0; i < ret->count; i++) {
		struct flow_filter *filter = &ret->items[i];

		*filter = (struct flow_filter){
			.listen = {random_below(random, 2) ? PROTOCOL_UDP : PROTOCOL_TCP,
				   (uint16_t)(1 + random_below(random, 4))},
			.family = random_below(random, 2) ? FAMILY_IPV6 : FAMILY_IPV4,
			.others = random_once_in(random, 3),
			.endpoints = ret->endpoints[i],
			.count = random_below(random, ENDPOINTS + 1),
		};
		for (size_t k = 0; k < filter->count; k++)
			ret->endpoints[i][k] = random_endpoint(random, filter->family);
	}
}

static bool is_for(const struct flow_filter *filter, const struct flow *flow)
{
	const struct endpoint localhost = endpoint_of(
		filter->family == FAMILY_IPV6 ? "::1" : "127.0.0.1", filter->listen.port);

	return flow->protocol == filter->listen.protocol &&
	       memcmp(&flow->to, &localhost, sizeof(localhost)) == 0;
}

static bool names(const struct flow_filter *filter, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < filter->count; i++) {
		if (memcmp(&filter->endpoints[i], endpoint, sizeof(*endpoint)) == 0)
			return true;
	}
	return false;
}

/* The plainest idea of what filters mean. */
static bool naive_matches(const struct filters *filters, const struct flow *flow)
{
	bool led_to = false, others = false, stays = false;

	for (size_t i = 0; i < filters->count; i++) {
		const struct flow_filter *filter = &filters->items[i];

		if (!is_for(filter, flow))
			continue;
		others |= filter->others;
		led_to |= !filter->others && names(filter, &flow->endpoint);
		stays |= filter->others && names(filter, &flow->endpoint);
	}
	return led_to || (others && !stays);
}

/* What the kernel would leave out. */
static bool passes(const struct flow_question *question, const struct flow *flow)
{
	return question->family == flow->to.family && question->protocol == flow->protocol &&
	       (!question->has_port || question->port == flow->to.port) &&
	       (!question->has_endpoint_port || question->endpoint.port == flow->endpoint.port) &&
	       (!question->has_address ||
		memcmp(question->endpoint.address, flow->endpoint.address, 16) == 0);
}

static unsigned count_asked(const struct flow_table *table, const struct flow *flow)
{
	struct flow_question question;
	unsigned asked = 0;

	for (size_t i = 0; i < table->count;) {
		i = flow_table_ask(table, i, &question);
		asked += passes(&question, flow);
	}
	return asked;
}

static void test_filters_match_what_they_name(void **state)
{
	const unsigned long first = random_first_seed(1);
	size_t matched = 0, left_out = 0;

	(void)state;
	for (unsigned long seed = first; seed < first + 2000; seed++) {
		struct random random = {.state = seed};
		struct filters filters;
		struct flow_table table;

		random_filters(&random, &filters);
		assert_int_equal(flow_table_make(filters.items, filters.count, &table), 0);
		for (unsigned i = 0; i < 50; i++) {
			struct flow flow = random_flow(&random);
			const bool wanted = naive_matches(&filters, &flow);
			const unsigned asked = count_asked(&table, &flow);

			if (flow_table_matches(&table, &flow) != wanted)
				fail_msg("SEED=%lu: flow %u is matched wrongly", seed, i);
			if (asked > 1 || (wanted && !asked))
				fail_msg("SEED=%lu: flow %u is asked for %u times", seed, i, asked);
			matched += wanted;
			left_out += !asked;
		}
		flow_table_done(&table);
	}
	assert_true(matched > 5000);
	assert_true(left_out > 20000);
}

static void test_filters_of_one_service_are_one_question(void **state)
{
	struct endpoint gone[1000];
	struct flow_filter filters[1000];
	struct flow_question question;
	struct flow_table table;
	struct flow flow = flow_of(FAMILY_IPV4, PROTOCOL_UDP);

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		gone[i] = endpoint_of("10.0.0.2", (uint16_t)(6000 + i));
		filters[i] = (struct flow_filter){
			.listen = {PROTOCOL_UDP, 53}, .endpoints = &gone[i], .count = 1};
	}
	assert_int_equal(flow_table_make(filters, 1000, &table), 0);
	assert_int_equal(flow_table_ask(&table, 0, &question), 1000);
	assert_true(question.has_port && question.has_address && !question.has_endpoint_port);
	assert_false(flow_table_matches(&table, &flow));
	flow.endpoint.port = 6999;
	assert_true(flow_table_matches(&table, &flow));
	assert_true(flow_table_has(&table, PROTOCOL_UDP));
	assert_false(flow_table_has(&table, PROTOCOL_TCP));
	flow_table_done(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode_of_a_dump_of_one_endpoint_is_golden),
		cmocka_unit_test(test_encode_of_a_dump_with_ipv6_asks_for_no_address),
		cmocka_unit_test(test_encode_of_a_removal_names_the_whole_flow),
		cmocka_unit_test(test_encode_of_socket_questions_is_golden),
		cmocka_unit_test(test_decode_of_an_entry_gives_the_flow),
		cmocka_unit_test(test_decode_survives_whatever_comes),
		cmocka_unit_test(test_decode_passes_over_what_is_no_flow_of_ours),
		cmocka_unit_test(test_decode_of_a_socket_wants_the_flow_s_own),
		cmocka_unit_test(test_decode_of_a_count_wants_it_whole),
		cmocka_unit_test(test_filters_match_what_they_name),
		cmocka_unit_test(test_filters_of_one_service_are_one_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
