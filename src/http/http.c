/* SPDX-License-Identifier: MIT */
#include "dragoman/http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "request.h"

/*
 * Theory of operation
 *
 * The client: libcurl's multi handle, driven by the loop. libcurl says which
 * sockets it waits for (on_curl_socket) and when it wants to be called
 * (limits.c); both become sources of the loop, which call
 * curl_multi_socket_action(). See libcurl-multi(3), "multi_socket". What one
 * request asks of libcurl, and what libcurl reads and writes of it, is in
 * request.c; how long it may take, in limits.c.
 *
 * States of a request: active (libcurl has it), finished (taken from libcurl,
 * its result known), called (its on_done is running). libcurl must not be
 * entered again from within its own callbacks, so these only store bytes and
 * change sources. on_done runs after libcurl has returned, when anything may
 * be started, cancelled or freed. A client freed by an on_done stands, empty,
 * until that on_done is back.
 *
 * The requests of which something came in wait in `news`, and are called
 * before those that have ended. An answer ends an upload that is open, even
 * one that is paused.
 */

/* Takes an active request from libcurl. */
static void request_leave(struct http_request *request)
{
	struct http_client *client = request->client;

	(void)curl_multi_remove_handle(client->multi, request->easy);
	TAILQ_REMOVE(&client->active, request, entry);
	request_set_connecting(request, false);
	loop_source_free(TAKE(request->limit));
}

/* The request that is being called goes when its function is back. */
static void request_end(struct http_request *request)
{
	struct http_client *client = request->client;

	/* Or what removing it from libcurl does to its socket would bring news. */
	request->upload_open = false;
	if (request->has_news)
		TAILQ_REMOVE(&client->news, request, news_entry);
	request->has_news = false;
	switch (request->state) {
	case REQUEST_ACTIVE:
		request_leave(request);
		break;
	case REQUEST_FINISHED:
		TAILQ_REMOVE(&client->finished, request, entry);
		break;
	case REQUEST_CALLED:
		break;
	}
}

static void request_finish(struct http_request *request, CURLcode result)
{
	struct http_client *client = request->client;

	request->upload_open = false;
	if (result == CURLE_OPERATION_TIMEDOUT)
		request_describe_timeout(request);
	request_leave(request);
	request->result = result;
	request->state = REQUEST_FINISHED;
	TAILQ_INSERT_TAIL(&client->finished, request, entry);
}

static void request_call(struct http_request *request)
{
	struct http_answer answer = {.body = request->body.data ? request->body.data : "",
				     .length = request->body.length};
	struct error error = {0};

	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &answer.status);
	if (request->result != CURLE_OK)
		(void)request_failure(request, &error);
	log_debug("http: %s: status %ld, %zu bytes%s%s", request->name, answer.status,
		  answer.length, error.code ? ": " : "", error.message);
	request->on_done(request, &answer, error.code ? &error : NULL, request->user);
}

static void client_destroy(struct http_client *client)
{
	/* May close sockets, and so call on_curl_socket: the client is whole until then. */
	if (client->multi)
		(void)curl_multi_cleanup(client->multi);
	loop_source_free(client->timer);
	free(client->ca);
	free(client->cert);
	free(client->key);
	free(client);
	curl_global_cleanup();
}

static int request_resume(struct http_request *request)
{
	if (!request->upload_paused || request->state != REQUEST_ACTIVE)
		return 0;
	request->upload_paused = false;
	return curl_easy_pause(request->easy, CURLPAUSE_CONT) == CURLE_OK ? 0 : -EIO;
}

/* Either function may cancel the request, which then is freed here. */
static void request_call_news(struct http_request *request)
{
	http_head_function *on_head = NULL;
	CLEANUP(text_done) struct text data = {0};
	long status = 0;

	if (request->answer_ended)
		(void)request_resume(request);
	if (request_is_streaming(request)) {
		data = request->body;
		request->body = (struct text){0};
	}
	/* Where the connection was closed instead there is none. */
	if (request->head_is_in)
		on_head = TAKE(request->on_head);
	request->in_news = true;
	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	if (on_head)
		on_head(request, status, request->user);
	if (request->state != REQUEST_CALLED && data.length > 0)
		request->on_data(request, data.data, data.length, request->user);
	request->in_news = false;
	if (request->state == REQUEST_CALLED)
		request_free(request);
}

static void client_deliver(struct http_client *client)
{
	struct http_request *request;

	client->calling = true;
	while (!client->freed && (request = TAILQ_FIRST(&client->news))) {
		TAILQ_REMOVE(&client->news, request, news_entry);
		request->has_news = false;
		request_call_news(request);
	}
	while (!client->freed && (request = TAILQ_FIRST(&client->finished))) {
		TAILQ_REMOVE(&client->finished, request, entry);
		request->state = REQUEST_CALLED;
		request_call(request);
		request_free(request);
	}
	client->calling = false;
	if (client->freed)
		client_destroy(client);
}

/* After every call into libcurl that may have brought a transfer to its end. */
static void client_settle(struct http_client *client, CURLMcode code)
{
	struct http_request *request;
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->multi, &left))) {
		CURLcode result = message->data.result;
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		request_finish((struct http_request *)(void *)private, result);
	}
	if (code != CURLM_OK) {
		while ((request = TAILQ_FIRST(&client->active)))
			request_finish(request, code == CURLM_OUT_OF_MEMORY
							? CURLE_OUT_OF_MEMORY
							: CURLE_ABORTED_BY_CALLBACK);
	}
	client_deliver(client);
}

void request_fail(struct http_request *request, CURLcode result)
{
	struct http_client *client = request->client;

	request_finish(request, result);
	client_deliver(client);
}

static void on_loop_timer(struct loop_source *source, void *user)
{
	struct http_client *client = user;
	int running;

	(void)source;
	client_settle(client,
		      curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running));
}

static void on_loop_io(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct http_client *client = user;
	int running, what = 0;

	(void)source;
	if (events & LOOP_READ)
		what |= CURL_CSELECT_IN;
	if (events & LOOP_WRITE)
		what |= CURL_CSELECT_OUT;
	if (events & LOOP_HANGUP)
		what |= CURL_CSELECT_ERR;
	client_settle(client, curl_multi_socket_action(client->multi, fd, what, &running));
}

/*
 * An answer that ends, or is cut off, does not end a request whose upload is
 * paused: libcurl only stops reading. That is seen here, and ends the upload.
 */
static void note_end_of_answer(CURL *easy, int what)
{
	struct http_request *request;
	char *private = NULL;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
	request = (struct http_request *)(void *)private;
	if (!request || !request->upload_open || what & CURL_POLL_IN)
		return;
	/* Before there is an answer it waits for a connection, or writes; once it rests it reads.
	 */
	if (request->header_length == 0 && !request->upload_paused)
		return;
	request->answer_ended = true;
	if (request->state == REQUEST_ACTIVE)
		request_add_news(request);
}

/* CURLMOPT_SOCKETFUNCTION(3) */
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct http_client *client = user;
	struct loop_source *source = socket_user;
	unsigned events = 0;

	note_end_of_answer(easy, what);
	if (what == CURL_POLL_REMOVE) {
		(void)curl_multi_assign(client->multi, fd, NULL);
		loop_source_free(source);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= LOOP_READ;
	if (what & CURL_POLL_OUT)
		events |= LOOP_WRITE;
	if (source)
		return loop_source_set_events(source, events) < 0 ? -1 : 0;
	if (loop_add_io(client->loop, "http socket", fd, events, on_loop_io, client, &source) < 0)
		return -1;
	(void)curl_multi_assign(client->multi, fd, source);
	return 0;
}

static int file_check(const char *what, const char *path, struct error *error)
{
	CLEANUP(fd_close) int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
	char name[256];
	int code = -errno;

	if (!path || fd >= 0)
		return 0;
	return error_set(error, code, ERROR_INVALID, "%s %s: %s", what,
			 text_printable(name, sizeof(name), path, strlen(path)), strerror(-code));
}

static int copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int client_set_tls(struct http_client *client, const struct http_tls *tls,
			  struct error *error)
{
	int code;

	/* Looked at now, since libcurl's own messages do not say which file was wrong. */
	if ((code = file_check("CA file", tls->ca, error)) < 0 ||
	    (code = file_check("certificate file", tls->cert, error)) < 0 ||
	    (code = file_check("key file", tls->key, error)) < 0)
		return code;
	if (tls->key && !tls->cert)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "a TLS key is given, but no certificate that it belongs to");
	if (copy(tls->ca, &client->ca) < 0 || copy(tls->cert, &client->cert) < 0 ||
	    copy(tls->key, &client->key) < 0)
		return error_no_memory(error);
	return 0;
}

static int client_set_multi(struct http_client *client)
{
	if (loop_add_timer(client->loop, "http timer", UINT64_MAX, on_loop_timer, client,
			   &client->timer) < 0)
		return -ENOMEM;
	client->multi = curl_multi_init();
	if (!client->multi)
		return -ENOMEM;
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	(void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, client_on_curl_timer);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return 0;
}

int http_prepare(struct error *error)
{
	/* Counted: what a client does at its end takes nothing away from this. */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_set(error, -EIO, ERROR_FATAL, "libcurl cannot be initialised");
	return 0;
}

int http_client_new(struct loop *loop, const struct http_tls *tls, struct http_client **ret,
		    struct error *error)
{
	struct http_client *client;
	int code = http_prepare(error);

	if (code < 0)
		return code;
	client = calloc(1, sizeof(*client));
	if (!client) {
		curl_global_cleanup();
		return error_no_memory(error);
	}
	client->loop = loop;
	client->wanted = UINT64_MAX;
	TAILQ_INIT(&client->active);
	TAILQ_INIT(&client->finished);
	TAILQ_INIT(&client->news);
	if (tls)
		code = client_set_tls(client, tls, error);
	if (code == 0 && (code = client_set_multi(client)) < 0)
		(void)error_no_memory(error);
	if (code < 0) {
		client_destroy(client);
		return code;
	}
	*ret = client;
	return 0;
}

static void queue_free(struct request_queue *queue)
{
	struct http_request *request, *next;

	for (request = TAILQ_FIRST(queue); request; request = next) {
		next = TAILQ_NEXT(request, entry);
		http_cancel(request);
	}
}

void http_client_free(struct http_client *client)
{
	if (!client || client->freed)
		return;
	client->freed = true;
	queue_free(&client->active);
	queue_free(&client->finished);
	if (!client->calling)
		client_destroy(client);
}

int http_start(struct http_client *client, const struct http_call *call, struct http_request **ret,
	       struct error *error)
{
	struct http_request *request = calloc(1, sizeof(*request));
	CURLMcode multi_code;
	int code;

	if (!request)
		return error_no_memory(error);
	request->client = client;
	request->answer_max = call->answer_max;
	request->upload_open = call->keep_upload_open;
	request->on_head = call->on_head;
	request->on_data = call->on_data;
	request->on_done = call->on_done;
	request->user = call->user_data;
	code = request_prepare(request, call, error);
	if (code < 0) {
		request_free(request);
		return code;
	}
	request_set_connecting(request, true);
	multi_code = curl_multi_add_handle(client->multi, request->easy);
	if (multi_code != CURLM_OK) {
		request_set_connecting(request, false);
		request_free(request);
		return error_set(error, -EIO, ERROR_FATAL, "%s: libcurl: %s", call->name,
				 curl_multi_strerror(multi_code));
	}
	TAILQ_INSERT_TAIL(&client->active, request, entry);
	*ret = request;
	return 0;
}

int http_send(struct http_request *request, const char *data, size_t length)
{
	if (request->state != REQUEST_ACTIVE)
		return -EPIPE;
	text_add(&request->upload, data, length);
	if (request->upload.failed)
		return -ENOMEM;
	return request_resume(request);
}

void http_cancel(struct http_request *request)
{
	if (!request || request->state == REQUEST_CALLED)
		return;
	request_end(request);
	request->state = REQUEST_CALLED;
	if (!request->in_news)
		request_free(request);
}
