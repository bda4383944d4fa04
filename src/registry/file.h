/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_FILE_H
#define DRAGOMAN_REGISTRY_FILE_H

/* The content of a file registry. No input or output. */

#include <stddef.h>

#include "registry_private.h"

/*
 * Decodes an object of key -> value into documents in byte order of their
 * keys: a string is the value as it stands, anything else the JSON text of it.
 * Keys lose a trailing slash. list->arena is the caller's. Returns 0, -ENOMEM,
 * or -EINVAL with the line, or the key, that is wrong in error.
 */
int file_decode(const char *data, size_t length, struct document_list *list, struct error *error);

/* Copies, out of such documents, those of one service. Returns 0 or -ENOMEM. */
int file_select(const struct document_list *all, const char *key, struct document_list *list);

#endif
