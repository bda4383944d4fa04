/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_HTTP_H
#define DRAGOMAN_HTTP_HTTP_H

/*
 * HTTP requests on the loop: libcurl's multi interface
 * (https://curl.se/libcurl/c/libcurl-multi.html), one client for each set of
 * connections that may be shared. Nothing here knows what is asked for.
 *
 * HTTP/1.1 over TCP or TLS. Redirects are not followed, and the proxies of the
 * environment (http_proxy...) are not used.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"

/* Files in PEM; NULL means the system's trust, no client certificate. */
struct http_tls {
	const char *ca;   /* where given, nothing else is trusted */
	const char *cert; /* with its chain */
	const char *key;  /* may be NULL where the key stands in cert */
};

struct http_client;
struct http_request;

/*
 * Initialises the libraries that a client stands on, which the first client
 * does otherwise: they load modules then (OpenSSL's configuration names some),
 * and a process that filters its system calls wants that over with. To be
 * called before there are threads. Returns 0 or -EIO (ERROR_FATAL).
 */
int http_prepare(struct error *error);

/*
 * tls may be NULL; it is copied. Returns 0, -ENOMEM, or an -errno of open(2)
 * for a file that cannot be read, with error set (ERROR_INVALID).
 */
int http_client_new(struct loop *loop, const struct http_tls *tls, struct http_client **ret,
		    struct error *error);

/* Cancels what is under way without calling its functions; NULL is fine. */
void http_client_free(struct http_client *client);

struct http_answer {
	long status;      /* HTTP status; 0 when there was none */
	const char *body; /* NUL-terminated behind length; never NULL */
	size_t length;
};

/*
 * Called once, at the end of a request that was not cancelled. error is NULL
 * when a whole answer came in, whatever its status: a body that was cut off,
 * too long or too late is an error:
 *
 *   -ETIMEDOUT    ERROR_TRANSIENT  one of the timeouts
 *   -EFBIG        ERROR_INVALID    the body is longer than answer_max
 *   -ECONNREFUSED ERROR_TRANSIENT  no connection (or another -errno of connect(2))
 *   -EHOSTUNREACH ERROR_TRANSIENT  the host's name cannot be resolved
 *   -ECONNRESET   ERROR_TRANSIENT  the connection ended before the answer did
 *   -ECONNABORTED ERROR_TRANSIENT  it ended before the answer began
 *   -EPROTO       ERROR_INVALID    TLS: untrusted, wrong name, handshake refused
 *   -EINVAL       ERROR_INVALID    TLS: a file of ours is no good
 *   -EIO          ERROR_TRANSIENT  anything else
 *
 * The answer is borrowed for the call. The request is freed after it; the
 * function may start others, cancel any, or free the client.
 */
typedef void http_done_function(struct http_request *request, const struct http_answer *answer,
				const struct error *error, void *user);

/* Called once, where given, when the head of the answer is there. As http_data_function. */
typedef void http_head_function(struct http_request *request, long status, void *user);

/*
 * Called with bytes of the body as they come in, cut anywhere. Borrowed for
 * the call; it may start and cancel any request, this one too, or free the
 * client. Only an answer of success (2xx) is given so; the body of any other
 * is gathered for on_done. http_request_header() may be asked.
 */
typedef void http_data_function(struct http_request *request, const char *data, size_t length,
				void *user);

struct http_call {
	const char *name; /* for messages: "http://127.0.0.1:2379" */
	const char *url;
	const char *unix_socket;    /* connect to this path, whatever host the URL names; or NULL */
	const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
	const char *body;           /* sent by POST where not NULL */
	size_t body_length;
	/*
	 * The upload (a POST, chunked) does not end with body, which may be NULL;
	 * http_send() adds to it for as long as the request lives.
	 */
	bool keep_upload_open;
	size_t answer_max;        /* bytes of the answer's body, where it is gathered */
	uint64_t timeout;         /* nanoseconds for the whole request; 0: none */
	uint64_t connect_timeout; /* nanoseconds to connect; 0: the whole */
	const char *user;         /* basic authentication, or NULL */
	const char *password;
	http_head_function *on_head; /* or NULL */
	http_data_function *on_data; /* NULL: the body is gathered for on_done */
	http_done_function *on_done;
	void *user_data;
};

/*
 * Starts a request; everything in call is copied. on_done is never called from
 * within. Returns 0, or -errno with error set.
 */
int http_start(struct http_client *client, const struct http_call *call, struct http_request **ret,
	       struct error *error);

/*
 * Adds to the upload of a request that keeps it open; data is copied. Returns
 * 0, -ENOMEM, -EPIPE (the request has ended), or -EIO (libcurl refuses); what
 * became of the bytes on their way only shows in on_done.
 */
int http_send(struct http_request *request, const char *data, size_t length);

/* A header of the answer, within any of its functions; NULL where there is none. Borrowed for the
 * call. */
const char *http_request_header(const struct http_request *request, const char *name);

/* Ends a request without calling its functions; NULL is fine. */
void http_cancel(struct http_request *request);

#endif
