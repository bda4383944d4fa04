/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>

#include "dragoman/base/text.h"

#include "attr.h"
#include "batch.h"
#include "element.h"

/*
 * What a message of a batch is about, read back from the message: nothing has
 * to be remembered for the case that the kernel refuses it.
 */

struct description {
	const char *chain;
	const char *set;
	const struct nlattr *elements;
};

static const char *verb_of(unsigned type)
{
	switch (type) {
	case NFT_MSG_NEWTABLE:
		return "adding table inet dragoman";
	case NFT_MSG_DELTABLE:
		return "removing table inet dragoman";
	case NFT_MSG_NEWCHAIN:
		return "adding chain";
	case NFT_MSG_DELCHAIN:
		return "removing chain";
	case NFT_MSG_NEWRULE:
		return "adding a rule of chain";
	case NFT_MSG_DELRULE:
		return "removing the rules of chain";
	case NFT_MSG_NEWSET:
		return "adding set";
	case NFT_MSG_DELSET:
		return "removing set";
	case NFT_MSG_NEWSETELEM:
		return "adding";
	case NFT_MSG_DELSETELEM:
		return "removing";
	default:
		return "a message";
	}
}

static void read_names(const struct nlmsghdr *message, unsigned type, struct description *ret)
{
	attr_for_each_message (attr, message, sizeof(struct nfgenmsg)) {
		unsigned name = mnl_attr_get_type(attr);

		/* Each kind of message numbers its attributes anew. */
		if ((type == NFT_MSG_NEWCHAIN || type == NFT_MSG_DELCHAIN) &&
		    name == NFTA_CHAIN_NAME)
			ret->chain = attr_get_text(attr);
		if ((type == NFT_MSG_NEWRULE || type == NFT_MSG_DELRULE) && name == NFTA_RULE_CHAIN)
			ret->chain = attr_get_text(attr);
		if ((type == NFT_MSG_NEWSET || type == NFT_MSG_DELSET) && name == NFTA_SET_NAME)
			ret->set = attr_get_text(attr);
		if ((type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM) &&
		    name == NFTA_SET_ELEM_LIST_SET)
			ret->set = attr_get_text(attr);
		if ((type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM) &&
		    name == NFTA_SET_ELEM_LIST_ELEMENTS)
			ret->elements = attr;
	}
}

static void element_text(enum set_kind set, const struct listen *listen, unsigned slot, char *into,
			 size_t size)
{
	char text[ENDPOINT_TEXT_MAX];

	(void)listen_format(listen, set % 2 ? FAMILY_IPV6 : FAMILY_IPV4, text);
	if (set == SET_ENDPOINTS4 || set == SET_ENDPOINTS6)
		(void)snprintf(into, size, "element %s slot %u", text, slot);
	else
		(void)snprintf(into, size, "element %s", text);
}

/* The element at offset bytes of the message, by its key: "127.0.0.1:6379/tcp slot 2". */
static bool name_element(const struct nlmsghdr *message, const struct description *what,
			 uint32_t offset, char *into, size_t size)
{
	const char *blamed = (const char *)message + offset;
	enum set_kind set = set_parse(what->set);
	struct listen listen;
	unsigned slot;

	if (!what->elements || set == SET_FOREIGN)
		return false;
	attr_for_each_nested (element, what->elements) {
		const char *begin = (const char *)element;

		if (blamed < begin || blamed >= begin + element->nla_len)
			continue;
		attr_for_each_nested (attr, element) {
			const struct nlattr *value = mnl_attr_get_payload(attr);

			if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_KEY ||
			    !element_parse_key(set, mnl_attr_get_payload(value),
					       mnl_attr_get_payload_len(value), &listen, &slot))
				continue;
			element_text(set, &listen, slot, into, size);
			return true;
		}
	}
	return false;
}

void batch_describe(const struct nlmsghdr *message, uint32_t offset, char *into, size_t size)
{
	unsigned type = NFNL_MSG_TYPE(message->nlmsg_type);
	struct description what = {0};
	char element[ENDPOINT_TEXT_MAX * 2];

	if (message->nlmsg_type == NFNL_MSG_BATCH_BEGIN ||
	    message->nlmsg_type == NFNL_MSG_BATCH_END) {
		(void)snprintf(into, size, "the transaction");
		return;
	}
	read_names(message, type, &what);
	if (what.elements && what.set) {
		if (!offset || !name_element(message, &what, offset, element, sizeof(element)))
			(void)snprintf(element, sizeof(element), "elements");
		(void)snprintf(into, size, "%s %s of %s", verb_of(type), element, what.set);
	} else if (what.set || what.chain) {
		char printable[OBJECT_NAME_MAX];
		const char *name = what.set ? what.set : what.chain;

		(void)snprintf(into, size, "%s %s", verb_of(type),
			       text_printable(printable, sizeof(printable), name, strlen(name)));
	} else {
		(void)snprintf(into, size, "%s", verb_of(type));
	}
}

const char *batch_lacking(const struct nlmsghdr *message, int code)
{
	if (!message || (code != -ENOENT && code != -EOPNOTSUPP))
		return "";
	switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
	case NFT_MSG_NEWCHAIN:
		return " (does this kernel have NAT for nftables, CONFIG_NFT_NAT? see lsmod for "
		       "nft_chain_nat)";
	case NFT_MSG_NEWRULE:
		return " (is this kernel 5.10 or later, with CONFIG_NFT_NAT, CONFIG_NFT_MASQ, "
		       "CONFIG_NFT_REJECT, CONFIG_NFT_NUMGEN and CONFIG_NFT_CT?)";
	default:
		return "";
	}
}
