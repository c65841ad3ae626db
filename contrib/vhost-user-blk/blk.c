/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the device between the library and the store: connections, queues and
 * the way of a request through them. What a request means is in request.c,
 * I/O is in the stores.
 *
 * Threads. A connection's state belongs to the control thread; what queues
 * read of it is atomic. A queue and all its requests belong to its loop.
 */
#include "contrib/vhost-user-blk/blk.h"

#include "contrib/daemon/log.h"
#include "contrib/vhost-user-blk/config.h"
#include "contrib/vhost-user-blk/request.h"
#include "vhu/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vhost_types.h>
#include <string.h>

#define BIT(feature) (1ULL << (feature))

/* Requests taken before others on the same loop have their turn. */
#define MAX_ROUND 256u
/* How often the size of the image is looked at. Files and block devices have
 * no common event for it, and a watch on a file would also tell of each of
 * our own writes. */
#define SIZE_CHECK_MS 1000

struct BlkDevice {
    BlkDeviceConfig config;
    _Atomic uint64_t sectors; /* capacity, of 512 bytes */
    GPtrArray *connections;   /* BlkConnection */
    VhuTimer *size_timer;
};

typedef struct BlkConnection {
    BlkDevice *device;
    VhuConnection *connection;
    uint64_t features;     /* of the last set_features, without LOG_ALL */
    atomic_bool writeback; /* the field of configuration space */
    atomic_bool inherited; /* a ring of it ran before it was started here */
    /* The driver knows the field as it is here. Front ends do not repeat to a
     * new daemon what the driver wrote to the one before. */
    atomic_bool mode_agreed;
} BlkConnection;

typedef struct BlkQueue {
    BlkConnection *connection;
    VhuQueue *queue;
    BlkChannel *channel;
    bool blocked;       /* it left requests, for want of room */
    bool always_stable; /* neither FLUSH nor CONFIG_WCE was negotiated */
    bool has_wce;       /* the writeback field decides */
} BlkQueue;

/* ---- requests, on the queue's loop ---- */

/*
 * VIRTIO 1.4, "Block Device", "Device Operation": when a write is stable. A
 * driver we inherited may have asked the daemon before us for write-through:
 * it has it until it flushes or says otherwise.
 */
static bool is_write_through(const BlkQueue *queue)
{
    BlkConnection *connection = queue->connection;

    return queue->always_stable ||
           (queue->has_wce && (!atomic_load(&connection->writeback) ||
                               (atomic_load(&connection->inherited) &&
                                !atomic_load(&connection->mode_agreed))));
}

static void end_request(BlkQueue *queue, BlkRequest *request)
{
    vhu_queue_push(queue->queue, request->element, blk_request_end(request));
}

/* Guests are told that it failed, but not of which image, and why. */
static void log_failure(const BlkQueue *queue, const BlkIo *io, int result)
{
    static const char *const names[] = {
        [BLK_OP_READ] = "read",           [BLK_OP_WRITE] = "write",
        [BLK_OP_FLUSH] = "flush",         [BLK_OP_DISCARD] = "discard",
        [BLK_OP_ZERO] = "zeroing",        [BLK_OP_ZERO_UNMAP] = "zeroing",
        [BLK_OP_FILL] = "filling memory",
    };

    log_line(LOG_LEVEL_WARNING,
             "image '%s': %s at %" PRIu64 " of %" PRIu64 " bytes: %s",
             queue->connection->device->config.image->path, names[io->op],
             io->offset, io->size, g_strerror(-result));
}

static void on_io_done(BlkIo *io, int result)
{
    BlkRequest *request = (BlkRequest *)((char *)io - offsetof(BlkRequest, io));
    BlkQueue *queue = request->owner;

    if (result == -ECANCELED && vhu_queue_may_suspend(queue->queue)) {
        vhu_queue_suspend(queue->queue, request->element);
        return;
    }
    if (result < 0) {
        log_failure(queue, io, result);
    }
    if (blk_request_io_done(request, result) == BLK_REQUEST_IO) {
        blk_channel_submit(queue->channel, &request->io);
    } else {
        end_request(queue, request);
    }
}

static void begin_request(BlkQueue *queue, VhuElement *element)
{
    BlkDevice *device = queue->connection->device;
    BlkRequest *request = element->request;
    BlkDisk disk = {
        .sectors = atomic_load(&device->sectors),
        .features = vhu_queue_features(queue->queue),
        .read_only = device->config.image->read_only,
        .write_through = is_write_through(queue),
        .serial = device->config.serial,
    };

    request->owner = queue;
    request->io.done = on_io_done;
    if (blk_request_begin(request, element, &disk) == BLK_REQUEST_IO) {
        if (request->io.op == BLK_OP_FLUSH) {
            atomic_store(&queue->connection->mode_agreed, true);
        }
        blk_channel_submit(queue->channel, &request->io);
    } else {
        end_request(queue, request);
    }
}

/* Whether another request may be taken, if need be after beginning those that
 * were. */
static bool make_room(BlkQueue *queue)
{
    if (blk_channel_has_room(queue->channel)) {
        return true;
    }
    blk_channel_start(queue->channel);
    return blk_channel_has_room(queue->channel);
}

static VhuProcess blk_queue_process(VhuQueue *vhu_queue, void *state)
{
    BlkQueue *queue = vhu_queue_private(vhu_queue);
    unsigned left = MAX_ROUND;

    (void)state;
    while (left-- > 0 && make_room(queue)) {
        VhuElement *element = vhu_queue_pop(vhu_queue);

        if (element == NULL) {
            blk_channel_start(queue->channel);
            return VHU_PROCESS_DONE;
        }
        begin_request(queue, element);
    }
    blk_channel_start(queue->channel);
    queue->blocked = !blk_channel_has_room(queue->channel);
    if (!queue->blocked) {
        vhu_queue_wake(vhu_queue);
    }
    return VHU_PROCESS_BLOCKED;
}

/* The store has handed over what was done. */
static void on_batch(void *opaque)
{
    BlkQueue *queue = opaque;

    vhu_queue_flush(queue->queue);
    if (queue->blocked && blk_channel_has_room(queue->channel)) {
        queue->blocked = false;
        vhu_queue_wake(queue->queue);
    }
}

/* ---- queues, on their loop ---- */

static int open_channel(BlkQueue *queue)
{
    const BlkDeviceConfig *config = &queue->connection->device->config;
    BlkChannelConfig channel = {
        .image = config->image,
        .ops = config->store,
        .loop = vhu_queue_loop(queue->queue),
        .batch = on_batch,
        .opaque = queue,
    };
    int error;

    queue->channel = blk_channel_new(&channel, &error);
    if (queue->channel == NULL && config->store != &blk_store_threads) {
        log_line(LOG_LEVEL_WARNING, "connection %u: queue %u: %s: %s; %s",
                 vhu_connection_id(queue->connection->connection),
                 vhu_queue_index(queue->queue), config->store->name,
                 g_strerror(-error), "threads it is");
        channel.ops = &blk_store_threads;
        queue->channel = blk_channel_new(&channel, &error);
    }
    return error;
}

static int blk_queue_start(VhuQueue *vhu_queue, void *state)
{
    BlkQueue *queue = g_new0(BlkQueue, 1);
    uint64_t features = vhu_queue_features(vhu_queue);
    int error;

    queue->connection = state;
    queue->queue = vhu_queue;
    queue->has_wce = features & BIT(VIRTIO_BLK_F_CONFIG_WCE);
    if (vhu_queue_inherited(vhu_queue)) {
        atomic_store(&queue->connection->inherited, true);
    }
    queue->always_stable =
        !queue->has_wce && !(features & BIT(VIRTIO_BLK_F_FLUSH));
    error = open_channel(queue);
    if (error < 0) {
        g_free(queue);
        return error;
    }
    vhu_queue_set_private(vhu_queue, queue);
    return 0;
}

/* What is not cut short ends by itself. */
static void blk_queue_stop(VhuQueue *vhu_queue, void *state)
{
    BlkQueue *queue = vhu_queue_private(vhu_queue);

    (void)state;
    if (vhu_queue_may_suspend(vhu_queue)) {
        blk_channel_cancel(queue->channel);
    }
}

static void blk_queue_stopped(VhuQueue *vhu_queue, void *state)
{
    BlkQueue *queue = vhu_queue_private(vhu_queue);

    (void)state;
    blk_channel_free(queue->channel);
    g_free(queue);
}

/* ---- connections, on the control thread ---- */

static int blk_connect(VhuConnection *vhu_connection, void *opaque,
                       void **state)
{
    BlkDevice *device = opaque;
    BlkConnection *connection = g_new0(BlkConnection, 1);

    connection->device = device;
    connection->connection = vhu_connection;
    atomic_init(&connection->writeback, true);
    g_ptr_array_add(device->connections, connection);
    *state = connection;
    return 0;
}

static void blk_disconnect(void *state)
{
    BlkConnection *connection = state;

    g_ptr_array_remove_fast(connection->device->connections, connection);
    g_free(connection);
}

/* VIRTIO 1.4, "Block Device", "Device Initialization": a driver that cannot
 * flush begins with write-through. */
static void init_writeback(BlkConnection *connection)
{
    bool writeback = !(connection->features & BIT(VIRTIO_BLK_F_CONFIG_WCE)) ||
                     (connection->features & BIT(VIRTIO_BLK_F_FLUSH));

    atomic_store(&connection->writeback, writeback);
}

static int blk_set_features(void *state, uint64_t features)
{
    BlkConnection *connection = state;

    features &= ~BIT(VHOST_F_LOG_ALL);
    if (features != connection->features) {
        connection->features = features;
        init_writeback(connection);
    }
    return 0;
}

static void blk_reset(void *state)
{
    init_writeback(state);
}

static void fill_config(const BlkConnection *connection, uint8_t *config)
{
    const BlkDevice *device = connection->device;
    BlkConfigFacts facts = {
        .sectors = atomic_load(&device->sectors),
        .seg_max = device->config.seg_max,
        .num_queues = device->config.num_queues,
        .writeback = atomic_load(&connection->writeback),
    };

    blk_config_fill(device->config.image, &facts, config);
}

static int blk_get_config(void *state, uint32_t offset, void *data,
                          uint32_t size)
{
    uint8_t config[BLK_CONFIG_BYTES];

    fill_config(state, config);
    memcpy(data, config + offset, size);
    return 0;
}

/* Whether what cannot be written stays as it is. The source of a migration
 * may differ in limits, but not in what the guest's data depends on. */
static bool keeps_config(const uint8_t *config, const uint8_t *wanted,
                         bool migration)
{
    const struct virtio_blk_config *a = (const void *)config;
    const struct virtio_blk_config *b = (const void *)wanted;

    if (migration) {
        return a->capacity == b->capacity && a->blk_size == b->blk_size;
    }
    return memcmp(config, wanted, BLK_CONFIG_BYTES) == 0;
}

/* A write may cover more than the one byte that can be written. */
static int blk_set_config(void *state, uint32_t offset, const void *data,
                          uint32_t size, bool migration)
{
    BlkConnection *connection = state;
    uint8_t config[BLK_CONFIG_BYTES];
    uint8_t wanted[BLK_CONFIG_BYTES];
    uint8_t writeback;

    fill_config(connection, config);
    memcpy(wanted, config, sizeof(wanted));
    memcpy(wanted + offset, data, size);
    writeback = wanted[BLK_CONFIG_WRITEBACK];
    if (writeback != config[BLK_CONFIG_WRITEBACK] &&
        !(connection->features & BIT(VIRTIO_BLK_F_CONFIG_WCE))) {
        return -EINVAL;
    }
    config[BLK_CONFIG_WRITEBACK] = writeback;
    if (writeback > 1 || !keeps_config(config, wanted, migration)) {
        return -EINVAL;
    }
    atomic_store(&connection->writeback, writeback);
    atomic_store(&connection->mode_agreed, true);
    return 0;
}

static const VhuDeviceOps blk_ops = {
    .connect = blk_connect,
    .disconnect = blk_disconnect,
    .set_features = blk_set_features,
    .get_config = blk_get_config,
    .set_config = blk_set_config,
    .reset = blk_reset,
    .queue_start = blk_queue_start,
    .queue_process = blk_queue_process,
    .queue_stop = blk_queue_stop,
    .queue_stopped = blk_queue_stopped,
};

/* ---- the device, on the control thread ---- */

static void check_size(BlkDevice *device)
{
    uint64_t before = atomic_load(&device->sectors);
    uint64_t sectors;

    if (blk_image_sectors(device->config.image, &sectors) < 0 ||
        sectors == before) {
        return;
    }
    log_line(LOG_LEVEL_INFO,
             "the image has %" PRIu64 " sectors now, %" PRIu64 " before",
             sectors, before);
    atomic_store(&device->sectors, sectors);
    for (guint i = 0; i < device->connections->len; i++) {
        BlkConnection *connection = device->connections->pdata[i];

        vhu_connection_config_changed(connection->connection);
    }
}

static void on_size_timer(void *opaque)
{
    BlkDevice *device = opaque;

    check_size(device);
    vhu_timer_set(device->size_timer, vhu_now_ms() + SIZE_CHECK_MS);
}

BlkDevice *blk_device_new(const BlkDeviceConfig *config)
{
    BlkDevice *device = g_new0(BlkDevice, 1);
    uint64_t sectors = 0;

    blk_image_sectors(config->image, &sectors);
    device->config = *config;
    atomic_init(&device->sectors, sectors);
    device->connections = g_ptr_array_new();
    device->size_timer = vhu_loop_timer(config->control, on_size_timer, device);
    if (device->size_timer != NULL) {
        vhu_timer_set(device->size_timer, vhu_now_ms() + SIZE_CHECK_MS);
    }
    return device;
}

void blk_device_free(BlkDevice *device)
{
    if (device != NULL) {
        vhu_timer_free(device->size_timer);
        g_ptr_array_unref(device->connections);
        blk_image_close(device->config.image);
        g_free(device);
    }
}

void blk_device_describe(const BlkDevice *device, VhuDeviceInfo *info)
{
    info->features = blk_config_features(device->config.image);
    info->num_queues = device->config.num_queues;
    info->max_queue_size = device->config.queue_size;
    info->config_bytes = BLK_CONFIG_BYTES;
    info->request_bytes = sizeof(BlkRequest);
    info->ops = &blk_ops;
}
