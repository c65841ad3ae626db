/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue's region of the inflight buffer, as the ring that serves the
 * queue keeps it. What is read from a region is read once, when the ring
 * starts, and checked; after that the ring goes by its own copies and only
 * writes, except for the descriptors of packed buffers it resubmits.
 */
#ifndef VHU_TRACK_INTERNAL_H
#define VHU_TRACK_INTERNAL_H

#include "vhu/memory.h"

#define VHU_TRACK_VERSION 1

/* vhost-user, "Inflight I/O tracking"; little endian as the rings. */
typedef struct DescStateSplit {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;
    uint64_t counter;
} DescStateSplit;

typedef struct QueueRegionSplit {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    DescStateSplit desc[];
} QueueRegionSplit;

typedef struct DescStatePacked {
    uint8_t inflight;
    uint8_t padding;
    uint16_t next;
    uint16_t last;
    uint16_t num;
    uint64_t counter;
    uint16_t id;
    uint16_t flags;
    uint32_t len;
    uint64_t addr;
} DescStatePacked;

typedef struct QueueRegionPacked {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t free_head;
    uint16_t old_free_head;
    uint16_t used_idx;
    uint16_t old_used_idx;
    uint8_t used_wrap_counter;
    uint8_t old_used_wrap_counter;
    uint8_t padding[7];
    DescStatePacked desc[];
} QueueRegionPacked;

/* A descriptor, read once. */
typedef struct VhuDesc {
    VhuGuestAddr addr;
    uint32_t len; /* bytes */
    uint16_t flags;
    uint16_t next; /* split: the next one; packed: the buffer id */
} VhuDesc;

/* A position in a packed ring. */
typedef struct VhuPosition {
    uint16_t index;
    bool wrap;
} VhuPosition;

/* Entries of a packed region that belong to one buffer. */
typedef struct VhuTracked {
    uint16_t head;
    uint16_t last;
    uint16_t num;
} VhuTracked;

/* A buffer found in flight. */
typedef struct VhuResubmit {
    uint64_t counter;
    VhuTracked tracked; /* split: only its head */
} VhuResubmit;

/* What a ring gives to find its region in order. */
typedef struct VhuTrackConfig {
    void *region;
    uint32_t ring_size;   /* entries of the ring */
    uint32_t region_size; /* entries the region has room for */
} VhuTrackConfig;

typedef struct VhuTrackSplit {
    QueueRegionSplit *region; /* NULL: nothing is tracked */
    uint64_t counter;
    uint16_t last_batch_head;
} VhuTrackSplit;

typedef struct VhuTrackPacked {
    QueueRegionPacked *region; /* NULL: nothing is tracked */
    uint64_t counter;
    uint16_t *next; /* our copy of desc[].next */
    uint16_t free_head;
} VhuTrackPacked;

/* What a region says of a ring; used in for a new region, out for one that
 * was in use. */
typedef struct VhuRecovery {
    VhuPosition used;      /* split: only its index */
    bool was_used;         /* the region was not new */
    VhuResubmit *resubmit; /* filled in order; room for ring_size */
    uint32_t num;          /* of them */
    uint32_t num_descs;    /* of the ring they take, packed */
} VhuRecovery;

/**
 * Check and recover a split region, or begin a new one.
 * @recovery: used: the ring's used index
 * @err:      may be NULL
 * Returns 0, -EINVAL if the region is inconsistent, or -ENOMEM.
 */
int vhu_track_split_start(VhuTrackSplit *track, const VhuTrackConfig *config,
                          VhuRecovery *recovery, VhuError *err);

/** The ring took a buffer. @head: its first descriptor. */
void vhu_track_split_take(VhuTrackSplit *track, uint16_t head);

/** The ring put back the buffer it took last. */
void vhu_track_split_untake(VhuTrackSplit *track, uint16_t head);

/** A buffer of the batch that will be shown as used. */
void vhu_track_split_link(VhuTrackSplit *track, uint16_t head);

/** A buffer of the batch that was shown. */
void vhu_track_split_clear(VhuTrackSplit *track, uint16_t head);

/** All of the batch was cleared. @used: the used index it ended at. */
void vhu_track_split_commit(VhuTrackSplit *track, uint16_t used);

/**
 * Check and recover a packed region, or begin a new one.
 * @ring_desc: the descriptor ring
 * @recovery:  used: the ring's, for a new region
 * @err:       may be NULL
 * Returns 0, -EINVAL if the region is inconsistent, or -ENOMEM.
 */
int vhu_track_packed_start(VhuTrackPacked *track, const VhuTrackConfig *config,
                           const void *ring_desc, VhuRecovery *recovery,
                           VhuError *err);

/** Free what start allocated. */
void vhu_track_packed_stop(VhuTrackPacked *track);

/**
 * The ring took a buffer.
 * @descs: its @num descriptors; there are as many free entries
 * Returns where they are kept.
 */
VhuTracked vhu_track_packed_take(VhuTrackPacked *track, const VhuDesc *descs,
                                 uint16_t num);

/** The ring put back the buffer it took last. */
void vhu_track_packed_untake(VhuTrackPacked *track, VhuTracked tracked);

/** A buffer will be shown as used, which moves the ring's position. */
void vhu_track_packed_begin_use(VhuTrackPacked *track, VhuTracked tracked,
                                VhuPosition from, VhuPosition to);

/** It was shown. */
void vhu_track_packed_end_use(VhuTrackPacked *track, VhuTracked tracked,
                              VhuPosition to);

/** Read a descriptor of a buffer in flight. @entry: index in the region,
 * replaced by that of the buffer's next. */
VhuDesc vhu_track_packed_read(const VhuTrackPacked *track, uint16_t *entry);

#endif
