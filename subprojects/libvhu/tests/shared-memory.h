/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the guest memory that the memory tests share: one file, two views. */
#ifndef TESTS_SHARED_MEMORY_H
#define TESTS_SHARED_MEMORY_H

#include "vhu/memory.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PAGE 4096u

/* A memfd of some pages, each filled with its number + 1. */
static inline int shared_file(unsigned pages)
{
    int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    uint8_t bytes[PAGE];
    unsigned i;

    g_assert_cmpint(fd, >=, 0);
    for (i = 0; i < pages; i++) {
        memset(bytes, (int)(i + 1), sizeof(bytes));
        g_assert_cmpint(pwrite(fd, bytes, PAGE, (off_t)i * PAGE), ==, PAGE);
    }
    return fd;
}

/* A memfd of one huge page of the system's default size, or -1. Whether there
 * is a page to be had, the first access tells. */
static inline int shared_huge_file(uint64_t *page_bytes)
{
    int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    struct statfs fs;

    if (fd >= 0) {
        g_assert_cmpint(fstatfs(fd, &fs), ==, 0);
        *page_bytes = (uint64_t)fs.f_bsize;
        g_assert_cmpint(ftruncate(fd, (off_t)fs.f_bsize), ==, 0);
    }
    return fd;
}

static inline VhuMemRegion shared_region(uint64_t guest, uint64_t user,
                                         uint64_t pages, uint64_t offset)
{
    return (VhuMemRegion){
        .guest_addr = guest,
        .user_addr = user,
        .size = pages * PAGE,
        .mmap_offset = offset,
    };
}

/* A snapshot of regions of one file, which is closed. */
static inline VhuMemory *shared_memory(const VhuMemRegion *regions,
                                       uint32_t num, int fd, int lost_fd)
{
    g_autofree VhuMemTable *table = g_new0(VhuMemTable, 1);
    int fds[VHU_MAX_TABLE_REGIONS];
    VhuMemory *empty = vhu_memory_new(lost_fd);
    VhuMemory *memory;
    VhuError err = {0};
    uint32_t i;

    table->num_regions = num;
    for (i = 0; i < num; i++) {
        table->regions[i] = regions[i];
        fds[i] = fd;
    }
    memory = vhu_memory_with_table(empty, table, fds, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(memory);
    vhu_memory_unref(empty);
    close(fd);
    return memory;
}

#endif
