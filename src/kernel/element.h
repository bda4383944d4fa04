/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_ELEMENT_H
#define DRAGOMAN_KERNEL_ELEMENT_H

/*
 * The keys of our sets as bytes, and back. This and encode.c write elements
 * straight into the batch: there are many of them, and an object of libnftnl
 * for each would cost more than the kernel does.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/observed.h"

/* Writes the key of one of our sets. slot is used by endpoints only. Returns its length. */
size_t element_key(enum set_kind set, const struct listen *listen, unsigned slot,
		   uint8_t into[ELEMENT_KEY_MAX]);

/*
 * Takes a key apart. False when it is none that we would write: another
 * address than 127.0.0.1 or ::1, another protocol, port 0, padding that is not
 * zero, a slot out of range.
 */
bool element_parse_key(enum set_kind set, const void *key, size_t length, struct listen *ret_listen,
		       unsigned *ret_slot);

#endif
