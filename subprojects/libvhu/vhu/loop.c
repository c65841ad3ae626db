/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the event loop: watches, timers and the mailbox. Knows nothing of what
 * is watched. Threads that run a loop are in thread.c.
 *
 * A watch freed while a round of events is being dispatched stays on a list
 * of the dead until the round ends, because later events of the same round
 * may still point at it. Posts are taken off the mailbox as a whole and run
 * in order; what they post runs in the next round.
 */
#include "vhu/loop.h"

#include "vhu/clock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_ROUND 64

struct VhuWatch {
    VhuLoop *loop;
    int fd;
    VhuWatchFn fn; /* NULL: freed, waiting for the round to end */
    void *opaque;
    VhuWatch *next, **prev;
};

struct VhuTimer {
    VhuLoop *loop;
    int64_t deadline_ms; /* -1: not set */
    VhuLoopFn fn;
    void *opaque;
    VhuTimer *next, **prev; /* the loop's set timers, soonest first */
};

typedef struct Post Post;
struct Post {
    VhuLoopFn fn;
    void *opaque;
    Post *next;
};

struct VhuLoop {
    int epoll_fd;
    int mail_fd; /* eventfd: readable while posts wait */
    pthread_mutex_t mail_lock;
    Post *mail, **mail_end;
    VhuWatch *watches, *dead;
    VhuTimer *timers;
    unsigned depth; /* dispatch rounds on the stack */
    bool quit;
    pthread_t thread; /* that dispatched last; atomic */
};

/* The mailbox is an epoll entry without a watch. */
static int watch_mailbox(VhuLoop *loop)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->mail_fd, &event);
}

VhuLoop *vhu_loop_new(VhuError *err)
{
    VhuLoop *loop = calloc(1, sizeof(*loop));

    if (!loop) {
        vhu_error_set(err, ENOMEM, 0, 0, "event loop: out of memory");
        return NULL;
    }
    loop->mail_end = &loop->mail;
    pthread_mutex_init(&loop->mail_lock, NULL);
    loop->mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->mail_fd < 0 || loop->epoll_fd < 0 || watch_mailbox(loop) < 0) {
        vhu_error_set(err, errno, 0, 0, "event loop: %s", strerror(errno));
        vhu_loop_free(loop);
        return NULL;
    }
    return loop;
}

static void free_dead_watches(VhuLoop *loop)
{
    while (loop->dead) {
        VhuWatch *watch = loop->dead;

        loop->dead = watch->next;
        free(watch);
    }
}

static int run_posts(VhuLoop *loop)
{
    uint64_t count;
    Post *post;
    int ran = 0;

    pthread_mutex_lock(&loop->mail_lock);
    post = loop->mail;
    loop->mail = NULL;
    loop->mail_end = &loop->mail;
    if (read(loop->mail_fd, &count, sizeof(count)) < 0) {
        count = 0; /* EAGAIN: drained already, nothing is lost by it */
    }
    pthread_mutex_unlock(&loop->mail_lock);

    while (post) {
        Post *next = post->next;

        post->fn(post->opaque);
        free(post);
        post = next;
        ran++;
    }
    return ran;
}

void vhu_loop_free(VhuLoop *loop)
{
    if (!loop) {
        return;
    }
    if (loop->mail_fd >= 0) {
        while (run_posts(loop) > 0) {
        }
    }
    while (loop->watches) {
        vhu_watch_free(loop->watches);
    }
    while (loop->timers) {
        vhu_timer_set(loop->timers, -1);
    }
    free_dead_watches(loop);
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    if (loop->mail_fd >= 0) {
        close(loop->mail_fd);
    }
    pthread_mutex_destroy(&loop->mail_lock);
    free(loop);
}

VhuWatch *vhu_loop_watch(VhuLoop *loop, int fd, uint32_t events, VhuWatchFn fn,
                         void *opaque)
{
    VhuWatch *watch = calloc(1, sizeof(*watch));
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (!watch) {
        errno = ENOMEM;
        return NULL;
    }
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        const int code = errno;

        free(watch);
        errno = code;
        return NULL;
    }
    watch->loop = loop;
    watch->fd = fd;
    watch->fn = fn;
    watch->opaque = opaque;
    watch->next = loop->watches;
    watch->prev = &loop->watches;
    if (watch->next) {
        watch->next->prev = &watch->next;
    }
    loop->watches = watch;
    return watch;
}

void vhu_watch_set_events(VhuWatch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void vhu_watch_free(VhuWatch *watch)
{
    VhuLoop *loop;

    if (!watch) {
        return;
    }
    loop = watch->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    *watch->prev = watch->next;
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    watch->fn = NULL;
    watch->next = loop->dead;
    loop->dead = watch;
    if (loop->depth == 0) {
        free_dead_watches(loop);
    }
}

VhuTimer *vhu_loop_timer(VhuLoop *loop, VhuLoopFn fn, void *opaque)
{
    VhuTimer *timer = calloc(1, sizeof(*timer));

    if (timer) {
        timer->loop = loop;
        timer->deadline_ms = -1;
        timer->fn = fn;
        timer->opaque = opaque;
    }
    return timer;
}

void vhu_timer_set(VhuTimer *timer, int64_t deadline_ms)
{
    VhuTimer **at;

    if (timer->deadline_ms >= 0) {
        *timer->prev = timer->next;
        if (timer->next) {
            timer->next->prev = timer->prev;
        }
    }
    timer->deadline_ms = deadline_ms < 0 ? -1 : deadline_ms;
    if (deadline_ms < 0) {
        return;
    }
    at = &timer->loop->timers;
    while (*at && (*at)->deadline_ms <= deadline_ms) {
        at = &(*at)->next;
    }
    timer->prev = at;
    timer->next = *at;
    if (timer->next) {
        timer->next->prev = &timer->next;
    }
    *at = timer;
}

void vhu_timer_free(VhuTimer *timer)
{
    if (timer) {
        vhu_timer_set(timer, -1);
        free(timer);
    }
}

int vhu_loop_post(VhuLoop *loop, VhuLoopFn fn, void *opaque)
{
    Post *post = malloc(sizeof(*post));
    const uint64_t one = 1;

    if (!post) {
        return -ENOMEM;
    }
    post->fn = fn;
    post->opaque = opaque;
    post->next = NULL;
    pthread_mutex_lock(&loop->mail_lock);
    *loop->mail_end = post;
    loop->mail_end = &post->next;
    if (write(loop->mail_fd, &one, sizeof(one)) < 0) {
        /* Only EAGAIN, of a full counter: then it is readable already. */
    }
    pthread_mutex_unlock(&loop->mail_lock);
    return 0;
}

static int run_timers(VhuLoop *loop)
{
    const int64_t now = vhu_now_ms();
    int ran = 0;

    while (loop->timers && loop->timers->deadline_ms <= now) {
        VhuTimer *timer = loop->timers;

        vhu_timer_set(timer, -1);
        timer->fn(timer->opaque);
        ran++;
    }
    return ran;
}

/* How long epoll may wait, given the caller's wish and the next timer. */
static int wait_ms(const VhuLoop *loop, int timeout_ms)
{
    int64_t left;

    if (!loop->timers) {
        return timeout_ms;
    }
    left = loop->timers->deadline_ms - vhu_now_ms();
    if (left < 0) {
        left = 0;
    }
    if (left > INT_MAX) {
        left = INT_MAX;
    }
    return timeout_ms < 0 || left < timeout_ms ? (int)left : timeout_ms;
}

int vhu_loop_dispatch(VhuLoop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_ROUND];
    int num;
    int ran = 0;

    __atomic_store_n(&loop->thread, pthread_self(), __ATOMIC_RELAXED);
    num = epoll_wait(loop->epoll_fd, events, EVENTS_PER_ROUND,
                     wait_ms(loop, timeout_ms));
    if (num < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    loop->depth++;
    for (int i = 0; i < num; i++) {
        VhuWatch *watch = events[i].data.ptr;

        if (!watch) {
            ran += run_posts(loop);
        } else if (watch->fn) {
            watch->fn(watch->opaque, events[i].events);
            ran++;
        }
    }
    ran += run_timers(loop);
    if (--loop->depth == 0) {
        free_dead_watches(loop);
    }
    return ran;
}

int vhu_loop_run(VhuLoop *loop, VhuError *err)
{
    while (!__atomic_load_n(&loop->quit, __ATOMIC_ACQUIRE)) {
        int ret = vhu_loop_dispatch(loop, -1);

        if (ret < 0) {
            return vhu_error_set(err, -ret, 0, 0, "event loop: %s",
                                 strerror(-ret));
        }
    }
    __atomic_store_n(&loop->quit, false, __ATOMIC_RELEASE);
    return 0;
}

static void wake(void *opaque)
{
    (void)opaque;
}

void vhu_loop_quit(VhuLoop *loop)
{
    const uint64_t one = 1;

    __atomic_store_n(&loop->quit, true, __ATOMIC_RELEASE);
    if (vhu_loop_post(loop, wake, NULL) < 0) {
        /* Without memory for a post, the bare wake-up serves as well. */
        if (write(loop->mail_fd, &one, sizeof(one)) < 0) {
            return;
        }
    }
}

int vhu_loop_fd(const VhuLoop *loop)
{
    return loop->epoll_fd;
}

bool vhu_loop_is_current(const VhuLoop *loop)
{
    return pthread_equal(__atomic_load_n(&loop->thread, __ATOMIC_RELAXED),
                         pthread_self());
}
