/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the toy share. */
#ifndef VHU_TESTS_TOY_INTERNAL_H
#define VHU_TESTS_TOY_INTERNAL_H

#include "tests/toy.h"

#include <pthread.h>

#define TOY_MAX_THREADS 4

struct Toy {
    ToyConfig config;
    VhuLoop *loop;
    VhuBackend *backend;
    VhuThread *threads[TOY_MAX_THREADS];
    VhuTimer *soon;
    GPtrArray *connections; /* ToyConnection, oldest first; control thread */
    int hold;               /* atomic */
    unsigned held;          /* atomic */
    unsigned served;        /* atomic */
    unsigned resubmitted;   /* atomic */
    unsigned ended;
    VhuError last_end;
    uint8_t space[TOY_CONFIG_BYTES];
    uint8_t state;
    int object;
    pthread_mutex_t lock; /* of the strings */
    GString *events;
    GString *log;
    char *events_taken;
};

typedef struct ToyConnection ToyConnection;

typedef struct ToyQueue {
    GQueue held; /* VhuElement, oldest first; queue's loop */
} ToyQueue;

/* Counted, because a release may be under way to a queue that is gone. */
struct ToyConnection {
    Toy *toy;
    VhuConnection *connection;
    ToyQueue *queues;
};

/** Write an event down. Any thread. */
void toy_note(Toy *toy, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** Free what is behind the last reference. */
void toy_free_connection(gpointer data);

/* toy-queue.c: ops of VhuDeviceOps */
VhuProcess toy_process(VhuQueue *queue, void *state);
VhuProcess toy_drop(VhuQueue *queue, void *state);
int toy_queue_start(VhuQueue *queue, void *state);
void toy_queue_stop(VhuQueue *queue, void *state);
void toy_queue_stopped(VhuQueue *queue, void *state);

#endif
