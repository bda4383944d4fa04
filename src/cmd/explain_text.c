/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a section for each station, its name in the first
 * column; then what is wrong, numbered, since the first is the one to begin
 * with. Lines are put together and broken as those of the status table are.
 */
#include "explain.h"

#include <inttypes.h>
#include <string.h>

enum { TITLE = 11, SLOTS_WIDTH = 10, ENDPOINTS_SHOWN = 40, SKIPPED_SHOWN = 20 };

struct sheet {
	struct text *out;
	const struct page *page;
};

/* A line of a section; the first of it has the title. */
static void put(const struct sheet *sheet, const char *title, enum page_colour colour,
		const char *format, ...) __attribute__((format(printf, 4, 5)));

static void put(const struct sheet *sheet, const char *title, enum page_colour colour,
		const char *format, ...)
{
	CLEANUP(text_done) struct text line = {0};
	char words[ERROR_MESSAGE_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)text_format_list(words, sizeof(words), format, arguments);
	va_end(arguments);
	text_printf(&line, "%-*s%s", TITLE, title, words);
	page_line(sheet->page, sheet->out, TITLE + 2 + strspn(words, " "), &line, colour);
}

/* --- Stations --------------------------------------------------------------------- */

static const char *what_of(const struct claim *claim)
{
	if (claim->is_winner)
		return "asks for it";
	if (strcmp(claim->state, "merged") == 0)
		return "asks for the same";
	if (strcmp(claim->state, "conflict") == 0)
		return "loses";
	return strcmp(claim->state, "invalid") == 0 ? "is invalid" : "is ignored";
}

/* Somebody else's variable is of interest where ours is missing. */
static bool is_shown(const struct story *story, const struct claim *claim)
{
	if (strcmp(claim->state, "ignored") != 0)
		return true;
	for (size_t i = 0; i < story->claim_count; i++) {
		if (story->claims[i].is_winner)
			return false;
	}
	return true;
}

static void print_claims(const struct sheet *sheet, const struct story *story)
{
	const char *title = "variable";

	for (unsigned winners = 2; winners-- > 0;) {
		for (size_t i = 0; i < story->claim_count; i++) {
			const struct claim *claim = &story->claims[i];

			if (claim->is_winner != (winners == 1) || !is_shown(story, claim))
				continue;
			put(sheet, title, claim->is_winner ? PAGE_PLAIN : PAGE_DIM, "%s%s%s %s%s%s",
			    claim->variable, claim->whose ? " of container " : "",
			    claim->whose ? claim->whose : "", what_of(claim),
			    claim->reason ? ": " : "", claim->reason ? claim->reason : "");
			title = "";
		}
	}
	if (story->claim_count == 0)
		put(sheet, title, PAGE_PLAIN,
		    story->claims_are_known ? "none asks for this port" : "not known");
}

static void print_agent(const struct sheet *sheet, const struct story *story)
{
	const struct agent_view *agent = &story->agent;

	switch (agent->presence) {
	case AGENT_NOT_THERE:
	case AGENT_SILENT:
		put(sheet, "agent", PAGE_PLAIN, "%s: %s",
		    agent->presence == AGENT_SILENT ? "not known" : "none",
		    agent->message ? agent->message : "nobody answers");
		return;
	case AGENT_ELSEWHERE:
		put(sheet, "agent", PAGE_PLAIN, "does not keep this namespace%s%s",
		    agent->message ? ": " : "", agent->message ? agent->message : "");
		return;
	case AGENT_KEEPS:
		put(sheet, "agent", PAGE_PLAIN, "keeps this namespace: %s%s%s%s",
		    agent->backend_state ? agent->backend_state : "the port is not asked for",
		    agent->backend_reason ? ", " : "",
		    agent->backend_reason ? agent->backend_reason : "",
		    agent->message ? " (failing, see below)" : "");
		return;
	}
}

static void add_tags(struct text *text, const struct tags *tags)
{
	for (size_t i = 0; i < tags->count; i++) {
		text_puts(text, i ? "," : "[");
		text_add_printable(text, tags->names[i], strlen(tags->names[i]));
	}
	text_puts(text, tags->count ? "]" : "");
}

static void print_documents(const struct sheet *sheet, const struct selection *selection)
{
	char endpoint[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < selection->endpoint_count && i < ENDPOINTS_SHOWN; i++) {
		const struct candidate *candidate = &selection->endpoints[i];

		put(sheet, "", PAGE_PLAIN, "  used     %s, weight %u: %s",
		    endpoint_format(&candidate->endpoint, endpoint), candidate->weight,
		    candidate->key);
	}
	if (selection->endpoint_count > ENDPOINTS_SHOWN)
		put(sheet, "", PAGE_PLAIN, "  and %zu more that are used",
		    selection->endpoint_count - ENDPOINTS_SHOWN);
	for (size_t i = 0; i < selection->skipped_count && i < SKIPPED_SHOWN; i++)
		put(sheet, "", PAGE_DIM, "  skipped  %s: %s", selection->skipped[i].key,
		    selection->skipped[i].reason);
	if (selection->skipped_count > SKIPPED_SHOWN)
		put(sheet, "", PAGE_DIM, "  and %zu more that are skipped (see dragoman resolve)",
		    selection->skipped_count - SKIPPED_SHOWN);
}

static void print_registry(const struct sheet *sheet, const struct story *story)
{
	const struct registry_view *registry = &story->registry;
	const struct selection *selection = &registry->selection;
	CLEANUP(text_done) struct text tags = {0};

	if (!registry->key)
		return;
	add_tags(&tags, registry->tags);
	put(sheet, "service", PAGE_PLAIN, "%s%s in %s", registry->key, tags.data ? tags.data : "",
	    registry->url);
	if (registry->failure) {
		put(sheet, "documents", PAGE_PLAIN, "not known: %s", registry->failure);
		return;
	}
	put(sheet, "documents", PAGE_PLAIN, "%zu used, %zu skipped", selection->endpoint_count,
	    selection->skipped_count);
	print_documents(sheet, selection);
}

/* Slots next to each other that lead to the same endpoint are one line. */
static size_t run_of(const struct kernel_face *face, size_t first, uint64_t *ret_packets)
{
	size_t last = first;

	*ret_packets = face->slots[first].packets;
	while (last + 1 < face->slot_count &&
	       endpoint_compare(&face->slots[last + 1].endpoint, &face->slots[first].endpoint) == 0)
		*ret_packets += face->slots[++last].packets;
	return last;
}

static void print_slots(const struct sheet *sheet, const struct kernel_face *face)
{
	char endpoint[ENDPOINT_TEXT_MAX], slots[32];
	size_t shown = 0, width;

	/* "slots 0-1", or however many digits there are. */
	(void)text_format(slots, sizeof(slots), "slots %zu-%zu", face->slot_count,
			  face->slot_count);
	width = strlen(slots) > SLOTS_WIDTH ? strlen(slots) : SLOTS_WIDTH;

	for (size_t i = 0, last; i < face->slot_count && shown < ENDPOINTS_SHOWN; i = last + 1) {
		uint64_t packets;

		last = run_of(face, i, &packets);
		if (last > i)
			(void)text_format(slots, sizeof(slots), "slots %zu-%zu", i, last);
		else
			(void)text_format(slots, sizeof(slots), "slot %zu", i);
		put(sheet, "", PAGE_PLAIN, "  %-*s -> %s, %" PRIu64 " connection%s", (int)width,
		    slots, endpoint_format(&face->slots[i].endpoint, endpoint), packets,
		    packets == 1 ? "" : "s");
		shown++;
	}
}

static void print_face(const struct sheet *sheet, const struct story *story, enum family family)
{
	const struct kernel_face *face = &story->kernel.faces[family];
	char listen[ENDPOINT_TEXT_MAX], chain[CHAIN_NAME_MAX];

	listen_format(&story->listen, family, listen);
	if (face->stands) {
		put(sheet, "", PAGE_PLAIN, "%s goes to chain %s, %s %zu slot%s", listen,
		    chain_format(&face->target, chain),
		    face->target.kind == CHAIN_NTH ? "one after the other of" : "at random one of",
		    face->slot_count, face->slot_count == 1 ? "" : "s");
		print_slots(sheet, face);
	} else if (face->unavailable) {
		put(sheet, "", PAGE_PLAIN, "%s is refused at once: there is no endpoint%s", listen,
		    story->kernel.faces[1 - (unsigned)family].stands ? " of that family" : "");
	} else {
		put(sheet, "", PAGE_PLAIN, "%s is left alone", listen);
	}
}

static void print_others(const struct sheet *sheet, const struct kernel_view *kernel)
{
	for (size_t i = 0; i < kernel->other_count; i++) {
		const struct kernel_other *other = &kernel->others[i];

		put(sheet, i ? "" : "others", PAGE_PLAIN, "%s%s: %zu rule%s, %zu of them may match",
		    other->where, other->is_legacy ? " (iptables-legacy)" : "", other->rules,
		    other->rules == 1 ? "" : "s", other->fitting);
	}
}

static void print_kernel(const struct sheet *sheet, const struct story *story)
{
	const struct kernel_view *kernel = &story->kernel;

	if (kernel->failure) {
		put(sheet, "kernel", PAGE_PLAIN, "not known: %s", kernel->failure);
		return;
	}
	if (!kernel->table) {
		put(sheet, "kernel", PAGE_PLAIN, "no table inet dragoman");
	} else {
		put(sheet, "kernel", PAGE_PLAIN, "table inet dragoman; route_localnet is %d",
		    kernel->localnet);
		for (unsigned family = 0; family < FAMILY_COUNT; family++)
			print_face(sheet, story, (enum family)family);
	}
	print_others(sheet, kernel);
}

static void print_probes(const struct sheet *sheet, const struct story *story)
{
	char endpoint[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < story->probe_count; i++) {
		const struct probe_result *probe = &story->probes[i];
		const char *title = i ? "" : "probe";

		endpoint_format(&probe->endpoint, endpoint);
		if (!story->probed)
			return;
		if (probe->code < 0)
			put(sheet, title, PAGE_RED, "%s: %s", endpoint, strerror(-probe->code));
		else
			put(sheet, title, PAGE_PLAIN, "%s answers after %.2g ms%s", endpoint,
			    (double)probe->time / 1e6,
			    !probe->is_localhost ? ""
			    : probe->is_counted  ? ", through our rules"
						 : ", but not through our rules");
	}
}

/* --- The verdict ------------------------------------------------------------------ */

static void print_finding(const struct sheet *sheet, const struct finding *finding, size_t number)
{
	CLEANUP(text_done) struct text what = {0}, look = {0};

	if (number)
		text_printf(&what, "%zu. ", number);
	else
		text_puts(&what, "-  ");
	text_puts(&what, finding->what);
	page_line(sheet->page, sheet->out, 3, &what, finding->is_wrong ? PAGE_RED : PAGE_PLAIN);
	if (!finding->look)
		return;
	text_printf(&look, "   Look at: %s", finding->look);
	page_line(sheet->page, sheet->out, 12, &look, PAGE_PLAIN);
}

static void print_findings(const struct sheet *sheet, const struct story *story)
{
	size_t number = 0;

	for (unsigned wrong = 2; wrong-- > 0;) {
		bool titled = false;

		for (size_t i = 0; i < story->finding_count; i++) {
			const struct finding *finding = &story->findings[i];

			if (finding->is_wrong != (wrong == 1))
				continue;
			if (!titled)
				text_puts(sheet->out,
					  wrong ? "\nWhat is wrong, first things first:\n"
						: "\nWorth to know:\n");
			titled = true;
			print_finding(sheet, finding, wrong ? ++number : 0);
		}
	}
}

static void print_verdict(const struct sheet *sheet, const struct story *story)
{
	if (story_is_broken(story))
		return;
	text_puts(sheet->out, "\n");
	if (story->kernel.failure || story->registry.failure)
		text_puts(sheet->out, "Nothing is wrong as far as could be seen.\n");
	else if (story->probed)
		text_puts(sheet->out, "All is as it should be, and was tried.\n");
	else if (story->listen.protocol != PROTOCOL_TCP)
		text_puts(sheet->out, "All is as it should be.\n");
	else
		text_puts(sheet->out, "All is as it should be. Whether the servers answer, --probe "
				      "tries.\n");
}

void story_print_text(struct text *out, const struct story *story, const struct page *page)
{
	const struct sheet sheet = {.out = out, .page = page};
	CLEANUP(text_done) struct text title = {0};

	text_printf(&title, "localhost:%" PRIu16 "/%s in %s", story->listen.port,
		    protocol_name(story->listen.protocol), story->target);
	if (story->netns)
		text_printf(&title, " (namespace %" PRIuMAX ")", (uintmax_t)story->netns);
	page_line(page, out, 2, &title, PAGE_BOLD);
	text_puts(out, "\n");
	print_claims(&sheet, story);
	print_agent(&sheet, story);
	print_registry(&sheet, story);
	print_kernel(&sheet, story);
	print_probes(&sheet, story);
	print_findings(&sheet, story);
	print_verdict(&sheet, story);
}
