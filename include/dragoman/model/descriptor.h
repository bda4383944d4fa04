/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_MODEL_DESCRIPTOR_H
#define DRAGOMAN_MODEL_DESCRIPTOR_H

/*
 * Descriptors: what a container says it needs.
 *
 *     variable = PREFIX NAME
 *     value    = service [ "[" tag *( "," tag ) "]" ] ";" port [ "/" proto ]
 *     service  = bare name | "/" key path        letters digits . _ - and, in a path, /
 *     port     = 1..65535, decimal
 *     proto    = tcp | udp, any case             tcp when left out
 *
 * A value without ";" is somebody else's variable and ignored; one with a ";"
 * that does not parse is invalid, with column and reason. A set of descriptors
 * is settled: those that ask for the same of one port merge, those that ask
 * for something else lose against the first and are conflicts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dragoman/model/endpoint.h"

enum {
	DESCRIPTOR_VALUE_MAX = 4096,   /* bytes of a value; longer ones are invalid */
	DESCRIPTOR_VARIABLE_MAX = 255, /* bytes of a variable's name, prefix included */
	DESCRIPTOR_REASON_MAX = 160,
};

/* Tags in byte order, each once. */
struct tags {
	char **names;
	size_t count;
};

/* Puts tags that were filled in any order into theirs. */
void tags_settle(struct tags *tags);

bool tags_equal(const struct tags *a, const struct tags *b);
bool tags_contain(const struct tags *tags, const char *name);

/* Where a descriptor came from; decides who wins a conflict. */
struct origin {
	const char *id;   /* the container's, or NULL; borrowed by the set */
	const char *name; /* the container's, for people, or NULL */
	uint64_t created; /* nanoseconds since 1970 (Docker's Created); 0 where there is none */
};

enum descriptor_state {
	DESCRIPTOR_USED,    /* the one that stands for its port */
	DESCRIPTOR_MERGED,  /* asks for what another asks for already */
	DESCRIPTOR_IGNORED, /* no ";": not meant for us */
	DESCRIPTOR_INVALID,
	DESCRIPTOR_CONFLICT, /* the port was taken by a descriptor before it */
};

/* "used", "merged", "ignored", "invalid", "conflict". */
const char *descriptor_state_name(enum descriptor_state state);

struct descriptor {
	struct origin origin;
	size_t order;   /* of adding, within the set */
	char *variable; /* with the prefix, printable */
	enum descriptor_state state;
	char reason[DESCRIPTOR_REASON_MAX]; /* of invalid, ignored and conflict; printable */
	size_t column; /* of invalid: 1-based byte of the value; 0 where no byte is to blame */
	/* What follows is set unless the descriptor is ignored or invalid. */
	char *service; /* a bare name, or a path "/a/b" without trailing slash */
	struct tags tags;
	struct listen listen;
};

/*
 * Parses one value of length bytes (NUL bytes count and are invalid). Sets
 * state to USED, IGNORED or INVALID, and the fields that belong to it; origin
 * and variable are left alone. With only_names a key path is invalid. Memory
 * comes from the arena. Returns 0, or -ENOMEM.
 */
int descriptor_parse(struct arena *arena, const char *value, size_t length, bool only_names,
		     struct descriptor *ret);

/*
 * Zero-initialise, and set arena. With root set, a bare name and the path that
 * it stands for are the same service when the set is settled. Without, services
 * are known by their names alone.
 */
struct descriptor_set {
	struct arena *arena; /* borrowed: everything in the set lives there */
	const char *root;    /* as key_path_parse() gives it, borrowed; NULL: no paths */
	struct descriptor **items;
	size_t count, capacity;
};

/*
 * Adds one variable. The value may hold anything; the variable's name is made
 * printable. An empty name, or one longer than DESCRIPTOR_VARIABLE_MAX, is an
 * invalid descriptor, unless the value is to be ignored anyway. Returns 0 or
 * -ENOMEM.
 */
int descriptor_set_add(struct descriptor_set *set, const struct origin *origin,
		       const char *variable, size_t variable_length, const char *value,
		       size_t value_length);

/*
 * Adds what carries the prefix out of an environment block: strings
 * "NAME=value", each ended by a NUL, as in /proc/PID/environ (proc(5)). The
 * last may lack its NUL. Strings without "=" are skipped; a name that is the
 * prefix and nothing behind it is an invalid descriptor. Returns 0 or -ENOMEM.
 */
int descriptor_set_add_block(struct descriptor_set *set, const struct origin *origin,
			     const char *prefix, const char *block, size_t length);

/*
 * Adds an environment file as `docker run --env-file` reads it: a line
 * "NAME=value", no quoting, blanks before NAME and a byte order mark dropped,
 * "#" at the start of a line for comments, blank lines; a bare NAME takes its
 * value from this process's environment, and is nothing where it is not there.
 * Where no name in the file carries the prefix, the file is read as if all
 * did (a bare NAME, too, is then looked up with it); else names without it are
 * somebody else's. CR before the newline is dropped. A name with a blank in
 * it, and one that is empty or the prefix alone, is an invalid descriptor.
 * Returns 0 or -ENOMEM.
 */
int descriptor_set_add_file(struct descriptor_set *set, const struct origin *origin,
			    const char *prefix, const char *data, size_t length);

/*
 * Settles merges and conflicts: by origin.created, origin.id, then the
 * variable's name in byte order (then the order of adding), the first of a
 * port is used. Sorts items in that order. The reason of a conflict names the
 * winner. May be called again after more was added.
 *
 * As for getenv(3), the first of several variables with one name and one
 * origin counts, whatever its value is: a later one that asks for something
 * else is a conflict, "stands twice: the first counts".
 */
void descriptor_set_settle(struct descriptor_set *set);

/*
 * The canonical registry key: a path as it stands, a bare name below root.
 * root is "/a/b" or "/" or "" (the top), or NULL: then it is the name itself.
 * NULL when memory is exhausted.
 */
char *descriptor_key(struct arena *arena, const struct descriptor *descriptor, const char *root);

/*
 * Checks and canonicalises a key path given by a user (--root): leading "/",
 * no empty, "." or ".." segment, a trailing slash dropped; "/" becomes "".
 * Returns 0, -ENOMEM, or -EINVAL with *ret_reason a string literal.
 */
int key_path_parse(struct arena *arena, const char *path, char **ret, const char **ret_reason);

#endif
