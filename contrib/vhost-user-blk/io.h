/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One I/O on an image, as a sequence of steps: each step is a system call
 * that some executor (io_uring, a worker) carries out, and its result decides
 * on the next. So that short transfers, fallbacks, bounce buffers and
 * write-through are the same whoever executes.
 */
#ifndef CONTRIB_VHOST_USER_BLK_IO_H
#define CONTRIB_VHOST_USER_BLK_IO_H

#include "contrib/vhost-user-blk/image.h"

#include <stddef.h>
#include <sys/uio.h>

/* Pieces of one step; more are done in several. */
#define BLK_WINDOW 128u
/* Ways to discard or to zero, in the order they are tried, and the bit that
 * says in BlkImage.lacking that the host lacks one. */
#define BLK_MAX_WAYS       3
#define BLK_LACKS(op, way) (1u << ((op)*BLK_MAX_WAYS + (way)))
/* What one bounce buffer holds. */
#define BLK_BOUNCE_BYTES (256u * 1024u)

typedef enum BlkOp {
    BLK_OP_READ,
    BLK_OP_WRITE,
    BLK_OP_FLUSH,      /* what was completed before becomes stable */
    BLK_OP_DISCARD,    /* contents may be lost */
    BLK_OP_ZERO,       /* reads as zeroes, stays allocated */
    BLK_OP_ZERO_UNMAP, /* reads as zeroes, space may be given back */
    BLK_OP_FILL,       /* not the image, the pieces are zeroed */
} BlkOp;

typedef enum BlkCall {
    BLK_CALL_NONE, /* nothing to do */
    BLK_CALL_READ,
    BLK_CALL_WRITE,
    BLK_CALL_SYNC,
    BLK_CALL_FALLOCATE,
    BLK_CALL_IOCTL, /* with a range of two uint64_t */
    BLK_CALL_FILL,  /* zero the window: no system call, but long */
} BlkCall;

typedef struct BlkStep {
    BlkCall call;
    int fd;
    int flags; /* RWF_* of reads and writes, FALLOC_FL_* of fallocate */
    uint32_t num_iov;
    unsigned long request; /* of ioctl */
    uint64_t offset;       /* bytes, with size; */
    uint64_t size;         /* the sum of the window for reads and writes */
} BlkStep;

typedef struct BlkIo BlkIo;

struct BlkIo {
    /* What to do, by the owner; unchanged while it runs. */
    BlkOp op;
    bool stable;             /* write-through: stable before it is done */
    uint64_t offset;         /* bytes; a multiple of 512, like the size, and */
    uint64_t size;           /* offset + size does not overflow */
    const struct iovec *iov; /* pieces of the owner, */
    uint32_t num_iov;        /* of them the data begins */
    uint64_t iov_skip;       /* so many bytes in; it covers size */
    /* Called once by the channel: 0, or -errno; -ECANCELED: cut short. */
    void (*done)(BlkIo *io, int result);

    /* Ours. */
    const BlkImage *image;
    uint64_t progress; /* bytes done, from the start */
    unsigned way;      /* how it is discarded or zeroed: row of the table */
    bool synced;       /* the last step was the final sync */
    void *bounce;      /* BLK_BOUNCE_BYTES of the channel, or NULL */
    BlkIo *next;       /* in a list of a worker pool */
    BlkStep step;
    int result; /* of the step, by a worker */
    struct iovec window[BLK_WINDOW];
};

/* What became of an I/O. */
typedef enum BlkNext {
    BLK_NEXT_STEP, /* io->step is to be carried out */
    BLK_NEXT_DONE, /* io->result says how it ended */
} BlkNext;

/** Whether an I/O on this image needs io->bounce: direct, with pieces that
 * the host could not transfer as they are. Any thread. */
bool blk_io_needs_bounce(const BlkImage *image, const BlkIo *io);

/**
 * Begin: the first step.
 * @image: borrowed until it is done; its flags are updated
 * @io:    filled by its owner, io->bounce by the channel
 * Any one thread.
 */
BlkNext blk_io_begin(BlkImage *image, BlkIo *io);

/**
 * The step was carried out.
 * @result: what the system call returned, -errno for a failure. An I/O that
 *          was interrupted (-EINTR, -EAGAIN) repeats its step.
 */
BlkNext blk_io_advance(BlkImage *image, BlkIo *io, int64_t result);

/** Carry a step out here and now. Blocks. Returns as blk_io_advance takes it.
 * Any thread. */
int64_t blk_io_run_step(BlkIo *io);

#endif
