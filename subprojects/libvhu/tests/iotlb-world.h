/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the memory and the messages that the tests of vhu/iotlb share. */
#ifndef TESTS_IOTLB_WORLD_H
#define TESTS_IOTLB_WORLD_H

#include "vhu/iotlb.h"

#include "tests/shared-memory.h"

#include <linux/vhost_types.h>

#define GUEST_A 0x10000000u
#define GUEST_B 0x20000000u
#define USER    0x7f0000000000u

/* Two regions of four pages, neighbours in user addresses, not in guest ones,
 * and mapped here in the file's other order. */
static inline VhuTranslator world_new(void)
{
    VhuMemRegion regions[] = {
        shared_region(GUEST_A, USER, 4, 4 * PAGE),
        shared_region(GUEST_B, USER + 4 * PAGE, 4, 0),
    };

    return (VhuTranslator){
        .memory = shared_memory(regions, 2, shared_file(8), -1),
        .iotlb = vhu_iotlb_new(),
    };
}

static inline void world_free(VhuTranslator *world)
{
    vhu_memory_unref((VhuMemory *)world->memory);
    vhu_iotlb_free(world->iotlb);
}

static inline int update(const VhuTranslator *world, uint64_t iova,
                         uint64_t size, uint64_t user, uint8_t perm)
{
    VhuIotlbMsg msg = {
        .iova = iova,
        .size = size,
        .user_addr = user,
        .perm = perm,
        .type = VHOST_IOTLB_UPDATE,
    };

    return vhu_iotlb_apply(world->iotlb, &msg, world->memory, NULL);
}

static inline int invalidate(const VhuTranslator *world, uint64_t iova,
                             uint64_t size)
{
    VhuIotlbMsg msg = {
        .iova = iova,
        .size = size,
        .type = VHOST_IOTLB_INVALIDATE,
    };

    return vhu_iotlb_apply(world->iotlb, &msg, world->memory, NULL);
}

#endif
