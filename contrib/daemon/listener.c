/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the accepting of connections. Knows nothing of what they say: one is
 * handed over when its first byte is there to be read, because whoever looks
 * whether a socket is alive connects and closes, and is no front end.
 */
#include "contrib/daemon/listener.h"

#include "contrib/daemon/log.h"
#include "contrib/daemon/option.h"
#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long to leave connections in the backlog when there is no fd left. */
#define NO_FD_PAUSE_MS 200

/* An accepted connection that has not spoken yet. */
typedef struct Caller {
    Listener *listener;
    int fd;
    VhuWatch *watch;
    GList link; /* in listener->callers */
} Caller;

struct Listener {
    int fd; /* -1: stopped, or handed over */
    bool connected;
    bool has_path;
    SocketPathId id;
    VhuLoop *loop;
    ListenerFn fn;
    void *opaque;
    VhuWatch *watch;
    VhuTimer *pause;
    GQueue callers; /* Caller, in the order they came */
};

Listener *listener_new_path(const SocketPathConfig *config, GError **error)
{
    SocketPathId id;
    int fd = socket_path_listen(config, &id, error);
    Listener *listener;

    if (fd < 0) {
        return NULL;
    }
    listener = g_new0(Listener, 1);
    listener->fd = fd;
    listener->has_path = true;
    listener->id = id;
    return listener;
}

/* An integer option of a socket, or -1. */
static int socket_option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    if (getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0) {
        return -1;
    }
    return value;
}

static bool is_peer_there(int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

Listener *listener_new_fd(int fd, const char *what, GError **error)
{
    const int flags = fcntl(fd, F_GETFL);
    Listener *listener;

    if (flags < 0) {
        g_set_error(error, OPTION_ERROR, 0, "%s: no such file descriptor",
                    what);
        return NULL;
    }
    if (socket_option(fd, SO_DOMAIN) != AF_UNIX ||
        socket_option(fd, SO_TYPE) != SOCK_STREAM) {
        g_set_error(error, OPTION_ERROR, 0, "%s: not a Unix stream socket",
                    what);
        return NULL;
    }
    if (socket_option(fd, SO_ACCEPTCONN) != 1 && !is_peer_there(fd)) {
        g_set_error(error, OPTION_ERROR, 0,
                    "%s: a socket that neither listens nor is connected", what);
        return NULL;
    }
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        g_set_error(error, OPTION_ERROR, 0, "%s: %s", what, g_strerror(errno));
        return NULL;
    }
    listener = g_new0(Listener, 1);
    listener->fd = fd;
    listener->connected = socket_option(fd, SO_ACCEPTCONN) != 1;
    return listener;
}

unsigned listener_activated_fds(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *fds = getenv("LISTEN_FDS");
    guint64 pid_number = 0;
    guint64 num = 0;

    if (!pid || !fds ||
        !g_ascii_string_to_unsigned(pid, 10, 1, INT32_MAX, &pid_number, NULL) ||
        !g_ascii_string_to_unsigned(fds, 10, 0, INT32_MAX, &num, NULL) ||
        pid_number != (guint64)getpid()) {
        num = 0;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (unsigned)num;
}

bool listener_is_connected(const Listener *listener)
{
    return listener->connected;
}

/* Forget a caller. Returns its fd. */
static int take_caller(Caller *caller)
{
    const int fd = caller->fd;

    vhu_watch_free(caller->watch);
    g_queue_unlink(&caller->listener->callers, &caller->link);
    g_free(caller);
    return fd;
}

static void on_caller(void *opaque, uint32_t events)
{
    Caller *caller = opaque;
    Listener *listener = caller->listener;
    char byte;
    const ssize_t got =
        recv(caller->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got > 0) {
        listener->fn(listener->opaque, take_caller(caller));
    } else {
        close(take_caller(caller));
        log_line(LOG_LEVEL_DEBUG, "someone connected and left without a word");
    }
}

static void add_caller(Listener *listener, int fd)
{
    Caller *caller = g_new0(Caller, 1);

    caller->listener = listener;
    caller->fd = fd;
    caller->watch = vhu_loop_watch(listener->loop, fd, EPOLLIN | EPOLLRDHUP,
                                   on_caller, caller);
    if (!caller->watch) {
        log_line(LOG_LEVEL_WARNING, "a connection is refused: %s",
                 g_strerror(errno));
        g_free(caller);
        close(fd);
        return;
    }
    caller->link.data = caller;
    g_queue_push_tail_link(&listener->callers, &caller->link);
}

/* Room for one more: callers that say nothing shall not use up all fds. */
static void drop_oldest(Listener *listener)
{
    if (listener->callers.length >= LISTENER_MAX_SILENT) {
        close(take_caller(g_queue_peek_head(&listener->callers)));
        log_line(LOG_LEVEL_WARNING,
                 "%u connections are silent: the oldest is closed",
                 LISTENER_MAX_SILENT);
    }
}

static void on_pause_over(void *opaque)
{
    Listener *listener = opaque;

    vhu_watch_set_events(listener->watch, EPOLLIN);
}

static void on_connection(void *opaque, uint32_t events)
{
    Listener *listener = opaque;
    int fd;

    (void)events;
    fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        drop_oldest(listener);
        add_caller(listener, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
               errno == ENOMEM) {
        log_line(LOG_LEVEL_WARNING, "a connection has to wait: %s",
                 g_strerror(errno));
        vhu_watch_set_events(listener->watch, 0);
        vhu_timer_set(listener->pause, vhu_now_ms() + NO_FD_PAUSE_MS);
    }
}

/* The one connection there is: silent or not, it is the front end. */
static void on_first_turn(void *opaque)
{
    Listener *listener = opaque;
    const int fd = listener->fd;

    if (fd >= 0) {
        listener->fd = -1;
        listener->fn(listener->opaque, fd);
    }
}

bool listener_start(Listener *listener, VhuLoop *loop, ListenerFn fn,
                    void *opaque, GError **error)
{
    listener->loop = loop;
    listener->fn = fn;
    listener->opaque = opaque;
    if (listener->connected) {
        listener->pause = vhu_loop_timer(loop, on_first_turn, listener);
        if (listener->pause) {
            vhu_timer_set(listener->pause, 0);
        }
    } else {
        listener->pause = vhu_loop_timer(loop, on_pause_over, listener);
        listener->watch = vhu_loop_watch(loop, listener->fd, EPOLLIN,
                                         on_connection, listener);
    }
    if (!listener->pause || (!listener->connected && !listener->watch)) {
        g_set_error(error, OPTION_ERROR, 0, "cannot watch the socket: %s",
                    g_strerror(errno));
        return false;
    }
    return true;
}

void listener_stop(Listener *listener)
{
    g_clear_pointer(&listener->watch, vhu_watch_free);
    g_clear_pointer(&listener->pause, vhu_timer_free);
    while (!g_queue_is_empty(&listener->callers)) {
        close(take_caller(g_queue_peek_head(&listener->callers)));
    }
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
}

void listener_remove(const Listener *listener)
{
    if (listener->has_path) {
        socket_path_remove(&listener->id);
    }
}

void listener_free(Listener *listener)
{
    if (listener) {
        listener_remove(listener);
        listener_stop(listener);
        g_free(listener);
    }
}
