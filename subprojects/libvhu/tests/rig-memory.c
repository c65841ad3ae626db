/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the guest memory of a rig: a memfd cut into regions, and giving pieces
 * of it out. The regions lie in the file in reverse order, so that an offset
 * into one address space never works in another.
 */
#include "tests/rig-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES    4096u
#define DEFAULT_BYTES (16u << 20)
/* Hole between two regions in the front end's address space. */
#define USER_GAP (1ULL << 30)

static void map_region(RigMemory *memory, unsigned index, uint64_t bytes)
{
    VhuMemRegion *region = &memory->regions[index];
    uint8_t *at = memory->local + index * bytes;

    region->guest_addr = RIG_GUEST_BASE + index * bytes;
    region->user_addr = RIG_USER_BASE + index * (bytes + USER_GAP);
    region->size = bytes;
    region->mmap_offset = (memory->num_regions - 1 - index) * bytes;
    memory->fds[index] = memory->fd;
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             memory->fd, (off_t)region->mmap_offset) != at) {
        rig_fail("guest memory: %s", g_strerror(errno));
    }
}

void rig_memory_init(Rig *rig)
{
    RigMemory *memory = &rig->memory;
    const unsigned num = MAX(rig->config.num_regions, 1);
    uint64_t bytes =
        rig->config.memory_bytes ? rig->config.memory_bytes : DEFAULT_BYTES;

    bytes = (bytes / num + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    memory->num_regions = num;
    memory->bytes = bytes * num;
    memory->regions = g_new0(VhuMemRegion, num);
    memory->fds = g_new0(int, num);
    memory->orders = g_malloc0(memory->bytes / RIG_SLICE);
    memory->fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory->fd < 0 || ftruncate(memory->fd, (off_t)memory->bytes) < 0) {
        rig_fail("guest memory: %s", g_strerror(errno));
    }
    memory->local = mmap(NULL, memory->bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory->local == MAP_FAILED) {
        rig_fail("guest memory: %s", g_strerror(errno));
    }
    for (unsigned i = 0; i < num; i++) {
        map_region(memory, i, bytes);
    }
}

void rig_memory_clear(Rig *rig)
{
    RigMemory *memory = &rig->memory;

    for (unsigned i = 0; i < G_N_ELEMENTS(memory->free); i++) {
        if (memory->free[i]) {
            g_queue_free(memory->free[i]);
        }
    }
    munmap(memory->local, memory->bytes);
    close(memory->fd);
    g_free(memory->orders);
    g_free(memory->regions);
    g_free(memory->fds);
}

static unsigned order_of(size_t bytes)
{
    unsigned order = 4; /* RIG_SLICE */

    while ((1ULL << order) < bytes) {
        order++;
    }
    return order;
}

void *rig_alloc(Rig *rig, size_t bytes)
{
    RigMemory *memory = &rig->memory;
    const unsigned order = order_of(bytes);
    const uint64_t size = 1ULL << order;
    const uint64_t align = MIN(size, PAGE_BYTES);
    uint64_t offset;

    if (memory->free[order] && !g_queue_is_empty(memory->free[order])) {
        offset = (uint64_t)(uintptr_t)g_queue_pop_tail(memory->free[order]);
    } else {
        offset = (memory->top + align - 1) / align * align;
        if (offset + size > memory->bytes) {
            rig_fail(
                "guest memory is used up: %zu bytes wanted, %" G_GUINT64_FORMAT
                " in all",
                bytes, memory->bytes);
        }
        memory->top = offset + size;
    }
    memory->orders[offset / RIG_SLICE] = (uint8_t)order;
    return memset(memory->local + offset, 0, size);
}

void rig_release(Rig *rig, void *data)
{
    RigMemory *memory = &rig->memory;
    uint64_t offset;
    unsigned order;

    if (!data) {
        return;
    }
    offset = (uint64_t)((uint8_t *)data - memory->local);
    g_assert_cmpuint(offset, <, memory->bytes);
    order = memory->orders[offset / RIG_SLICE];
    g_assert_cmpuint(order, !=, 0); /* given out, and not given back twice */
    memory->orders[offset / RIG_SLICE] = 0;
    if (!memory->free[order]) {
        memory->free[order] = g_queue_new();
    }
    g_queue_push_tail(memory->free[order], (void *)(uintptr_t)offset);
}

VhuGuestAddr rig_guest_addr(const Rig *rig, const void *data)
{
    const uint64_t offset =
        (uint64_t)((const uint8_t *)data - rig->memory.local);

    g_assert_cmpuint(offset, <=, rig->memory.bytes);
    return RIG_GUEST_BASE + offset;
}

VhuGuestAddr rig_addr(const Rig *rig, const void *data)
{
    const VhuGuestAddr addr = rig_guest_addr(rig, data);

    return rig_features(rig) & RIG_BIT(VIRTIO_F_ACCESS_PLATFORM)
               ? addr - RIG_GUEST_BASE + RIG_IOVA_BASE
               : addr;
}

int rig_memory_fd(Rig *rig)
{
    return rig->memory.fd;
}

void *rig_local(Rig *rig, VhuGuestAddr addr)
{
    g_assert_cmphex(addr, >=, RIG_GUEST_BASE);
    g_assert_cmphex(addr - RIG_GUEST_BASE, <, rig->memory.bytes);
    return rig->memory.local + (addr - RIG_GUEST_BASE);
}

uint64_t rig_memory_bytes(const Rig *rig)
{
    return rig->memory.bytes;
}

uint64_t rig_region_bytes(const Rig *rig)
{
    return rig->memory.regions[0].size;
}

VhuMemRegion rig_region(const Rig *rig, unsigned index)
{
    g_assert_cmpuint(index, <, rig->memory.num_regions);
    return rig->memory.regions[index];
}

/* This process goes on with a copy, so that a look at a ring is no fault. */
void rig_truncate_memory(Rig *rig)
{
    RigMemory *memory = &rig->memory;
    g_autofree uint8_t *copy = g_malloc(memory->bytes);

    memcpy(copy, memory->local, memory->bytes);
    if (mmap(memory->local, memory->bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != memory->local ||
        ftruncate(memory->fd, 0) < 0) {
        rig_fail("truncating guest memory: %s", g_strerror(errno));
    }
    memcpy(memory->local, copy, memory->bytes);
}
