/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the mapping of a peer's fd: checks of its size, alignment, huge pages.
 * Does not know what the memory is for.
 */
#include "vhu/mapping-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The unit in which the file can be mapped. */
static uint64_t mapping_page_bytes(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC &&
        fs.f_bsize > 0) {
        return (uint64_t)fs.f_bsize;
    }
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool mapping_is_shrinkable(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals < 0 || !(seals & F_SEAL_SHRINK);
}

/* That the range is one, fits the types used here and lies in the file. */
static int mapping_check(const struct stat *st, VhuFileRange range,
                         uint64_t page_bytes, VhuError *err)
{
    uint64_t end;

    if (range.size == 0) {
        return vhu_error_set(err, EINVAL, 0, 0, "size is 0");
    }
    if (__builtin_add_overflow(range.offset, range.size, &end) ||
        end > (uint64_t)INT64_MAX - page_bytes ||
        range.size > SIZE_MAX - 2 * page_bytes) {
        return vhu_error_set(err, EINVAL, 0, range.size,
                             "offset 0x%" PRIx64 " plus size 0x%" PRIx64
                             " overflows",
                             range.offset, range.size);
    }
    /* A device may not know its size; a file does, also a size of 0. */
    if ((S_ISREG(st->st_mode) || st->st_size > 0) &&
        (st->st_size < 0 || end > (uint64_t)st->st_size)) {
        return vhu_error_set(err, EINVAL, 0, end,
                             "offset 0x%" PRIx64 " plus size 0x%" PRIx64
                             " is past the end of a file of 0x%" PRIx64
                             " bytes",
                             range.offset, range.size, (uint64_t)st->st_size);
    }
    return 0;
}

int vhu_mapping_open(VhuMapping *mapping, int fd, VhuFileRange range,
                     int lost_fd, VhuError *err)
{
    uint64_t page_bytes = mapping_page_bytes(fd);
    uint64_t inside = range.offset & (page_bytes - 1);
    VhuMapping map = {
        .page_bytes = page_bytes,
        .range = range,
    };
    struct stat st;
    int ret;

    if (fstat(fd, &st) < 0) {
        return vhu_error_set(err, errno, 0, 0, "fstat: %s", strerror(errno));
    }
    ret = mapping_check(&st, range, page_bytes, err);
    if (ret < 0) {
        return ret;
    }
    map.length = (inside + range.size + page_bytes - 1) & ~(page_bytes - 1);
    map.base =
        mmap(NULL, map.length, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_NORESERVE, fd, (off_t)(range.offset - inside));
    if (map.base == MAP_FAILED) {
        return vhu_error_set(err, errno, 0, range.size,
                             "mmap of 0x%zx bytes at offset 0x%" PRIx64 ": %s",
                             map.length, range.offset - inside,
                             strerror(errno));
    }
    /* A core dump is about the back end; guest memory would drown it. */
    madvise(map.base, map.length, MADV_DONTDUMP);
    map.local = map.base + inside;
    map.shrinkable = mapping_is_shrinkable(fd);
    map.regular = S_ISREG(st.st_mode);
    map.device = st.st_dev;
    map.inode = st.st_ino;
    map.guard = vhu_guard_add(map.base, map.length, page_bytes, lost_fd);
    if (!map.guard) {
        munmap(map.base, map.length);
        return vhu_error_set(err, ENOMEM, 0, 0, "no memory for a guard");
    }
    *mapping = map;
    return 0;
}

void vhu_mapping_close(VhuMapping *mapping)
{
    vhu_guard_remove(mapping->guard);
    munmap(mapping->base, mapping->length);
}

bool vhu_mapping_lost(const VhuMapping *mapping)
{
    return vhu_guard_lost(mapping->guard);
}

bool vhu_mapping_is(const VhuMapping *mapping, int fd, VhuFileRange range)
{
    struct stat st;

    /* While we hold the file, its inode number cannot be given to another. */
    return mapping->regular && mapping->range.offset == range.offset &&
           mapping->range.size == range.size && fstat(fd, &st) == 0 &&
           st.st_dev == mapping->device && st.st_ino == mapping->inode &&
           mapping_check(&st, range, mapping->page_bytes, NULL) == 0;
}
