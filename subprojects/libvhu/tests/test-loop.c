/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/loop: watches, timers, posts, threads. */
#include "vhu/loop.h"

#include "vhu/clock.h"

#include <errno.h>
#include <glib.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct Fixture {
    VhuLoop *loop;
    VhuWatch *watches[2];
    int fds[2];
    unsigned calls[2];
    unsigned order[8];
    unsigned num_order;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    f->loop = vhu_loop_new(NULL);
    g_assert_nonnull(f->loop);
    for (int i = 0; i < 2; i++) {
        f->fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    }
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    vhu_loop_free(f->loop);
    close(f->fds[0]);
    close(f->fds[1]);
}

/* Whichever comes first frees the other, which must then not be called. */
static void free_other(Fixture *f, int self)
{
    uint64_t count;

    f->calls[self]++;
    g_assert_cmpint(read(f->fds[self], &count, sizeof(count)), ==, 8);
    vhu_watch_free(f->watches[!self]);
    f->watches[!self] = NULL;
}

static void on_first(void *opaque, uint32_t events)
{
    g_assert_cmpuint(events, ==, EPOLLIN);
    free_other(opaque, 0);
}

static void on_second(void *opaque, uint32_t events)
{
    g_assert_cmpuint(events, ==, EPOLLIN);
    free_other(opaque, 1);
}

static void test_freed_watch_is_silent(Fixture *f, gconstpointer data)
{
    (void)data;
    f->watches[0] = vhu_loop_watch(f->loop, f->fds[0], EPOLLIN, on_first, f);
    f->watches[1] = vhu_loop_watch(f->loop, f->fds[1], EPOLLIN, on_second, f);
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 0), ==, 1);
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 0), ==, 0);
    g_assert_cmpuint(f->calls[0] + f->calls[1], ==, 1);
}

static void test_watch_of_bad_fd_is_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_null(vhu_loop_watch(f->loop, 9999, EPOLLIN, on_first, f));
    g_assert_cmpint(errno, ==, EBADF);
}

static void post_two(void *opaque)
{
    Fixture *f = opaque;

    f->order[f->num_order++] = 2;
}

static void post_one(void *opaque)
{
    Fixture *f = opaque;

    f->order[f->num_order++] = 1;
    g_assert_cmpint(vhu_loop_post(f->loop, post_two, f), ==, 0);
    g_assert_cmpuint(f->num_order, ==, 1);
}

static void test_posts_run_in_order_later(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(vhu_loop_post(f->loop, post_one, f), ==, 0);
    g_assert_cmpuint(f->num_order, ==, 0);
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 0), ==, 1);
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 0), ==, 1);
    g_assert_cmpuint(f->num_order, ==, 2);
    g_assert_cmpuint(f->order[1], ==, 2);
}

static void test_timers_run_by_deadline(Fixture *f, gconstpointer data)
{
    VhuTimer *one = vhu_loop_timer(f->loop, post_one, f);
    VhuTimer *two = vhu_loop_timer(f->loop, post_two, f);
    VhuTimer *never = vhu_loop_timer(f->loop, post_two, f);
    const int64_t now = vhu_now_ms();

    (void)data;
    vhu_timer_set(two, now + 2);
    vhu_timer_set(never, now + 1);
    vhu_timer_set(one, now + 1);
    vhu_timer_set(never, -1);
    while (f->num_order < 3) {
        g_assert_cmpint(vhu_loop_dispatch(f->loop, 1000), >=, 0);
    }
    g_assert_cmpint(vhu_now_ms(), >=, now + 2);
    g_assert_cmpuint(f->order[0], ==, 1);
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 0), ==, 0);
    vhu_timer_free(one);
    vhu_timer_free(two);
    vhu_timer_free(never);
}

typedef struct Meeting {
    VhuLoop *home;
    VhuLoop *away;
    bool was_there;
} Meeting;

static void come_back(void *opaque)
{
    Meeting *meeting = opaque;

    vhu_loop_quit(meeting->home);
}

static void go_there(void *opaque)
{
    Meeting *meeting = opaque;

    meeting->was_there = vhu_loop_is_current(meeting->away) &&
                         !vhu_loop_is_current(meeting->home);
    vhu_loop_post(meeting->home, come_back, meeting);
}

static void test_threads_meet_by_posting(Fixture *f, gconstpointer data)
{
    VhuThread *thread = vhu_thread_new("away", NULL);
    Meeting meeting = {.home = f->loop, .away = vhu_thread_loop(thread)};

    (void)data;
    g_assert_cmpint(vhu_loop_post(meeting.away, go_there, &meeting), ==, 0);
    g_assert_cmpint(vhu_loop_run(f->loop, NULL), ==, 0);
    g_assert_true(meeting.was_there);
    vhu_thread_free(thread);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(Fixture *f, gconstpointer data);
    } tests[] = {
        {"/loop/freed-watch-is-silent", test_freed_watch_is_silent},
        {"/loop/watch-of-bad-fd-is-refused", test_watch_of_bad_fd_is_refused},
        {"/loop/posts-run-in-order-later", test_posts_run_in_order_later},
        {"/loop/timers-run-by-deadline", test_timers_run_by_deadline},
        {"/loop/threads-meet-by-posting", test_threads_meet_by_posting},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL, set_up, tests[i].fn,
                   tear_down);
    }
    return g_test_run();
}
