/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_EXCHANGE_H
#define DRAGOMAN_REGISTRY_EXCHANGE_H

/*
 * A request that any of a registry's hosts may answer.
 *
 * An exchange asks the hosts one after the other, beginning with the one that
 * answered last, each once, until one gives an answer that its owner accepts.
 * The exchanges of one read are a group: they share what was learnt about the
 * hosts, so that a host that cannot be reached costs its timeout once and not
 * once a request.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"
#include "dragoman/http/http.h"

/* The hosts of a registry. */
struct hosts {
	struct loop *loop;
	struct http_client *client;
	char *const *urls; /* borrowed */
	size_t count;
	size_t preferred;            /* the one that answered last */
	bool answered;               /* one of them has, once at least */
	uint64_t timeout;            /* nanoseconds for one exchange; shared out among its hosts */
	const char *user, *password; /* basic authentication, or NULL; borrowed */
	const char *header;          /* of each request, or NULL; borrowed */
};

struct exchange;

struct exchange_group {
	struct hosts *hosts;
	struct host_state *states;
	bool answered; /* some host gave some answer that was accepted */
	LIST_HEAD(, exchange) exchanges;
};

/* Returns 0 or -ENOMEM. */
int exchange_group_init(struct exchange_group *group, struct hosts *hosts);
/* Ends every exchange of the group without a call. */
void exchange_group_done(struct exchange_group *group);
/* Whether no host is left to ask. */
bool exchange_group_is_down(const struct exchange_group *group);
/* Each host and what happened there last, in one message. */
void exchange_group_error(const struct exchange_group *group, struct error *error);

enum verdict_of_answer {
	ANSWER_ACCEPTED,
	ANSWER_NEXT_HOST, /* of no use: error says why */
	ANSWER_HOST_DOWN, /* and this host need not be asked again by this group */
};

struct exchange_answer {
	const char *host; /* "http://127.0.0.1:2379" */
	const struct http_request *request;
	long status;
	const char *body;
	size_t length;
};

/*
 * Judges an answer. error is set where there was no whole one; what the
 * function sets there itself gets the host's name put before it. The exchange
 * ends after ANSWER_ACCEPTED.
 */
typedef enum verdict_of_answer exchange_answer_function(const struct exchange_answer *answer,
							struct error *error, void *user);

/* No host gave an answer that was accepted; the exchange ends after the call. */
typedef void exchange_failed_function(const struct error *error, void *user);

struct exchange_call {
	const char *path;  /* copied */
	const char *token; /* for the header Authorization, or NULL; copied */
	struct text body;  /* POSTed where it has data; taken */
	size_t answer_max;
	exchange_answer_function *on_answer;
	exchange_failed_function *on_failed;
	void *user;
};

/* What an answer that never came whole means where its owner has no opinion. */
enum verdict_of_answer exchange_verdict(const struct error *error);

/* Returns 0, or -errno with error set; calls nothing from within. */
int exchange_start(struct exchange_group *group, struct exchange_call *call, struct error *error);

#endif
