/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CONTAINER_DOCKER_ENGINE_H
#define DRAGOMAN_CONTAINER_DOCKER_ENGINE_H

/* Requests to a Docker engine, and what to say where its answers are no good. */

#include "docker_codec.h"
#include "docker_url.h"
#include "dragoman/http/http.h"

/* Nanoseconds; and bytes of an answer: an environment may be escaped to several times its size. */
#define ENGINE_TIMEOUT UINT64_C(10000000000)
enum { ENGINE_ANSWER_MAX = 64 * 1024 * 1024 };

struct docker_engine {
	struct http_client *client;
	struct docker_url url;
	char api[DOCKER_API_MAX]; /* the version to speak; "" until it was asked */
};

/* Returns 0, -EINVAL (the URL), or what http_client_new() says. */
int docker_engine_init(struct docker_engine *engine, struct loop *loop, const char *url,
		       struct error *error);

/* Ends what is under way without calling its functions. */
void docker_engine_done(struct docker_engine *engine);

struct docker_get {
	const char *path; /* behind the version, without a slash at its start; already escaped */
	uint64_t timeout; /* 0: none */
	http_head_function *on_head;
	http_data_function *on_data; /* a stream; or NULL */
	http_done_function *on_done;
	void *user;
};

/* As http_start(). */
int docker_engine_get(const struct docker_engine *engine, const struct docker_get *get,
		      struct http_request **ret, struct error *error);

/*
 * Whether an answer is a good one (status 200). Returns 0; -ENOENT: the engine
 * knows no such container; or another -errno with error set, and a hint in it
 * where there is one.
 */
int docker_engine_check(const struct docker_engine *engine, const struct http_answer *answer,
			const struct error *failure, struct error *error);

/* GET /version was answered: keeps the version to speak. Returns 0 or -errno with error set. */
int docker_engine_take_version(struct docker_engine *engine, const struct http_answer *answer,
			       const struct error *failure, struct error *error);

#endif
