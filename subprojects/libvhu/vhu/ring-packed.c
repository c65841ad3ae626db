/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the packed layout in guest memory as the device sees it: descriptor
 * ring and the two event suppression areas. Elements are vhu/ring's, the
 * inflight region is vhu/track-packed's.
 */
#include "vhu/ring-internal.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <stdlib.h>

#define DESC_BYTES 16u
#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP_BIT   (1u << VRING_PACKED_EVENT_F_WRAP_CTR)
#define INDEX_MASK (WRAP_BIT - 1)
#define EVENT_MASK 3u /* flags of an event suppression area */

static uint64_t *desc_words(const VhuRing *ring, uint16_t index)
{
    return (uint64_t *)ring->desc + 2 * (size_t)index;
}

static VhuPosition advance(const VhuRing *ring, VhuPosition position,
                           uint32_t num)
{
    num += position.index;
    if (num >= ring->size) {
        num -= ring->size;
        position.wrap = !position.wrap;
    }
    position.index = (uint16_t)num;
    return position;
}

/* Descriptors from the used to the available position; more than the ring
 * has if the two make no sense. */
static uint32_t outstanding(const VhuRing *ring)
{
    const VhuPacked *packed = &ring->packed;
    uint32_t num = packed->avail.index;

    if (packed->avail.wrap != packed->used.wrap) {
        num += ring->size;
    }
    return num - packed->used.index;
}

/* ---- Reading buffers ---- */

static VhuDesc decode(const uint64_t words[2])
{
    uint64_t rest = le64toh(words[1]);

    return (VhuDesc){
        .addr = le64toh(words[0]),
        .len = (uint32_t)rest,
        .next = (uint16_t)(rest >> 32),
        .flags = (uint16_t)(rest >> 48),
    };
}

/* Whether flags read at a position say "available".
 * VIRTIO 1.4, "Driver and Device Ring Wrap Counters". */
static bool is_available(uint16_t flags, VhuPosition at)
{
    return !!(flags & FLAG_AVAIL) == at.wrap &&
           !!(flags & FLAG_USED) != at.wrap;
}

/* Read a descriptor: the flags first, with length and id in the same word,
 * then the address, which they vouch for. */
static VhuDesc read_desc(VhuRing *ring, uint16_t index)
{
    const uint64_t *from = desc_words(ring, index);
    uint64_t words[2];

    words[1] = __atomic_load_n(&from[1], __ATOMIC_ACQUIRE);
    words[0] = __atomic_load_n(&from[0], __ATOMIC_RELAXED);
    ring->chain.at = index;
    return decode(words);
}

/* Descriptors of a table follow each other; of their flags only WRITE means
 * something. VIRTIO 1.4, "Indirect Flag: Scatter-Gather Support". */
static int gather_table(VhuRing *ring, const VhuDesc *head)
{
    VhuTable table;
    uint64_t words[2];
    VhuDesc desc;
    uint32_t i;
    int ret;

    if (ring->chain.num_descs > 1 || (head->flags & VRING_DESC_F_NEXT)) {
        return vhu_error_set(&ring->broken, EPROTO, 0, head->flags,
                             "descriptor %u is indirect and in a list",
                             ring->chain.at);
    }
    ret = vhu_chain_open_table(ring, head, &table);
    if (ret == 0 && table.num > VHU_MAX_PIECES) {
        ret = vhu_error_set(&ring->broken, EPROTO, 0, table.num,
                            "descriptor %u: table of %u descriptors, at most "
                            "%u are accepted",
                            ring->chain.at, table.num, VHU_MAX_PIECES);
    }
    for (i = 0; ret == 0 && i < table.num; i++) {
        ret = vhu_chain_read_table(ring, &table, i, words);
        if (ret == 0) {
            desc = decode(words);
            ret = vhu_chain_add(ring, &desc);
        }
    }
    return ret;
}

/* The next descriptor of the buffer in hand. Returns whether more follow, or
 * -errno. */
static int gather_desc(VhuRing *ring, const VhuDesc *desc)
{
    VhuChain *chain = &ring->chain;
    int ret;

    if (ring->packed.fetched) {
        ring->packed.fetched[chain->num_descs] = *desc;
    }
    chain->num_descs++;
    chain->id = desc->next;
    if (desc->flags & VRING_DESC_F_INDIRECT) {
        ret = gather_table(ring, desc);
    } else {
        ret = vhu_chain_add(ring, desc);
    }
    return ret < 0 ? ret : desc->flags & VRING_DESC_F_NEXT;
}

static bool packed_has_available(VhuRing *ring)
{
    VhuPosition at = ring->packed.avail;
    uint64_t word = vhu_load64_acquire(desc_words(ring, at.index) + 1);

    return is_available((uint16_t)(word >> 48), at);
}

static int packed_gather(VhuRing *ring)
{
    VhuPosition at = ring->packed.avail;
    uint32_t room = ring->size - outstanding(ring);
    VhuDesc desc = read_desc(ring, at.index);
    int ret;

    if (!is_available(desc.flags, at)) {
        return 0;
    }
    do {
        if (ring->chain.num_descs == room) {
            return vhu_error_set(&ring->broken, EPROTO, 0, room,
                                 "descriptor %u is one more than the ring's "
                                 "%u",
                                 at.index, ring->size);
        }
        if (ring->chain.num_descs > 0) {
            desc = read_desc(ring, at.index);
        }
        if (!is_available(desc.flags, at)) {
            return vhu_error_set(&ring->broken, EPROTO, 0, desc.flags,
                                 "descriptor %u follows an available one and "
                                 "has flags 0x%x",
                                 at.index, desc.flags);
        }
        ret = gather_desc(ring, &desc);
        at = advance(ring, at, 1);
    } while (ret > 0);
    return ret < 0 ? ret : 1;
}

/* The same from the inflight region, where descriptors were copied to. */
static int packed_gather_again(VhuRing *ring, const VhuResubmit *resubmit)
{
    uint16_t entry = resubmit->tracked.head;
    VhuDesc desc;
    uint16_t i;
    int ret = 0;

    for (i = 0; i < resubmit->tracked.num; i++) {
        ring->chain.at = entry;
        desc = vhu_track_packed_read(&ring->packed.track, &entry);
        ret = gather_desc(ring, &desc);
        if (ret < 0) {
            return ret;
        }
    }
    if (ret > 0) {
        return vhu_error_set(&ring->broken, EPROTO, 0, ring->chain.at,
                             "inflight region: entry %u ends a buffer and "
                             "has a next",
                             ring->chain.at);
    }
    ring->packed.tracked = resubmit->tracked;
    return 1;
}

static void packed_consume(VhuRing *ring, VhuSlot *slot)
{
    VhuPacked *packed = &ring->packed;

    slot->num_descs = ring->chain.num_descs;
    if (slot->pub.resubmitted) {
        slot->tracked = packed->tracked;
        return;
    }
    packed->avail = advance(ring, packed->avail, slot->num_descs);
    if (packed->track.region) {
        slot->tracked = vhu_track_packed_take(&packed->track, packed->fetched,
                                              slot->num_descs);
    }
}

static void packed_unconsume(VhuRing *ring, VhuSlot *slot)
{
    VhuPacked *packed = &ring->packed;

    if (slot->pub.resubmitted) {
        return;
    }
    /* Once around the ring, less the buffer, is back. */
    packed->avail = advance(ring, packed->avail, ring->size - slot->num_descs);
    packed->avail.wrap = !packed->avail.wrap;
    if (packed->track.region) {
        vhu_track_packed_untake(&packed->track, slot->tracked);
    }
}

/* ---- Showing used ones ---- */

/* Log a write to a descriptor, which lies on one page. */
static void log_desc(VhuRing *ring, uint16_t index)
{
    VhuTranslator translator = {.memory = ring->memory, .iotlb = ring->iotlb};
    VhuRange range = {
        .addr = ring->desc_iova + (uint64_t)index * DESC_BYTES,
        .size = DESC_BYTES,
        .perm = VHOST_ACCESS_WO,
    };
    struct iovec iov = {
        .iov_base = desc_words(ring, index),
        .iov_len = DESC_BYTES,
    };
    VhuIotlbMiss miss;

    if (ring->has_desc_iova &&
        vhu_translate(&translator, &range, &iov, 1, &miss) < 0) {
        return;
    }
    vhu_dirty_mark_local(ring->log, ring->memory, iov.iov_base, iov.iov_len);
}

/* Write a used descriptor: length, id and flags are one word, so that the
 * driver sees all of them or none. */
static void write_used(VhuRing *ring, VhuPosition at, const VhuSlot *slot)
{
    uint64_t *word = desc_words(ring, at.index) + 1;
    uint64_t flags = at.wrap ? FLAG_AVAIL | FLAG_USED : 0;

    if (slot->written > 0) {
        flags |= VRING_DESC_F_WRITE;
    }
    vhu_store64_release(word, slot->written | (uint64_t)slot->pub.id << 32 |
                                  flags << 48);
    if (ring->log_used) {
        log_desc(ring, at.index);
    }
}

/* Show one after the other, each with the steps of the inflight region. */
static VhuPosition publish_tracked(VhuRing *ring)
{
    VhuPacked *packed = &ring->packed;
    VhuPosition from = packed->used;
    VhuPosition to = from;
    VhuSlot *slot;

    for (slot = ring->done.first; slot; slot = slot->next) {
        to = advance(ring, from, slot->num_descs);
        vhu_track_packed_begin_use(&packed->track, slot->tracked, from, to);
        write_used(ring, from, slot);
        vhu_track_packed_end_use(&packed->track, slot->tracked, to);
        from = to;
    }
    return to;
}

/* Show the first one last: the driver looks at nothing behind it before. */
static VhuPosition publish_batch(VhuRing *ring)
{
    VhuSlot *first = ring->done.first;
    VhuPosition at = advance(ring, ring->packed.used, first->num_descs);
    VhuSlot *slot;

    for (slot = first->next; slot; slot = slot->next) {
        write_used(ring, at, slot);
        at = advance(ring, at, slot->num_descs);
    }
    write_used(ring, ring->packed.used, first);
    return at;
}

/* Whether the driver wants to know that the used position went from @from to
 * @to, @num descriptors further.
 * VIRTIO 1.4, "Driver and Device Event Suppression". */
static bool packed_wants_event(VhuRing *ring, VhuPosition to, uint32_t num)
{
    uint32_t event;
    uint16_t passed;
    uint32_t index;
    bool wrap;

    vhu_full_fence();
    event = vhu_load32(ring->driver);
    switch (event >> 16 & EVENT_MASK) {
    case VRING_PACKED_EVENT_FLAG_DISABLE:
        return false;
    case VRING_PACKED_EVENT_FLAG_DESC:
        if (!ring->event_idx) {
            return true;
        }
        break;
    default:
        return true;
    }
    index = event & INDEX_MASK;
    wrap = event & WRAP_BIT;
    /* Descriptors used at and after the one it names; what lies ahead comes
     * out as more than the ring has. */
    passed = (uint16_t)(to.index - index - 1);
    if (wrap != to.wrap) {
        passed = (uint16_t)(passed + ring->size);
    }
    return passed < num;
}

static bool packed_publish(VhuRing *ring)
{
    uint32_t before = outstanding(ring);
    VhuPosition to;

    if (ring->packed.track.region) {
        to = publish_tracked(ring);
    } else {
        to = publish_batch(ring);
    }
    ring->packed.used = to;
    return packed_wants_event(ring, to, before - outstanding(ring));
}

static void packed_set_notify(VhuRing *ring, bool enable)
{
    VhuPosition at = ring->packed.avail;
    uint32_t event = VRING_PACKED_EVENT_FLAG_DISABLE << 16;

    if (enable && ring->event_idx) {
        event = (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16 | at.index |
                (at.wrap ? WRAP_BIT : 0);
    } else if (enable) {
        event = VRING_PACKED_EVENT_FLAG_ENABLE << 16;
    }
    vhu_store32(ring->device, event);
    vhu_ring_log(ring, 0, sizeof(event));
}

/* ---- Start and stop ---- */

static uint32_t position_bits(VhuPosition position)
{
    return position.index | (position.wrap ? WRAP_BIT : 0);
}

static VhuPosition position_of(uint32_t bits)
{
    return (VhuPosition){
        .index = (uint16_t)(bits & INDEX_MASK),
        .wrap = bits & WRAP_BIT,
    };
}

static uint32_t packed_base(const VhuRing *ring)
{
    return position_bits(ring->packed.avail) | position_bits(ring->packed.used)
                                                   << 16;
}

static int start_tracking(VhuRing *ring, const VhuRingConfig *config,
                          VhuError *err)
{
    VhuPacked *packed = &ring->packed;
    VhuTrackConfig track = {
        .region = config->inflight,
        .ring_size = config->size,
        .region_size = config->inflight_size,
    };
    VhuRecovery recovery = {
        .resubmit = ring->resubmit,
        .used = packed->used,
    };
    int ret;

    packed->fetched = calloc(ring->size, sizeof(*packed->fetched));
    if (!packed->fetched) {
        return vhu_error_set(err, ENOMEM, 0, 0, "no memory");
    }
    ret = vhu_track_packed_start(&packed->track, &track, ring->desc, &recovery,
                                 err);
    if (ret == 0 && recovery.was_used) {
        packed->used = recovery.used;
        packed->avail = advance(ring, recovery.used, recovery.num_descs);
    }
    ring->num_resubmit = recovery.num;
    ring->recovered = recovery.was_used;
    return ret;
}

static int packed_start(VhuRing *ring, const VhuRingConfig *config,
                        VhuError *err)
{
    VhuPacked *packed = &ring->packed;

    packed->avail = position_of(config->base);
    packed->used = position_of(config->base >> 16);
    if (packed->avail.index >= ring->size || packed->used.index >= ring->size ||
        outstanding(ring) > ring->size) {
        return vhu_error_set(err, EINVAL, 0, config->base,
                             "base 0x%x: available %u, used %u, the ring has "
                             "%u",
                             config->base, packed->avail.index,
                             packed->used.index, ring->size);
    }
    return config->inflight ? start_tracking(ring, config, err) : 0;
}

static void packed_stop(VhuRing *ring)
{
    vhu_track_packed_stop(&ring->packed.track);
    free(ring->packed.fetched);
}

const VhuRingOps vhu_ring_packed_ops = {
    .start = packed_start,
    .stop = packed_stop,
    .has_available = packed_has_available,
    .gather = packed_gather,
    .gather_again = packed_gather_again,
    .consume = packed_consume,
    .unconsume = packed_unconsume,
    .publish = packed_publish,
    .set_notify = packed_set_notify,
    .base = packed_base,
};
