/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests that what interrupts vhost-user-blk under load, SIGKILL above
 * all, loses nothing and doubles nothing.
 *
 * The oracle is this process. The disk is a number of slots; one request at a
 * time is in flight for a slot, many slots at once. A write fills its slot
 * with a version that counts up, and is acknowledged once the driver has seen
 * it used with status OK. At each interruption, and at the end, every sector of
 * the image must hold the acknowledged version or the one in flight: an older
 * one is a write that was lost, or an old write done again over a newer one.
 *
 * BLK_KILLS in the environment: how often in all (20).
 */
#include "tests/loopback/blk-rig.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS        96u
#define SLOT_SECTORS 8u
#define SLOT_BYTES   (SLOT_SECTORS * BLK_SECTOR)
#define DEPTH        48u
#define QUEUES       2u
/* Requests that complete between two interruptions, at most. */
#define MAX_PROGRESS 300
/* Of all kills, in the middle: fewer in flight would test nothing. */
#define MIN_MEDIAN 8u

typedef struct Slot {
    uint64_t acknowledged; /* version on the disk, for sure */
    uint64_t pending;      /* version being written, 0: none */
    BlkJob *job;           /* in flight, or NULL */
} Slot;

typedef struct Run {
    BlkRig *blk;
    Slot slots[SLOTS];
    unsigned num_jobs; /* not completed */
    GArray *in_flight; /* unsigned, one per interruption */
    uint64_t version;
    unsigned num_restarted; /* requests that outlived a daemon */
} Run;

static void check_sector(const uint8_t *data, uint64_t sector, const Slot *slot)
{
    uint8_t expected[BLK_SECTOR];
    uint64_t versions[] = {slot->acknowledged, slot->pending};

    for (unsigned i = 0; i < G_N_ELEMENTS(versions); i++) {
        memset(expected, 0, sizeof(expected));
        if (versions[i] > 0) {
            blk_fill(expected, sizeof(expected), sector, versions[i]);
        }
        if (memcmp(data, expected, sizeof(expected)) == 0) {
            return;
        }
    }
    g_error("sector %" G_GUINT64_FORMAT " holds version %" G_GUINT64_FORMAT
            ", acknowledged %" G_GUINT64_FORMAT
            ", in flight %" G_GUINT64_FORMAT,
            sector, *(const uint64_t *)data >> 8 & UINT32_MAX,
            slot->acknowledged, slot->pending);
}

static void check_slot(const uint8_t *data, unsigned index, const Slot *slot)
{
    for (unsigned i = 0; i < SLOT_SECTORS; i++) {
        check_sector(data + i * BLK_SECTOR, index * SLOT_SECTORS + i, slot);
    }
}

static void check_image(Run *run)
{
    uint8_t data[SLOT_BYTES];

    for (unsigned i = 0; i < SLOTS; i++) {
        blk_image_read(run->blk, i * SLOT_BYTES, data, sizeof(data));
        check_slot(data, i, &run->slots[i]);
    }
}

static void submit(Run *run)
{
    unsigned index = (unsigned)g_test_rand_int_range(0, SLOTS);
    Slot *slot = &run->slots[index];
    uint8_t data[SLOT_BYTES];
    BlkJobConfig config = {
        .queue = index % QUEUES,
        .type = VIRTIO_BLK_T_IN,
        .sector = index * SLOT_SECTORS,
        .in_bytes = SLOT_BYTES,
    };

    if (slot->job != NULL) {
        return;
    }
    if (g_test_rand_int_range(0, 4) > 0) {
        slot->pending = ++run->version;
        blk_fill(data, sizeof(data), config.sector, slot->pending);
        config.type = VIRTIO_BLK_T_OUT;
        config.data = data;
        config.out_bytes = sizeof(data);
        config.in_bytes = 0;
    }
    slot->job = blk_job_new(run->blk->rig, &config);
    slot->job->tag = index;
    run->num_jobs++;
    rig_submit(slot->job->request);
}

static void fill_up(Run *run)
{
    while (run->num_jobs < DEPTH) {
        submit(run);
    }
}

static void complete(Run *run, RigRequest *request)
{
    BlkJob *job = request->user;
    Slot *slot = &run->slots[job->tag];

    g_assert_true(slot->job == job);
    g_assert_cmpuint(request->written, ==, job->in_bytes);
    g_assert_cmphex(blk_job_status(job), ==, VIRTIO_BLK_S_OK);
    if (slot->pending != 0) {
        slot->acknowledged = slot->pending;
        slot->pending = 0;
    } else {
        check_slot(job->in, (unsigned)job->tag, slot);
    }
    slot->job = NULL;
    run->num_jobs--;
    blk_job_free(job);
}

static void wait_for_one(Run *run)
{
    RigRequest *request = rig_next_used(run->blk->rig, -1, BLK_DEADLINE_MS);

    g_assert_nonnull(request);
    complete(run, request);
}

/* What the daemon had not done. */
static void count_in_flight(Run *run)
{
    RigRequest *request;
    unsigned num;

    while ((request = rig_next_used(run->blk->rig, -1, 0)) != NULL) {
        complete(run, request);
    }
    num = run->num_jobs;
    g_array_append_val(run->in_flight, num);
    run->num_restarted += num;
}

static void kill_and_restart(Run *run)
{
    rig_daemon_kill(run->blk->daemon);
    count_in_flight(run);
    check_image(run);
    rig_daemon_respawn(run->blk->daemon);
    rig_reconnect(run->blk->rig, rig_daemon_socket(run->blk->daemon));
}

/* GET_VRING_BASE: with GET_VRING_BASE_INFLIGHT it need not wait. */
static void stop_and_start(Run *run)
{
    rig_stop(run->blk->rig);
    count_in_flight(run);
    check_image(run);
    rig_start(run->blk->rig);
}

/* The old requests may still run when they come again. */
static void disconnect_and_reconnect(Run *run)
{
    rig_disconnect(run->blk->rig);
    count_in_flight(run);
    rig_reconnect(run->blk->rig, rig_daemon_socket(run->blk->daemon));
}

/* A daemon, a ring, and what interrupts them. */
typedef struct Setup {
    const char *what;
    const char *name;
    void (*interrupt)(Run *run);
    uint64_t features;
    const char *const *options;
    bool direct;
    bool suspends;
    bool drains;         /* nothing is in flight when it is interrupted */
    unsigned min_median; /* of what is in flight */
} Setup;

static int compare(gconstpointer a, gconstpointer b)
{
    return (int)*(const unsigned *)a - (int)*(const unsigned *)b;
}

static void report(Run *run, const Setup *setup)
{
    unsigned *counts = (unsigned *)run->in_flight->data;
    unsigned num = run->in_flight->len;
    unsigned median;

    g_array_sort(run->in_flight, compare);
    median = counts[num / 2];
    g_test_message("result: blk %s, %s: %u; in flight at each: least %u, "
                   "median %u, most %u; %u requests done again, 0 lost",
                   setup->what, setup->name, num, counts[0], median,
                   counts[num - 1], run->num_restarted);
    g_assert_cmpuint(median, >=, setup->min_median);
    g_assert_true(!setup->drains || counts[num - 1] == 0);
}

static const char *const cached[] = {"--num-queues=2", NULL};
static const char *const direct[] = {"--num-queues=2", "--direct", NULL};
static const char *const threads[] = {"--num-queues=2", "--aio=threads", NULL};

#define PACKED    RIG_BIT(VIRTIO_F_RING_PACKED)
#define INDIRECT  RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX RIG_BIT(VIRTIO_RING_F_EVENT_IDX)
#define IN_ORDER  RIG_BIT(VIRTIO_F_IN_ORDER)

#define KILL                                                                   \
    .what = "kill", .interrupt = kill_and_restart, .min_median = MIN_MEDIAN
#define STOP .what = "stop", .interrupt = stop_and_start
/* Not with direct I/O: it is the disk's at once, which cancels nothing. */
#define SUSPEND    STOP, .suspends = true, .min_median = 1
#define DISCONNECT .what = "disconnect", .interrupt = disconnect_and_reconnect

/* Without FLUSH every write is stable, and so slow enough to be hit. */
static const Setup setups[] = {
    {KILL, .name = "split", .features = EVENT_IDX, .options = cached},
    {KILL, .name = "packed", .features = PACKED | INDIRECT, .options = cached},
    {
        KILL,
        .name = "split-direct",
        .features = INDIRECT,
        .options = direct,
        .direct = true,
    },
    {
        KILL,
        .name = "packed-threads",
        .features = PACKED | EVENT_IDX,
        .options = threads,
    },
    {KILL, .name = "split-in-order", .features = IN_ORDER, .options = cached},
    {STOP, .name = "drained", .options = cached, .drains = true},
    {SUSPEND, .name = "suspended-split", .options = cached},
    {
        SUSPEND,
        .name = "suspended-packed-threads",
        .features = PACKED,
        .options = threads,
    },
    {
        SUSPEND,
        .name = "suspended-in-order",
        .features = IN_ORDER,
        .options = cached,
    },
    {DISCONNECT, .name = "split", .options = cached},
    {
        DISCONNECT,
        .name = "packed-direct",
        .features = PACKED,
        .options = direct,
        .direct = true,
    },
    {DISCONNECT, .name = "threads", .options = threads},
};

/* There are five daemons to kill. */
#define KILL_SETUPS 5u

/* A stop is quick, and some find all requests done. */
#define STOPS_PER_KILL 5u

static unsigned num_rounds(const Setup *setup)
{
    const char *text = g_getenv("BLK_KILLS");
    unsigned num = text == NULL ? 20 : (unsigned)strtoul(text, NULL, 10);

    return MAX(num / KILL_SETUPS, 1) * (setup->suspends ? STOPS_PER_KILL : 1);
}

static void test_nothing_is_lost(gconstpointer data)
{
    const Setup *setup = data;
    BlkRigConfig config = {
        .options = setup->options,
        .rig =
            {
                .features = setup->features | RIG_BIT(VIRTIO_BLK_F_MQ),
                .num_queues = QUEUES,
                .queue_size = 256,
                .inflight = true,
                .suspends = setup->suspends,
            },
    };
    Run run = {0};

    if (setup->direct && !blk_can_direct()) {
        return;
    }
    run.blk = blk_rig_new(&config);
    run.in_flight = g_array_new(false, false, sizeof(unsigned));
    for (unsigned i = num_rounds(setup); i > 0; i--) {
        for (int left = g_test_rand_int_range(0, MAX_PROGRESS); left > 0;
             left--) {
            fill_up(&run);
            wait_for_one(&run);
        }
        fill_up(&run);
        setup->interrupt(&run);
    }
    while (run.num_jobs > 0) {
        wait_for_one(&run);
    }
    check_image(&run);
    report(&run, setup);
    g_array_unref(run.in_flight);
    blk_rig_free(run.blk);
}

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    for (unsigned i = 0; i < G_N_ELEMENTS(setups); i++) {
        g_autofree char *path = g_strdup_printf("/blk/%s-loses-nothing/%s",
                                                setups[i].what, setups[i].name);

        g_test_add_data_func(path, &setups[i], test_nothing_is_lost);
    }
    return g_test_run();
}
