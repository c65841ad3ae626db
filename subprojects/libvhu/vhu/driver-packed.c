/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the packed layout as the driver sees it. Buffers that are out are
 * vhu/driver's.
 */
#include "vhu/driver-internal.h"

#define AVAIL_USED_WRAP_1 0x0080u /* flags of an available descriptor */
#define AVAIL_USED_WRAP_0 0x8000u
#define USED_WRAP_1       0x8080u /* flags of a used descriptor */
#define USED_WRAP_0       0x0000u

static uint64_t *desc_at(const VhuDriverQueue *queue, uint64_t offset)
{
    return (uint64_t *)(void *)(queue->local + offset);
}

/* VIRTIO 1.4, "The Virtqueue Descriptor Format". */
static uint64_t desc_rest(uint32_t bytes, uint16_t id, uint32_t flags)
{
    return bytes | (uint64_t)id << 32 | (uint64_t)flags << 48;
}

static void step(const VhuDriverQueue *queue, uint16_t *index, bool *wrap)
{
    *index += 1;
    if (*index == queue->size) {
        *index = 0;
        *wrap = !*wrap;
    }
}

static void write_table(VhuDriverQueue *queue, const VhuDriverBuffer *buffer,
                        uint64_t at)
{
    uint32_t num = buffer->num_out + buffer->num_in;
    VhuPiece piece;
    uint32_t i;

    for (i = 0; i < num; i++) {
        piece = vhu_driver_piece(buffer, i);
        vhu_store64_release(&desc_at(queue, at)[2 * i], piece.addr);
        vhu_store64_release(
            &desc_at(queue, at)[2 * i + 1],
            desc_rest(piece.bytes, 0,
                      i < buffer->num_out ? 0 : VRING_DESC_F_WRITE));
    }
}

/* Write descriptors to the ring; the flags of the first come last. */
static void write_list(VhuDriverQueue *queue, const VhuDriverBuffer *buffer,
                       uint32_t num, uint32_t more_flags, uint16_t id)
{
    uint64_t first_rest = 0;
    uint64_t *first = NULL;
    VhuPiece piece;
    uint64_t *desc;
    uint32_t flags;
    uint64_t rest;
    uint32_t i;

    for (i = 0; i < num; i++) {
        piece = vhu_driver_piece(buffer, i);
        desc = desc_at(queue, 16 * (uint64_t)queue->next);
        flags = queue->next_wrap ? AVAIL_USED_WRAP_1 : AVAIL_USED_WRAP_0;
        flags |= more_flags;
        if (i >= buffer->num_out) {
            flags |= VRING_DESC_F_WRITE;
        }
        if (i + 1 < num) {
            flags |= VRING_DESC_F_NEXT;
        }
        rest = desc_rest(piece.bytes, id, flags);
        vhu_store64_release(&desc[0], piece.addr);
        if (i == 0) {
            first = &desc[1];
            first_rest = rest;
        } else {
            vhu_store64_release(&desc[1], rest);
        }
        step(queue, &queue->next, &queue->next_wrap);
    }
    queue->unkicked += num;
    if (first) {
        vhu_store64_release(first, first_rest);
    }
}

static uint16_t packed_add(VhuDriverQueue *queue, const VhuDriverBuffer *buffer,
                           bool table)
{
    uint16_t id = queue->spare[--queue->num_ids];
    uint32_t num = buffer->num_out + buffer->num_in;
    uint64_t at;
    VhuPiece piece;
    VhuDriverBuffer reference = {.out = &piece, .num_out = 1};

    if (!table) {
        write_list(queue, buffer, num, 0, id);
        return id;
    }
    at = vhu_driver_table_at(queue, id);
    write_table(queue, buffer, at);
    piece.addr = queue->addr + at;
    piece.bytes = 16 * num;
    write_list(queue, &reference, 1, VRING_DESC_F_INDIRECT, id);
    return id;
}

/* How many descriptors ago the one was made available that a device's event
 * names: 1 to twice the ring, where positions repeat. */
static uint32_t event_distance(const VhuDriverQueue *queue, uint32_t event)
{
    int size = (int)queue->size;
    int distance = (int)queue->next - (int)(event & 0x7fff);

    if (queue->next_wrap != !!(event & 0x8000)) {
        distance += size;
    }
    return (uint32_t)(distance > 0 ? distance : distance + 2 * size);
}

/* VIRTIO 1.4, "Driver and Device Event Suppression": whether the descriptor
 * the device named is among those made available since the last question. */
static bool packed_should_kick(VhuDriverQueue *queue)
{
    uint32_t event =
        vhu_load32((uint32_t *)(void *)(queue->local + queue->device_at));
    uint32_t flags = event >> 16 & 3;

    if (flags == VRING_PACKED_EVENT_FLAG_DISABLE) {
        return false;
    }
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !queue->event_idx) {
        return true;
    }
    return event_distance(queue, event) <= queue->unkicked;
}

static uint64_t used_rest(const VhuDriverQueue *queue)
{
    return vhu_load64_acquire(&desc_at(queue, 16 * (uint64_t)queue->used)[1]);
}

static bool is_used(const VhuDriverQueue *queue, uint64_t rest)
{
    return (rest >> 48 & USED_WRAP_1) ==
           (queue->used_wrap ? USED_WRAP_1 : USED_WRAP_0);
}

static int packed_peek(VhuDriverQueue *queue, VhuDriverEntry *entry,
                       VhuError *err)
{
    uint64_t rest = used_rest(queue);

    (void)err;
    if (!is_used(queue, rest)) {
        return 0;
    }
    entry->id = rest >> 32 & 0xffff;
    entry->written = 0;
    if (rest >> 48 & VRING_DESC_F_WRITE) {
        entry->written = (uint32_t)rest;
    }
    return 1;
}

static void packed_take(VhuDriverQueue *queue, uint16_t id)
{
    uint16_t i;

    for (i = 0; i < queue->sent[id].num; i++) {
        step(queue, &queue->used, &queue->used_wrap);
    }
    queue->spare[queue->num_ids++] = id;
}

static bool packed_has_used(VhuDriverQueue *queue)
{
    return is_used(queue, used_rest(queue));
}

static void packed_set_notify(VhuDriverQueue *queue, bool enable)
{
    uint32_t *event = (uint32_t *)(void *)(queue->local + queue->driver_at);
    uint32_t where = queue->used | (queue->used_wrap ? 0x8000u : 0);

    if (!enable) {
        vhu_store32(event, (uint32_t)VRING_PACKED_EVENT_FLAG_DISABLE << 16);
    } else if (queue->event_idx) {
        vhu_store32(event,
                    where | (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16);
    } else {
        vhu_store32(event, VRING_PACKED_EVENT_FLAG_ENABLE);
    }
}

static uint32_t packed_base(const VhuDriverQueue *queue)
{
    uint32_t where = queue->used | (queue->used_wrap ? 0x8000u : 0);

    return where | where << 16;
}

const VhuDriverOps vhu_driver_packed_ops = {
    .add = packed_add,
    .should_kick = packed_should_kick,
    .peek = packed_peek,
    .take = packed_take,
    .set_notify = packed_set_notify,
    .has_used = packed_has_used,
    .base = packed_base,
};
