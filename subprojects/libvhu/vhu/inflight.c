/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the inflight buffer as a whole: its memfd or mapping and where each
 * queue's region lies. What a region holds is vhu/track-split's and
 * vhu/track-packed's.
 */
#include "vhu/inflight.h"

#include "vhu/access-internal.h"
#include "vhu/mapping-internal.h"
#include "vhu/track-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A queue's region begins on a cache line of its own. */
#define REGION_ALIGN 64u

struct VhuInflight {
    atomic_uint refs;
    VhuMapping mapping;
    uint64_t queue_bytes;
    uint16_t num_queues;
    uint16_t queue_size;
    bool packed;
};

uint64_t vhu_inflight_queue_bytes(bool packed, uint16_t queue_size)
{
    uint64_t bytes = offsetof(QueueRegionSplit, desc) +
                     sizeof(DescStateSplit) * (uint64_t)queue_size;

    if (packed) {
        bytes = offsetof(QueueRegionPacked, desc) +
                sizeof(DescStatePacked) * (uint64_t)queue_size;
    }
    return (bytes + REGION_ALIGN - 1) & ~(uint64_t)(REGION_ALIGN - 1);
}

static int check_area(const VhuInflightArea *area, VhuError *err)
{
    if (area->num_queues == 0 || area->num_queues > VHU_MAX_QUEUES) {
        return vhu_error_set(err, EINVAL, 0, area->num_queues,
                             "inflight buffer for %u queues, expected 1 to %u",
                             area->num_queues, VHU_MAX_QUEUES);
    }
    if (area->queue_size == 0 || area->queue_size > VHU_MAX_RING_SIZE) {
        return vhu_error_set(err, EINVAL, 0, area->queue_size,
                             "inflight buffer for queues of %u, expected 1 to "
                             "%u",
                             area->queue_size, VHU_MAX_RING_SIZE);
    }
    return 0;
}

VhuInflight *vhu_inflight_map(const VhuInflightArea *area, bool packed, int fd,
                              int lost_fd, VhuError *err)
{
    uint64_t queue_bytes = vhu_inflight_queue_bytes(packed, area->queue_size);
    uint64_t needed = queue_bytes * area->num_queues;
    VhuFileRange range = {
        .offset = area->mmap_offset,
        .size = area->mmap_size,
    };
    VhuInflight *inflight;

    if (check_area(area, err) < 0) {
        return NULL;
    }
    if (area->mmap_size < needed || area->mmap_offset % REGION_ALIGN != 0) {
        vhu_error_set(err, EINVAL, 0, area->mmap_size,
                      "inflight buffer of %" PRIu64 " bytes at offset "
                      "%" PRIu64 ", expected %" PRIu64 " bytes, aligned to %u",
                      area->mmap_size, area->mmap_offset, needed, REGION_ALIGN);
        return NULL;
    }
    inflight = calloc(1, sizeof(*inflight));
    if (!inflight) {
        vhu_error_set(err, ENOMEM, 0, 0, "no memory for an inflight buffer");
        return NULL;
    }
    if (vhu_mapping_open(&inflight->mapping, fd, range, lost_fd, err) < 0) {
        vhu_error_prefix(err, "inflight buffer: ");
        free(inflight);
        return NULL;
    }
    inflight->refs = 1;
    inflight->queue_bytes = queue_bytes;
    inflight->num_queues = area->num_queues;
    inflight->queue_size = area->queue_size;
    inflight->packed = packed;
    return inflight;
}

/* A memfd of zeroes that stays as long as it is. Returns it, or -errno. */
static int create_memfd(uint64_t bytes, VhuError *err)
{
    int fd = memfd_create("vhu-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int ret;

    if (fd < 0) {
        return vhu_error_set(err, errno, 0, 0, "memfd_create: %s",
                             strerror(errno));
    }
    if (ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        ret = vhu_error_set(err, errno, 0, bytes,
                            "inflight buffer of %" PRIu64 " bytes: %s", bytes,
                            strerror(errno));
        close(fd);
        return ret;
    }
    return fd;
}

VhuInflight *vhu_inflight_create(VhuInflightArea *area, bool packed, int *fd,
                                 VhuError *err)
{
    VhuInflight *inflight;
    int memfd;

    if (check_area(area, err) < 0) {
        return NULL;
    }
    area->mmap_offset = 0;
    area->mmap_size =
        area->num_queues * vhu_inflight_queue_bytes(packed, area->queue_size);
    memfd = create_memfd(area->mmap_size, err);
    if (memfd < 0) {
        return NULL;
    }
    inflight = vhu_inflight_map(area, packed, memfd, -1, err);
    if (!inflight) {
        close(memfd);
        return NULL;
    }
    *fd = memfd;
    return inflight;
}

VhuInflight *vhu_inflight_ref(VhuInflight *inflight)
{
    atomic_fetch_add_explicit(&inflight->refs, 1, memory_order_relaxed);
    return inflight;
}

void vhu_inflight_unref(VhuInflight *inflight)
{
    if (!inflight || atomic_fetch_sub_explicit(&inflight->refs, 1,
                                               memory_order_acq_rel) > 1) {
        return;
    }
    vhu_mapping_close(&inflight->mapping);
    free(inflight);
}

void *vhu_inflight_queue(VhuInflight *inflight, uint16_t index)
{
    if (index >= inflight->num_queues) {
        return NULL;
    }
    return inflight->mapping.local + index * inflight->queue_bytes;
}

uint16_t vhu_inflight_queue_size(const VhuInflight *inflight)
{
    return inflight->queue_size;
}

bool vhu_inflight_used(const VhuInflight *inflight, uint16_t index)
{
    const uint8_t *region;
    size_t version = inflight->packed ? offsetof(QueueRegionPacked, version)
                                      : offsetof(QueueRegionSplit, version);

    if (index >= inflight->num_queues) {
        return false;
    }
    region = inflight->mapping.local + index * inflight->queue_bytes;
    return vhu_load16((const uint16_t *)(const void *)(region + version)) != 0;
}
