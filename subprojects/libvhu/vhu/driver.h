/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a virtqueue, split or packed, for tools and tests. It
 * writes rings into guest memory that the caller shares with a back end.
 */
#ifndef VHU_DRIVER_H
#define VHU_DRIVER_H

#include "vhu/ring.h"

typedef struct VhuDriverQueue VhuDriverQueue;

/* One piece of a buffer: guest physical (or IOVA) address. */
typedef struct VhuPiece {
    VhuGuestAddr addr;
    uint32_t bytes;
} VhuPiece;

/* A buffer to make available: num_out + num_in >= 1 pieces. */
typedef struct VhuDriverBuffer {
    const VhuPiece *out; /* readable by the device */
    uint32_t num_out;
    const VhuPiece *in; /* writable by the device */
    uint32_t num_in;
    void *cookie; /* returned when it is used */
} VhuDriverBuffer;

typedef struct VhuDriverConfig {
    uint32_t size;          /* entries */
    uint64_t features;      /* negotiated */
    uint8_t *local;         /* memory for the ring, zeroed by the caller */
    VhuGuestAddr addr;      /* the same as the device addresses it */
    uint64_t bytes;         /* room there, see vhu_driver_bytes */
    uint32_t indirect_from; /* buffers of at least this many pieces use an
                               indirect table, if negotiated; 0: never */
    uint32_t indirect_max;  /* entries of each of the tables, 0: 128; a buffer
                               of more pieces is chained instead */
} VhuDriverConfig;

typedef struct VhuDriverUsed {
    void *cookie;
    uint32_t written; /* bytes, as the device reported */
} VhuDriverUsed;

/** Bytes a queue needs: the three parts and its indirect tables. */
VHU_API uint64_t vhu_driver_bytes(const VhuDriverConfig *config);

/** Lay a queue out. Returns it, or NULL. @config: copied. */
VHU_API VhuDriverQueue *vhu_driver_new(const VhuDriverConfig *config,
                                       VhuError *err);

/** Free it; the rings stay in guest memory. @queue: may be NULL. */
VHU_API void vhu_driver_free(VhuDriverQueue *queue);

/** Guest addresses of the three parts, for SET_VRING_ADDR. */
VHU_API void vhu_driver_addrs(const VhuDriverQueue *queue, VhuGuestAddr *desc,
                              VhuGuestAddr *driver, VhuGuestAddr *device);

/**
 * Make a buffer available (visible at once).
 * @buffer: copied; its memory belongs to the device until it is used
 * Returns 0, -ENOSPC if the ring is full, -EINVAL if it never can: no pieces,
 * or more than the ring has descriptors.
 * VIRTIO 1.4, "Supplying Buffers to The Device".
 */
VHU_API int vhu_driver_add(VhuDriverQueue *queue,
                           const VhuDriverBuffer *buffer);

/** Whether the device wants a kick for what was added since the last call. */
VHU_API bool vhu_driver_should_kick(VhuDriverQueue *queue);

/**
 * Take the next used buffer.
 * Returns 1, 0 if none, -EPROTO if the device wrote nonsense: an id not in
 * flight, a used index too far ahead, a length over the writable bytes, an
 * order other than IN_ORDER promised.
 * VIRTIO 1.4, "Receiving Used Buffers From The Device".
 */
VHU_API int vhu_driver_get(VhuDriverQueue *queue, VhuDriverUsed *used,
                           VhuError *err);

/** Ask the device for notifications, or not. Returns, when enabling, true if
 * used buffers came in between. */
VHU_API bool vhu_driver_set_notify(VhuDriverQueue *queue, bool enable);

/** Buffers made available and not taken back. */
VHU_API uint32_t vhu_driver_in_flight(const VhuDriverQueue *queue);

/** The base to give a back end that takes over, without an inflight region,
 * what was not used yet: split, the used index in memory; packed, both at the
 * next descriptor to be used. Right if nothing was in flight, or if all was
 * used in order. */
VHU_API uint32_t vhu_driver_base(const VhuDriverQueue *queue);

#endif
