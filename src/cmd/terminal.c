/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: a handful of escape sequences that every terminal of the
 * last decades has (ECMA-48, and xterm's alternate screen), which is all that
 * is needed, and no library for it. A frame is written in one go, line by line,
 * and each line is cleared before it is written and not behind it: a cursor
 * behind the last column stands on it, and would clear what was just written.
 */
#include "terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dragoman/base/memory.h"
#include "output.h"

enum { ROWS = 24 };

static const char enter[] = "\033[?1049h\033[?25l", leave[] = "\033[0m\033[?25h\033[?1049l";
static const char home[] = "\033[H", clear_line[] = "\033[K", clear_below[] = "\033[0m\033[J";

static int put(const char *sequence, struct error *error)
{
	CLEANUP(text_done) struct text text = {0};

	text_puts(&text, sequence);
	return output_write(STDOUT_FILENO, &text, error);
}

bool terminal_is_there(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static int take_keys(struct terminal *terminal, struct error *error)
{
	struct termios raw;

	terminal->has_keys = isatty(STDIN_FILENO) &&
			     tcgetattr(STDIN_FILENO, &terminal->before) == 0;
	if (!terminal->has_keys)
		return 0;
	raw = terminal->before;
	/* Ctrl-C and Ctrl-Z stay signals. */
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return error_set(error, -errno, ERROR_FATAL, "terminal: %s", strerror(errno));
	return 0;
}

int terminal_open(struct terminal *terminal, struct error *error)
{
	int code = take_keys(terminal, error);

	if (code < 0)
		return code;
	terminal->open = true;
	return put(enter, error);
}

void terminal_close(struct terminal *terminal)
{
	if (!terminal->open)
		return;
	terminal->open = false;
	(void)put(leave, NULL);
	if (terminal->has_keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &terminal->before);
}

size_t terminal_rows(void)
{
	struct winsize size = {0};

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : ROWS;
}

size_t terminal_add_lines(struct text *frame, const struct text *text, size_t first, size_t count)
{
	const char *line = text->data ? text->data : "";
	size_t number = 0;

	frame->failed |= text->failed;
	for (; *line; number++) {
		size_t length = strcspn(line, "\n");

		if (number >= first && number - first < count) {
			text_puts(frame, frame->length ? "\n" : "");
			text_puts(frame, clear_line);
			text_add(frame, line, length);
		}
		line += length + (line[length] ? 1 : 0);
	}
	return number;
}

int terminal_draw(const struct text *frame, struct error *error)
{
	CLEANUP(text_done) struct text whole = {.failed = frame->failed};

	text_puts(&whole, home);
	text_add(&whole, frame->data ? frame->data : "", frame->length);
	text_puts(&whole, clear_below);
	return output_write(STDOUT_FILENO, &whole, error);
}
