/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the options every daemon has, and what a command line alone decides:
 * to print something, to refuse, or to serve. Opens nothing.
 */
#include "contrib/daemon/command-line.h"

#include "contrib/daemon/listener.h"
#include "contrib/daemon/manual.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_USAGE 2
#define NUM_TABLES   2

enum { PRINT_NOTHING, PRINT_MAN, PRINT_RST, PRINT_RST_COMMON };

static const char *const manual_names[] = {
    [PRINT_NOTHING] = "none",
    [PRINT_MAN] = "man",
    [PRINT_RST] = "rst",
    [PRINT_RST_COMMON] = "rst-common",
    NULL,
};

static const OptionRow common_rows[] = {
    {
        .name = "socket-path",
        .letter = 's',
        OPTION_FIELD(CommonValues, socket_path),
        .placeholder = "PATH",
        .help = "listen on a Unix socket at PATH",
        .details = "A socket that a killed process left there is replaced; "
                   "one that is listened on, or a file of another kind, is "
                   "left alone and the daemon does not start. The socket is "
                   "removed at the end.",
    },
    {
        .name = "fd",
        .letter = 'f',
        OPTION_FIELD(CommonValues, fd),
        .placeholder = "FDNUM",
        .help = "serve the Unix socket inherited as file descriptor FDNUM",
        .details = "It may be listening, or connected: then the daemon ends "
                   "with that connection. Instead of --socket-path. With "
                   "neither, a socket is expected from systemd (LISTEN_FDS).",
        .default_number = OPTION_UNSET,
        .max = INT_MAX,
    },
    {
        .name = "socket-group",
        OPTION_FIELD(CommonValues, socket_group),
        .placeholder = "GROUP",
        .help = "group of the socket, by name or number",
    },
    {
        .name = "socket-mode",
        OPTION_FIELD(CommonValues, socket_mode),
        .placeholder = "MODE",
        .help = "permissions of the socket, octal",
        .unset_text = "0660 with --socket-group, else as the umask says",
        .default_number = OPTION_UNSET,
    },
    {
        .name = "once",
        OPTION_FIELD(CommonValues, once),
        .help = "serve one connection, then end",
        .details = "Without it the daemon serves any number of connections, "
                   "one after another or at the same time.",
    },
    {
        .name = "log-level",
        OPTION_FIELD(CommonValues, log_level),
        .placeholder = "LEVEL",
        .help = "say this much on standard error",
        .details = "With trace every message is printed, decoded.",
        .choices = log_level_names,
        .default_number = LOG_LEVEL_INFO,
    },
    {
        .name = "print-capabilities",
        OPTION_FIELD(CommonValues, print_capabilities),
        .help = "print what the daemon can do as JSON and end",
        .details = "All other options are ignored.",
    },
    {
        .name = "print-manual",
        .hidden = true,
        OPTION_FIELD(CommonValues, print_manual),
        .placeholder = "FORM",
        .help = "print the manual page, or a README's list of options",
        .choices = manual_names,
    },
    {
        .name = "help",
        .letter = 'h',
        OPTION_FIELD(CommonValues, help),
        .help = "print this and end",
    },
    {
        .name = "version",
        .letter = 'V',
        OPTION_FIELD(CommonValues, version),
        .help = "print the version and end",
    },
    {0},
};

/* --print-capabilities works whatever else is on the command line. */
static bool wants_capabilities(int argc, char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--print-capabilities") == 0) {
            return true;
        }
    }
    return false;
}

/* Prints and takes over @text. Returns the exit status. */
static int print(char *text)
{
    const int ret = fputs(text, stdout);

    g_free(text);
    return ret < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_manual(const DaemonDevice *device, int form)
{
    if (form == PRINT_MAN) {
        return print(manual_man(device, common_rows));
    }
    return print(manual_rst(form == PRINT_RST ? device->options : common_rows));
}

static bool check_socket_options(const CommonValues *common, GError **error)
{
    const unsigned activated = common->activated;
    const unsigned sources = (common->socket_path != NULL) +
                             (common->fd != OPTION_UNSET) + (activated > 0);

    if (sources == 0) {
        g_set_error_literal(error, OPTION_ERROR, 0,
                            "no socket: give --socket-path or --fd");
        return false;
    }
    if (sources > 1) {
        g_set_error_literal(
            error, OPTION_ERROR, 0,
            "--socket-path, --fd and a socket from systemd (LISTEN_FDS) "
            "exclude each other");
        return false;
    }
    if (activated > 1) {
        g_set_error(error, OPTION_ERROR, 0,
                    "LISTEN_FDS=%u: one socket is expected", activated);
        return false;
    }
    if (common->socket_path) {
        return true;
    }
    if (common->socket_group) {
        option_set_error(error, "socket-group", common->socket_group,
                         "needs --socket-path");
        return false;
    }
    if (common->socket_mode != SOCKET_MODE_UNSET) {
        g_autofree char *text = g_strdup_printf("%04o", common->socket_mode);

        option_set_error(error, "socket-mode", text, "needs --socket-path");
        return false;
    }
    return true;
}

static void make_tables(CommandLine *line, OptionTable tables[NUM_TABLES])
{
    tables[0] = (OptionTable){
        .rows = line->device->options,
        .values = line->values,
    };
    tables[1] = (OptionTable){.rows = common_rows, .values = &line->common};
}

/* With the command line parsed. */
static int decide(const CommandLine *line, const OptionTable *tables)
{
    const DaemonDevice *device = line->device;
    g_autoptr(GError) error = NULL;

    if (line->common.help) {
        return print(manual_help(device, common_rows));
    }
    if (line->common.version) {
        return print(g_strdup_printf("%s %s (qemu-vhost-user)\n", device->name,
                                     DAEMON_VERSION));
    }
    if (line->common.print_manual != PRINT_NOTHING) {
        return print_manual(device, line->common.print_manual);
    }
    if (!check_socket_options(&line->common, &error) ||
        !option_check_required(tables, NUM_TABLES, &error) ||
        (device->check && !device->check(line->values, &error))) {
        log_line(LOG_LEVEL_ERROR, "%s (see --help)", error->message);
        return STATUS_USAGE;
    }
    return COMMAND_LINE_SERVE;
}

int command_line_parse(CommandLine *line, const DaemonDevice *device, int argc,
                       char *const *argv)
{
    OptionTable tables[NUM_TABLES];
    g_autoptr(GError) error = NULL;

    *line = (CommandLine){
        .device = device,
        .values = g_malloc0(device->values_bytes + 1),
    };
    make_tables(line, tables);
    option_set_defaults(tables, NUM_TABLES);
    if (wants_capabilities(argc, argv)) {
        return print(manual_capabilities(device));
    }
    if (!option_parse(tables, NUM_TABLES, argc, argv, &error)) {
        log_line(LOG_LEVEL_ERROR, "%s (see --help)", error->message);
        return STATUS_USAGE;
    }
    line->common.activated = listener_activated_fds();
    return decide(line, tables);
}

void command_line_clear(CommandLine *line)
{
    OptionTable tables[NUM_TABLES];

    make_tables(line, tables);
    option_clear(tables, NUM_TABLES);
    g_clear_pointer(&line->values, g_free);
}
