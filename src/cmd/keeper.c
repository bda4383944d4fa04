/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: the agent is asked which namespaces it keeps. Most
 * hosts have none, and there a look at the socket's path is all it costs.
 */
#include "keeper.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "dragoman/base/json.h"
#include "dragoman/base/log.h"

/* Nanoseconds for an agent to answer; one that hangs must not hang us. */
static const uint64_t patience = 2000 * 1000 * 1000;

/* Whether the document lists the namespace: 1, 0 or -ENOMEM. */
static int keeps(const struct text *status, ino_t inode)
{
	bool found = false;
	size_t index;
	json_t *root, *item;

	if (json_read(status->data, status->length, 0, &root, NULL) == -ENOMEM)
		return -ENOMEM;
	json_array_foreach(json_object_get(root, "namespaces"), index, item)
	{
		const json_t *netns = json_object_get(item, "netns");

		found = found ||
			(json_is_integer(netns) && (ino_t)json_integer_value(netns) == inode);
	}
	json_decref(root);
	return found;
}

int keeper_check(const struct options *options, const struct netns *netns, struct error *error)
{
	CLEANUP(text_done) struct text status = {0};
	struct error why;
	int code;

	if (options->force || access(options->socket, F_OK) < 0)
		return 0;
	code = agent_ask(options->socket, patience, &status, &why);
	if (code < 0 && code != -ENOMEM) {
		log_debug("%s", why.message);
		return 0;
	}
	if (code == 0 && status.data)
		code = keeps(&status, netns->inode);
	if (code < 0)
		return error_no_memory(error);
	if (code == 0)
		return 0;
	return error_set(error, -EBUSY, ERROR_INVALID,
			 "the running agent keeps this namespace, and would undo the change (see "
			 "dragoman status; --force does it all the same)");
}
