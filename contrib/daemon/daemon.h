/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every vhost-user daemon shares: options, sockets, capabilities, log,
 * exit. A daemon is a DaemonDevice and a main() that hands it over.
 *
 * Order of events: options parsed, open(), data threads started, back end
 * made, and only then the socket listens; so whatever cannot be had is told
 * by a non-zero exit before any front end can connect. At the end (SIGTERM,
 * SIGINT, --once): socket removed, connections closed, and when all queues
 * have drained: back end freed, data threads ended, close(). Queues that do
 * not drain within DAEMON_GRACE_MS are abandoned: the process ends all the
 * same, without close().
 */
#ifndef CONTRIB_DAEMON_DAEMON_H
#define CONTRIB_DAEMON_DAEMON_H

#include "contrib/daemon/log.h"
#include "contrib/daemon/option.h"
#include "vhu/backend.h"

/* How long queues may take to drain when the daemon leaves. */
#define DAEMON_GRACE_MS 300

/* Between the skeleton and open(). */
typedef struct DaemonSetup {
    VhuLoop *control;     /* in: the control thread's loop, borrowed */
    VhuDeviceInfo info;   /* out; its name is filled in already */
    unsigned num_threads; /* out: data threads; queue i is served on thread
                             i % num. 0: all on the control thread */
} DaemonSetup;

/* A command line to show, with what it does. */
typedef struct DaemonExample {
    const char *text;    /* a sentence that ends in a colon */
    const char *command; /* may have several lines */
} DaemonExample;

/* A daemon, as data. */
typedef struct DaemonDevice {
    const char *name;              /* the program's: "vhost-user-rng" */
    const char *summary;           /* half a line: "entropy for guests" */
    const char *description;       /* paragraphs, parted by empty lines */
    const char *type;              /* --print-capabilities: "rng" */
    const char *const *features;   /* the same, ended by NULL; NULL: none */
    const OptionRow *options;      /* its own, beside the common ones */
    size_t values_bytes;           /* size of the struct they fill */
    const DaemonExample *examples; /* ended by one without text */

    /**
     * Check what the options' rows do not: a wrong command line is told
     * before anything is opened. May be NULL.
     * @values: the parsed options
     * @error:  option_set_error names the option and its value
     * Returns false with @error.
     */
    bool (*check)(const void *values, GError **error);

    /**
     * Open the host resource. Whatever it waits for, it gives up when
     * signals_received().
     * @values: the parsed options, valid until close() has returned
     * @setup:  see there; zeroed but for what is marked in
     * @error:  option_set_error names the option and its value
     * Returns the device, given to connect(), never NULL; NULL with @error.
     */
    void *(*open)(const void *values, DaemonSetup *setup, GError **error);

    /** Free what open() returned; nothing is served any more, the data
     * threads and their loops are gone, the control loop is still there.
     * May be NULL. */
    void (*close)(void *device);
} DaemonDevice;

/**
 * Run a daemon: everything from the command line to the exit status.
 * @device: borrowed
 * Returns what main() should return: 0 after SIGTERM, SIGINT or the end of
 * the one connection asked for; 1 if something could not be had, or the one
 * connection ended by an error; 2 for a wrong command line.
 * vhost-user, "Backend program conventions".
 */
int daemon_main(const DaemonDevice *device, int argc, char **argv);

#endif
