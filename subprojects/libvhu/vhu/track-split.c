/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the inflight region of a split queue: its recovery and the steps that
 * keep it true. Does not know the ring; vhu/ring-split calls it at the right
 * moments.
 *
 * Theory of operation. The process may be killed between any two stores, and
 * the next one reads what is left. Taking a buffer is one store (inflight),
 * the counter before it means nothing without it. Using a batch is one store,
 * too: the ring's used index. Before it the batch list is not looked at,
 * because used_idx still equals the ring's; after it the list says whose
 * inflight to clear, until used_idx follows. How far the ring was read is not
 * stored: it is the used index plus the number in flight.
 */
#include "vhu/track-internal.h"

#include "vhu/access-internal.h"

#include <errno.h>
#include <stdlib.h>

static void set_inflight(DescStateSplit *state, uint8_t value)
{
    __atomic_store_n(&state->inflight, value, __ATOMIC_RELEASE);
}

/* A region of zeroes; its version makes it one. */
static void begin(QueueRegionSplit *region, uint16_t num, uint16_t used)
{
    uint16_t i;

    for (i = 0; i < num; i++) {
        set_inflight(&region->desc[i], 0);
    }
    vhu_store16_release(&region->desc_num, num);
    vhu_store16_release(&region->last_batch_head, 0);
    vhu_store16_release(&region->used_idx, used);
    vhu_store16_release(&region->version, VHU_TRACK_VERSION);
}

/* A recovery under way. */
typedef struct Reader {
    VhuTrackSplit *track;
    VhuRecovery *recovery;
    uint32_t ring_size;
    uint16_t num;   /* of the region's descriptors */
    bool *inflight; /* of each */
    VhuError *err;
} Reader;

/* Returns how many heads are in flight, or -EINVAL. */
static int read_inflight(const Reader *reader)
{
    const DescStateSplit *desc = reader->track->region->desc;
    uint8_t value;
    int count = 0;
    uint16_t i;

    for (i = 0; i < reader->num; i++) {
        value = __atomic_load_n(&desc[i].inflight, __ATOMIC_RELAXED);
        if (value > 1) {
            return vhu_error_set(reader->err, EINVAL, 0, value,
                                 "inflight region: state %u of descriptor %u",
                                 value, i);
        }
        reader->inflight[i] = value;
        count += value;
    }
    return count;
}

/*
 * The ring's used index moved and the region does not know: what it moved by
 * is the length of the batch list.
 */
static int clear_batch(const Reader *reader, uint16_t batch)
{
    QueueRegionSplit *region = reader->track->region;
    uint16_t i = vhu_load16(&region->last_batch_head);
    bool *seen;
    int ret = 0;

    seen = calloc(reader->num, sizeof(*seen));
    if (!seen) {
        return vhu_error_set(reader->err, ENOMEM, 0, 0, "no memory");
    }
    for (; batch > 0; batch--) {
        if (i >= reader->num || seen[i]) {
            ret = vhu_error_set(reader->err, EINVAL, 0, i,
                                "inflight region: batch list comes to %u%s, "
                                "%u entries before its end",
                                i, i < reader->num ? " again" : "", batch);
            break;
        }
        seen[i] = true;
        reader->inflight[i] = false;
        set_inflight(&region->desc[i], 0);
        i = vhu_load16(&region->desc[i].next);
    }
    free(seen);
    return ret;
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

/* List what is in flight, in the order it was taken. */
static int list_inflight(const Reader *reader)
{
    VhuTrackSplit *track = reader->track;
    VhuRecovery *recovery = reader->recovery;
    VhuResubmit *entry;
    uint16_t i;

    for (i = 0; i < reader->num; i++) {
        if (!reader->inflight[i]) {
            continue;
        }
        if (i >= reader->ring_size) {
            return vhu_error_set(reader->err, EINVAL, 0, i,
                                 "inflight region: descriptor %u is in "
                                 "flight, the ring has %u",
                                 i, reader->ring_size);
        }
        entry = &recovery->resubmit[recovery->num++];
        entry->counter = vhu_load64(&track->region->desc[i].counter);
        entry->tracked.head = i;
        if (entry->counter >= track->counter) {
            track->counter = entry->counter + 1;
        }
    }
    qsort(recovery->resubmit, recovery->num, sizeof(*recovery->resubmit),
          compare_counters);
    return 0;
}

static int recover(const Reader *reader)
{
    QueueRegionSplit *region = reader->track->region;
    uint16_t used = reader->recovery->used.index;
    uint16_t batch = (uint16_t)(used - vhu_load16(&region->used_idx));
    int ret;

    ret = read_inflight(reader);
    /* With nothing in flight there is no one to clear, and an index from
     * elsewhere says that the driver laid the ring out anew. */
    if (ret > 0 && batch > 0) {
        ret = clear_batch(reader, batch);
    }
    if (ret < 0) {
        return ret;
    }
    vhu_store16_release(&region->used_idx, used);
    reader->track->last_batch_head = vhu_load16(&region->last_batch_head);
    return list_inflight(reader);
}

int vhu_track_split_start(VhuTrackSplit *track, const VhuTrackConfig *config,
                          VhuRecovery *recovery, VhuError *err)
{
    QueueRegionSplit *region = config->region;
    uint16_t version = vhu_load16_acquire(&region->version);
    Reader reader = {
        .track = track,
        .recovery = recovery,
        .ring_size = config->ring_size,
        .num = vhu_load16(&region->desc_num),
        .err = err,
    };
    int ret;

    *track = (VhuTrackSplit){.region = region};
    if (version == 0) {
        begin(region, (uint16_t)config->region_size, recovery->used.index);
        return 0;
    }
    if (version != VHU_TRACK_VERSION) {
        return vhu_error_set(err, EINVAL, 0, version,
                             "inflight region: version %u, expected %u",
                             version, VHU_TRACK_VERSION);
    }
    if (reader.num < config->ring_size || reader.num > config->region_size) {
        return vhu_error_set(err, EINVAL, 0, reader.num,
                             "inflight region is for %u descriptors, the ring "
                             "has %u and the region room for %u",
                             reader.num, config->ring_size,
                             config->region_size);
    }
    reader.inflight = calloc(reader.num, sizeof(*reader.inflight));
    if (!reader.inflight) {
        return vhu_error_set(err, ENOMEM, 0, 0, "no memory");
    }
    recovery->was_used = true;
    ret = recover(&reader);
    free(reader.inflight);
    return ret;
}

void vhu_track_split_take(VhuTrackSplit *track, uint16_t head)
{
    DescStateSplit *state = &track->region->desc[head];

    vhu_store64_release(&state->counter, track->counter++);
    set_inflight(state, 1);
}

void vhu_track_split_untake(VhuTrackSplit *track, uint16_t head)
{
    set_inflight(&track->region->desc[head], 0);
}

void vhu_track_split_link(VhuTrackSplit *track, uint16_t head)
{
    QueueRegionSplit *region = track->region;

    vhu_store16_release(&region->desc[head].next, track->last_batch_head);
    vhu_store16_release(&region->last_batch_head, head);
    track->last_batch_head = head;
}

void vhu_track_split_clear(VhuTrackSplit *track, uint16_t head)
{
    set_inflight(&track->region->desc[head], 0);
}

void vhu_track_split_commit(VhuTrackSplit *track, uint16_t used)
{
    vhu_store16_release(&track->region->used_idx, used);
}
