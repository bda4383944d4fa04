/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "agent_private.h"

/*
 * Prometheus' text format, version 0.0.4, names by its conventions:
 * https://prometheus.io/docs/practices/naming/
 *
 * contrib/check-metrics finds out from this file what there is: names stand whole in
 * put() and in the lines of # TYPE, labels behind a name.
 */

/* Seconds, the upper ends of the histogram's buckets. */
static const double bounds[HISTOGRAM_BUCKETS] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.025,
						 0.05,   0.1,   0.25,  0.5,   1.0,  5.0};

void metrics_error(struct agent *agent, const struct error *error)
{
	agent->metrics.errors[error->class]++;
}

static void observe(struct metrics *metrics, double seconds)
{
	unsigned bucket = 0;

	while (bucket < HISTOGRAM_BUCKETS && seconds > bounds[bucket])
		bucket++;
	metrics->buckets[bucket]++;
	metrics->seconds += seconds;
	metrics->observations++;
}

static void count(struct metrics *metrics, enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_ADD:
		metrics->adds++;
		break;
	case VERDICT_REPLACE:
		metrics->replaces++;
		break;
	case VERDICT_REMOVE:
		metrics->removes++;
		break;
	}
}

void metrics_commit(struct agent *agent, const struct verdicts *verdicts, uint64_t since)
{
	struct metrics *metrics = &agent->metrics;

	metrics->commits++;
	for (size_t i = 0; i < verdicts->service_count; i++)
		count(metrics, verdicts->services[i].verdict);
	for (size_t i = 0; i < verdicts->endpoint_count; i++)
		count(metrics, verdicts->endpoints[i].verdict);
	for (size_t i = 0; i < verdicts->unavailable_count; i++)
		count(metrics, verdicts->unavailable[i].verdict);
	if (since) {
		double seconds = (double)(loop_now(agent->loop) - since) / 1e9;

		observe(metrics, seconds);
		recent_latency(agent, seconds);
	}
}

static void put(struct text *out, const char *name, const char *type, const char *help,
		uint64_t value)
{
	text_printf(out, "# HELP dragoman_%s %s\n# TYPE dragoman_%s %s\ndragoman_%s %" PRIu64 "\n",
		    name, help, name, type, name, value);
}

/* Of the process: names that Prometheus' own client libraries give these. */
static void put_process(struct text *out, const struct agent *agent)
{
	unsigned long long size = 0, resident = 0;
	CLEANUP(memory_free) char *text = NULL;
	struct rusage usage = {0};
	size_t length;

	(void)getrusage(RUSAGE_SELF, &usage);
	text_printf(out,
		    "# HELP process_cpu_seconds_total Processor time, of all threads.\n"
		    "# TYPE process_cpu_seconds_total counter\n"
		    "process_cpu_seconds_total %.6f\n"
		    "# HELP process_start_time_seconds When it was started, since 1970.\n"
		    "# TYPE process_start_time_seconds gauge\n"
		    "process_start_time_seconds %" PRIu64 "\n",
		    (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
		    agent->started);
	/* In pages: proc(5). */
	if (text_read_file("/proc/self/statm", 4096, &text, &length) < 0 ||
	    sscanf(text, "%llu %llu", &size, &resident) != 2)
		return;
	text_printf(out,
		    "# HELP process_resident_memory_bytes Memory, libraries that others have too "
		    "included.\n"
		    "# TYPE process_resident_memory_bytes gauge\n"
		    "process_resident_memory_bytes %llu\n",
		    resident * (unsigned long long)sysconf(_SC_PAGESIZE));
}

static void put_histogram(struct text *out, const struct metrics *metrics)
{
	const char *name = "dragoman_event_to_commit_seconds";
	uint64_t sum = 0;

	text_printf(out,
		    "# HELP %s From a registry or container event to the commit that it led to.\n"
		    "# TYPE %s histogram\n",
		    name, name);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		sum += metrics->buckets[i];
		text_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], sum);
	}
	text_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9f\n%s_count %" PRIu64 "\n",
		    name, metrics->observations, name, metrics->seconds, name,
		    metrics->observations);
}

static void put_elements(struct text *out, const struct metrics *metrics)
{
	const struct {
		const char *verdict;
		uint64_t value;
	} rows[] = {{"add", metrics->adds},
		    {"replace", metrics->replaces},
		    {"remove", metrics->removes}};

	text_puts(out, "# HELP dragoman_elements_changed_total Map elements changed.\n"
		       "# TYPE dragoman_elements_changed_total counter\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		text_printf(out, "dragoman_elements_changed_total{verdict=\"%s\"} %" PRIu64 "\n",
			    rows[i].verdict, rows[i].value);
}

static void put_descriptors(struct text *out, const struct agent *agent)
{
	uint64_t counts[DESCRIPTOR_CONFLICT + 1] = {0};
	const struct target *target;

	LIST_FOREACH (target, &agent->targets, entry) {
		for (size_t i = 0; i < target->descriptors.count; i++)
			counts[target->descriptors.items[i]->state]++;
	}
	text_puts(out, "# HELP dragoman_descriptors Descriptors of the namespaces that are kept, "
		       "by what became of them.\n# TYPE dragoman_descriptors gauge\n");
	for (unsigned state = 0; state < ARRAY_SIZE(counts); state++)
		text_printf(out, "dragoman_descriptors{state=\"%s\"} %" PRIu64 "\n",
			    descriptor_state_name((enum descriptor_state)state), counts[state]);
}

/* As `dragoman status` has it: see state_of() in status.c. */
static void put_backends(struct text *out, const struct agent *agent)
{
	enum { READY, EMPTY, HELD };
	static const char *const names[] = {[READY] = "ready", [EMPTY] = "empty", [HELD] = "held"};
	uint64_t counts[ARRAY_SIZE(names)] = {0};
	const struct target *target;

	LIST_FOREACH (target, &agent->targets, entry) {
		for (size_t i = 0; i < target->backend_count; i++) {
			const struct backend *backend = &target->backends[i];

			if (subscription_is_held(agent, backend->subscription))
				counts[HELD]++;
			else
				counts[backend->had_endpoints ? READY : EMPTY]++;
		}
	}
	text_puts(out, "# HELP dragoman_backends Descriptors that are used, by whether their "
		       "service has an endpoint.\n# TYPE dragoman_backends gauge\n");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		text_printf(out, "dragoman_backends{state=\"%s\"} %" PRIu64 "\n", names[i],
			    counts[i]);
}

static void put_errors(struct text *out, const struct metrics *metrics)
{
	text_puts(out, "# HELP dragoman_errors_total Errors, by what can be done about them.\n"
		       "# TYPE dragoman_errors_total counter\n");
	for (unsigned class = 0; class < ARRAY_SIZE(metrics->errors); class ++)
		text_printf(out, "dragoman_errors_total{class=\"%s\"} %" PRIu64 "\n",
			    error_class_name((enum error_class) class), metrics->errors[class]);
}

/* Adds, for each subscription, what its backends of one target have seen. */
static void add_connections(const struct target *target, uint64_t *sums)
{
	const struct agent *agent = target->agent;
	struct snapshot snapshot;

	snapshot_take(target, &snapshot);
	for (size_t i = 0; i < target->backend_count; i++) {
		struct backend *backend = &target->backends[i];
		size_t at = subscription_position(agent, backend->subscription);

		if (snapshot.is_known)
			backend->connections = snapshot_connections(
				&snapshot, &backend->descriptor->listen, NULL);
		sums[at] += backend->connections;
	}
	snapshot_done(&snapshot);
}

static void put_connections(struct text *out, const struct agent *agent)
{
	CLEANUP(memory_free) uint64_t *sums = calloc(agent->subscription_count + 1, sizeof(*sums));
	const struct target *target;

	if (!sums)
		return;
	LIST_FOREACH (target, &agent->targets, entry)
		add_connections(target, sums);
	text_puts(out, "# HELP dragoman_service_connections Connections counted by the elements "
		       "that stand now.\n# TYPE dragoman_service_connections gauge\n");
	/* A canonical key holds nothing that a label would have to escape. */
	for (size_t i = 0; i < agent->subscription_count; i++)
		text_printf(out, "dragoman_service_connections{service=\"%s\"} %" PRIu64 "\n",
			    service_key(agent->subscriptions[i]->service), sums[i]);
}

static void put_registry(struct text *ret, const struct agent *agent)
{
	struct registry_counts counts = {0};

	if (agent->watch)
		registry_watch_counts(agent->watch, &counts);
	put(ret, "registry_events_total", "counter", "Changes told by the registry.",
	    counts.events);
	put(ret, "registry_reads_total", "counter", "Requests to read the registry.", counts.reads);
	put(ret, "watch_reconnects_total", "counter", "Times that the watch was connected again.",
	    counts.reconnects);
	put(ret, "watch_compactions_total", "counter",
	    "Times that all was read anew for want of a revision.", counts.compactions);
	put(ret, "watch_restorations_total", "counter",
	    "Times that the registry went back, or was another one.", counts.restorations);
	put(ret, "resync_changes_total", "counter",
	    "Services that a resync found changed though no event had told.",
	    agent->metrics.resync_changes);
	put(ret, "registry_connected", "gauge", "Whether the registry is connected.",
	    agent->watch && registry_watch_state(agent->watch) == REGISTRY_LIVE);
}

static void put_services(struct text *ret, const struct agent *agent)
{
	uint64_t held = 0, documents = 0, unusable = 0;

	for (size_t i = 0; i < agent->subscription_count; i++) {
		held += subscription_is_held(agent, agent->subscriptions[i]);
		documents += service_count(agent->subscriptions[i]->service);
		unusable += agent->subscriptions[i]->unusable;
	}
	put(ret, "services", "gauge", "Services that are followed.", agent->subscription_count);
	put(ret, "services_held", "gauge",
	    "Services of which what is known stays, for want of an answer.", held);
	put(ret, "documents", "gauge", "Documents of those services.", documents);
	put(ret, "documents_unusable", "gauge", "Those among them that cannot be used.", unusable);
	put(ret, "documents_rejected_total", "counter",
	    "Documents that came, or changed, and cannot be used.",
	    agent->metrics.documents_rejected);
}

static void put_namespaces(struct text *ret, const struct agent *agent)
{
	uint64_t kept = 0, failing = 0;
	const struct target *target;

	LIST_FOREACH (target, &agent->targets, entry) {
		kept++;
		failing += target->failure != NULL;
	}
	put(ret, "namespaces", "gauge", "Namespaces that are kept.", kept);
	put(ret, "namespaces_failing", "gauge",
	    "Those among them whose rules could not be made true at the last try.", failing);
}

static void put_agent(struct text *ret, const struct agent *agent)
{
	text_puts(ret, "# HELP dragoman_build_info The version that runs.\n"
		       "# TYPE dragoman_build_info gauge\n"
		       "dragoman_build_info{version=\"" DRAGOMAN_VERSION "\"} 1\n");
	put(ret, "ready", "gauge", "Whether the first full round is done.", agent->ready);
	put(ret, "resync_interval_seconds", "gauge", "How often everything is looked at anew.",
	    agent->options.resync / 1000000000);
	put(ret, "resync_timestamp_seconds", "gauge",
	    "When everything was last looked at anew, since 1970.", agent->resynced);
	if (agent->containers)
		put(ret, "engine_connected", "gauge", "Whether the container engine is connected.",
		    containers_state(agent->containers) == CONTAINERS_LIVE);
}

void agent_metrics(const struct agent *agent, struct text *ret)
{
	const struct metrics *metrics = &agent->metrics;

	put_agent(ret, agent);
	put_process(ret, agent);
	put_registry(ret, agent);
	put(ret, "container_events_total", "counter", "Containers that came, changed or went.",
	    metrics->container_events);
	put(ret, "commits_total", "counter", "Transactions that the kernel took.",
	    metrics->commits);
	put(ret, "drift_repairs_total", "counter",
	    "Times that a table changed by somebody else "
	    "was put right.",
	    metrics->repairs);
	put(ret, "process_doubts_total", "counter",
	    "Times that a process may not have been its container's any more, and the engine was "
	    "asked again.",
	    metrics->doubts);
	put(ret, "stale_flows_removed_total", "counter",
	    "Flows removed from conntrack because they led to an endpoint that is gone.",
	    metrics->flows_removed);
	put(ret, "sockets_closed_total", "counter",
	    "TCP sockets closed because their endpoint is gone (--on-remove reset).",
	    metrics->sockets_closed);
	put_namespaces(ret, agent);
	put_services(ret, agent);
	put_descriptors(ret, agent);
	put_backends(ret, agent);
	put_elements(ret, metrics);
	put_errors(ret, metrics);
	put_histogram(ret, metrics);
	put_connections(ret, agent);
}
