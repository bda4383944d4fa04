/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "request.h"

/*
 * Results of libcurl as errno, class and words. Its own words are for
 * programmers in places, and differ from release to release.
 */

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
	{CURLE_GOT_NOTHING, -ECONNABORTED, ERROR_TRANSIENT},
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

int request_failure(const struct http_request *request, struct error *error)
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
