/* SPDX-License-Identifier: MIT */
#include "dragoman/model/verdict.h"

#include <assert.h>

static const char *const names[] = {
	[VERDICT_ADD] = "add",
	[VERDICT_REPLACE] = "replace",
	[VERDICT_REMOVE] = "remove",
};
static_assert(ARRAY_SIZE(names) == VERDICT_REMOVE + 1, "a name for each verdict");

const char *verdict_name(enum verdict verdict)
{
	return names[verdict];
}

bool verdicts_have_batch(const struct verdicts *verdicts)
{
	return verdicts->table_add || verdicts->table_remove || verdicts->chain_count ||
	       verdicts->set_count || verdicts->service_count || verdicts->endpoint_count ||
	       verdicts->unavailable_count || verdicts->stray_count;
}

bool verdicts_are_empty(const struct verdicts *verdicts)
{
	return !verdicts_have_batch(verdicts) && !verdicts->localnet_set && !verdicts->route_count;
}
