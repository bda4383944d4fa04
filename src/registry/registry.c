/* SPDX-License-Identifier: MIT */
#include "dragoman/registry/registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"
#include "registry_private.h"

/*
 * Theory of operation
 *
 * The kind of registry gathers answers; this hands them on. An answer waits in
 * its place of `answers`, and that place in `ready`, until the read's deferred
 * source runs at the end of the wake-up. So no function of the user's runs
 * while a kind is in the middle of something, and a read may be cancelled, or
 * the registry freed, from within any of them: what the kind holds is freed at
 * once, and the read itself when the function is back.
 *
 * Everything that handing on needs is allocated when the read starts: a read
 * always comes to its end.
 */

static int read_password(const char *path, char **ret, struct error *error)
{
	CLEANUP(memory_free) char *data = NULL;
	char name[256];
	size_t length, line;
	int code = text_read_file(path, PASSWORD_FILE_MAX, &data, &length);

	(void)text_printable(name, sizeof(name), path, strlen(path));
	if (code < 0)
		return error_set(error, code, ERROR_INVALID, "password file %s: %s", name,
				 strerror(-code));
	line = strcspn(data, "\n");
	if (line < length && data[line] == '\0')
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "password file %s: there is a NUL byte in it", name);
	if (line > 0 && data[line - 1] == '\r')
		line--;
	if (line == 0)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "password file %s: its first line is empty", name);
	data[line] = '\0';
	if (!text_is_utf8(data, line))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "password file %s: the password is not UTF-8", name);
	*ret = TAKE(data);
	return 0;
}

static int registry_set_user(struct registry *registry, const struct registry_options *options,
			     struct error *error)
{
	const char *user = options->user;

	if (!user && !options->password_file)
		return 0;
	if (!user || !options->password_file)
		return error_set(error, -EINVAL, ERROR_INVALID, "%s",
				 user ? "a registry user needs a password file"
				      : "a registry password file needs a user");
	if (!*user || !text_is_utf8(user, strlen(user)))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "the registry user is empty or not UTF-8");
	if (registry->url.kind == REGISTRY_ETCD2 && strchr(user, ':'))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "a registry user of etcd v2 holds no \":\"");
	registry->user = strdup(user);
	if (!registry->user)
		return error_no_memory(error);
	return read_password(options->password_file, &registry->password, error);
}

/* What goes into a header must not be able to end it. */
static bool is_token(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~')
			return false;
	}
	return true;
}

static int registry_set_token(struct registry *registry, const struct registry_options *options,
			      struct error *error)
{
	int code;

	if (options->user)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "Consul has no users: its token is the password, in a file");
	if (!options->password_file)
		return 0;
	code = read_password(options->password_file, &registry->password, error);
	if (code < 0)
		return code;
	if (!is_token(registry->password))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "the registry password is no token of Consul's: it has other "
				 "characters than printable ASCII");
	if (asprintf(&registry->header, "X-Consul-Token: %s", registry->password) < 0)
		registry->header = NULL;
	registry->hosts.header = registry->header;
	return registry->header ? 0 : error_no_memory(error);
}

static int copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int registry_set_consul(struct registry *registry, const struct registry_options *options,
			       struct error *error)
{
	bool is_consul = registry->url.kind == REGISTRY_CONSUL;

	if (!is_consul && (options->consul_datacenter || options->consul_namespace ||
			   options->consul_stale || options->consul_connections))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "options of Consul are given, but %s is none (as consul:// is)",
				 registry->text);
	registry->stale = options->consul_stale;
	registry->flying_max = options->consul_connections ? options->consul_connections
							   : CONSUL_CONNECTIONS;
	return copy(options->consul_datacenter, &registry->datacenter) < 0 ||
			       copy(options->consul_namespace, &registry->namespace) < 0
		       ? error_no_memory(error)
		       : 0;
}

static int registry_set_client(struct registry *registry, const struct registry_options *options,
			       struct error *error)
{
	const struct http_tls tls = {options->tls_ca, options->tls_cert, options->tls_key};

	if (!registry->url.tls && (tls.ca || tls.cert || tls.key))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "TLS files are given, but %s is not encrypted (as %s:// is)",
				 registry->text,
				 registry->url.kind == REGISTRY_CONSUL ? "consuls" : "etcds");
	return http_client_new(registry->loop, registry->url.tls ? &tls : NULL,
			       &registry->hosts.client, error);
}

static int registry_set_hosts(struct registry *registry, const struct registry_options *options,
			      struct error *error)
{
	int code = registry_set_client(registry, options, error);

	if (code == 0 && registry->url.kind == REGISTRY_CONSUL)
		code = registry_set_token(registry, options, error);
	else if (code == 0)
		code = registry_set_user(registry, options, error);
	if (code < 0)
		return code;
	registry->hosts.loop = registry->loop;
	registry->hosts.urls = registry->url.hosts;
	registry->hosts.count = registry->url.host_count;
	registry->hosts.timeout = options->timeout;
	if (registry->url.kind == REGISTRY_ETCD2) {
		registry->hosts.user = registry->user;
		registry->hosts.password = registry->password;
	}
	return 0;
}

static int registry_set(struct registry *registry, const struct registry_options *options,
			struct error *error)
{
	int code = registry_url_parse(options->url, &registry->url, error);

	if (code < 0)
		return code;
	registry->text = strdup(options->url);
	if (!registry->text)
		return error_no_memory(error);
	code = registry_set_consul(registry, options, error);
	if (code < 0)
		return code;
	switch (registry->url.kind) {
	case REGISTRY_ETCD3:
		registry->ops = &etcd3_ops;
		return registry_set_hosts(registry, options, error);
	case REGISTRY_ETCD2:
		registry->ops = &etcd2_ops;
		return registry_set_hosts(registry, options, error);
	case REGISTRY_CONSUL:
		registry->ops = &consul_ops;
		return registry_set_hosts(registry, options, error);
	case REGISTRY_FILE:
		registry->ops = &file_ops;
		return 0;
	}
	return -EINVAL;
}

int registry_open(struct loop *loop, const struct registry_options *options, struct registry **ret,
		  struct error *error)
{
	struct registry *registry = calloc(1, sizeof(*registry));
	int code;

	if (!registry)
		return error_no_memory(error);
	registry->loop = loop;
	LIST_INIT(&registry->reads);
	code = registry_set(registry, options, error);
	if (code < 0) {
		registry_free(registry);
		return code;
	}
	*ret = registry;
	return 0;
}

static void secret_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void registry_free(struct registry *registry)
{
	struct registry_read *read, *next;

	if (!registry)
		return;
	for (read = LIST_FIRST(&registry->reads); read; read = next) {
		next = LIST_NEXT(read, entry);
		registry_read_cancel(read);
	}
	http_client_free(registry->hosts.client);
	registry_url_done(&registry->url);
	secret_free(registry->password);
	secret_free(registry->header);
	free(registry->datacenter);
	free(registry->namespace);
	free(registry->user);
	free(registry->token);
	free(registry->text);
	free(registry);
}

void registry_freep(struct registry **registry)
{
	registry_free(*registry);
	*registry = NULL;
}

const char *registry_url(const struct registry *registry)
{
	return registry->text;
}

static void read_ready(struct registry_read *read, size_t index)
{
	read->ready[read->given++] = index;
	loop_source_trigger(read->deferred);
}

void read_answer(struct registry_read *read, size_t index, struct document_list *list,
		 const struct registry_position *position)
{
	struct read_answer *answer = &read->answers[index];

	answer->list = *list;
	*list = (struct document_list){0};
	answer->position = *position;
	read_ready(read, index);
}

void read_fail(struct registry_read *read, size_t index, const struct error *error)
{
	struct read_answer *answer = &read->answers[index];

	answer->failed = true;
	answer->error = malloc(sizeof(*answer->error));
	if (answer->error)
		*answer->error = *error;
	read_ready(read, index);
}

bool read_is_foreign(struct registry_read *read, const struct registry_position *position,
		     struct error *error)
{
	uint64_t known = read->registry->cluster;

	if (known == 0 || position->cluster == 0 || position->cluster == known ||
	    read->takes_foreign)
		return false;
	read->has_foreign = true;
	(void)error_set(error, -ESTALE, ERROR_INVALID,
			"it is of cluster %" PRIx64 ", and what is known of cluster %" PRIx64,
			position->cluster, known);
	return true;
}

bool read_takes_foreign(struct registry_read *read)
{
	read->takes_foreign = read->has_foreign;
	return read->takes_foreign;
}

static void read_answer_done(struct read_answer *answer)
{
	document_list_done(&answer->list);
	free(TAKE(answer->error));
}

/* Takes everything away from the read that it does not need to come back from a call. */
static void read_close(struct registry_read *read)
{
	read->registry->ops->read_end(read);
	LIST_REMOVE(read, entry);
	loop_source_free(TAKE(read->deferred));
	for (size_t i = 0; read->answers && i < read->count; i++)
		read_answer_done(&read->answers[i]);
	for (size_t i = 0; read->keys && i < read->count; i++)
		free(read->keys[i]);
	free(read->keys);
	free(read->answers);
	free(read->ready);
}

static void hand_on(struct registry_read *read, size_t index)
{
	struct read_answer *given = &read->answers[index], kept = *given;
	CLEANUP(memory_free) char *key = TAKE(read->keys[index]);
	struct registry_answer answer = {.key = key, .position = kept.position};
	struct error no_memory;

	/* Taken from the read, which the function may end. */
	*given = (struct read_answer){0};
	if (kept.failed && !kept.error)
		(void)error_no_memory(&no_memory);
	if (kept.failed) {
		answer.error = kept.error ? kept.error : &no_memory;
	} else {
		answer.documents = kept.list.items;
		answer.count = kept.list.count;
	}
	read->on_answer(index, &answer, read->user);
	read_answer_done(&kept);
}

static void hand_on_end(struct registry_read *read)
{
	struct error error = read->unreachable;

	if (read->count > 0 && read->group.hosts && !read->group.answered)
		exchange_group_error(&read->group, &error);
	read->on_done(error.code ? &error : NULL, read->user);
}

static void read_on_deferred(struct loop_source *source, void *user)
{
	struct registry_read *read = user;

	(void)source;
	read->calling = true;
	while (!read->cancelled && read->handed_on < read->given)
		hand_on(read, read->ready[read->handed_on++]);
	if (!read->cancelled && read->handed_on == read->count) {
		hand_on_end(read);
		if (!read->cancelled)
			read_close(read);
		read->cancelled = true;
	}
	read->calling = false;
	if (read->cancelled)
		free(read);
}

static int read_prepare(struct registry_read *read, const char *const *keys, struct error *error)
{
	read->keys = calloc(read->count + 1, sizeof(*read->keys));
	read->answers = calloc(read->count + 1, sizeof(*read->answers));
	read->ready = calloc(read->count + 1, sizeof(*read->ready));
	if (!read->keys || !read->answers || !read->ready)
		return error_no_memory(error);
	for (size_t i = 0; i < read->count; i++) {
		read->keys[i] = strdup(keys[i]);
		if (!read->keys[i])
			return error_no_memory(error);
	}
	if (loop_add_deferred(read->registry->loop, "registry read", read_on_deferred, read,
			      &read->deferred) < 0)
		return error_no_memory(error);
	/* Where there is nothing to read, its end is all there is to tell. */
	loop_source_trigger(read->deferred);
	return read->registry->ops->read_start(read, error);
}

/* template: what is wanted of a read that is made. */
static int read_new(const struct registry_read *template, const char *const *keys,
		    struct registry_read **ret, struct error *error)
{
	struct registry_read *read = calloc(1, sizeof(*read));
	int code;

	if (!read)
		return error_no_memory(error);
	*read = *template;
	LIST_INSERT_HEAD(&read->registry->reads, read, entry);
	code = read_prepare(read, keys, error);
	if (code < 0) {
		registry_read_cancel(read);
		return code;
	}
	*ret = read;
	return 0;
}

int registry_read_start(struct registry *registry, const char *const *keys, size_t count,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error)
{
	const struct registry_read template = {
		.registry = registry,
		.count = count,
		.on_answer = on_answer,
		.on_done = on_done,
		.user = user,
	};

	return read_new(&template, keys, ret, error);
}

int registry_list_start(struct registry *registry, const char *key, size_t most,
			registry_answer_function *on_answer, registry_done_function *on_done,
			void *user, struct registry_read **ret, struct error *error)
{
	const struct registry_read template = {
		.registry = registry,
		.count = 1,
		.most = most,
		.on_answer = on_answer,
		.on_done = on_done,
		.user = user,
	};

	return read_new(&template, &key, ret, error);
}

void registry_read_cancel(struct registry_read *read)
{
	if (!read || read->cancelled)
		return;
	read->cancelled = true;
	read_close(read);
	if (!read->calling)
		free(read);
}
