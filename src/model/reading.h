/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_READING_H
#define DRAGOMAN_MODEL_READING_H

/*
 * What one document says, whoever asks.
 */

#include "dragoman/model/document.h"

enum { PIECE_MAX = 64 }; /* bytes shown of what a document holds */

struct reading {
	struct endpoint endpoint;
	unsigned weight;
	struct tags tags;                 /* in the arena */
	char proto[PIECE_MAX];            /* printable; "": of any protocol */
	char reason[DOCUMENT_REASON_MAX]; /* why it cannot be used, where proto suits */
};

/* Returns 0; -EINVAL with the reason, and the proto where there was one; or -ENOMEM. */
int document_read(struct arena *arena, const char *value, size_t length, struct reading *ret);

/* Returns 0, or -EINVAL with the reason in a buffer of DOCUMENT_REASON_MAX bytes. */
int proto_suits(const char *proto, enum protocol protocol, char *reason);

#endif
