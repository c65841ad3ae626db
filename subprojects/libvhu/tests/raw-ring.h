/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's ring over bytes that a test writes by hand. Parts are at fixed
 * places, so that the addresses in the bytes are the same everywhere.
 */
#ifndef TESTS_RAW_RING_H
#define TESTS_RAW_RING_H

#include "tests/ring-guest.h"

/* Offsets into the guest; guest address 0x40000000 + offset. */
#define RAW_DESC     0x0000u
#define RAW_DRIVER   0x1000u /* available ring, driver event suppression */
#define RAW_DEVICE   0x1800u /* used ring, device event suppression */
#define RAW_INFLIGHT 0x2000u /* region, if there is one */
#define RAW_DATA     0x4000u /* 0x40004000 */

#define RAW_BASIC    BIT(VIRTIO_F_VERSION_1)
#define RAW_PACKED   (RAW_BASIC | BIT(VIRTIO_F_RING_PACKED))
#define RAW_INDIRECT BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define RAW_EVENT    BIT(VIRTIO_RING_F_EVENT_IDX)
#define RAW_IN_ORDER BIT(VIRTIO_F_IN_ORDER)

typedef struct RawRing {
    RingGuest *guest;
    VhuRingConfig config;
    VhuRing *ring;
} RawRing;

/** Make the memory, zeroed, and a configuration for it; no ring yet. */
RawRing *raw_new(uint64_t features, uint32_t size, uint32_t base);
void raw_free(RawRing *raw);

/** Give it an inflight region for as many entries. */
void raw_track(RawRing *raw, uint16_t entries);

/** Make the ring; it must succeed. A ring made before is freed. */
void raw_open(RawRing *raw);

/** Try to. Returns the error's text, "" for none; free it. */
char *raw_try_open(RawRing *raw);

/** Write bytes, given in hex with spaces wherever they help. */
void raw_put(RawRing *raw, uint64_t at, const char *hex);

/** The memory must hold these bytes. */
void raw_expect(const RawRing *raw, uint64_t at, const char *hex);

/** Pop one; there must be one. */
VhuElement *raw_pop(RawRing *raw);

/** There must be none to pop. */
void raw_pop_none(RawRing *raw);

/** The next pop must fail with -EPROTO and that text. */
void raw_pop_broken(RawRing *raw, const char *text);

/** An IOTLB entry: the page at @iova is the guest's at @offset. */
void raw_add_page(const RawRing *raw, VhuIotlb *iotlb, uint64_t iova,
                  uint64_t offset, uint8_t perm);

/** An element's pieces must be "address+bytes address+bytes | ..." of guest
 * addresses in hex; readable before the bar, writable after. */
void raw_expect_pieces(const RawRing *raw, const VhuElement *element,
                       const char *pieces);

#endif
