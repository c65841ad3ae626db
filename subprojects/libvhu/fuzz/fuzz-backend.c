/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the fuzzer of the back end: a device that keeps elements for a while,
 * so that stopping has something to wait for, and the run of one input. What
 * the other side does is in fuzz-front.c.
 */
#include "fuzz/fuzz-front.h"
#include "fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CONFIG_BYTES 16u
#define HELD_MOST    8u
#define DRAIN_TURNS  65536u

const char fuzz_name[] = "backend";

typedef struct Fuzz {
    Front front;
    VhuLoop *loop;
    VhuBackend *backend;
    VhuQueue *held_queues[HELD_MOST];
    VhuElement *held[HELD_MOST];
    unsigned num_held;
    uint8_t config[CONFIG_BYTES];
} Fuzz;

/* ---- the device ---- */

static int dev_connect(VhuConnection *connection, void *device, void **state)
{
    (void)connection;
    *state = device;
    return 0;
}

static void give_back(Fuzz *fuzz)
{
    while (fuzz->num_held > 0) {
        VhuQueue *queue = fuzz->held_queues[--fuzz->num_held];
        VhuElement *element = fuzz->held[fuzz->num_held];
        size_t written;

        if (vhu_queue_may_suspend(queue) && (element->id & 1)) {
            vhu_queue_suspend(queue, element);
            continue;
        }
        written = vhu_element_write(element, 0, fuzz->config, CONFIG_BYTES);
        vhu_queue_push(queue, element, (uint32_t)written);
        vhu_queue_flush(queue);
    }
}

static VhuProcess dev_process(VhuQueue *queue, void *state)
{
    Fuzz *fuzz = state;
    VhuElement *element;

    while ((element = vhu_queue_pop(queue))) {
        vhu_element_read(element, 0, fuzz->config, CONFIG_BYTES);
        if (fuzz->num_held == HELD_MOST) {
            vhu_queue_unpop(queue, element);
            vhu_queue_wake(queue);
            return VHU_PROCESS_BLOCKED;
        }
        fuzz->held_queues[fuzz->num_held] = queue;
        fuzz->held[fuzz->num_held++] = element;
    }
    return VHU_PROCESS_DONE;
}

static int dev_get_config(void *state, uint32_t offset, void *data,
                          uint32_t size)
{
    const Fuzz *fuzz = state;

    memcpy(data, fuzz->config + offset, size);
    return 0;
}

static int dev_set_config(void *state, uint32_t offset, const void *data,
                          uint32_t size, bool migration)
{
    Fuzz *fuzz = state;

    (void)migration;
    memcpy(fuzz->config + offset, data, size);
    return 0;
}

static int dev_save(void *state, VhuBuffer *buffer)
{
    const Fuzz *fuzz = state;

    return vhu_buffer_append(buffer, fuzz->config, CONFIG_BYTES);
}

static int dev_load(void *state, const uint8_t *data, size_t bytes)
{
    Fuzz *fuzz = state;

    if (bytes != CONFIG_BYTES) {
        return -EINVAL;
    }
    memcpy(fuzz->config, data, bytes);
    return 0;
}

static int dev_get_shared_object(void *state, const VhuUuid *uuid)
{
    const Fuzz *fuzz = state;

    return uuid->bytes[0] ? -1
                          : fcntl(fuzz->front.memory_fd, F_DUPFD_CLOEXEC, 0);
}

static void dev_get_shmem_config(void *state, uint64_t sizes[VHU_SHMEM_REGIONS])
{
    (void)state;
    sizes[1] = 4096;
}

static const VhuDeviceOps ops = {
    .connect = dev_connect,
    .queue_process = dev_process,
    .get_config = dev_get_config,
    .set_config = dev_set_config,
    .save = dev_save,
    .load = dev_load,
    .get_shared_object = dev_get_shared_object,
    .get_shmem_config = dev_get_shmem_config,
};

/* ---- one input ---- */

/* Every element back, every connection freed, within bounded turns. */
static void drain(Fuzz *fuzz)
{
    for (unsigned i = 0; vhu_backend_num_alive(fuzz->backend) > 0; i++) {
        give_back(fuzz);
        vhu_loop_dispatch(fuzz->loop, 0);
        if (i == DRAIN_TURNS) {
            __builtin_trap(); /* a connection never drains */
        }
    }
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    Fuzz fuzz = {.front.in = {.data = bytes, .left = size}};
    const VhuDeviceInfo info = {
        .name = "fuzz",
        .num_queues = FUZZ_NUM_QUEUES,
        .max_queue_size = FUZZ_QUEUE_SIZE,
        .config_bytes = CONFIG_BYTES,
        /* Nobody here would serve a page fault. */
        .protocol_masked = VHU_PROTOCOL_BIT(PAGEFAULT),
        .ops = &ops,
    };

    fuzz.loop = vhu_loop_new(NULL);
    fuzz.backend = vhu_backend_new(fuzz.loop, &info, &fuzz, NULL, NULL);
    fuzz.front.loop = fuzz.loop;
    fuzz.front.backend = fuzz.backend;
    front_set_up(&fuzz.front);
    while (fuzz.front.in.left > 0) {
        front_act(&fuzz.front);
        if (fuzz.front.in.left & 1) {
            give_back(&fuzz);
        }
    }
    front_tear_down(&fuzz.front);
    drain(&fuzz);
    vhu_backend_free(fuzz.backend);
    vhu_loop_free(fuzz.loop);
}

/*
 * Programs that work: what an offer takes is queue, pieces - 1, and for each
 * piece flags, address, length.
 */
#define EVERYTHING   0xff, 0xff, 0xff, 0xff
#define OFFER(queue) FRONT_OFFER, queue, 1, 2, 0x00, 0x40, 16, 3, 0x00, 0x50, 32
#define SPLIT        FRONT_NEGOTIATE, EVERYTHING, 0x09, 0, 0, 0, EVERYTHING
#define PACKED       FRONT_NEGOTIATE, EVERYTHING, 0x0d, 0, 0, 0, EVERYTHING
#define IOMMU        FRONT_NEGOTIATE, EVERYTHING, 0x03, 0, 0, 0, EVERYTHING
#define RUN                                                                    \
    FRONT_SHARE_MEMORY, FRONT_START_RING, 0, 1, 4, 0, FRONT_START_RING, 1, 0,  \
        3, 0, OFFER(0), OFFER(1), OFFER(0), FRONT_KICK, 0, FRONT_STOP_RING, 0
#define KEEP FRONT_SET_INFLIGHT, 0, FRONT_SET_LOG, 0, FRONT_OPEN_REQUESTS

static const uint8_t split_seed[] = {
    SPLIT, KEEP, RUN, FRONT_STOP_RING, 1, FRONT_MOVE_STATE, 0};
static const uint8_t packed_seed[] = {
    PACKED, KEEP, RUN, FRONT_STOP_RING, 1, FRONT_MOVE_STATE, 1, 16};
static const uint8_t iommu_seed[] = {IOMMU,
                                     FRONT_OPEN_REQUESTS,
                                     FRONT_SHARE_MEMORY,
                                     FRONT_UPDATE_IOTLB,
                                     0,
                                     1,
                                     3,
                                     0,
                                     FRONT_UPDATE_IOTLB,
                                     4,
                                     0,
                                     3,
                                     4,
                                     RUN,
                                     FRONT_ANSWER,
                                     1,
                                     0,
                                     8};
static const uint8_t restart_seed[] = {SPLIT, KEEP, RUN,     FRONT_RECONNECT,
                                       SPLIT, KEEP, RUN,     FRONT_TRUNCATE,
                                       0,     16,   OFFER(1)};

static const struct {
    const uint8_t *bytes;
    size_t size;
} seeds[] = {
    {split_seed, sizeof(split_seed)},
    {packed_seed, sizeof(packed_seed)},
    {iommu_seed, sizeof(iommu_seed)},
    {restart_seed, sizeof(restart_seed)},
};

size_t fuzz_seed(unsigned number, uint8_t *bytes)
{
    if (number >= sizeof(seeds) / sizeof(seeds[0])) {
        return 0;
    }
    memcpy(bytes, seeds[number].bytes, seeds[number].size);
    return seeds[number].size;
}
