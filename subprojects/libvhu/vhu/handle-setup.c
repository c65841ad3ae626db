/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the requests about the device as a whole: features, configuration,
 * status, reset and what only some devices have.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int reply_u64(VhuMessage *reply, uint64_t value)
{
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = value;
    return 0;
}

/* ---- features ---- */

static int get_features(VhuConnection *connection, VhuMessage *msg,
                        VhuMessage *reply, VhuError *err)
{
    (void)msg;
    (void)err;
    return reply_u64(reply, connection->backend->features);
}

static int check_features(const VhuConnection *connection, uint64_t features,
                          VhuError *err)
{
    const uint64_t changed = connection->features ^ features;
    uint64_t unknown = features & ~connection->backend->features;

    if (unknown) {
        return vhu_error_set(err, EINVAL, VHOST_USER_SET_FEATURES, unknown,
                             "features 0x%llx were not offered",
                             (unsigned long long)unknown);
    }
    if (vhu_queues_any_armed(connection) &&
        (changed & ~VHU_FEATURE(VHOST_F_LOG_ALL))) {
        return vhu_error_set(
            err, EBUSY, VHOST_USER_SET_FEATURES, changed,
            "features 0x%llx cannot change while a ring is set up",
            (unsigned long long)changed);
    }
    return 0;
}

/* Without protocol features every ring is enabled from the start. */
static int enable_all(VhuConnection *connection, bool enabled)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < connection->backend->info.num_queues;
         i++) {
        ret = vhu_queue_send_enable(&connection->queues[i], enabled);
    }
    return ret;
}

static int set_features(VhuConnection *connection, VhuMessage *msg,
                        VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    const uint64_t features = msg->payload.u64;
    int ret = check_features(connection, features, err);

    (void)reply;
    if (ret == 0 && ops->set_features) {
        ret = ops->set_features(connection->state, features);
        if (ret < 0) {
            vhu_error_set(err, -ret, msg->request, features,
                          "device refused features 0x%llx",
                          (unsigned long long)features);
        }
    }
    if (ret < 0) {
        return ret;
    }
    connection->features = features;
    if (!(features & VHU_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES))) {
        ret = enable_all(connection, true);
    }
    if (ret == 0) {
        ret = vhu_queues_send_log(connection);
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int get_protocol_features(VhuConnection *connection, VhuMessage *msg,
                                 VhuMessage *reply, VhuError *err)
{
    (void)msg;
    (void)err;
    return reply_u64(reply, connection->backend->protocol_features);
}

static int set_protocol_features(VhuConnection *connection, VhuMessage *msg,
                                 VhuMessage *reply, VhuError *err)
{
    const uint64_t features = msg->payload.u64;
    const uint64_t unknown = features & ~connection->backend->protocol_features;

    (void)reply;
    if (unknown) {
        return vhu_error_set(err, EINVAL, msg->request, unknown,
                             "protocol features 0x%llx were not offered",
                             (unsigned long long)unknown);
    }
    if (vhu_features_check(features, err) < 0) {
        /* Even if a reply tells of it: vhost-user, "In-band notifications". */
        vhu_connection_close(connection, err);
        return -EINVAL;
    }
    vhu_channel_wire(connection->channel)->protocol_features = features;
    if (connection->requests) {
        vhu_channel_wire(connection->requests)->protocol_features = features;
    }
    return 0;
}

static int accept_silently(VhuConnection *connection, VhuMessage *msg,
                           VhuMessage *reply, VhuError *err)
{
    (void)connection;
    (void)msg;
    (void)reply;
    (void)err;
    return 0;
}

/* Deprecated; of the two readings the specification allows, this one. */
static int reset_owner(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err)
{
    int ret = enable_all(connection, false);

    (void)msg;
    (void)reply;
    (void)err;
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int get_queue_num(VhuConnection *connection, VhuMessage *msg,
                         VhuMessage *reply, VhuError *err)
{
    (void)msg;
    (void)err;
    return reply_u64(reply, connection->backend->info.num_queues);
}

/* ---- configuration space ---- */

/*
 * A front end may know a larger space than the device has; what lies beyond
 * reads as zero.
 */
static int get_config(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    const VhuDeviceInfo *info = &connection->backend->info;
    const VhuConfigArea *asked = &msg->payload.config;
    VhuConfigArea *area = &reply->payload.config;
    uint32_t have = 0;
    int ret = 0;

    (void)err;
    if (asked->offset < info->config_bytes) {
        have = info->config_bytes - asked->offset;
        have = asked->size < have ? asked->size : have;
    }
    reply->kind = VHU_PAYLOAD_CONFIG;
    area->offset = asked->offset;
    area->flags = asked->flags;
    area->size = asked->size;
    area->data_bytes = asked->size;
    memset(area->data, 0, asked->size);
    if (have) {
        ret = info->ops->get_config(connection->state, asked->offset,
                                    area->data, have);
    }
    if (ret < 0) {
        area->size = 0; /* says that it failed */
        area->data_bytes = 0;
        vhu_connection_log(connection, VHU_LOG_WARN,
                           "GET_CONFIG of %u bytes at %u refused: %s",
                           asked->size, asked->offset, strerror(-ret));
    }
    return 0;
}

static int set_config(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    const VhuDeviceInfo *info = &connection->backend->info;
    const VhuConfigArea *area = &msg->payload.config;
    const uint64_t end = (uint64_t)area->offset + area->size;
    int ret = -EINVAL;

    (void)reply;
    if (end <= info->config_bytes && info->ops->set_config) {
        ret = info->ops->set_config(connection->state, area->offset, area->data,
                                    area->size, area->flags == 1);
    }
    if (ret < 0) {
        vhu_error_set(err, -ret, msg->request, area->offset,
                      "SET_CONFIG of %u bytes at %u (of %u) refused",
                      area->size, area->offset, info->config_bytes);
    }
    return ret;
}

/* ---- reset and status ---- */

static int finish_reset(VhuConnection *connection, VhuMessage *reply,
                        VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    int ret;

    (void)reply;
    (void)err;
    for (unsigned i = 0; i < connection->backend->info.num_queues; i++) {
        connection->queues[i].set.has_addr = false;
        connection->queues[i].set.has_base = false;
        connection->queues[i].set.size = 0;
    }
    if (ops->reset) {
        ops->reset(connection->state);
    }
    connection->status = 0;
    ret = enable_all(connection, false);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int reset_device(VhuConnection *connection, VhuMessage *msg,
                        VhuMessage *reply, VhuError *err)
{
    int ret;

    (void)reply;
    if (connection->transfer.fd >= 0) {
        return vhu_error_set(err, EBUSY, msg->request, 0,
                             "reset while device state is transferred");
    }
    ret = vhu_queues_send_stop(connection, false);
    return ret < 0 ? ret : vhu_connection_wait(connection, finish_reset);
}

static int set_status(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    const uint64_t status = msg->payload.u64;

    if (status > UINT8_MAX) {
        return vhu_error_set(err, EINVAL, msg->request, status,
                             "device status 0x%llx, at most 0xff",
                             (unsigned long long)status);
    }
    if (status == 0) {
        return reset_device(connection, msg, reply, err);
    }
    connection->status =
        (uint8_t)status | (connection->status & VIRTIO_CONFIG_S_NEEDS_RESET);
    if (ops->set_status) {
        ops->set_status(connection->state, (uint8_t)status);
    }
    return 0;
}

static int get_status(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    (void)msg;
    (void)err;
    return reply_u64(reply, connection->status);
}

/* ---- the back-end channel, and what single devices have ---- */

static int set_backend_req_fd(VhuConnection *connection, VhuMessage *msg,
                              VhuMessage *reply, VhuError *err)
{
    /* A miss told on no channel, or the one before, is told anew. */
    static const VhuIotlbMsg all = {.size = UINT64_MAX};
    int ret = vhu_requests_open(connection, vhu_message_take_fd(msg, 0), err);

    (void)reply;
    if (ret == 0) {
        ret = vhu_queues_send_memory(connection, &all);
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int get_shared_object(VhuConnection *connection, VhuMessage *msg,
                             VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    int fd = ops->get_shared_object(connection->state, &msg->payload.uuid);

    (void)err;
    if (fd >= 0) {
        reply->num_fds = 1;
        reply->fds[0] = fd;
    }
    return 0;
}

static int get_shmem_config(VhuConnection *connection, VhuMessage *msg,
                            VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    VhuShmemConfig *config = &reply->payload.shmem_config;

    (void)msg;
    (void)err;
    reply->kind = VHU_PAYLOAD_SHMEM_CONFIG;
    memset(config, 0, sizeof(*config));
    ops->get_shmem_config(connection->state, config->sizes);
    for (unsigned i = 0; i < VHU_SHMEM_REGIONS; i++) {
        config->num_regions += config->sizes[i] != 0;
    }
    return 0;
}

static int send_rarp(VhuConnection *connection, VhuMessage *msg,
                     VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    uint8_t mac[6];
    int ret;

    (void)reply;
    memcpy(mac, &msg->payload.u64, sizeof(mac));
    ret = ops->send_rarp(connection->state, mac);
    return ret == 0 ? 0
                    : vhu_error_set(err, -ret, msg->request, 0,
                                    "SEND_RARP failed: %s", strerror(-ret));
}

static int set_mtu(VhuConnection *connection, VhuMessage *msg,
                   VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    int ret = ops->set_mtu(connection->state, msg->payload.u64);

    (void)reply;
    return ret == 0 ? 0
                    : vhu_error_set(err, -ret, msg->request, msg->payload.u64,
                                    "MTU %llu refused",
                                    (unsigned long long)msg->payload.u64);
}

static int set_gpu_socket(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    const VhuDeviceOps *ops = connection->backend->info.ops;
    int ret;

    (void)reply;
    if (!ops->set_gpu_socket) {
        return vhu_error_set(err, ENOTSUP, msg->request, 0,
                             "GPU_SET_SOCKET: this device is no GPU");
    }
    ret = ops->set_gpu_socket(connection->state, vhu_message_take_fd(msg, 0));
    return ret == 0 ? 0
                    : vhu_error_set(err, -ret, msg->request, 0,
                                    "GPU socket refused: %s", strerror(-ret));
}

const VhuHandler vhu_setup_handlers[VHU_NUM_HANDLERS] = {
    [VHOST_USER_GET_FEATURES] = get_features,
    [VHOST_USER_SET_FEATURES] = set_features,
    [VHOST_USER_GET_PROTOCOL_FEATURES] = get_protocol_features,
    [VHOST_USER_SET_PROTOCOL_FEATURES] = set_protocol_features,
    [VHOST_USER_SET_OWNER] = accept_silently,
    [VHOST_USER_RESET_OWNER] = reset_owner,
    [VHOST_USER_GET_QUEUE_NUM] = get_queue_num,
    [VHOST_USER_GET_CONFIG] = get_config,
    [VHOST_USER_SET_CONFIG] = set_config,
    [VHOST_USER_RESET_DEVICE] = reset_device,
    [VHOST_USER_SET_STATUS] = set_status,
    [VHOST_USER_GET_STATUS] = get_status,
    [VHOST_USER_SET_BACKEND_REQ_FD] = set_backend_req_fd,
    [VHOST_USER_GET_SHARED_OBJECT] = get_shared_object,
    [VHOST_USER_GET_SHMEM_CONFIG] = get_shmem_config,
    [VHOST_USER_SEND_RARP] = send_rarp,
    [VHOST_USER_NET_SET_MTU] = set_mtu,
    [VHOST_USER_GPU_SET_SOCKET] = set_gpu_socket,
    [VHOST_USER_SET_DEVICE_STATE_FD] = vhu_transfer_start,
    [VHOST_USER_CHECK_DEVICE_STATE] = vhu_transfer_check,
};
