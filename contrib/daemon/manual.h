/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is printed from a daemon's tables: --help, the manual page, the list
 * of options of its README, its capabilities.
 */
#ifndef CONTRIB_DAEMON_MANUAL_H
#define CONTRIB_DAEMON_MANUAL_H

#include "contrib/daemon/daemon.h"

/**
 * Text for --help, wrapped for a terminal of 80 columns.
 * @common: rows that every daemon has
 * Returns text the caller frees. Any thread.
 */
char *manual_help(const DaemonDevice *device, const OptionRow *common);

/** The manual page, in man(7)'s language. As manual_help. */
char *manual_man(const DaemonDevice *device, const OptionRow *common);

/** Rows as a reStructuredText definition list. Caller frees. Any thread. */
char *manual_rst(const OptionRow *rows);

/** The answer to --print-capabilities: JSON. Caller frees. Any thread.
 * vhost-user, "Backend program conventions". */
char *manual_capabilities(const DaemonDevice *device);

#endif
