/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_ENCODE_H
#define DRAGOMAN_KERNEL_ENCODE_H

#include "batch.h"
#include "dragoman/model/verdict.h"

/*
 * Writes verdicts as one whole batch, from begin to end, in an order that the
 * kernel takes. Returns 0 or -ENOMEM; *ret_last_seq is the number of the
 * message that will be acknowledged. Pure.
 */
int encode_verdicts(struct batch *batch, const struct verdicts *verdicts, uint32_t *ret_last_seq);

#endif
