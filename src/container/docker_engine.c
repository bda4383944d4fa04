/* SPDX-License-Identifier: MIT */
#include "docker_engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * The version is asked without one in the path, and stands in the path of
 * everything after it, so that an engine that is newer than this program
 * answers as it did when this was written.
 *
 * What went wrong is said in the words of the person who has to mend it: most
 * failures to reach an engine are one that does not run, or a user who may not.
 */

int docker_engine_init(struct docker_engine *engine, struct loop *loop, const char *url,
		       struct error *error)
{
	int code = docker_url_parse(url, &engine->url, error);

	engine->api[0] = '\0';
	return code < 0 ? code : http_client_new(loop, NULL, &engine->client, error);
}

void docker_engine_done(struct docker_engine *engine)
{
	http_client_free(TAKE(engine->client));
}

int docker_engine_get(const struct docker_engine *engine, const struct docker_get *get,
		      struct http_request **ret, struct error *error)
{
	CLEANUP(text_done) struct text url = {0};
	struct http_call call = {
		.name = engine->url.name,
		.unix_socket = engine->url.socket[0] ? engine->url.socket : NULL,
		.answer_max = ENGINE_ANSWER_MAX,
		.timeout = get->timeout,
		.connect_timeout = ENGINE_TIMEOUT,
		.on_head = get->on_head,
		.on_data = get->on_data,
		.on_done = get->on_done,
		.user_data = get->user,
	};

	text_printf(&url, "%s/%s%s%s", engine->url.base, engine->api, engine->api[0] ? "/" : "",
		    get->path);
	if (url.failed)
		return error_no_memory(error);
	call.url = url.data;
	return http_start(engine->client, &call, ret, error);
}

/* What to do about a connection that was not made; "" where nothing more is known. */
static const char *connect_hint(const struct docker_engine *engine)
{
	const char *socket = engine->url.socket;

	if (!socket[0])
		return " (does the engine listen there? --docker names another)";
	if (access(socket, F_OK) < 0 && errno == ENOENT)
		return " (is Docker running? --docker names another engine)";
	if (access(socket, W_OK) < 0 && errno == EACCES)
		return " (root, or a member of the socket's group, is needed)";
	return " (is Docker running?)";
}

static int explain_failure(const struct docker_engine *engine, const struct error *failure,
			   struct error *error)
{
	bool connecting = failure->code == -ECONNREFUSED || failure->code == -EACCES ||
			  failure->code == -ENOENT || failure->code == -EPERM;

	return error_set(error, failure->code, failure->class, "%s%s", failure->message,
			 connecting ? connect_hint(engine) : "");
}

int docker_engine_check(const struct docker_engine *engine, const struct http_answer *answer,
			const struct error *failure, struct error *error)
{
	char message[DOCKER_FAILURE_MAX];

	if (failure)
		return explain_failure(engine, failure, error);
	if (answer->status == 200)
		return 0;
	docker_decode_failure(answer->body, answer->length, message);
	if (!message[0])
		return error_set(error, -EBADMSG, ERROR_TRANSIENT,
				 "%s: status %ld: this is not a Docker engine (--docker names "
				 "another)",
				 engine->url.name, answer->status);
	if (answer->status == 404)
		return error_set(error, -ENOENT, ERROR_INVALID, "%s", message);
	return error_set(error, -EIO, ERROR_TRANSIENT, "%s: status %ld: %s", engine->url.name,
			 answer->status, message);
}

int docker_engine_take_version(struct docker_engine *engine, const struct http_answer *answer,
			       const struct error *failure, struct error *error)
{
	int code = docker_engine_check(engine, answer, failure, error);

	if (code < 0)
		return code;
	code = docker_decode_version(answer->body, answer->length, engine->api, error);
	if (code == -EBADMSG)
		(void)error_wrap(error, "this is not a Docker engine (--docker names another)");
	return code < 0 ? error_wrap(error, "%s", engine->url.name) : 0;
}
