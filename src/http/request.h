/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_REQUEST_H
#define DRAGOMAN_HTTP_REQUEST_H

/* What http.c and failure.c share: a request, and what became of it. */

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "dragoman/base/text.h"
#include "dragoman/http/http.h"

enum { HEADERS_MAX = 64 * 1024 };
enum request_state { REQUEST_ACTIVE, REQUEST_FINISHED, REQUEST_CALLED };

struct http_request {
	struct http_client *client;
	TAILQ_ENTRY(http_request) entry;      /* in active or finished */
	TAILQ_ENTRY(http_request) news_entry; /* in news, where has_news */
	enum request_state state;
	CURL *easy;
	CURLcode result;
	struct curl_slist *headers;
	char *name;
	struct text body;
	size_t answer_max;
	size_t header_length;
	bool too_long;
	/* Of a stream. */
	struct text upload; /* what libcurl did not take yet, from `uploaded` on */
	size_t uploaded;
	bool upload_open, upload_paused, answer_ended;
	bool has_news, in_news;
	http_head_function *on_head; /* NULL where it was called */
	http_data_function *on_data;
	http_done_function *on_done;
	void *user;
	char failure[CURL_ERROR_SIZE];
};

TAILQ_HEAD(request_queue, http_request);

/* Fills error with why the request failed, and returns its -errno. */
int request_failure(const struct http_request *request, struct error *error);

#endif
