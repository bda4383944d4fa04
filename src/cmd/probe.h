/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_PROBE_H
#define DRAGOMAN_CMD_PROBE_H

/*
 * Trying it: TCP connections from inside a namespace, made and closed at once.
 */

#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/kernel/netns.h"
#include "dragoman/model/endpoint.h"

struct probe_result {
	struct endpoint endpoint;
	bool is_localhost; /* it goes through the rules */
	int code;      /* 0: connected; else -errno of connect(2), -ETIMEDOUT where nothing came */
	uint64_t time; /* nanoseconds until it was known */
	/* Of localhost, and connected: whether the rules counted it. */
	bool is_counted;
};

enum { PROBES_MAX = 256 };

/*
 * Connects to each of the endpoints at once, PROBES_MAX at most, and waits at
 * most `timeout` nanoseconds for all. Returns 0, or -errno with error set where
 * the namespace could not be entered.
 */
int probe_run(const struct netns *netns, struct probe_result *probes, size_t count,
	      uint64_t timeout, struct error *error);

#endif
