/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the back-end channel of a connection: requests to the front end and
 * their answers, in order. Nothing waits; an answer is a callback.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Requests a front end may leave unanswered before it is given up. */
#define MAX_ASKED 4096u

static const char *request_name(uint32_t request)
{
    return vhu_message_spec(VHU_FROM_BACKEND, request)->name;
}

static VhuPending *take_oldest(VhuConnection *connection)
{
    VhuPending *oldest = connection->asked;

    if (oldest) {
        connection->asked = oldest->next;
        connection->num_asked--;
        if (!connection->asked) {
            connection->asked_end = &connection->asked;
        }
    }
    return oldest;
}

static void answer(VhuPending *pending, int result, int fd)
{
    if (pending->fn) {
        pending->fn(pending->opaque, result, fd);
    }
    free(pending);
}

void vhu_requests_close(VhuConnection *connection)
{
    VhuPending *pending;

    vhu_watch_free(connection->requests_watch);
    connection->requests_watch = NULL;
    vhu_channel_free(connection->requests);
    connection->requests = NULL;
    while ((pending = take_oldest(connection))) {
        answer(pending, -ECONNRESET, -1);
    }
}

/* The front end misbehaves on this channel: the connection ends. */
static void fail(VhuConnection *connection, VhuError *err)
{
    vhu_error_prefix(err, "back-end channel: ");
    vhu_connection_close(connection, err);
}

static void take_answer(VhuConnection *connection, VhuMessage *msg)
{
    VhuPending *pending = take_oldest(connection);
    VhuError err;
    int result;
    int fd;

    if (!pending || pending->request != msg->request ||
        msg->kind != VHU_PAYLOAD_U64) {
        vhu_error_set(&err, EPROTO, msg->request, msg->request,
                      "reply to %s, expected %s", request_name(msg->request),
                      pending ? request_name(pending->request) : "none");
        if (pending) {
            answer(pending, -EPROTO, -1);
        }
        vhu_message_close_fds(msg);
        fail(connection, &err);
        return;
    }
    result = msg->payload.u64 == 0 ? 0 : -EREMOTEIO;
    if (result < 0) {
        vhu_connection_log(
            connection, VHU_LOG_WARN, "front end refused %s: %llu",
            request_name(msg->request), (unsigned long long)msg->payload.u64);
    }
    fd = pending->fn && result == 0 ? vhu_message_take_fd(msg, 0) : -1;
    vhu_message_close_fds(msg);
    answer(pending, result, fd);
}

static void update_watch(VhuConnection *connection)
{
    uint32_t events = EPOLLIN;

    if (vhu_channel_wants_write(connection->requests)) {
        events |= EPOLLOUT;
    }
    vhu_watch_set_events(connection->requests_watch, events);
}

static void on_socket(void *opaque, uint32_t events)
{
    VhuConnection *connection = opaque;
    VhuMessage msg;
    VhuError err = {0};
    int ret;

    if (connection->closing) {
        return;
    }
    if ((events & EPOLLOUT) &&
        vhu_channel_flush(connection->requests, &err) < 0) {
        fail(connection, &err);
        return;
    }
    while (!connection->closing && connection->requests) {
        ret = vhu_channel_receive(connection->requests, &msg, &err);
        if (ret == 0) {
            update_watch(connection);
            return;
        }
        if (ret == -ECONNRESET) {
            vhu_connection_log(connection, VHU_LOG_INFO,
                               "front end closed the back-end channel");
            vhu_requests_close(connection);
            return;
        }
        if (ret < 0) {
            fail(connection, &err);
            return;
        }
        take_answer(connection, &msg);
    }
}

int vhu_requests_open(VhuConnection *connection, int fd, VhuError *err)
{
    VhuChannel *channel = vhu_channel_new(fd, VHU_FROM_BACKEND, true, err);
    const VhuBackendEvents *events = &connection->backend->events;

    if (!channel) {
        return err && err->code ? -err->code : -EINVAL;
    }
    vhu_requests_close(connection);
    connection->requests = channel;
    vhu_channel_wire(channel)->protocol_features =
        vhu_connection_protocol(connection);
    vhu_channel_set_trace(channel, events->trace, events->opaque);
    connection->requests_watch =
        vhu_loop_watch(connection->backend->control, vhu_channel_fd(channel),
                       EPOLLIN, on_socket, connection);
    if (!connection->requests_watch) {
        const int code = errno;

        vhu_channel_free(channel);
        connection->requests = NULL;
        return vhu_error_set(err, code, VHOST_USER_SET_BACKEND_REQ_FD, 0,
                             "back-end channel cannot be watched: %s",
                             strerror(code));
    }
    return 0;
}

static VhuPending *remember(VhuConnection *connection, uint32_t request,
                            VhuRequestFn fn, void *opaque)
{
    VhuPending *pending = calloc(1, sizeof(*pending));

    if (pending) {
        pending->request = request;
        pending->fn = fn;
        pending->opaque = opaque;
        *connection->asked_end = pending;
        connection->asked_end = &pending->next;
        connection->num_asked++;
    }
    return pending;
}

int vhu_requests_send(VhuConnection *connection, VhuMessage *msg,
                      VhuRequestFn fn, void *opaque)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(VHU_FROM_BACKEND, msg->request);
    VhuWire *wire;
    VhuError err = {0};
    bool answered;

    if (!connection->requests) {
        return -ENOTSUP;
    }
    wire = vhu_channel_wire(connection->requests);
    msg->flags = VHU_FLAG_VERSION;
    if (spec->reply_rule == VHU_REPLY_ON_ACK &&
        (wire->protocol_features & VHU_PROTOCOL_BIT(REPLY_ACK))) {
        msg->flags |= VHU_FLAG_NEED_REPLY;
    }
    answered = vhu_reply_due(wire, msg);
    if (answered && connection->num_asked >= MAX_ASKED) {
        vhu_error_set(&err, ENOBUFS, msg->request, connection->num_asked,
                      "%u requests are not answered", connection->num_asked);
        fail(connection, &err);
        return -EPIPE;
    }
    if (answered && !remember(connection, msg->request, fn, opaque)) {
        return -ENOMEM;
    }
    if (vhu_channel_send(connection->requests, msg, &err) < 0) {
        fail(connection, &err);
        return answered ? 0 : -EPIPE; /* fn is called as it closes */
    }
    update_watch(connection);
    if (!answered && fn) {
        fn(opaque, 0, -1);
    }
    return 0;
}

/* ---- what devices send ---- */

/* A suspended device sends nothing (vhost-user, "Suspended device state"). */
void vhu_requests_flush_config(VhuConnection *connection)
{
    VhuMessage msg = {
        .request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
        .kind = VHU_PAYLOAD_NONE,
    };

    if (connection->config_changed && connection->num_started > 0 &&
        vhu_requests_send(connection, &msg, NULL, NULL) == 0) {
        connection->config_changed = false;
    }
}

int vhu_connection_config_changed(VhuConnection *connection)
{
    if (!vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_CONFIG) ||
        !vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
        return -ENOTSUP;
    }
    connection->config_changed = true;
    vhu_requests_flush_config(connection);
    return 0;
}

void vhu_connection_ring_started(VhuConnection *connection)
{
    connection->num_started++;
    if (!connection->closing) {
        vhu_requests_flush_config(connection);
    }
}

int vhu_connection_shared_object(VhuConnection *connection, uint32_t request,
                                 const VhuUuid *uuid, VhuRequestFn fn,
                                 void *opaque)
{
    VhuMessage msg = {
        .request = request,
        .kind = VHU_PAYLOAD_UUID,
        .payload.uuid = *uuid,
    };

    if (request < VHOST_USER_BACKEND_SHARED_OBJECT_ADD ||
        request > VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP) {
        return -EINVAL;
    }
    if (!vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_SHARED_OBJECT)) {
        return -ENOTSUP;
    }
    return vhu_requests_send(connection, &msg, fn, opaque);
}

int vhu_connection_shmem(VhuConnection *connection, const VhuShmemMap *map,
                         int fd, VhuRequestFn fn, void *opaque)
{
    VhuMessage msg = {
        .request = fd >= 0 ? VHOST_USER_BACKEND_SHMEM_MAP
                           : VHOST_USER_BACKEND_SHMEM_UNMAP,
        .kind = VHU_PAYLOAD_SHMEM_MAP,
        .payload.shmem_map = *map,
    };

    if (!vhu_connection_has(connection, VHOST_USER_PROTOCOL_F_SHMEM) ||
        (fd >= 0 && !vhu_connection_has(
                        connection, VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD))) {
        return -ENOTSUP;
    }
    if (fd >= 0) {
        msg.num_fds = 1;
        msg.fds[0] = fd;
    }
    return vhu_requests_send(connection, &msg, fn, opaque);
}
