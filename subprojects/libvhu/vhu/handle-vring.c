/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the requests about single rings.
 *
 * A ring is armed by SET_VRING_KICK (or the first VRING_KICK in band) and
 * started by the first kick. A ring that ran elsewhere before (its base is
 * not that of a fresh ring, or an inflight region came) is looked at once
 * without a kick, because the kick may have died with the back end before.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <fcntl.h>

static int find_queue(VhuConnection *connection, const VhuMessage *msg,
                      uint32_t index, VhuQueue **queue, VhuError *err)
{
    *queue = vhu_connection_queue(connection, index);
    if (!*queue) {
        return vhu_error_set(
            err, EINVAL, msg->request, index, "%s of vring %u, have %u",
            vhu_message_spec(VHU_FROM_FRONTEND, msg->request)->name, index,
            connection->backend->info.num_queues);
    }
    return 0;
}

static int find_stopped(VhuConnection *connection, const VhuMessage *msg,
                        uint32_t index, VhuQueue **queue, VhuError *err)
{
    int ret = find_queue(connection, msg, index, queue, err);

    if (ret == 0 && (*queue)->set.armed) {
        ret = vhu_error_set(
            err, EBUSY, msg->request, index,
            "%s of vring %u while it is set up",
            vhu_message_spec(VHU_FROM_FRONTEND, msg->request)->name, index);
    }
    return ret;
}

static int set_vring_num(VhuConnection *connection, VhuMessage *msg,
                         VhuMessage *reply, VhuError *err)
{
    const VhuVringState *state = &msg->payload.state;
    const uint32_t most = connection->backend->info.max_queue_size;
    VhuQueue *queue;
    int ret = find_stopped(connection, msg, state->index, &queue, err);

    (void)reply;
    if (ret < 0) {
        return ret;
    }
    if (state->num == 0 || state->num > most) {
        return vhu_error_set(err, EINVAL, msg->request, state->num,
                             "vring %u: size %u, expected 1 to %u",
                             state->index, state->num, most);
    }
    queue->set.size = state->num;
    return 0;
}

/* Legal while the ring runs: to switch logging, or to move it. */
static int set_vring_addr(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    VhuQueue *queue;
    int ret = find_queue(connection, msg, msg->payload.addr.index, &queue, err);

    (void)reply;
    if (ret < 0) {
        return ret;
    }
    queue->set.addr = msg->payload.addr;
    queue->set.has_addr = true;
    if (queue->set.armed) {
        ret = vhu_queue_send_memory(queue, NULL);
        if (ret == 0) {
            ret = vhu_queue_send_log(queue);
        }
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int set_vring_base(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    const VhuVringState *state = &msg->payload.state;
    const bool packed =
        connection->features & VHU_FEATURE(VIRTIO_F_RING_PACKED);
    VhuQueue *queue;
    int ret = find_stopped(connection, msg, state->index, &queue, err);

    (void)reply;
    if (ret < 0) {
        return ret;
    }
    if (!packed && state->num > UINT16_MAX) {
        return vhu_error_set(err, EINVAL, msg->request, state->num,
                             "vring %u: base 0x%x of a split ring",
                             state->index, state->num);
    }
    queue->set.base = state->num;
    queue->set.has_base = true;
    return 0;
}

static int finish_get_base(VhuConnection *connection, VhuMessage *reply,
                           VhuError *err)
{
    const uint32_t index = connection->request.payload.state.index;

    (void)err;
    reply->kind = VHU_PAYLOAD_VRING_STATE;
    reply->payload.state.index = index;
    reply->payload.state.num = connection->queues[index].set.base;
    return 0;
}

static int get_vring_base(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    VhuQueue *queue;
    int ret =
        find_queue(connection, msg, msg->payload.state.index, &queue, err);

    (void)reply;
    if (ret == 0) {
        ret = vhu_queue_send_stop(queue, false);
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, finish_get_base);
}

/* ---- kick, call, err ---- */

/* -1 without an fd. Non-blocking, as a counter may be full or empty. */
int vhu_event_fd_take(VhuMessage *msg)
{
    const int fd = vhu_message_take_fd(msg, 0);
    int flags;

    if (fd >= 0) {
        flags = fcntl(fd, F_GETFL);
        if (flags >= 0 && !(flags & O_NONBLOCK)) {
            fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        }
    }
    return fd;
}

static int check_ready(const VhuQueue *queue, const VhuMessage *msg,
                       VhuError *err)
{
    if (queue->set.size == 0 || !queue->set.has_addr) {
        return vhu_error_set(err, EINVAL, msg->request, queue->index,
                             "vring %u is started without %s", queue->index,
                             queue->set.size == 0 ? "SET_VRING_NUM"
                                                  : "SET_VRING_ADDR");
    }
    if (queue->connection->transfer.fd >= 0) {
        return vhu_error_set(err, EBUSY, msg->request, queue->index,
                             "vring %u is started while device state is "
                             "transferred",
                             queue->index);
    }
    return 0;
}

static int arm(VhuQueue *queue, int kick_fd, bool poll)
{
    int ret = vhu_queue_send_log(queue);

    return ret < 0 ? ret : vhu_queue_send_arm(queue, kick_fd, poll);
}

/*
 * Requests in flight may still run in a connection that is gone, of the same
 * front end, as the inflight buffer it left tells; to resubmit them before the
 * old ones are through could let an old write overtake a new one. So such a
 * ring waits until the dead drained.
 */
static bool predecessor_drains(const VhuConnection *connection)
{
    const VhuFileId *mine = &connection->inflight_id;
    const VhuConnection *other;

    for (other = connection->backend->connections; other; other = other->next) {
        const VhuFileId *id = &other->inflight_id;

        if (other->closing && other->inflight && id->inode == mine->inode &&
            id->device == mine->device) {
            return true;
        }
    }
    return false;
}

static bool must_wait(const VhuConnection *connection, const VhuQueue *queue)
{
    return connection->inflight &&
           vhu_inflight_used(connection->inflight, (uint16_t)queue->index) &&
           predecessor_drains(connection);
}

static int finish_kick(VhuConnection *connection, VhuMessage *reply,
                       VhuError *err)
{
    VhuMessage *msg = &connection->request;
    VhuQueue *queue =
        &connection->queues[msg->payload.u64 & VHU_VRING_INDEX_MASK];
    const bool poll = msg->payload.u64 & VHU_VRING_NO_FD;
    int ret;

    (void)reply;
    (void)err;
    ret = arm(queue, vhu_event_fd_take(msg), poll);
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int set_vring_kick(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    VhuQueue *queue;
    int ret = find_queue(connection, msg,
                         msg->payload.u64 & VHU_VRING_INDEX_MASK, &queue, err);

    if (ret == 0) {
        ret = check_ready(queue, msg, err);
    }
    if (ret < 0) {
        return ret;
    }
    if (must_wait(connection, queue)) {
        vhu_connection_log(connection, VHU_LOG_INFO,
                           "queue %u waits for a lost connection to drain",
                           queue->index);
        connection->waits_for_drain = true;
        connection->pending++;
        return vhu_connection_wait(connection, finish_kick);
    }
    return finish_kick(connection, reply, err);
}

void vhu_connection_drained(VhuConnection *connection)
{
    if (connection->waits_for_drain &&
        (connection->closing || !predecessor_drains(connection))) {
        connection->waits_for_drain = false;
        connection->pending--;
        vhu_connection_unhold(connection);
    }
}

static int set_event_fd(VhuConnection *connection, VhuMessage *msg,
                        VhuCommandFn run, VhuError *err)
{
    VhuQueue *queue;
    int ret = find_queue(connection, msg,
                         msg->payload.u64 & VHU_VRING_INDEX_MASK, &queue, err);

    if (ret == 0) {
        ret = vhu_queue_send_fd(queue, run, vhu_event_fd_take(msg));
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int set_vring_call(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err)
{
    (void)reply;
    return set_event_fd(connection, msg, vhu_queue_do_call, err);
}

static int set_vring_err(VhuConnection *connection, VhuMessage *msg,
                         VhuMessage *reply, VhuError *err)
{
    (void)reply;
    return set_event_fd(connection, msg, vhu_queue_do_err, err);
}

static int set_vring_enable(VhuConnection *connection, VhuMessage *msg,
                            VhuMessage *reply, VhuError *err)
{
    const VhuVringState *state = &msg->payload.state;
    VhuQueue *queue;
    int ret = find_queue(connection, msg, state->index, &queue, err);

    (void)reply;
    if (ret == 0 && state->num > 1) {
        ret = vhu_error_set(err, EINVAL, msg->request, state->num,
                            "vring %u: enable %u, expected 0 or 1",
                            state->index, state->num);
    }
    if (ret == 0) {
        ret = vhu_queue_send_enable(queue, state->num == 1);
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

static int vring_kick(VhuConnection *connection, VhuMessage *msg,
                      VhuMessage *reply, VhuError *err)
{
    VhuQueue *queue;
    int ret =
        find_queue(connection, msg, msg->payload.state.index, &queue, err);

    (void)reply;
    if (ret == 0 && !queue->set.armed) {
        ret = check_ready(queue, msg, err);
        if (ret == 0) {
            ret = arm(queue, -1, false);
        }
    }
    if (ret == 0) {
        ret = vhu_queue_send_kick(queue);
    }
    return ret < 0 ? ret : vhu_connection_wait(connection, NULL);
}

const VhuHandler vhu_vring_handlers[VHU_NUM_HANDLERS] = {
    [VHOST_USER_SET_VRING_NUM] = set_vring_num,
    [VHOST_USER_SET_VRING_ADDR] = set_vring_addr,
    [VHOST_USER_SET_VRING_BASE] = set_vring_base,
    [VHOST_USER_GET_VRING_BASE] = get_vring_base,
    [VHOST_USER_SET_VRING_KICK] = set_vring_kick,
    [VHOST_USER_SET_VRING_CALL] = set_vring_call,
    [VHOST_USER_SET_VRING_ERR] = set_vring_err,
    [VHOST_USER_SET_VRING_ENABLE] = set_vring_enable,
    [VHOST_USER_VRING_KICK] = vring_kick,
};
