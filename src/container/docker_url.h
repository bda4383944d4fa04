/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_DOCKER_URL_H
#define DRAGOMAN_CONTAINER_DOCKER_URL_H

/* The address of a Docker engine, as DOCKER_HOST has it, taken apart. No input or output. */

#include <sys/un.h>

#include "dragoman/base/error.h"

enum { DOCKER_HOST_MAX = 253 };

struct docker_url {
	char name[sizeof("unix://") + 4 * sizeof(((struct sockaddr_un *)0)->sun_path) +
		  DOCKER_HOST_MAX];                               /* for people; printable */
	char base[sizeof("http://[]:65535") + DOCKER_HOST_MAX];   /* of request URLs */
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* path, or "" */
};

/*
 * unix:///path, tcp://host[:port], http://host[:port]; the port is 2375 where
 * there is none. Returns 0, or -EINVAL with error set; what may be a password
 * is never quoted.
 */
int docker_url_parse(const char *text, struct docker_url *ret, struct error *error);

#endif
