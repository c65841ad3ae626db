/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user-blk on an image of its own, with a driver connected to it.
 * What is expected not to fail ends the test.
 */
#ifndef TESTS_LOOPBACK_BLK_RIG_H
#define TESTS_LOOPBACK_BLK_RIG_H

#include "tests/rig.h"

#include <linux/virtio_blk.h>

#define BLK_SECTOR      512u
#define BLK_IMAGE_BYTES (4u * 1024 * 1024)

/* Of any test here: how long what must happen may take. */
#define BLK_DEADLINE_MS 20000

typedef struct BlkRigConfig {
    const char *const *options; /* beside --blk-file, ended by NULL; or NULL */
    const char *const *wrapper; /* words before the program; or NULL */
    const char *folder;         /* of the image; NULL: the working folder */
    uint64_t image_bytes;       /* 0: BLK_IMAGE_BYTES */
    uint32_t loop_bytes;        /* logical block of a loop device between image
                                   and daemon; 0: none */
    RigConfig rig;
} BlkRigConfig;

typedef struct BlkRig {
    char *path;  /* of the image, */
    int fd;      /* our own */
    char *loop;  /* path of the loop device, */
    int loop_fd; /* our own; -1: none */
    uint64_t bytes;
    RigDaemon *daemon;
    Rig *rig; /* connected, queues started */
} BlkRig;

/** Make an image of zeroes, start a daemon on it, connect and start. */
BlkRig *blk_rig_new(const BlkRigConfig *config);

/** The same without a driver: rig is NULL. */
BlkRig *blk_rig_new_daemon(const BlkRigConfig *config);

/** Stop, end the daemon (which must end well), remove the image. */
void blk_rig_free(BlkRig *blk);

/** Begin a test program, as g_test_init; the first argument that is left is
 * the program under test. */
void blk_test_init(int *argc, char ***argv);

/** The program under test. */
const char *blk_program(void);

/** Whether the host's file system can do direct I/O; else says so by
 * g_test_skip. */
bool blk_can_direct(void);

/** Whether loop devices can be made; else says so by g_test_skip. */
bool blk_can_loop(void);

/* ---- requests ---- */

/* Cut a request's bytes at any place, or as drivers usually do. */
typedef enum BlkFraming {
    BLK_FRAMING_USUAL, /* header, data, status */
    BLK_FRAMING_RANDOM,
} BlkFraming;

/* One request: bytes the device reads, the header first, and bytes it
 * writes, the status last. */
typedef struct BlkJob {
    RigRequest *request;
    uint8_t *out;
    size_t out_bytes;
    uint8_t *in;
    size_t in_bytes;
    uint64_t tag; /* the test's own */
    /*< private >*/
    void *out_block;
    void *in_block;
} BlkJob;

typedef struct BlkJobConfig {
    unsigned queue;
    uint32_t type;
    uint64_t sector;
    const void *data; /* for the device to read; NULL: zeroes */
    size_t out_bytes; /* of it */
    size_t in_bytes;  /* for the device to fill */
    BlkFraming framing;
} BlkJobConfig;

/** Lay a request out in guest memory; not submitted. request->user is it. */
BlkJob *blk_job_new(Rig *rig, const BlkJobConfig *config);

/** Free it; not in flight. @job: may be NULL. */
void blk_job_free(BlkJob *job);

/** Free what is left of one that was in flight when its rig was freed. @job:
 * may be NULL. */
void blk_job_forget(BlkJob *job);

/** The status byte. */
uint8_t blk_job_status(const BlkJob *job);

/** Submit, wait, check that all of the in bytes count as written. Returns the
 * status. */
uint8_t blk_job_do(BlkJob *job);

/** Build, do and free in one. Returns the status. */
uint8_t blk_do(Rig *rig, const BlkJobConfig *config);

/** Read or write sectors. Returns the status. */
uint8_t blk_read(Rig *rig, uint64_t sector, void *data, size_t bytes);
uint8_t blk_write(Rig *rig, uint64_t sector, const void *data, size_t bytes);

/** FLUSH. Returns the status. */
uint8_t blk_flush(Rig *rig);

/** A DISCARD or WRITE_ZEROES of @num segments. Returns the status. */
uint8_t blk_segments(Rig *rig, uint32_t type,
                     const struct virtio_blk_discard_write_zeroes *segments,
                     unsigned num);

/** Fill with bytes that say where and when they were written. */
void blk_fill(void *data, size_t bytes, uint64_t sector, uint64_t version);

/** What is on the disk, without the daemon. */
void blk_image_read(const BlkRig *blk, uint64_t offset, void *data,
                    size_t bytes);

#endif
