/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the requests of a rig: buffers in guest memory, made available, kicked
 * and taken back. A used buffer is looked for only after a notification, so
 * that one that is lost is noticed.
 */
#include "tests/rig-internal.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FILL 0xa5

RigRequest *rig_request(Rig *rig, unsigned queue)
{
    RigRequest *request = g_new0(RigRequest, 1);

    g_assert_cmpuint(queue, <, rig->config.num_queues);
    request->rig = rig;
    request->queue = queue;
    g_hash_table_add(rig->requests, request);
    return request;
}

void rig_request_free(RigRequest *request)
{
    if (!request) {
        return;
    }
    if (request->submitted && !request->used) {
        rig_fail("a request in flight is freed");
    }
    g_queue_remove(&request->rig->used, request);
    for (unsigned i = 0; i < request->num_out; i++) {
        rig_release(request->rig, request->out_data[i]);
    }
    for (unsigned i = 0; i < request->num_in; i++) {
        rig_release(request->rig, request->in_data[i]);
    }
    g_hash_table_remove(request->rig->requests, request);
}

void rig_out_at(RigRequest *request, VhuGuestAddr addr, uint32_t bytes)
{
    g_assert_cmpuint(request->num_out, <, RIG_MAX_PIECES);
    request->out[request->num_out++] = (VhuPiece){.addr = addr, .bytes = bytes};
}

void rig_in_at(RigRequest *request, VhuGuestAddr addr, uint32_t bytes)
{
    g_assert_cmpuint(request->num_in, <, RIG_MAX_PIECES);
    request->in[request->num_in++] = (VhuPiece){.addr = addr, .bytes = bytes};
}

void *rig_out(RigRequest *request, const void *data, size_t bytes)
{
    void *copy = rig_alloc(request->rig, bytes);

    if (data) {
        memcpy(copy, data, bytes);
    }
    request->out_data[request->num_out] = copy;
    rig_out_at(request, rig_addr(request->rig, copy), (uint32_t)bytes);
    return copy;
}

void *rig_in(RigRequest *request, size_t bytes)
{
    void *room = rig_alloc(request->rig, bytes);

    memset(room, FILL, bytes);
    request->in_data[request->num_in] = room;
    rig_in_at(request, rig_addr(request->rig, room), (uint32_t)bytes);
    return room;
}

/* ---- to the device ---- */

int rig_submit_quietly(RigRequest *request)
{
    Rig *rig = request->rig;
    const VhuDriverBuffer buffer = {
        .out = request->out,
        .num_out = request->num_out,
        .in = request->in,
        .num_in = request->num_in,
        .cookie = request,
    };
    int rc;

    g_assert_true(!request->submitted || request->used);
    g_assert_nonnull(rig->queues[request->queue].driver);
    rc = vhu_driver_add(rig->queues[request->queue].driver, &buffer);
    if (rc == 0) {
        request->submitted = true;
        request->used = false;
        rig->in_flight++;
    }
    return rc;
}

void rig_kick(Rig *rig, unsigned index, bool force)
{
    RigQueue *queue = &rig->queues[index];
    const uint64_t one = 1;

    if (!vhu_driver_should_kick(queue->driver) && !force) {
        return;
    }
    if (rig->config.inband) {
        VhuError err = {0};

        rig_check(vhu_frontend_kick_vring(rig->session, index, NULL, &err),
                  &err, "VRING_KICK");
    } else {
        g_assert_cmpint(write(queue->kick, &one, sizeof(one)), ==, sizeof(one));
    }
}

void rig_submit(RigRequest *request)
{
    int rc = rig_submit_quietly(request);

    if (rc < 0) {
        rig_fail("queue %u: a request of %u + %u pieces was not taken: %s",
                 request->queue, request->num_out, request->num_in,
                 g_strerror(-rc));
    }
    rig_kick(request->rig, request->queue, false);
}

/* ---- and back ---- */

void rig_harvest(RigQueue *queue)
{
    Rig *rig = queue->rig;
    VhuError err = {0};

    if (!queue->driver) {
        return;
    }
    do {
        VhuDriverUsed used;
        int rc = vhu_driver_get(queue->driver, &used, &err);

        while (rc == 1) {
            RigRequest *request = used.cookie;

            request->written = used.written;
            request->used = true;
            rig->in_flight--;
            g_queue_push_tail(&rig->used, request);
            rc = vhu_driver_get(queue->driver, &used, &err);
        }
        if (rc < 0) {
            rig_fail("queue %u: %s", queue->index, err.text);
        }
    } while (vhu_driver_set_notify(queue->driver, true));
}

static bool is_used(void *opaque)
{
    const RigRequest *request = opaque;

    return request->used || request->rig->closed;
}

uint32_t rig_wait(RigRequest *request)
{
    Rig *rig = request->rig;

    g_assert_true(request->submitted);
    if (!rig_until(rig, is_used, request, rig->config.timeout_ms)) {
        rig_fail("queue %u: a request was not used within %d ms",
                 request->queue, rig->config.timeout_ms);
    }
    if (!request->used) {
        rig_fail("queue %u: the connection ended: %s", request->queue,
                 rig->why.text);
    }
    g_queue_remove(&rig->used, request);
    return request->written;
}

uint32_t rig_do(RigRequest *request)
{
    rig_submit(request);
    return rig_wait(request);
}

typedef struct NextUsed {
    Rig *rig;
    int queue;
} NextUsed;

static GList *find_used(const NextUsed *next)
{
    for (GList *link = next->rig->used.head; link; link = link->next) {
        const RigRequest *request = link->data;

        if (next->queue < 0 || (int)request->queue == next->queue) {
            return link;
        }
    }
    return NULL;
}

static bool has_used(void *opaque)
{
    const NextUsed *next = opaque;

    return find_used(next) || next->rig->closed;
}

RigRequest *rig_next_used(Rig *rig, int queue, int timeout_ms)
{
    NextUsed next = {.rig = rig, .queue = queue};
    RigRequest *request;
    GList *link;

    rig_until(rig, has_used, &next, timeout_ms);
    link = find_used(&next);
    if (!link) {
        return NULL;
    }
    request = link->data;
    g_queue_delete_link(&rig->used, link);
    return request;
}

unsigned rig_in_flight(const Rig *rig)
{
    return rig->in_flight;
}

uint64_t rig_calls(const Rig *rig, unsigned queue)
{
    return rig->queues[queue].calls;
}
