/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_URL_H
#define DRAGOMAN_REGISTRY_URL_H

/* Registry URLs, taken apart. No input or output. */

#include <stdbool.h>
#include <stddef.h>

#include "dragoman/base/error.h"

enum { REGISTRY_HOSTS_MAX = 64, REGISTRY_URL_MAX = 16 * 1024 };
enum registry_kind { REGISTRY_ETCD3, REGISTRY_ETCD2, REGISTRY_CONSUL, REGISTRY_FILE };

struct registry_url {
	enum registry_kind kind;
	bool tls;
	char **hosts; /* "http://host:port", "https://[::1]:2379"; none of a file */
	size_t host_count;
	char *path; /* of a file, absolute; else NULL */
};

/*
 * Returns 0, -ENOMEM, or -EINVAL with the part of the URL that is wrong named
 * in error; what may be a password is never quoted.
 */
int registry_url_parse(const char *text, struct registry_url *ret, struct error *error);
void registry_url_done(struct registry_url *url);

#endif
