/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the file of a listening socket. Knows nothing of who connects.
 *
 * A daemon that was killed leaves its socket behind. Whether that is so is
 * asked by connecting: refused means that nobody listens. Between this
 * question and listen() no other daemon may come to the same conclusion, so
 * all of it is done under a lock of the directory, which needs no file of its
 * own and ends with the process.
 */
#include "contrib/daemon/socket-path.h"

#include "contrib/daemon/option.h"
#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG      64
#define LOCK_WAIT_MS 2000
#define LOCK_POLL_MS 20
#define GROUP_MODE   0660
#define NO_GROUP     ((gid_t)-1)

static const char option_path[] = "socket-path";

/* Lock the directory of @path. Returns an fd that holds the lock, or -1. */
static int lock_directory(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    const int64_t deadline_ms = vhu_now_ms() + LOCK_WAIT_MS;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        option_set_error(error, option_path, path, "directory %s: %s%s", dir,
                         g_strerror(errno),
                         errno == EACCES ? " (to lock it takes read permission)"
                                         : "");
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || vhu_now_ms() >= deadline_ms) {
            option_set_error(error, option_path, path,
                             "cannot lock directory %s: %s", dir,
                             errno == EWOULDBLOCK ? "another process holds it"
                                                  : g_strerror(errno));
            close(fd);
            return -1;
        }
        poll(NULL, 0, LOCK_POLL_MS);
    }
    return fd;
}

static bool make_address(const char *path, struct sockaddr_un *address,
                         GError **error)
{
    const size_t len = strlen(path);

    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    if (len >= sizeof(address->sun_path)) {
        option_set_error(error, option_path, path,
                         "%zu bytes, a socket's path has at most %zu", len,
                         sizeof(address->sun_path) - 1);
        return false;
    }
    memcpy(address->sun_path, path, len);
    return true;
}

static int new_socket(GError **error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        g_set_error(error, OPTION_ERROR, 0, "cannot make a socket: %s",
                    g_strerror(errno));
    }
    return fd;
}

/* Connect to see who is there. Returns 0, or an errno value; -1 with @error. */
static int probe(const struct sockaddr_un *address, GError **error)
{
    int fd = new_socket(error);
    int code;

    if (fd < 0) {
        return -1;
    }
    code = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0
               ? errno
               : 0;
    close(fd);
    return code;
}

/* Make room at the path, if what is there may go. */
static bool clear_path(const struct sockaddr_un *address, GError **error)
{
    const char *path = address->sun_path;
    struct stat st;
    int code;

    if (lstat(path, &st) < 0) {
        if (errno == ENOENT) {
            return true;
        }
        option_set_error(error, option_path, path, "%s", g_strerror(errno));
        return false;
    }
    if (!S_ISSOCK(st.st_mode)) {
        option_set_error(error, option_path, path,
                         "exists and is not a socket; remove it, or choose "
                         "another path");
        return false;
    }
    code = probe(address, error);
    if (code < 0) {
        return false;
    }
    if (code == 0 || code == EAGAIN || code == EPROTOTYPE) {
        option_set_error(error, option_path, path,
                         "in use: another process listens on it");
        return false;
    }
    if (code != ECONNREFUSED) {
        option_set_error(error, option_path, path,
                         "exists, and whether it is in use cannot be told: %s",
                         g_strerror(code));
        return false;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        option_set_error(error, option_path, path,
                         "cannot remove the socket left behind: %s",
                         g_strerror(errno));
        return false;
    }
    return true;
}

static bool find_group(const char *name, gid_t *gid, GError **error)
{
    const size_t len = strlen(name);
    const struct group *group;

    if (len <= 9 && strspn(name, "0123456789") == len) {
        *gid = (gid_t)g_ascii_strtoull(name, NULL, 10);
        return true;
    }
    group = getgrnam(name);
    if (!group) {
        option_set_error(error, "socket-group", name, "there is no such group");
        return false;
    }
    *gid = group->gr_gid;
    return true;
}

/* Give the bound file its group and its mode; nobody can connect before
 * listen(). */
static bool set_owner(const SocketPathConfig *config, gid_t gid, mode_t mode,
                      GError **error)
{
    if (gid != NO_GROUP && lchown(config->path, (uid_t)-1, gid) < 0) {
        option_set_error(error, "socket-group", config->group,
                         "cannot give it %s: %s", config->path,
                         g_strerror(errno));
        return false;
    }
    if (chmod(config->path, mode) < 0) {
        g_autofree char *text = g_strdup_printf("%04o", mode);

        option_set_error(error, "socket-mode", text, "cannot set it on %s: %s",
                         config->path, g_strerror(errno));
        return false;
    }
    return true;
}

static bool bind_socket(int fd, const struct sockaddr_un *address,
                        mode_t *standard_mode, GError **error)
{
    const mode_t mask = umask(0177);
    const int ret =
        bind(fd, (const struct sockaddr *)address, sizeof(*address));
    const int code = errno;

    umask(mask);
    *standard_mode = 0777 & ~mask;
    if (ret < 0) {
        option_set_error(error, option_path, address->sun_path,
                         "cannot bind: %s", g_strerror(code));
        return false;
    }
    return true;
}

/* From bound to listening; @id is filled. */
static bool start_listening(int fd, const SocketPathConfig *config, gid_t gid,
                            mode_t mode, GError **error)
{
    if (!set_owner(config, gid, mode, error)) {
        return false;
    }
    if (listen(fd, BACKLOG) < 0) {
        option_set_error(error, option_path, config->path, "cannot listen: %s",
                         g_strerror(errno));
        return false;
    }
    return true;
}

static bool identify(const char *path, SocketPathId *id, GError **error)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        option_set_error(error, option_path, path, "%s", g_strerror(errno));
        return false;
    }
    *id = (SocketPathId){.path = path, .dev = st.st_dev, .ino = st.st_ino};
    return true;
}

/* With the directory locked. */
static int listen_locked(const SocketPathConfig *config, gid_t gid,
                         SocketPathId *id, GError **error)
{
    struct sockaddr_un address;
    mode_t mode;
    int fd;

    if (!make_address(config->path, &address, error) ||
        !clear_path(&address, error)) {
        return -1;
    }
    fd = new_socket(error);
    if (fd < 0) {
        return -1;
    }
    if (!bind_socket(fd, &address, &mode, error)) {
        close(fd);
        return -1;
    }
    if (config->mode != SOCKET_MODE_UNSET) {
        mode = config->mode;
    } else if (gid != NO_GROUP) {
        mode = GROUP_MODE;
    }
    if (!identify(config->path, id, error) ||
        !start_listening(fd, config, gid, mode, error)) {
        unlink(config->path);
        close(fd);
        return -1;
    }
    return fd;
}

int socket_path_listen(const SocketPathConfig *config, SocketPathId *id,
                       GError **error)
{
    gid_t gid = NO_GROUP;
    int lock;
    int fd;

    if (config->group && !find_group(config->group, &gid, error)) {
        return -1;
    }
    lock = lock_directory(config->path, error);
    if (lock < 0) {
        return -1;
    }
    fd = listen_locked(config, gid, id, error);
    close(lock);
    return fd;
}

void socket_path_remove(const SocketPathId *id)
{
    struct stat st;

    if (lstat(id->path, &st) == 0 && st.st_dev == id->dev &&
        st.st_ino == id->ino) {
        unlink(id->path);
    }
}
