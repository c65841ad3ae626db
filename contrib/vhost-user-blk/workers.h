/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that carry out steps which block, for one channel. There are none
 * until one is needed; a disk that hangs holds up those of its channel only.
 */
#ifndef CONTRIB_VHOST_USER_BLK_WORKERS_H
#define CONTRIB_VHOST_USER_BLK_WORKERS_H

#include "contrib/vhost-user-blk/store.h"

/* Threads of a channel at most. */
#define BLK_WORKERS_MAX 8u

typedef struct BlkWorkers BlkWorkers;

/**
 * A pool without threads. Results go to blk_channel_step_done, on the loop.
 * @channel: borrowed
 * @error:   filled with -errno, why not
 * Returns it, or NULL. Queue's loop, as all that follow.
 */
BlkWorkers *blk_workers_new(BlkChannel *channel, int *error);

/** Free it, with its threads. @workers: may be NULL; nothing runs in it. */
void blk_workers_free(BlkWorkers *workers);

/** Carry io->step out. @io: lent until blk_channel_step_done. */
void blk_workers_submit(BlkWorkers *workers, BlkIo *io);

/** End what has not begun: its result is -ECANCELED, by the loop. */
void blk_workers_cancel(BlkWorkers *workers);

#endif
