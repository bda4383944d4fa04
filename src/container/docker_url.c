/* SPDX-License-Identifier: MIT */
#include "docker_url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * A socket's path is taken as it stands; the host that request URLs then name
 * is only what HTTP wants to have there. TCP is plain HTTP: engines that want
 * TLS, and those behind ssh, are refused with words, since DOCKER_HOST may
 * well name one.
 */

enum { PORT_DEFAULT = 2375, QUOTE_MAX = 200 };

static int invalid(struct error *error, const char *text, const char *why)
{
	char quoted[QUOTE_MAX];

	/* A password may stand before an "@". */
	if (strchr(text, '@') && strncasecmp(text, "unix://", strlen("unix://")) != 0)
		return error_set(error, -EINVAL, ERROR_INVALID, "Docker URL: %s", why);
	return error_set(error, -EINVAL, ERROR_INVALID, "Docker URL: %s: \"%s\"", why,
			 text_printable(quoted, sizeof(quoted), text, strlen(text)));
}

static int parse_socket(const char *text, const char *path, struct docker_url *ret,
			struct error *error)
{
	char printable[sizeof(ret->name) - sizeof("unix://")];

	if (path[0] != '/')
		return invalid(error, text, "the socket's path is not absolute (unix:///path)");
	if (strlen(path) >= sizeof(ret->socket))
		return invalid(error, text, "the socket's path is longer than 107 bytes");
	(void)snprintf(ret->socket, sizeof(ret->socket), "%s", path);
	(void)snprintf(ret->base, sizeof(ret->base), "http://localhost");
	(void)snprintf(ret->name, sizeof(ret->name), "unix://%s",
		       text_printable(printable, sizeof(printable), path, strlen(path)));
	return 0;
}

static bool is_name(const char *host, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_";

	return length > 0 && length <= DOCKER_HOST_MAX && host[0] != '-' &&
	       strspn(host, allowed) >= length;
}

static bool is_ipv6(const char *host, size_t length)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (length >= sizeof(text))
		return false;
	memcpy(text, host, length);
	text[length] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* The length of "host" or "[v6]" at the start of text; 0 where there is none. */
static size_t host_length(const char *text)
{
	size_t length = strcspn(text, ":/");

	if (text[0] == '[') {
		length = strcspn(text, "]");
		return text[length] && is_ipv6(text + 1, length - 1) ? length + 1 : 0;
	}
	return is_name(text, length) ? length : 0;
}

static int parse_host(const char *text, const char *host, struct docker_url *ret,
		      struct error *error)
{
	size_t length = host_length(host), whole = strlen(host);
	uint64_t port = PORT_DEFAULT;

	if (whole > 0 && host[whole - 1] == '/')
		whole--;
	if (length == 0 || length > whole)
		return invalid(error, text, "no host (tcp://HOST:PORT)");
	if (length < whole && host[length] != ':')
		return invalid(error, text, "nothing may stand behind the port");
	if (length < whole &&
	    (text_parse_number(host + length + 1, whole - length - 1, UINT16_MAX, &port) < 0 ||
	     port == 0))
		return invalid(error, text, "the port is not a number from 1 to 65535");
	ret->socket[0] = '\0';
	(void)snprintf(ret->base, sizeof(ret->base), "http://%.*s:%u", (int)length, host,
		       (unsigned)port);
	(void)snprintf(ret->name, sizeof(ret->name), "tcp%s", ret->base + strlen("http"));
	return 0;
}

int docker_url_parse(const char *text, struct docker_url *ret, struct error *error)
{
	static const struct {
		const char *scheme;
		int (*parse)(const char *text, const char *rest, struct docker_url *ret,
			     struct error *error);
		const char *why_not;
	} schemes[] = {
		{"unix://", parse_socket, NULL},
		{"tcp://", parse_host, NULL},
		{"http://", parse_host, NULL},
		{"https://", NULL, "TLS is not built"},
		{"ssh://", NULL, "ssh is not built; a tunnel to the socket can do it"},
		{"fd://", NULL, "that is for dockerd itself"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t length = strlen(schemes[i].scheme);

		if (strncasecmp(text, schemes[i].scheme, length) != 0)
			continue;
		if (!schemes[i].parse)
			return invalid(error, text, schemes[i].why_not);
		return schemes[i].parse(text, text + length, ret, error);
	}
	return invalid(error, text, "unix:///PATH or tcp://HOST:PORT is wanted");
}
