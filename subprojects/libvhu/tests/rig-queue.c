/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the queues of a rig: laying them out, starting and stopping them. What
 * travels in them is rig-request.c's.
 */
#include "tests/rig-internal.h"

void rig_make_driver(RigQueue *queue)
{
    Rig *rig = queue->rig;
    VhuDriverConfig config = {
        .size = rig->config.queue_size,
        .features = rig->features,
        .indirect_from = rig->config.indirect_from,
    };
    VhuError err = {0};

    if (!config.indirect_from &&
        (rig->features & RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC))) {
        config.indirect_from = 1;
    }
    config.bytes = vhu_driver_bytes(&config);
    queue->ring = rig_alloc(rig, MAX(config.bytes, 4096));
    config.local = queue->ring;
    config.addr = rig_addr(rig, queue->ring);
    queue->driver = vhu_driver_new(&config, &err);
    rig_check(queue->driver ? 0 : -err.code, &err, "driver queue");
    vhu_driver_set_notify(queue->driver, true);
}

/* ---- queues ---- */

void rig_setup_queue(Rig *rig, unsigned index)
{
    RigQueue *queue = &rig->queues[index];
    VhuFrontendVring vring = {
        .size = rig->config.queue_size,
        .base = queue->based ? queue->base : vhu_driver_base(queue->driver),
        .kick = rig->config.inband ? -1 : queue->kick,
        .call = rig->config.inband || rig->config.polling ? -1 : queue->call,
        .err = rig->config.inband ? -1 : queue->err,
    };
    VhuWait wait;
    int rc;

    vhu_driver_addrs(queue->driver, &vring.desc, &vring.driver, &vring.device);
    rc = vhu_frontend_start_vring(rig->session, index, &vring,
                                  vhu_wait_then(&wait), &wait.err);
    rig_must(rig, rc, &wait, "setting a vring up");
}

void rig_enable_queue(Rig *rig, unsigned index, bool enable)
{
    VhuWait wait;
    int rc = vhu_frontend_enable_vring(rig->session, index, enable,
                                       vhu_wait_then(&wait), &wait.err);

    rig_must(rig, rc, &wait, "SET_VRING_ENABLE");
}

void rig_start_queue(Rig *rig, unsigned index)
{
    rig_setup_queue(rig, index);
    rig_kick(rig, index, true);
    if (!rig->config.without_protocol_features) {
        rig_enable_queue(rig, index, true);
    }
    rig->queues[index].running = true;
}

void rig_start(Rig *rig)
{
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        rig_start_queue(rig, i);
    }
}

uint32_t rig_stop_queue(Rig *rig, unsigned index)
{
    RigQueue *queue = &rig->queues[index];
    VhuWait wait;
    int rc = vhu_frontend_stop_vring(rig->session, index, vhu_wait_then(&wait),
                                     &wait.err);

    rig_must(rig, rc, &wait, "GET_VRING_BASE");
    queue->base = wait.reply.payload.state.num;
    queue->based = true;
    queue->running = false;
    rig_harvest(queue);
    return queue->base;
}

void rig_stop(Rig *rig)
{
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        rig_stop_queue(rig, i);
    }
}

void rig_forget_queues(Rig *rig)
{
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        RigQueue *queue = &rig->queues[i];

        g_assert_cmpuint(vhu_driver_in_flight(queue->driver), ==, 0);
        vhu_driver_free(queue->driver);
        rig_release(rig, queue->ring);
        queue->based = queue->running = false;
        rig_make_driver(queue);
    }
}
