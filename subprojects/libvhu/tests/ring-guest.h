/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for ring tests: memory in a memfd, cut into regions that follow
 * each other in guest addresses but not here, and seen a second time as a
 * whole, as the driver sees it.
 */
#ifndef TESTS_RING_GUEST_H
#define TESTS_RING_GUEST_H

#include "vhu/driver.h"
#include "vhu/ring.h"

#include <glib.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define BIT(n) (1ULL << (n))

#define GUEST_BASE 0x40000000ULL
#define GUEST_USER 0x7e0000000000ULL

typedef struct RingGuest {
    VhuMemory *memory;
    uint8_t *local; /* of GUEST_BASE, without gaps */
    uint64_t bytes;
} RingGuest;

/**
 * Make a guest.
 * @ring_bytes: in one region, at GUEST_BASE
 * @data_bytes: after it, in three regions of odd sizes
 */
RingGuest *guest_new(uint64_t ring_bytes, uint64_t data_bytes);
void guest_free(RingGuest *guest);

/** Where data begins, as an offset into guest->local. */
uint64_t guest_data_at(uint64_t ring_bytes);

/** As the device's side sees a guest address; one region. */
void *guest_device_ptr(const RingGuest *guest, VhuGuestAddr addr,
                       uint64_t bytes);

/** Features of a combination: PACKED, INDIRECT, EVENT_IDX, IN_ORDER by bits
 * 0 to 3; VERSION_1 always. */
uint64_t guest_features(unsigned combination);

/** "packed+indirect" and so on; free it. */
char *guest_features_name(uint64_t features);

/** The device's ring of a driver's queue. @base: as in vhu_ring_new. */
VhuRing *guest_ring_new(const RingGuest *guest, const VhuDriverQueue *queue,
                        VhuRingConfig config);

/** What both positions are at first. */
uint32_t guest_first_base(uint64_t features);

#endif
