/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A value is cut at its borders first - the ';', the brackets, the '/' of the
 * port - and each part is then checked alone. A part knows where it lies in
 * the value, so that whatever is wrong is told with its column.
 *
 * Whether a value is meant for us is decided before anything else, and by the
 * ';' alone: other programs' variables may hold what they like. From there on
 * everything is an error of its author. The whole value is checked for text
 * before it is cut, so no later check meets half a character.
 *
 * A function that finds a mistake writes it into the descriptor and returns
 * -EINVAL; that is how parsing stops, not how it fails.
 */
#include "dragoman/model/descriptor.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dragoman/base/text.h"

enum {
	PIECE_MAX = 48, /* of the input that is quoted in a reason */
	PORT_DIGITS = 5,
	PORT_MAX = 65535,
};

/* A part of a value: the bytes from start up to, but not including, end. */
struct part {
	const char *value;
	size_t start, end;
};

static const char *const state_names[] = {
	[DESCRIPTOR_USED] = "used",         [DESCRIPTOR_MERGED] = "merged",
	[DESCRIPTOR_IGNORED] = "ignored",   [DESCRIPTOR_INVALID] = "invalid",
	[DESCRIPTOR_CONFLICT] = "conflict",
};
static_assert(ARRAY_SIZE(state_names) == DESCRIPTOR_CONFLICT + 1, "a state without a name");

const char *descriptor_state_name(enum descriptor_state state)
{
	return (size_t)state < ARRAY_SIZE(state_names) ? state_names[state] : "?";
}

/* `at` is the offset in the value; SIZE_MAX where no byte is to blame. */
__attribute__((format(printf, 3, 4))) static int invalid(struct descriptor *descriptor, size_t at,
							 const char *format, ...)
{
	va_list arguments;

	descriptor->state = DESCRIPTOR_INVALID;
	descriptor->column = at + 1;
	va_start(arguments, format);
	(void)text_format_list(descriptor->reason, sizeof(descriptor->reason), format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

static struct part trimmed(struct part part)
{
	while (part.start < part.end && is_blank(part.value[part.start]))
		part.start++;
	while (part.end > part.start && is_blank(part.value[part.end - 1]))
		part.end--;
	return part;
}

static size_t part_length(struct part part)
{
	return part.end - part.start;
}

/* Where byte stands in the part; the part's end where it does not. */
static size_t part_find(struct part part, char byte)
{
	const char *found = memchr(part.value + part.start, byte, part_length(part));

	return found ? (size_t)(found - part.value) : part.end;
}

/* The printable form of a part, or of as much of it as goes into a reason. */
static char *piece(struct part part, char into[PIECE_MAX])
{
	return text_printable(into, PIECE_MAX, part.value + part.start, part_length(part));
}

/* The same of the one character at an offset. The value is UTF-8 by now. */
static char *piece_at(struct part part, size_t at, char into[PIECE_MAX])
{
	size_t end = at + 1;

	while (end < part.end && ((unsigned char)part.value[end] & 0xc0) == 0x80)
		end++;
	return piece((struct part){part.value, at, end}, into);
}

static bool is_control(const unsigned char *bytes, size_t length)
{
	if (bytes[0] == '\t')
		return false;
	if (bytes[0] < 0x20 || bytes[0] == 0x7f)
		return true;
	return bytes[0] == 0xc2 && length > 1 && bytes[1] >= 0x80 && bytes[1] < 0xa0; /* C1 */
}

static int check_text(struct part value, struct descriptor *ret)
{
	const unsigned char *bytes = (const unsigned char *)value.value;
	size_t valid = text_utf8_length(value.value, value.end);

	for (size_t i = 0; i < valid; i++) {
		if (bytes[i] == '\0')
			return invalid(ret, i, "a NUL byte in the value");
		if (is_control(bytes + i, valid - i))
			return invalid(ret, i, "control character \\x%02x",
				       bytes[i] == 0xc2 ? bytes[i + 1] : bytes[i]);
	}
	if (valid < value.end)
		return invalid(ret, valid, "byte \\x%02x is not UTF-8", bytes[valid]);
	return 0;
}

static int check_quotes(struct part value, struct descriptor *ret)
{
	struct part inner = trimmed(value);
	char quote = inner.start < inner.end ? inner.value[inner.start] : '\0';

	if ((quote != '"' && quote != '\'') || part_length(inner) < 2 ||
	    inner.value[inner.end - 1] != quote)
		return 0;
	return invalid(ret, inner.start, "the value stands in quotes: write it without %c", quote);
}

static bool is_name_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

/* The first offset that is none of a name (or, with slash, of a path); else the length. */
static size_t name_span(const char *name, size_t length, bool slash)
{
	size_t at = 0;

	while (at < length && (is_name_byte(name[at]) || (slash && name[at] == '/')))
		at++;
	return at;
}

static bool is_dots(const char *name, size_t length)
{
	return (length == 1 && name[0] == '.') || (length == 2 && memcmp(name, "..", 2) == 0);
}

/*
 * What is wrong with the segments of a path, which starts with '/' and has no
 * trailing one; NULL when nothing is. *ret_at is the segment's offset.
 */
static const char *check_segments(const char *path, size_t length, size_t *ret_at)
{
	const char *segment = path + 1, *const end = path + length;

	for (;;) {
		const char *slash = memchr(segment, '/', (size_t)(end - segment));
		size_t size = (size_t)((slash ? slash : end) - segment);

		*ret_at = (size_t)(segment - path);
		if (size == 0)
			return "empty segment in the key path";
		if (is_dots(segment, size))
			return size == 1 ? "segment '.' in the key path"
					 : "segment '..' in the key path";
		if (!slash)
			return NULL;
		segment = slash + 1;
	}
}

static int bad_service_character(struct part service, size_t at, bool path, struct descriptor *ret)
{
	char character[PIECE_MAX];

	if (is_blank(service.value[at]))
		return invalid(ret, at, "a blank inside the service");
	if (service.value[at] == '/')
		return invalid(ret, at, "'/' in a bare name: a key path starts with '/'");
	if (service.value[at] == ']')
		return invalid(ret, at, "']' without '['");
	return invalid(ret, at, "'%s' is not a character of a %s (letters, digits, . _ -%s)",
		       piece_at(service, at, character), path ? "key path" : "service name",
		       path ? " /" : "");
}

static int parse_path(struct part path, struct descriptor *ret)
{
	const char *reason;
	size_t at;

	if (part_length(path) == 1)
		return invalid(ret, path.start, "'/' alone is no service");
	if (path.value[path.end - 1] == '/')
		path.end--;
	reason = check_segments(path.value + path.start, part_length(path), &at);
	if (reason)
		return invalid(ret, path.start + at, "%s", reason);
	return 0;
}

static int parse_service(struct arena *arena, struct part service, struct descriptor *ret)
{
	const char *name = service.value + service.start;
	size_t length = part_length(service);
	bool path = name[0] == '/';
	size_t span = name_span(name, length, path);
	int r = 0;

	if (span < length)
		return bad_service_character(service, service.start + span, path, ret);
	if (path)
		r = parse_path(service, ret);
	else if (is_dots(name, length))
		r = invalid(ret, service.start, "'%.*s' is not a service name", (int)length, name);
	if (r < 0)
		return r;
	if (path && name[length - 1] == '/')
		length--;
	ret->service = arena_text(arena, name, length);
	return ret->service ? 0 : -ENOMEM;
}

static int compare_names(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;

	return strcmp(*left, *right);
}

void tags_settle(struct tags *tags)
{
	size_t kept = 0;

	if (tags->count == 0)
		return;
	qsort(tags->names, tags->count, sizeof(*tags->names), compare_names);
	for (size_t i = 1; i < tags->count; i++) {
		if (strcmp(tags->names[kept], tags->names[i]) != 0)
			tags->names[++kept] = tags->names[i];
	}
	tags->count = kept + 1;
}

static int check_tag(struct part tag, size_t border, struct descriptor *ret)
{
	static const char *const wrong[] = {"[", "\t"};

	if (part_length(tag) == 0)
		return invalid(ret, border, "empty tag");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		size_t at = part_find(tag, wrong[i][0]);

		if (at < tag.end)
			return invalid(ret, at, "%s is not a character of a tag",
				       wrong[i][0] == '[' ? "'['" : "a tab");
	}
	return 0;
}

/* What stands between the brackets. */
static int parse_tags(struct arena *arena, struct part list, struct descriptor *ret)
{
	size_t count = 1, border;

	if (part_length(trimmed(list)) == 0)
		return 0;
	for (size_t i = list.start; i < list.end; i++)
		count += list.value[i] == ',';
	ret->tags.names = arena_array(arena, count, sizeof(*ret->tags.names));
	if (!ret->tags.names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++, list.start = border + 1) {
		struct part tag;
		char *name;
		int r;

		border = part_find(list, ',');
		tag = trimmed((struct part){list.value, list.start, border});
		r = check_tag(tag, border, ret);
		if (r < 0)
			return r;
		name = arena_text(arena, tag.value + tag.start, part_length(tag));
		if (!name)
			return -ENOMEM;
		ret->tags.names[ret->tags.count++] = name;
	}
	tags_settle(&ret->tags);
	return 0;
}

/* What stands before the ';': the service, and its tags where there are brackets. */
static int parse_left(struct arena *arena, struct part left, bool only_names,
		      struct descriptor *ret)
{
	size_t opening = part_find(left, '[');
	struct part service = trimmed((struct part){left.value, left.start, opening});
	struct part list = {left.value, opening + 1, left.end}, rest;
	char character[PIECE_MAX];
	int r;

	if (part_length(service) == 0)
		return invalid(ret, opening, "no service before '%c'", left.value[opening]);
	if (only_names && left.value[service.start] == '/')
		return invalid(ret, service.start,
			       "a key path, where the registry knows services by name alone "
			       "(Consul)");
	r = parse_service(arena, service, ret);
	if (r < 0 || opening == left.end)
		return r;
	list.end = part_find(list, ']');
	if (list.end == left.end)
		return invalid(ret, opening, "'[' without ']'");
	rest = trimmed((struct part){left.value, list.end + 1, left.end});
	if (part_length(rest) > 0)
		return invalid(ret, rest.start, "'%s' after ']', where only ';' may stand",
			       piece_at(rest, rest.start, character));
	return parse_tags(arena, list, ret);
}

/* border is the offset of the ';' before it; next that of what ends it. */
static int parse_port(struct part port, size_t border, size_t next, struct descriptor *ret)
{
	char text[PIECE_MAX];
	uint64_t number = 0;

	if (part_length(port) == 0 && next < SIZE_MAX)
		return invalid(ret, next, "no port before '/'");
	if (part_length(port) == 0)
		return invalid(ret, border, "no port after ';'");
	for (size_t i = port.start; i < port.end; i++) {
		if (is_blank(port.value[i]))
			return invalid(ret, i, "a blank inside the port");
		if (port.value[i] < '0' || port.value[i] > '9')
			return invalid(ret, i, "'%s' is not a digit of a port",
				       piece_at(port, i, text));
	}
	if (part_length(port) > PORT_DIGITS ||
	    text_parse_number(port.value + port.start, part_length(port), PORT_MAX, &number) < 0 ||
	    number == 0)
		return invalid(ret, port.start, "port %s is not 1..65535", piece(port, text));
	ret->listen.port = (uint16_t)number;
	return 0;
}

/* What stands after the ';': the port, and the protocol where there is a '/'. */
static int parse_right(struct part right, struct descriptor *ret)
{
	size_t slash = part_find(right, '/');
	struct part port = trimmed((struct part){right.value, right.start, slash}), proto;
	char text[PIECE_MAX];
	int r;

	r = parse_port(port, right.start - 1, slash < right.end ? slash : SIZE_MAX, ret);
	if (r < 0)
		return r;
	ret->listen.protocol = PROTOCOL_TCP;
	if (slash == right.end)
		return 0;
	proto = trimmed((struct part){right.value, slash + 1, right.end});
	if (part_length(proto) == 0)
		return invalid(ret, slash, "no protocol after '/'");
	if (protocol_parse(proto.value + proto.start, part_length(proto), &ret->listen.protocol) <
	    0)
		return invalid(ret, proto.start, "'%s' is not tcp or udp", piece(proto, text));
	return 0;
}

static int parse_value(struct arena *arena, struct part value, bool only_names,
		       struct descriptor *ret)
{
	struct part left = value, right = value;
	size_t second;
	int r;

	if (value.end > DESCRIPTOR_VALUE_MAX)
		return invalid(ret, SIZE_MAX, "value of %zu bytes, at most %d", value.end,
			       DESCRIPTOR_VALUE_MAX);
	r = check_text(value, ret);
	if (r == 0)
		r = check_quotes(value, ret);
	if (r < 0)
		return r;
	left.end = part_find(value, ';');
	right.start = left.end + 1;
	second = part_find(right, ';');
	if (second < right.end)
		return invalid(ret, second, "a second ';'");
	r = parse_left(arena, left, only_names, ret);
	return r < 0 ? r : parse_right(right, ret);
}

int descriptor_parse(struct arena *arena, const char *value, size_t length, bool only_names,
		     struct descriptor *ret)
{
	int r;

	ret->state = DESCRIPTOR_USED;
	ret->reason[0] = '\0';
	ret->column = 0;
	ret->service = NULL;
	ret->tags = (struct tags){0};
	ret->listen = (struct listen){0};
	if (!memchr(value, ';', length)) {
		ret->state = DESCRIPTOR_IGNORED;
		(void)text_format(ret->reason, sizeof(ret->reason),
				  "no ';' in it: not a descriptor");
		return 0;
	}
	r = parse_value(arena, (struct part){value, 0, length}, only_names, ret);
	if (r != -EINVAL)
		return r;
	ret->service = NULL;
	ret->tags = (struct tags){0};
	ret->listen = (struct listen){0};
	return 0;
}

bool tags_equal(const struct tags *a, const struct tags *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	}
	return true;
}

bool tags_contain(const struct tags *tags, const char *name)
{
	return tags->count &&
	       bsearch(&name, tags->names, tags->count, sizeof(*tags->names), compare_names);
}

char *descriptor_key(struct arena *arena, const struct descriptor *descriptor, const char *root)
{
	if (!root || descriptor->service[0] == '/')
		return arena_text(arena, descriptor->service, strlen(descriptor->service));
	return arena_printf(arena, "%s/%s", strcmp(root, "/") == 0 ? "" : root,
			    descriptor->service);
}

static const char *check_key_path(const char *path, size_t length)
{
	size_t at;

	if (length > DESCRIPTOR_VALUE_MAX)
		return "longer than 4096 bytes";
	if (path[0] != '/')
		return "a key path starts with '/'";
	if (name_span(path, length, true) < length)
		return "a character that is not of a key path (letters, digits, . _ - /)";
	if (length > 1 && path[length - 1] == '/')
		length--;
	return length > 1 || path[1] ? check_segments(path, length, &at) : NULL;
}

int key_path_parse(struct arena *arena, const char *path, char **ret, const char **ret_reason)
{
	size_t length = strlen(path);
	const char *reason = check_key_path(path, length);
	char *copy;

	if (reason) {
		*ret_reason = reason;
		return -EINVAL;
	}
	if (path[length - 1] == '/')
		length--;
	copy = arena_text(arena, path, length);
	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}
