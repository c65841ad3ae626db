/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGTERM, SIGINT and SIGHUP: asks the control thread to leave, and sees to
 * it that the process ends even if that thread does not come round.
 */
#ifndef CONTRIB_DAEMON_SIGNALS_H
#define CONTRIB_DAEMON_SIGNALS_H

#include <stdbool.h>

/* Time the control thread has to end the process once it was asked. */
#define SIGNALS_PATIENCE_SECONDS 2

/* Called in a signal handler, before the process ends. */
typedef void (*SignalsFn)(void *opaque);

/**
 * Install the handlers; SIGPIPE is ignored from here on, and SIGHUP stays
 * ignored if it is. A second signal, or none of the control thread for
 * SIGNALS_PATIENCE_SECONDS, ends the process on the spot with status 0.
 * Returns an fd that becomes readable when a signal came, owned by this
 * module, or -1 with errno. Control thread, once.
 */
int signals_init(void);

/** What to do before the process is ended on the spot; async-signal-safe.
 * @fn: NULL: nothing. Control thread. */
void signals_set_last_act(SignalsFn fn, void *opaque);

/** The signal that came, 0: none. Any thread. */
int signals_received(void);

/** End the process on the spot with @status unless it has ended by itself
 * within SIGNALS_PATIENCE_SECONDS. Control thread. */
void signals_set_deadline(int status);

/** End the process on the spot, after the last act, with the status that
 * signals_set_deadline was given. Async-signal-safe. */
void signals_end_process(void) __attribute__((noreturn));

#endif
