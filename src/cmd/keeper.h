/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_KEEPER_H
#define DRAGOMAN_CMD_KEEPER_H

#include "dragoman/kernel/netns.h"
#include "options.h"

/*
 * Refuses a namespace that the running agent keeps, unless --force is given:
 * whatever is changed there, the agent would put right again. Returns 0, or
 * -EBUSY with error set. Where the agent cannot be asked, 0: it may well not
 * be there.
 */
int keeper_check(const struct options *options, const struct netns *netns, struct error *error);

#endif
