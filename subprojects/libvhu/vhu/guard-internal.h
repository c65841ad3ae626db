/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internal, not installed: shared mappings whose file a peer may truncate. A
 * SIGBUS inside one marks it lost and leaves the process alive.
 */
#ifndef VHU_GUARD_INTERNAL_H
#define VHU_GUARD_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

typedef struct VhuGuard VhuGuard;

/**
 * Guard a mapping; in force once vhu_guard_install was called.
 * @base:       first byte, aligned to @page_bytes
 * @length:     bytes, a multiple of @page_bytes
 * @page_bytes: of the mapping, a power of two
 * @lost_fd:    eventfd written once when a fault is caught, borrowed; -1: none
 * Returns the guard, or NULL without memory. Any thread.
 */
VhuGuard *vhu_guard_add(void *base, size_t length, size_t page_bytes,
                        int lost_fd);

/**
 * Stop guarding; before the mapping goes, when no thread touches it any more.
 * @guard: may be NULL. Any thread.
 */
void vhu_guard_remove(VhuGuard *guard);

/** Whether a fault was caught since vhu_guard_add. Any thread. */
bool vhu_guard_lost(const VhuGuard *guard);

/** Install the process's SIGBUS handler, and ignore SIGPIPE if it would end
 * the process; once, again is harmless. Any thread. */
void vhu_guard_install(void);

#endif
