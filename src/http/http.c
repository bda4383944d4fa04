/* SPDX-License-Identifier: MIT */
#include "dragoman/http/http.h"

#include <curl/curl.h>
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
 * A streaming request (a watch) joins as one more function of struct
 * http_call: on_data, called from client_deliver() like on_done.
 */

enum { HEADERS_MAX = 64 * 1024 };
enum request_state { REQUEST_ACTIVE, REQUEST_FINISHED, REQUEST_CALLED };

struct http_request {
	struct http_client *client;
	TAILQ_ENTRY(http_request) entry; /* in active or finished */
	enum request_state state;
	CURL *easy;
	CURLcode result;
	struct curl_slist *headers;
	char *name;
	struct text body;
	size_t answer_max;
	size_t header_length;
	bool too_long;
	http_done_function *on_done;
	void *user;
	char failure[CURL_ERROR_SIZE];
};

TAILQ_HEAD(request_queue, http_request);

struct http_client {
	struct loop *loop;
	struct loop_source *timer;
	CURLM *multi;
	char *ca, *cert, *key;
	struct request_queue active, finished;
	bool calling, freed;
};

/* The request that is being called goes when its function is back. */
static void request_end(struct http_request *request)
{
	struct http_client *client = request->client;

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
	free(request->name);
	free(request);
}

static void request_finish(struct http_request *request, CURLcode result)
{
	struct http_client *client = request->client;

	request_end(request);
	request->result = result;
	request->state = REQUEST_FINISHED;
	TAILQ_INSERT_TAIL(&client->finished, request, entry);
}

static const struct {
	CURLcode result;
	int code;
	enum error_class class;
} failures[] = {
	{CURLE_OUT_OF_MEMORY, -ENOMEM, ERROR_FATAL},
	{CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, ERROR_TRANSIENT},
	{CURLE_COULDNT_CONNECT, -ECONNREFUSED, ERROR_TRANSIENT},
	{CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, ERROR_TRANSIENT},
	{CURLE_PARTIAL_FILE, -ECONNRESET, ERROR_TRANSIENT},
	{CURLE_GOT_NOTHING, -ECONNRESET, ERROR_TRANSIENT},
	{CURLE_RECV_ERROR, -ECONNRESET, ERROR_TRANSIENT},
	{CURLE_SEND_ERROR, -ECONNRESET, ERROR_TRANSIENT},
	{CURLE_PEER_FAILED_VERIFICATION, -EPROTO, ERROR_INVALID},
	{CURLE_SSL_CONNECT_ERROR, -EPROTO, ERROR_INVALID},
	{CURLE_SSL_CACERT_BADFILE, -EINVAL, ERROR_INVALID},
	{CURLE_SSL_CERTPROBLEM, -EINVAL, ERROR_INVALID},
};

/* What OpenSSL has to say about it (TLS 1.3 tells after the handshake) is not for people. */
static bool failure_is_of_client_certificate(const char *text)
{
	return strstr(text, "alert bad certificate") ||
	       strstr(text, "alert certificate required") || strstr(text, "alert unknown ca");
}

static void failure_describe(const struct http_request *request, char *into, size_t size)
{
	const char *text = request->failure;
	long number = 0;
	size_t length;

	if (request->result == CURLE_COULDNT_CONNECT &&
	    curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number > 0)
		text = strerror((int)number);
	/* Releases of libcurl say this in words that differ, and not for people. */
	if (request->result == CURLE_PARTIAL_FILE)
		text = "the answer was cut off";
	if (!*text)
		text = curl_easy_strerror(request->result);
	if (failure_is_of_client_certificate(text))
		text = "the server refuses our client certificate, or that there is none";
	length = strlen(text);
	while (length > 0 && text[length - 1] == ' ')
		length--;
	/* It may quote a certificate's names, which are the other side's text. */
	(void)text_printable(into, size, text, length);
}

static int request_failure(const struct http_request *request, struct error *error)
{
	char text[CURL_ERROR_SIZE * 2];

	if (request->too_long || request->result == CURLE_FILESIZE_EXCEEDED)
		return error_set(error, -EFBIG, ERROR_INVALID,
				 "%s: the answer is longer than %zu bytes", request->name,
				 request->answer_max);
	if (request->header_length > HEADERS_MAX)
		return error_set(error, -EIO, ERROR_TRANSIENT,
				 "%s: the answer's headers are longer than %d bytes", request->name,
				 HEADERS_MAX);
	if (request->body.failed)
		return error_no_memory(error);
	failure_describe(request, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		if (failures[i].result == request->result)
			return error_set(error, failures[i].code, failures[i].class, "%s: %s",
					 request->name, text);
	}
	return error_set(error, -EIO, ERROR_TRANSIENT, "%s: %s", request->name, text);
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

static void client_deliver(struct http_client *client)
{
	struct http_request *request;

	client->calling = true;
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

/* CURLMOPT_SOCKETFUNCTION(3) */
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct http_client *client = user;
	struct loop_source *source = socket_user;
	unsigned events = 0;

	(void)easy;
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

	if (length > request->answer_max - request->body.length) {
		request->too_long = true;
		return 0;
	}
	text_add(&request->body, data, length);
	return request->body.failed ? 0 : length;
}

/* CURLOPT_HEADERFUNCTION(3): libcurl keeps them; here they are only counted. */
/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's own type */
static size_t on_curl_header(char *data, size_t size, size_t count, void *user)
{
	struct http_request *request = user;

	(void)data;
	request->header_length += size * count;
	return request->header_length > HEADERS_MAX ? 0 : size * count;
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

static CURLcode request_set_headers(struct http_request *request, const char *const *headers)
{
	CURLcode result = CURLE_OK;

	for (; headers && *headers; headers++) {
		struct curl_slist *grown = curl_slist_append(request->headers, *headers);

		if (!grown)
			return CURLE_OUT_OF_MEMORY;
		request->headers = grown;
	}
	if (request->headers)
		SET(CURLOPT_HTTPHEADER, request->headers);
	return result;
}

static CURLcode request_set_call(struct http_request *request, const struct http_call *call)
{
	CURLcode result = request_set_headers(request, call->headers);

	SET(CURLOPT_URL, call->url);
	if (call->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
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
	if (call->body) {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_length);
		SET(CURLOPT_COPYPOSTFIELDS, call->body);
	}
	return result;
}

static int request_prepare(struct http_request *request, const struct http_call *call,
			   struct error *error)
{
	CURLcode result;

	request->easy = curl_easy_init();
	if (!request->easy || copy(call->name, &request->name) < 0)
		return error_no_memory(error);
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

void http_cancel(struct http_request *request)
{
	if (!request || request->state == REQUEST_CALLED)
		return;
	request_end(request);
	request_free(request);
}
