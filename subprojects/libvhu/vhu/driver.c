/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what both layouts of the driver-side queue share: the place of the
 * parts, the buffers that are out, and the checks of what the device says.
 */
#include "vhu/driver.h"

#include "vhu/driver-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define PART_ALIGN           64u
#define DEFAULT_INDIRECT_MAX 128u

static bool has(uint64_t features, unsigned bit)
{
    return features >> bit & 1;
}

static uint32_t indirect_max(const VhuDriverConfig *config)
{
    return config->indirect_max ? config->indirect_max : DEFAULT_INDIRECT_MAX;
}

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + PART_ALIGN - 1) & ~(uint64_t)(PART_ALIGN - 1);
}

/* Offsets of the parts. Returns the end. */
static uint64_t lay_out(const VhuDriverConfig *config, uint64_t *driver_at,
                        uint64_t *device_at, uint64_t *tables_at)
{
    uint64_t desc;
    uint64_t driver;
    uint64_t device;
    uint64_t tables = 0;

    vhu_ring_bytes(config->features, config->size, &desc, &driver, &device);
    *driver_at = align_up(desc);
    *device_at = align_up(*driver_at + driver);
    *tables_at = align_up(*device_at + device);
    if (has(config->features, VIRTIO_RING_F_INDIRECT_DESC) &&
        config->indirect_from > 0) {
        tables = 16 * (uint64_t)indirect_max(config) * config->size;
    }
    return *tables_at + tables;
}

uint64_t vhu_driver_bytes(const VhuDriverConfig *config)
{
    uint64_t at[3];

    return lay_out(config, &at[0], &at[1], &at[2]);
}

static int check_config(const VhuDriverConfig *config, bool packed,
                        VhuError *err)
{
    uint32_t size = config->size;

    if (size == 0 || size > VHU_MAX_RING_SIZE ||
        (!packed && (size & (size - 1)) != 0)) {
        return vhu_error_set(err, EINVAL, 0, size, "ring size %u", size);
    }
    if (config->bytes < vhu_driver_bytes(config)) {
        return vhu_error_set(err, EINVAL, 0, config->bytes,
                             "ring of %u in %" PRIu64 " bytes, expected "
                             "%" PRIu64,
                             size, config->bytes, vhu_driver_bytes(config));
    }
    if ((uintptr_t)config->local % PART_ALIGN != 0 ||
        config->addr % PART_ALIGN != 0) {
        return vhu_error_set(err, EINVAL, 0, config->addr,
                             "ring at 0x%" PRIx64 " is not aligned to %u",
                             config->addr, PART_ALIGN);
    }
    return 0;
}

VhuDriverQueue *vhu_driver_new(const VhuDriverConfig *config, VhuError *err)
{
    bool packed = has(config->features, VIRTIO_F_RING_PACKED);
    VhuDriverQueue *queue;
    uint32_t i;

    if (check_config(config, packed, err) < 0) {
        return NULL;
    }
    queue = calloc(1, sizeof(*queue));
    if (queue) {
        queue->sent = calloc(config->size, sizeof(*queue->sent));
        queue->spare = calloc(config->size, sizeof(*queue->spare));
    }
    if (!queue || !queue->sent || !queue->spare) {
        vhu_error_set(err, ENOMEM, 0, 0, "no memory for a queue");
        vhu_driver_free(queue);
        return NULL;
    }
    queue->ops = packed ? &vhu_driver_packed_ops : &vhu_driver_split_ops;
    queue->size = config->size;
    queue->event_idx = has(config->features, VIRTIO_RING_F_EVENT_IDX);
    queue->in_order = has(config->features, VIRTIO_F_IN_ORDER);
    queue->local = config->local;
    queue->addr = config->addr;
    lay_out(config, &queue->driver_at, &queue->device_at, &queue->tables_at);
    if (has(config->features, VIRTIO_RING_F_INDIRECT_DESC)) {
        queue->indirect_from = config->indirect_from;
        queue->indirect_max = indirect_max(config);
    }
    queue->num_free = config->size;
    queue->num_ids = (uint16_t)config->size;
    queue->next_wrap = true;
    queue->used_wrap = true;
    for (i = 0; i < config->size; i++) {
        /* Split: descriptor i is followed by i + 1; packed: a stack with id 0
         * on top. */
        queue->spare[i] = (uint16_t)(packed ? config->size - 1 - i : i + 1);
    }
    return queue;
}

void vhu_driver_free(VhuDriverQueue *queue)
{
    if (!queue) {
        return;
    }
    free(queue->sent);
    free(queue->spare);
    free(queue);
}

void vhu_driver_addrs(const VhuDriverQueue *queue, VhuGuestAddr *desc,
                      VhuGuestAddr *driver, VhuGuestAddr *device)
{
    *desc = queue->addr;
    *driver = queue->addr + queue->driver_at;
    *device = queue->addr + queue->device_at;
}

int vhu_driver_add(VhuDriverQueue *queue, const VhuDriverBuffer *buffer)
{
    uint32_t pieces = buffer->num_out + buffer->num_in;
    bool table = queue->indirect_from > 0 && pieces >= queue->indirect_from &&
                 pieces <= queue->indirect_max;
    uint32_t needed = table ? 1 : pieces;
    VhuDriverSent *sent;
    uint16_t id;
    uint32_t i;

    if (needed == 0 || needed > queue->size) {
        return -EINVAL;
    }
    if (needed > queue->num_free) {
        return -ENOSPC;
    }
    id = queue->ops->add(queue, buffer, table);
    sent = &queue->sent[id];
    *sent = (VhuDriverSent){.cookie = buffer->cookie, .num = (uint16_t)needed};
    for (i = 0; i < buffer->num_in; i++) {
        sent->writable += buffer->in[i].bytes;
    }
    if (queue->num_sent > 0) {
        queue->sent[queue->newest].later = id;
    } else {
        queue->oldest = id;
    }
    queue->newest = id;
    queue->num_sent++;
    queue->num_free -= needed;
    return 0;
}

bool vhu_driver_should_kick(VhuDriverQueue *queue)
{
    bool kick;

    /* What was made available is seen before what is read now. */
    vhu_full_fence();
    kick = queue->unkicked > 0 && queue->ops->should_kick(queue);
    queue->unkicked = 0;
    return kick;
}

/* Give a buffer back to the caller. */
static int take(VhuDriverQueue *queue, uint16_t id, uint32_t written,
                VhuDriverUsed *used)
{
    VhuDriverSent *sent = &queue->sent[id];

    *used = (VhuDriverUsed){.cookie = sent->cookie, .written = written};
    queue->ops->take(queue, id);
    queue->num_free += sent->num;
    queue->num_sent--;
    sent->num = 0;
    if (id == queue->oldest) {
        queue->oldest = sent->later;
    }
    return 1;
}

/* With IN_ORDER an entry stands for all up to the one it names; what those
 * before it were given is not said.
 * VIRTIO 1.4, "In-order use of descriptors". */
static int take_skipped(VhuDriverQueue *queue, VhuDriverUsed *used)
{
    uint16_t id = queue->oldest;

    if (id == queue->skip_to) {
        queue->skipping = false;
        return take(queue, id, queue->skip_written, used);
    }
    return take(queue, id, (uint32_t)queue->sent[id].writable, used);
}

int vhu_driver_get(VhuDriverQueue *queue, VhuDriverUsed *used, VhuError *err)
{
    VhuDriverEntry entry;
    int ret;

    if (queue->skipping) {
        return take_skipped(queue, used);
    }
    ret = queue->ops->peek(queue, &entry, err);
    if (ret <= 0) {
        return ret;
    }
    if (entry.id >= queue->size || queue->sent[entry.id].num == 0) {
        return vhu_error_set(err, EPROTO, 0, entry.id,
                             "used buffer %" PRIu32 " is not in flight",
                             entry.id);
    }
    if (entry.written > queue->sent[entry.id].writable) {
        return vhu_error_set(err, EPROTO, 0, entry.written,
                             "used buffer %" PRIu32 ": %" PRIu32
                             " bytes written, it has %" PRIu64,
                             entry.id, entry.written,
                             queue->sent[entry.id].writable);
    }
    if (!queue->in_order) {
        return take(queue, (uint16_t)entry.id, entry.written, used);
    }
    queue->skipping = true;
    queue->skip_to = (uint16_t)entry.id;
    queue->skip_written = entry.written;
    return take_skipped(queue, used);
}

bool vhu_driver_set_notify(VhuDriverQueue *queue, bool enable)
{
    queue->ops->set_notify(queue, enable);
    if (!enable) {
        return false;
    }
    vhu_full_fence();
    return queue->skipping || queue->ops->has_used(queue);
}

uint32_t vhu_driver_in_flight(const VhuDriverQueue *queue)
{
    return queue->num_sent;
}

uint32_t vhu_driver_base(const VhuDriverQueue *queue)
{
    return queue->ops->base(queue);
}
