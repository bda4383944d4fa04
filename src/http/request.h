/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_HTTP_REQUEST_H
#define DRAGOMAN_HTTP_REQUEST_H

/*
 * What http.c (the client), request.c (one request as libcurl sees it),
 * limits.c (how long it may take) and failure.c (what went wrong with it)
 * share.
 */

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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
	bool head_is_in;
	bool has_news, in_news;
	bool connecting;
	uint64_t timeout, connect_timeout; /* nanoseconds, or 0 */
	struct loop_source *limit;         /* its timer, or NULL */
	http_head_function *on_head;       /* NULL where it was called */
	http_data_function *on_data;
	http_done_function *on_done;
	void *user;
	char failure[CURL_ERROR_SIZE];
};

TAILQ_HEAD(request_queue, http_request);

struct http_client {
	struct loop *loop;
	struct loop_source *timer;
	uint64_t wanted;   /* when libcurl would be called, or UINT64_MAX */
	size_t connecting; /* requests */
	CURLM *multi;
	char *ca, *cert, *key;
	struct request_queue active, finished, news;
	bool calling, freed;
};

/*
 * Tells libcurl all about a request whose client, functions and limits are
 * set. Returns 0 or -errno with error set; either way request_free() is next.
 */
int request_prepare(struct http_request *request, const struct http_call *call,
		    struct error *error);
/* Frees what libcurl does not have any more, or never had. */
void request_free(struct http_request *request);

/* Gathers, into `result`, the results of many setopts: the first that failed. */
#define SET(option, value)                                                       \
	do {                                                                     \
		if (result == CURLE_OK)                                          \
			result = curl_easy_setopt(request->easy, option, value); \
	} while (0)

/* Part of request_prepare(): the timeouts, and what tells them how far the request is. */
CURLcode request_set_limits(struct http_request *request, const struct http_call *call);
/* From its start until it may be sent, and again where it needs another connection. */
void request_set_connecting(struct http_request *request, bool connecting);
/* What was missing when the time was over, in words, whoever saw that. */
void request_describe_timeout(struct http_request *request);
/* CURLMOPT_TIMERFUNCTION(3), for a client. */
int client_on_curl_timer(CURLM *multi, long milliseconds, void *user);
/* Takes an active request from libcurl, with this result, and calls its on_done. */
void request_fail(struct http_request *request, CURLcode result);

/* Whether bytes go to on_data: the body of an answer that is none of success is gathered. */
bool request_is_streaming(const struct http_request *request);
/* Has on_head or on_data called when libcurl has returned. */
void request_add_news(struct http_request *request);

/* Fills error with why the request failed, and returns its -errno. */
int request_failure(const struct http_request *request, struct error *error);

#endif
