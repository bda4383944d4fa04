/* SPDX-License-Identifier: MIT */
#include "flow_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"

/*
 * Theory of operation
 *
 * Any number of filters become one sorted array, so that a service that loses
 * a thousand endpoints costs one look through conntrack, and each entry two
 * searches. A filter is a row for each of its endpoints; one of the others is
 * marked by a row of its own in front of those that stay.
 */

enum row_kind { ROW_LED_TO, ROW_OTHERS, ROW_STAYS };

struct flow_row {
	enum family family;
	struct listen listen;
	enum row_kind kind;
	struct endpoint endpoint; /* zero in ROW_OTHERS */
};

/* What is asked for in one go stands together: by family, protocol, port. */
static int compare(const void *one, const void *two)
{
	const struct flow_row *a = one, *b = two;

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (a->listen.protocol != b->listen.protocol)
		return a->listen.protocol < b->listen.protocol ? -1 : 1;
	if (a->listen.port != b->listen.port)
		return a->listen.port < b->listen.port ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return endpoint_compare(&a->endpoint, &b->endpoint);
}

int flow_table_make(const struct flow_filter *filters, size_t count, struct flow_table *ret)
{
	struct flow_row *row;
	size_t rows = 0;

	for (size_t i = 0; i < count; i++)
		rows += filters[i].count + filters[i].others;
	*ret = (struct flow_table){.rows = calloc(rows ? rows : 1, sizeof(*row)), .count = rows};
	if (!ret->rows)
		return -ENOMEM;
	row = ret->rows;
	for (const struct flow_filter *filter = filters; filter < filters + count; filter++) {
		if (filter->others)
			*row++ = (struct flow_row){.family = filter->family,
						   .listen = filter->listen,
						   .kind = ROW_OTHERS};
		for (size_t i = 0; i < filter->count; i++)
			*row++ = (struct flow_row){
				.family = filter->family,
				.listen = filter->listen,
				.kind = filter->others ? ROW_STAYS : ROW_LED_TO,
				.endpoint = filter->endpoints[i],
			};
	}
	qsort(ret->rows, ret->count, sizeof(*ret->rows), compare);
	return 0;
}

void flow_table_done(struct flow_table *table)
{
	free(table->rows);
	*table = (struct flow_table){0};
}

static bool has_row(const struct flow_table *table, struct flow_row *row, enum row_kind kind,
		    const struct endpoint *endpoint)
{
	row->kind = kind;
	row->endpoint = *endpoint;
	return bsearch(row, table->rows, table->count, sizeof(*row), compare);
}

bool flow_table_matches(const struct flow_table *table, const struct flow *flow)
{
	const struct endpoint localhost = flow_localhost((enum family)flow->to.family,
							 flow->to.port);
	const struct endpoint none = {0};
	struct flow_row row = {.family = (enum family)flow->to.family,
			       .listen = {(enum protocol)flow->protocol, flow->to.port}};

	if (endpoint_compare(&flow->to, &localhost) != 0)
		return false;
	return has_row(table, &row, ROW_LED_TO, &flow->endpoint) ||
	       (has_row(table, &row, ROW_OTHERS, &none) &&
		!has_row(table, &row, ROW_STAYS, &flow->endpoint));
}

bool flow_table_has(const struct flow_table *table, enum protocol protocol)
{
	for (size_t i = 0; i < table->count; i++) {
		if (table->rows[i].listen.protocol == protocol)
			return true;
	}
	return false;
}

size_t flow_table_ask(const struct flow_table *table, size_t begin, struct flow_question *ret)
{
	const struct flow_row *first = &table->rows[begin];
	const bool known = first->kind == ROW_LED_TO;
	size_t end;

	*ret = (struct flow_question){
		.family = first->family,
		.protocol = (uint8_t)first->listen.protocol,
		.port = first->listen.port,
		.endpoint = first->endpoint,
		.has_port = true,
		.has_address = known,
		.has_endpoint_port = known,
	};
	for (end = begin; end < table->count; end++) {
		const struct flow_row *row = &table->rows[end];

		if (row->family != first->family || row->listen.protocol != first->listen.protocol)
			break;
		ret->has_port &= row->listen.port == first->listen.port;
		ret->has_address &= row->kind == ROW_LED_TO &&
				    memcmp(row->endpoint.address, first->endpoint.address,
					   sizeof(first->endpoint.address)) == 0;
		ret->has_endpoint_port &= row->kind == ROW_LED_TO &&
					  row->endpoint.port == first->endpoint.port;
	}
	return end;
}
