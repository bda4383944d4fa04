/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_TERMINAL_H
#define DRAGOMAN_CMD_TERMINAL_H

/*
 * A terminal as a page that is drawn again and again, and given back as it was.
 */

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#include "dragoman/base/error.h"
#include "dragoman/base/text.h"

/* Zero-initialise. */
struct terminal {
	bool open;
	bool has_keys; /* standard input is a terminal: keys come without a newline, and are not
			  echoed */
	struct termios before;
};

/* Whether standard output is a terminal on which that can be done. */
bool terminal_is_there(void);

/* Takes the terminal: another screen, no cursor. Returns 0 or -errno with error set. */
int terminal_open(struct terminal *terminal, struct error *error);

/* Gives it back; fine where it is not open. Usable with CLEANUP. */
void terminal_close(struct terminal *terminal);

/* Lines that it has. */
size_t terminal_rows(void);

/*
 * Adds `count` lines of a text, from line `first` on, each as wide as the
 * terminal at most; what stood there before is gone. Returns how many lines
 * the text has.
 */
size_t terminal_add_lines(struct text *frame, const struct text *text, size_t first, size_t count);

/* Draws a frame from the upper left corner on; below it nothing is left. */
int terminal_draw(const struct text *frame, struct error *error);

#endif
