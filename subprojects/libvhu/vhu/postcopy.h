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
 * Returns the userfaultfd, owned by the caller, non-blocking, or -errno. When
 * its last copy is closed (ours and the front end's), what waits for a page
 * goes on with zeroes: close ours when the connection ends.
 * Control thread. vhost-user, "VHOST_USER_POSTCOPY_ADVISE".
 */
VHU_API int vhu_postcopy_open(VhuError *err);

/**
 * Register every region of a snapshot for missing pages; those registered
 * before may be among them.
 * @uffd: from vhu_postcopy_open
 * @err:  may be NULL
 * Returns 0 or -errno; then close the userfaultfd, which undoes the part that
 * was done. Control thread.
 * vhost-user, "VHOST_USER_POSTCOPY_LISTEN".
 */
VHU_API int vhu_postcopy_register(int uffd, const VhuMemory *memory,
                                  VhuError *err);

/**
 * The local bases of a table's regions, for the reply to SET_MEM_TABLE or
 * ADD_MEM_REG: user_addr of each is replaced by our address of it.
 * @table: in and out
 * Returns 0, or -ENOENT for a region not in the snapshot. Control thread.
 */
VHU_API int vhu_postcopy_bases(const VhuMemory *memory, VhuMemTable *table);

#endif
