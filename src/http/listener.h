/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_LISTENER_H
#define DRAGOMAN_HTTP_LISTENER_H

/* Sockets that listen, for server.c, non-blocking and with CLOEXEC. */

#include <sys/types.h>

#include "dragoman/base/error.h"

/* A file, so that it is known again. */
struct file_identity {
	dev_t device;
	ino_t inode;
};

/* As server_new_unix() says. *ret_file is the socket's file. */
int listener_open_unix(const char *path, mode_t mode, struct file_identity *ret_file, int *ret,
		       struct error *error);

/* Removes the socket's file, if it is still that one. */
void listener_unlink(const char *path, const struct file_identity *file);

/* As server_new_tcp() says. */
int listener_open_tcp(const char *address, int *ret, struct error *error);

#endif
