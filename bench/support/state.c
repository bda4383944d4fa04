/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>

static bool number(const char *text, unsigned most, unsigned *ret)
{
	char *end;
	unsigned long found = strtoul(text, &end, 10);

	*ret = (unsigned)found;
	return *text && !*end && found <= most;
}

int state_parse(int argc, char **argv, struct state *ret)
{
	*ret = (struct state){0};
	if ((argc == 3 || (argc == 4 && number(argv[3], STATE_NAMESPACES_MAX, &ret->namespaces))) &&
	    number(argv[1], STATE_SERVICES_MAX, &ret->services) && ret->services &&
	    number(argv[2], STATE_ENDPOINTS_MAX, &ret->endpoints) && ret->endpoints)
		return 0;
	(void)fprintf(stderr, "usage: %s SERVICES ENDPOINTS [NAMESPACES]\n", argv[0]);
	return -1;
}
