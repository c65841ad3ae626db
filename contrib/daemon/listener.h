/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where connections come from: a socket the daemon binds, or one it is given
 * (--fd, socket activation), listening or connected already.
 */
#ifndef CONTRIB_DAEMON_LISTENER_H
#define CONTRIB_DAEMON_LISTENER_H

#include "contrib/daemon/socket-path.h"
#include "vhu/loop.h"

#include <stdbool.h>

/* The first fd that socket activation passes. */
#define LISTENER_ACTIVATED_FD 3

/* Connections that may be open without having sent a byte; the oldest is
 * closed when one more comes. */
#define LISTENER_MAX_SILENT 64u

typedef struct Listener Listener;

/* A front end connected and spoke; @fd is the callee's. Control thread. */
typedef void (*ListenerFn)(void *opaque, int fd);

/**
 * Bind, see socket_path_listen.
 * @config: borrowed, its path until the listener is freed
 * Returns the listener, or NULL with @error. Control thread.
 */
Listener *listener_new_path(const SocketPathConfig *config, GError **error);

/**
 * Take over an inherited socket.
 * @fd:    owned by the listener on success
 * @what:  its origin for messages: "--fd=3"
 * @error: says what is wrong with it: not open, not a Unix stream socket
 * Returns the listener, or NULL. Control thread.
 */
Listener *listener_new_fd(int fd, const char *what, GError **error);

/** The number of sockets systemd passed to this process (LISTEN_FDS); the
 * environment is cleared. They begin at LISTENER_ACTIVATED_FD. Control thread.
 * sd_listen_fds(3). */
unsigned listener_activated_fds(void);

/** Whether it has one connection and no more to come. */
bool listener_is_connected(const Listener *listener);

/**
 * Start handing over connections. One that closes before it has sent a byte
 * (someone looking whether the socket is alive) is not handed over.
 * @fn: called from the loop; never within this call
 * Returns false with @error. Control thread.
 */
bool listener_start(Listener *listener, VhuLoop *loop, ListenerFn fn,
                    void *opaque, GError **error);

/** Hand over no more; what waits is closed. May be called from the
 * callback. Control thread. */
void listener_stop(Listener *listener);

/** Remove the socket's file, if it is ours. Async-signal-safe. */
void listener_remove(const Listener *listener);

/** Remove the file and free. @listener: may be NULL. Control thread. */
void listener_free(Listener *listener);

#endif
