/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end's part of postcopy migration: a userfaultfd over the mappings.
 */
#ifndef VHU_POSTCOPY_H
#define VHU_POSTCOPY_H

#include "vhu/memory.h"

/** Whether a userfaultfd that serves shared memory can be had here: decides
 * if PAGEFAULT is offered. Any thread. */
VHU_API bool vhu_postcopy_available(void);

/**
 * POSTCOPY_ADVISE: open and shake hands.
 * @err: may be NULL
 * Returns the userfaultfd, non-blocking, for vhu_postcopy_close, or -errno.
 * Control thread. vhost-user, "VHOST_USER_POSTCOPY_ADVISE".
 */
VHU_API int vhu_postcopy_open(VhuError *err);

/**
 * Register every region of a snapshot for missing pages; those registered
 * before may be among them.
 * @uffd: from vhu_postcopy_open
 * @err:  may be NULL
 * Returns 0 or -errno; then vhu_postcopy_close undoes the part that was done.
 * Control thread.
 * vhost-user, "VHOST_USER_POSTCOPY_LISTEN".
 */
VHU_API int vhu_postcopy_register(int uffd, const VhuMemory *memory,
                                  VhuError *err);

/**
 * POSTCOPY_END, or the end of the connection: no page is waited for any more,
 * even while the front end keeps its copy of the userfaultfd open. Who waits
 * goes on; pages that never came read as zero.
 * @uffd:   from vhu_postcopy_open, closed; -1: nothing to do
 * @memory: what was registered last; NULL: nothing
 * Control thread. vhost-user, "VHOST_USER_POSTCOPY_END".
 */
VHU_API void vhu_postcopy_close(int uffd, const VhuMemory *memory);

/**
 * The local bases of a table's regions, for the reply to SET_MEM_TABLE or
 * ADD_MEM_REG: user_addr of each is replaced by our address of it.
 * @table: in and out
 * Returns 0, or -ENOENT for a region not in the snapshot. Control thread.
 */
VHU_API int vhu_postcopy_bases(const VhuMemory *memory, VhuMemTable *table);

#endif
