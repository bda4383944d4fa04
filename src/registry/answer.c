/* SPDX-License-Identifier: MIT */
#include "answer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "dragoman/base/json.h"
#include "dragoman/base/text.h"

/*
 * A wrong answer is a transient error: what speaks there now (a proxy, a host
 * that is coming up) may not be what speaks there next time.
 */

enum { STARTS_WITH = 24 };

void json_freep(json_t **json)
{
	json_decref(*json);
	*json = NULL;
}

int answer_wrong(struct error *error, const char *format, ...)
{
	char text[ERROR_MESSAGE_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return error_set(error, -EBADMSG, ERROR_TRANSIENT, "%s", text);
}

struct answer_quote answer_quote(const char *text, size_t length)
{
	struct answer_quote quote;

	(void)text_printable(quote.text, sizeof(quote.text), text, length);
	return quote;
}

int answer_parse(const char *body, size_t length, json_t **ret, struct error *error)
{
	size_t shown = length < STARTS_WITH ? length : STARTS_WITH;
	json_t *json;
	int code;

	if (length == 0)
		return answer_wrong(error, "answer is empty");
	code = json_read(body, length, JSON_ALLOW_NUL, &json, NULL);
	if (code == -ENOMEM)
		return error_no_memory(error);
	if (code < 0)
		return answer_wrong(error, "answer is not JSON (starts with \"%s\")",
				    answer_quote(body, shown).text);
	if (!json_is_object(json)) {
		json_decref(json);
		return answer_wrong(error, "answer is no JSON object (starts with \"%s\")",
				    answer_quote(body, shown).text);
	}
	*ret = json;
	return 0;
}

int answer_wrong_status(struct error *error, long status, const char *body, size_t length)
{
	size_t shown = length < STARTS_WITH ? length : STARTS_WITH;

	if (status >= 300 && status < 400)
		return answer_wrong(error, "status %ld: redirects are not followed", status);
	if (length == 0)
		return answer_wrong(error, "status %ld", status);
	return answer_wrong(error, "status %ld (starts with \"%s\"): is this an etcd?", status,
			    answer_quote(body, shown).text);
}
