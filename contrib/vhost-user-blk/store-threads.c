/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the store that works everywhere: blocking system calls in worker
 * threads. Knows nothing of queues.
 */
#include "contrib/vhost-user-blk/workers.h"

static int threads_probe(void)
{
    return 0;
}

static int threads_open(BlkChannel *channel)
{
    int error = 0;

    channel->store = blk_workers_new(channel, &error);
    return error;
}

/* What the page cache has need not wake a thread. Returns as preadv2. */
static ssize_t read_cached(const BlkIo *io)
{
    const BlkStep *step = &io->step;

    if (step->call != BLK_CALL_READ || step->size > BLK_MAX_INLINE_BYTES) {
        return -1;
    }
    return preadv2(step->fd, io->window, (int)step->num_iov,
                   (off_t)step->offset, step->flags | RWF_NOWAIT);
}

static void threads_issue(BlkChannel *channel, BlkIo *io)
{
    ssize_t result = read_cached(io);

    if (result > 0) {
        blk_channel_step_done(channel, io, result);
    } else {
        blk_workers_submit(channel->store, io);
    }
}

/* Steps are begun when they are issued. */
static void threads_start(BlkChannel *channel)
{
    (void)channel;
}

static void threads_cancel(BlkChannel *channel)
{
    blk_workers_cancel(channel->store);
}

static void threads_close(BlkChannel *channel)
{
    blk_workers_free(channel->store);
}

const BlkStoreOps blk_store_threads = {
    .name = "threads",
    .probe = threads_probe,
    .open = threads_open,
    .issue = threads_issue,
    .start = threads_start,
    .cancel = threads_cancel,
    .close = threads_close,
};
