/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the requests about memory: regions, IOTLB, dirty log, inflight buffer
 * and postcopy. A change of the map is a new snapshot; the reply is sent when
 * every queue has taken it over.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool postcopy_listening(const VhuConnection *connection)
{
    return vhu_channel_wire(connection->channel)->postcopy_listening;
}

/* Replace the snapshot and tell the queues. @next: consumed. */
static int install(VhuConnection *connection, VhuMemory *next, VhuError *err)
{
    int ret = 0;

    if (postcopy_listening(connection)) {
        ret = vhu_postcopy_register(connection->uffd, next, err);
    }
    if (ret < 0) {
        vhu_memory_unref(next);
        return ret;
    }
    vhu_memory_unref(connection->memory);
    connection->memory = next;
    ret = vhu_queues_send_memory(connection, NULL);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

/* The front end has taken the bases that a reply told. */
static int take_postcopy_ack(VhuConnection *connection, const VhuMessage *msg,
                             VhuError *err)
{
    if (!connection->postcopy_ack) {
        return vhu_error_set(
            err, EPROTO, msg->request, msg->payload.u64,
            "%s: an acknowledgement, with nothing to acknowledge",
            vhu_message_spec(VHU_FROM_FRONTEND, msg->request)->name);
    }
    connection->postcopy_ack = false;
    return 0;
}

static int set_mem_table(VhuConnection *connection, VhuMessage *msg,
                         VhuMessage *reply, VhuError *err)
{
    const VhuMemTable *table = &msg->payload.table;
    VhuMemory *next;

    if (msg->kind == VHU_PAYLOAD_U64) {
        return take_postcopy_ack(connection, msg, err);
    }
    next = vhu_memory_with_table(connection->memory, table, msg->fds, err);
    if (!next) {
        return err->code ? -err->code : -EINVAL;
    }
    if (postcopy_listening(connection)) {
        reply->kind = VHU_PAYLOAD_MEM_TABLE;
        reply->payload.table = *table;
        connection->postcopy_ack = true;
        vhu_postcopy_bases(next, &reply->payload.table);
    }
    return install(connection, next, err);
}

static int add_mem_reg(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err)
{
    const VhuMemRegion *region = &msg->payload.region;
    VhuMemory *next;

    if (msg->kind == VHU_PAYLOAD_U64) {
        return take_postcopy_ack(connection, msg, err);
    }
    next = vhu_memory_with_region(connection->memory, region, msg->fds[0], err);
    if (!next) {
        return err->code ? -err->code : -EINVAL;
    }
    if (postcopy_listening(connection)) {
        VhuMemTable table = {.num_regions = 1, .regions = {*region}};

        vhu_postcopy_bases(next, &table);
        connection->postcopy_ack = true;
        reply->kind = VHU_PAYLOAD_MEM_REGION;
        reply->payload.region = table.regions[0];
    }
    return install(connection, next, err);
}

static int rem_mem_reg(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err)
{
    VhuMemory *next = vhu_memory_without_region(connection->memory,
                                                &msg->payload.region, err);

    (void)reply;
    if (!next) {
        return err->code ? -err->code : -EINVAL;
    }
    return install(connection, next, err);
}

static int get_max_mem_slots(VhuConnection *connection, VhuMessage *msg,
                             VhuMessage *reply, VhuError *err)
{
    (void)connection;
    (void)msg;
    (void)err;
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = VHU_MAX_MEM_SLOTS;
    return 0;
}

/* ---- IOTLB ---- */

/* The reply is a u64 either way, sent once the queues looked again. */
static int iotlb_msg(VhuConnection *connection, VhuMessage *msg,
                     VhuMessage *reply, VhuError *err)
{
    int ret;

    if (!(connection->features & VHU_FEATURE(VIRTIO_F_ACCESS_PLATFORM))) {
        return vhu_error_set(
            err, EPROTO, msg->request, 0,
            "IOTLB_MSG without VIRTIO_F_ACCESS_PLATFORM negotiated");
    }
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = 0;
    ret = vhu_iotlb_apply(connection->iotlb, &msg->payload.iotlb,
                          connection->memory, err);
    if (ret < 0) {
        reply->payload.u64 = 1;
        vhu_connection_log(connection, VHU_LOG_WARN, "IOTLB_MSG refused: %s",
                           err->text);
        return 0;
    }
    ret = vhu_queues_send_memory(connection, &msg->payload.iotlb);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

/* ---- dirty log ---- */

static int set_log_base(VhuConnection *connection, VhuMessage *msg,
                        VhuMessage *reply, VhuError *err)
{
    VhuDirtyLog *log;
    int ret;

    if (!vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
        return vhu_error_set(
            err, ENOTSUP, msg->request, 0,
            "SET_LOG_BASE without VHOST_USER_PROTOCOL_F_LOG_SHMFD");
    }
    log =
        vhu_dirty_new(msg->fds[0], &msg->payload.log, connection->lost_fd, err);
    if (!log) {
        return err->code ? -err->code : -EINVAL;
    }
    vhu_dirty_unref(connection->log);
    connection->log = log;
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = 0;
    ret = vhu_queues_send_log(connection);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int set_log_fd(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    int ret;

    (void)reply;
    (void)err;
    if (connection->log_fd >= 0) {
        close(connection->log_fd);
    }
    connection->log_fd = vhu_event_fd_take(msg);
    ret = vhu_queues_send_log(connection);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

/* ---- inflight buffer ---- */

static bool is_packed(const VhuConnection *connection)
{
    return connection->features & VHU_FEATURE(VIRTIO_F_RING_PACKED);
}

/* QEMU asks for its property queue-size, but a driver on virtio-mmio takes
 * rings of the 1024 entries it finds there; the buffer has room for those. */
#define INFLIGHT_ROOM 1024u

static void make_room(const VhuConnection *connection, VhuInflightArea *area)
{
    uint32_t room = connection->backend->info.max_queue_size;

    if (room > INFLIGHT_ROOM) {
        room = INFLIGHT_ROOM;
    }
    if (area->queue_size != 0 && area->queue_size < room) {
        area->queue_size = (uint16_t)room;
    }
}

static int get_inflight_fd(VhuConnection *connection, VhuMessage *msg,
                           VhuMessage *reply, VhuError *err)
{
    VhuInflightArea area = msg->payload.inflight;
    VhuInflight *inflight;
    int fd;

    make_room(connection, &area);
    inflight = vhu_inflight_create(&area, is_packed(connection), &fd, err);
    if (!inflight) {
        return err->code ? -err->code : -EINVAL;
    }
    vhu_inflight_unref(inflight); /* in force when it comes back */
    reply->kind = VHU_PAYLOAD_INFLIGHT;
    reply->payload.inflight = area;
    reply->payload.inflight.queue_size = msg->payload.inflight.queue_size;
    reply->num_fds = 1;
    reply->fds[0] = fd;
    return 0;
}

/* Returns the area as it was laid out: the size of the whole tells whether
 * get_inflight_fd made room in it. */
static VhuInflightArea find_layout(const VhuConnection *connection,
                                   const VhuInflightArea *told)
{
    VhuInflightArea roomy = *told;
    uint64_t bytes;

    make_room(connection, &roomy);
    bytes = vhu_inflight_queue_bytes(is_packed(connection), roomy.queue_size);
    return told->mmap_size == bytes * told->num_queues ? roomy : *told;
}

static int set_inflight_fd(VhuConnection *connection, VhuMessage *msg,
                           VhuMessage *reply, VhuError *err)
{
    const VhuInflightArea area =
        find_layout(connection, &msg->payload.inflight);
    VhuInflight *inflight;
    struct stat file;

    (void)reply;
    for (unsigned i = 0; i < connection->backend->info.num_queues; i++) {
        if (connection->queues[i].set.armed) {
            return vhu_error_set(err, EBUSY, msg->request, i,
                                 "SET_INFLIGHT_FD while vring %u is set up", i);
        }
    }
    inflight = vhu_inflight_map(&area, is_packed(connection), msg->fds[0],
                                connection->lost_fd, err);
    if (!inflight) {
        return err->code ? -err->code : -EINVAL;
    }
    if (fstat(msg->fds[0], &file) == 0) {
        connection->inflight_id =
            (VhuFileId){.device = file.st_dev, .inode = file.st_ino};
    }
    vhu_inflight_unref(connection->inflight);
    connection->inflight = inflight;
    return 0;
}

/* ---- postcopy ---- */

static int postcopy_advise(VhuConnection *connection, VhuMessage *msg,
                           VhuMessage *reply, VhuError *err)
{
    int uffd;

    if (connection->uffd >= 0) {
        return vhu_error_set(err, EBUSY, msg->request, 0,
                             "POSTCOPY_ADVISE twice");
    }
    uffd = vhu_postcopy_open(err);
    if (uffd < 0) {
        return uffd;
    }
    connection->uffd = uffd;
    reply->num_fds = 1;
    reply->fds[0] = fcntl(uffd, F_DUPFD_CLOEXEC, 0);
    return 0;
}

static int postcopy_listen(VhuConnection *connection, VhuMessage *msg,
                           VhuMessage *reply, VhuError *err)
{
    int ret;

    (void)reply;
    if (connection->uffd < 0) {
        return vhu_error_set(err, EINVAL, msg->request, 0,
                             "POSTCOPY_LISTEN without POSTCOPY_ADVISE");
    }
    ret = vhu_postcopy_register(connection->uffd, connection->memory, err);
    if (ret == 0) {
        vhu_channel_wire(connection->channel)->postcopy_listening = true;
    }
    return ret;
}

/* The reply tells of success whether or not postcopy ever listened. */
static int postcopy_end(VhuConnection *connection, VhuMessage *msg,
                        VhuMessage *reply, VhuError *err)
{
    (void)msg;
    (void)err;
    vhu_postcopy_close(connection->uffd, connection->memory);
    connection->uffd = -1;
    connection->postcopy_ack = false;
    vhu_channel_wire(connection->channel)->postcopy_listening = false;
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = 0;
    return 0;
}

const VhuHandler vhu_memory_handlers[VHU_NUM_HANDLERS] = {
    [VHOST_USER_SET_MEM_TABLE] = set_mem_table,
    [VHOST_USER_ADD_MEM_REG] = add_mem_reg,
    [VHOST_USER_REM_MEM_REG] = rem_mem_reg,
    [VHOST_USER_GET_MAX_MEM_SLOTS] = get_max_mem_slots,
    [VHOST_USER_IOTLB_MSG] = iotlb_msg,
    [VHOST_USER_SET_LOG_BASE] = set_log_base,
    [VHOST_USER_SET_LOG_FD] = set_log_fd,
    [VHOST_USER_GET_INFLIGHT_FD] = get_inflight_fd,
    [VHOST_USER_SET_INFLIGHT_FD] = set_inflight_fd,
    [VHOST_USER_POSTCOPY_ADVISE] = postcopy_advise,
    [VHOST_USER_POSTCOPY_LISTEN] = postcopy_listen,
    [VHOST_USER_POSTCOPY_END] = postcopy_end,
};
