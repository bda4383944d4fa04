/* SPDX-License-Identifier: MIT */
#include "registry_url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "dragoman/registry/registry.h"

/*
 * Theory of operation
 *
 * A URL is split at "://"; the scheme's row in a table says what the rest is:
 * a list of hosts, or a path. Whatever holds an "@" is refused before anything
 * of it is quoted, since a password may stand before it.
 */

enum { HOST_NAME_MAX_LENGTH = 253, QUOTE_MAX = 96 };

static const struct scheme {
	const char *name;
	enum registry_kind kind;
	bool tls;
	unsigned port; /* where the URL has none */
} schemes[] = {
	{"etcd", REGISTRY_ETCD3, false, 2379},    {"etcds", REGISTRY_ETCD3, true, 2379},
	{"etcd2", REGISTRY_ETCD2, false, 2379},   {"etcd2s", REGISTRY_ETCD2, true, 2379},
	{"consul", REGISTRY_CONSUL, false, 8500}, {"consuls", REGISTRY_CONSUL, true, 8501},
	{"file", REGISTRY_FILE, false, 0},
};

struct span {
	const char *data;
	size_t length;
};

/* What a message quotes. */
struct quote {
	char text[QUOTE_MAX];
};

static struct quote quote(struct span span)
{
	struct quote into;

	(void)text_printable(into.text, sizeof(into.text), span.data, span.length);
	return into;
}

static int invalid(struct error *error, const char *what, struct span span)
{
	return error_set(error, -EINVAL, ERROR_INVALID, "registry URL: %s: \"%s\"", what,
			 quote(span).text);
}

static const struct scheme *scheme_find(struct span name, struct error *error)
{
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strlen(schemes[i].name) == name.length &&
		    strncasecmp(schemes[i].name, name.data, name.length) == 0)
			return &schemes[i];
	}
	(void)error_set(error, -EINVAL, ERROR_INVALID,
			"registry URL: unknown scheme \"%s\" (known: etcd, etcds, etcd2, etcd2s, "
			"consul, consuls, file)",
			quote(name).text);
	return NULL;
}

static int port_parse(struct span text, unsigned *ret, struct error *error)
{
	uint64_t number;

	if (text_parse_number(text.data, text.length, 65535, &number) < 0 || number == 0)
		return invalid(error, "the port is not a number from 1 to 65535", text);
	*ret = (unsigned)number;
	return 0;
}

static bool is_name(struct span host)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_";

	if (host.length == 0 || host.length > HOST_NAME_MAX_LENGTH || host.data[0] == '-')
		return false;
	for (size_t i = 0; i < host.length; i++) {
		if (host.data[i] == '\0' || !strchr(allowed, host.data[i]))
			return false;
	}
	return true;
}

static bool is_ipv6(struct span host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (host.length >= sizeof(text))
		return false;
	memcpy(text, host.data, host.length);
	text[host.length] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* Splits "host", "host:port", "[v6]", "[v6]:port"; port->data is NULL where there is none. */
static int host_split(struct span item, struct span *host, struct span *port, struct error *error)
{
	const char *end = item.data + item.length, *colon;

	if (item.data[0] == '[') {
		const char *bracket = memchr(item.data, ']', item.length);

		if (!bracket)
			return invalid(error, "\"[\" without \"]\"", item);
		*host = (struct span){item.data + 1, (size_t)(bracket - item.data) - 1};
		if (!is_ipv6(*host))
			return invalid(error, "not an IPv6 address", *host);
		*host = (struct span){item.data, host->length + 2};
		colon = bracket + 1;
		if (colon < end && *colon != ':')
			return invalid(error, "after \"]\" comes a port or nothing", item);
	} else {
		colon = memchr(item.data, ':', item.length);
		if (!colon)
			colon = end;
		else if (memchr(colon + 1, ':', (size_t)(end - colon) - 1))
			return invalid(error, "an IPv6 address stands in brackets", item);
		*host = (struct span){item.data, (size_t)(colon - item.data)};
		if (host->length == 0)
			return invalid(error, "a host is missing before", item);
		if (!is_name(*host))
			return invalid(error, "not a host name", *host);
	}
	if (colon < end)
		*port = (struct span){colon + 1, (size_t)(end - colon) - 1};
	return 0;
}

static int host_add(struct registry_url *url, struct span item, unsigned port, struct error *error)
{
	struct span host = {0}, port_text = {0};
	int code;

	if (item.length == 0)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "registry URL: host %zu of the list is empty",
				 url->host_count + 1);
	code = host_split(item, &host, &port_text, error);
	if (code == 0 && port_text.data)
		code = port_parse(port_text, &port, error);
	if (code < 0)
		return code;
	if (url->host_count == REGISTRY_HOSTS_MAX)
		return error_set(error, -EINVAL, ERROR_INVALID, "registry URL: more than %d hosts",
				 REGISTRY_HOSTS_MAX);
	if (asprintf(&url->hosts[url->host_count], "http%s://%.*s:%u", url->tls ? "s" : "",
		     (int)host.length, host.data, port) < 0)
		return error_no_memory(error);
	url->host_count++;
	return 0;
}

static int hosts_parse(struct registry_url *url, struct span rest, unsigned port,
		       struct error *error)
{
	const char *from = rest.data, *end, *comma;
	int code;

	/* "etcd://host/" is what some tools write for "etcd://host". */
	if (rest.length > 0 && rest.data[rest.length - 1] == '/' &&
	    memchr(rest.data, '/', rest.length - 1) == NULL)
		rest.length--;
	end = rest.data + rest.length;
	for (const char *at = rest.data; at < end; at++) {
		struct span tail = {at, (size_t)(end - at)};

		if (*at == '?')
			return invalid(error, "a query is not taken", tail);
		if (*at == '#')
			return invalid(error, "a fragment is not taken", tail);
		if (*at == '/')
			return invalid(error, "a path is not taken", tail);
	}
	url->hosts = calloc(REGISTRY_HOSTS_MAX, sizeof(*url->hosts));
	if (!url->hosts)
		return error_no_memory(error);
	do {
		comma = memchr(from, ',', (size_t)(end - from));
		code = host_add(url, (struct span){from, (size_t)((comma ? comma : end) - from)},
				port, error);
		from = comma ? comma + 1 : end;
	} while (comma && code == 0);
	return code;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* RFC 8089; "%20" and its like are bytes. */
static int path_parse(struct registry_url *url, struct span rest, struct error *error)
{
	char *into;

	if (rest.length == 0 || rest.data[0] != '/')
		return invalid(error, "file:// takes an absolute path, as in file:///etc/x.json",
			       rest);
	for (size_t i = 0; i < rest.length; i++) {
		struct span tail = {rest.data + i, rest.length - i};

		if (rest.data[i] == '?' || rest.data[i] == '#')
			return invalid(error, "a query or fragment is not taken (write %3f, %23)",
				       tail);
	}
	url->path = into = calloc(1, rest.length + 1);
	if (!into)
		return error_no_memory(error);
	for (size_t i = 0; i < rest.length; i++) {
		int high, low;

		if (rest.data[i] != '%') {
			*into++ = rest.data[i];
			continue;
		}
		high = i + 2 < rest.length ? hex_digit(rest.data[i + 1]) : -1;
		low = i + 2 < rest.length ? hex_digit(rest.data[i + 2]) : -1;
		if (high < 0 || low < 0 || high + low == 0)
			return invalid(error, "\"%\" is followed by two hex digits, not 00",
				       (struct span){rest.data + i, rest.length - i});
		*into++ = (char)(high * 16 + low);
		i += 2;
	}
	return 0;
}

static int url_parse(const char *text, struct registry_url *url, struct error *error)
{
	const char *mark = strstr(text, "://");
	const struct scheme *scheme;
	struct span rest;

	if (strlen(text) > REGISTRY_URL_MAX)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "registry URL: longer than %d bytes", REGISTRY_URL_MAX);
	if (!mark || mark == text)
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "registry URL: no scheme (as in etcd://127.0.0.1:2379)");
	rest = (struct span){mark + 3, strlen(mark + 3)};
	scheme = scheme_find((struct span){text, (size_t)(mark - text)}, error);
	if (!scheme)
		return -EINVAL;
	url->kind = scheme->kind;
	url->tls = scheme->tls;
	if (url->kind == REGISTRY_FILE)
		return path_parse(url, rest, error);
	if (memchr(rest.data, '@', rest.length))
		return error_set(error, -EINVAL, ERROR_INVALID,
				 "registry URL: user and password (before \"@\") are not taken: "
				 "give a user and a password file");
	return hosts_parse(url, rest, scheme->port, error);
}

int registry_url_parse(const char *text, struct registry_url *ret, struct error *error)
{
	struct registry_url url = {0};
	int code = url_parse(text, &url, error);

	if (code < 0) {
		registry_url_done(&url);
		return code;
	}
	*ret = url;
	return 0;
}

int registry_check_url(const char *url, struct error *error)
{
	struct registry_url parsed = {0};
	int r = registry_url_parse(url, &parsed, error);

	if (r == 0)
		registry_url_done(&parsed);
	return r;
}

bool registry_has_keys(const char *url)
{
	struct registry_url parsed = {0};
	bool has_keys = true;

	if (registry_url_parse(url, &parsed, NULL) == 0)
		has_keys = parsed.kind != REGISTRY_CONSUL;
	registry_url_done(&parsed);
	return has_keys;
}

void registry_url_done(struct registry_url *url)
{
	for (size_t i = 0; i < url->host_count; i++)
		free(url->hosts[i]);
	free(url->hosts);
	free(url->path);
	*url = (struct registry_url){0};
}
