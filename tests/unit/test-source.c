/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/vhost-user-rng/source: every kind of file is read
 * without waiting, and tells when there is more. */
#include "contrib/vhost-user-rng/source.h"

#include "vhu/clock.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_MS 5000

typedef struct Fixture {
    char *dir;
    char *path;
    VhuLoop *loop;
    Source *source;
    unsigned ready; /* times we were told of more */
} Fixture;

static void on_ready(void *opaque)
{
    Fixture *fix = opaque;

    fix->ready++;
}

static void set_up(Fixture *fix, gconstpointer data)
{
    (void)data;
    fix->dir = g_dir_make_tmp("source-XXXXXX", NULL);
    fix->path = g_build_filename(fix->dir, "f", NULL);
    fix->loop = vhu_loop_new(NULL);
    g_assert_nonnull(fix->loop);
}

static void tear_down(Fixture *fix, gconstpointer data)
{
    (void)data;
    source_free(fix->source);
    vhu_loop_free(fix->loop);
    unlink(fix->path);
    g_assert_cmpint(g_rmdir(fix->dir), ==, 0);
    g_free(fix->path);
    g_free(fix->dir);
}

static void open_it(Fixture *fix, const char *path)
{
    g_autoptr(GError) error = NULL;

    fix->source = source_new(path, fix->loop, on_ready, fix, &error);
    g_assert_no_error(error);
    g_assert_nonnull(fix->source);
}

static int open_writer(Fixture *fix)
{
    int fd = open(fix->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void assert_reads(Fixture *fix, const char *text)
{
    char got[64] = {0};

    g_assert_cmpuint(source_read(fix->source, got, sizeof(got) - 1), ==,
                     strlen(text));
    g_assert_cmpstr(got, ==, text);
}

/* Nothing there; and we have not been told otherwise yet. */
static void assert_dry(Fixture *fix)
{
    char byte;

    fix->ready = 0;
    g_assert_cmpuint(source_read(fix->source, &byte, 1), ==, 0);
    g_assert_cmpuint(fix->ready, ==, 0);
}

static void await_ready(Fixture *fix)
{
    const int64_t deadline_ms = vhu_now_ms() + DEADLINE_MS;

    while (fix->ready == 0) {
        g_assert_cmpint(vhu_now_ms(), <, deadline_ms);
        g_assert_cmpint(vhu_loop_dispatch(fix->loop, DEADLINE_MS), >=, 0);
    }
}

/* There are bytes: we are told in the next turn, and only once. */
static void assert_told(Fixture *fix)
{
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 1);
    g_assert_cmpuint(fix->ready, ==, 1);
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 0);
}

static void test_kernel_gives_all_that_is_asked(Fixture *fix,
                                                gconstpointer data)
{
    uint8_t first[256] = {0};
    uint8_t second[256] = {0};

    (void)data;
    open_it(fix, NULL);
    g_assert_cmpuint(source_read(fix->source, first, 256), ==, 256);
    g_assert_cmpuint(source_read(fix->source, second, 256), ==, 256);
    g_assert_true(memcmp(first, second, 256) != 0);
}

static void test_missing_file_is_refused(Fixture *fix, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *expected =
        g_strdup_printf("--source=%s: No such file or directory", fix->path);

    (void)data;
    g_assert_null(source_new(fix->path, fix->loop, on_ready, fix, &error));
    g_assert_cmpstr(error->message, ==, expected);
}

static void test_directory_is_refused(Fixture *fix, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *expected =
        g_strdup_printf("--source=%s: Is a directory", fix->dir);

    (void)data;
    g_assert_null(source_new(fix->dir, fix->loop, on_ready, fix, &error));
    g_assert_cmpstr(error->message, ==, expected);
}

static void test_end_of_file_waits_for_growth(Fixture *fix, gconstpointer data)
{
    int fd;

    (void)data;
    g_assert_true(g_file_set_contents(fix->path, "abc", 3, NULL));
    open_it(fix, fix->path);
    assert_reads(fix, "abc");
    assert_dry(fix);
    fd = open(fix->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    g_assert_cmpint(write(fd, "def", 3), ==, 3);
    close(fd);
    await_ready(fix);
    assert_reads(fix, "def");
}

static void test_fifo_without_writer_is_dry(Fixture *fix, gconstpointer data)
{
    int fd;

    (void)data;
    g_assert_cmpint(mkfifo(fix->path, 0600), ==, 0);
    open_it(fix, fix->path);
    assert_dry(fix);
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 0);
    fd = open_writer(fix);
    g_assert_cmpint(write(fd, "abc", 3), ==, 3);
    assert_told(fix);
    assert_reads(fix, "abc");
    close(fd);
}

static void test_fifo_with_silent_writer_is_dry(Fixture *fix,
                                                gconstpointer data)
{
    int fd;

    (void)data;
    g_assert_cmpint(mkfifo(fix->path, 0600), ==, 0);
    open_it(fix, fix->path);
    fd = open_writer(fix);
    assert_dry(fix);
    g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 0);
    g_assert_cmpint(write(fd, "abc", 3), ==, 3);
    assert_told(fix);
    assert_reads(fix, "abc");
    close(fd);
}

static void test_fifo_goes_on_with_the_next_writer(Fixture *fix,
                                                   gconstpointer data)
{
    (void)data;
    g_assert_cmpint(mkfifo(fix->path, 0600), ==, 0);
    open_it(fix, fix->path);
    for (int i = 0; i < 3; i++) {
        int fd = open_writer(fix);

        g_assert_cmpint(write(fd, "abc", 3), ==, 3);
        close(fd);
        assert_reads(fix, "abc");
        assert_dry(fix);
        /* A FIFO that was hung up must not keep the loop busy. */
        g_assert_cmpint(vhu_loop_dispatch(fix->loop, 0), ==, 0);
    }
}

static void test_terminal_is_watched(Fixture *fix, gconstpointer data)
{
    int pty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    (void)data;
    if (pty < 0 || grantpt(pty) < 0 || unlockpt(pty) < 0) {
        g_test_skip("there are no pseudo terminals here");
        return;
    }
    open_it(fix, ptsname(pty));
    assert_dry(fix);
    g_assert_cmpint(write(pty, "abc\n", 4), ==, 4);
    await_ready(fix);
    assert_reads(fix, "abc\n");
    close(pty);
}

static void test_device_that_cannot_be_polled_is_tried_again(Fixture *fix,
                                                             gconstpointer data)
{
    (void)data;
    open_it(fix, "/dev/null"); /* ends at once, and epoll refuses it */
    assert_dry(fix);
    await_ready(fix);
    assert_dry(fix);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(Fixture *, gconstpointer);
    } tests[] = {
        {"kernel-gives-all-that-is-asked", test_kernel_gives_all_that_is_asked},
        {"missing-file-is-refused", test_missing_file_is_refused},
        {"directory-is-refused", test_directory_is_refused},
        {"end-of-file-waits-for-growth", test_end_of_file_waits_for_growth},
        {"fifo-without-writer-is-dry", test_fifo_without_writer_is_dry},
        {"fifo-with-silent-writer-is-dry", test_fifo_with_silent_writer_is_dry},
        {"fifo-goes-on-with-the-next-writer",
         test_fifo_goes_on_with_the_next_writer},
        {"terminal-is-watched", test_terminal_is_watched},
        {"device-that-cannot-be-polled-is-tried-again",
         test_device_that_cannot_be_polled_is_tried_again},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path =
            g_strdup_printf("/rng/source/%s", tests[i].name);

        g_test_add(path, Fixture, NULL, set_up, tests[i].fn, tear_down);
    }
    return g_test_run();
}
