/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns back ends: what a device offers, and the list of its connections.
 * What a connection does is in connection.c.
 */
#include "vhu/backend.h"
#include "vhu/backend-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the library does for every device. */
static const uint64_t library_features =
    VHU_FEATURE(VIRTIO_F_NOTIFY_ON_EMPTY) | VHU_FEATURE(VIRTIO_F_ANY_LAYOUT) |
    VHU_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
    VHU_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
    VHU_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) | VHU_FEATURE(VHOST_F_LOG_ALL) |
    VHU_FEATURE(VIRTIO_F_VERSION_1) | VHU_FEATURE(VIRTIO_F_ACCESS_PLATFORM) |
    VHU_FEATURE(VIRTIO_F_RING_PACKED) | VHU_FEATURE(VIRTIO_F_IN_ORDER) |
    VHU_FEATURE(VIRTIO_F_RING_RESET);

/* Whether a device has what a feature of VHU_SUPPORT_DEVICE needs. */
static bool device_supports(const VhuDeviceInfo *info, unsigned bit)
{
    const VhuDeviceOps *ops = info->ops;

    switch (bit) {
    case VHOST_USER_PROTOCOL_F_CONFIG:
        return info->config_bytes > 0;
    case VHOST_USER_PROTOCOL_F_SHARED_OBJECT:
        return ops->get_shared_object != NULL;
    case VHOST_USER_PROTOCOL_F_SHMEM:
        return ops->get_shmem_config != NULL;
    case VHOST_USER_PROTOCOL_F_DEVICE_STATE:
        return ops->save != NULL;
    case VHOST_USER_PROTOCOL_F_RARP:
        return ops->send_rarp != NULL;
    case VHOST_USER_PROTOCOL_F_MTU:
        return ops->set_mtu != NULL;
    default:
        return false;
    }
}

/*
 * A page fault that nobody serves blocks the loop it happens on: the control
 * thread must live on to end such a connection, so that postcopy is only for
 * queues on data threads.
 */
static uint64_t offered_protocol_features(const VhuDeviceInfo *info,
                                          bool threads)
{
    uint64_t features = 0;

    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        const VhuSupport support = vhu_feature_spec(bit)->backend;

        if (support == VHU_SUPPORT_OFFERED ||
            (support == VHU_SUPPORT_DEVICE && device_supports(info, bit))) {
            features |= VHU_FEATURE(bit);
        }
    }
    if (!threads || !vhu_postcopy_available()) {
        features &= ~VHU_PROTOCOL_BIT(PAGEFAULT);
    }
    return features & ~info->protocol_masked;
}

static int check_info(const VhuDeviceInfo *info, VhuError *err)
{
    const VhuDeviceOps *ops = info->ops;

    if (info->num_queues == 0 || info->num_queues > VHU_MAX_QUEUES) {
        return vhu_error_set(err, EINVAL, 0, info->num_queues,
                             "%s: %u queues, expected 1 to %u", info->name,
                             info->num_queues, VHU_MAX_QUEUES);
    }
    if (info->config_bytes > VHU_MAX_CONFIG_BYTES) {
        return vhu_error_set(err, EINVAL, 0, info->config_bytes,
                             "%s: %u bytes of configuration, at most %u",
                             info->name, info->config_bytes,
                             VHU_MAX_CONFIG_BYTES);
    }
    if (info->max_queue_size > VHU_MAX_RING_SIZE) {
        return vhu_error_set(err, EINVAL, 0, info->max_queue_size,
                             "%s: queue size %u, at most %u", info->name,
                             info->max_queue_size, VHU_MAX_RING_SIZE);
    }
    if (!ops->queue_process || !ops->save != !ops->load ||
        (info->config_bytes && !ops->get_config)) {
        return vhu_error_set(err, EINVAL, 0, 0,
                             "%s: ops lack queue_process, get_config, or one "
                             "of save and load",
                             info->name);
    }
    return 0;
}

VhuBackend *vhu_backend_new(VhuLoop *control, const VhuDeviceInfo *info,
                            void *device, const VhuBackendEvents *events,
                            VhuError *err)
{
    VhuBackend *backend;

    if (check_info(info, err) < 0) {
        return NULL;
    }
    backend = calloc(1, sizeof(*backend));
    if (!backend) {
        vhu_error_set(err, ENOMEM, 0, 0, "%s: out of memory", info->name);
        return NULL;
    }
    vhu_memory_guard_install();
    backend->control = control;
    backend->info = *info;
    if (backend->info.max_queue_size == 0) {
        backend->info.max_queue_size = VHU_MAX_RING_SIZE;
    }
    backend->device = device;
    if (events) {
        backend->events = *events;
    }
    backend->features =
        (info->features | library_features) & ~info->features_masked;
    backend->protocol_features = offered_protocol_features(info, false);
    return backend;
}

int vhu_backend_set_threads(VhuBackend *backend, VhuLoop *const *loops,
                            unsigned num)
{
    VhuLoop **copy = NULL;

    if (num > 0) {
        copy = calloc(num, sizeof(*copy));
        if (!copy) {
            return -ENOMEM;
        }
        memcpy(copy, loops, num * sizeof(*copy));
    }
    free(backend->loops);
    backend->loops = copy;
    backend->num_loops = num;
    backend->protocol_features =
        offered_protocol_features(&backend->info, num > 0);
    return 0;
}

int vhu_backend_serve(VhuBackend *backend, int fd, VhuConnection **connection,
                      VhuError *err)
{
    VhuConnection *made = vhu_connection_new(backend, fd, err);

    if (!made) {
        return err && err->code ? -err->code : -EIO;
    }
    made->next = backend->connections;
    made->prev = &backend->connections;
    if (made->next) {
        made->next->prev = &made->next;
    }
    backend->connections = made;
    if (connection) {
        *connection = made;
    }
    vhu_connection_log(made, VHU_LOG_INFO, "connected");
    return 0;
}

void vhu_backend_forget(VhuBackend *backend, VhuConnection *connection)
{
    *connection->prev = connection->next;
    if (connection->next) {
        connection->next->prev = connection->prev;
    }
    for (VhuConnection *c = backend->connections; c; c = c->next) {
        vhu_connection_drained(c);
    }
}

unsigned vhu_backend_num_connections(const VhuBackend *backend)
{
    unsigned num = 0;

    for (VhuConnection *c = backend->connections; c; c = c->next) {
        num += !c->closing;
    }
    return num;
}

unsigned vhu_backend_num_alive(const VhuBackend *backend)
{
    unsigned num = 0;

    for (VhuConnection *c = backend->connections; c; c = c->next) {
        num++;
    }
    return num;
}

void vhu_backend_close_all(VhuBackend *backend)
{
    VhuConnection *next;

    for (VhuConnection *c = backend->connections; c; c = next) {
        next = c->next;
        vhu_connection_close(c, NULL);
    }
}

void vhu_backend_free(VhuBackend *backend)
{
    if (backend) {
        free(backend->loops);
        free(backend);
    }
}

uint64_t vhu_backend_features(const VhuBackend *backend)
{
    return backend->features;
}

uint64_t vhu_backend_protocol_features(const VhuBackend *backend)
{
    return backend->protocol_features;
}

void vhu_backend_log(const VhuBackend *backend, VhuLevel level,
                     const char *text)
{
    if (backend->events.log) {
        backend->events.log(backend->events.opaque, level, text);
    }
}

int vhu_buffer_append(VhuBuffer *buffer, const void *data, size_t bytes)
{
    uint8_t *grown;

    if (bytes == 0) {
        return 0;
    }
    grown = realloc(buffer->data, buffer->bytes + bytes);
    if (!grown) {
        return -ENOMEM;
    }
    memcpy(grown + buffer->bytes, data, bytes);
    buffer->data = grown;
    buffer->bytes += bytes;
    return 0;
}
