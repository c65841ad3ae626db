/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the way from the addresses of SET_VRING_ADDR to the three parts of a
 * ring in local memory, and the IOTLB misses on that way.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <stdlib.h>

/* Of 4 KiB: enough for the longest descriptor area, 512 KiB. */
#define MAX_PART_PIECES 256

typedef struct Part {
    int index;
    uint8_t align; /* bytes */
    const char *name;
    uint64_t addr;
    uint64_t bytes;
    uint8_t perm;
} Part;

static bool contiguous(const struct iovec *pieces, int num)
{
    for (int i = 1; i < num; i++) {
        const uint8_t *end =
            (uint8_t *)pieces[i - 1].iov_base + pieces[i - 1].iov_len;

        if (end != pieces[i].iov_base) {
            return false;
        }
    }
    return true;
}

static int resolve_iova(VhuQueue *queue, const Part *part, VhuParts *parts,
                        VhuError *err)
{
    const VhuTranslator translator = {
        .memory = queue->run.setup.memory,
        .iotlb = queue->run.setup.iotlb,
    };
    struct iovec pieces[MAX_PART_PIECES];
    const VhuRange range = {
        .addr = part->addr, .size = part->bytes, .perm = part->perm};
    VhuIotlbMiss miss;
    int num =
        vhu_translate(&translator, &range, pieces, MAX_PART_PIECES, &miss);

    if (num == -EAGAIN) {
        vhu_queue_miss(queue, miss);
        return -EAGAIN;
    }
    if (num <= 0) {
        return vhu_error_set(err, EFAULT, VHOST_USER_SET_VRING_ADDR, part->addr,
                             "%s at IOVA 0x%llx (%llu bytes) is not mapped",
                             part->name, (unsigned long long)part->addr,
                             (unsigned long long)part->bytes);
    }
    if (contiguous(pieces, num)) {
        parts->local[part->index] = pieces[0].iov_base;
        return 0;
    }
    parts->stitches[part->index] = vhu_stitch_new(
        pieces, num, queue->connection->lost_fd, &parts->local[part->index]);
    if (!parts->stitches[part->index]) {
        return vhu_error_set(err, EFAULT, VHOST_USER_SET_VRING_ADDR, part->addr,
                             "%s at IOVA 0x%llx: its %d pieces do not join "
                             "at page boundaries",
                             part->name, (unsigned long long)part->addr, num);
    }
    return 0;
}

static int resolve_part(VhuQueue *queue, const Part *part, VhuParts *parts,
                        VhuError *err)
{
    const VhuQueueSetup *setup = &queue->run.setup;
    static const char *const spaces[] = {
        [VHU_ADDR_USER] = "user",
        [VHU_ADDR_GUEST] = "guest",
    };
    void *local;

    if (part->addr % part->align) {
        return vhu_error_set(err, EINVAL, VHOST_USER_SET_VRING_ADDR, part->addr,
                             "%s at 0x%llx is not aligned to %u", part->name,
                             (unsigned long long)part->addr, part->align);
    }
    if (setup->space == VHU_ADDR_IOVA) {
        return resolve_iova(queue, part, parts, err);
    }
    local = setup->space == VHU_ADDR_USER
                ? vhu_memory_user_ptr(setup->memory, part->addr, part->bytes)
                : vhu_memory_guest_ptr(setup->memory, part->addr, part->bytes);
    if (!local) {
        return vhu_error_set(
            err, EFAULT, VHOST_USER_SET_VRING_ADDR, part->addr,
            "%s at %s address 0x%llx (%llu bytes) is not in one region",
            part->name, spaces[setup->space], (unsigned long long)part->addr,
            (unsigned long long)part->bytes);
    }
    parts->local[part->index] = local;
    return 0;
}

void vhu_parts_release(VhuParts *parts)
{
    for (int i = 0; i < 3; i++) {
        vhu_stitch_free(parts->stitches[i]);
    }
    vhu_memory_unref(parts->memory);
    *parts = (VhuParts){0};
}

int vhu_queue_resolve(VhuQueue *queue, VhuParts *parts, VhuError *err)
{
    const VhuQueueSetup *setup = &queue->run.setup;
    const bool packed = setup->features & VHU_FEATURE(VIRTIO_F_RING_PACKED);
    Part list[3] = {
        {.index = 0,
         .align = 16,
         .name = "descriptor area",
         .addr = setup->addr.desc,
         .perm = packed ? VHOST_ACCESS_RW : VHOST_ACCESS_RO},
        {.index = 1,
         .align = packed ? 4 : 2,
         .name = "driver area",
         .addr = setup->addr.avail,
         .perm = VHOST_ACCESS_RO},
        {.index = 2,
         .align = 4,
         .name = "device area",
         .addr = setup->addr.used,
         .perm = VHOST_ACCESS_RW},
    };

    vhu_ring_bytes(setup->features, setup->size, &list[0].bytes, &list[1].bytes,
                   &list[2].bytes);
    *parts = (VhuParts){.memory = vhu_memory_ref(setup->memory)};
    for (int i = 0; i < 3; i++) {
        int ret = resolve_part(queue, &list[i], parts, err);

        if (ret < 0) {
            vhu_parts_release(parts);
            return ret;
        }
    }
    return 0;
}

/* ---- misses ---- */

typedef struct Miss {
    VhuConnection *connection;
    VhuIotlbMiss miss;
} Miss;

/* On the control thread. */
static void send_miss(void *opaque)
{
    Miss *miss = opaque;
    VhuMessage msg = {
        .request = VHOST_USER_BACKEND_IOTLB_MSG,
        .kind = VHU_PAYLOAD_IOTLB,
        .payload.iotlb =
            {
                .iova = miss->miss.iova,
                .perm = miss->miss.perm,
                .type = VHOST_IOTLB_MISS,
            },
    };

    if (!miss->connection->closing &&
        vhu_requests_send(miss->connection, &msg, NULL, NULL) < 0) {
        vhu_connection_log(miss->connection, VHU_LOG_WARN,
                           "IOTLB miss of 0x%llx cannot be sent: no back-end "
                           "channel",
                           (unsigned long long)miss->miss.iova);
    }
    free(miss);
}

/* Updates for other queues have this one look again: told once, a miss is
 * not repeated before its own update. */
void vhu_queue_miss(VhuQueue *queue, VhuIotlbMiss what)
{
    Miss *miss;

    queue->run.iotlb_wait = true;
    if (queue->run.missing && queue->run.missed.iova == what.iova &&
        queue->run.missed.perm == what.perm) {
        return;
    }
    miss = malloc(sizeof(*miss));
    if (!miss) {
        return;
    }
    queue->run.missing = true;
    queue->run.missed = what;
    miss->connection = queue->connection;
    miss->miss = what;
    if (vhu_loop_post(queue->connection->backend->control, send_miss, miss) <
        0) {
        free(miss);
    }
}
