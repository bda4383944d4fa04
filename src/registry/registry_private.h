/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_REGISTRY_PRIVATE_H
#define DRAGOMAN_REGISTRY_PRIVATE_H

/*
 * What registry.c and the kinds of registry have in common.
 *
 * A kind (etcd3.c, etcd2.c, consul.c, file.c) is a table of functions. It gives each
 * service's answer to read_answer() or read_fail(); registry.c hands them on
 * from the end of the wake-up, so no function of the user ever runs below a
 * function of a kind.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dragoman/base/memory.h"
#include "dragoman/registry/registry.h"
#include "exchange.h"
#include "registry_url.h"

enum {
	SERVICE_DOCUMENTS_MAX = 256 * 1024,   /* documents of one service */
	SERVICE_BYTES_MAX = 64 * 1024 * 1024, /* keys and values of one service */
	ANSWER_BYTES_MAX = 16 * 1024 * 1024,  /* body of one HTTP answer */
	TREE_BYTES_MAX = 64 * 1024 * 1024,    /* of one that is a whole service */
	KEY_BYTES_MAX = 16 * 1024,            /* of a key that are kept */
	FILE_BYTES_MAX = 64 * 1024 * 1024,    /* the file of a file registry */
	PASSWORD_FILE_MAX = 64 * 1024,
};

/* The documents of one service, while they are gathered. */
struct document_list {
	struct arena *arena;
	struct document *items;
	size_t count, capacity;
	size_t bytes;
};

/*
 * Copies key and value, but for a value of more than DOCUMENT_MAX bytes; a NUL
 * byte in the key becomes "\x00". Returns 0 or -ENOMEM.
 */
int document_list_add(struct document_list *list, const char *key, size_t key_length,
		      const char *value, size_t value_length);
/*
 * The key as documents have it, in the arena: of more than KEY_BYTES_MAX bytes
 * the first so many, and a hash. NULL when memory is exhausted.
 */
char *document_key(struct arena *arena, const char *key, size_t length);
/* Forgets the documents from count on. */
void document_list_cut(struct document_list *list, size_t count);
/* Whether one service may hold that much. */
int document_list_check(const struct document_list *list, struct error *error);
void document_list_done(struct document_list *list);

struct registry_read;

struct watch_ops;

/* A kind of registry: how it is read, and how it is followed (watch_private.h). */
struct registry_ops {
	/*
	 * Starts to read read->keys. What goes wrong with a registry is told by
	 * answers; an error here is one of this process (-ENOMEM).
	 */
	int (*read_start)(struct registry_read *read, struct error *error);
	/* Ends what is under way and frees read->state (which may be NULL). */
	void (*read_end)(struct registry_read *read);
	const struct watch_ops *watch;
};

extern const struct registry_ops etcd3_ops, etcd2_ops, consul_ops, file_ops;

struct registry {
	struct loop *loop;
	const struct registry_ops *ops;
	char *text; /* the URL as given */
	struct registry_url url;
	struct hosts hosts;
	char *user, *password;        /* or NULL */
	char *header;                 /* of each request, with a secret in it; or NULL */
	char *datacenter, *namespace; /* of Consul, or NULL */
	bool stale;
	size_t flying_max;     /* blocking queries at once */
	char *token;           /* of etcd v3's authentication; NULL: none yet */
	unsigned token_serial; /* counts the tokens there were */
	uint64_t cluster;      /* what a watch knows is of that one; 0: none yet */
	LIST_HEAD(, registry_read) reads;
};

struct read_answer {
	struct document_list list;
	bool failed;
	struct error *error; /* malloc()ed; NULL where failed, and no memory for its text */
	struct registry_position position;
};

struct registry_read {
	struct registry *registry;
	LIST_ENTRY(registry_read) entry;
	char **keys;
	size_t count;
	size_t most; /* of registry_list_start(): keys that are enough; 0: all, with their values */
	void *state; /* the kind's own */
	struct exchange_group group; /* of kinds with hosts */
	struct error unreachable;    /* of kinds without: set by them */
	struct read_answer *answers; /* by index */
	size_t *ready;               /* indexes, in the order in which answers came */
	size_t given, handed_on;
	struct loop_source *deferred;
	registry_answer_function *on_answer;
	registry_done_function *on_done;
	void *user;
	bool calling, cancelled;
	/* Some host was of another cluster; no host that answers is of the known one. */
	bool has_foreign, takes_foreign;
};

/*
 * Whether an answer is of another cluster than what is known, with error set.
 * Then the next host is asked: one that was set up anew, alone, knows nothing
 * that counts. Where every host was asked, and the exchange failed,
 * read_takes_foreign() says whether to ask again, for any answer there is.
 */
bool read_is_foreign(struct registry_read *read, const struct registry_position *position,
		     struct error *error);
bool read_takes_foreign(struct registry_read *read);

/* Once for each index. Takes the list. */
void read_answer(struct registry_read *read, size_t index, struct document_list *list,
		 const struct registry_position *position);
/* Once for each index instead; error is copied. */
void read_fail(struct registry_read *read, size_t index, const struct error *error);

#endif
