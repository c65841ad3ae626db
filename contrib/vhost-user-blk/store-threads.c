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

static void threads_issue(BlkChannel *channel, BlkIo *io)
{
    blk_workers_submit(channel->store, io);
}

/* Steps begin when they are issued. */
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
