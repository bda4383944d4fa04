/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A fuzzer without libFuzzer: gives each file of the folders that it is called
 * with to the fuzzer that it is linked to, once. So the check goes through what
 * was found in the past with any compiler, in a second.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

enum { INPUT_MAX = 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *folder, const char *name)
{
	CLEANUP(text_done) struct text path = {0};
	CLEANUP(memory_free) char *data = NULL, *exact = NULL;
	size_t length;
	int code;

	text_printf(&path, "%s/%s", folder, name);
	if (path.failed)
		return -ENOMEM;
	code = text_read_file(path.data, INPUT_MAX, &data, &length);
	if (code < 0)
		return code;
	/* Of just that size, so that a read behind it is seen. */
	exact = malloc(length ? length : 1);
	if (!exact)
		return -ENOMEM;
	memcpy(exact, data, length);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)exact, length);
	return 0;
}

/* How many files there are, or -errno. */
static int replay_all(const char *folder)
{
	DIR *directory = opendir(folder);
	const struct dirent *entry;
	int count = 0, code = 0;

	if (!directory)
		return -errno;
	while (code == 0 && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		code = replay(folder, entry->d_name);
		count++;
	}
	(void)closedir(directory);
	return code < 0 ? code : count;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int count = replay_all(argv[i]);

		if (count <= 0) {
			(void)fprintf(stderr, "%s: %s\n", argv[i],
				      count < 0 ? strerror(-count) : "nothing there");
			return 1;
		}
	}
	return 0;
}
