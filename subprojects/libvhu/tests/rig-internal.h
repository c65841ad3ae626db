/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the rig share. */
#ifndef VHU_TESTS_RIG_INTERNAL_H
#define VHU_TESTS_RIG_INTERNAL_H

#include "tests/rig.h"

#define RIG_SLICE 16u /* guest memory is given out in multiples of it */

typedef struct RigMemory {
    int fd;
    uint8_t *local;
    uint64_t bytes;
    uint64_t top;     /* bytes never given out start here */
    uint8_t *orders;  /* log2 of what was given out, by slice */
    GQueue *free[64]; /* offsets given back, by log2 of their size */
    unsigned num_regions;
    VhuMemRegion *regions;
    int *fds; /* of the regions, all the same */
} RigMemory;

typedef struct RigQueue {
    Rig *rig;
    unsigned index;
    VhuDriverQueue *driver; /* made when features are known */
    void *ring;             /* its guest memory */
    uint32_t base;
    bool based; /* base is what GET_VRING_BASE said */
    bool running;
    int kick, call, err; /* eventfds */
    VhuWatch *watch;     /* of call */
    uint64_t calls;
} RigQueue;

struct Rig {
    RigConfig config;
    RigMemory memory;
    VhuLoop *loop;
    bool own_loop;
    VhuFrontend *session;
    VhuWatch *session_watch;
    bool ready;
    bool closed;
    VhuError why; /* it was closed */
    uint64_t features;
    RigQueue *queues;
    GHashTable *requests; /* all RigRequest there are */
    GQueue used;          /* those used, in the order they were seen */
    unsigned in_flight;   /* submitted and not seen used */
    unsigned config_changes;
    unsigned misses;
    bool serve_misses;
};

/** End the test with a message. */
void rig_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;

/** End the test unless @rc is 0; @what was tried. */
void rig_check(int rc, const VhuError *err, const char *what);

/** Wait for an operation that must not fail; @wait is cleared. */
void rig_must(Rig *rig, int started, VhuWait *wait, const char *what);

/* rig-session.c */
VhuFrontend *rig_make_session(Rig *rig);

/* rig-queue.c */

/** Lay a queue out, for the features acknowledged. */
void rig_make_driver(RigQueue *queue);

/* rig-memory.c */
void rig_memory_init(Rig *rig);
void rig_memory_clear(Rig *rig);

/* rig-request.c */

/** Take what the device has used of a queue. */
void rig_harvest(RigQueue *queue);

#endif
