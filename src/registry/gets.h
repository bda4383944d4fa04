/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_GETS_H
#define DRAGOMAN_REGISTRY_GETS_H

/*
 * The read of a registry that takes one GET for each service. A kind of
 * registry says how a service is asked for, and judges what comes back.
 */

#include "registry_private.h"

struct gets;

/* The GET of one service. */
struct get {
	struct gets *gets;
	size_t index;       /* in the read's keys */
	bool takes_foreign; /* it was asked again, of any cluster */
};

struct gets_kind {
	/* Appends the path and the query by which its service is asked for. */
	void (*encode)(const struct get *get, struct text *into);
	/*
	 * Judges an answer that came whole: get_answer() or get_fail(), or another
	 * verdict than ANSWER_ACCEPTED with error set.
	 */
	enum verdict_of_answer (*judge)(struct get *get, const struct exchange_answer *answer,
					struct error *error);
};

struct registry_read *get_read(const struct get *get);
const char *get_key(const struct get *get);

/* The service's documents; taken where the answer is accepted, which one of another cluster is not.
 */
enum verdict_of_answer get_answer(struct get *get, struct document_list *list,
				  const struct registry_position *position, struct error *error);
/* The service's own failure. Returns ANSWER_ACCEPTED. */
enum verdict_of_answer get_fail(struct get *get, const struct error *error);

/* As in struct registry_ops. */
int gets_start(struct registry_read *read, const struct gets_kind *kind, struct error *error);
void gets_end(struct registry_read *read);

#endif
