/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a loop with a timer that asks the agent, a second after
 * the answer before, or later where that took long, and draws what came. Keys and signals are
 * sources like the agent's socket, so that an agent which hangs does not keep anybody from leaving;
 * and whichever way it ends, the terminal is given back on the one way out.
 *
 * Without a terminal a line a second is written, and one for each change, as
 * for a log. Nothing is to be given back there, so signals do what they do by
 * default, and a reader who has gone is the end, and no failure.
 *
 * An agent that never answered is an error, as it is without --watch. One that
 * stops to answer is shown as such, above what was known last, and asked again.
 */
#include "watch.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "ask.h"
#include "dragoman/base/log.h"
#include "dragoman/base/loop.h"
#include "output.h"
#include "page.h"
#include "status_text.h"
#include "terminal.h"

static const uint64_t interval = UINT64_C(1000000000);
enum { PATIENCE = 9 }; /* times what an answer took */
enum { CHANGES_SHOWN = 5, ROWS_MIN = 8 };

struct watch {
	const struct options *options;
	struct loop *loop;
	struct agent_line *line;
	struct loop_source *tick, *keys, *signals;
	int signal_fd;
	struct terminal terminal;
	bool is_page;                  /* on a terminal */
	struct status_document status; /* the last answer */
	struct status_document before; /* and the one before it */
	uint64_t received;             /* when; 0: none yet */
	uint64_t asked;                /* when, last */
	double seconds;                /* between the two */
	size_t scroll;                 /* lines of the namespaces that are above the page */
	struct error failure;          /* of the last question; code 0: none */
	struct error fatal;            /* what ended it; code 0: nothing did */
};

static void watch_done(struct watch *watch)
{
	terminal_close(&watch->terminal);
	agent_line_free(watch->line);
	loop_source_free(watch->tick);
	loop_source_free(watch->keys);
	loop_source_free(watch->signals);
	fd_close(&watch->signal_fd);
	loop_free(watch->loop);
	status_done(&watch->status);
	status_done(&watch->before);
}

static double wall_clock(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct status_before before_of(const struct watch *watch)
{
	return (struct status_before){.status = watch->before.root ? &watch->before : NULL,
				      .seconds = watch->seconds};
}

/* --- Drawing ---------------------------------------------------------------------- */

static void add_failure(const struct watch *watch, struct text *head, const struct page *page)
{
	CLEANUP(text_done) struct text line = {0};

	if (!watch->failure.code)
		return;
	text_printf(&line, "%s; what follows is older", watch->failure.message);
	page_line(page, head, 2, &line, PAGE_RED);
}

static void add_head(const struct watch *watch, struct text *head, const struct page *page)
{
	const struct status_before before = before_of(watch);

	add_failure(watch, head, page);
	status_print_head(head, &watch->status, &before, page);
	status_print_changes(head, &watch->status, CHANGES_SHOWN, wall_clock(), page);
}

/* Lines of the body that fit, and what the last line says of the others. */
static void add_body(struct watch *watch, struct text *frame, const struct text *body, size_t room)
{
	CLEANUP(text_done) struct text hint = {0}, ignored = {0};
	size_t lines = terminal_add_lines(&ignored, body, 0, 0);

	if (watch->scroll + room > lines)
		watch->scroll = lines > room ? lines - room : 0;
	(void)terminal_add_lines(frame, body, watch->scroll, room);
	if (lines > room)
		text_printf(&hint, "lines %zu to %zu of %zu; j and k, space and b scroll, q quits",
			    watch->scroll + 1, watch->scroll + room, lines);
	else
		text_puts(&hint, "q quits");
	(void)terminal_add_lines(frame, &hint, 0, 1);
}

static int draw_page(struct watch *watch, struct error *error)
{
	const struct status_before before = before_of(watch);
	CLEANUP(text_done) struct text head = {0}, body = {0}, frame = {0};
	struct page page = page_of(STDOUT_FILENO);
	size_t rows = terminal_rows(), used;

	page.colour = output_wants_colour(STDOUT_FILENO);
	add_head(watch, &head, &page);
	status_print_namespaces(&body, &watch->status, &before, &page);
	rows = rows < ROWS_MIN ? ROWS_MIN : rows;
	used = terminal_add_lines(&frame, &head, 0, rows - 2);
	used = used < rows - 2 ? used : rows - 2;
	frame.failed |= body.failed;
	add_body(watch, &frame, &body, rows - 1 - used);
	return terminal_draw(&frame, error);
}

static int write_news(struct watch *watch, struct error *error)
{
	const struct status_before before = before_of(watch);
	CLEANUP(text_done) struct text text = {0};

	status_print_news(&text, &watch->status, &before, wall_clock());
	return output_write(STDOUT_FILENO, &text, error);
}

static void end(struct watch *watch, const struct error *error)
{
	if (error)
		watch->fatal = *error;
	loop_stop(watch->loop);
}

static void show(struct watch *watch)
{
	struct error error = {0};
	int code = watch->is_page ? draw_page(watch, &error) : write_news(watch, &error);

	if (code == -EPIPE)
		end(watch, NULL);
	else if (code < 0)
		end(watch, &error);
}

/* --- Asking ----------------------------------------------------------------------- */

static void take_failure(struct watch *watch, const struct error *error)
{
	if (!watch->received) {
		end(watch, error);
		return;
	}
	if (!watch->is_page && !watch->failure.code)
		log_error("%s", error->message);
	watch->failure = *error;
	if (watch->is_page)
		show(watch);
}

static void take_status(struct watch *watch, struct status_document *status)
{
	uint64_t now = loop_now(watch->loop);

	status_done(&watch->before);
	watch->before = watch->status;
	watch->status = *status;
	*status = (struct status_document){0};
	watch->seconds = (double)(now - watch->received) / 1e9;
	watch->received = now;
	watch->failure.code = 0;
	show(watch);
}

/* Counters of many endpoints take the agent's time: a tenth of it at most is for us. */
static void arm(struct watch *watch)
{
	uint64_t now = loop_now(watch->loop), pause = (now - watch->asked) * PATIENCE;

	loop_source_arm(watch->tick, now + (pause > interval ? pause : interval));
}

static void on_answer(const struct text *answer, const struct error *failure, void *user)
{
	struct watch *watch = user;
	CLEANUP(status_done) struct status_document status = {0};
	struct error error = {0};

	arm(watch);
	if (failure)
		error = *failure;
	else if (status_parse(answer->data, answer->length, &status, &error) == 0 &&
		 watch->options->container)
		(void)status_narrow(&status, watch->options->container, &error);
	if (error.code)
		take_failure(watch, &error);
	else
		take_status(watch, &status);
}

static void on_tick(struct loop_source *source, void *user)
{
	struct watch *watch = user;
	struct error error = {0};

	(void)source;
	watch->asked = loop_now(watch->loop);
	if (agent_line_ask(watch->line, &error) < 0)
		end(watch, &error);
}

/* --- Keys and signals ------------------------------------------------------------- */

static void scroll(struct watch *watch, bool down, size_t lines)
{
	if (down)
		watch->scroll += lines;
	else
		watch->scroll = watch->scroll > lines ? watch->scroll - lines : 0;
}

/* Escape sequences of arrows end in a letter; the letters before it mean nothing here. */
static void on_key(struct watch *watch, char key)
{
	size_t rows = terminal_rows();

	switch (key) {
	case 'q':
	case 'Q':
	case '\x04':
		end(watch, NULL);
		return;
	case 'j':
	case 'B':
		scroll(watch, true, 1);
		break;
	case 'k':
	case 'A':
		scroll(watch, false, 1);
		break;
	case ' ':
		scroll(watch, true, rows / 2);
		break;
	case 'b':
		scroll(watch, false, rows / 2);
		break;
	default:
		return;
	}
	if (watch->received)
		show(watch);
}

static void on_keys(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct watch *watch = user;
	char keys[64];
	ssize_t length = read(fd, keys, sizeof(keys));

	(void)source;
	(void)events;
	/* The terminal is gone. */
	if (length == 0 || (length < 0 && errno != EINTR && errno != EAGAIN))
		end(watch, NULL);
	for (ssize_t i = 0; i < length; i++)
		on_key(watch, keys[i]);
}

/* As any program: the shell has its terminal until it is in the foreground again. */
static void suspend(struct watch *watch)
{
	struct error error = {0};

	terminal_close(&watch->terminal);
	(void)raise(SIGSTOP);
	if (terminal_open(&watch->terminal, &error) < 0)
		end(watch, &error);
	else if (watch->received)
		show(watch);
}

static void on_signal(struct loop_source *source, int fd, unsigned events, void *user)
{
	struct watch *watch = user;
	struct signalfd_siginfo info;

	(void)source;
	(void)events;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGTSTP)
			suspend(watch);
		else if (info.ssi_signo != SIGWINCH)
			end(watch, NULL);
		else if (watch->received)
			show(watch);
	}
}

static int open_signals(struct watch *watch, struct error *error)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		(void)sigaddset(&set, signals[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set(error, -errno, ERROR_FATAL, "signals: %s", strerror(errno));
	watch->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (watch->signal_fd < 0 || loop_add_io(watch->loop, "signals", watch->signal_fd, LOOP_READ,
						on_signal, watch, &watch->signals) < 0)
		return error_set(error, -errno, ERROR_FATAL, "signals: %s", strerror(errno));
	return 0;
}

/* Signals first: none may come between, and leave the terminal as it is then. */
static int open_page(struct watch *watch, struct error *error)
{
	int code = open_signals(watch, error);

	if (code == 0)
		code = terminal_open(&watch->terminal, error);
	if (code < 0 || !watch->terminal.has_keys)
		return code;
	code = loop_add_io(watch->loop, "keys", STDIN_FILENO, LOOP_READ, on_keys, watch,
			   &watch->keys);
	return code < 0 ? error_set(error, code, ERROR_FATAL, "keys: %s", strerror(-code)) : 0;
}

static int start(struct watch *watch, struct error *error)
{
	const struct options *options = watch->options;
	int code = loop_new(&watch->loop);

	if (code < 0)
		return error_set(error, code, error_class_of(code), "loop: %s", strerror(-code));
	code = agent_line_new(watch->loop, options->socket, options->timeout, on_answer, watch,
			      &watch->line, error);
	if (code < 0)
		return code;
	if (loop_add_timer(watch->loop, "tick", loop_now(watch->loop), on_tick, watch,
			   &watch->tick) < 0)
		return error_no_memory(error);
	watch->is_page = terminal_is_there();
	return watch->is_page ? open_page(watch, error) : 0;
}

int status_watch(const struct options *options)
{
	CLEANUP(watch_done) struct watch watch = {.options = options, .signal_fd = -1};
	struct error error = {0};
	int code = start(&watch, &error);

	if (code == 0 && (code = loop_run(watch.loop)) < 0)
		(void)error_set(&error, code, error_class_of(code), "loop: %s", strerror(-code));
	if (code == 0 && watch.fatal.code) {
		code = watch.fatal.code;
		error = watch.fatal;
	}
	/* Before anything is said, or it would be said on the page that goes. */
	terminal_close(&watch.terminal);
	if (code < 0)
		log_error("%s", error.message);
	return code < 0 ? STATUS_FAILED : STATUS_DONE;
}
