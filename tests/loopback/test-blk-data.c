/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests that vhost-user-blk puts data where it belongs, under every
 * ring layout and every way to do I/O. The oracle is a shadow image in this
 * process; in the end the image file is compared with it, byte for byte.
 */
#include "tests/loopback/blk-rig.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* At most so many requests in flight. */
#define DEPTH 16u
/* Requests of one run. */
#define REQUESTS 250u
/* One in so many is a flush, which takes as long as many others. */
#define FLUSH_EVERY 40
/* Sectors of a request. */
#define MAX_SECTORS 40

typedef struct Run {
    BlkRig *blk;
    uint8_t *shadow;
    uint64_t sectors;
    bool *busy;      /* sectors of requests in flight */
    GPtrArray *jobs; /* in flight */
    unsigned num_queues;
    uint64_t version; /* of what is written, counting */
} Run;

/* Ranges of requests in flight do not overlap: what they would do to each
 * other is not defined. */
static bool claim(Run *run, uint64_t *sector, uint64_t *num)
{
    *sector = (uint64_t)g_test_rand_int_range(0, (gint32)run->sectors);
    *num = (uint64_t)g_test_rand_int_range(1, MAX_SECTORS);
    if (g_test_rand_bit()) {
        *sector &= ~7ull;
        *num = (*num + 7) & ~7ull;
    }
    *num = MIN(*num, run->sectors - *sector);
    for (uint64_t i = 0; i < *num; i++) {
        if (run->busy[*sector + i]) {
            return false;
        }
    }
    memset(run->busy + *sector, true, *num);
    return true;
}

typedef struct Claim {
    uint32_t type;
    uint64_t sector;
    uint64_t num;
} Claim;

static void complete_one(Run *run);

static void submit(Run *run, const Claim *claim, BlkJobConfig *config)
{
    Rig *rig = run->blk->rig;
    BlkJob *job;

    config->queue = (unsigned)g_test_rand_int_range(0, (int)run->num_queues);
    config->type = claim->type;
    config->framing =
        g_test_rand_bit() ? BLK_FRAMING_RANDOM : BLK_FRAMING_USUAL;
    job = blk_job_new(rig, config);
    job->tag = claim->sector << 16 | claim->num;
    while (rig_submit_quietly(job->request) == -ENOSPC) {
        complete_one(run);
    }
    g_ptr_array_add(run->jobs, job);
    rig_kick(rig, config->queue, false);
}

static void submit_write(Run *run, const Claim *claim)
{
    size_t bytes = claim->num * BLK_SECTOR;
    uint8_t *shadow = run->shadow + claim->sector * BLK_SECTOR;
    BlkJobConfig config = {
        .sector = claim->sector,
        .data = shadow,
        .out_bytes = bytes,
    };

    blk_fill(shadow, bytes, claim->sector, ++run->version);
    submit(run, claim, &config);
}

static void submit_zeroes(Run *run, const Claim *claim)
{
    uint64_t first = claim->num / 2;
    struct virtio_blk_discard_write_zeroes segments[] = {
        {
            .sector = htole64(claim->sector + first),
            .num_sectors = htole32(claim->num - first),
            .flags = htole32(g_test_rand_bit()),
        },
        {
            .sector = htole64(claim->sector),
            .num_sectors = htole32(first),
            .flags = htole32(g_test_rand_bit()),
        },
    };
    BlkJobConfig config = {
        .data = segments,
        .out_bytes = sizeof(segments),
    };

    memset(run->shadow + claim->sector * BLK_SECTOR, 0,
           claim->num * BLK_SECTOR);
    submit(run, claim, &config);
}

static void submit_read(Run *run, const Claim *claim)
{
    BlkJobConfig config = {
        .sector = claim->sector,
        .in_bytes = claim->num * BLK_SECTOR,
    };

    submit(run, claim, &config);
}

static void submit_some(Run *run)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT,          VIRTIO_BLK_T_IN,
        VIRTIO_BLK_T_IN,  VIRTIO_BLK_T_WRITE_ZEROES,
    };
    Claim c = {
        .type = types[g_test_rand_int_range(0, G_N_ELEMENTS(types))],
    };
    BlkJobConfig nothing = {0};

    if (g_test_rand_int_range(0, FLUSH_EVERY) == 0) {
        c.type = VIRTIO_BLK_T_FLUSH;
        submit(run, &c, &nothing);
    } else if (claim(run, &c.sector, &c.num)) {
        switch (c.type) {
        case VIRTIO_BLK_T_OUT:
            submit_write(run, &c);
            break;
        case VIRTIO_BLK_T_WRITE_ZEROES:
            submit_zeroes(run, &c);
            break;
        default:
            submit_read(run, &c);
        }
    }
}

static void complete_one(Run *run)
{
    RigRequest *request = rig_next_used(run->blk->rig, -1, BLK_DEADLINE_MS);
    BlkJob *job;
    uint64_t sector;
    uint64_t num;

    g_assert_nonnull(request);
    job = request->user;
    sector = job->tag >> 16;
    num = job->tag & 0xffff;
    g_assert_cmpuint(request->written, ==, job->in_bytes);
    g_assert_cmphex(blk_job_status(job), ==, VIRTIO_BLK_S_OK);
    if (job->in_bytes > 1) {
        g_assert_cmpmem(job->in, num * BLK_SECTOR,
                        run->shadow + sector * BLK_SECTOR, num * BLK_SECTOR);
    }
    memset(run->busy + sector, false, num);
    g_assert_true(g_ptr_array_remove_fast(run->jobs, job));
    blk_job_free(job);
}

static void compare_image(Run *run)
{
    g_autofree uint8_t *image = g_malloc(run->blk->bytes);

    blk_image_read(run->blk, 0, image, run->blk->bytes);
    for (uint64_t i = 0; i < run->sectors; i++) {
        if (memcmp(image + i * BLK_SECTOR, run->shadow + i * BLK_SECTOR,
                   BLK_SECTOR) != 0) {
            g_test_message("sector %" G_GUINT64_FORMAT " differs", i);
            g_test_fail();
            return;
        }
    }
}

static void run_random_io(const BlkRigConfig *config)
{
    Run run = {
        .blk = blk_rig_new(config),
        .num_queues = config->rig.num_queues,
        .jobs = g_ptr_array_new(),
    };

    run.sectors = run.blk->bytes / BLK_SECTOR;
    run.shadow = g_malloc0(run.blk->bytes);
    run.busy = g_new0(bool, run.sectors);
    for (unsigned i = 0; i < REQUESTS; i++) {
        submit_some(&run);
        while (run.jobs->len > (unsigned)g_test_rand_int_range(0, DEPTH)) {
            complete_one(&run);
        }
    }
    while (run.jobs->len > 0) {
        complete_one(&run);
    }
    compare_image(&run);
    g_ptr_array_unref(run.jobs);
    g_free(run.shadow);
    g_free(run.busy);
    blk_rig_free(run.blk);
}

/* ---- every combination ---- */

static void run_with(const RigConfig *rig, const char *const *options)
{
    BlkRigConfig config = {.options = options, .rig = *rig};

    config.rig.num_queues = 2;
    config.rig.queue_size = 128;
    config.rig.features |=
        RIG_BIT(VIRTIO_BLK_F_MQ) | RIG_BIT(VIRTIO_BLK_F_FLUSH) |
        RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES) | RIG_BIT(VIRTIO_BLK_F_SEG_MAX);
    run_random_io(&config);
}

static void run_io_uring(const RigConfig *rig)
{
    static const char *const options[] = {"--num-queues=2", NULL};

    run_with(rig, options);
}

static void run_threads(const RigConfig *rig)
{
    static const char *const options[] = {"--num-queues=2", "--aio=threads",
                                          NULL};

    run_with(rig, options);
}

static void run_direct(const RigConfig *rig)
{
    static const char *const options[] = {"--num-queues=2", "--direct", NULL};

    if (blk_can_direct()) {
        run_with(rig, options);
    }
}

static void run_threads_direct(const RigConfig *rig)
{
    static const char *const options[] = {"--num-queues=2", "--aio=threads",
                                          "--direct", NULL};

    if (blk_can_direct()) {
        run_with(rig, options);
    }
}

/* ---- block devices ---- */

typedef struct Device {
    const char *name;
    uint32_t block_bytes;
    const char *const *options;
} Device;

static const char *const device_cached[] = {"--num-queues=2", NULL};
static const char *const device_direct[] = {"--num-queues=2", "--direct", NULL};
static const char *const device_threads[] = {"--num-queues=2", "--direct",
                                             "--aio=threads", NULL};

static const Device devices[] = {
    {"cached", 512, device_cached},
    {"direct", 512, device_direct},
    {"direct-4096", 4096, device_direct},
    {"threads-4096", 4096, device_threads},
};

static void test_a_device_is_served(gconstpointer data)
{
    const Device *device = data;
    BlkRigConfig config = {
        .options = device->options,
        .loop_bytes = device->block_bytes,
        .rig =
            {
                .num_queues = 2,
                .queue_size = 128,
                .features = RIG_BIT(VIRTIO_BLK_F_MQ) |
                            RIG_BIT(VIRTIO_BLK_F_FLUSH) |
                            RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES),
            },
    };

    if (blk_can_loop()) {
        run_random_io(&config);
    }
}

static uint64_t allocated_bytes(const BlkRig *blk)
{
    struct stat st;

    g_assert_no_errno(fsync(blk->loop_fd));
    g_assert_no_errno(fstat(blk->fd, &st));
    return (uint64_t)st.st_blocks * BLK_SECTOR;
}

static void test_a_device_is_discarded(void)
{
    BlkRigConfig config = {
        .loop_bytes = 512,
        .rig = {.features = RIG_BIT(VIRTIO_BLK_F_DISCARD) |
                            RIG_BIT(VIRTIO_BLK_F_FLUSH)},
    };
    struct virtio_blk_discard_write_zeroes range = {
        .num_sectors = htole32(1024),
    };
    size_t bytes = 1024 * BLK_SECTOR;
    g_autofree uint8_t *data = g_malloc(bytes);
    BlkRig *blk;

    if (!blk_can_loop()) {
        return;
    }
    blk = blk_rig_new(&config);
    blk_fill(data, bytes, 0, 1);
    g_assert_cmphex(blk_write(blk->rig, 0, data, bytes), ==, VIRTIO_BLK_S_OK);
    g_assert_cmphex(blk_flush(blk->rig), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(allocated_bytes(blk), >=, bytes);
    g_assert_cmphex(blk_segments(blk->rig, VIRTIO_BLK_T_DISCARD, &range, 1), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpuint(allocated_bytes(blk), <, bytes);
    blk_rig_free(blk);
}

/* ---- more at once than a queue's channel takes ---- */

#define CROWD 400u

/* All with one kick: what had to wait must go on without another. */
static void test_a_crowd_is_served(gconstpointer options)
{
    BlkRigConfig config = {
        .options = options,
        .rig =
            {
                .queue_size = 1024,
                .features = RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC),
            },
    };
    BlkRig *blk = blk_rig_new(&config);
    uint8_t data[BLK_SECTOR];
    uint8_t image[BLK_SECTOR];

    for (unsigned i = 0; i < CROWD; i++) {
        BlkJobConfig job = {
            .type = VIRTIO_BLK_T_OUT,
            .sector = i,
            .data = data,
            .out_bytes = sizeof(data),
        };

        blk_fill(data, sizeof(data), i, 1);
        g_assert_cmpint(
            rig_submit_quietly(blk_job_new(blk->rig, &job)->request), ==, 0);
    }
    rig_kick(blk->rig, 0, false);
    for (unsigned i = 0; i < CROWD; i++) {
        RigRequest *request = rig_next_used(blk->rig, 0, BLK_DEADLINE_MS);

        g_assert_nonnull(request);
        g_assert_cmphex(blk_job_status(request->user), ==, VIRTIO_BLK_S_OK);
        blk_job_free(request->user);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        blk_fill(data, sizeof(data), i, 1);
        blk_image_read(blk, i * sizeof(image), image, sizeof(image));
        g_assert_cmpmem(image, sizeof(image), data, sizeof(data));
    }
    blk_rig_free(blk);
}

static const char *const cached[] = {NULL};
static const char *const threads[] = {"--aio=threads", NULL};

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    g_test_add_data_func("/blk/data/a-crowd-is-served/io_uring", cached,
                         test_a_crowd_is_served);
    g_test_add_data_func("/blk/data/a-crowd-is-served/threads", threads,
                         test_a_crowd_is_served);
    for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_autofree char *path =
            g_strdup_printf("/blk/data/device/%s", devices[i].name);

        g_test_add_data_func(path, &devices[i], test_a_device_is_served);
    }
    g_test_add_func("/blk/data/device/is-discarded",
                    test_a_device_is_discarded);
    rig_add_matrix("/blk/data/io_uring", run_io_uring);
    rig_add_matrix("/blk/data/io_uring+direct", run_direct);
    rig_add_matrix("/blk/data/threads", run_threads);
    rig_add_matrix("/blk/data/threads+direct", run_threads_direct);
    return g_test_run();
}
