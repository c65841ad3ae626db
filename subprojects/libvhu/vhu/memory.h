/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest memory a front end shares: immutable, counted snapshots, so that
 * data threads read one without a lock while the control thread makes the
 * next. An element in flight keeps its snapshot, and with it the mappings.
 */
#ifndef VHU_MEMORY_H
#define VHU_MEMORY_H

#include "vhu/message.h"

#include <sys/uio.h>

/* Addresses of the three spaces; a local address is a void pointer. */
typedef uint64_t VhuGuestAddr; /* guest physical, or IOVA with an IOMMU */
typedef uint64_t VhuUserAddr;  /* virtual, in the front end */

typedef struct VhuMemory VhuMemory;

/**
 * A snapshot with no region.
 * @lost_fd: an eventfd written when a region is lost (SIGBUS), borrowed: it
 *           must outlive every snapshot made from this one; -1: none
 * Returns one reference, or NULL without memory.
 */
VHU_API VhuMemory *vhu_memory_new(int lost_fd);

/** One more reference. Any thread. Returns @memory. */
VHU_API VhuMemory *vhu_memory_ref(VhuMemory *memory);

/** One reference less; the last unmaps what no other snapshot holds.
 * @memory: may be NULL. Any thread. */
VHU_API void vhu_memory_unref(VhuMemory *memory);

/**
 * The snapshot after SET_MEM_TABLE: exactly these regions.
 * @memory: the one before; not changed, not consumed. Regions equal in
 *          addresses, size and file are carried over, not mapped anew.
 * @table:  the regions
 * @fds:    one fd per region; borrowed, the mapping outlives them
 * @err:    may be NULL
 * Returns one reference, or NULL: overlap in guest or user addresses, a size
 * of 0, an overflow, a file shorter than offset + size, mmap failed.
 * Control thread. vhost-user, "Memory access", "VHOST_USER_SET_MEM_TABLE".
 */
VHU_API VhuMemory *vhu_memory_with_table(VhuMemory *memory,
                                         const VhuMemTable *table,
                                         const int *fds, VhuError *err);

/**
 * The snapshot after ADD_MEM_REG. As vhu_memory_with_table; also NULL past
 * VHU_MAX_MEM_SLOTS regions. vhost-user, "VHOST_USER_ADD_MEM_REG".
 */
VHU_API VhuMemory *vhu_memory_with_region(VhuMemory *memory,
                                          const VhuMemRegion *region, int fd,
                                          VhuError *err);

/**
 * The snapshot after REM_MEM_REG: without the region of that guest address,
 * user address and size. NULL if there is none.
 * vhost-user, "VHOST_USER_REM_MEM_REG".
 */
VHU_API VhuMemory *vhu_memory_without_region(VhuMemory *memory,
                                             const VhuMemRegion *region,
                                             VhuError *err);

/** Number of regions. Any thread. */
VHU_API uint32_t vhu_memory_num_regions(const VhuMemory *memory);

typedef struct VhuRegionInfo {
    VhuGuestAddr guest_addr;
    VhuUserAddr user_addr;
    uint64_t size;       /* bytes */
    uint8_t *local;      /* where guest_addr is mapped here */
    uint64_t page_bytes; /* of the mapping: 4096, or of its hugetlbfs */
    bool shrinkable;     /* the file has no F_SEAL_SHRINK */
} VhuRegionInfo;

/** Facts of one region. @index: below vhu_memory_num_regions. Any thread. */
VHU_API VhuRegionInfo vhu_memory_region(const VhuMemory *memory,
                                        uint32_t index);

/**
 * Local address of a guest physical range that lies in one region.
 * @addr: guest physical
 * @size: bytes, may be 0
 * Returns it, or NULL. Any thread.
 */
VHU_API void *vhu_memory_guest_ptr(const VhuMemory *memory, VhuGuestAddr addr,
                                   uint64_t size);

/** Local address of a front-end-virtual range that lies in one region, or
 * NULL. Any thread. vhost-user, "Memory access". */
VHU_API void *vhu_memory_user_ptr(const VhuMemory *memory, VhuUserAddr addr,
                                  uint64_t size);

/**
 * Guest physical address of a local one, for the dirty log.
 * @local: inside a mapping
 * @addr:  filled if the return value is not 0
 * Returns the bytes from @local to the end of its region, 0 if it is in none.
 * Any thread.
 */
VHU_API uint64_t vhu_memory_ptr_guest(const VhuMemory *memory,
                                      const void *local, VhuGuestAddr *addr);

/**
 * Append the pieces of a guest physical range to a vector; a range that
 * crosses adjacent regions becomes several pieces.
 * @addr:  guest physical
 * @size:  bytes; 0 appends nothing
 * @iov:   vector with room for @room entries
 * Returns the number appended, -EFAULT if part of the range is unmapped or
 * overflows, -E2BIG if there is no room. Any thread.
 */
VHU_API int vhu_memory_guest_iov(const VhuMemory *memory, VhuGuestAddr addr,
                                 uint64_t size, struct iovec *iov, int room);

/** The same of a front-end-virtual range. Any thread. */
VHU_API int vhu_memory_user_iov(const VhuMemory *memory, VhuUserAddr addr,
                                uint64_t size, struct iovec *iov, int room);

/**
 * Whether a region was lost: its file was truncated under us. From then on
 * the region reads as zero from the page that faulted, and writes there go
 * nowhere; the connection must end. A system call that is handed such an
 * address fails with EFAULT instead, and loses nothing. Any thread.
 */
VHU_API bool vhu_memory_lost(const VhuMemory *memory);

/**
 * Install the process-wide SIGBUS handler that makes the above so; a fault
 * outside guest memory goes to the handler that was there before. SIGPIPE,
 * unless handled, is ignored from then on: a peer hands us pipes to write to.
 * Called by vhu_backend_new; again is harmless. Any thread.
 */
VHU_API void vhu_memory_guard_install(void);

#endif
