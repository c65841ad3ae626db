/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the device-side ring's elements and their life, from pop to flush.
 * What rings look like in guest memory is vhu/ring-split's and
 * vhu/ring-packed's; how a buffer is gathered, vhu/ring-chain's.
 *
 * Theory of operation. An element is on exactly one list:
 *
 *   free --pop--> order --push--> done --flush--> free
 *
 * A pop gathers the buffer into the ring's one chain, where nothing but the
 * ring's error changes, and only then copies it to an element and moves on;
 * so whatever fails consumes nothing. With IN_ORDER a pushed element stays in
 * `order` until all before it were pushed. Elements are made when first
 * needed and kept; there are never more of them than the ring has
 * descriptors, because each holds at least one.
 *
 * An element points into the memory snapshot it was popped with. The ring's
 * own reference serves for all of them, until the snapshot is replaced; then
 * each element that still needs the old one takes its own.
 */
#include "vhu/ring.h"

#include "vhu/ring-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 8u /* iovecs a new element has room for */

/* ---- Lists ---- */

static void slots_append(VhuSlots *slots, VhuSlot *slot)
{
    slot->next = NULL;
    slot->prev = slots->last;
    if (slots->last) {
        slots->last->next = slot;
    } else {
        slots->first = slot;
    }
    slots->last = slot;
}

static void slots_remove(VhuSlots *slots, VhuSlot *slot)
{
    if (slot->prev) {
        slot->prev->next = slot->next;
    } else {
        slots->first = slot->next;
    }
    if (slot->next) {
        slot->next->prev = slot->prev;
    } else {
        slots->last = slot->prev;
    }
}

static VhuSlot *slot_of(VhuElement *element)
{
    return (VhuSlot *)(void *)element;
}

/* ---- Making a ring ---- */

void vhu_ring_bytes(uint64_t features, uint32_t size, uint64_t *desc,
                    uint64_t *driver, uint64_t *device)
{
    *desc = 16 * (uint64_t)size;
    if (features & VHU_FEATURE(VIRTIO_F_RING_PACKED)) {
        *driver = 4;
        *device = 4;
    } else {
        *driver = 6 + 2 * (uint64_t)size;
        *device = 6 + 8 * (uint64_t)size;
    }
}

static int check_parts(bool packed, const void *desc, const void *driver,
                       const void *device, VhuError *err)
{
    uintptr_t driver_align = packed ? 4 : 2;

    if ((uintptr_t)desc % 16 != 0 || (uintptr_t)driver % driver_align != 0 ||
        (uintptr_t)device % 4 != 0) {
        return vhu_error_set(err, EINVAL, 0, 0,
                             "ring parts at %p, %p, %p are not aligned", desc,
                             driver, device);
    }
    return 0;
}

static int check_config(const VhuRingConfig *config, bool packed, VhuError *err)
{
    uint32_t size = config->size;

    if (size == 0 || size > VHU_MAX_RING_SIZE ||
        (!packed && (size & (size - 1)) != 0)) {
        return vhu_error_set(
            err, EINVAL, 0, size, "ring size %u is not %s up to %u", size,
            packed ? "a number from 1" : "a power of two", VHU_MAX_RING_SIZE);
    }
    if (config->inflight && (config->inflight_size < size ||
                             config->inflight_size > VHU_MAX_RING_SIZE)) {
        return vhu_error_set(err, EINVAL, 0, config->inflight_size,
                             "inflight region has room for %u descriptors, "
                             "the ring has %u",
                             config->inflight_size, size);
    }
    return check_parts(packed, config->desc, config->driver, config->device,
                       err);
}

static VhuRing *ring_new(const VhuRingConfig *config, bool packed)
{
    uint64_t features = config->features;
    VhuRing *ring = calloc(1, sizeof(*ring));

    if (!ring) {
        return NULL;
    }
    ring->ops = packed ? &vhu_ring_packed_ops : &vhu_ring_split_ops;
    ring->size = config->size;
    ring->event_idx = features & VHU_FEATURE(VIRTIO_RING_F_EVENT_IDX);
    ring->indirect = features & VHU_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
    ring->in_order = features & VHU_FEATURE(VIRTIO_F_IN_ORDER);
    ring->notify_on_empty = features & VHU_FEATURE(VIRTIO_F_NOTIFY_ON_EMPTY);
    ring->desc = config->desc;
    ring->driver = config->driver;
    ring->device = config->device;
    ring->request_bytes = config->request_bytes;
    ring->chain.iov = calloc(VHU_MAX_PIECES, sizeof(*ring->chain.iov));
    ring->resubmit =
        calloc(config->inflight ? config->size : 1, sizeof(*ring->resubmit));
    return ring;
}

VhuRing *vhu_ring_new(const VhuRingConfig *config, VhuError *err)
{
    bool packed = config->features & VHU_FEATURE(VIRTIO_F_RING_PACKED);
    VhuRing *ring;
    int ret;

    if (check_config(config, packed, err) < 0) {
        return NULL;
    }
    ring = ring_new(config, packed);
    if (!ring || !ring->chain.iov || !ring->resubmit) {
        vhu_error_set(err, ENOMEM, 0, 0, "no memory for a ring");
        vhu_ring_free(ring);
        return NULL;
    }
    ret = ring->ops->start(ring, config, err);
    if (ret < 0) {
        vhu_ring_free(ring);
        return NULL;
    }
    return ring;
}

static void drop_memory(VhuSlot *slot)
{
    if (slot->owns_memory) {
        vhu_memory_unref(slot->pub.memory);
        slot->owns_memory = false;
    }
    slot->pub.memory = NULL;
}

static void free_slots(VhuSlots *slots)
{
    VhuSlot *slot;
    VhuSlot *next;

    for (slot = slots->first; slot; slot = next) {
        next = slot->next;
        drop_memory(slot);
        free(slot->iov);
        free(slot->pub.request);
        free(slot);
    }
}

void vhu_ring_free(VhuRing *ring)
{
    if (!ring) {
        return;
    }
    free_slots(&ring->free);
    free_slots(&ring->order);
    free_slots(&ring->done);
    ring->ops->stop(ring);
    vhu_memory_unref(ring->memory);
    vhu_dirty_unref(ring->log);
    free(ring->resubmit);
    free(ring->chain.iov);
    free(ring);
}

void vhu_ring_set_memory(VhuRing *ring, VhuMemory *memory, VhuIotlb *iotlb)
{
    VhuMemory *before = ring->memory;
    VhuSlot *slot;

    for (slot = ring->order.first; slot; slot = slot->next) {
        if (slot->pub.memory && !slot->owns_memory) {
            vhu_memory_ref(slot->pub.memory);
            slot->owns_memory = true;
        }
    }
    ring->memory = vhu_memory_ref(memory);
    ring->iotlb = iotlb;
    vhu_memory_unref(before);
}

void vhu_ring_set_parts(VhuRing *ring, void *desc, void *driver, void *device)
{
    ring->desc = desc;
    ring->driver = driver;
    ring->device = device;
}

void vhu_ring_set_log(VhuRing *ring, VhuDirtyLog *log, bool log_used,
                      VhuGuestAddr used_addr)
{
    VhuDirtyLog *before = ring->log;

    ring->log = log ? vhu_dirty_ref(log) : NULL;
    ring->log_used = log && log_used;
    ring->used_addr = used_addr;
    vhu_dirty_unref(before);
}

void vhu_ring_set_desc_iova(VhuRing *ring, VhuGuestAddr iova)
{
    ring->desc_iova = iova;
    ring->has_desc_iova = true;
}

/* ---- Popping ---- */

static VhuSlot *slot_new(VhuRing *ring)
{
    VhuSlot *slot = calloc(1, sizeof(*slot));

    if (!slot) {
        return NULL;
    }
    slot->pub.ring = ring;
    slot->room = FIRST_ROOM;
    slot->iov = calloc(slot->room, sizeof(*slot->iov));
    if (ring->request_bytes > 0) {
        slot->pub.request = calloc(1, ring->request_bytes);
    }
    if (!slot->iov || (ring->request_bytes > 0 && !slot->pub.request)) {
        free(slot->iov);
        free(slot->pub.request);
        free(slot);
        return NULL;
    }
    return slot;
}

/* A free element with room for what was gathered, still on the free list. */
static VhuSlot *slot_get(VhuRing *ring)
{
    uint32_t num = ring->chain.num_out + ring->chain.num_in;
    VhuSlot *slot = ring->free.last;
    struct iovec *iov;

    if (!slot) {
        slot = slot_new(ring);
        if (!slot) {
            return NULL;
        }
        slots_append(&ring->free, slot);
    }
    if (num > slot->room) {
        iov = realloc(slot->iov, num * sizeof(*iov));
        if (!iov) {
            return NULL;
        }
        slot->iov = iov;
        slot->room = num;
    }
    return slot;
}

static void slot_fill(VhuRing *ring, VhuSlot *slot, bool resubmitted)
{
    const VhuChain *chain = &ring->chain;
    VhuElement *element = &slot->pub;

    memcpy(slot->iov, chain->iov,
           (chain->num_out + chain->num_in) * sizeof(*slot->iov));
    element->out = slot->iov;
    element->in = slot->iov + chain->num_out;
    element->num_out = chain->num_out;
    element->num_in = chain->num_in;
    element->out_bytes = chain->out_bytes;
    element->in_bytes = chain->in_bytes;
    element->id = chain->id;
    element->resubmitted = resubmitted;
    element->memory = ring->memory;
    slot->state = VHU_ELEMENT_POPPED;
    slots_remove(&ring->free, slot);
    slots_append(&ring->order, slot);
    ring->num_popped++;
}

static int gather(VhuRing *ring, bool resubmitted)
{
    vhu_chain_reset(ring);
    if (resubmitted) {
        return ring->ops->gather_again(ring,
                                       &ring->resubmit[ring->next_resubmit]);
    }
    return ring->ops->gather(ring);
}

int vhu_ring_pop(VhuRing *ring, VhuElement **element, VhuError *err)
{
    bool resubmitted = vhu_ring_to_resubmit(ring) > 0;
    VhuSlot *slot;
    int ret = ring->broken.code ? -EPROTO : 0;

    if (ret == 0) {
        ret = gather(ring, resubmitted);
    }
    if (ret <= 0) {
        if (ret == -EPROTO && err) {
            *err = ring->broken;
        }
        return ret;
    }
    slot = slot_get(ring);
    if (!slot) {
        return vhu_error_set(err, ENOMEM, 0, 0, "no memory for an element");
    }
    slot_fill(ring, slot, resubmitted);
    ring->ops->consume(ring, slot);
    ring->next_resubmit += resubmitted;
    *element = &slot->pub;
    return 1;
}

VhuIotlbMiss vhu_ring_miss(const VhuRing *ring)
{
    return ring->miss;
}

bool vhu_ring_has_work(VhuRing *ring)
{
    return ring->broken.code || vhu_ring_to_resubmit(ring) > 0 ||
           ring->ops->has_available(ring);
}

/* ---- Giving back ---- */

/* The device no longer touches the element's memory. */
static void release(VhuRing *ring, VhuSlot *slot)
{
    const VhuElement *element = &slot->pub;
    uint32_t i;

    for (i = 0; ring->log && i < element->num_in; i++) {
        vhu_dirty_mark_local(ring->log, element->memory,
                             element->in[i].iov_base, element->in[i].iov_len);
    }
    drop_memory(slot);
    ring->num_popped--;
}

static void recycle(VhuRing *ring, VhuSlots *from, VhuSlot *slot)
{
    slots_remove(from, slot);
    slots_append(&ring->free, slot);
    slot->state = VHU_ELEMENT_FREE;
}

void vhu_ring_push(VhuRing *ring, VhuElement *element, uint32_t written)
{
    VhuSlot *slot = slot_of(element);

    slot->written = written;
    if (written > element->in_bytes) {
        slot->written = (uint32_t)element->in_bytes;
    }
    release(ring, slot);
    slot->state = VHU_ELEMENT_PUSHED;
    ring->num_pushed++;
    if (!ring->in_order) {
        slots_remove(&ring->order, slot);
        slots_append(&ring->done, slot);
    }
}

void vhu_ring_unpop(VhuRing *ring, VhuElement *element)
{
    VhuSlot *slot = slot_of(element);

    drop_memory(slot);
    ring->num_popped--;
    ring->next_resubmit -= element->resubmitted;
    ring->ops->unconsume(ring, slot);
    recycle(ring, &ring->order, slot);
}

void vhu_ring_suspend(VhuRing *ring, VhuElement *element)
{
    VhuSlot *slot = slot_of(element);

    release(ring, slot);
    if (ring->in_order) {
        slot->state = VHU_ELEMENT_SUSPENDED;
        ring->suspended = true;
    } else {
        recycle(ring, &ring->order, slot);
    }
}

/* With IN_ORDER: what nothing earlier holds back any more is done. */
static void collect_in_order(VhuRing *ring)
{
    VhuSlot *slot;

    while ((slot = ring->order.first) && slot->state == VHU_ELEMENT_PUSHED) {
        slots_remove(&ring->order, slot);
        slots_append(&ring->done, slot);
    }
}

bool vhu_ring_flush(VhuRing *ring)
{
    bool notify = ring->recovered;
    VhuSlot *slot;

    ring->recovered = false;
    if (ring->in_order) {
        collect_in_order(ring);
    }
    if (!ring->done.first) {
        return notify;
    }
    notify |= ring->ops->publish(ring);
    while ((slot = ring->done.first)) {
        recycle(ring, &ring->done, slot);
        ring->num_pushed--;
    }
    /* VIRTIO 1.4, "Legacy Interface: Reserved Feature Bits". */
    return notify || (ring->notify_on_empty && !ring->ops->has_available(ring));
}

/* ---- The rest ---- */

bool vhu_ring_set_notify(VhuRing *ring, bool enable)
{
    ring->ops->set_notify(ring, enable);
    if (!enable) {
        return false;
    }
    vhu_full_fence();
    return vhu_ring_has_work(ring);
}

uint32_t vhu_ring_in_flight(const VhuRing *ring)
{
    /* What waits behind a suspended element is suspended with it. */
    return ring->num_popped + (ring->suspended ? 0 : ring->num_pushed);
}

uint32_t vhu_ring_to_resubmit(const VhuRing *ring)
{
    return ring->num_resubmit - ring->next_resubmit;
}

uint32_t vhu_ring_base(const VhuRing *ring)
{
    return ring->ops->base(ring);
}

void vhu_ring_each_in_flight(VhuRing *ring,
                             void (*fn)(VhuElement *element, void *opaque),
                             void *opaque)
{
    VhuSlot *slot;
    VhuSlot *next;

    for (slot = ring->order.first; slot; slot = next) {
        next = slot->next;
        if (slot->state == VHU_ELEMENT_POPPED) {
            fn(&slot->pub, opaque);
        }
    }
}
