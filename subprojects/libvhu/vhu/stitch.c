/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns views that make scattered pages of guest memory contiguous: behind an
 * IOMMU a ring part is contiguous in I/O virtual addresses only. A view maps
 * the same pages a second time, side by side.
 */
#include "vhu/backend-internal.h"

#include "vhu/guard-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The IOMMU's smallest page, and so the grain of the pieces. */
#define PAGE_BYTES 4096u

struct VhuStitch {
    uint8_t *base;
    size_t bytes;
    VhuGuard *guard;
};

/* Only the first piece may begin, and only the last end, inside a page. */
static bool pieces_fit(const struct iovec *pieces, int num)
{
    for (int i = 0; i < num; i++) {
        const uintptr_t start = (uintptr_t)pieces[i].iov_base;
        const uintptr_t end = start + pieces[i].iov_len;

        if ((i > 0 && start % PAGE_BYTES) ||
            (i < num - 1 && end % PAGE_BYTES)) {
            return false;
        }
    }
    return true;
}

/* mremap of 0 bytes of a shared mapping maps the same pages once more. */
static int map_pieces(VhuStitch *stitch, const struct iovec *pieces, int num)
{
    uint8_t *at = stitch->base;

    for (int i = 0; i < num; i++) {
        const uintptr_t start = (uintptr_t)pieces[i].iov_base;
        const uintptr_t first = start & ~(uintptr_t)(PAGE_BYTES - 1);
        const size_t bytes =
            (start + pieces[i].iov_len - first + PAGE_BYTES - 1) &
            ~(size_t)(PAGE_BYTES - 1);

        if (mremap((void *)first, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                   at) == MAP_FAILED) {
            return -errno;
        }
        at += bytes;
    }
    return 0;
}

static size_t view_bytes(const struct iovec *pieces, int num)
{
    size_t bytes = (uintptr_t)pieces[0].iov_base % PAGE_BYTES;

    for (int i = 0; i < num; i++) {
        bytes += pieces[i].iov_len;
    }
    return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

VhuStitch *vhu_stitch_new(const struct iovec *pieces, int num, int lost_fd,
                          void **local)
{
    VhuStitch *stitch = calloc(1, sizeof(*stitch));

    if (!stitch || !pieces_fit(pieces, num)) {
        free(stitch);
        return NULL;
    }
    stitch->bytes = view_bytes(pieces, num);
    stitch->base = mmap(NULL, stitch->bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stitch->base == MAP_FAILED) {
        free(stitch);
        return NULL;
    }
    stitch->guard =
        vhu_guard_add(stitch->base, stitch->bytes, PAGE_BYTES, lost_fd);
    if (!stitch->guard || map_pieces(stitch, pieces, num) < 0) {
        vhu_stitch_free(stitch);
        return NULL;
    }
    *local = stitch->base + (uintptr_t)pieces[0].iov_base % PAGE_BYTES;
    return stitch;
}

void vhu_stitch_free(VhuStitch *stitch)
{
    if (stitch) {
        vhu_guard_remove(stitch->guard);
        munmap(stitch->base, stitch->bytes);
        free(stitch);
    }
}
