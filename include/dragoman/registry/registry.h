/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_REGISTRY_H
#define DRAGOMAN_REGISTRY_REGISTRY_H

/*
 * A registry: where services and their endpoint documents are found.
 *
 *     etcd://h:p[,h:p...]   etcds://    etcd v3, the JSON gateway
 *     etcd2://h:p[,h:p...]  etcd2s://   etcd v2, the keys API
 *     consul://h:p[,h:p...] consuls://  Consul, the health API
 *     file:///path.json                 an object of key -> value
 *
 * A service is known here by its canonical key, "/services/prod/app": that key
 * and everything below "/services/prod/app/" are its documents, and never
 * those of "/services/prod/app2".
 *
 * Consul has no keys, and knows a service by its name: "app". Each instance of
 * it becomes a document of the form {"host", "port", "tags", "weight"} with the
 * key "app/NODE/SERVICE-ID", whose address is the service's, or else its
 * node's. One whose checks do not all pass is a failing document. Weights
 * beyond WEIGHT_MAX are scaled down, those of all instances.
 *
 * Every listed host is tried; one that fails is left for the next, and the
 * one that answered is asked first from then on. An answer is only trusted
 * whole: where anything of a service's read failed, was cut off, or went over
 * a cap, the service's answer is an error and no documents.
 *
 * Documents have the keys that the registry has, in any order; a NUL byte in
 * one of etcd v3 stands there as the four characters "\x00". Bodies, numbers
 * of documents and files are capped (src/registry/registry_private.h).
 *
 * Everything happens on the loop; no function here waits, but for a local
 * file. A registry keeps
 * the revision that each answer was read at, which is where a watch resumes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dragoman/base/error.h"
#include "dragoman/base/loop.h"
#include "dragoman/model/document.h"

struct registry;

/* A third of what Consul takes of one address: others are there, and what was before a restart. */
enum { CONSUL_CONNECTIONS = 64, CONSUL_CONNECTIONS_MAX = 4096 };

struct registry_options {
	const char *url;
	const char *tls_ca, *tls_cert, *tls_key; /* PEM files, or NULL */
	const char *user;                        /* or NULL; Consul has none */
	/* Its first line, without its newline, is the password, or Consul's token; or NULL. */
	const char *password_file;
	/* Consul's: its own defaults where NULL; otherwise reads that the leader stands by. */
	const char *consul_datacenter, *consul_namespace;
	bool consul_stale; /* any server may answer, with what it knows */
	/* Blocking queries that are under way at once; 0: CONSUL_CONNECTIONS. */
	unsigned consul_connections;
	/*
	 * Nanoseconds for one request, whatever the number of hosts: each that is
	 * asked gets an equal share of what is left, and a third of that to
	 * connect. 0: none. Less than the deadline of the whole leaves time to
	 * tell what happened.
	 */
	uint64_t timeout;
};

/*
 * Whether a URL is one of a registry. Returns 0, -ENOMEM, or -EINVAL with the
 * part that is wrong named in error.
 */
int registry_check_url(const char *url, struct error *error);

/* Whether services have keys there, by a URL that is one. False: they have names alone. */
bool registry_has_keys(const char *url);

/*
 * Parses the URL and makes the registry; connects to nothing yet. Options are
 * copied. Errors are ERROR_INVALID and name the part of the URL, or the file,
 * that is wrong: -EINVAL, -ENOENT, -EACCES..., or -ENOMEM. TLS files for a URL
 * that is not encrypted are such an error, and so are options of a Consul for
 * what is none; a file takes no TLS files and no user, and ignores both.
 */
int registry_open(struct loop *loop, const struct registry_options *options, struct registry **ret,
		  struct error *error);

/* Ends what is under way without calling its functions, from anywhere; NULL is fine. */
void registry_free(struct registry *registry);
void registry_freep(struct registry **registry);

/* The URL as given, for messages: it never holds a password. */
const char *registry_url(const struct registry *registry);

/* Where in a registry's history something is. */
struct registry_position {
	uint64_t revision; /* of the whole registry; 0: it has none */
	uint64_t cluster;  /* what the revision is of: a registry set up anew has another */
	uint64_t index;    /* of that service alone, in registries that count so; else 0 */
};

/* The answer for one service. Borrowed for the call. */
struct registry_answer {
	const char *key;
	const struct error *error;        /* NULL: the documents are all there are */
	const struct document *documents; /* none is a genuine answer: nothing is there */
	size_t count;
	struct registry_position position; /* as of this read */
};

/*
 * Called once for each key, index being its place in the keys asked for, in
 * any order. It may cancel the read or free the registry, and so may the next.
 */
typedef void registry_answer_function(size_t index, const struct registry_answer *answer,
				      void *user);

/*
 * Called once, after the last answer. unreachable is NULL, or what happened
 * at the hosts (or to the file) when none of them gave any usable answer at
 * all: one message that names each host and what was wrong there. The message
 * of a service's own error names hosts too, and is for printing alone.
 */
typedef void registry_done_function(const struct error *unreachable, void *user);

struct registry_read;

/*
 * Reads services, many in one request where the registry can. keys are
 * copied. The read frees itself after on_done; registry_read_cancel() ends it
 * before that without a call. Functions are never called from within
 * registry_read_start(). Returns 0 or -errno with error set.
 */
int registry_read_start(struct registry *registry, const char *const *keys, size_t count,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error);
void registry_read_cancel(struct registry_read *read);

/*
 * What is there, for telling what somebody may have meant: as a read of one
 * key, whose answer has `most` documents or a few more, of which the keys alone
 * count. A directory of etcd v2 is one of them, and what is in it is not. key
 * may be "": the top.
 */
int registry_list_start(struct registry *registry, const char *key, size_t most,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error);

#endif
