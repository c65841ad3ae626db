/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the split layout as the driver sees it. Buffers that are out are
 * vhu/driver's.
 */
#include "vhu/driver-internal.h"

#include <errno.h>

/* VIRTIO 1.4, "The Virtqueue Descriptor Table". */
static void write_desc(uint8_t *at, VhuPiece piece, uint16_t flags,
                       uint16_t next)
{
    uint64_t *words = (uint64_t *)(void *)at;

    vhu_store64_release(&words[0], piece.addr);
    vhu_store64_release(&words[1], piece.bytes | (uint64_t)flags << 32 |
                                       (uint64_t)next << 48);
}

static uint16_t *avail_field(const VhuDriverQueue *queue, uint32_t index)
{
    return (uint16_t *)(void *)(queue->local + queue->driver_at) + index;
}

static uint16_t *used_field(const VhuDriverQueue *queue, uint32_t offset)
{
    return (uint16_t *)(void *)(queue->local + queue->device_at + offset);
}

/* The next free descriptor; with IN_ORDER they are used in turn. */
static uint16_t next_desc(VhuDriverQueue *queue)
{
    uint16_t index = queue->next;

    queue->next = queue->spare[index];
    if (queue->in_order) {
        queue->next = (uint16_t)((index + 1u) % queue->size);
    }
    return index;
}

/* Write piece after piece to the places @at gives; the first is given. */
static uint16_t write_chain(VhuDriverQueue *queue,
                            const VhuDriverBuffer *buffer, uint8_t *table)
{
    uint32_t num = buffer->num_out + buffer->num_in;
    uint8_t *base = table ? table : queue->local;
    uint16_t head = table ? 0 : next_desc(queue);
    uint16_t at = head;
    uint16_t next = 0;
    uint16_t flags;
    uint32_t i;

    for (i = 0; i < num; i++) {
        flags = i < buffer->num_out ? 0 : VRING_DESC_F_WRITE;
        if (i + 1 < num) {
            flags |= VRING_DESC_F_NEXT;
            next = table ? (uint16_t)(i + 1) : next_desc(queue);
        } else {
            next = 0;
        }
        write_desc(base + 16 * (size_t)at, vhu_driver_piece(buffer, i), flags,
                   next);
        at = next;
    }
    return head;
}

static uint16_t split_add(VhuDriverQueue *queue, const VhuDriverBuffer *buffer,
                          bool table)
{
    VhuPiece piece;
    uint16_t head;
    uint64_t at;

    if (table) {
        head = next_desc(queue);
        at = vhu_driver_table_at(queue, head);
        write_chain(queue, buffer, queue->local + at);
        piece.addr = queue->addr + at;
        piece.bytes = 16 * (buffer->num_out + buffer->num_in);
        write_desc(queue->local + 16 * (size_t)head, piece,
                   VRING_DESC_F_INDIRECT, 0);
    } else {
        head = write_chain(queue, buffer, NULL);
    }
    vhu_store16(avail_field(queue, 2 + queue->avail % queue->size), head);
    queue->avail++;
    queue->unkicked++;
    vhu_store16_release(avail_field(queue, 1), queue->avail);
    return head;
}

/* VIRTIO 1.4, "Available Buffer Notification Suppression": whether one of
 * the entries since the last question was at the device's event index. */
static bool split_should_kick(VhuDriverQueue *queue)
{
    uint16_t first = (uint16_t)(queue->avail - queue->unkicked);
    uint16_t event;

    if (!queue->event_idx) {
        return (vhu_load16(used_field(queue, 0)) & VRING_USED_F_NO_NOTIFY) == 0;
    }
    event = vhu_load16(used_field(queue, 4 + 8 * queue->size));
    return (uint16_t)(event - first) < queue->unkicked;
}

static uint16_t used_ahead(VhuDriverQueue *queue)
{
    return (uint16_t)(vhu_load16_acquire(used_field(queue, 2)) - queue->used);
}

/* How many buffers, from the oldest, an entry that names @id stands for. */
static uint32_t in_order_batch(const VhuDriverQueue *queue, uint32_t id)
{
    uint16_t at = queue->oldest;
    uint32_t num = 1;

    while (at != id && num < queue->num_sent) {
        at = queue->sent[at].later;
        num++;
    }
    return num;
}

static int split_peek(VhuDriverQueue *queue, VhuDriverEntry *entry,
                      VhuError *err)
{
    uint16_t ahead = used_ahead(queue);
    const uint32_t *at;

    if (ahead == 0) {
        return 0;
    }
    if (ahead > queue->num_sent) {
        return vhu_error_set(err, EPROTO, 0, ahead,
                             "used index is %u ahead, %u buffers are in flight",
                             ahead, queue->num_sent);
    }
    at = (const uint32_t *)(const void *)used_field(
        queue, 4 + 8 * (queue->used % queue->size));
    entry->id = vhu_load32(&at[0]);
    entry->written = vhu_load32(&at[1]);
    if (queue->in_order && in_order_batch(queue, entry->id) > ahead) {
        return vhu_error_set(err, EPROTO, 0, entry->id,
                             "used buffer %u is not next in order", entry->id);
    }
    return 1;
}

static void split_take(VhuDriverQueue *queue, uint16_t head)
{
    uint16_t at = head;
    uint16_t i;

    queue->used++;
    if (queue->in_order) {
        return;
    }
    /* The chain goes in front of the free list; our own copy of the links
     * says where it ends, not the table. */
    for (i = 1; i < queue->sent[head].num; i++) {
        at = queue->spare[at];
    }
    queue->spare[at] = queue->next;
    queue->next = head;
}

static bool split_has_used(VhuDriverQueue *queue)
{
    return used_ahead(queue) != 0;
}

static void split_set_notify(VhuDriverQueue *queue, bool enable)
{
    if (!queue->event_idx) {
        vhu_store16(avail_field(queue, 0),
                    enable ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
    } else if (enable) {
        vhu_store16(avail_field(queue, 2 + queue->size), queue->used);
    }
}

static uint32_t split_base(const VhuDriverQueue *queue)
{
    return vhu_load16(used_field(queue, 2));
}

const VhuDriverOps vhu_driver_split_ops = {
    .add = split_add,
    .should_kick = split_should_kick,
    .peek = split_peek,
    .take = split_take,
    .set_notify = split_set_notify,
    .has_used = split_has_used,
    .base = split_base,
};
