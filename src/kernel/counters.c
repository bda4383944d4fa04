/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Counters are asked for by key, a few elements at a time: those of what is
 * known to stand, so that nobody who adds elements to the maps can make a look
 * at them long, and those of endpoints that move to another slot, which take
 * their counters along.
 */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>

#include "decode.h"
#include "element.h"
#include "kernel_private.h"
#include "netlink.h"
#include "schema.h"

/* Elements that are asked for at once: their answers fit into any socket's queue. */
enum { LOOKUPS = 16, LOOKUP_SIZE = 64 };

static void put_lookup(struct nlmsghdr *message, enum set_kind set,
		       const struct observed_endpoint *wanted)
{
	uint8_t key[ELEMENT_KEY_MAX];
	size_t length = element_key(set, &wanted->listen, wanted->slot, key);
	struct nlattr *element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	struct nlattr *nest = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);

	mnl_attr_put(message, NFTA_DATA_VALUE, length, key);
	mnl_attr_nest_end(message, nest);
	mnl_attr_nest_end(message, element);
}

/* What was found comes in the order in which it was asked for. */
static int take_counters(const struct decoder *decoder, struct observed_endpoint *endpoints,
			 size_t count, struct error *error)
{
	bool same = decoder->observed->endpoint_count == count;

	for (size_t i = 0; i < count && same; i++) {
		const struct observed_endpoint *found = &decoder->endpoints[i];

		same = found->slot == endpoints[i].slot &&
		       listen_compare(&found->listen, &endpoints[i].listen) == 0 &&
		       endpoint_compare(&found->endpoint, &endpoints[i].endpoint) == 0;
		endpoints[i].packets = found->packets;
		endpoints[i].bytes = found->bytes;
	}
	return same ? 0
		    : error_set(error, -EAGAIN, ERROR_CONFLICT,
				"the ruleset has changed since it was read");
}

/* Up to LOOKUPS of one family. */
static int look_up(struct kernel *kernel, uint32_t generation, struct observed_endpoint *endpoints,
		   size_t count, struct error *error)
{
	NETLINK_BUFFER(buffer, KERNEL_QUESTION_SIZE + LOOKUPS * LOOKUP_SIZE);
	struct observed found = {.generation = generation};
	CLEANUP(decoder_done)
	struct decoder decoder = {.observed = &found,
				  .set = SET_OF(SET_ENDPOINTS4, endpoints[0].endpoint.family)};
	struct nlmsghdr *message = kernel_question(buffer, NFT_MSG_GETSETELEM, 0);
	struct nlattr *list;
	int r;

	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, SCHEMA_TABLE);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set_name(decoder.set));
	list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	for (size_t i = 0; i < count; i++)
		put_lookup(message, decoder.set, &endpoints[i]);
	mnl_attr_nest_end(message, list);
	r = netlink_ask(kernel_nfnl(kernel), message, "reading a counter", decode_elements,
			&decoder, error);
	/* They were there in the generation that they are known of. */
	if (r == -ENOENT || r == -EAGAIN)
		found.endpoint_count = 0;
	else if (r < 0)
		return r;
	return take_counters(&decoder, endpoints, count, error);
}

int kernel_read_endpoints(struct kernel *kernel, struct observed_endpoint *endpoints, size_t count,
			  struct error *error)
{
	struct observed now = {0};
	int r = count ? kernel_read_generation(kernel, &now, error) : 0;

	for (size_t i = 0, some; i < count && r == 0; i += some) {
		for (some = 1; some < LOOKUPS && i + some < count; some++) {
			if (endpoints[i + some].endpoint.family != endpoints[i].endpoint.family)
				break;
		}
		r = look_up(kernel, now.generation, &endpoints[i], some, error);
	}
	return r;
}

/* Of the element in the slot that a verdict moves it from. */
static int read_counter(struct kernel *kernel, uint32_t generation,
			struct endpoint_verdict *verdict, struct error *error)
{
	struct observed_endpoint wanted = {
		.listen = verdict->listen, .slot = verdict->from, .endpoint = verdict->endpoint};
	int r = look_up(kernel, generation, &wanted, 1, error);

	verdict->packets = wanted.packets;
	verdict->bytes = wanted.bytes;
	return r;
}

int kernel_read_counters(struct kernel *kernel, struct verdicts *verdicts, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < verdicts->endpoint_count && verdicts->uncounted && r == 0; i++) {
		if (verdicts->endpoints[i].moved)
			r = read_counter(kernel, verdicts->generation, &verdicts->endpoints[i],
					 error);
	}
	return r;
}
