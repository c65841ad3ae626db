/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the control thread's half of a queue: what messages set, and the
 * commands that carry it to the queue's loop and back.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int vhu_queue_init(VhuQueue *queue, VhuConnection *connection, unsigned index)
{
    const VhuBackend *backend = connection->backend;

    queue->connection = connection;
    queue->index = index;
    queue->loop = backend->num_loops
                      ? backend->loops[index % backend->num_loops]
                      : backend->control;
    queue->run.kick_fd = -1;
    queue->run.call_fd = -1;
    queue->run.err_fd = -1;
    queue->run.log.event_fd = -1;
    return 0;
}

void vhu_queue_destroy(VhuQueue *queue)
{
    vhu_fd_close(&queue->run.kick_fd);
    vhu_fd_close(&queue->run.call_fd);
    vhu_fd_close(&queue->run.err_fd);
    vhu_setup_release(&queue->run.setup);
    vhu_queue_log_release(&queue->run.log);
}

void vhu_setup_release(VhuQueueSetup *setup)
{
    vhu_memory_unref(setup->memory);
    vhu_inflight_unref(setup->inflight);
    setup->memory = NULL;
    setup->inflight = NULL;
}

void vhu_queue_log_release(VhuQueueLog *log)
{
    vhu_dirty_unref(log->log);
    log->log = NULL;
    vhu_fd_close(&log->event_fd);
}

/* ---- commands ---- */

VhuQueueCommand *vhu_command_new(VhuQueue *queue, VhuCommandFn run)
{
    VhuQueueCommand *command = calloc(1, sizeof(*command));

    if (command) {
        command->queue = queue;
        command->run = run;
        command->fd = -1;
        command->log.event_fd = -1;
    }
    return command;
}

static void free_command(VhuQueueCommand *command)
{
    vhu_fd_close(&command->fd);
    vhu_setup_release(&command->setup);
    vhu_queue_log_release(&command->log);
    free(command);
}

static void run_command(void *opaque)
{
    VhuQueueCommand *command = opaque;

    command->run(command->queue, command);
}

int vhu_command_send(VhuQueueCommand *command)
{
    VhuConnection *connection = command->queue->connection;

    if (vhu_loop_post(command->queue->loop, run_command, command) < 0) {
        free_command(command);
        return -ENOMEM;
    }
    connection->pending++;
    return 0;
}

bool vhu_queues_any_armed(const VhuConnection *connection)
{
    for (unsigned i = 0; i < connection->backend->info.num_queues; i++) {
        if (connection->queues[i].set.armed) {
            return true;
        }
    }
    return false;
}

/*
 * With the last ring goes what was known of I/O virtual addresses: a guest
 * that reboots gives them new meanings, and QEMU tells of no invalidation.
 */
static void take_stop(VhuQueue *queue, const VhuQueueCommand *command)
{
    VhuConnection *connection = queue->connection;

    queue->set.base = command->base;
    queue->set.has_base = true;
    queue->set.armed = false;
    connection->num_started -= command->started;
    if (!vhu_queues_any_armed(connection)) {
        vhu_iotlb_clear(connection->iotlb);
    }
}

/* On the control thread: the queue's loop is through with it. */
static void take_answer(void *opaque)
{
    VhuQueueCommand *command = opaque;
    VhuQueue *queue = command->queue;
    VhuConnection *connection = queue->connection;

    if (command->run == vhu_queue_do_stop) {
        take_stop(queue, command);
    }
    free_command(command);
    connection->pending--;
    vhu_connection_unhold(connection);
}

void vhu_command_done(VhuQueueCommand *command)
{
    vhu_loop_post(command->queue->connection->backend->control, take_answer,
                  command);
}

/* ---- what is sent ---- */

static VhuAddrSpace addr_space(const VhuConnection *connection)
{
    if (connection->features & VHU_FEATURE(VIRTIO_F_ACCESS_PLATFORM)) {
        return VHU_ADDR_IOVA;
    }
    return vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_GPA_ADDRESSES)
               ? VHU_ADDR_GUEST
               : VHU_ADDR_USER;
}

static void fill_setup(const VhuQueue *queue, VhuQueueSetup *setup)
{
    const VhuConnection *connection = queue->connection;

    *setup = (VhuQueueSetup){
        .features = connection->features,
        .space = addr_space(connection),
        .size = queue->set.size,
        .base = queue->set.base,
        .addr = queue->set.addr,
        .memory = vhu_memory_ref(connection->memory),
    };
    if (setup->space == VHU_ADDR_IOVA) {
        setup->iotlb = connection->iotlb;
    }
    if (connection->inflight &&
        vhu_inflight_queue(connection->inflight, (uint16_t)queue->index)) {
        setup->inflight = vhu_inflight_ref(connection->inflight);
    }
}

/* The base of a ring nobody has used: packed counters start at 1. */
static uint32_t fresh_base(uint64_t features)
{
    return features & VHU_FEATURE(VIRTIO_F_RING_PACKED) ? 0x80008000u : 0;
}

int vhu_queue_send_arm(VhuQueue *queue, int kick_fd, bool poll)
{
    const VhuConnection *connection = queue->connection;
    const uint32_t fresh = fresh_base(connection->features);
    VhuQueueCommand *command = vhu_command_new(queue, vhu_queue_do_arm);

    if (!command) {
        if (kick_fd >= 0) {
            close(kick_fd);
        }
        return -ENOMEM;
    }
    command->fd = kick_fd;
    command->flag = poll;
    if (!queue->set.has_base) {
        queue->set.base = fresh;
    }
    fill_setup(queue, &command->setup);
    command->setup.inherited =
        queue->set.base != fresh ||
        (command->setup.inflight &&
         vhu_inflight_used(command->setup.inflight, (uint16_t)queue->index));
    command->setup.resumed =
        command->setup.inherited || command->setup.inflight;
    queue->set.armed = true;
    return vhu_command_send(command);
}

int vhu_queue_send_kick(VhuQueue *queue)
{
    VhuQueueCommand *command = vhu_command_new(queue, vhu_queue_do_kick);

    return command ? vhu_command_send(command) : -ENOMEM;
}

int vhu_queue_send_fd(VhuQueue *queue, VhuCommandFn run, int fd)
{
    VhuQueueCommand *command = vhu_command_new(queue, run);

    if (!command) {
        if (fd >= 0) {
            close(fd);
        }
        return -ENOMEM;
    }
    command->fd = fd;
    return vhu_command_send(command);
}

int vhu_queue_send_enable(VhuQueue *queue, bool enabled)
{
    VhuQueueCommand *command = vhu_command_new(queue, vhu_queue_do_enable);

    queue->set.enabled = enabled;
    if (!command) {
        return -ENOMEM;
    }
    command->flag = enabled;
    return vhu_command_send(command);
}

int vhu_queue_send_stop(VhuQueue *queue, bool gone)
{
    const VhuConnection *connection = queue->connection;
    VhuQueueCommand *command = vhu_command_new(queue, vhu_queue_do_stop);

    if (!command) {
        return -ENOMEM;
    }
    command->flag = gone;
    command->base = queue->set.has_base ? queue->set.base
                                        : fresh_base(connection->features);
    command->may_suspend =
        gone ||
        (connection->inflight &&
         vhu_connection_has(connection,
                            VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT));
    return vhu_command_send(command);
}

int vhu_queue_send_log(VhuQueue *queue)
{
    const VhuConnection *connection = queue->connection;
    VhuQueueCommand *command = vhu_command_new(queue, vhu_queue_do_log);
    VhuQueueLog *log;

    if (!command) {
        return -ENOMEM;
    }
    log = &command->log;
    if (connection->log &&
        (connection->features & VHU_FEATURE(VHOST_F_LOG_ALL))) {
        log->log = vhu_dirty_ref(connection->log);
        log->used = queue->set.addr.flags & (1u << VHOST_VRING_F_LOG);
        log->addr = queue->set.addr.log;
        if (connection->log_fd >= 0) {
            log->event_fd = fcntl(connection->log_fd, F_DUPFD_CLOEXEC, 0);
        }
    }
    return vhu_command_send(command);
}

/* ---- to all queues of a connection ---- */

int vhu_queue_send_memory(VhuQueue *queue, const VhuIotlbMsg *iotlb)
{
    VhuQueueCommand *command;

    if (!queue->set.armed) {
        return 0;
    }
    command = vhu_command_new(queue, vhu_queue_do_memory);
    if (!command) {
        return -ENOMEM;
    }
    if (iotlb) {
        command->iotlb = *iotlb;
    }
    fill_setup(queue, &command->setup);
    return vhu_command_send(command);
}

int vhu_queues_send_memory(VhuConnection *connection, const VhuIotlbMsg *iotlb)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < connection->backend->info.num_queues;
         i++) {
        ret = vhu_queue_send_memory(&connection->queues[i], iotlb);
    }
    return ret;
}

int vhu_queues_send_log(VhuConnection *connection)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < connection->backend->info.num_queues;
         i++) {
        if (connection->queues[i].set.armed) {
            ret = vhu_queue_send_log(&connection->queues[i]);
        }
    }
    return ret;
}

int vhu_queues_send_stop(VhuConnection *connection, bool gone)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < connection->backend->info.num_queues;
         i++) {
        ret = vhu_queue_send_stop(&connection->queues[i], gone);
    }
    return ret;
}
