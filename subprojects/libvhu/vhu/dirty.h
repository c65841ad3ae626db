/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log of a migration: a shared bitmap of guest pages, counted so
 * that data threads may still mark the old one while a new one comes.
 */
#ifndef VHU_DIRTY_H
#define VHU_DIRTY_H

#include "vhu/memory.h"

/* vhost-user, "Migration". */
#define VHU_LOG_PAGE_BYTES 4096u

typedef struct VhuDirtyLog VhuDirtyLog;

/**
 * Map a log.
 * @fd:   borrowed
 * @area: size and offset in bytes, as SET_LOG_BASE has them
 * @lost_fd: as of vhu_memory_new; -1: none
 * @err:  may be NULL
 * Returns one reference, or NULL (size 0, past the file's end, mmap).
 * Control thread. vhost-user, "Migration", "Log description".
 */
VHU_API VhuDirtyLog *vhu_dirty_new(int fd, const VhuLogArea *area, int lost_fd,
                                   VhuError *err);

/** One more reference. Any thread. Returns @log. */
VHU_API VhuDirtyLog *vhu_dirty_ref(VhuDirtyLog *log);

/** One reference less. @log: may be NULL. Any thread. */
VHU_API void vhu_dirty_unref(VhuDirtyLog *log);

/**
 * Mark the pages of a range dirty.
 * @addr: guest physical (or the ring's log address)
 * @size: bytes; 0 marks nothing
 * Returns false if part of it lies beyond the log; the rest is marked.
 * Any thread; atomic with other markers and the front end's reading.
 */
VHU_API bool vhu_dirty_mark(VhuDirtyLog *log, VhuGuestAddr addr, uint64_t size);

/** Mark local memory dirty, through its guest address. Any thread. */
VHU_API bool vhu_dirty_mark_local(VhuDirtyLog *log, const VhuMemory *memory,
                                  const void *local, uint64_t size);

#endif
