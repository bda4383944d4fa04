/* SPDX-License-Identifier: MIT */
#include "by_hand.h"

#include <string.h>

#include "dragoman/base/text.h"

enum { VALUE_SHOWN_MAX = 48 };

/* "web" of "web:80": a port of digits behind the last colon. */
static size_t before_colon(const char *value)
{
	const char *colon = strrchr(value, ':');

	if (!colon || colon == value || !colon[1] ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return 0;
	return (size_t)(colon - value);
}

void descriptor_by_hand(struct descriptor *descriptor, const char *value)
{
	size_t length = before_colon(value);
	char shown[VALUE_SHOWN_MAX];

	if (descriptor->state != DESCRIPTOR_IGNORED)
		return;
	descriptor->state = DESCRIPTOR_INVALID;
	if (length) {
		text_printable(shown, sizeof(shown), value, length);
		(void)text_format(descriptor->reason, sizeof(descriptor->reason),
				  "no ';' in it: the port stands behind one: '%s;%s'", shown,
				  value + length + 1);
		return;
	}
	(void)text_format(descriptor->reason, sizeof(descriptor->reason),
			  "no ';' in it, so no port: 'SERVICE[TAG,...];PORT' is wanted, in quotes, "
			  "or a shell takes ';' and what follows for another command");
}
