/* SPDX-License-Identifier: MIT */
#include "dragoman/http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dragoman/base/log.h"
#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "request.h"

/*
 * Theory of operation
 *
 * libcurl says which sockets it waits for (on_curl_socket) and when it wants
 * to be called (on_curl_timer); both become sources of the loop, which call
 * curl_multi_socket_action(). See libcurl-multi(3), "multi_socket".
 *
 * States of a request: active (libcurl has it), finished (taken from libcurl,
 * its result known), called (its on_done is running). libcurl must not be
 * entered again from within its own callbacks, so these only store bytes and
 * change sources. on_done runs after libcurl has returned, when anything may
 * be started, cancelled or freed. A client freed by an on_done stands, empty,
 * until that on_done is back.
 *
 * A stream is a request with on_data. What comes in is kept in its body only
 * until libcurl has returned; the requests with such news wait in `news`, and
 * are called before those that have ended. An upload that stays open is read
 * by libcurl (on_curl_read) until nothing is left to send; then it is paused,
 * and http_send() wakes it. It ends with the answer.
 */

struct http_client {
	struct loop *loop;
	struct loop_source *timer;
	CURLM *multi;
	char *ca, *cert, *key;
	struct request_queue active, finished, news;
	bool calling, freed;
};

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
		(void)curl_multi_remove_handle(client->multi, request->easy);
		TAILQ_REMOVE(&client->active, request, entry);
		break;
	case REQUEST_FINISHED:
		TAILQ_REMOVE(&client->finished, request, entry);
		break;
	case REQUEST_CALLED:
		break;
	}
}

static void request_free(struct http_request *request)
{
	if (request->easy)
		curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers);
	text_done(&request->body);
	text_done(&request->upload);
	free(request->name);
	free(request);
}

static void request_finish(struct http_request *request, CURLcode result)
{
	struct http_client *client = request->client;

	request->upload_open = false;
	(void)curl_multi_remove_handle(client->multi, request->easy);
	TAILQ_REMOVE(&client->active, request, entry);
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

/* Whether bytes go to on_data: the body of an answer that is none of success is gathered. */
static bool request_is_streaming(const struct http_request *request)
{
	long status = 0;

	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	return request->on_data && status >= 200 && status < 300;
}

static void request_add_news(struct http_request *request)
{
	if (request->has_news)
		return;
	request->has_news = true;
	TAILQ_INSERT_TAIL(&request->client->news, request, news_entry);
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
	http_head_function *on_head = TAKE(request->on_head);
	CLEANUP(text_done) struct text data = {0};
	long status = 0;

	if (request->answer_ended)
		(void)request_resume(request);
	if (request_is_streaming(request)) {
		data = request->body;
		request->body = (struct text){0};
	}
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
	if (!request || !request->upload_open || request->header_length == 0 || what & CURL_POLL_IN)
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

/* CURLMOPT_TIMERFUNCTION(3) */
static int on_curl_timer(CURLM *multi, long milliseconds, void *user)
{
	struct http_client *client = user;

	(void)multi;
	loop_source_arm(client->timer, milliseconds < 0 ? UINT64_MAX
							: loop_now(client->loop) +
								  (uint64_t)milliseconds * 1000000);
	return 0;
}

/* CURLOPT_WRITEFUNCTION(3) */
static size_t on_curl_body(char *data, size_t size, size_t count, void *user)
{
	struct http_request *request = user;
	size_t length = size * count;
	bool streaming = request_is_streaming(request);

	if (!streaming && length > request->answer_max - request->body.length) {
		request->too_long = true;
		return 0;
	}
	text_add(&request->body, data, length);
	if (streaming)
		request_add_news(request);
	return request->body.failed ? 0 : length;
}

/* CURLOPT_HEADERFUNCTION(3): libcurl keeps them; here they are counted, and their end seen. */
/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's own type */
static size_t on_curl_header(char *data, size_t size, size_t count, void *user)
{
	struct http_request *request = user;
	long status = 0;

	(void)data;
	request->header_length += size * count;
	if (request->header_length > HEADERS_MAX)
		return 0;
	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	/* The empty line behind the last one; "100 Continue" is no answer yet. */
	if (request->on_head && size * count == strlen("\r\n") && status >= 200)
		request_add_news(request);
	return size * count;
}

/* CURLOPT_READFUNCTION(3) */
static size_t on_curl_read(char *into, size_t size, size_t count, void *user)
{
	struct http_request *request = user;
	struct text *upload = &request->upload;
	size_t left = upload->length - request->uploaded;
	size_t length = left < size * count ? left : size * count;

	if (left == 0 && request->answer_ended)
		return 0;
	if (left == 0) {
		text_done(upload);
		request->uploaded = 0;
		request->upload_paused = true;
		return CURL_READFUNC_PAUSE;
	}
	memcpy(into, upload->data + request->uploaded, length);
	request->uploaded += length;
	return length;
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
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	(void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return 0;
}

int http_client_new(struct loop *loop, const struct http_tls *tls, struct http_client **ret,
		    struct error *error)
{
	struct http_client *client;
	int code = 0;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_set(error, -EIO, ERROR_FATAL, "libcurl cannot be initialised");
	client = calloc(1, sizeof(*client));
	if (!client) {
		curl_global_cleanup();
		return error_no_memory(error);
	}
	client->loop = loop;
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

/* Rounded up, and never 0, which to libcurl means the default. */
static long milliseconds(uint64_t nanoseconds)
{
	uint64_t rounded = nanoseconds / 1000000 + (nanoseconds % 1000000 != 0);

	return rounded > LONG_MAX ? LONG_MAX : (long)rounded;
}

/* Gathers the results of many setopts: the first that failed. */
#define SET(option, value)                                                       \
	do {                                                                     \
		if (result == CURLE_OK)                                          \
			result = curl_easy_setopt(request->easy, option, value); \
	} while (0)

static CURLcode request_set_manners(struct http_request *request)
{
	CURLcode result = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	/* Empty, not NULL: NULL would mean the environment's. */
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_USERAGENT, "dragoman/" DRAGOMAN_VERSION);
	/* Else ending a request waits for a resolver that waits for its servers. */
	SET(CURLOPT_QUICK_EXIT, 1L);
	return result;
}

/* CURLOPT_OPENSOCKETFUNCTION(3): libcurl's own sockets are inherited by whatever is executed. */
static curl_socket_t on_curl_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)user;
	(void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static CURLcode request_set_functions(struct http_request *request)
{
	CURLcode result = CURLE_OK;

	SET(CURLOPT_OPENSOCKETFUNCTION, on_curl_open);
	SET(CURLOPT_ERRORBUFFER, request->failure);
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_WRITEFUNCTION, on_curl_body);
	SET(CURLOPT_WRITEDATA, request);
	SET(CURLOPT_HEADERFUNCTION, on_curl_header);
	SET(CURLOPT_HEADERDATA, request);
	return result;
}

static CURLcode request_set_tls(struct http_request *request)
{
	const struct http_client *client = request->client;
	CURLcode result = CURLE_OK;

	if (client->ca) {
		SET(CURLOPT_CAINFO, client->ca);
		SET(CURLOPT_CAPATH, NULL);
	}
	if (client->cert)
		SET(CURLOPT_SSLCERT, client->cert);
	if (client->key)
		SET(CURLOPT_SSLKEY, client->key);
	return result;
}

static CURLcode request_add_header(struct http_request *request, const char *header)
{
	struct curl_slist *grown = curl_slist_append(request->headers, header);

	if (!grown)
		return CURLE_OUT_OF_MEMORY;
	request->headers = grown;
	return CURLE_OK;
}

static CURLcode request_set_headers(struct http_request *request, const struct http_call *call)
{
	const char *const *header = call->headers;
	CURLcode result = CURLE_OK;

	for (; header && *header && result == CURLE_OK; header++)
		result = request_add_header(request, *header);
	if (call->keep_upload_open && result == CURLE_OK)
		result = request_add_header(request, "Transfer-Encoding: chunked");
	if (request->headers)
		SET(CURLOPT_HTTPHEADER, request->headers);
	return result;
}

static CURLcode request_set_body(struct http_request *request, const struct http_call *call)
{
	CURLcode result = CURLE_OK;

	if (call->keep_upload_open) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_READFUNCTION, on_curl_read);
		SET(CURLOPT_READDATA, request);
	} else if (call->body) {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_length);
		SET(CURLOPT_COPYPOSTFIELDS, call->body);
	}
	return result;
}

static CURLcode request_set_call(struct http_request *request, const struct http_call *call)
{
	CURLcode result = request_set_headers(request, call);

	SET(CURLOPT_URL, call->url);
	if (call->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
	if (!call->on_data)
		SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)call->answer_max);
	if (call->timeout)
		SET(CURLOPT_TIMEOUT_MS, milliseconds(call->timeout));
	if (call->connect_timeout)
		SET(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(call->connect_timeout));
	if (call->user) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, call->user);
		SET(CURLOPT_PASSWORD, call->password ? call->password : "");
	}
	return result;
}

static int request_prepare(struct http_request *request, const struct http_call *call,
			   struct error *error)
{
	CURLcode result;

	request->easy = curl_easy_init();
	if (call->keep_upload_open)
		text_add(&request->upload, call->body ? call->body : "", call->body_length);
	if (!request->easy || request->upload.failed || copy(call->name, &request->name) < 0)
		return error_no_memory(error);
	result = request_set_body(request, call);
	if (result == CURLE_OK)
		result = request_set_manners(request);
	if (result == CURLE_OK)
		result = request_set_functions(request);
	if (result == CURLE_OK)
		result = request_set_tls(request);
	if (result == CURLE_OK)
		result = request_set_call(request, call);
	if (result == CURLE_OUT_OF_MEMORY)
		return error_no_memory(error);
	if (result != CURLE_OK)
		return error_set(error, -EINVAL, ERROR_INVALID, "%s: libcurl: %s", call->name,
				 curl_easy_strerror(result));
	return 0;
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
	multi_code = curl_multi_add_handle(client->multi, request->easy);
	if (multi_code != CURLM_OK) {
		request_free(request);
		return error_set(error, -EIO, ERROR_FATAL, "%s: libcurl: %s", call->name,
				 curl_multi_strerror(multi_code));
	}
	TAILQ_INSERT_TAIL(&client->active, request, entry);
	*ret = request;
	return 0;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
	struct curl_header *header;

	/* -1: of the last answer, behind any "100 Continue". */
	if (curl_easy_header(request->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return NULL;
	return header->value;
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
