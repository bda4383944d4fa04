/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_KERNEL_FLOW_FILTER_H
#define DRAGOMAN_KERNEL_FLOW_FILTER_H

/*
 * Filters of flows (dragoman/kernel/flows.h), made ready for looking flows up
 * in them, and for asking the kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/kernel/flows.h"
#include "flow.h"

struct flow_row;

struct flow_table {
	struct flow_row *rows; /* sorted; malloc()ed */
	size_t count;
};

/* Returns 0 or -ENOMEM. */
int flow_table_make(const struct flow_filter *filters, size_t count, struct flow_table *ret);
void flow_table_done(struct flow_table *table);

bool flow_table_matches(const struct flow_table *table, const struct flow *flow);

bool flow_table_has(const struct flow_table *table, enum protocol protocol);

/*
 * The rows from `begin` that are of one family and protocol: what they have in
 * common, to ask the kernel for. Returns where the next ones begin; that is
 * table->count behind the last.
 */
size_t flow_table_ask(const struct flow_table *table, size_t begin, struct flow_question *ret);

#endif
