/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_CMD_NOTIFY_H
#define DRAGOMAN_CMD_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Tells the service manager how we are, by the protocol of sd_notify(3): one
 * datagram to the socket in $NOTIFY_SOCKET. Does nothing where that is not
 * set; who started us does not want to know, then. state is "READY=1" and the
 * like.
 */
void notify(const char *state);

/* Nanoseconds between two "WATCHDOG=1", half of $WATCHDOG_USEC; 0: none is wanted. */
uint64_t notify_watchdog(void);

/* Whether standard error goes to the journal, by $JOURNAL_STREAM (systemd.exec(5)). */
bool notify_has_journal(void);

#endif
