/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/daemon/listener: which connections are handed
 * over, and what inherited sockets are taken. */
#include "contrib/daemon/listener.h"

#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEADLINE_MS 5000

typedef struct Fixture {
    char *dir;
    char *path;
    VhuLoop *loop;
    Listener *listener;
    unsigned num;     /* connections handed over */
    char first;       /* first byte of the last one */
    bool stop_at_one; /* stop the listener in the callback */
} Fixture;

static void on_front_end(void *opaque, int fd)
{
    Fixture *fix = opaque;

    fix->num++;
    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, !=, 0);
    if (recv(fd, &fix->first, 1, MSG_DONTWAIT) != 1) {
        fix->first = 0;
    }
    close(fd);
    if (fix->stop_at_one) {
        listener_stop(fix->listener);
    }
}

static void set_up(Fixture *fix, gconstpointer data)
{
    (void)data;
    fix->dir = g_dir_make_tmp("listener-XXXXXX", NULL);
    fix->path = g_build_filename(fix->dir, "s", NULL);
    fix->loop = vhu_loop_new(NULL);
    g_assert_nonnull(fix->loop);
}

static void tear_down(Fixture *fix, gconstpointer data)
{
    (void)data;
    listener_free(fix->listener);
    vhu_loop_free(fix->loop);
    g_assert_cmpint(g_rmdir(fix->dir), ==, 0);
    g_free(fix->path);
    g_free(fix->dir);
}

static void start(Fixture *fix)
{
    const SocketPathConfig config = {
        .path = fix->path,
        .mode = SOCKET_MODE_UNSET,
    };
    g_autoptr(GError) error = NULL;

    if (!fix->listener) {
        fix->listener = listener_new_path(&config, &error);
    }
    g_assert_no_error(error);
    g_assert_true(
        listener_start(fix->listener, fix->loop, on_front_end, fix, &error));
    g_assert_no_error(error);
}

static int call(Fixture *fix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, fix->path, sizeof(address.sun_path));
    g_assert_cmpint(
        connect(fd, (const struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

/* Turn the loop until nothing is left to do. */
static void settle(Fixture *fix)
{
    while (vhu_loop_dispatch(fix->loop, 0) > 0) {
    }
}

static void await_num(Fixture *fix, unsigned num)
{
    const int64_t deadline_ms = vhu_now_ms() + DEADLINE_MS;

    while (fix->num < num) {
        g_assert_cmpint(vhu_now_ms(), <, deadline_ms);
        g_assert_cmpint(vhu_loop_dispatch(fix->loop, DEADLINE_MS), >=, 0);
    }
    g_assert_cmpuint(fix->num, ==, num);
}

static void test_speaker_is_handed_over_with_its_bytes(Fixture *fix,
                                                       gconstpointer data)
{
    int fd;

    (void)data;
    start(fix);
    fd = call(fix);
    settle(fix);
    g_assert_cmpuint(fix->num, ==, 0);
    g_assert_cmpint(write(fd, "x", 1), ==, 1);
    await_num(fix, 1);
    g_assert_cmpint(fix->first, ==, 'x');
    close(fd);
}

static void test_silent_caller_is_not_handed_over(Fixture *fix,
                                                  gconstpointer data)
{
    (void)data;
    start(fix);
    for (int i = 0; i < 100; i++) {
        close(call(fix));
        settle(fix);
    }
    g_assert_cmpuint(fix->num, ==, 0);
}

static void test_silent_callers_are_limited(Fixture *fix, gconstpointer data)
{
    int fds[LISTENER_MAX_SILENT + 1];
    char byte;

    (void)data;
    start(fix);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = call(fix);
        settle(fix);
    }
    /* The oldest was closed, the second is the oldest now and may speak. */
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 0);
    for (gsize i = 1; i < G_N_ELEMENTS(fds); i++) {
        g_assert_cmpint(write(fds[i], "x", 1), ==, 1);
    }
    await_num(fix, LISTENER_MAX_SILENT);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
}

static void test_stop_in_callback_drops_the_others(Fixture *fix,
                                                   gconstpointer data)
{
    int fds[5];
    char byte;

    (void)data;
    fix->stop_at_one = true;
    start(fix);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = call(fix);
        settle(fix);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_assert_cmpint(write(fds[i], "x", 1), ==, 1);
    }
    await_num(fix, 1);
    settle(fix);
    g_assert_cmpuint(fix->num, ==, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        ssize_t got = read(fds[i], &byte, 1);

        g_assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
        close(fds[i]);
    }
}

static void test_connection_waits_while_fds_are_short(Fixture *fix,
                                                      gconstpointer data)
{
    struct rlimit limit;
    int spare[64];
    int num = 0;
    int fd;

    (void)data;
    if (strstr(g_getenv("LD_PRELOAD") ?: "", "vgpreload")) {
        g_test_skip("valgrind drops a connection that it has no fd for");
        return;
    }
    start(fix);
    fd = call(fix);
    g_assert_cmpint(write(fd, "x", 1), ==, 1);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    limit.rlim_cur = G_N_ELEMENTS(spare);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    while ((spare[num] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0) {
        num++;
    }
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 1);
    /* The backlog still is readable, but the loop is not kept busy. */
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 0);
    while (num > 0) {
        close(spare[--num]);
    }
    await_num(fix, 1);
    close(fd);
}

static void test_inherited_listener_is_taken(Fixture *fix, gconstpointer data)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int inherited = socket(AF_UNIX, SOCK_STREAM, 0);
    int fd;

    (void)data;
    g_strlcpy(address.sun_path, fix->path, sizeof(address.sun_path));
    g_assert_cmpint(
        bind(inherited, (const struct sockaddr *)&address, sizeof(address)), ==,
        0);
    g_assert_cmpint(listen(inherited, 5), ==, 0);
    fix->listener = listener_new_fd(inherited, "--fd=9", NULL);
    g_assert_nonnull(fix->listener);
    g_assert_false(listener_is_connected(fix->listener));
    start(fix);
    fd = call(fix);
    g_assert_cmpint(write(fd, "x", 1), ==, 1);
    await_num(fix, 1);
    close(fd);
    /* The file is not ours to remove. */
    listener_remove(fix->listener);
    g_assert_cmpint(unlink(fix->path), ==, 0);
}

static void test_inherited_connection_is_taken_silent(Fixture *fix,
                                                      gconstpointer data)
{
    int pair[2];

    (void)data;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    fix->listener = listener_new_fd(pair[0], "--fd=9", NULL);
    g_assert_nonnull(fix->listener);
    g_assert_true(listener_is_connected(fix->listener));
    start(fix);
    g_assert_cmpuint(fix->num, ==, 0);
    await_num(fix, 1);
    close(pair[1]);
}

static void assert_not_taken(int fd, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(listener_new_fd(fd, "--fd=9", &error));
    g_assert_cmpstr(error->message, ==, message);
    if (fd >= 0) {
        g_assert_cmpint(fcntl(fd, F_GETFD), >=, 0);
        close(fd);
    }
}

static void test_wrong_fds_are_refused(Fixture *fix, gconstpointer data)
{
    (void)fix;
    (void)data;
    assert_not_taken(-1, "--fd=9: no such file descriptor");
    assert_not_taken(open("/dev/null", O_RDWR | O_CLOEXEC),
                     "--fd=9: not a Unix stream socket");
    assert_not_taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                     "--fd=9: not a Unix stream socket");
    assert_not_taken(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                     "--fd=9: not a Unix stream socket");
    assert_not_taken(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                     "--fd=9: a socket that neither listens nor is connected");
}

static unsigned activated(const char *pid, const char *fds)
{
    g_setenv("LISTEN_PID", pid, TRUE);
    g_setenv("LISTEN_FDS", fds, TRUE);
    return listener_activated_fds();
}

static void test_activation_counts_for_this_process_only(Fixture *fix,
                                                         gconstpointer data)
{
    g_autofree char *self = g_strdup_printf("%d", getpid());
    g_autofree char *other = g_strdup_printf("%d", getppid());

    (void)fix;
    (void)data;
    g_assert_cmpuint(activated(self, "2"), ==, 2);
    g_assert_null(getenv("LISTEN_PID"));
    g_assert_null(getenv("LISTEN_FDS"));
    g_assert_cmpuint(listener_activated_fds(), ==, 0);
    g_assert_cmpuint(activated(other, "2"), ==, 0);
    g_assert_cmpuint(activated(self, "x"), ==, 0);
    g_assert_cmpuint(activated("", "1"), ==, 0);
    g_assert_cmpuint(activated(self, "-1"), ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(Fixture *, gconstpointer);
    } tests[] = {
        {"speaker-is-handed-over-with-its-bytes",
         test_speaker_is_handed_over_with_its_bytes},
        {"silent-caller-is-not-handed-over",
         test_silent_caller_is_not_handed_over},
        {"silent-callers-are-limited", test_silent_callers_are_limited},
        {"stop-in-callback-drops-the-others",
         test_stop_in_callback_drops_the_others},
        {"connection-waits-while-fds-are-short",
         test_connection_waits_while_fds_are_short},
        {"inherited-listener-is-taken", test_inherited_listener_is_taken},
        {"inherited-connection-is-taken-silent",
         test_inherited_connection_is_taken_silent},
        {"wrong-fds-are-refused", test_wrong_fds_are_refused},
        {"activation-counts-for-this-process-only",
         test_activation_counts_for_this_process_only},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/listener/%s", tests[i].name);

        g_test_add(path, Fixture, NULL, set_up, tests[i].fn, tear_down);
    }
    return g_test_run();
}
