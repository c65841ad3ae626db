/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the device-side ring share: ring.c (elements and their
 * life), ring-chain.c (one buffer's pieces), ring-split.c and ring-packed.c
 * (the layouts in guest memory).
 */
#ifndef VHU_RING_INTERNAL_H
#define VHU_RING_INTERNAL_H

#include "vhu/access-internal.h"
#include "vhu/ring.h"
#include "vhu/track-internal.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define VHU_FEATURE(bit) (1ULL << (bit))

/* The buffer being gathered; on success it becomes an element. */
typedef struct VhuChain {
    struct iovec *iov; /* room for VHU_MAX_PIECES: readable, then writable */
    uint32_t num_out;
    uint32_t num_in;
    uint64_t out_bytes;
    uint64_t in_bytes;
    bool writable;      /* a device-writable descriptor was seen */
    bool indirect;      /* inside an indirect table */
    uint16_t id;        /* head (split) or buffer id (packed) */
    uint16_t num_descs; /* in the ring itself */
    uint32_t at;        /* index of the descriptor in hand, for messages */
} VhuChain;

/* An indirect table in guest memory. */
typedef struct VhuTable {
    VhuGuestAddr addr;
    uint32_t num;         /* descriptors */
    const uint8_t *local; /* NULL: it lies in several pieces */
} VhuTable;

typedef enum VhuElementState {
    VHU_ELEMENT_FREE,
    VHU_ELEMENT_POPPED,
    VHU_ELEMENT_PUSHED,    /* waits for a flush, or for earlier ones */
    VHU_ELEMENT_SUSPENDED, /* IN_ORDER only: nothing after it is shown */
} VhuElementState;

/* An element with what the device need not see. */
typedef struct VhuSlot {
    VhuElement pub; /* first: a VhuElement is cast to this */
    struct VhuSlot *prev;
    struct VhuSlot *next;
    struct iovec *iov; /* what pub.out and pub.in point into */
    uint32_t room;     /* entries of iov */
    uint32_t written;  /* bytes */
    VhuElementState state;
    uint16_t num_descs; /* of the ring, packed */
    VhuTracked tracked; /* its entries in the inflight region, packed */
    bool owns_memory;   /* holds its own reference, not the ring's */
} VhuSlot;

typedef struct VhuSlots {
    VhuSlot *first;
    VhuSlot *last;
    uint32_t num;
} VhuSlots;

typedef struct VhuSplit {
    uint16_t last_avail; /* next to pop, free-running */
    uint16_t avail_seen; /* the driver's index when last read */
    uint16_t used;       /* the index last shown */
    bool *busy;          /* by head: popped and not shown as used */
    VhuTrackSplit track;
} VhuSplit;

typedef struct VhuPacked {
    VhuPosition avail;  /* next to pop */
    VhuPosition used;   /* next to write */
    VhuDesc *fetched;   /* descriptors of the buffer being popped, for the
                           region; NULL without one */
    VhuTracked tracked; /* of the buffer being resubmitted */
    VhuTrackPacked track;
} VhuPacked;

typedef struct VhuRingOps VhuRingOps;

struct VhuRing {
    const VhuRingOps *ops;
    uint32_t size;
    bool event_idx;
    bool indirect;
    bool in_order;
    bool notify_on_empty;
    void *desc;
    void *driver;
    void *device;

    VhuMemory *memory;
    VhuIotlb *iotlb;
    VhuIotlbMiss miss;
    VhuDirtyLog *log;
    bool log_used;
    VhuGuestAddr used_addr;
    VhuGuestAddr desc_iova;
    bool has_desc_iova;

    size_t request_bytes;
    VhuSlots free;
    VhuSlots order;      /* popped, in that order; with IN_ORDER also pushed */
    VhuSlots done;       /* pushed, to be shown at the next flush */
    uint32_t num_popped; /* with the device now */
    uint32_t num_pushed; /* not shown yet */
    bool suspended;      /* IN_ORDER: an element was suspended */

    VhuResubmit *resubmit; /* in flight before, in their order */
    uint32_t num_resubmit;
    uint32_t next_resubmit;

    bool recovered;  /* the next flush notifies in any case */
    VhuError broken; /* code not 0: the driver broke a rule */
    VhuChain chain;
    union {
        VhuSplit split;
        VhuPacked packed;
    };
};

struct VhuRingOps {
    /* Check the base, recover the region. Returns 0 or -errno. */
    int (*start)(VhuRing *ring, const VhuRingConfig *config, VhuError *err);
    void (*stop)(VhuRing *ring);
    /* Whether the driver made more available. */
    bool (*has_available)(VhuRing *ring);
    /* Gather the next buffer into the chain. Returns as vhu_ring_pop;
     * ring->broken is filled on -EPROTO. */
    int (*gather)(VhuRing *ring);
    /* The same for a buffer that was in flight before. */
    int (*gather_again)(VhuRing *ring, const VhuResubmit *resubmit);
    /* The gathered buffer became @slot: move on, track it. */
    void (*consume)(VhuRing *ring, VhuSlot *slot);
    /* Opposite of consume, for the slot consumed last. */
    void (*unconsume)(VhuRing *ring, VhuSlot *slot);
    /* Show ring->done to the driver. Returns whether it wants to know. */
    bool (*publish)(VhuRing *ring);
    /* Ask for notifications or not. */
    void (*set_notify)(VhuRing *ring, bool enable);
    uint32_t (*base)(const VhuRing *ring);
};

extern const VhuRingOps vhu_ring_split_ops;
extern const VhuRingOps vhu_ring_packed_ops;

/* Log a write to the used ring. */
static inline void vhu_ring_log(VhuRing *ring, uint64_t offset, uint64_t bytes)
{
    if (ring->log_used) {
        vhu_dirty_mark(ring->log, ring->used_addr + offset, bytes);
    }
}

/* ---- ring-chain.c ---- */

/** Forget the buffer gathered last. */
void vhu_chain_reset(VhuRing *ring);

/**
 * Append a descriptor's memory to the chain.
 * Returns 0, -EAGAIN with ring->miss, or -EPROTO with ring->broken.
 */
int vhu_chain_add(VhuRing *ring, const VhuDesc *desc);

/**
 * Find the indirect table a descriptor refers to.
 * @table: filled
 * Returns as vhu_chain_add.
 */
int vhu_chain_open_table(VhuRing *ring, const VhuDesc *desc, VhuTable *table);

/**
 * Read one descriptor of an indirect table.
 * @words: its 16 bytes, as in memory
 * Returns as vhu_chain_add.
 */
int vhu_chain_read_table(VhuRing *ring, const VhuTable *table, uint32_t index,
                         uint64_t words[2]);

/** What the descriptor in hand is called in messages. */
const char *vhu_chain_what(const VhuRing *ring);

/* ---- element.c ---- */

/** As vhu_element_read, of any vector. */
size_t vhu_iov_gather(const struct iovec *iov, uint32_t num, uint64_t offset,
                      void *data, size_t size);

#endif
