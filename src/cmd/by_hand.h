/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_BY_HAND_H
#define DRAGOMAN_CMD_BY_HAND_H

#include "dragoman/model/descriptor.h"

/*
 * A descriptor that a person typed, with -b or to resolve. In an environment a
 * value without ';' is somebody else's variable; here somebody meant it, and
 * most often a shell has taken the ';' and what follows. So it is invalid, and
 * the reason says what to do.
 */
void descriptor_by_hand(struct descriptor *descriptor, const char *value);

#endif
