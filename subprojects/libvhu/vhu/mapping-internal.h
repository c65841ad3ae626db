/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internal, not installed: one shared mapping of a peer's fd, checked and
 * guarded; guest memory, the dirty log and the inflight buffer are made of it.
 */
#ifndef VHU_MAPPING_INTERNAL_H
#define VHU_MAPPING_INTERNAL_H

#include "vhu/error.h"
#include "vhu/guard-internal.h"

#include <sys/stat.h>

/* Part of a file, in bytes; the offset need not be page aligned. */
typedef struct VhuFileRange {
    uint64_t offset;
    uint64_t size;
} VhuFileRange;

typedef struct VhuMapping {
    uint8_t *local;      /* the byte at the offset asked for */
    uint8_t *base;       /* what was mapped: from the page of that byte */
    size_t length;       /* bytes mapped, whole pages */
    uint64_t page_bytes; /* of the file: the system's, or of its hugetlbfs */
    bool shrinkable;     /* the file has no F_SEAL_SHRINK */
    bool regular;        /* a file, memfd or shm: device and inode name it */
    dev_t device;
    ino_t inode;
    VhuFileRange range; /* what was asked for */
    VhuGuard *guard;
} VhuMapping;

/**
 * Map part of an fd, shared and writable.
 * @mapping: filled on success; close it with vhu_mapping_close
 * @fd:      borrowed, the mapping outlives it
 * @range:   what to map
 * @lost_fd: as of vhu_guard_add
 * @err:     may be NULL
 * Returns 0, or -EINVAL (size 0, overflow, past the file's end), -ENOMEM, or
 * the errno of fstat or mmap. Any thread.
 */
int vhu_mapping_open(VhuMapping *mapping, int fd, VhuFileRange range,
                     int lost_fd, VhuError *err);

/** Unmap; no thread may touch it any more. Any thread. */
void vhu_mapping_close(VhuMapping *mapping);

/** Whether the peer truncated the file under the mapping. Any thread. */
bool vhu_mapping_lost(const VhuMapping *mapping);

/**
 * Whether a range of an fd is what is mapped here, and the file still holds
 * it: then it need not be mapped anew.
 * Returns false also for what is no regular file. Any thread.
 */
bool vhu_mapping_is(const VhuMapping *mapping, int fd, VhuFileRange range);

#endif
