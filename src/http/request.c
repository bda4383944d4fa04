/* SPDX-License-Identifier: MIT */
#include "request.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/*
 * Theory of operation
 *
 * One request: its options, set before libcurl gets it, and the functions that
 * libcurl calls while it has it. Those run within libcurl, which must not be
 * entered again: they store bytes, take bytes, and put the request into the
 * client's `news`, to be called when libcurl has returned (http.c).
 *
 * A stream is a request with on_data. What comes in is kept in its body only
 * until libcurl has returned. An upload that stays open is read by libcurl
 * (on_curl_read) until nothing is left to send; then it is paused, and
 * http_send() wakes it. It ends with the answer.
 */

enum { CA_SECONDS_MAX = 1 }; /* so that many connections at once read it once */

void request_free(struct http_request *request)
{
	loop_source_free(request->limit);
	if (request->easy)
		curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers);
	text_done(&request->body);
	text_done(&request->upload);
	free(request->name);
	free(request);
}

bool request_is_streaming(const struct http_request *request)
{
	long status = 0;

	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	return request->on_data && status >= 200 && status < 300;
}

void request_add_news(struct http_request *request)
{
	if (request->has_news)
		return;
	request->has_news = true;
	TAILQ_INSERT_TAIL(&request->client->news, request, news_entry);
}

/* CURLOPT_WRITEFUNCTION(3) */
static size_t on_curl_body(char *data, size_t size, size_t count, void *user)
{
	struct http_request *request = user;
	size_t length = size * count;
	bool streaming = request_is_streaming(request);

	/* Whatever its empty line looked like. */
	request->head_is_in = true;
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
	if (size * count != strlen("\r\n") || status < 200)
		return size * count;
	request->head_is_in = true;
	if (request->on_head)
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

static CURLcode request_set_functions(struct http_request *request)
{
	CURLcode result = CURLE_OK;

	SET(CURLOPT_ERRORBUFFER, request->failure);
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_WRITEFUNCTION, on_curl_body);
	SET(CURLOPT_WRITEDATA, request);
	SET(CURLOPT_HEADERFUNCTION, on_curl_header);
	SET(CURLOPT_HEADERDATA, request);
	return result;
}

/*
 * A process that runs for months sees certificates expire and CAs renewed: the
 * files are read anew for connections to come, and each connection is checked,
 * none trusted because one before it was. libcurl would keep a CA file for a
 * day, and resume sessions.
 */
static CURLcode request_set_tls(struct http_request *request)
{
	const struct http_client *client = request->client;
	CURLcode result = CURLE_OK;

	SET(CURLOPT_CA_CACHE_TIMEOUT, (long)CA_SECONDS_MAX);
	SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);

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
	if (call->user) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, call->user);
		SET(CURLOPT_PASSWORD, call->password ? call->password : "");
	}
	return result;
}

int request_prepare(struct http_request *request, const struct http_call *call, struct error *error)
{
	CURLcode result;

	request->easy = curl_easy_init();
	if (call->keep_upload_open)
		text_add(&request->upload, call->body ? call->body : "", call->body_length);
	request->name = strdup(call->name);
	if (!request->easy || request->upload.failed || !request->name)
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
	if (result == CURLE_OK)
		result = request_set_limits(request, call);
	if (result == CURLE_OUT_OF_MEMORY)
		return error_no_memory(error);
	if (result != CURLE_OK)
		return error_set(error, -EINVAL, ERROR_INVALID, "%s: libcurl: %s", call->name,
				 curl_easy_strerror(result));
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
