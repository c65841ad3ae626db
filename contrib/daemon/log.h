/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line per event on standard error: "vhost-user-rng: connection 1: ...".
 * Lines that differ only in numbers and come in floods are counted instead of
 * printed, so that a peer cannot fill a disk.
 */
#ifndef CONTRIB_DAEMON_LOG_H
#define CONTRIB_DAEMON_LOG_H

#include <glib.h>

/* The first four are VhuLevel's. */
typedef enum LogLevel {
    LOG_LEVEL_ERROR,   /* something ended because of it */
    LOG_LEVEL_WARNING, /* goes on, but someone should know */
    LOG_LEVEL_INFO,    /* connected, ring started, ... */
    LOG_LEVEL_DEBUG,   /* decisions */
    LOG_LEVEL_TRACE,   /* every message, decoded */
} LogLevel;

/* Lines of one shape printed in LOG_WINDOW_MS; what is more is counted.
 * Debug and trace lines were asked for and are never held back. */
#define LOG_BURST     32u
#define LOG_WINDOW_MS 10000

/** Names of the levels, in order, ended by NULL; for an option. */
extern const char *const log_level_names[];

/** What every line begins with, and the last level that is printed.
 * @name: borrowed for ever. Before other threads log. */
void log_init(const char *name, LogLevel level);

/** The last level that is printed. Any thread. */
LogLevel log_level(void);

/** Print a line. @fmt: without level, name and newline. Any thread. */
void log_line(LogLevel level, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** Say what was counted and not printed; for the end. Any thread. */
void log_flush(void);

#endif
