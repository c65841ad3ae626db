/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the processes of a rig: starting a daemon, knowing that it listens,
 * its output, its end, and what it holds. Knows nothing of vhost-user.
 */
#include "tests/rig-internal.h"

#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 20000
/* How often to look again at what tells of no change. */
#define LOOK_MS 2

struct RigDaemon {
    char **argv;
    char *folder;
    char *socket;
    char *out_path;
    char *err_path;
    char *out; /* what was read of them last */
    char *err;
    bool listens; /* it was told --socket-path */
    pid_t pid;
    int pidfd;
};

/* ---- starting ---- */

/* In the child, between fork and exec. */
static void set_up_child(gpointer data)
{
    const RigDaemon *daemon = data;
    int out = open(daemon->out_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int err = open(daemon->err_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
}

static void start(RigDaemon *daemon)
{
    g_autoptr(GError) error = NULL;

    if (!g_spawn_async(NULL, daemon->argv, NULL,
                       G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH,
                       set_up_child, daemon, &daemon->pid, &error)) {
        rig_fail("%s", error->message);
    }
    daemon->pidfd = pidfd_open(daemon->pid, 0);
    if (daemon->pidfd < 0) {
        rig_fail("pidfd_open: %s", g_strerror(errno));
    }
}

/* Whether somebody listens. The daemon takes no notice of one who leaves
 * without a word. */
static bool is_listening(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens;

    g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    listens = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return listens;
}

/* Returns false if it did not end in that time. */
static bool has_ended(const RigDaemon *daemon, int timeout_ms)
{
    struct pollfd fd = {.fd = daemon->pidfd, .events = POLLIN};

    return poll(&fd, 1, timeout_ms) == 1;
}

static void wait_listening(RigDaemon *daemon)
{
    const int64_t deadline_ms = vhu_now_ms() + START_MS;

    while (!is_listening(daemon->socket)) {
        if (has_ended(daemon, LOOK_MS)) {
            rig_fail("%s ended instead of listening: %s", daemon->argv[0],
                     rig_daemon_errors(daemon));
        }
        if (vhu_now_ms() > deadline_ms) {
            rig_fail("%s does not listen: %s", daemon->argv[0],
                     rig_daemon_errors(daemon));
        }
    }
}

static RigDaemon *daemon_new(const char *const *argv, bool listens)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    RigDaemon *daemon = g_new0(RigDaemon, 1);

    daemon->folder = g_dir_make_tmp("vhu-XXXXXX", &error);
    if (!daemon->folder) {
        rig_fail("%s", error->message);
    }
    daemon->listens = listens;
    daemon->socket = g_build_filename(daemon->folder, "socket", NULL);
    daemon->out_path = g_build_filename(daemon->folder, "out", NULL);
    daemon->err_path = g_build_filename(daemon->folder, "err", NULL);
    daemon->pidfd = -1;
    for (; *argv; argv++) {
        g_ptr_array_add(args, g_strdup(*argv));
    }
    if (listens) {
        g_ptr_array_add(args,
                        g_strdup_printf("--socket-path=%s", daemon->socket));
    }
    g_ptr_array_add(args, NULL);
    daemon->argv = (char **)g_ptr_array_steal(args, NULL);
    start(daemon);
    return daemon;
}

RigDaemon *rig_daemon_spawn(const char *const *argv)
{
    RigDaemon *daemon = daemon_new(argv, true);

    wait_listening(daemon);
    return daemon;
}

RigDaemon *rig_daemon_run(const char *const *argv)
{
    return daemon_new(argv, false);
}

void rig_daemon_respawn(RigDaemon *daemon)
{
    g_assert_cmpint(daemon->pid, ==, 0);
    start(daemon);
    if (daemon->listens) {
        wait_listening(daemon);
    }
}

/* ---- ending ---- */

void rig_daemon_signal(RigDaemon *daemon, int signal)
{
    g_assert_cmpint(daemon->pid, >, 0);
    g_assert_cmpint(kill(daemon->pid, signal), ==, 0);
}

int rig_daemon_wait(RigDaemon *daemon, int timeout_ms)
{
    int status = 0;

    g_assert_cmpint(daemon->pid, >, 0);
    if (!has_ended(daemon, timeout_ms)) {
        rig_fail("%s did not end within %d ms: %s", daemon->argv[0], timeout_ms,
                 rig_daemon_errors(daemon));
    }
    g_assert_cmpint(waitpid(daemon->pid, &status, 0), ==, daemon->pid);
    close(daemon->pidfd);
    daemon->pidfd = -1;
    daemon->pid = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void rig_daemon_kill(RigDaemon *daemon)
{
    rig_daemon_signal(daemon, SIGKILL);
    rig_daemon_wait(daemon, START_MS);
}

static void remove_folder(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        g_unlink(file);
    }
    if (dir) {
        g_dir_close(dir);
    }
    g_rmdir(path);
}

void rig_daemon_free(RigDaemon *daemon)
{
    if (!daemon) {
        return;
    }
    if (daemon->pid) {
        rig_daemon_kill(daemon);
    }
    remove_folder(daemon->folder);
    g_strfreev(daemon->argv);
    g_free(daemon->folder);
    g_free(daemon->socket);
    g_free(daemon->out_path);
    g_free(daemon->err_path);
    g_free(daemon->out);
    g_free(daemon->err);
    g_free(daemon);
}

/* ---- looking at it ---- */

const char *rig_daemon_folder(const RigDaemon *daemon)
{
    return daemon->folder;
}

const char *rig_daemon_socket(const RigDaemon *daemon)
{
    return daemon->socket;
}

pid_t rig_daemon_pid(const RigDaemon *daemon)
{
    return daemon->pid;
}

static const char *read_again(const char *path, char **text)
{
    g_free(*text);
    *text = NULL;
    if (!g_file_get_contents(path, text, NULL, NULL)) {
        *text = g_strdup("");
    }
    return *text;
}

const char *rig_daemon_output(RigDaemon *daemon)
{
    return read_again(daemon->out_path, &daemon->out);
}

const char *rig_daemon_errors(RigDaemon *daemon)
{
    return read_again(daemon->err_path, &daemon->err);
}

void rig_daemon_expect_error(RigDaemon *daemon, const char *text)
{
    const int64_t deadline_ms = vhu_now_ms() + START_MS;
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int watch = inotify_add_watch(fd, daemon->err_path, IN_MODIFY);

    g_assert_cmpint(watch, >=, 0);
    while (!strstr(rig_daemon_errors(daemon), text)) {
        struct pollfd change = {.fd = fd, .events = POLLIN};
        const int64_t left = deadline_ms - vhu_now_ms();
        char events[4096];

        if (left <= 0 || poll(&change, 1, (int)left) <= 0) {
            rig_fail("%s did not say '%s' but '%s'", daemon->argv[0], text,
                     rig_daemon_errors(daemon));
        }
        while (read(fd, events, sizeof(events)) > 0) {
        }
    }
    close(fd);
}

static char *proc_path(pid_t pid, const char *name)
{
    return pid ? g_strdup_printf("/proc/%d/%s", (int)pid, name)
               : g_strdup_printf("/proc/self/%s", name);
}

unsigned rig_count_fds(pid_t pid)
{
    g_autofree char *path = proc_path(pid, "fd");
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned num = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        num++;
    }
    g_dir_close(dir);
    return pid ? num : num - 1; /* the one that was read from */
}

unsigned rig_anonymous_kib(pid_t pid)
{
    g_autofree char *path = proc_path(pid, "status");
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "\nRssAnon:");
    g_assert_nonnull(line);
    return (unsigned)g_ascii_strtoull(line + strlen("\nRssAnon:"), NULL, 10);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

bool rig_is_valgrind(void)
{
    const char *preload = g_getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

bool rig_memory_is_plain(void)
{
    return !SANITIZED && !rig_is_valgrind();
}
