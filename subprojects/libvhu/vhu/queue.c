/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns a queue while it runs, on its loop: starting the ring, letting the
 * device process it, and what the device calls to pop and push. Commands of
 * the control thread are in queue-command.c.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Rounds of processing before other watches of the loop get their turn. */
#define ROUNDS 8

unsigned vhu_queue_index(const VhuQueue *queue)
{
    return queue->index;
}

VhuConnection *vhu_queue_connection(const VhuQueue *queue)
{
    return queue->connection;
}

VhuLoop *vhu_queue_loop(const VhuQueue *queue)
{
    return queue->loop;
}

uint64_t vhu_queue_features(const VhuQueue *queue)
{
    return queue->run.setup.features;
}

uint32_t vhu_queue_size(const VhuQueue *queue)
{
    return queue->run.setup.size;
}

bool vhu_queue_inherited(const VhuQueue *queue)
{
    return queue->run.setup.inherited;
}

void vhu_queue_set_private(VhuQueue *queue, void *data)
{
    queue->run.data = data;
}

void *vhu_queue_private(const VhuQueue *queue)
{
    return queue->run.data;
}

bool vhu_queue_stopping(const VhuQueue *queue)
{
    return queue->run.stopping;
}

bool vhu_queue_may_suspend(const VhuQueue *queue)
{
    return queue->run.stopping && queue->run.may_suspend;
}

/* ---- telling the other side ---- */

static bool inband(const VhuQueue *queue)
{
    return vhu_connection_has(queue->connection,
                              VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS);
}

static void send_state(VhuQueue *queue, uint32_t request)
{
    VhuMessage msg = {
        .request = request,
        .kind = VHU_PAYLOAD_VRING_STATE,
        .payload.state = {.index = queue->index},
    };

    if (!queue->connection->closing && inband(queue)) {
        vhu_requests_send(queue->connection, &msg, NULL, NULL);
    }
}

static void send_call(void *opaque)
{
    VhuQueue *queue = opaque;

    __atomic_store_n(&queue->call_posted, false, __ATOMIC_SEQ_CST);
    send_state(queue, VHOST_USER_BACKEND_VRING_CALL);
}

/* One call on its way tells of all that is used when it is sent. */
static void post_call(VhuQueue *queue)
{
    if (!__atomic_exchange_n(&queue->call_posted, true, __ATOMIC_SEQ_CST) &&
        vhu_loop_post(queue->connection->backend->control, send_call, queue) <
            0) {
        __atomic_store_n(&queue->call_posted, false, __ATOMIC_SEQ_CST);
    }
}

/* On the control thread: a ring broke. */
static void report_broken(void *opaque)
{
    VhuQueue *queue = opaque;

    queue->connection->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void send_err(void *opaque)
{
    send_state(opaque, VHOST_USER_BACKEND_VRING_ERR);
}

/*
 * A full counter is a notification already. The front end shares the open
 * file and may have made it blocking, so O_NONBLOCK is not relied upon.
 */
static void signal_fd(int fd)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    const uint64_t one = 1;

    if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT) ||
        write(fd, &one, sizeof(one)) < 0) {
        return;
    }
}

/* An fd is preferred to a message (vhost-user, "VHOST_USER_SET_VRING_ERR"):
 * QEMU negotiates in-band notifications and does not know the messages. */
static void notify_driver(VhuQueue *queue)
{
    if (queue->run.call_fd >= 0) {
        signal_fd(queue->run.call_fd);
    } else {
        post_call(queue);
    }
}

void vhu_queue_break(VhuQueue *queue, const VhuError *err)
{
    if (queue->run.broken) {
        return;
    }
    queue->run.broken = true;
    vhu_connection_log(queue->connection, VHU_LOG_ERROR, "queue %u broken: %s",
                       queue->index, err->text);
    vhu_loop_post(queue->connection->backend->control, report_broken, queue);
    if (queue->run.err_fd >= 0) {
        signal_fd(queue->run.err_fd);
    } else {
        vhu_loop_post(queue->connection->backend->control, send_err, queue);
    }
}

/* ---- starting ---- */

/*
 * Parts that are not mapped (yet) stall a ring; memory may still come. Until
 * then the old parts stay mapped, for what is given back meanwhile.
 */
static int find_parts(VhuQueue *queue, VhuParts *parts)
{
    VhuError err = {0};
    int ret = vhu_queue_resolve(queue, parts, &err);

    if (ret < 0 && ret != -EAGAIN && !queue->run.stalled) {
        queue->run.stalled = true;
        vhu_connection_log(queue->connection, VHU_LOG_WARN,
                           "queue %u stalled: %s", queue->index, err.text);
    }
    if (ret == 0) {
        queue->run.stalled = false;
    }
    return ret;
}

/* On the control thread. */
static void tell_started(void *opaque)
{
    VhuQueue *queue = opaque;

    vhu_connection_ring_started(queue->connection);
}

static VhuRing *make_ring(VhuQueue *queue, VhuError *err)
{
    const VhuQueueSetup *setup = &queue->run.setup;
    VhuRingConfig config = {
        .size = setup->size,
        .features = setup->features,
        .desc = queue->run.parts.local[0],
        .driver = queue->run.parts.local[1],
        .device = queue->run.parts.local[2],
        .base = setup->base,
        .request_bytes = queue->connection->backend->info.request_bytes,
    };

    if (setup->inflight) {
        config.inflight =
            vhu_inflight_queue(setup->inflight, (uint16_t)queue->index);
        config.inflight_size = vhu_inflight_queue_size(setup->inflight);
    }
    return vhu_ring_new(&config, err);
}

static void give_memory(VhuQueue *queue, VhuRing *ring)
{
    const VhuQueueSetup *setup = &queue->run.setup;

    vhu_ring_set_memory(ring, setup->memory, setup->iotlb);
    if (setup->space == VHU_ADDR_IOVA) {
        vhu_ring_set_desc_iova(ring, setup->addr.desc);
    }
}

static void log_started(const VhuQueue *queue)
{
    const bool packed =
        queue->run.setup.features & VHU_FEATURE(VIRTIO_F_RING_PACKED);
    const uint32_t again = vhu_ring_to_resubmit(queue->run.ring);

    vhu_connection_log(queue->connection, VHU_LOG_INFO,
                       "queue %u started: %u entries, %s", queue->index,
                       queue->run.setup.size, packed ? "packed" : "split");
    if (again > 0) {
        vhu_connection_log(queue->connection, VHU_LOG_INFO,
                           "queue %u: %u requests were in flight and are done "
                           "again",
                           queue->index, again);
    }
}

static void start_ring(VhuQueue *queue)
{
    const VhuDeviceOps *ops = queue->connection->backend->info.ops;
    const VhuQueueLog *log = &queue->run.log;
    VhuError err = {0};
    VhuRing *ring;
    int ret = 0;

    if (find_parts(queue, &queue->run.parts) < 0) {
        return;
    }
    ring = make_ring(queue, &err);
    if (!ring) {
        vhu_parts_release(&queue->run.parts);
        vhu_queue_break(queue, &err);
        return;
    }
    give_memory(queue, ring);
    vhu_ring_set_log(ring, log->log, log->used, log->addr);
    queue->run.ring = ring;
    if (ops->queue_start) {
        ret = ops->queue_start(queue, queue->connection->state);
    }
    if (ret < 0) {
        vhu_ring_free(ring);
        vhu_parts_release(&queue->run.parts);
        queue->run.ring = NULL;
        vhu_error_set(&err, -ret, 0, 0, "device cannot start it: %s",
                      strerror(-ret));
        vhu_queue_break(queue, &err);
        return;
    }
    log_started(queue);
    vhu_loop_post(queue->connection->backend->control, tell_started, queue);
}

void vhu_queue_refresh(VhuQueue *queue)
{
    VhuParts parts;

    queue->run.iotlb_wait = false;
    if (!queue->run.ring) {
        return;
    }
    give_memory(queue, queue->run.ring);
    if (find_parts(queue, &parts) == 0) {
        vhu_ring_set_parts(queue->run.ring, parts.local[0], parts.local[1],
                           parts.local[2]);
        vhu_parts_release(&queue->run.parts);
        queue->run.parts = parts;
    }
}

/* ---- running ---- */

static bool can_process(const VhuQueue *queue)
{
    return queue->run.ring && !queue->run.broken && !queue->run.stopping &&
           !queue->run.stalled && !queue->run.iotlb_wait;
}

typedef VhuProcess (*ProcessFn)(VhuQueue *queue, void *state);

/* NULL: the queue is left alone. */
static ProcessFn process_fn(const VhuQueue *queue)
{
    const VhuDeviceOps *ops = queue->connection->backend->info.ops;

    return queue->run.enabled ? ops->queue_process
                              : ops->queue_process_disabled;
}

/*
 * Whether requests a back end before us had in flight must still be popped
 * before the ring may stop: unless it may suspend, a stop completes all that
 * is in flight (vhost-user, "VHOST_USER_GET_VRING_BASE").
 */
bool vhu_queue_must_resubmit(const VhuQueue *queue)
{
    return can_process(queue) && process_fn(queue) && !queue->run.abandon &&
           !queue->run.may_suspend && vhu_ring_to_resubmit(queue->run.ring) > 0;
}

static void run_rounds(VhuQueue *queue)
{
    if (!queue->run.armed || !queue->run.kicked || queue->run.broken ||
        queue->run.stopping) {
        return;
    }
    if (!queue->run.ring) {
        start_ring(queue);
    }
    for (int round = 0; round < ROUNDS; round++) {
        const ProcessFn process = process_fn(queue);
        VhuProcess done;

        if (!can_process(queue) || !process) {
            return;
        }
        vhu_ring_set_notify(queue->run.ring, false);
        done = process(queue, queue->connection->state);
        vhu_queue_flush(queue);
        if (done == VHU_PROCESS_BLOCKED || !can_process(queue) ||
            !vhu_ring_set_notify(queue->run.ring, true)) {
            return;
        }
    }
    vhu_queue_wake(queue);
}

void vhu_queue_run(VhuQueue *queue)
{
    run_rounds(queue);
    if (queue->run.draining && !vhu_queue_must_resubmit(queue)) {
        vhu_queue_begin_stop(queue);
    }
}

static void run_woken(void *opaque)
{
    VhuQueue *queue = opaque;

    queue->run.wake_posted = false;
    vhu_queue_run(queue);
}

void vhu_queue_wake(VhuQueue *queue)
{
    if (queue->run.ring && !queue->run.stopping && !queue->run.wake_posted &&
        vhu_loop_post(queue->loop, run_woken, queue) == 0) {
        queue->run.wake_posted = true;
    }
}

VhuElement *vhu_queue_pop(VhuQueue *queue)
{
    VhuElement *element;
    VhuError err = {0};
    int ret;

    if (!can_process(queue) ||
        (queue->run.draining && vhu_ring_to_resubmit(queue->run.ring) == 0)) {
        return NULL;
    }
    ret = vhu_ring_pop(queue->run.ring, &element, &err);
    if (ret == 1) {
        queue->run.held++;
        return element;
    }
    if (ret == -EAGAIN) {
        vhu_queue_miss(queue, vhu_ring_miss(queue->run.ring));
    } else if (ret < 0) {
        vhu_queue_break(queue, &err);
    }
    return NULL;
}

void vhu_queue_push(VhuQueue *queue, VhuElement *element, uint32_t written)
{
    queue->run.held--;
    if (queue->run.abandon) {
        vhu_ring_suspend(queue->run.ring, element);
    } else {
        vhu_ring_push(queue->run.ring, element, written);
        queue->run.pushed = true;
    }
    vhu_queue_finish_if_idle(queue);
}

void vhu_queue_unpop(VhuQueue *queue, VhuElement *element)
{
    queue->run.held--;
    vhu_ring_unpop(queue->run.ring, element);
}

void vhu_queue_suspend(VhuQueue *queue, VhuElement *element)
{
    queue->run.held--;
    vhu_ring_suspend(queue->run.ring, element);
    vhu_queue_finish_if_idle(queue);
}

void vhu_queue_flush(VhuQueue *queue)
{
    if (!queue->run.ring || queue->run.abandon) {
        return;
    }
    if (vhu_ring_flush(queue->run.ring)) {
        notify_driver(queue);
    }
    if (queue->run.pushed && queue->run.log.log &&
        queue->run.log.event_fd >= 0) {
        signal_fd(queue->run.log.event_fd);
    }
    queue->run.pushed = false;
}
