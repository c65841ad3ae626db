/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the driver-side queue share. On purpose it has nothing in
 * common with the device's side but the accesses to memory: a mistake in one
 * must not be made good by the same mistake in the other.
 */
#ifndef VHU_DRIVER_INTERNAL_H
#define VHU_DRIVER_INTERNAL_H

#include "vhu/access-internal.h"
#include "vhu/driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

/* A buffer the device has, by its head (split) or id (packed). */
typedef struct VhuDriverSent {
    void *cookie;
    uint64_t writable; /* bytes the device may write */
    uint16_t num;      /* descriptors of the ring it takes; 0: not sent */
    uint16_t later;    /* the one made available after it */
} VhuDriverSent;

typedef struct VhuDriverOps VhuDriverOps;

struct VhuDriverQueue {
    const VhuDriverOps *ops;
    uint32_t size;
    bool event_idx;
    bool in_order;
    uint8_t *local;
    VhuGuestAddr addr;
    uint64_t driver_at; /* offsets of the parts in local; desc is at 0 */
    uint64_t device_at;
    uint64_t tables_at;
    uint32_t indirect_from; /* 0: never */
    uint32_t indirect_max;

    VhuDriverSent *sent; /* by head or id */
    uint16_t *spare;     /* split: next free descriptor; packed: free ids */
    uint32_t num_sent;   /* buffers */
    uint32_t num_free;   /* descriptors */
    uint16_t oldest;     /* sent, valid if num_sent is not 0 */
    uint16_t newest;
    bool skipping;         /* taking back buffers of one used entry */
    uint16_t skip_to;      /* the last of them */
    uint32_t skip_written; /* what that was given */

    uint16_t next;     /* split: first free descriptor, or with IN_ORDER the
                          next in turn; packed: position for the next one */
    bool next_wrap;    /* packed */
    uint16_t avail;    /* split: available index */
    uint16_t used;     /* split: used index taken back to; packed: position */
    bool used_wrap;    /* packed */
    uint16_t num_ids;  /* packed: of spare */
    uint32_t unkicked; /* split: available entries, packed: descriptors made
                          since vhu_driver_should_kick was asked */
};

/* A used entry as the device wrote it. */
typedef struct VhuDriverEntry {
    uint32_t id;
    uint32_t written;
} VhuDriverEntry;

struct VhuDriverOps {
    /* Write the buffer's descriptors and show them; there is room.
     * @table: whether to use an indirect table. Returns its head or id. */
    uint16_t (*add)(VhuDriverQueue *queue, const VhuDriverBuffer *buffer,
                    bool table);
    bool (*should_kick)(VhuDriverQueue *queue);
    /* The entry the device wrote next. Returns 1, 0 or -EPROTO. */
    int (*peek)(VhuDriverQueue *queue, VhuDriverEntry *entry, VhuError *err);
    /* A buffer is taken back: free what it had. */
    void (*take)(VhuDriverQueue *queue, uint16_t id);
    void (*set_notify)(VhuDriverQueue *queue, bool enable);
    bool (*has_used)(VhuDriverQueue *queue);
    uint32_t (*base)(const VhuDriverQueue *queue);
};

extern const VhuDriverOps vhu_driver_split_ops;
extern const VhuDriverOps vhu_driver_packed_ops;

/* Piece i of a buffer: the readable ones come first. */
static inline VhuPiece vhu_driver_piece(const VhuDriverBuffer *buffer,
                                        uint32_t i)
{
    return i < buffer->num_out ? buffer->out[i]
                               : buffer->in[i - buffer->num_out];
}

/* Where the indirect table of a head or id is. */
static inline uint64_t vhu_driver_table_at(const VhuDriverQueue *queue,
                                           uint16_t id)
{
    return queue->tables_at + 16 * (uint64_t)queue->indirect_max * id;
}

#endif
