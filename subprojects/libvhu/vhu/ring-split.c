/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the split layout in guest memory as the device sees it: descriptor
 * table, available ring, used ring. Elements are vhu/ring's, the inflight
 * region is vhu/track-split's.
 */
#include "vhu/ring-internal.h"

#include <errno.h>
#include <stdlib.h>

/* VIRTIO 1.4, "The Virtqueue Used Ring": byte offsets. */
#define USED_FLAGS      0u
#define USED_IDX        2u
#define USED_RING       4u
#define USED_ELEM_BYTES 8u

/* VIRTIO 1.4, "The Virtqueue Available Ring", in units of le16. */
static uint16_t *avail_flags(const VhuRing *ring)
{
    return (uint16_t *)ring->driver;
}

static uint16_t *avail_idx(const VhuRing *ring)
{
    return (uint16_t *)ring->driver + 1;
}

static uint16_t *avail_entry(const VhuRing *ring, uint16_t index)
{
    return (uint16_t *)ring->driver + 2 + (index & (ring->size - 1));
}

static uint16_t *used_event(const VhuRing *ring)
{
    return (uint16_t *)ring->driver + 2 + ring->size;
}

static uint64_t used_entry_offset(const VhuRing *ring, uint16_t index)
{
    return USED_RING + (uint64_t)USED_ELEM_BYTES * (index & (ring->size - 1));
}

static void *used_part(const VhuRing *ring, uint64_t offset)
{
    return (uint8_t *)ring->device + offset;
}

/* ---- Reading buffers ---- */

static VhuDesc decode(const uint64_t words[2])
{
    uint64_t rest = le64toh(words[1]);

    return (VhuDesc){
        .addr = le64toh(words[0]),
        .len = (uint32_t)rest,
        .flags = (uint16_t)(rest >> 32),
        .next = (uint16_t)(rest >> 48),
    };
}

static VhuDesc read_desc(VhuRing *ring, uint16_t index)
{
    const uint64_t *from = (const uint64_t *)ring->desc + 2 * (size_t)index;
    uint64_t words[2] = {
        __atomic_load_n(&from[0], __ATOMIC_RELAXED),
        __atomic_load_n(&from[1], __ATOMIC_RELAXED),
    };

    ring->chain.at = index;
    return decode(words);
}

/* A descriptor names one that is not there, or too many were followed. */
static int check_next(VhuRing *ring, uint32_t next, uint32_t count,
                      uint32_t num)
{
    if (next >= num) {
        return vhu_error_set(&ring->broken, EPROTO, 0, next,
                             "%s %u: next is %u of %u", vhu_chain_what(ring),
                             ring->chain.at, next, num);
    }
    if (count >= num) {
        return vhu_error_set(&ring->broken, EPROTO, 0, ring->chain.id,
                             "buffer %u: loop among %u %ss", ring->chain.id,
                             num, vhu_chain_what(ring));
    }
    if (count >= VHU_MAX_PIECES && ring->chain.indirect) {
        return vhu_error_set(&ring->broken, EPROTO, 0, ring->chain.id,
                             "buffer %u has more than %u pieces",
                             ring->chain.id, VHU_MAX_PIECES);
    }
    return 0;
}

static int gather_table(VhuRing *ring, const VhuDesc *head)
{
    VhuTable table;
    uint64_t words[2];
    uint32_t count = 0;
    VhuDesc desc = {.flags = VRING_DESC_F_NEXT};
    int ret;

    if (head->flags & VRING_DESC_F_NEXT) {
        return vhu_error_set(&ring->broken, EPROTO, 0, head->flags,
                             "descriptor %u is indirect and has a next",
                             ring->chain.at);
    }
    ret = vhu_chain_open_table(ring, head, &table);
    while (ret == 0 && (desc.flags & VRING_DESC_F_NEXT)) {
        ret = check_next(ring, desc.next, count++, table.num);
        if (ret < 0) {
            break;
        }
        ret = vhu_chain_read_table(ring, &table, desc.next, words);
        if (ret < 0) {
            break;
        }
        desc = decode(words);
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            return vhu_error_set(&ring->broken, EPROTO, 0, desc.flags,
                                 "indirect descriptor %u is indirect itself",
                                 ring->chain.at);
        }
        ret = vhu_chain_add(ring, &desc);
    }
    return ret;
}

static int gather_chain(VhuRing *ring, uint16_t head)
{
    VhuDesc desc = {.next = head, .flags = VRING_DESC_F_NEXT};
    uint32_t count = 0;
    int ret = 0;

    ring->chain.id = head;
    ring->chain.at = head;
    while (ret == 0 && (desc.flags & VRING_DESC_F_NEXT)) {
        ret = check_next(ring, desc.next, count++, ring->size);
        if (ret < 0) {
            break;
        }
        desc = read_desc(ring, desc.next);
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            ret = gather_table(ring, &desc);
            break;
        }
        ret = vhu_chain_add(ring, &desc);
    }
    return ret < 0 ? ret : 1;
}

static bool split_has_available(VhuRing *ring)
{
    VhuSplit *split = &ring->split;

    if (split->avail_seen == split->last_avail) {
        split->avail_seen = vhu_load16_acquire(avail_idx(ring));
    }
    return split->avail_seen != split->last_avail;
}

static int split_gather(VhuRing *ring)
{
    VhuSplit *split = &ring->split;
    uint16_t in_flight;
    uint16_t ahead;
    uint16_t head;

    if (!split_has_available(ring)) {
        return 0;
    }
    ahead = (uint16_t)(split->avail_seen - split->last_avail);
    in_flight = (uint16_t)(split->last_avail - split->used);
    if ((uint32_t)ahead + in_flight > ring->size) {
        return vhu_error_set(&ring->broken, EPROTO, 0, split->avail_seen,
                             "available index %u is %u ahead with %u in "
                             "flight, the ring has %u",
                             split->avail_seen, ahead, in_flight, ring->size);
    }
    head = vhu_load16(avail_entry(ring, split->last_avail));
    if (head >= ring->size) {
        return vhu_error_set(&ring->broken, EPROTO, 0, head,
                             "available entry %u: descriptor %u of %u",
                             split->last_avail, head, ring->size);
    }
    if (split->busy[head]) {
        return vhu_error_set(&ring->broken, EPROTO, 0, head,
                             "available entry %u: descriptor %u is in flight",
                             split->last_avail, head);
    }
    return gather_chain(ring, head);
}

static int split_gather_again(VhuRing *ring, const VhuResubmit *resubmit)
{
    return gather_chain(ring, resubmit->tracked.head);
}

static void split_consume(VhuRing *ring, VhuSlot *slot)
{
    VhuSplit *split = &ring->split;

    if (slot->pub.resubmitted) {
        return;
    }
    split->last_avail++;
    split->busy[slot->pub.id] = true;
    if (split->track.region) {
        vhu_track_split_take(&split->track, slot->pub.id);
    }
}

static void split_unconsume(VhuRing *ring, VhuSlot *slot)
{
    VhuSplit *split = &ring->split;

    if (slot->pub.resubmitted) {
        return;
    }
    split->last_avail--;
    split->busy[slot->pub.id] = false;
    if (split->track.region) {
        vhu_track_split_untake(&split->track, slot->pub.id);
    }
}

/* ---- Showing used ones ---- */

/* Whether an event index asks for a notification when the used index goes
 * from @from to @to. VIRTIO 1.4, "Used Buffer Notification Suppression". */
static bool split_wants_event(VhuRing *ring, uint16_t from, uint16_t to)
{
    uint16_t event;

    vhu_full_fence();
    if (!ring->event_idx) {
        return !(vhu_load16(avail_flags(ring)) & VRING_AVAIL_F_NO_INTERRUPT);
    }
    event = vhu_load16(used_event(ring));
    return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

/* Log the used entries [from, to) and the index. */
static void log_used(VhuRing *ring, uint16_t from, uint16_t to)
{
    uint32_t num = (uint16_t)(to - from);
    uint32_t room = ring->size - (from & (ring->size - 1));
    uint32_t before_end = num < room ? num : room;

    vhu_ring_log(ring, used_entry_offset(ring, from),
                 (uint64_t)before_end * USED_ELEM_BYTES);
    vhu_ring_log(ring, USED_RING,
                 (uint64_t)(num - before_end) * USED_ELEM_BYTES);
    vhu_ring_log(ring, USED_IDX, sizeof(uint16_t));
}

static bool split_publish(VhuRing *ring)
{
    VhuSplit *split = &ring->split;
    uint16_t from = split->used;
    uint16_t to = from;
    uint32_t *entry;
    VhuSlot *slot;

    for (slot = ring->done.first; slot; slot = slot->next) {
        entry = used_part(ring, used_entry_offset(ring, to++));
        vhu_store32(&entry[0], slot->pub.id);
        vhu_store32(&entry[1], slot->written);
        split->busy[slot->pub.id] = false;
        if (split->track.region) {
            vhu_track_split_link(&split->track, slot->pub.id);
        }
    }
    vhu_store16_release(used_part(ring, USED_IDX), to);
    split->used = to;
    if (split->track.region) {
        for (slot = ring->done.first; slot; slot = slot->next) {
            vhu_track_split_clear(&split->track, slot->pub.id);
        }
        vhu_track_split_commit(&split->track, to);
    }
    log_used(ring, from, to);
    return split_wants_event(ring, from, to);
}

static void split_set_notify(VhuRing *ring, bool enable)
{
    uint64_t event =
        used_entry_offset(ring, 0) + (uint64_t)ring->size * USED_ELEM_BYTES;

    if (!ring->event_idx) {
        vhu_store16(used_part(ring, USED_FLAGS),
                    enable ? 0 : VRING_USED_F_NO_NOTIFY);
        vhu_ring_log(ring, USED_FLAGS, sizeof(uint16_t));
    } else if (enable) {
        /* Where the event index stands otherwise, it has been passed. */
        vhu_store16(used_part(ring, event), ring->split.last_avail);
        vhu_ring_log(ring, event, sizeof(uint16_t));
    }
}

/* ---- Start and stop ---- */

static uint32_t split_base(const VhuRing *ring)
{
    return ring->split.last_avail;
}

static int start_positions(VhuRing *ring, const VhuRingConfig *config,
                           const VhuRecovery *recovery, VhuError *err)
{
    VhuSplit *split = &ring->split;
    uint32_t i;

    split->last_avail = (uint16_t)config->base;
    if (recovery->was_used) {
        split->last_avail = (uint16_t)(split->used + recovery->num);
    }
    for (i = 0; i < recovery->num; i++) {
        split->busy[ring->resubmit[i].tracked.head] = true;
    }
    if (config->base > UINT16_MAX ||
        (uint16_t)(split->last_avail - split->used) > ring->size) {
        return vhu_error_set(err, EINVAL, 0, config->base,
                             "base %u, the used index is %u, the ring has %u",
                             config->base, split->used, ring->size);
    }
    split->avail_seen = split->last_avail;
    return 0;
}

static int split_start(VhuRing *ring, const VhuRingConfig *config,
                       VhuError *err)
{
    VhuSplit *split = &ring->split;
    VhuTrackConfig track = {
        .region = config->inflight,
        .ring_size = config->size,
        .region_size = config->inflight_size,
    };
    VhuRecovery recovery = {.resubmit = ring->resubmit};
    int ret = 0;

    split->busy = calloc(ring->size, sizeof(*split->busy));
    if (!split->busy) {
        return vhu_error_set(err, ENOMEM, 0, 0, "no memory");
    }
    split->used = vhu_load16(used_part(ring, USED_IDX));
    recovery.used.index = split->used;
    if (config->inflight) {
        ret = vhu_track_split_start(&split->track, &track, &recovery, err);
    }
    if (ret == 0) {
        ret = start_positions(ring, config, &recovery, err);
    }
    ring->num_resubmit = recovery.num;
    ring->recovered = recovery.was_used;
    return ret;
}

static void split_stop(VhuRing *ring)
{
    free(ring->split.busy);
}

const VhuRingOps vhu_ring_split_ops = {
    .start = split_start,
    .stop = split_stop,
    .has_available = split_has_available,
    .gather = split_gather,
    .gather_again = split_gather_again,
    .consume = split_consume,
    .unconsume = split_unconsume,
    .publish = split_publish,
    .set_notify = split_set_notify,
    .base = split_base,
};
