/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A store carries steps out; a channel is one queue's way to it. Everything
 * of a channel happens on the loop of its queue.
 */
#ifndef CONTRIB_VHOST_USER_BLK_STORE_H
#define CONTRIB_VHOST_USER_BLK_STORE_H

#include "contrib/vhost-user-blk/io.h"
#include "vhu/loop.h"

/* I/Os a channel runs at a time; a queue with more waits. */
#define BLK_CHANNEL_DEPTH 128u
/* What may be copied from the page cache on the queue's thread; more is left
 * to other threads, so that others on the loop need not wait for it. */
#define BLK_MAX_INLINE_BYTES (512u * 1024u)
/* Bounce buffers of a channel. */
#define BLK_CHANNEL_BOUNCES 32u

typedef struct BlkChannel BlkChannel;

/* What a kind of store does; @channel: as open() made it. */
typedef struct BlkStoreOps {
    const char *name; /* for --aio and the log */

    /* Whether this process may use it: 0 or -errno. Control thread. */
    int (*probe)(void);

    /* Make channel->store. Returns 0 or -errno. */
    int (*open)(BlkChannel *channel);

    /* Carry io->step out and call blk_channel_step_done, at once or later; it
     * need not begin before start(). */
    void (*issue)(BlkChannel *channel, BlkIo *io);

    /* A batch was issued. It may call blk_channel_step_done. */
    void (*start)(BlkChannel *channel);

    /* End what can be cut short: its result is -ECANCELED. */
    void (*cancel)(BlkChannel *channel);

    /* Free channel->store; nothing is running. */
    void (*close)(BlkChannel *channel);
} BlkStoreOps;

extern const BlkStoreOps blk_store_threads;
#ifdef BLK_HAVE_IO_URING
extern const BlkStoreOps blk_store_uring;
#endif

/** The stores built in, the preferred one first, ended by NULL. */
extern const BlkStoreOps *const blk_stores[];

typedef struct BlkChannelConfig {
    BlkImage *image; /* borrowed */
    const BlkStoreOps *ops;
    VhuLoop *loop; /* of the queue */
    /* A batch of I/Os was done, by the loop and not within a call of the
     * owner. */
    void (*batch)(void *opaque);
    void *opaque;
} BlkChannelConfig;

struct BlkChannel {
    BlkChannelConfig config;
    void *store;       /* of config.ops */
    unsigned running;  /* I/Os submitted and not done */
    bool cancelling;   /* I/Os end at their next step */
    void **bounces;    /* free ones, a stack */
    unsigned num_free; /* of them */
    unsigned num_made; /* bounce buffers there are, free or in use */
};

/**
 * Make a channel.
 * @config: copied
 * @error:  filled with -errno, why not
 * Returns it, or NULL. Queue's loop, as all that follow.
 */
BlkChannel *blk_channel_new(const BlkChannelConfig *config, int *error);

/** Free it; no I/O runs. @channel: may be NULL. Not from done() or batch(). */
void blk_channel_free(BlkChannel *channel);

/** Whether one more I/O can be submitted. */
bool blk_channel_has_room(BlkChannel *channel);

/**
 * Submit an I/O; it need not begin before blk_channel_start.
 * @io: filled; lent until done(), which may be called from here
 * Only if blk_channel_has_room.
 */
void blk_channel_submit(BlkChannel *channel, BlkIo *io);

/** Begin what was submitted. May call done(). */
void blk_channel_start(BlkChannel *channel);

/** Cut short what can be: done() gets -ECANCELED. The others end as they
 * would. May call done(). */
void blk_channel_cancel(BlkChannel *channel);

/** I/Os submitted and not done. */
unsigned blk_channel_running(const BlkChannel *channel);

/** For stores: the step was carried out.
 * @result: as blk_io_advance takes it, or -ECANCELED after cancel() */
void blk_channel_step_done(BlkChannel *channel, BlkIo *io, int64_t result);

/** For stores: results that came by the loop have been handed over. */
void blk_channel_batch_done(BlkChannel *channel);

#endif
