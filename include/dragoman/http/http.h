/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_HTTP_H
#define DRAGOMAN_HTTP_HTTP_H

/*
 * HTTP requests on the loop: libcurl's multi interface
 * (https://curl.se/libcurl/c/libcurl-multi.html), one client for each set of
 * connections that may be shared. Nothing here knows what is asked for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"

/* Files in PEM; NULL means the system's trust, no client certificate. Borrowed by the client. */
struct http_tls {
	const char *ca;
	const char *cert;
	const char *key;
};

struct http_client;
struct http_request;

/* Returns 0, or -errno with error set. tls may be NULL. */
int http_client_new(struct loop *loop, const struct http_tls *tls, struct http_client **ret,
		    struct error *error);

/* Cancels what is under way without calling its functions; NULL is fine. */
void http_client_free(struct http_client *client);

struct http_answer {
	long status;      /* HTTP status; 0 when there was none */
	const char *body; /* NUL-terminated behind length; empty where data went to on_data */
	size_t length;
};

/*
 * Called once, at the end of a request that was not cancelled. error is NULL
 * when a whole answer came in, whatever its status: a body that was cut off,
 * too long or too late is an error, ERROR_TRANSIENT or ERROR_INVALID (too
 * long; code -EFBIG). The answer is borrowed for the call. The request is
 * freed after it; the function may start others, or free the client.
 */
typedef void http_done_function(struct http_request *request, const struct http_answer *answer,
				const struct error *error, void *user);

/* A header of the answer (name and value trimmed, borrowed), for those who need one. */
typedef void http_header_function(struct http_request *request, const char *name, const char *value,
				  void *user);

struct http_call {
	const char *name; /* for messages: "etcd http://127.0.0.1:2379" */
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
	const char *body;           /* sent by POST where not NULL; copied */
	size_t body_length;
	size_t answer_max;        /* bytes of the answer's body */
	uint64_t timeout;         /* nanoseconds for the whole request; 0: none */
	uint64_t connect_timeout; /* nanoseconds to connect; 0: the whole */
	const char *user;         /* basic authentication, or NULL */
	const char *password;
	http_done_function *on_done;
	http_header_function *on_header; /* or NULL */
	void *user_data;
};

/* Starts a request; everything in call is copied. Returns 0, or -errno with error set. */
int http_start(struct http_client *client, const struct http_call *call, struct http_request **ret,
	       struct error *error);

/* Ends a request without calling its functions. */
void http_cancel(struct http_request *request);

#endif
