/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the life of a daemon: the order in which things are opened and closed,
 * and the one loop. Knows nothing of any device; options are read in
 * command-line.c.
 */
#include "contrib/daemon/daemon.h"

#include "contrib/daemon/command-line.h"
#include "contrib/daemon/listener.h"
#include "contrib/daemon/signals.h"
#include "vhu/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MAX_TRACED_BYTES 1024

typedef struct Daemon {
    const DaemonDevice *device;
    const CommonValues *common;
    const void *values;
    VhuLoop *loop;
    Listener *listener;
    VhuBackend *backend;
    void *opened; /* by the device */
    VhuThread **threads;
    unsigned num_threads;
    bool once;
    bool leaving;
    bool out_of_patience; /* queues did not drain in time */
    VhuTimer *grace;
    VhuWatch *signal_watch;
    int status;
} Daemon;

/* ---- leaving ---- */

static void on_grace_over(void *opaque)
{
    Daemon *daemon = opaque;

    daemon->out_of_patience = true;
}

static void leave(Daemon *daemon, int status)
{
    if (daemon->leaving) {
        return;
    }
    daemon->leaving = true;
    daemon->status = status;
    signals_set_deadline(status);
    listener_remove(daemon->listener);
    listener_stop(daemon->listener);
    vhu_timer_set(daemon->grace, vhu_now_ms() + DAEMON_GRACE_MS);
    vhu_backend_close_all(daemon->backend);
}

static void on_signal(void *opaque, uint32_t events)
{
    Daemon *daemon = opaque;

    (void)events;
    vhu_watch_set_events(daemon->signal_watch, 0);
    leave(daemon, EXIT_SUCCESS);
    log_line(LOG_LEVEL_INFO, "ending: %s", strsignal(signals_received()));
}

static void remove_socket(void *opaque)
{
    listener_remove(opaque);
}

/* ---- what the back end tells ---- */

static void on_disconnected(void *opaque, VhuConnection *connection,
                            const VhuError *err)
{
    Daemon *daemon = opaque;

    (void)connection;
    if (daemon->once) {
        leave(daemon, err && err->code ? EXIT_FAILURE : EXIT_SUCCESS);
    }
}

static void on_log(void *opaque, VhuLevel level, const char *text)
{
    (void)opaque;
    log_line((LogLevel)level, "%s", text);
}

static void on_trace(void *opaque, bool sent, const VhuWire *wire,
                     const VhuMessage *msg)
{
    char text[MAX_TRACED_BYTES];

    (void)opaque;
    log_line(LOG_LEVEL_TRACE, "%s %s", sent ? "sent" : "received",
             vhu_message_print(wire, msg, text, sizeof(text)));
}

/* ---- opening, in the order of daemon.h ---- */

static bool open_loop(Daemon *daemon, GError **error)
{
    const int fd = signals_init();
    VhuError err = {0};

    if (fd < 0) {
        g_set_error(error, OPTION_ERROR, 0, "cannot handle signals: %s",
                    g_strerror(errno));
        return false;
    }
    daemon->loop = vhu_loop_new(&err);
    if (!daemon->loop) {
        g_set_error_literal(error, OPTION_ERROR, 0, err.text);
        return false;
    }
    daemon->signal_watch =
        vhu_loop_watch(daemon->loop, fd, EPOLLIN, on_signal, daemon);
    daemon->grace = vhu_loop_timer(daemon->loop, on_grace_over, daemon);
    if (!daemon->signal_watch || !daemon->grace) {
        g_set_error(error, OPTION_ERROR, 0, "event loop: %s",
                    g_strerror(errno));
        return false;
    }
    return true;
}

static bool open_threads(Daemon *daemon, unsigned num, GError **error)
{
    VhuError err = {0};

    daemon->threads = g_new0(VhuThread *, num);
    while (daemon->num_threads < num) {
        char name[16];

        g_snprintf(name, sizeof(name), "queues-%u", daemon->num_threads);
        daemon->threads[daemon->num_threads] = vhu_thread_new(name, &err);
        if (!daemon->threads[daemon->num_threads]) {
            g_set_error_literal(error, OPTION_ERROR, 0, err.text);
            return false;
        }
        daemon->num_threads++;
    }
    return true;
}

static bool open_backend(Daemon *daemon, const VhuDeviceInfo *info,
                         GError **error)
{
    const VhuBackendEvents events = {
        .disconnected = on_disconnected,
        .log = on_log,
        .trace = log_level() >= LOG_LEVEL_TRACE ? on_trace : NULL,
        .opaque = daemon,
    };
    g_autofree VhuLoop **loops = g_new0(VhuLoop *, daemon->num_threads + 1);
    VhuError err = {0};

    daemon->backend =
        vhu_backend_new(daemon->loop, info, daemon->opened, &events, &err);
    if (!daemon->backend) {
        g_set_error_literal(error, OPTION_ERROR, 0, err.text);
        return false;
    }
    for (unsigned i = 0; i < daemon->num_threads; i++) {
        loops[i] = vhu_thread_loop(daemon->threads[i]);
    }
    if (vhu_backend_set_threads(daemon->backend, loops, daemon->num_threads) <
        0) {
        g_set_error_literal(error, OPTION_ERROR, 0, "out of memory");
        return false;
    }
    return true;
}

static bool open_device(Daemon *daemon, GError **error)
{
    DaemonSetup setup = {
        .control = daemon->loop,
        .info = {.name = daemon->device->name},
    };

    daemon->opened = daemon->device->open(daemon->values, &setup, error);
    return daemon->opened && open_threads(daemon, setup.num_threads, error) &&
           open_backend(daemon, &setup.info, error);
}

static Listener *listener_of_options(const CommonValues *common, GError **error)
{
    g_autofree char *what = NULL;

    if (common->socket_path) {
        const SocketPathConfig config = {
            .path = common->socket_path,
            .group = common->socket_group,
            .mode = common->socket_mode,
        };

        return listener_new_path(&config, error);
    }
    if (common->activated) {
        return listener_new_fd(LISTENER_ACTIVATED_FD, "LISTEN_FDS=1", error);
    }
    what = g_strdup_printf("--fd=%d", (int)common->fd);
    return listener_new_fd((int)common->fd, what, error);
}

static void on_front_end(void *opaque, int fd)
{
    Daemon *daemon = opaque;
    const bool last = daemon->once;
    VhuError err = {0};

    if (last) {
        listener_stop(daemon->listener);
    }
    if (vhu_backend_serve(daemon->backend, fd, NULL, &err) < 0) {
        log_line(LOG_LEVEL_ERROR, "cannot serve a connection: %s", err.text);
        if (last) {
            leave(daemon, EXIT_FAILURE);
        }
    }
}

static bool open_socket(Daemon *daemon, GError **error)
{
    daemon->listener = listener_of_options(daemon->common, error);
    if (!daemon->listener) {
        return false;
    }
    signals_set_last_act(remove_socket, daemon->listener);
    daemon->once =
        daemon->common->once || listener_is_connected(daemon->listener);
    return listener_start(daemon->listener, daemon->loop, on_front_end, daemon,
                          error);
}

/* ---- serving ---- */

static bool is_done(const Daemon *daemon)
{
    return daemon->leaving && (daemon->out_of_patience ||
                               vhu_backend_num_alive(daemon->backend) == 0);
}

static void serve(Daemon *daemon)
{
    if (daemon->common->socket_path) {
        log_line(LOG_LEVEL_INFO, "listening on %s",
                 daemon->common->socket_path);
    } else {
        log_line(LOG_LEVEL_INFO, "serving an inherited socket");
    }
    while (!is_done(daemon)) {
        const int ret = vhu_loop_dispatch(daemon->loop, -1);

        if (ret < 0) {
            log_line(LOG_LEVEL_ERROR, "event loop: %s", g_strerror(-ret));
            leave(daemon, EXIT_FAILURE);
            daemon->out_of_patience = true;
        }
    }
}

/* Undo what was opened, of a daemon whose queues are idle. */
static void close_all(Daemon *daemon)
{
    vhu_backend_free(daemon->backend);
    for (unsigned i = 0; i < daemon->num_threads; i++) {
        vhu_thread_free(daemon->threads[i]);
    }
    g_free(daemon->threads);
    if (daemon->opened && daemon->device->close) {
        daemon->device->close(daemon->opened);
    }
    signals_set_last_act(NULL, NULL);
    listener_free(daemon->listener);
    vhu_timer_free(daemon->grace);
    vhu_watch_free(daemon->signal_watch);
    vhu_loop_free(daemon->loop);
}

static int run(Daemon *daemon)
{
    g_autoptr(GError) error = NULL;

    daemon->status = EXIT_SUCCESS;
    if (open_loop(daemon, &error) && open_device(daemon, &error) &&
        open_socket(daemon, &error)) {
        serve(daemon);
    } else if (signals_received()) {
        log_line(LOG_LEVEL_INFO, "ending: %s; %s",
                 strsignal(signals_received()), error->message);
    } else {
        log_line(LOG_LEVEL_ERROR, "%s", error->message);
        daemon->status = EXIT_FAILURE;
    }
    if (daemon->out_of_patience) {
        log_line(LOG_LEVEL_WARNING, "%u connections did not drain in %d ms",
                 vhu_backend_num_alive(daemon->backend), DAEMON_GRACE_MS);
        log_flush();
        signals_end_process();
    }
    close_all(daemon);
    log_flush();
    return daemon->status;
}

/* Memory, rings and connections take many, and the usual limit is low for the
 * sake of programs that select(). */
static void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
            log_line(LOG_LEVEL_WARNING, "limit of file descriptors: %s",
                     g_strerror(errno));
        }
    }
}

int daemon_main(const DaemonDevice *device, int argc, char **argv)
{
    CommandLine line;
    Daemon daemon = {.device = device, .common = &line.common};
    int status;

    log_init(device->name, LOG_LEVEL_INFO);
    status = command_line_parse(&line, device, argc, argv);
    if (status == COMMAND_LINE_SERVE) {
        log_init(device->name, (LogLevel)line.common.log_level);
        daemon.values = line.values;
        raise_fd_limit();
        status = run(&daemon);
    }
    command_line_clear(&line);
    return status;
}
