/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device IOTLB: what the front end told about I/O virtual addresses, and
 * one translation for both worlds (with and without an IOMMU).
 */
#ifndef VHU_IOTLB_H
#define VHU_IOTLB_H

#include "vhu/memory.h"

typedef struct VhuIotlb VhuIotlb;

/* Entries kept; past it, UPDATE evicts the oldest (a miss fetches it anew). */
#define VHU_IOTLB_ENTRIES 65536u

/** An empty IOTLB, or NULL without memory. */
VHU_API VhuIotlb *vhu_iotlb_new(void);

/** Free it. No thread may use it any more. @iotlb: may be NULL. */
VHU_API void vhu_iotlb_free(VhuIotlb *iotlb);

/**
 * Apply an UPDATE or INVALIDATE.
 * @msg:    from the front end
 * @memory: an update must lie within its regions
 * @err:    may be NULL
 * Returns 0, -EINVAL (type, permissions, range) or -ENOMEM. An update over
 * older entries replaces what it overlaps; an invalidation cuts entries it
 * covers in part. Once it returns, no translation uses what was replaced; one
 * made before may still be in use. An update may also say that there is no
 * access: permissions of 0. Any thread. vhost-user, "IOMMU support".
 */
VHU_API int vhu_iotlb_apply(VhuIotlb *iotlb, const VhuIotlbMsg *msg,
                            const VhuMemory *memory, VhuError *err);

/** Forget every entry; counts as a change. Any thread. */
VHU_API void vhu_iotlb_clear(VhuIotlb *iotlb);

/** Number of changes applied so far: a change tells rings to look again.
 * Any thread. */
VHU_API uint64_t vhu_iotlb_generation(const VhuIotlb *iotlb);

/* How a ring reaches memory. */
typedef struct VhuTranslator {
    const VhuMemory *memory;
    VhuIotlb *iotlb; /* NULL: addresses are guest physical */
} VhuTranslator;

typedef struct VhuIotlbMiss {
    VhuGuestAddr iova;
    uint8_t perm; /* VHOST_ACCESS_* that is needed */
} VhuIotlbMiss;

/* What a ring wants to reach. */
typedef struct VhuRange {
    VhuGuestAddr addr; /* guest physical, or IOVA */
    uint64_t size;     /* bytes; 0: nothing */
    uint8_t perm;      /* VHOST_ACCESS_RO, _WO or _RW */
} VhuRange;

/**
 * Append the pieces of a range to a vector.
 * @range: the range
 * @iov:   vector with room for @room entries
 * @miss:  on -EAGAIN, and on -EFAULT where an entry does not permit the
 *         access, what was needed there; else its perm is 0
 * Returns the number appended, -EFAULT (unmapped, overflow, or an entry that
 * does not permit it), -E2BIG, or -EAGAIN if the IOTLB lacks an entry.
 * Any thread. vhost-user, "IOMMU support".
 */
VHU_API int vhu_translate(const VhuTranslator *translator,
                          const VhuRange *range, struct iovec *iov, int room,
                          VhuIotlbMiss *miss);

#endif
