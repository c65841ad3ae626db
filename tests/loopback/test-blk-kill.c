/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the test that SIGKILL of vhost-user-blk under load loses nothing and
 * doubles nothing.
 *
 * The oracle is this process. The disk is a number of slots; one request at a
 * time is in flight for a slot, many slots at once. A write fills its slot
 * with a version that counts up, and is acknowledged once the driver has seen
 * it used with status OK. At each kill, and at the end, every sector of the
 * image must hold the acknowledged version or the one in flight: an older one
 * is a write that was lost, or an old write done again over a newer one.
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
/* Requests that complete between two kills, at most. */
#define MAX_PROGRESS 300
/* Of the kills, in the middle: fewer in flight would test nothing. */
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
    GArray *in_flight; /* unsigned, one per kill */
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

static void kill_and_restart(Run *run)
{
    RigRequest *request;
    unsigned num;

    rig_daemon_kill(run->blk->daemon);
    while ((request = rig_next_used(run->blk->rig, -1, 0)) != NULL) {
        complete(run, request);
    }
    num = run->num_jobs;
    g_array_append_val(run->in_flight, num);
    run->num_restarted += num;
    check_image(run);
    rig_daemon_respawn(run->blk->daemon);
    rig_reconnect(run->blk->rig, rig_daemon_socket(run->blk->daemon));
}

static int compare(gconstpointer a, gconstpointer b)
{
    return (int)*(const unsigned *)a - (int)*(const unsigned *)b;
}

static void report(Run *run, const char *name)
{
    unsigned *counts = (unsigned *)run->in_flight->data;
    unsigned num = run->in_flight->len;
    unsigned median;

    g_array_sort(run->in_flight, compare);
    median = counts[num / 2];
    g_test_message("result: blk kills, %s: %u; in flight at each: least %u, "
                   "median %u, most %u; %u requests done again, 0 lost",
                   name, num, counts[0], median, counts[num - 1],
                   run->num_restarted);
    g_assert_cmpuint(median, >=, MIN_MEDIAN);
}

/* A daemon and a ring to kill. */
typedef struct Setup {
    const char *name;
    uint64_t features;
    const char *const *options;
    bool direct;
} Setup;

static const char *const cached[] = {"--num-queues=2", NULL};
static const char *const direct[] = {"--num-queues=2", "--direct", NULL};
static const char *const threads[] = {"--num-queues=2", "--aio=threads", NULL};

#define FLUSH  RIG_BIT(VIRTIO_BLK_F_FLUSH)
#define PACKED RIG_BIT(VIRTIO_F_RING_PACKED)

/* Without FLUSH every write is stable, and so slow enough to be hit. */
static const Setup setups[] = {
    {"split", RIG_BIT(VIRTIO_RING_F_EVENT_IDX), cached, false},
    {"packed", PACKED | RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC), cached, false},
    {"split-direct", RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC), direct, true},
    {"packed-threads", PACKED | RIG_BIT(VIRTIO_RING_F_EVENT_IDX), threads,
     false},
    {"split-in-order", RIG_BIT(VIRTIO_F_IN_ORDER), cached, false},
};

static unsigned num_kills(void)
{
    const char *text = g_getenv("BLK_KILLS");
    unsigned num = text == NULL ? 20 : (unsigned)strtoul(text, NULL, 10);

    return MAX(num / (unsigned)G_N_ELEMENTS(setups), 1);
}

static void test_kill_loses_nothing(gconstpointer data)
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
            },
    };
    Run run = {0};

    if (setup->direct && !blk_can_direct()) {
        return;
    }
    run.blk = blk_rig_new(&config);
    run.in_flight = g_array_new(false, false, sizeof(unsigned));
    for (unsigned i = num_kills(); i > 0; i--) {
        for (int left = g_test_rand_int_range(0, MAX_PROGRESS); left > 0;
             left--) {
            fill_up(&run);
            wait_for_one(&run);
        }
        fill_up(&run);
        kill_and_restart(&run);
    }
    while (run.num_jobs > 0) {
        wait_for_one(&run);
    }
    check_image(&run);
    report(&run, setup->name);
    g_array_unref(run.in_flight);
    blk_rig_free(run.blk);
}

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    for (unsigned i = 0; i < G_N_ELEMENTS(setups); i++) {
        g_autofree char *path =
            g_strdup_printf("/blk/kill-loses-nothing/%s", setups[i].name);

        g_test_add_data_func(path, &setups[i], test_kill_loses_nothing);
    }
    return g_test_run();
}
