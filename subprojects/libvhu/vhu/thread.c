/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns data threads: a thread that runs an event loop until told to quit.
 */
#include "vhu/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_NAME_BYTES 16

struct VhuThread {
    VhuLoop *loop;
    pthread_t thread;
    char name[THREAD_NAME_BYTES];
};

static void *thread_main(void *opaque)
{
    VhuThread *thread = opaque;

    pthread_setname_np(pthread_self(), thread->name);
    vhu_loop_run(thread->loop, NULL);
    return NULL;
}

/* Signals are the control thread's, except those a fault raises here. */
static int create_without_signals(VhuThread *thread)
{
    sigset_t all;
    sigset_t before;
    int ret;

    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = pthread_create(&thread->thread, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret;
}

VhuThread *vhu_thread_new(const char *name, VhuError *err)
{
    VhuThread *thread = calloc(1, sizeof(*thread));
    int ret;

    if (!thread) {
        vhu_error_set(err, ENOMEM, 0, 0, "thread %s: out of memory", name);
        return NULL;
    }
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->loop = vhu_loop_new(err);
    if (!thread->loop) {
        free(thread);
        return NULL;
    }
    ret = create_without_signals(thread);
    if (ret != 0) {
        vhu_error_set(err, ret, 0, 0, "thread %s: %s", name, strerror(ret));
        vhu_loop_free(thread->loop);
        free(thread);
        return NULL;
    }
    return thread;
}

VhuLoop *vhu_thread_loop(VhuThread *thread)
{
    return thread->loop;
}

void vhu_thread_free(VhuThread *thread)
{
    if (thread) {
        vhu_loop_quit(thread->loop);
        pthread_join(thread->thread, NULL);
        vhu_loop_free(thread->loop);
        free(thread);
    }
}
