/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loads and stores of memory that somebody else writes at the same time: the
 * rings and the inflight region. Each is one access of its width, in little
 * endian, with the ordering its name says.
 *
 * A release store also orders the stores before it for whoever looks after
 * this process was killed between the two.
 */
#ifndef VHU_ACCESS_INTERNAL_H
#define VHU_ACCESS_INTERNAL_H

#include <endian.h>
#include <stdint.h>

static inline uint16_t vhu_load16(const uint16_t *from)
{
    return le16toh(__atomic_load_n(from, __ATOMIC_RELAXED));
}

static inline uint16_t vhu_load16_acquire(const uint16_t *from)
{
    return le16toh(__atomic_load_n(from, __ATOMIC_ACQUIRE));
}

static inline uint32_t vhu_load32(const uint32_t *from)
{
    return le32toh(__atomic_load_n(from, __ATOMIC_RELAXED));
}

static inline uint64_t vhu_load64(const uint64_t *from)
{
    return le64toh(__atomic_load_n(from, __ATOMIC_RELAXED));
}

static inline uint64_t vhu_load64_acquire(const uint64_t *from)
{
    return le64toh(__atomic_load_n(from, __ATOMIC_ACQUIRE));
}

static inline void vhu_store16(uint16_t *to, uint16_t value)
{
    __atomic_store_n(to, htole16(value), __ATOMIC_RELAXED);
}

static inline void vhu_store16_release(uint16_t *to, uint16_t value)
{
    __atomic_store_n(to, htole16(value), __ATOMIC_RELEASE);
}

static inline void vhu_store32(uint32_t *to, uint32_t value)
{
    __atomic_store_n(to, htole32(value), __ATOMIC_RELAXED);
}

static inline void vhu_store64_release(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, htole64(value), __ATOMIC_RELEASE);
}

/* What was stored before is seen before what is loaded after. */
static inline void vhu_full_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
