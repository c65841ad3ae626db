/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An event loop (epoll) with a mailbox, one per thread: the control thread
 * and every data thread of a daemon run one. Threads talk by posting.
 */
#ifndef VHU_LOOP_H
#define VHU_LOOP_H

#include "vhu/error.h"

#include <stdbool.h>
#include <sys/epoll.h>

typedef struct VhuLoop VhuLoop;
typedef struct VhuWatch VhuWatch;
typedef struct VhuTimer VhuTimer;
typedef struct VhuThread VhuThread;

/* @events: EPOLL* that came. */
typedef void (*VhuWatchFn)(void *opaque, uint32_t events);
typedef void (*VhuLoopFn)(void *opaque);

/** A loop for the calling thread to run, or NULL (err may be NULL). */
VHU_API VhuLoop *vhu_loop_new(VhuError *err);

/** Free it with its watches and timers; posts not yet run are run first.
 * @loop: may be NULL; not running. */
VHU_API void vhu_loop_free(VhuLoop *loop);

/**
 * Call @fn when @fd is ready.
 * @fd:     borrowed; outlives the watch
 * @events: EPOLLIN, EPOLLOUT, ...; level-triggered
 * Returns the watch, or NULL with errno set. Loop's thread.
 */
VHU_API VhuWatch *vhu_loop_watch(VhuLoop *loop, int fd, uint32_t events,
                                 VhuWatchFn fn, void *opaque);

/** Change what a watch waits for. Loop's thread. */
VHU_API void vhu_watch_set_events(VhuWatch *watch, uint32_t events);

/** Stop watching; no call comes after this, even of the same round.
 * @watch: may be NULL. Loop's thread. */
VHU_API void vhu_watch_free(VhuWatch *watch);

/** A timer, not set. Loop's thread. Returns it, or NULL without memory. */
VHU_API VhuTimer *vhu_loop_timer(VhuLoop *loop, VhuLoopFn fn, void *opaque);

/** Set a timer to run once at @deadline_ms of CLOCK_MONOTONIC (as
 * vhu_now_ms), replacing an earlier setting; -1: unset. Loop's thread. */
VHU_API void vhu_timer_set(VhuTimer *timer, int64_t deadline_ms);

/** Free a timer. @timer: may be NULL. Loop's thread. */
VHU_API void vhu_timer_free(VhuTimer *timer);

/**
 * Run @fn on the loop's thread, after what was posted before; never inside
 * the call. Any thread.
 * Returns 0, or -ENOMEM (and @fn will not run).
 */
VHU_API int vhu_loop_post(VhuLoop *loop, VhuLoopFn fn, void *opaque);

/** Run until vhu_loop_quit. Returns 0, or -errno of epoll_wait. */
VHU_API int vhu_loop_run(VhuLoop *loop, VhuError *err);

/** Make vhu_loop_run return after the callback at hand. Any thread. */
VHU_API void vhu_loop_quit(VhuLoop *loop);

/**
 * Run what is ready, once; for use inside another main loop.
 * @timeout_ms: how long to wait for something; 0: not; -1: for ever
 * Returns the number of callbacks run, or -errno. Loop's thread.
 */
VHU_API int vhu_loop_dispatch(VhuLoop *loop, int timeout_ms);

/** The epoll fd: readable when vhu_loop_dispatch has work. */
VHU_API int vhu_loop_fd(const VhuLoop *loop);

/** Whether the caller is the thread that runs (or last dispatched) it. */
VHU_API bool vhu_loop_is_current(const VhuLoop *loop);

/** Start a data thread that runs a loop of its own.
 * @name: at most 15 bytes, shown by ps and gdb. Returns it, or NULL. */
VHU_API VhuThread *vhu_thread_new(const char *name, VhuError *err);

/** The thread's loop, borrowed. Any thread. */
VHU_API VhuLoop *vhu_thread_loop(VhuThread *thread);

/** Quit its loop, wait for the thread, free both. @thread: may be NULL; not
 * from the thread itself. */
VHU_API void vhu_thread_free(VhuThread *thread);

#endif
