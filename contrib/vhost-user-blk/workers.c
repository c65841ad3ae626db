/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the worker threads of a channel. Workers touch no ring and no channel:
 * they take steps from one list, and leave results in another for the loop.
 */
#include "contrib/vhost-user-blk/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* First in, first out. */
typedef struct IoList {
    BlkIo *first;
    BlkIo **last; /* where the next one is to be hung in */
    unsigned num;
} IoList;

struct BlkWorkers {
    BlkChannel *channel;
    int event; /* written when done was empty */
    VhuWatch *watch;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;  /* todo is not empty, or quit */
    IoList todo;
    IoList done;
    unsigned num_idle;
    bool quit;

    unsigned num_threads; /* the loop's alone */
    pthread_t threads[BLK_WORKERS_MAX];
};

static void list_init(IoList *list)
{
    list->first = NULL;
    list->last = &list->first;
    list->num = 0;
}

static void list_push(IoList *list, BlkIo *io)
{
    io->next = NULL;
    *list->last = io;
    list->last = &io->next;
    list->num++;
}

static BlkIo *list_pop(IoList *list)
{
    BlkIo *io = list->first;

    list->first = io->next;
    list->num--;
    if (list->first == NULL) {
        list->last = &list->first;
    }
    return io;
}

/* Locked. */
static void report(BlkWorkers *workers, BlkIo *io)
{
    if (workers->done.first == NULL) {
        eventfd_write(workers->event, 1);
    }
    list_push(&workers->done, io);
}

static void *work(void *opaque)
{
    BlkWorkers *workers = opaque;

    pthread_mutex_lock(&workers->lock);
    while (!workers->quit) {
        BlkIo *io;

        if (workers->todo.first == NULL) {
            workers->num_idle++;
            pthread_cond_wait(&workers->wake, &workers->lock);
            workers->num_idle--;
            continue;
        }
        io = list_pop(&workers->todo);
        pthread_mutex_unlock(&workers->lock);
        io->result = (int)blk_io_run_step(io);
        pthread_mutex_lock(&workers->lock);
        report(workers, io);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

static void collect(void *opaque, uint32_t events)
{
    BlkWorkers *workers = opaque;
    BlkChannel *channel = workers->channel;
    eventfd_t count;
    BlkIo *io;

    (void)events;
    pthread_mutex_lock(&workers->lock);
    eventfd_read(workers->event, &count);
    io = workers->done.first;
    list_init(&workers->done);
    pthread_mutex_unlock(&workers->lock);

    while (io != NULL) {
        BlkIo *next = io->next;

        blk_channel_step_done(channel, io, io->result);
        io = next;
    }
    blk_channel_batch_done(channel);
}

BlkWorkers *blk_workers_new(BlkChannel *channel, int *error)
{
    BlkWorkers *workers = g_new0(BlkWorkers, 1);

    workers->channel = channel;
    workers->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (workers->event < 0) {
        *error = -errno;
        g_free(workers);
        return NULL;
    }
    workers->watch = vhu_loop_watch(channel->config.loop, workers->event,
                                    EPOLLIN, collect, workers);
    if (workers->watch == NULL) {
        *error = -ENOMEM;
        close(workers->event);
        g_free(workers);
        return NULL;
    }
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    list_init(&workers->todo);
    list_init(&workers->done);
    return workers;
}

void blk_workers_free(BlkWorkers *workers)
{
    if (workers == NULL) {
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->quit = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    while (workers->num_threads > 0) {
        pthread_join(workers->threads[--workers->num_threads], NULL);
    }
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->wake);
    vhu_watch_free(workers->watch);
    close(workers->event);
    g_free(workers);
}

/* Signals are the control thread's. */
static void add_thread(BlkWorkers *workers)
{
    sigset_t all;
    sigset_t old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&workers->threads[workers->num_threads], NULL, work,
                       workers) == 0) {
        pthread_setname_np(workers->threads[workers->num_threads],
                           "blk-worker");
        workers->num_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void blk_workers_submit(BlkWorkers *workers, BlkIo *io)
{
    bool short_handed;

    pthread_mutex_lock(&workers->lock);
    list_push(&workers->todo, io);
    short_handed = workers->todo.num > workers->num_idle;
    pthread_cond_signal(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    if (short_handed && workers->num_threads < BLK_WORKERS_MAX) {
        add_thread(workers);
    }
    if (workers->num_threads == 0) {
        /* No thread can be had at all: better slow than not. */
        pthread_mutex_lock(&workers->lock);
        io = list_pop(&workers->todo);
        io->result = (int)blk_io_run_step(io);
        report(workers, io);
        pthread_mutex_unlock(&workers->lock);
    }
}

void blk_workers_cancel(BlkWorkers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (workers->todo.first != NULL) {
        BlkIo *io = list_pop(&workers->todo);

        io->result = -ECANCELED;
        report(workers, io);
    }
    pthread_mutex_unlock(&workers->lock);
}
