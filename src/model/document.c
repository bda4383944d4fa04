/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The first byte that is no blank decides: '{' is a JSON object, anything else
 * plain text. Of an object only the members that are looked up count; the
 * rest may be whatever a registrar likes to keep there, so the decoder is told
 * to take integers of any size and NUL characters in strings. Of a member that
 * stands twice the last counts, as jansson(3) has it. Nesting is bounded by
 * jansson (2,048 levels), and the document by DOCUMENT_MAX.
 *
 * Reading does not know who asks: what a document says of its protocol is kept
 * as text, and compared later. The order of the checks shows in the reasons:
 * address and port, then the protocol, then weight and tags. So a mistake of
 * the last kind is found together with a protocol, and is only told to those
 * whom that protocol suits.
 *
 * Everything from the document that appears in a reason, and the tags, are
 * made printable here; nobody behind needs to think of it again.
 *
 * A function that finds a mistake writes the reason and returns -EINVAL.
 */
#include "reading.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

#include "dragoman/base/json.h"
#include "dragoman/base/text.h"

enum { PORT_MAX = 65535, ADDRESS_BRACKETS = 2 };

/* Text that is part of a document; borrowed from there. */
struct slice {
	const char *data;
	size_t length;
};

__attribute__((format(printf, 2, 3))) static int refuse(char *reason, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)text_format_list(reason, DOCUMENT_REASON_MAX, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static void json_freep(json_t **json)
{
	json_decref(*json);
}

static const char *piece(struct slice text, char into[PIECE_MAX])
{
	return text_printable(into, PIECE_MAX, text.data, text.length);
}

static struct slice json_slice(const json_t *string)
{
	return (struct slice){json_string_value(string), json_string_length(string)};
}

/* Absent and null are the same for a member that nobody has to give. */
static const json_t *optional(const json_t *object, const char *name)
{
	const json_t *member = json_object_get(object, name);

	return json_is_null(member) ? NULL : member;
}

static int parse_address(const char *name, struct slice text, struct endpoint *ret, char *reason)
{
	char shown[PIECE_MAX];

	if (endpoint_parse_address(text.data, text.length, ret) == 0)
		return 0;
	return refuse(reason, "%s%s\"%s\" is not an IP literal", name, name[0] ? " " : "",
		      piece(text, shown));
}

static int address_member(const json_t *object, const char *name, struct endpoint *ret,
			  char *reason)
{
	const json_t *member = json_object_get(object, name);

	if (!member)
		return refuse(reason, "missing %s", name);
	if (json_is_null(member))
		return refuse(reason, "%s is null", name);
	if (!json_is_string(member))
		return refuse(reason, "%s is not a string", name);
	return parse_address(name, json_slice(member), ret, reason);
}

static int number_from_text(const char *name, struct slice text, unsigned min, unsigned max,
			    unsigned *ret, char *reason)
{
	char shown[PIECE_MAX];
	uint64_t number = 0;
	int r = text_parse_number(text.data, text.length, max, &number);

	if (r == -EINVAL)
		return refuse(reason, "%s is not a number: \"%s\"", name, piece(text, shown));
	if (r < 0 || number < min)
		return refuse(reason, "%s %s is not %u..%u", name, piece(text, shown), min, max);
	*ret = (unsigned)number;
	return 0;
}

/* A number, integral and in bounds, or a string of decimal digits. */
static int parse_number(const char *name, const json_t *member, unsigned min, unsigned max,
			unsigned *ret, char *reason)
{
	double number;

	if (json_is_string(member))
		return number_from_text(name, json_slice(member), min, max, ret, reason);
	if (!json_is_number(member))
		return refuse(reason, "%s is not a number", name);
	number = json_number_value(member);
	/* In this order: only what is in bounds may be converted. */
	if (!(number >= min && number <= max) || number != (double)(unsigned)number)
		return refuse(reason, "%s %.15g is not %u..%u", name, number, min, max);
	*ret = (unsigned)number;
	return 0;
}

static int port_member(const json_t *object, const char *name, uint16_t *ret, char *reason)
{
	const json_t *member = json_object_get(object, name);
	unsigned port = 0;
	int r;

	if (!member)
		return refuse(reason, "missing %s", name);
	if (json_is_null(member))
		return refuse(reason, "%s is null", name);
	r = parse_number(name, member, 1, PORT_MAX, &port, reason);
	if (r == 0)
		*ret = (uint16_t)port;
	return r;
}

/* Address and port, from whichever pair of members the document has. */
static int parse_endpoint(const json_t *object, struct endpoint *ret, char *reason)
{
	static const struct {
		const char *address, *port;
	} forms[] = {{"ipaddress", "host_port"}, {"host", "port"}};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		int r;

		if (!json_object_get(object, forms[i].address) &&
		    !json_object_get(object, forms[i].port))
			continue;
		r = address_member(object, forms[i].address, ret, reason);
		return r < 0 ? r : port_member(object, forms[i].port, &ret->port, reason);
	}
	return refuse(reason, "neither a service document nor host and port");
}

static int parse_proto(const json_t *object, char ret[PIECE_MAX], char *reason)
{
	const json_t *member = optional(object, "proto");
	struct slice text;

	if (!member)
		return 0;
	if (!json_is_string(member))
		return refuse(reason, "proto is not a string");
	text = json_slice(member);
	(void)piece(text.length ? text : (struct slice){"\"\"", 2}, ret);
	return 0;
}

static int parse_tags(struct arena *arena, const json_t *object, struct tags *ret, char *reason)
{
	const json_t *member = optional(object, "tags");
	size_t count = json_array_size(member);

	if (!member)
		return 0;
	if (!json_is_array(member))
		return refuse(reason, "tags is not an array of strings");
	if (count == 0)
		return 0;
	ret->names = arena_array(arena, count, sizeof(*ret->names));
	if (!ret->names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const json_t *tag = json_array_get(member, i);
		struct slice text;

		if (!json_is_string(tag))
			return refuse(reason, "tags is not an array of strings");
		text = json_slice(tag);
		ret->names[i] = arena_printable(arena, text.data, text.length);
		if (!ret->names[i])
			return -ENOMEM;
	}
	ret->count = count;
	tags_settle(ret);
	return 0;
}

static int parse_weight(const json_t *object, unsigned *ret, char *reason)
{
	const json_t *member = optional(object, "weight");

	if (!member)
		return 0;
	return parse_number("weight", member, 0, WEIGHT_MAX, ret, reason);
}

static int parse_members(struct arena *arena, const json_t *object, struct reading *ret)
{
	int r = parse_endpoint(object, &ret->endpoint, ret->reason);

	if (r == 0)
		r = parse_proto(object, ret->proto, ret->reason);
	if (r == 0)
		r = parse_weight(object, &ret->weight, ret->reason);
	if (r == 0)
		r = parse_tags(arena, object, &ret->tags, ret->reason);
	return r;
}

static int parse_object(struct arena *arena, struct slice text, struct reading *ret)
{
	const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
	CLEANUP(json_freep) json_t *object = NULL;
	char shown[JSON_ERROR_TEXT_LENGTH];
	json_error_t error;
	int r = json_read(text.data, text.length, flags, &object, &error);

	if (r == 0)
		return parse_members(arena, object, ret);
	if (r == -ENOMEM)
		return r;
	(void)text_printable(shown, sizeof(shown), error.text, strlen(error.text));
	return refuse(ret->reason, "not JSON (line %d, column %d: %s)", error.line, error.column,
		      shown);
}

static int neither(char *reason)
{
	return refuse(reason, "neither a JSON object nor ip:port");
}

/* Takes the brackets of "[v6]" off; returns false when they do not belong there. */
static bool unbracket(struct slice *host)
{
	bool ipv6 = memchr(host->data, ':', host->length) != NULL;

	if (!ipv6)
		return host->length > 0 && !memchr(host->data, '[', host->length) &&
		       !memchr(host->data, ']', host->length);
	if (host->length < ADDRESS_BRACKETS || host->data[0] != '[' ||
	    host->data[host->length - 1] != ']')
		return false;
	host->data++;
	host->length -= ADDRESS_BRACKETS;
	return true;
}

static int parse_plain(struct slice text, struct endpoint *ret, char *reason)
{
	const char *colon = memrchr(text.data, ':', text.length);
	struct slice host, digits;
	struct endpoint bare;
	unsigned port = 0;
	uint64_t number;
	int r;

	if (endpoint_parse_address(text.data, text.length, &bare) == 0)
		return refuse(reason, "an address without a port (ip:port, [v6]:port)");
	if (!colon)
		return neither(reason);
	host = (struct slice){text.data, (size_t)(colon - text.data)};
	digits = (struct slice){colon + 1, text.length - host.length - 1};
	if (text_parse_number(digits.data, digits.length, UINT64_MAX, &number) == -EINVAL ||
	    !unbracket(&host))
		return neither(reason);
	r = parse_address("", host, ret, reason);
	if (r == 0)
		r = number_from_text("port", digits, 1, PORT_MAX, &port, reason);
	if (r == 0)
		ret->port = (uint16_t)port;
	return r;
}

static bool is_space(char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct slice trimmed(struct slice text)
{
	while (text.length && is_space(text.data[0])) {
		text.data++;
		text.length--;
	}
	while (text.length && is_space(text.data[text.length - 1]))
		text.length--;
	return text;
}

int document_read(struct arena *arena, const char *value, size_t length, struct reading *ret)
{
	struct slice text = {value, length};

	*ret = (struct reading){.weight = 1};
	if (length > DOCUMENT_MAX)
		return refuse(ret->reason, "%zu bytes, at most %d", length, DOCUMENT_MAX);
	text = trimmed(text);
	if (text.length == 0)
		return refuse(ret->reason, "empty");
	if (text.data[0] != '{')
		return parse_plain(text, &ret->endpoint, ret->reason);
	/* From the start on: the decoder counts lines. */
	text.length += (size_t)(text.data - value);
	text.data = value;
	return parse_object(arena, text, ret);
}

int proto_suits(const char *proto, enum protocol protocol, char *reason)
{
	enum protocol found;

	if (protocol_parse(proto, strlen(proto), &found) == 0 && found == protocol)
		return 0;
	return refuse(reason, "proto %s, not %s", proto, protocol_name(protocol));
}

int document_parse(struct arena *arena, const char *value, size_t length, enum protocol protocol,
		   struct candidate *ret, char *reason)
{
	struct reading reading;
	int r = document_read(arena, value, length, &reading);

	if (r == -ENOMEM)
		return r;
	ret->endpoint = reading.endpoint;
	ret->weight = reading.weight;
	ret->tags = reading.tags;
	if (reading.proto[0] && proto_suits(reading.proto, protocol, reason) < 0)
		return -EINVAL;
	return r < 0 ? refuse(reason, "%s", reading.reason) : 0;
}
