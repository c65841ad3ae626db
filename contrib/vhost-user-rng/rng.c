/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the requests of the entropy device (VIRTIO 1.4, "Entropy Device") and
 * the order in which queues are served. Reads nothing itself: source.c.
 *
 * A request that cannot be served, for want of bytes or of quota, is not
 * taken off its ring; the queue waits in line until the source is ready or
 * the period over. So no element is ever held, a queue can stop at any time,
 * and source and quota are shared by all connections without a lock, because
 * all of it is on the control thread. One request gets at most
 * REQUEST_BYTES and one turn of a queue at most TURN_BYTES (the driver
 * must look at the length): nobody makes the others wait for a gigabyte.
 */
#include "contrib/vhost-user-rng/rng.h"

#include "contrib/vhost-user-rng/quota.h"
#include "contrib/vhost-user-rng/source.h"
#include "vhu/clock.h"

#include <string.h>

#define CHUNK_BYTES   4096u
#define REQUEST_BYTES (64u * 1024u)
#define TURN_BYTES    (256u * 1024u)
#define TAKING_BYTES  64u /* what taking an element off a ring counts as */

typedef struct Rng {
    Source *source;
    Quota quota;
    VhuTimer *timer; /* the end of the period, while queues wait for it */
    GQueue waiting;  /* RngQueue, in the order they came */
} Rng;

typedef struct RngQueue {
    Rng *rng;
    VhuQueue *queue;
    GList link; /* in rng->waiting while is_waiting */
    bool is_waiting;
} RngQueue;

static void stop_waiting(RngQueue *waiter)
{
    if (waiter->is_waiting) {
        g_queue_unlink(&waiter->rng->waiting, &waiter->link);
        waiter->is_waiting = false;
    }
}

static void start_waiting(RngQueue *waiter)
{
    if (!waiter->is_waiting) {
        g_queue_push_tail_link(&waiter->rng->waiting, &waiter->link);
        waiter->is_waiting = true;
    }
}

static void wake_all(void *opaque)
{
    Rng *rng = opaque;

    while (!g_queue_is_empty(&rng->waiting)) {
        RngQueue *waiter = g_queue_peek_head(&rng->waiting);

        stop_waiting(waiter);
        vhu_queue_wake(waiter->queue);
    }
}

/* Fill an element with at most @limit bytes. Returns the bytes written. */
static uint32_t fill(Rng *rng, VhuElement *element, uint64_t limit)
{
    uint8_t chunk[CHUNK_BYTES];
    uint64_t wanted = MIN(MIN(element->in_bytes, REQUEST_BYTES), limit);
    uint32_t written = 0;

    while (wanted > 0) {
        const size_t got =
            source_read(rng->source, chunk, MIN(wanted, sizeof(chunk)));

        if (got == 0) {
            break;
        }
        vhu_element_write(element, written, chunk, got);
        written += (uint32_t)got;
        wanted -= got;
    }
    explicit_bzero(chunk, sizeof(chunk));
    return written;
}

static VhuProcess rng_queue_process(VhuQueue *queue, void *state)
{
    Rng *rng = state;
    RngQueue *waiter = vhu_queue_private(queue);
    uint32_t turn_bytes = 0;
    VhuElement *element;

    stop_waiting(waiter);
    while (turn_bytes < TURN_BYTES) {
        const int64_t now_ms = vhu_now_ms();
        const uint64_t left = quota_left(&rng->quota, now_ms);
        uint32_t written;

        if (left == 0) {
            vhu_timer_set(rng->timer, quota_end_ms(&rng->quota));
            start_waiting(waiter);
            return VHU_PROCESS_BLOCKED;
        }
        element = vhu_queue_pop(queue);
        if (!element) {
            return VHU_PROCESS_DONE;
        }
        written = fill(rng, element, left);
        if (written == 0 && element->in_bytes > 0) {
            vhu_queue_unpop(queue, element);
            start_waiting(waiter);
            return VHU_PROCESS_BLOCKED;
        }
        quota_take(&rng->quota, written, now_ms);
        turn_bytes += TAKING_BYTES + written;
        vhu_queue_push(queue, element, written);
    }
    vhu_queue_wake(queue);
    return VHU_PROCESS_BLOCKED;
}

static int rng_connect(VhuConnection *connection, void *device, void **state)
{
    (void)connection;
    *state = device;
    return 0;
}

static int rng_queue_start(VhuQueue *queue, void *state)
{
    RngQueue *waiter = g_new0(RngQueue, 1);

    waiter->rng = state;
    waiter->queue = queue;
    waiter->link.data = waiter;
    vhu_queue_set_private(queue, waiter);
    return 0;
}

static void rng_queue_stop(VhuQueue *queue, void *state)
{
    (void)state;
    stop_waiting(vhu_queue_private(queue));
}

static void rng_queue_stopped(VhuQueue *queue, void *state)
{
    RngQueue *waiter = vhu_queue_private(queue);

    (void)state;
    stop_waiting(waiter);
    g_free(waiter);
}

static const VhuDeviceOps rng_ops = {
    .connect = rng_connect,
    .queue_start = rng_queue_start,
    .queue_process = rng_queue_process,
    .queue_stop = rng_queue_stop,
    .queue_stopped = rng_queue_stopped,
};

void *rng_open(const void *values, DaemonSetup *setup, GError **error)
{
    const RngOptions *options = values;
    Rng *rng = g_new0(Rng, 1);

    rng->quota = (Quota){
        .max_bytes = options->max_bytes,
        .period_ms = (int64_t)options->period_ms,
    };
    g_queue_init(&rng->waiting);
    rng->source =
        source_new(options->source, setup->control, wake_all, rng, error);
    if (!rng->source) {
        rng_close(rng);
        return NULL;
    }
    rng->timer = vhu_loop_timer(setup->control, wake_all, rng);
    if (!rng->timer) {
        g_set_error_literal(error, OPTION_ERROR, 0, "out of memory");
        rng_close(rng);
        return NULL;
    }
    setup->info.ops = &rng_ops;
    setup->info.num_queues = 1;
    return rng;
}

void rng_close(void *device)
{
    Rng *rng = device;

    vhu_timer_free(rng->timer);
    source_free(rng->source);
    g_free(rng);
}
