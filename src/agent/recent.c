/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent_private.h"

/*
 * Theory of operation: two rings, for whoever looks at the agent while it
 * works. They cost a copy for each change, no memory beyond their own, and no
 * look at the clock but one a commit.
 */

void recent_changes(struct agent *agent, const char *name, const struct verdicts *verdicts)
{
	struct recent *recent = &agent->recent;
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < verdicts->change_count; i++) {
		const struct change *change = &verdicts->changes[i];
		struct recent_change *into;

		if (change->is_object)
			continue;
		into = &recent->changes[recent->change_count++ % RECENT_CHANGES];
		*into = (struct recent_change){
			.time = (double)now.tv_sec + (double)now.tv_nsec / 1e9,
			.verdict = change->verdict,
			.listen = change->listen,
			.family = change->family,
			.has_endpoint = change->has_endpoint,
			.endpoint = change->endpoint,
		};
		(void)text_format(into->name, sizeof(into->name), "%s", name);
	}
}

void recent_latency(struct agent *agent, double seconds)
{
	struct recent *recent = &agent->recent;

	recent->latencies[recent->latency_count++ % RECENT_LATENCIES] = (float)seconds;
}

static json_t *change_json(const struct recent_change *change)
{
	char listen[ENDPOINT_TEXT_MAX], endpoint[ENDPOINT_TEXT_MAX];

	listen_format(&change->listen, (enum family)change->family, listen);
	return json_pack("{s:f, s:s, s:s, s:s, s:s?}", "time", change->time, "name", change->name,
			 "verdict", verdict_name(change->verdict), "listen", listen, "endpoint",
			 change->has_endpoint ? endpoint_format(&change->endpoint, endpoint)
					      : NULL);
}

json_t *recent_changes_json(const struct agent *agent)
{
	const struct recent *recent = &agent->recent;
	json_t *array = json_array();

	for (uint64_t i = recent->change_count; i > 0; i--) {
		if (recent->change_count - i == RECENT_CHANGES)
			break;
		json_array_append_new(array,
				      change_json(&recent->changes[(i - 1) % RECENT_CHANGES]));
	}
	return array;
}

static int compare_latencies(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Of `count` that are sorted, the least that is not below the given part of them. */
static json_t *quantile(const float *sorted, size_t count, size_t percent)
{
	return count ? json_real((double)sorted[(count * percent + 99) / 100 - 1]) : json_null();
}

json_t *recent_latencies_json(const struct agent *agent)
{
	const struct recent *recent = &agent->recent;
	uint64_t total = recent->latency_count;
	size_t count = total < RECENT_LATENCIES ? (size_t)total : RECENT_LATENCIES;
	float sorted[RECENT_LATENCIES];
	json_t *last = total ? json_real((double)recent->latencies[(total - 1) % RECENT_LATENCIES])
			     : json_null();

	memcpy(sorted, recent->latencies, count * sizeof(*sorted));
	if (count)
		qsort(sorted, count, sizeof(*sorted), compare_latencies);
	return json_pack("{s:I, s:o, s:i, s:o, s:o}", "count", (json_int_t)total, "last", last,
			 "of_last", (int)count, "p50", quantile(sorted, count, 50), "p99",
			 quantile(sorted, count, 99));
}
