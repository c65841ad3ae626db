/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the marking of dirty guest pages in the log the front end shares. Does
 * not know who writes to guest memory: whoever does marks it afterwards.
 */
#include "vhu/dirty.h"

#include "vhu/mapping-internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct VhuDirtyLog {
    atomic_uint refs;
    uint64_t size; /* bytes of the bitmap */
    VhuMapping mapping;
};

VhuDirtyLog *vhu_dirty_new(int fd, const VhuLogArea *area, int lost_fd,
                           VhuError *err)
{
    VhuFileRange range = {area->offset, area->size};
    VhuDirtyLog *log = calloc(1, sizeof(*log));

    if (!log) {
        vhu_error_set(err, ENOMEM, VHOST_USER_SET_LOG_BASE, 0, "out of memory");
        return NULL;
    }
    if (vhu_mapping_open(&log->mapping, fd, range, lost_fd, err) < 0) {
        if (err) {
            err->request = VHOST_USER_SET_LOG_BASE;
        }
        vhu_error_prefix(err, "dirty log: ");
        free(log);
        return NULL;
    }
    atomic_init(&log->refs, 1);
    log->size = area->size;
    return log;
}

VhuDirtyLog *vhu_dirty_ref(VhuDirtyLog *log)
{
    atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
    return log;
}

void vhu_dirty_unref(VhuDirtyLog *log)
{
    if (log &&
        atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) == 1) {
        vhu_mapping_close(&log->mapping);
        free(log);
    }
}

/*
 * Set bits of one byte. Also where they are set already: the front end takes
 * a byte and only then reads the pages, so our data must be visible before
 * the byte is written, and a byte merely looked at orders nothing.
 */
static void log_or(VhuDirtyLog *log, uint64_t byte, uint8_t bits)
{
    _Atomic(uint8_t) *at = (_Atomic(uint8_t) *)(log->mapping.local + byte);

    atomic_fetch_or_explicit(at, bits, memory_order_release);
}

bool vhu_dirty_mark(VhuDirtyLog *log, VhuGuestAddr addr, uint64_t size)
{
    uint64_t page = addr / VHU_LOG_PAGE_BYTES;
    uint64_t end; /* last page */
    bool inside = true;

    if (size == 0) {
        return true;
    }
    if (__builtin_add_overflow(addr, size - 1, &end)) {
        end = UINT64_MAX; /* beyond any log */
    }
    end /= VHU_LOG_PAGE_BYTES;
    /* A page has a bit if its byte is there: no bit count can overflow. */
    if (end / 8 >= log->size) {
        end = log->size * 8 - 1;
        inside = false;
    }
    while (page <= end) {
        unsigned first = page % 8;
        unsigned last = end - page < 7 - first ? first + (end - page) : 7;

        log_or(log, page / 8,
               (uint8_t)((0xffu << first) & (0xffu >> (7 - last))));
        page += last - first + 1;
    }
    return inside;
}

bool vhu_dirty_mark_local(VhuDirtyLog *log, const VhuMemory *memory,
                          const void *local, uint64_t size)
{
    const uint8_t *at = local;
    VhuGuestAddr addr = 0;
    bool inside = true;
    uint64_t piece;

    while (size > 0) {
        piece = vhu_memory_ptr_guest(memory, at, &addr);
        if (piece == 0) {
            return false;
        }
        piece = piece < size ? piece : size;
        inside &= vhu_dirty_mark(log, addr, piece);
        at += piece;
        size -= piece;
    }
    return inside;
}
