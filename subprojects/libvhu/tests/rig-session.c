/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what a rig's session hears from the back end, and the operations of
 * the session that are no more than a call: configuration space, IOTLB.
 */
#include "tests/rig-internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/vhost_types.h>

static void on_ready(void *opaque, bool again)
{
    Rig *rig = opaque;

    (void)again;
    rig->ready = true;
}

static void on_closed(void *opaque, const VhuError *err)
{
    Rig *rig = opaque;

    rig->ready = false;
    rig->closed = true;
    rig->why = *err;
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        rig->queues[i].based = false;
        rig_harvest(&rig->queues[i]);
    }
}

/* An entry for the page of a miss: IOVA - RIG_IOVA_BASE is the offset. */
static int on_miss(void *opaque, VhuGuestAddr iova, uint8_t perm)
{
    Rig *rig = opaque;
    const RigMemory *memory = &rig->memory;
    const uint64_t page = rig->config.iotlb_bytes;
    const uint64_t region_bytes = memory->regions[0].size;
    const uint64_t start = iova / page * page;
    const uint64_t offset = start - RIG_IOVA_BASE;
    VhuIotlbMsg update = {
        .iova = start, .perm = VHOST_ACCESS_RW, .type = VHOST_IOTLB_UPDATE};
    uint64_t in_region;

    (void)perm;
    rig->misses++;
    if (!rig->serve_misses || offset >= memory->bytes) {
        return 0;
    }
    in_region = offset % region_bytes;
    update.size = MIN(page, region_bytes - in_region);
    update.user_addr =
        memory->regions[offset / region_bytes].user_addr + in_region;
    return vhu_frontend_iotlb(rig->session, &update, NULL, NULL);
}

static int on_config_changed(void *opaque)
{
    Rig *rig = opaque;

    rig->config_changes++;
    return 0;
}

static int on_vring_call(void *opaque, uint32_t index)
{
    Rig *rig = opaque;

    if (index >= rig->config.num_queues) {
        return -EINVAL;
    }
    rig->queues[index].calls++;
    rig_harvest(&rig->queues[index]);
    return 0;
}

static int on_object_add(void *opaque, const VhuUuid *uuid)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->shared_object_add(ops->opaque, uuid);
}

static int on_object_remove(void *opaque, const VhuUuid *uuid)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->shared_object_remove(ops->opaque, uuid);
}

static int on_object_lookup(void *opaque, const VhuUuid *uuid, int *fd)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->shared_object_lookup(ops->opaque, uuid, fd);
}

static int on_shmem_map(void *opaque, const VhuShmemMap *map, int fd)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->shmem_map(ops->opaque, map, fd);
}

static int on_shmem_unmap(void *opaque, const VhuShmemMap *map)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->shmem_unmap(ops->opaque, map);
}

static int on_vring_err(void *opaque, uint32_t index)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->vring_err(ops->opaque, index);
}

static int on_iotlb_fault(void *opaque, VhuGuestAddr iova, uint8_t perm)
{
    const VhuFrontendOps *ops = ((Rig *)opaque)->config.ops;

    return ops->iotlb_fault(ops->opaque, iova, perm);
}

/* VHU_TRACE=1 shows every message. */
static void on_trace(void *opaque, bool sent, const VhuWire *wire,
                     const VhuMessage *msg)
{
    char text[1024];

    (void)opaque;
    fprintf(stderr, "%s %s %s\n",
            wire->direction == VHU_FROM_FRONTEND ? "socket"
                                                 : "back-end channel",
            sent ? ">" : "<", vhu_message_print(wire, msg, text, sizeof(text)));
}

static uint64_t masked_by_environment(void)
{
    const char *bit = g_getenv("VHU_MASK_FRONTEND");

    return bit ? 1ULL << g_ascii_strtoull(bit, NULL, 10) : 0;
}

VhuFrontend *rig_make_session(Rig *rig)
{
    const VhuFrontendOps *extra = rig->config.ops;
    VhuFrontendOps ops = {.ready = on_ready,
                          .closed = on_closed,
                          .iotlb_miss = on_miss,
                          .config_changed = on_config_changed,
                          .opaque = rig};
    const VhuFrontendConfig config = {
        .name = "rig",
        .protocol_masked =
            rig->config.protocol_masked | masked_by_environment(),
        .suspends = rig->config.suspends,
        .timeout_ms = rig->config.timeout_ms,
    };
    VhuError err = {0};
    VhuFrontend *session;

    if (rig->config.inband) {
        ops.vring_call = on_vring_call;
    }
    if (extra) {
        ops.iotlb_fault = extra->iotlb_fault ? on_iotlb_fault : NULL;
        ops.vring_err = extra->vring_err ? on_vring_err : NULL;
        ops.shared_object_add = extra->shared_object_add ? on_object_add : NULL;
        ops.shared_object_remove =
            extra->shared_object_remove ? on_object_remove : NULL;
        ops.shared_object_lookup =
            extra->shared_object_lookup ? on_object_lookup : NULL;
        ops.shmem_map = extra->shmem_map ? on_shmem_map : NULL;
        ops.shmem_unmap = extra->shmem_unmap ? on_shmem_unmap : NULL;
    }
    if (g_getenv("VHU_TRACE")) {
        ops.trace = on_trace;
    }
    session = vhu_frontend_new(&config, &ops, &err);
    rig_check(session ? 0 : -err.code, &err, "session");
    return session;
}

void rig_must(Rig *rig, int started, VhuWait *wait, const char *what)
{
    int rc = rig_op(rig, started, wait);

    rig_check(rc, &wait->err, what);
    vhu_wait_clear(wait);
}

/* ---- configuration space, IOTLB ---- */

void rig_get_config(Rig *rig, uint32_t offset, void *data, uint32_t bytes)
{
    VhuWait wait;
    int rc = vhu_frontend_get_config(rig->session, offset, bytes,
                                     vhu_wait_then(&wait), &wait.err);

    rig_must(rig, rc, &wait, "GET_CONFIG");
    memcpy(data, wait.reply.payload.config.data, bytes);
}

int rig_set_config(Rig *rig, uint32_t offset, const void *data, uint32_t bytes)
{
    VhuConfigArea area = {.offset = offset, .size = bytes};
    VhuWait wait;
    int rc;

    memcpy(area.data, data, bytes);
    rc = vhu_frontend_set_config(rig->session, &area, vhu_wait_then(&wait),
                                 &wait.err);
    return rig_op(rig, rc, &wait);
}

unsigned rig_config_changes(const Rig *rig)
{
    return rig->config_changes;
}

typedef struct Changes {
    const Rig *rig;
    unsigned seen;
} Changes;

static bool has_changed(void *opaque)
{
    const Changes *changes = opaque;

    return changes->rig->config_changes > changes->seen;
}

void rig_wait_config_change(Rig *rig, unsigned seen)
{
    Changes changes = {.rig = rig, .seen = seen};

    if (!rig_until(rig, has_changed, &changes, rig->config.timeout_ms)) {
        rig_fail("no change of configuration space was told");
    }
}

unsigned rig_iotlb_misses(const Rig *rig)
{
    return rig->misses;
}

void rig_iotlb_serve(Rig *rig, bool serve)
{
    rig->serve_misses = serve;
}

void rig_iotlb_invalidate(Rig *rig, VhuGuestAddr addr, uint64_t bytes)
{
    const VhuIotlbMsg msg = {
        .iova = addr, .size = bytes, .type = VHOST_IOTLB_INVALIDATE};
    VhuWait wait;
    int rc =
        vhu_frontend_iotlb(rig->session, &msg, vhu_wait_then(&wait), &wait.err);

    rig_must(rig, rc, &wait, "IOTLB_MSG");
}
