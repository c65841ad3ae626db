/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's side of a virtqueue, split or packed: pop a buffer, use it,
 * push it back, flush, decide on a notification. One thread at a time owns a
 * ring. Everything the driver wrote is read once and checked; the engine
 * trusts nothing and allocates nothing per element (elements are recycled).
 */
#ifndef VHU_RING_H
#define VHU_RING_H

#include "vhu/dirty.h"
#include "vhu/inflight.h"
#include "vhu/iotlb.h"

/* Longest buffer accepted, in pieces after translation. */
#define VHU_MAX_PIECES 1024u

typedef struct VhuRing VhuRing;

/* One buffer taken from a ring, until pushed. Fields are for reading. */
typedef struct VhuElement {
    VhuRing *ring;
    struct iovec *out; /* device-readable pieces, in the driver's order */
    struct iovec *in;  /* device-writable pieces */
    uint32_t num_out;
    uint32_t num_in;
    uint64_t out_bytes;
    uint64_t in_bytes;
    uint16_t id;       /* head index (split), buffer id (packed) */
    bool resubmitted;  /* was in flight in a back end before this one */
    void *request;     /* request_bytes of room for the device, zeroed
                          once when allocated, kept between uses */
    VhuMemory *memory; /* the snapshot its pieces point into */
} VhuElement;

/* What a ring is made of; all of it is fixed until the ring is stopped,
 * except what vhu_ring_set_* change. */
typedef struct VhuRingConfig {
    uint32_t size;          /* entries; split: a power of two */
    uint64_t features;      /* negotiated: which layout, EVENT_IDX, ... */
    void *desc;             /* local addresses, aligned as the layout wants, */
    void *driver;           /* each wholly inside mapped memory (avail ring) */
    void *device;           /* (used ring) */
    uint32_t base;          /* as in SET_VRING_BASE, see vhu_ring_base */
    size_t request_bytes;   /* room per element for the device */
    void *inflight;         /* the queue's region, or NULL */
    uint16_t inflight_size; /* queue_size that region was made for */
} VhuRingConfig;

/** Bytes of the three parts of a ring.
 * @size: entries; @desc, @driver, @device: filled. Any thread.
 * VIRTIO 1.4, "Split Virtqueues", "Packed Virtqueues". */
VHU_API void vhu_ring_bytes(uint64_t features, uint32_t size, uint64_t *desc,
                            uint64_t *driver, uint64_t *device);

/**
 * Make a ring; with an inflight region it is also recovered: what was in
 * flight is popped first, in its old order, marked resubmitted, and the
 * region's positions replace the base. Only the region is written: call
 * vhu_ring_set_notify before waiting for a kick, and vhu_ring_flush once (the
 * first one after a recovery returns true: the notification may be what the
 * crash swallowed).
 * @config: copied
 * @err:    may be NULL
 * Returns the ring, or NULL (size, alignment, base out of range, an inflight
 * region that is inconsistent, no memory).
 * vhost-user, "Inflight I/O tracking".
 */
VHU_API VhuRing *vhu_ring_new(const VhuRingConfig *config, VhuError *err);

/** Free it with all elements, popped or not; push none of them after.
 * @ring: may be NULL. */
VHU_API void vhu_ring_free(VhuRing *ring);

/** Where buffers are: a counted snapshot, taken over by later pops; to be
 * called before the first.
 * @memory: the ring takes a reference; @iotlb: borrowed, may be NULL. */
VHU_API void vhu_ring_set_memory(VhuRing *ring, VhuMemory *memory,
                                 VhuIotlb *iotlb);

/** New local addresses of the three parts, after memory or IOTLB changed
 * while the ring runs. */
VHU_API void vhu_ring_set_parts(VhuRing *ring, void *desc, void *driver,
                                void *device);

/**
 * Dirty logging of data and, where wanted, of the used ring.
 * @log:       the ring takes a reference; NULL: none
 * @log_used:  also log writes to the used ring, packed: descriptor ring and
 *             device event area
 * @used_addr: guest address its first byte is logged at
 * vhost-user, "Migration".
 */
VHU_API void vhu_ring_set_log(VhuRing *ring, VhuDirtyLog *log, bool log_used,
                              VhuGuestAddr used_addr);

/**
 * Say where a descriptor area behind an IOMMU is, if the local address given
 * for it is not inside guest memory but a view of its scattered pages: writes
 * to a packed ring are then logged through its I/O virtual address.
 */
VHU_API void vhu_ring_set_desc_iova(VhuRing *ring, VhuGuestAddr iova);

/**
 * Take the next buffer.
 * @element: filled; it belongs to the ring and is lent until vhu_ring_push
 * @err:     may be NULL
 * Returns 1, or 0 if none is available, -EAGAIN if the IOTLB lacks an entry
 * (see vhu_ring_miss; nothing was consumed, pop again later), -EPROTO if the
 * driver broke a rule (the ring is then broken and only says so again):
 * index out of range, loop, more descriptors than the ring has, writable
 * before readable, indirect inside indirect or not negotiated, a table whose
 * length is no multiple of 16, zero elements, over VHU_MAX_PIECES,
 * unmapped addresses, more than 2^32 bytes, available index too far ahead;
 * -ENOMEM (nothing was consumed).
 * VIRTIO 1.4, "Split Virtqueues", "Packed Virtqueues".
 */
VHU_API int vhu_ring_pop(VhuRing *ring, VhuElement **element, VhuError *err);

/** What the last -EAGAIN of vhu_ring_pop lacked. */
VHU_API VhuIotlbMiss vhu_ring_miss(const VhuRing *ring);

/**
 * Give a buffer back. The driver sees it after vhu_ring_flush; with IN_ORDER,
 * after all earlier ones were given back too.
 * @written: bytes written from the start of the in pieces, exactly; more than
 *           in_bytes counts as in_bytes
 */
VHU_API void vhu_ring_push(VhuRing *ring, VhuElement *element,
                           uint32_t written);

/**
 * Put back the last popped element: the next pop returns the same buffer.
 * Only for the latest element, before any other was popped.
 */
VHU_API void vhu_ring_unpop(VhuRing *ring, VhuElement *element);

/**
 * Take an element back unused while the ring is being stopped: the driver is
 * not told, and the inflight region, if any, keeps it for whoever serves the
 * ring next. With IN_ORDER nothing popped after it is shown any more.
 */
VHU_API void vhu_ring_suspend(VhuRing *ring, VhuElement *element);

/**
 * Show the driver what was pushed.
 * Returns true if the driver wants to be notified of it.
 * VIRTIO 1.4, "Used Buffer Notification Suppression", "Driver and Device
 * Event Suppression"; NOTIFY_ON_EMPTY of the legacy interface.
 */
VHU_API bool vhu_ring_flush(VhuRing *ring);

/**
 * Ask the driver for notifications of available buffers, or ask it not to.
 * Returns, when enabling, true if buffers came in between (then process them
 * rather than wait). VIRTIO 1.4, "Available Buffer Notification Suppression".
 */
VHU_API bool vhu_ring_set_notify(VhuRing *ring, bool enable);

/** Whether a pop would return a buffer (or an error). */
VHU_API bool vhu_ring_has_work(VhuRing *ring);

/** Buffers popped and not yet shown as used to the driver, without those
 * that were suspended. 0: the ring has drained, but see
 * vhu_ring_to_resubmit. */
VHU_API uint32_t vhu_ring_in_flight(const VhuRing *ring);

/** Buffers in flight before this ring was made that were not popped again
 * yet; without GET_VRING_BASE_INFLIGHT they too belong to a drain. */
VHU_API uint32_t vhu_ring_to_resubmit(const VhuRing *ring);

/**
 * The value of GET_VRING_BASE: split: next available index; packed: both
 * positions with their wrap counters.
 * vhost-user, "Vring descriptor indices for packed virtqueues".
 */
VHU_API uint32_t vhu_ring_base(const VhuRing *ring);

/**
 * Call @fn for each buffer popped and not pushed, in no particular order.
 */
VHU_API void vhu_ring_each_in_flight(
    VhuRing *ring, void (*fn)(VhuElement *element, void *opaque), void *opaque);

/**
 * Copy from an element's out pieces.
 * @offset: bytes into the readable part
 * Returns the bytes copied, fewer than @size at the end. Ring's thread.
 */
VHU_API size_t vhu_element_read(const VhuElement *element, uint64_t offset,
                                void *data, size_t size);

/** Copy into an element's in pieces; as vhu_element_read. */
VHU_API size_t vhu_element_write(const VhuElement *element, uint64_t offset,
                                 const void *data, size_t size);

/**
 * Take a sub-range of a vector, without copying data.
 * @iov, @num: the vector; @offset, @size: bytes, within it
 * @out:       room for @num entries
 * Returns the entries filled; fewer bytes than @size if the vector ends.
 */
VHU_API uint32_t vhu_iov_slice(const struct iovec *iov, uint32_t num,
                               uint64_t offset, uint64_t size,
                               struct iovec *out);

#endif
