/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch_private.h"

/*
 * Theory of operation
 *
 * inotify(7) on the directory of the file, since most that change a file put
 * another one in its place, and on the directory where it really lies when it
 * is reached by a link. Both are asked for again before each read, so that a
 * directory that is gone and comes back is followed again: until then reads
 * fail, and are tried again after a pause (watch.c).
 *
 * Whatever happened, the whole file is read anew, once a wake-up. A service is
 * told where its documents are not those that were told last.
 *
 * A file that is just being written in place may be read half: that is no JSON
 * object, so the read fails, and its closing brings the next one.
 */

enum {
	EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
		 IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR,
	BUFFER_SIZE = 16 * 1024,
};

struct file_watch {
	struct registry_watch *watch;
	struct loop_source *source;
	int fd;
	bool is_linked; /* reached by a link: any name may be the one that matters */
};

/* The file's name in its directory. */
static const char *file_name(const struct file_watch *file)
{
	const char *path = file->watch->registry->url.path;
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void directory_add(const struct file_watch *file, const char *path)
{
	CLEANUP(memory_free) char *directory = strdup(path);
	char *slash = directory ? strrchr(directory, '/') : NULL;

	if (!slash)
		return;
	slash[slash == directory] = '\0';
	/* Where it fails the read fails too, and is tried again. */
	(void)inotify_add_watch(file->fd, directory, EVENTS);
}

static void file_reading(struct registry_watch *watch)
{
	struct file_watch *file = watch->kind;
	const char *path = watch->registry->url.path;
	CLEANUP(memory_free) char *real = realpath(path, NULL);

	directory_add(file, path);
	file->is_linked = real && strcmp(real, path) != 0;
	if (file->is_linked)
		directory_add(file, real);
}

/* One that was made and is empty is about to be written, and closed. */
static bool is_empty(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && status.st_size == 0;
}

static bool event_matters(const struct file_watch *file, const struct inotify_event *event)
{
	if (event->len > 0 && !file->is_linked && strcmp(event->name, file_name(file)) != 0)
		return false;
	return !(event->mask & IN_CREATE) || !is_empty(file->watch->registry->url.path);
}

static void on_inotify(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct file_watch *file = user;
	_Alignas(struct inotify_event) char buffer[BUFFER_SIZE];
	ssize_t length = read(fd, buffer, sizeof(buffer));
	struct watch_service *service;
	bool matters = false;

	(void)source;
	(void)events;
	for (const char *at = buffer; length > 0 && at < buffer + length;) {
		const struct inotify_event *event = (const void *)at;

		matters = matters || event_matters(file, event);
		at += sizeof(*event) + event->len;
	}
	if (!matters)
		return;
	TAILQ_FOREACH (service, &file->watch->services, entry)
		watch_read_again(service, false);
}

/* service->state is the documents that were told last. */
static bool file_is_known(struct watch_service *service, const struct document *documents,
			  size_t count)
{
	struct document_list *known = service->state;
	bool is_same = known && known->count == count;

	for (size_t i = 0; is_same && i < count; i++) {
		const struct document *old = &known->items[i], *new = &documents[i];

		is_same = strcmp(old->key, new->key) == 0 &&
			  old->length ==
				  new->length &&memcmp(old->value, new->value,
						       document_size(new->length)) == 0;
	}
	if (is_same)
		return true;
	if (!known)
		known = service->state = calloc(1, sizeof(*known));
	if (!known)
		return false;
	document_list_done(known);
	known->arena = arena_new();
	for (size_t i = 0; i < count; i++) {
		const struct document *document = &documents[i];

		if (known->arena && document_list_add(known, document->key, strlen(document->key),
						      document->value, document->length) == 0)
			continue;
		/* Then it is told again next time. */
		document_list_done(known);
		free(TAKE(service->state));
		return false;
	}
	return false;
}

static void file_follow(struct watch_service *service)
{
	watch_followed(service);
}

static void file_unfollow(struct watch_service *service)
{
	struct document_list *known = TAKE(service->state);

	if (known)
		document_list_done(known);
	free(known);
}

static int file_begin(struct registry_watch *watch, struct error *error)
{
	struct file_watch *file = calloc(1, sizeof(*file));

	if (!file)
		return error_no_memory(error);
	watch->kind = file;
	file->watch = watch;
	file->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (file->fd < 0)
		return error_set(error, -errno, ERROR_FATAL, "inotify: %s", strerror(errno));
	return loop_add_io(watch->loop, "registry file", file->fd, LOOP_READ, on_inotify, file,
			   &file->source) < 0
		       ? error_no_memory(error)
		       : 0;
}

static void file_end(struct registry_watch *watch)
{
	struct file_watch *file = watch->kind;

	if (!file)
		return;
	loop_source_free(file->source);
	fd_close(&file->fd);
	free(file);
	watch->kind = NULL;
}

const struct watch_ops file_watch_ops = {
	.begin = file_begin,
	.end = file_end,
	.reading = file_reading,
	.follow = file_follow,
	.unfollow = file_unfollow,
	.is_known = file_is_known,
	.is_live_by_reading = true,
};
