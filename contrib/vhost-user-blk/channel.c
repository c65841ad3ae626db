/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns what all stores have in common: how many I/Os run, their bounce
 * buffers, and the way from one step to the next. Does not execute a step.
 */
#include "contrib/vhost-user-blk/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const BlkStoreOps *const blk_stores[] = {
#ifdef BLK_HAVE_IO_URING
    &blk_store_uring,
#endif
    &blk_store_threads,
    NULL,
};

BlkChannel *blk_channel_new(const BlkChannelConfig *config, int *error)
{
    BlkChannel *channel = g_new0(BlkChannel, 1);

    channel->config = *config;
    if (config->image->direct) {
        channel->bounces = g_new0(void *, BLK_CHANNEL_BOUNCES);
    }
    *error = config->ops->open(channel);
    if (*error < 0) {
        g_free(channel->bounces);
        g_free(channel);
        return NULL;
    }
    return channel;
}

void blk_channel_free(BlkChannel *channel)
{
    if (channel == NULL) {
        return;
    }
    channel->config.ops->close(channel);
    while (channel->num_free > 0) {
        free(channel->bounces[--channel->num_free]);
    }
    g_free(channel->bounces);
    g_free(channel);
}

/* Which I/O wants a bounce buffer is known too late to refuse it; so with
 * direct I/O there is room only while one can be had. */
static bool has_bounce(BlkChannel *channel)
{
    void *bounce;

    if (channel->num_free > 0) {
        return true;
    }
    if (channel->num_made == BLK_CHANNEL_BOUNCES ||
        posix_memalign(&bounce, BLK_MAX_BLOCK_BYTES, BLK_BOUNCE_BYTES) != 0) {
        return false;
    }
    /* Nothing of ours shall get to a disk, or look uninitialised. */
    memset(bounce, 0, BLK_BOUNCE_BYTES);
    channel->num_made++;
    channel->bounces[channel->num_free++] = bounce;
    return true;
}

bool blk_channel_has_room(BlkChannel *channel)
{
    return channel->running < BLK_CHANNEL_DEPTH &&
           (!channel->config.image->direct || has_bounce(channel));
}

static void finish(BlkChannel *channel, BlkIo *io, int result)
{
    if (io->bounce != NULL) {
        channel->bounces[channel->num_free++] = io->bounce;
        io->bounce = NULL;
    }
    channel->running--;
    io->done(io, result);
}

static void proceed(BlkChannel *channel, BlkIo *io, BlkNext next)
{
    if (next == BLK_NEXT_DONE) {
        finish(channel, io, io->result);
    } else if (channel->cancelling) {
        finish(channel, io, -ECANCELED);
    } else {
        channel->config.ops->issue(channel, io);
    }
}

void blk_channel_submit(BlkChannel *channel, BlkIo *io)
{
    BlkImage *image = channel->config.image;

    io->bounce = NULL;
    channel->running++;
    if (blk_io_needs_bounce(image, io)) {
        io->bounce = channel->bounces[--channel->num_free];
    }
    proceed(channel, io, blk_io_begin(image, io));
}

void blk_channel_step_done(BlkChannel *channel, BlkIo *io, int64_t result)
{
    if (result == -ECANCELED && channel->cancelling) {
        finish(channel, io, -ECANCELED);
    } else {
        proceed(channel, io, blk_io_advance(channel->config.image, io, result));
    }
}

void blk_channel_batch_done(BlkChannel *channel)
{
    channel->config.ops->start(channel);
    channel->config.batch(channel->config.opaque);
}

void blk_channel_start(BlkChannel *channel)
{
    channel->config.ops->start(channel);
}

void blk_channel_cancel(BlkChannel *channel)
{
    channel->cancelling = true;
    channel->config.ops->cancel(channel);
    channel->config.ops->start(channel);
}

unsigned blk_channel_running(const BlkChannel *channel)
{
    return channel->running;
}
