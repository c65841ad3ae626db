/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A listening Unix socket in the file system: made without ever taking the
 * place of something alive, and removed without ever removing another's.
 */
#ifndef CONTRIB_DAEMON_SOCKET_PATH_H
#define CONTRIB_DAEMON_SOCKET_PATH_H

#include <glib.h>
#include <sys/types.h>

/* Mode that was not asked for. */
#define SOCKET_MODE_UNSET ((mode_t)-1)

/* What is asked for: the values of the options of these names. */
typedef struct SocketPathConfig {
    const char *path;
    const char *group; /* name or number, or NULL: the process's */
    mode_t mode;       /* SOCKET_MODE_UNSET: 0660 with a group, else by the
                          umask */
} SocketPathConfig;

/* The file a socket was bound to. */
typedef struct SocketPathId {
    const char *path;
    dev_t dev;
    ino_t ino;
} SocketPathId;

/**
 * Bind and listen. A socket left behind at the path is replaced; one that
 * someone listens on, and anything that is no socket, is left alone.
 * @config: borrowed; the path until the socket is removed
 * @id:     filled
 * @error:  names option and value
 * Returns the listening socket (non-blocking, close-on-exec), or -1.
 * Control thread, before others run: it changes the umask for a moment.
 */
int socket_path_listen(const SocketPathConfig *config, SocketPathId *id,
                       GError **error);

/** Remove the file if it is still the one that was bound.
 * Any thread; async-signal-safe. */
void socket_path_remove(const SocketPathId *id);

#endif
