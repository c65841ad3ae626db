/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/daemon/socket-path: whose place a new socket may
 * take, who may connect, and what is removed at the end. */
#include "contrib/daemon/socket-path.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Fixture {
    char *dir;
    char *path;
    SocketPathConfig config;
    SocketPathId id;
} Fixture;

static void set_up(Fixture *fix, gconstpointer data)
{
    (void)data;
    fix->dir = g_dir_make_tmp("socket-XXXXXX", NULL);
    g_assert_nonnull(fix->dir);
    fix->path = g_build_filename(fix->dir, "s", NULL);
    fix->config = (SocketPathConfig){
        .path = fix->path,
        .mode = SOCKET_MODE_UNSET,
    };
}

static void tear_down(Fixture *fix, gconstpointer data)
{
    (void)data;
    unlink(fix->path);
    g_assert_cmpint(g_rmdir(fix->dir), ==, 0);
    g_free(fix->path);
    g_free(fix->dir);
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    return address;
}

/* Returns 0, or the errno of connect. */
static int try_connect(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int ret = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    int code = ret < 0 ? errno : 0;

    close(fd);
    return code;
}

/* What a killed daemon leaves: a bound socket nobody listens on. */
static void leave_stale(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(
        bind(fd, (const struct sockaddr *)&address, sizeof(address)), ==, 0);
    close(fd);
    g_assert_cmpint(try_connect(path), ==, ECONNREFUSED);
}

static void assert_refused(Fixture *fix, const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(socket_path_listen(&fix->config, &fix->id, &error), ==, -1);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, text));
}

static int assert_listens(Fixture *fix)
{
    g_autoptr(GError) error = NULL;
    int fd = socket_path_listen(&fix->config, &fix->id, &error);

    g_assert_no_error(error);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(try_connect(fix->path), ==, 0);
    return fd;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    g_assert_cmpint(lstat(path, &st), ==, 0);
    return st.st_mode & 07777;
}

static void test_free_path_listens(Fixture *fix, gconstpointer data)
{
    int fd = assert_listens(fix);

    (void)data;
    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(fcntl(fd, F_GETFL) & O_NONBLOCK, !=, 0);
    close(fd);
}

static void test_stale_socket_is_replaced(Fixture *fix, gconstpointer data)
{
    (void)data;
    leave_stale(fix->path);
    close(assert_listens(fix));
}

static void test_live_socket_is_refused_and_lives(Fixture *fix,
                                                  gconstpointer data)
{
    int fd = assert_listens(fix);

    (void)data;
    assert_refused(fix, "in use: another process listens on it");
    g_assert_cmpint(try_connect(fix->path), ==, 0);
    close(fd);
}

static void test_full_backlog_counts_as_live(Fixture *fix, gconstpointer data)
{
    const struct sockaddr_un address = address_of(fix->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)data;
    g_assert_cmpint(
        bind(fd, (const struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 0), ==, 0);
    while (try_connect(fix->path) == 0) {
    }
    g_assert_cmpint(try_connect(fix->path), ==, EAGAIN);
    assert_refused(fix, "in use");
    close(fd);
}

static void test_socket_of_another_kind_is_refused(Fixture *fix,
                                                   gconstpointer data)
{
    const struct sockaddr_un address = address_of(fix->path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)data;
    g_assert_cmpint(
        bind(fd, (const struct sockaddr *)&address, sizeof(address)), ==, 0);
    assert_refused(fix, "in use");
    g_assert_cmpint(access(fix->path, F_OK), ==, 0);
    close(fd);
}

static void test_plain_file_is_left_alone(Fixture *fix, gconstpointer data)
{
    g_autofree char *text = NULL;

    (void)data;
    g_assert_true(g_file_set_contents(fix->path, "precious", -1, NULL));
    assert_refused(fix, "exists and is not a socket");
    g_assert_true(g_file_get_contents(fix->path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "precious");
}

static void test_symbolic_link_is_left_alone(Fixture *fix, gconstpointer data)
{
    g_autofree char *target = g_build_filename(fix->dir, "target", NULL);

    (void)data;
    leave_stale(target);
    g_assert_cmpint(symlink(target, fix->path), ==, 0);
    assert_refused(fix, "exists and is not a socket");
    g_assert_cmpint(access(target, F_OK), ==, 0);
    unlink(target);
}

static void test_missing_directory_is_named(Fixture *fix, gconstpointer data)
{
    g_autofree char *path = g_build_filename(fix->dir, "none", "s", NULL);

    (void)data;
    fix->config.path = path;
    assert_refused(fix, "none: No such file or directory");
}

static void test_long_path_is_refused_with_both_numbers(Fixture *fix,
                                                        gconstpointer data)
{
    g_autofree char *name = g_strnfill(107, 'x');
    g_autofree char *path = g_build_filename(fix->dir, name, NULL);
    g_autofree char *text =
        g_strdup_printf("%zu bytes, a socket's path has at most 107",
                        strlen(fix->dir) + 1 + 107);

    (void)data;
    fix->config.path = path;
    assert_refused(fix, text);
}

static void test_longest_path_listens(Fixture *fix, gconstpointer data)
{
    g_autofree char *name = g_strnfill(107 - strlen(fix->dir) - 1, 'x');

    (void)data;
    g_free(fix->path);
    fix->path = g_build_filename(fix->dir, name, NULL);
    fix->config.path = fix->path;
    g_assert_cmpuint(strlen(fix->path), ==, 107);
    close(assert_listens(fix));
}

static void test_mode_is_set(Fixture *fix, gconstpointer data)
{
    static const mode_t modes[] = {0600, 0666, 0};

    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        int fd;

        fix->config.mode = modes[i];
        fd = socket_path_listen(&fix->config, &fix->id, NULL);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpuint(mode_of(fix->path), ==, modes[i]);
        socket_path_remove(&fix->id);
        close(fd);
    }
}

static void test_umask_rules_without_mode(Fixture *fix, gconstpointer data)
{
    const mode_t mask = umask(027);
    int fd = assert_listens(fix);

    (void)data;
    g_assert_cmpuint(mode_of(fix->path), ==, 0750);
    g_assert_cmpuint(umask(mask), ==, 027);
    close(fd);
}

static void test_group_is_set_and_may_connect(Fixture *fix, gconstpointer data)
{
    g_autofree char *group = g_strdup_printf("%u", getegid());
    struct stat st;
    int fd;

    (void)data;
    fix->config.group = group;
    fd = assert_listens(fix);
    g_assert_cmpint(lstat(fix->path, &st), ==, 0);
    g_assert_cmpuint(st.st_gid, ==, getegid());
    g_assert_cmpuint(st.st_mode & 07777, ==, 0660);
    close(fd);
}

static void test_group_is_looked_up(Fixture *fix, gconstpointer data)
{
    struct stat st;
    int fd;

    (void)data;
    if (geteuid() != 0) {
        g_test_skip("only root may give a file to any group");
        return;
    }
    fix->config.group = "daemon";
    fd = assert_listens(fix);
    g_assert_cmpint(lstat(fix->path, &st), ==, 0);
    g_assert_cmpuint(st.st_gid, ==, 1); /* Debian's and Fedora's number */
    close(fd);
}

static void test_unknown_group_is_refused(Fixture *fix, gconstpointer data)
{
    (void)data;
    fix->config.group = "no-such-group";
    assert_refused(fix, "--socket-group=no-such-group: there is no such group");
    g_assert_cmpint(access(fix->path, F_OK), <, 0);
}

static void test_removal_spares_a_successor(Fixture *fix, gconstpointer data)
{
    int fd = assert_listens(fix);
    const SocketPathId first = fix->id;
    int successor;

    (void)data;
    g_assert_cmpint(unlink(fix->path), ==, 0);
    successor = assert_listens(fix);
    socket_path_remove(&first);
    g_assert_cmpint(try_connect(fix->path), ==, 0);
    socket_path_remove(&fix->id);
    g_assert_cmpint(access(fix->path, F_OK), <, 0);
    close(successor);
    close(fd);
}

static void test_locked_directory_is_told(Fixture *fix, gconstpointer data)
{
    int lock = open(fix->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)data;
    g_assert_cmpint(flock(lock, LOCK_EX), ==, 0);
    assert_refused(fix, "cannot lock directory");
    close(lock);
    close(assert_listens(fix));
}

/* In a child: take the path when @gate closes; tell how it went by @result. */
static void race(Fixture *fix, int gate, int result)
{
    GError *error = NULL;
    char byte;
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(gate, &byte, 1) < 0) {
        _exit(2);
    }
    fd = socket_path_listen(&fix->config, &fix->id, &error);
    byte = fd >= 0 ? 'w' : strstr(error->message, "in use") ? 'l' : '?';
    if (write(result, &byte, 1) == 1) {
        pause();
    }
    _exit(3);
}

/* Start the race, count who won, end it. */
static int winners_of_race(Fixture *fix)
{
    enum { RACERS = 8 };
    pid_t pids[RACERS];
    int gate[2];
    int result[2];
    int winners = 0;

    leave_stale(fix->path);
    g_assert_cmpint(pipe(gate), ==, 0);
    g_assert_cmpint(pipe(result), ==, 0);
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        g_assert_cmpint(pids[i], >=, 0);
        if (pids[i] == 0) {
            close(gate[1]);
            race(fix, gate[0], result[1]);
        }
    }
    close(gate[1]);
    for (int i = 0; i < RACERS; i++) {
        char byte = 0;

        g_assert_cmpint(read(result[0], &byte, 1), ==, 1);
        g_assert_true(byte == 'w' || byte == 'l');
        winners += byte == 'w';
    }
    g_assert_cmpint(try_connect(fix->path), ==, 0);
    for (int i = 0; i < RACERS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    close(gate[0]);
    close(result[0]);
    close(result[1]);
    unlink(fix->path);
    return winners;
}

static void test_one_of_many_wins_a_stale_socket(Fixture *fix,
                                                 gconstpointer data)
{
    (void)data;
    for (int round = 0; round < 40; round++) {
        g_assert_cmpint(winners_of_race(fix), ==, 1);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(Fixture *, gconstpointer);
    } tests[] = {
        {"free-path-listens", test_free_path_listens},
        {"stale-socket-is-replaced", test_stale_socket_is_replaced},
        {"live-socket-is-refused-and-lives",
         test_live_socket_is_refused_and_lives},
        {"full-backlog-counts-as-live", test_full_backlog_counts_as_live},
        {"socket-of-another-kind-is-refused",
         test_socket_of_another_kind_is_refused},
        {"plain-file-is-left-alone", test_plain_file_is_left_alone},
        {"symbolic-link-is-left-alone", test_symbolic_link_is_left_alone},
        {"missing-directory-is-named", test_missing_directory_is_named},
        {"long-path-is-refused-with-both-numbers",
         test_long_path_is_refused_with_both_numbers},
        {"longest-path-listens", test_longest_path_listens},
        {"mode-is-set", test_mode_is_set},
        {"umask-rules-without-mode", test_umask_rules_without_mode},
        {"group-is-set-and-may-connect", test_group_is_set_and_may_connect},
        {"group-is-looked-up", test_group_is_looked_up},
        {"unknown-group-is-refused", test_unknown_group_is_refused},
        {"removal-spares-a-successor", test_removal_spares_a_successor},
        {"locked-directory-is-told", test_locked_directory_is_told},
        {"one-of-many-wins-a-stale-socket",
         test_one_of_many_wins_a_stale_socket},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path =
            g_strdup_printf("/socket-path/%s", tests[i].name);

        g_test_add(path, Fixture, NULL, set_up, tests[i].fn, tear_down);
    }
    return g_test_run();
}
