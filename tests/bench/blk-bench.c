/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures a vhost-user-blk back end, whoever's, from the driver's side: random
 * reads at a constant depth on one queue, for a given time. Prints one line of
 * "key=value" words. Starts nothing and judges nothing.
 */
#include "tests/rig.h"

#include <endian.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECTOR_BYTES 512u
#define NO_ANSWER_MS 10000
#define MAX_DEPTH    128
#define MAX_BLOCK    (1024 * 1024)

typedef struct Options {
    char *socket;
    int depth;
    int block_bytes;
    double seconds;
    double warm_up;
    gboolean packed;
    gboolean poll; /* look at the ring instead of waiting for calls */
} Options;

static Options options = {
    .depth = 1,
    .block_bytes = 4096,
    .seconds = 3,
    .warm_up = 0.5,
};

/* A read that is done again and again. */
typedef struct Slot {
    struct virtio_blk_outhdr *header;
    uint8_t *status;
    VhuPiece out[1];
    VhuPiece in[2];
    int64_t begun_us;
} Slot;

typedef struct Bench {
    Rig *rig;
    VhuDriverQueue *queue;
    Slot *slots;
    GRand *random;
    uint64_t num_blocks; /* of the disk */
    uint64_t done;
    uint64_t failed;
    uint64_t kicks;
    uint64_t waits;
    int64_t latency_us; /* of all, together */
} Bench;

static void fail(const char *what)
{
    fprintf(stderr, "blk-bench: %s\n", what);
    _exit(1);
}

static void set_up_slot(Bench *bench, Slot *slot)
{
    Rig *rig = bench->rig;
    void *data = rig_alloc(rig, (size_t)options.block_bytes);

    slot->header = rig_alloc(rig, sizeof(*slot->header));
    slot->status = rig_alloc(rig, 1);
    slot->header->type = htole32(VIRTIO_BLK_T_IN);
    slot->out[0] = (VhuPiece){
        .addr = rig_addr(rig, slot->header),
        .bytes = sizeof(*slot->header),
    };
    slot->in[0] = (VhuPiece){
        .addr = rig_addr(rig, data),
        .bytes = (uint32_t)options.block_bytes,
    };
    slot->in[1] = (VhuPiece){
        .addr = rig_addr(rig, slot->status),
        .bytes = 1,
    };
}

static void submit(Bench *bench, Slot *slot, int64_t now_us)
{
    uint64_t block = g_rand_int(bench->random) % bench->num_blocks;
    VhuDriverBuffer buffer = {
        .out = slot->out,
        .num_out = G_N_ELEMENTS(slot->out),
        .in = slot->in,
        .num_in = G_N_ELEMENTS(slot->in),
        .cookie = slot,
    };

    slot->header->sector =
        htole64(block * ((uint64_t)options.block_bytes / SECTOR_BYTES));
    *slot->status = 0xff;
    slot->begun_us = now_us;
    if (vhu_driver_add(bench->queue, &buffer) < 0) {
        fail("the ring is full");
    }
}

static void kick(Bench *bench)
{
    const uint64_t one = 1;

    if (vhu_driver_should_kick(bench->queue)) {
        bench->kicks++;
        if (write(rig_kick_fd(bench->rig, 0), &one, sizeof(one)) < 0) {
            fail("kick");
        }
    }
}

/* Take what is used, and submit it anew. Returns how many there were. */
static unsigned harvest(Bench *bench)
{
    VhuDriverUsed used;
    VhuError err;
    int64_t now_us = g_get_monotonic_time();
    unsigned num = 0;
    int result;

    while ((result = vhu_driver_get(bench->queue, &used, &err)) == 1) {
        Slot *slot = used.cookie;

        bench->done++;
        bench->failed += *slot->status != VIRTIO_BLK_S_OK;
        bench->latency_us += now_us - slot->begun_us;
        submit(bench, slot, now_us);
        num++;
    }
    if (result < 0) {
        fail(err.text);
    }
    return num;
}

static void wait_for_call(Bench *bench)
{
    struct pollfd call = {.fd = rig_call_fd(bench->rig, 0), .events = POLLIN};
    uint64_t count;

    if (options.poll || vhu_driver_set_notify(bench->queue, true)) {
        return;
    }
    bench->waits++;
    if (poll(&call, 1, NO_ANSWER_MS) != 1 ||
        read(call.fd, &count, sizeof(count)) < 0) {
        fail("no answer");
    }
    vhu_driver_set_notify(bench->queue, false);
}

static void run(Bench *bench, double seconds)
{
    int64_t until = g_get_monotonic_time() + (int64_t)(seconds * 1e6);

    while (g_get_monotonic_time() < until) {
        if (harvest(bench) > 0) {
            kick(bench);
        } else {
            wait_for_call(bench);
        }
    }
}

/* Wait for what is in flight, without submitting more. */
static void drain(Bench *bench)
{
    int64_t until = g_get_monotonic_time() + NO_ANSWER_MS * 1000;
    VhuDriverUsed used;

    while (vhu_driver_in_flight(bench->queue) > 0) {
        if (g_get_monotonic_time() > until) {
            fail("no answer at the end");
        }
        vhu_driver_get(bench->queue, &used, NULL);
    }
}

static void measure(Bench *bench)
{
    int64_t begun;
    double took;

    for (int i = 0; i < options.depth; i++) {
        set_up_slot(bench, &bench->slots[i]);
        submit(bench, &bench->slots[i], g_get_monotonic_time());
    }
    kick(bench);
    run(bench, options.warm_up);
    bench->done = bench->failed = bench->kicks = bench->waits = 0;
    bench->latency_us = 0;
    begun = g_get_monotonic_time();
    run(bench, options.seconds);
    took = (double)(g_get_monotonic_time() - begun) / 1e6;
    if (bench->done == 0 || bench->failed > 0) {
        fail("reads failed");
    }
    printf("depth=%d iops=%.0f latency_us=%.1f kicks=%.3f waits=%.3f\n",
           options.depth, (double)bench->done / took,
           (double)bench->latency_us / (double)bench->done,
           (double)bench->kicks / (double)bench->done,
           (double)bench->waits / (double)bench->done);
    drain(bench);
}

static const GOptionEntry entries[] = {
    {"socket", 's', 0, G_OPTION_ARG_FILENAME, &options.socket,
     "of the back end", "PATH"},
    {"depth", 'd', 0, G_OPTION_ARG_INT, &options.depth,
     "requests in flight (1)", "N"},
    {"block", 'b', 0, G_OPTION_ARG_INT, &options.block_bytes,
     "bytes of a request (4096)", "N"},
    {"seconds", 't', 0, G_OPTION_ARG_DOUBLE, &options.seconds,
     "how long to measure (3)", "S"},
    {"warm-up", 'w', 0, G_OPTION_ARG_DOUBLE, &options.warm_up,
     "how long before that (0.5)", "S"},
    {"packed", 0, 0, G_OPTION_ARG_NONE, &options.packed,
     "packed ring instead of split", NULL},
    {"poll", 0, 0, G_OPTION_ARG_NONE, &options.poll,
     "poll the ring instead of waiting to be called", NULL},
    {0},
};

static void parse(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(
        context, "4 KiB random reads from a vhost-user-blk back end.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fail(error->message);
    }
    if (options.socket == NULL || options.depth < 1 ||
        options.depth > MAX_DEPTH || options.block_bytes < (int)SECTOR_BYTES ||
        options.block_bytes > MAX_BLOCK ||
        options.block_bytes % SECTOR_BYTES != 0) {
        fail("--socket=PATH is needed, --depth is 1 to 128, --block sectors");
    }
}

int main(int argc, char **argv)
{
    RigConfig config = {
        .features = RIG_BIT(VIRTIO_RING_F_EVENT_IDX),
        .queue_size = 128,
    };
    Bench bench = {.random = g_rand_new_with_seed(1)};
    uint64_t sectors;

    parse(argc, argv);
    config.queue_size = options.depth * 3 > 128 ? 512 : 128;
    config.memory_bytes =
        1024 * 1024 + (uint64_t)options.depth * (options.block_bytes + 8192u);
    config.memory_bytes = (config.memory_bytes + 4095) & ~4095ull;
    config.features |= options.packed ? RIG_BIT(VIRTIO_F_RING_PACKED) : 0;
    bench.rig = rig_new(&config);
    rig_connect(bench.rig, options.socket);
    rig_get_config(bench.rig, 0, &sectors, sizeof(sectors));
    bench.num_blocks =
        le64toh(sectors) * SECTOR_BYTES / (uint64_t)options.block_bytes;
    if (bench.num_blocks == 0) {
        fail("the disk is empty");
    }
    bench.slots = g_new0(Slot, options.depth);
    rig_start(bench.rig);
    bench.queue = rig_queue(bench.rig, 0);
    measure(&bench);
    rig_stop(bench.rig);
    rig_free(bench.rig);
    g_free(bench.slots);
    g_rand_free(bench.random);
    g_free(options.socket);
    return 0;
}
