/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the inflight region of a packed queue: its recovery and the steps that
 * keep it true. Does not know the ring, except for the flags of one
 * descriptor; vhu/ring-packed calls it at the right moments.
 *
 * Theory of operation. The process may be killed between any two stores, and
 * the next one reads what is left.
 *
 * Taking a buffer copies its descriptors into entries of the free list, from
 * free_head on. Until old_free_head follows, recovery begins the free list at
 * old_free_head again and so forgets what was copied.
 *
 * Using a buffer puts its entries in front of the free list, moves used_idx,
 * and then changes the flags of the descriptor at the old position: that is
 * the moment. Recovery finds the two positions different and lets the flags
 * decide between going on and going back. Buffers are shown one by one, not
 * in batches: of a batch, the descriptors after its first would stay marked
 * as used in the ring when the first is taken back, and the driver would take
 * them for used.
 *
 * The positions and wrap counters, old and new, change together in one store
 * of the eight bytes that hold all four. Stored one after the other there
 * would be a moment where an index of one lap stands beside a wrap counter of
 * the next.
 *
 * How far the ring was read is not stored: it is the used position plus the
 * descriptors in flight.
 */
#include "vhu/track-internal.h"

#include "vhu/access-internal.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>

#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1u << VRING_PACKED_DESC_F_USED)

/* used_idx and the seven bytes after it. */
typedef struct Positions {
    VhuPosition used;
    VhuPosition old;
} Positions;

static uint64_t *positions_word(QueueRegionPacked *region)
{
    _Static_assert(offsetof(QueueRegionPacked, used_idx) % 8 == 0 &&
                       offsetof(QueueRegionPacked, desc) == 32,
                   "the layout of the specification");
    return (uint64_t *)(void *)&region->used_idx;
}

static Positions load_positions(QueueRegionPacked *region)
{
    uint64_t word = vhu_load64(positions_word(region));

    return (Positions){
        .used = {.index = (uint16_t)word, .wrap = word >> 32 & 1},
        .old = {.index = (uint16_t)(word >> 16), .wrap = word >> 40 & 1},
    };
}

static void store_positions(QueueRegionPacked *region, VhuPosition used,
                            VhuPosition old)
{
    vhu_store64_release(positions_word(region), used.index |
                                                    (uint64_t)old.index << 16 |
                                                    (uint64_t)used.wrap << 32 |
                                                    (uint64_t)old.wrap << 40);
}

static void set_inflight(DescStatePacked *state, uint8_t value)
{
    __atomic_store_n(&state->inflight, value, __ATOMIC_RELEASE);
}

/* A region of zeroes: all entries free; its version makes it one. */
static void begin(VhuTrackPacked *track, uint16_t num, VhuPosition used)
{
    QueueRegionPacked *region = track->region;
    uint16_t i;

    for (i = 0; i < num; i++) {
        set_inflight(&region->desc[i], 0);
        /* num itself ends the list. */
        track->next[i] = (uint16_t)(i + 1);
        vhu_store16_release(&region->desc[i].next, track->next[i]);
    }
    vhu_store16_release(&region->desc_num, num);
    vhu_store16_release(&region->free_head, 0);
    vhu_store16_release(&region->old_free_head, 0);
    store_positions(region, used, used);
    vhu_store16_release(&region->version, VHU_TRACK_VERSION);
}

/* A recovery under way. */
typedef struct Reader {
    VhuTrackPacked *track;
    VhuRecovery *recovery;
    const uint64_t *ring_desc;
    uint32_t ring_size;
    uint16_t num;      /* of the region's entries */
    uint16_t num_seen; /* of them */
    bool *seen;        /* the entry is in the free list or in a buffer */
    VhuError *err;
} Reader;

/* Mark an entry as belonging somewhere. Returns 0, or -EINVAL. */
static int claim(Reader *reader, uint16_t entry, const char *where)
{
    if (entry >= reader->num || reader->seen[entry]) {
        return vhu_error_set(reader->err, EINVAL, 0, entry,
                             "inflight region: %s comes to entry %u%s", where,
                             entry, entry < reader->num ? " again" : "");
    }
    reader->seen[entry] = true;
    reader->num_seen++;
    return 0;
}

/* Whether the descriptor at a position still is what the driver made it. */
static bool is_available(const Reader *reader, VhuPosition position)
{
    uint64_t word =
        vhu_load64_acquire(&reader->ring_desc[2 * position.index + 1]);
    uint64_t flags = word >> 48;

    return !!(flags & FLAG_AVAIL) == position.wrap &&
           !!(flags & FLAG_USED) != position.wrap;
}

/* Finish or undo the use of a buffer that was under way. */
static int settle(Reader *reader)
{
    VhuTrackPacked *track = reader->track;
    QueueRegionPacked *region = track->region;
    Positions at = load_positions(region);

    if (at.used.index >= reader->ring_size ||
        at.old.index >= reader->ring_size) {
        return vhu_error_set(reader->err, EINVAL, 0, at.used.index,
                             "inflight region: used index %u, before %u, the "
                             "ring has %u",
                             at.used.index, at.old.index, reader->ring_size);
    }
    track->free_head = vhu_load16(&region->old_free_head);
    /* The index alone would not tell a buffer of as many descriptors as the
     * ring has. */
    if ((at.used.index != at.old.index || at.used.wrap != at.old.wrap) &&
        !is_available(reader, at.old)) {
        track->free_head = vhu_load16(&region->free_head);
        vhu_store16_release(&region->old_free_head, track->free_head);
        at.old = at.used;
    }
    vhu_store16_release(&region->free_head, track->free_head);
    store_positions(region, at.old, at.old);
    reader->recovery->used = at.old;
    return 0;
}

static int read_free_list(Reader *reader)
{
    VhuTrackPacked *track = reader->track;
    QueueRegionPacked *region = track->region;
    uint16_t entry = track->free_head;
    int ret;

    while (entry != reader->num) {
        ret = claim(reader, entry, "free list");
        if (ret < 0) {
            return ret;
        }
        set_inflight(&region->desc[entry], 0);
        track->next[entry] = vhu_load16(&region->desc[entry].next);
        entry = track->next[entry];
    }
    return 0;
}

/* A buffer in flight: its entries. */
static int read_buffer(Reader *reader, uint16_t head)
{
    VhuTrackPacked *track = reader->track;
    const DescStatePacked *desc = track->region->desc;
    VhuRecovery *recovery = reader->recovery;
    VhuResubmit *resubmit;
    VhuTracked tracked = {
        .head = head,
        .last = vhu_load16(&desc[head].last),
        .num = vhu_load16(&desc[head].num),
    };
    uint16_t entry = head;
    uint16_t i;
    int ret;

    for (i = 0; i < tracked.num; i++) {
        ret = claim(reader, entry, "list of descriptors");
        if (ret < 0) {
            return ret;
        }
        if (i + 1 == tracked.num && entry == tracked.last) {
            break;
        }
        track->next[entry] = vhu_load16(&desc[entry].next);
        entry = track->next[entry];
    }
    recovery->num_descs += tracked.num;
    if (i == tracked.num || recovery->num_descs > reader->ring_size) {
        return vhu_error_set(reader->err, EINVAL, 0, tracked.num,
                             "inflight region: buffer at %u has %u "
                             "descriptors and ends at %u, the ring has %u",
                             head, tracked.num, tracked.last,
                             reader->ring_size);
    }
    resubmit = &recovery->resubmit[recovery->num++];
    resubmit->counter = vhu_load64(&desc[head].counter);
    resubmit->tracked = tracked;
    if (resubmit->counter >= track->counter) {
        track->counter = resubmit->counter + 1;
    }
    return 0;
}

static int compare_counters(const void *a, const void *b)
{
    const VhuResubmit *x = a;
    const VhuResubmit *y = b;

    if (x->counter != y->counter) {
        return x->counter < y->counter ? -1 : 1;
    }
    return x->tracked.head - y->tracked.head;
}

static int read_buffers(Reader *reader)
{
    const DescStatePacked *desc = reader->track->region->desc;
    VhuRecovery *recovery = reader->recovery;
    uint8_t value;
    uint16_t i;
    int ret;

    for (i = 0; i < reader->num; i++) {
        value = __atomic_load_n(&desc[i].inflight, __ATOMIC_RELAXED);
        if (value > 1) {
            return vhu_error_set(reader->err, EINVAL, 0, value,
                                 "inflight region: state %u of entry %u", value,
                                 i);
        }
        ret = value ? read_buffer(reader, i) : 0;
        if (ret < 0) {
            return ret;
        }
    }
    if (reader->num_seen != reader->num) {
        return vhu_error_set(reader->err, EINVAL, 0, reader->num_seen,
                             "inflight region: %u of %u entries are neither "
                             "free nor in flight",
                             reader->num - reader->num_seen, reader->num);
    }
    qsort(recovery->resubmit, recovery->num, sizeof(*recovery->resubmit),
          compare_counters);
    return 0;
}

static int recover(Reader *reader)
{
    int ret;

    ret = settle(reader);
    if (ret < 0) {
        return ret;
    }
    ret = read_free_list(reader);
    if (ret < 0) {
        return ret;
    }
    return read_buffers(reader);
}

static int check_header(const Reader *reader, const VhuTrackConfig *config,
                        uint16_t version)
{
    if (version != VHU_TRACK_VERSION) {
        return vhu_error_set(reader->err, EINVAL, 0, version,
                             "inflight region: version %u, expected %u",
                             version, VHU_TRACK_VERSION);
    }
    if (reader->num < config->ring_size || reader->num > config->region_size) {
        return vhu_error_set(reader->err, EINVAL, 0, reader->num,
                             "inflight region is for %u descriptors, the ring "
                             "has %u and the region room for %u",
                             reader->num, config->ring_size,
                             config->region_size);
    }
    return 0;
}

int vhu_track_packed_start(VhuTrackPacked *track, const VhuTrackConfig *config,
                           const void *ring_desc, VhuRecovery *recovery,
                           VhuError *err)
{
    QueueRegionPacked *region = config->region;
    uint16_t version = vhu_load16_acquire(&region->version);
    Reader reader = {
        .track = track,
        .recovery = recovery,
        .ring_desc = ring_desc,
        .ring_size = config->ring_size,
        .num = vhu_load16(&region->desc_num),
        .err = err,
    };
    int ret;

    *track = (VhuTrackPacked){.region = region};
    if (version != 0) {
        ret = check_header(&reader, config, version);
        if (ret < 0) {
            return ret;
        }
    } else {
        reader.num = (uint16_t)config->region_size;
    }
    track->next = calloc(reader.num, sizeof(*track->next));
    reader.seen = calloc(reader.num, sizeof(*reader.seen));
    if (!track->next || !reader.seen) {
        ret = vhu_error_set(err, ENOMEM, 0, 0, "no memory");
    } else if (version == 0) {
        begin(track, reader.num, recovery->used);
        ret = 0;
    } else {
        recovery->was_used = true;
        ret = recover(&reader);
    }
    free(reader.seen);
    if (ret < 0) {
        vhu_track_packed_stop(track);
    }
    return ret;
}

void vhu_track_packed_stop(VhuTrackPacked *track)
{
    free(track->next);
    *track = (VhuTrackPacked){0};
}

VhuTracked vhu_track_packed_take(VhuTrackPacked *track, const VhuDesc *descs,
                                 uint16_t num)
{
    QueueRegionPacked *region = track->region;
    VhuTracked tracked = {.head = track->free_head, .num = num};
    DescStatePacked *head = &region->desc[tracked.head];
    DescStatePacked *entry;
    uint16_t i;

    vhu_store16_release(&head->num, 0);
    vhu_store64_release(&head->counter, track->counter++);
    set_inflight(head, 1);
    for (i = 0; i < num; i++) {
        entry = &region->desc[track->free_head];
        if (i + 1 == num) {
            tracked.last = track->free_head;
            vhu_store16_release(&head->last, tracked.last);
        }
        vhu_store16_release(&head->num, (uint16_t)(i + 1));
        vhu_store64_release(&entry->addr, descs[i].addr);
        vhu_store32(&entry->len, descs[i].len);
        vhu_store16(&entry->flags, descs[i].flags);
        vhu_store16(&entry->id, descs[i].next);
        track->free_head = track->next[track->free_head];
        vhu_store16_release(&region->free_head, track->free_head);
    }
    vhu_store16_release(&region->old_free_head, track->free_head);
    return tracked;
}

void vhu_track_packed_untake(VhuTrackPacked *track, VhuTracked tracked)
{
    QueueRegionPacked *region = track->region;

    track->next[tracked.last] = track->free_head;
    track->free_head = tracked.head;
    vhu_store16_release(&region->desc[tracked.last].next,
                        track->next[tracked.last]);
    /* From here on recovery finds it in the free list. */
    vhu_store16_release(&region->old_free_head, tracked.head);
    vhu_store16_release(&region->free_head, tracked.head);
    set_inflight(&region->desc[tracked.head], 0);
}

void vhu_track_packed_begin_use(VhuTrackPacked *track, VhuTracked tracked,
                                VhuPosition from, VhuPosition to)
{
    QueueRegionPacked *region = track->region;

    track->next[tracked.last] = track->free_head;
    track->free_head = tracked.head;
    vhu_store16_release(&region->desc[tracked.last].next,
                        track->next[tracked.last]);
    vhu_store16_release(&region->free_head, tracked.head);
    store_positions(region, to, from);
}

void vhu_track_packed_end_use(VhuTrackPacked *track, VhuTracked tracked,
                              VhuPosition to)
{
    QueueRegionPacked *region = track->region;

    set_inflight(&region->desc[tracked.head], 0);
    /* The free list first: the positions, once equal, say all is done. */
    vhu_store16_release(&region->old_free_head, tracked.head);
    store_positions(region, to, to);
}

VhuDesc vhu_track_packed_read(const VhuTrackPacked *track, uint16_t *entry)
{
    const DescStatePacked *state = &track->region->desc[*entry];

    *entry = track->next[*entry];
    return (VhuDesc){
        .addr = vhu_load64(&state->addr),
        .len = vhu_load32(&state->len),
        .flags = vhu_load16(&state->flags),
        .next = vhu_load16(&state->id),
    };
}
