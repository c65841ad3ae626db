/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inflight I/O tracking: the shared buffer that survives the back end, and
 * the view of one queue in it that a ring keeps up to date.
 */
#ifndef VHU_INFLIGHT_H
#define VHU_INFLIGHT_H

#include "vhu/memory.h"

#define VHU_MAX_RING_SIZE 32768u /* entries of any ring */

typedef struct VhuInflight VhuInflight; /* the whole buffer, counted */

/** Bytes one queue's region takes, aligned to a cache line.
 * vhost-user, "Inflight I/O tracking". Any thread. */
VHU_API uint64_t vhu_inflight_queue_bytes(bool packed, uint16_t queue_size);

/**
 * GET_INFLIGHT_FD: make a zeroed buffer in a sealed memfd.
 * @area:   num_queues and queue_size in, mmap_size and mmap_offset out
 * @packed: which layout
 * @fd:     filled, owned by the caller, to be sent
 * @err:    may be NULL
 * Returns one reference, or NULL (0 or too many queues, size 0 or > 32768).
 */
VHU_API VhuInflight *vhu_inflight_create(VhuInflightArea *area, bool packed,
                                         int *fd, VhuError *err);

/**
 * SET_INFLIGHT_FD: map the buffer a front end kept.
 * @area: as received; everything is checked against the fd's size
 * @fd:   borrowed
 * @lost_fd: as of vhu_memory_new
 * Returns one reference, or NULL.
 */
VHU_API VhuInflight *vhu_inflight_map(const VhuInflightArea *area, bool packed,
                                      int fd, int lost_fd, VhuError *err);

/** One more reference. Any thread. */
VHU_API VhuInflight *vhu_inflight_ref(VhuInflight *inflight);

/** One reference less. @inflight: may be NULL. Any thread. */
VHU_API void vhu_inflight_unref(VhuInflight *inflight);

/** Local address of a queue's region, or NULL past num_queues. Any thread. */
VHU_API void *vhu_inflight_queue(VhuInflight *inflight, uint16_t index);

/** The queue_size the buffer was made for. Any thread. */
VHU_API uint16_t vhu_inflight_queue_size(const VhuInflight *inflight);

/** Whether any queue's region has something in flight or was ever used: the
 * buffer comes from a run before. Any thread. */
VHU_API bool vhu_inflight_used(const VhuInflight *inflight, uint16_t index);

#endif
