/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the store that uses io_uring: one ring per channel, watched on the
 * loop of its queue. What io_uring cannot do goes to worker threads.
 */
#include "contrib/vhost-user-blk/workers.h"

#include "vhu/clock.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

/* Room for every I/O and for a cancellation. */
#define RING_ENTRIES (2 * BLK_CHANNEL_DEPTH)
/* When the kernel had no memory for a submission. */
#define RETRY_MS 1

typedef struct UringStore {
    BlkChannel *channel;
    struct io_uring ring;
    VhuWatch *watch;
    VhuTimer *retry;
    BlkWorkers *workers; /* made when first needed */
    bool has_fallocate;
} UringStore;

static bool has_op(struct io_uring *ring, int op)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool has = probe != NULL && io_uring_opcode_supported(probe, op);

    free(probe);
    return has;
}

static int init_ring(struct io_uring *ring)
{
    /* One thread submits and waits in epoll: no interrupting it for
     * completions is needed. Older kernels do not know the flags. */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int result = -EINVAL;

    for (unsigned i = 0; i < G_N_ELEMENTS(flags) && result == -EINVAL; i++) {
        result = io_uring_queue_init(RING_ENTRIES, ring, flags[i]);
    }
    return result;
}

static int uring_probe(void)
{
    struct io_uring ring;
    int result = init_ring(&ring);

    if (result < 0) {
        return result;
    }
    if (!has_op(&ring, IORING_OP_READV) || !has_op(&ring, IORING_OP_WRITEV) ||
        !has_op(&ring, IORING_OP_FSYNC)) {
        result = -ENOSYS;
    }
    io_uring_queue_exit(&ring);
    return result;
}

/* The pool for what the ring cannot do, or NULL. */
static BlkWorkers *get_workers(UringStore *store)
{
    int error;

    if (store->workers == NULL) {
        store->workers = blk_workers_new(store->channel, &error);
    }
    return store->workers;
}

static void issue_to_worker(UringStore *store, BlkIo *io)
{
    BlkWorkers *workers = get_workers(store);

    if (workers == NULL) {
        blk_channel_step_done(store->channel, io, -ENOMEM);
    } else {
        blk_workers_submit(workers, io);
    }
}

static void handle_result(UringStore *store, BlkIo *io, int result)
{
    bool again = result == -EINTR || result == -EAGAIN ||
                 (result == -ECANCELED && !store->channel->cancelling);

    /* Now and then the kernel finds that it would have to wait and may not:
     * a worker may. */
    if (again) {
        issue_to_worker(store, io);
    } else {
        blk_channel_step_done(store->channel, io, result);
    }
}

/* Returns how many results there were. */
static unsigned reap(UringStore *store)
{
    struct io_uring_cqe *cqe;
    unsigned num = 0;

    while (io_uring_peek_cqe(&store->ring, &cqe) == 0) {
        BlkIo *io = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&store->ring, cqe);
        num++;
        /* A cancellation has no I/O of its own. */
        if (io != NULL) {
            handle_result(store, io, result);
        }
    }
    return num;
}

/* What the page cache can serve is done when submit returns, and its results
 * may bring more to submit. */
static void uring_start(BlkChannel *channel)
{
    UringStore *store = channel->store;
    bool failed = false;
    bool more;

    do {
        if (io_uring_sq_ready(&store->ring) > 0) {
            int result = io_uring_submit(&store->ring);

            failed = result < 0 && result != -EINTR;
        }
        more = io_uring_sq_ready(&store->ring) > 0 && !failed;
    } while (reap(store) > 0 || more);
    if (failed) {
        vhu_timer_set(store->retry, vhu_now_ms() + RETRY_MS);
    }
}

static void on_ready(void *opaque, uint32_t events)
{
    UringStore *store = opaque;

    (void)events;
    reap(store);
    blk_channel_batch_done(store->channel);
}

static void on_retry(void *opaque)
{
    UringStore *store = opaque;

    blk_channel_batch_done(store->channel);
}

static void free_store(UringStore *store)
{
    blk_workers_free(store->workers);
    vhu_timer_free(store->retry);
    vhu_watch_free(store->watch);
    io_uring_queue_exit(&store->ring);
    g_free(store);
}

static int uring_open(BlkChannel *channel)
{
    UringStore *store = g_new0(UringStore, 1);
    VhuLoop *loop = channel->config.loop;
    int result = init_ring(&store->ring);

    if (result < 0) {
        g_free(store);
        return result;
    }
    store->channel = channel;
    store->has_fallocate = has_op(&store->ring, IORING_OP_FALLOCATE);
    store->retry = vhu_loop_timer(loop, on_retry, store);
    store->watch =
        vhu_loop_watch(loop, store->ring.ring_fd, EPOLLIN, on_ready, store);
    if (store->retry == NULL || store->watch == NULL) {
        free_store(store);
        return -ENOMEM;
    }
    channel->store = store;
    return 0;
}

static bool needs_worker(const UringStore *store, const BlkIo *io)
{
    return io->step.call == BLK_CALL_IOCTL || io->step.call == BLK_CALL_FILL ||
           (io->step.call == BLK_CALL_FALLOCATE && !store->has_fallocate);
}

static void prepare(struct io_uring_sqe *sqe, BlkIo *io)
{
    const BlkStep *step = &io->step;

    switch (step->call) {
    case BLK_CALL_READ:
        io_uring_prep_readv2(sqe, step->fd, io->window, step->num_iov,
                             step->offset, step->flags);
        break;
    case BLK_CALL_WRITE:
        io_uring_prep_writev2(sqe, step->fd, io->window, step->num_iov,
                              step->offset, step->flags);
        break;
    case BLK_CALL_SYNC:
        io_uring_prep_fsync(sqe, step->fd, IORING_FSYNC_DATASYNC);
        break;
    case BLK_CALL_FALLOCATE:
        io_uring_prep_fallocate(sqe, step->fd, step->flags, step->offset,
                                step->size);
        break;
    case BLK_CALL_IOCTL:
    case BLK_CALL_FILL:
    case BLK_CALL_NONE:
        io_uring_prep_nop(sqe);
        break;
    }
    io_uring_sqe_set_data(sqe, io);
    if (step->size > BLK_MAX_INLINE_BYTES) {
        sqe->flags |= IOSQE_ASYNC;
    }
}

static void uring_issue(BlkChannel *channel, BlkIo *io)
{
    UringStore *store = channel->store;
    struct io_uring_sqe *sqe =
        needs_worker(store, io) ? NULL : io_uring_get_sqe(&store->ring);

    if (sqe == NULL) {
        issue_to_worker(store, io);
    } else {
        prepare(sqe, io);
    }
}

static void uring_cancel(BlkChannel *channel)
{
    UringStore *store = channel->store;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&store->ring);

    if (sqe != NULL) {
        io_uring_prep_cancel64(
            sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        io_uring_sqe_set_data(sqe, NULL);
    }
    if (store->workers != NULL) {
        blk_workers_cancel(store->workers);
    }
}

static void uring_close(BlkChannel *channel)
{
    free_store(channel->store);
}

const BlkStoreOps blk_store_uring = {
    .name = "io_uring",
    .probe = uring_probe,
    .open = uring_open,
    .issue = uring_issue,
    .start = uring_start,
    .cancel = uring_cancel,
    .close = uring_close,
};
