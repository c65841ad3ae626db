/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the snapshots of guest memory and the lookup of addresses in them. The
 * mappings themselves are vhu/mapping-internal's; what an I/O virtual address
 * means is vhu/iotlb's.
 *
 * Theory of operation. A snapshot never changes once it is returned, so its
 * readers take no lock. It counts its references; so does each region, which
 * the snapshots before and after a change share. Three arrays of the same
 * regions, each sorted by one kind of address, make a lookup a binary search
 * over at most 509 entries.
 */
#include "vhu/memory.h"

#include "vhu/mapping-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

/* One mapping of the front end's, shared by snapshots. */
typedef struct Region {
    atomic_uint refs;
    VhuGuestAddr guest_addr;
    VhuUserAddr user_addr;
    uint64_t size; /* bytes */
    VhuMapping mapping;
} Region;

/* A region as one address space sees it. */
typedef struct Span {
    uint64_t start;  /* first address */
    uint64_t extent; /* last address - start, so that no end overflows */
    uint64_t target; /* what start is elsewhere: local, or guest physical */
} Span;

/* All regions as one address space sees them, sorted by start. */
typedef struct Spans {
    Span *at;
    uint32_t num;
} Spans;

struct VhuMemory {
    atomic_uint refs;
    int lost_fd; /* borrowed; -1: none */
    uint32_t num_regions;
    Region **regions; /* in the order the front end told them */
    Spans by_guest;   /* to local */
    Spans by_user;    /* to local */
    Spans by_local;   /* to guest physical */
};

/* ---- Regions ---- */

static Region *region_ref(Region *region)
{
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
    return region;
}

static void region_unref(Region *region)
{
    if (atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) ==
        1) {
        vhu_mapping_close(&region->mapping);
        free(region);
    }
}

static bool region_is(const Region *region, const VhuMemRegion *wanted)
{
    return region->guest_addr == wanted->guest_addr &&
           region->user_addr == wanted->user_addr &&
           region->size == wanted->size;
}

static Region *region_map(const VhuMemRegion *wanted, int fd, int lost_fd,
                          VhuError *err)
{
    VhuFileRange range = {wanted->mmap_offset, wanted->size};
    Region *region;

    if (wanted->size == 0) {
        vhu_error_set(err, EINVAL, 0, 0, "size is 0");
        return NULL;
    }
    if (wanted->guest_addr > UINT64_MAX - (wanted->size - 1)) {
        vhu_error_set(err, EINVAL, 0, wanted->guest_addr,
                      "guest address plus size overflows");
        return NULL;
    }
    if (wanted->user_addr > UINT64_MAX - (wanted->size - 1)) {
        vhu_error_set(err, EINVAL, 0, wanted->user_addr,
                      "user address 0x%" PRIx64 " plus size overflows",
                      wanted->user_addr);
        return NULL;
    }
    region = calloc(1, sizeof(*region));
    if (!region) {
        vhu_error_set(err, ENOMEM, 0, 0, "out of memory");
        return NULL;
    }
    if (vhu_mapping_open(&region->mapping, fd, range, lost_fd, err) < 0) {
        free(region);
        return NULL;
    }
    atomic_init(&region->refs, 1);
    region->guest_addr = wanted->guest_addr;
    region->user_addr = wanted->user_addr;
    region->size = wanted->size;
    return region;
}

/* The region mapped before, if it is there and unharmed, or a new one. */
static Region *region_get(VhuMemory *before, const VhuMemRegion *wanted, int fd,
                          uint32_t request, VhuError *err)
{
    VhuFileRange range = {wanted->mmap_offset, wanted->size};
    Region *region;
    uint32_t i;

    for (i = 0; i < before->num_regions; i++) {
        region = before->regions[i];
        if (region_is(region, wanted) && !vhu_mapping_lost(&region->mapping) &&
            vhu_mapping_is(&region->mapping, fd, range)) {
            return region_ref(region);
        }
    }
    region = region_map(wanted, fd, before->lost_fd, err);
    if (!region) {
        if (err) {
            err->request = request;
        }
        vhu_error_prefix(err,
                         "memory region at guest address 0x%" PRIx64
                         ", size 0x%" PRIx64 ": ",
                         wanted->guest_addr, wanted->size);
    }
    return region;
}

/* ---- Snapshots ---- */

static int span_compare(const void *a, const void *b)
{
    uint64_t start_a = ((const Span *)a)->start;
    uint64_t start_b = ((const Span *)b)->start;

    return (start_a > start_b) - (start_a < start_b);
}

static void spans_sort(Spans spans)
{
    qsort(spans.at, spans.num, sizeof(Span), span_compare);
}

static int spans_check(Spans spans, const char *space, uint32_t request,
                       VhuError *err)
{
    uint32_t i;

    for (i = 1; i < spans.num; i++) {
        const Span *low = &spans.at[i - 1];
        const Span *high = &spans.at[i];

        if (high->start - low->start <= low->extent) {
            return vhu_error_set(
                err, EINVAL, request, high->start,
                "memory regions overlap in %s addresses: 0x%" PRIx64
                "-0x%" PRIx64 " and 0x%" PRIx64 "-0x%" PRIx64,
                space, low->start, low->start + low->extent, high->start,
                high->start + high->extent);
        }
    }
    return 0;
}

/* A snapshot with room for regions, one reference, none of them filled in. */
static VhuMemory *snapshot_new(uint32_t num_regions, int lost_fd)
{
    size_t regions_bytes = num_regions * sizeof(Region *);
    size_t spans_bytes = num_regions * sizeof(Span);
    VhuMemory *memory;
    char *room;

    memory = calloc(1, sizeof(*memory) + 3 * spans_bytes + regions_bytes);
    if (!memory) {
        return NULL;
    }
    atomic_init(&memory->refs, 1);
    memory->lost_fd = lost_fd;
    room = (char *)(memory + 1);
    memory->by_guest.at = (Span *)room;
    memory->by_user.at = (Span *)(room + spans_bytes);
    memory->by_local.at = (Span *)(room + 2 * spans_bytes);
    memory->regions = (Region **)(room + 3 * spans_bytes);
    return memory;
}

/* Give the snapshot a region; it takes the reference. */
static void snapshot_add(VhuMemory *memory, Region *region)
{
    uint64_t local = (uintptr_t)region->mapping.local;
    uint64_t extent = region->size - 1;

    memory->regions[memory->num_regions++] = region;
    memory->by_guest.at[memory->by_guest.num++] =
        (Span){region->guest_addr, extent, local};
    memory->by_user.at[memory->by_user.num++] =
        (Span){region->user_addr, extent, local};
    memory->by_local.at[memory->by_local.num++] =
        (Span){local, extent, region->guest_addr};
}

/*
 * Make a filled snapshot ready for lookups. Consumes its reference if the
 * regions do not go together.
 */
static VhuMemory *snapshot_finish(VhuMemory *memory, uint32_t request,
                                  VhuError *err)
{
    spans_sort(memory->by_guest);
    spans_sort(memory->by_user);
    spans_sort(memory->by_local);
    if (spans_check(memory->by_guest, "guest", request, err) < 0 ||
        spans_check(memory->by_user, "user", request, err) < 0) {
        vhu_memory_unref(memory);
        return NULL;
    }
    return memory;
}

VhuMemory *vhu_memory_new(int lost_fd)
{
    return snapshot_new(0, lost_fd);
}

VhuMemory *vhu_memory_ref(VhuMemory *memory)
{
    atomic_fetch_add_explicit(&memory->refs, 1, memory_order_relaxed);
    return memory;
}

void vhu_memory_unref(VhuMemory *memory)
{
    uint32_t i;

    if (!memory || atomic_fetch_sub_explicit(&memory->refs, 1,
                                             memory_order_acq_rel) != 1) {
        return;
    }
    for (i = 0; i < memory->num_regions; i++) {
        region_unref(memory->regions[i]);
    }
    free(memory);
}

VhuMemory *vhu_memory_with_table(VhuMemory *memory, const VhuMemTable *table,
                                 const int *fds, VhuError *err)
{
    VhuMemory *after;
    Region *region;
    uint32_t i;

    if (table->num_regions > VHU_MAX_TABLE_REGIONS) {
        vhu_error_set(err, EINVAL, VHOST_USER_SET_MEM_TABLE, table->num_regions,
                      "memory table has %" PRIu32 " regions, at most %u fit",
                      table->num_regions, VHU_MAX_TABLE_REGIONS);
        return NULL;
    }
    after = snapshot_new(table->num_regions, memory->lost_fd);
    if (!after) {
        vhu_error_set(err, ENOMEM, VHOST_USER_SET_MEM_TABLE, 0,
                      "out of memory");
        return NULL;
    }
    for (i = 0; i < table->num_regions; i++) {
        region = region_get(memory, &table->regions[i], fds[i],
                            VHOST_USER_SET_MEM_TABLE, err);
        if (!region) {
            vhu_memory_unref(after);
            return NULL;
        }
        snapshot_add(after, region);
    }
    return snapshot_finish(after, VHOST_USER_SET_MEM_TABLE, err);
}

/* A snapshot of all regions but one, with room for @more. */
static VhuMemory *snapshot_copy(VhuMemory *memory, const Region *but,
                                uint32_t more)
{
    VhuMemory *after =
        snapshot_new(memory->num_regions + more, memory->lost_fd);
    uint32_t i;

    for (i = 0; after && i < memory->num_regions; i++) {
        if (memory->regions[i] != but) {
            snapshot_add(after, region_ref(memory->regions[i]));
        }
    }
    return after;
}

VhuMemory *vhu_memory_with_region(VhuMemory *memory, const VhuMemRegion *region,
                                  int fd, VhuError *err)
{
    VhuMemory *after;
    Region *added;

    if (memory->num_regions >= VHU_MAX_MEM_SLOTS) {
        vhu_error_set(err, ENOSPC, VHOST_USER_ADD_MEM_REG, memory->num_regions,
                      "all %u memory slots are in use", VHU_MAX_MEM_SLOTS);
        return NULL;
    }
    after = snapshot_copy(memory, NULL, 1);
    if (!after) {
        vhu_error_set(err, ENOMEM, VHOST_USER_ADD_MEM_REG, 0, "out of memory");
        return NULL;
    }
    added = region_get(memory, region, fd, VHOST_USER_ADD_MEM_REG, err);
    if (!added) {
        vhu_memory_unref(after);
        return NULL;
    }
    snapshot_add(after, added);
    return snapshot_finish(after, VHOST_USER_ADD_MEM_REG, err);
}

VhuMemory *vhu_memory_without_region(VhuMemory *memory,
                                     const VhuMemRegion *region, VhuError *err)
{
    VhuMemory *after;
    uint32_t i;

    for (i = 0; i < memory->num_regions; i++) {
        if (region_is(memory->regions[i], region)) {
            break;
        }
    }
    if (i == memory->num_regions) {
        vhu_error_set(err, ENOENT, VHOST_USER_REM_MEM_REG, region->guest_addr,
                      "no memory region at guest address 0x%" PRIx64
                      ", user address 0x%" PRIx64 ", size 0x%" PRIx64,
                      region->guest_addr, region->user_addr, region->size);
        return NULL;
    }
    after = snapshot_copy(memory, memory->regions[i], 0);
    if (!after) {
        vhu_error_set(err, ENOMEM, VHOST_USER_REM_MEM_REG, 0, "out of memory");
        return NULL;
    }
    return snapshot_finish(after, VHOST_USER_REM_MEM_REG, err);
}

/* ---- Facts ---- */

uint32_t vhu_memory_num_regions(const VhuMemory *memory)
{
    return memory->num_regions;
}

VhuRegionInfo vhu_memory_region(const VhuMemory *memory, uint32_t index)
{
    const Region *region = memory->regions[index];

    return (VhuRegionInfo){
        .guest_addr = region->guest_addr,
        .user_addr = region->user_addr,
        .size = region->size,
        .local = region->mapping.local,
        .page_bytes = region->mapping.page_bytes,
        .shrinkable = region->mapping.shrinkable,
    };
}

bool vhu_memory_lost(const VhuMemory *memory)
{
    uint32_t i;

    for (i = 0; i < memory->num_regions; i++) {
        if (vhu_mapping_lost(&memory->regions[i]->mapping)) {
            return true;
        }
    }
    return false;
}

void vhu_memory_guard_install(void)
{
    vhu_guard_install();
}

/* ---- Lookup ---- */

/* The span an address lies in, or NULL. */
static inline const Span *spans_find(Spans spans, uint64_t addr)
{
    const Span *span = spans.at;
    uint32_t num = spans.num;
    uint32_t half;

    if (num == 0) {
        return NULL;
    }
    /* The last span that starts at or below addr, without a branch on it. */
    while (num > 1) {
        half = num / 2;
        span += span[half].start <= addr ? half : 0;
        num -= half;
    }
    /* Below start, the difference wraps past any extent. */
    return addr - span->start <= span->extent ? span : NULL;
}

static void *spans_ptr(Spans spans, uint64_t addr, uint64_t size)
{
    const Span *span = spans_find(spans, addr);
    uint64_t offset;

    if (!span) {
        return NULL;
    }
    offset = addr - span->start;
    if (size > 1 && size - 1 > span->extent - offset) {
        return NULL;
    }
    return (void *)(uintptr_t)(span->target + offset);
}

void *vhu_memory_guest_ptr(const VhuMemory *memory, VhuGuestAddr addr,
                           uint64_t size)
{
    return spans_ptr(memory->by_guest, addr, size);
}

void *vhu_memory_user_ptr(const VhuMemory *memory, VhuUserAddr addr,
                          uint64_t size)
{
    return spans_ptr(memory->by_user, addr, size);
}

uint64_t vhu_memory_ptr_guest(const VhuMemory *memory, const void *local,
                              VhuGuestAddr *addr)
{
    uint64_t at = (uintptr_t)local;
    const Span *span = spans_find(memory->by_local, at);

    if (!span) {
        return 0;
    }
    *addr = span->target + (at - span->start);
    return span->extent - (at - span->start) + 1;
}

/* A range that crosses spans, piece by piece. */
static int spans_iov(Spans spans, uint64_t addr, uint64_t size,
                     struct iovec *iov, int room)
{
    const Span *span;
    uint64_t offset;
    uint64_t piece;
    int used = 0;

    if (size > 0 && addr > UINT64_MAX - (size - 1)) {
        return -EFAULT;
    }
    while (size > 0) {
        span = spans_find(spans, addr);
        if (!span) {
            return -EFAULT;
        }
        if (used == room) {
            return -E2BIG;
        }
        offset = addr - span->start;
        piece = span->extent - offset;
        piece = size - 1 < piece ? size : piece + 1;
        iov[used].iov_base = (void *)(uintptr_t)(span->target + offset);
        iov[used].iov_len = (size_t)piece;
        used++;
        addr += piece;
        size -= piece;
    }
    return used;
}

int vhu_memory_guest_iov(const VhuMemory *memory, VhuGuestAddr addr,
                         uint64_t size, struct iovec *iov, int room)
{
    return spans_iov(memory->by_guest, addr, size, iov, room);
}

int vhu_memory_user_iov(const VhuMemory *memory, VhuUserAddr addr,
                        uint64_t size, struct iovec *iov, int room)
{
    return spans_iov(memory->by_user, addr, size, iov, room);
}
