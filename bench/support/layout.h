/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BENCH_LAYOUT_H
#define DRAGOMAN_BENCH_LAYOUT_H

/*
 * The table inet dragoman in messages of netlink, written a second time from
 * its description, with nothing but libmnl. `dragoman plan` says whether what
 * came of it is the same.
 *
 * Elements: open a list, put as many as there are, close it. A list goes on in
 * another message where one is full.
 */

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"

/* Table, sets and base chains, with their rules. */
void layout_structure(struct batch *batch);

/* The chain that services of so many slots go to, with its rules. */
void layout_balance(struct batch *batch, unsigned slots);

void layout_remove_table(struct batch *batch);

enum layout_set { LAYOUT_SERVICES, LAYOUT_ENDPOINTS, LAYOUT_UNAVAILABLE6 };

struct layout_list {
	struct batch *batch;
	enum layout_set set;
	bool adding;
	struct nlmsghdr *message;
	struct nlattr *list;
};

struct layout_list layout_open(struct batch *batch, enum layout_set set, bool adding);
void layout_close(struct layout_list *list);

/* slots: where the service goes to; 0 to remove it. */
void layout_service(struct layout_list *list, uint16_t port, unsigned slots);

/* address: host byte order; 0 to remove what stands in that slot. */
void layout_endpoint(struct layout_list *list, uint16_t port, unsigned slot, uint32_t address);

/* Nothing answers on [::1]. */
void layout_unavailable6(struct layout_list *list, uint16_t port);

/* A question for one element of endpoints4, and for all of a set. The buffer has LAYOUT_ASK bytes.
 */
enum { LAYOUT_ASK = 512 };
struct nlmsghdr *layout_ask_endpoint(char *buffer, uint16_t port, unsigned slot);
struct nlmsghdr *layout_ask_all(char *buffer, enum layout_set set);

#endif
