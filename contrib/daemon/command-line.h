/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of a daemon: common options beside the device's own. */
#ifndef CONTRIB_DAEMON_COMMAND_LINE_H
#define CONTRIB_DAEMON_COMMAND_LINE_H

#include "contrib/daemon/daemon.h"

/* Not an exit status: the daemon is to serve. */
#define COMMAND_LINE_SERVE (-1)

/* Values of the options every daemon has; the rows are in command-line.c. */
typedef struct CommonValues {
    char *socket_path;
    uint64_t fd; /* OPTION_UNSET: not given */
    char *socket_group;
    mode_t socket_mode; /* SOCKET_MODE_UNSET: not given */
    bool once;
    int log_level; /* a LogLevel */
    bool print_capabilities;
    int print_manual;
    bool help;
    bool version;
    unsigned activated; /* sockets from systemd; not an option */
} CommonValues;

typedef struct CommandLine {
    const DaemonDevice *device;
    CommonValues common;
    void *values; /* of the device's options */
} CommandLine;

/**
 * Parse and check; print what was asked for.
 * @line: filled in any case, for command_line_clear
 * Returns COMMAND_LINE_SERVE, with exactly one socket named, or the exit
 * status. Errors are logged. Control thread.
 */
int command_line_parse(CommandLine *line, const DaemonDevice *device, int argc,
                       char *const *argv);

/** Free the values. Control thread. */
void command_line_clear(CommandLine *line);

#endif
