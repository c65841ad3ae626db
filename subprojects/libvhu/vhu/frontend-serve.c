/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the back-end channel of a front-end session: takes the back end's
 * requests, hands them to the owner's ops, answers. One that is not legal or
 * not negotiated ends the session.
 *
 * A request whose op returned -EINPROGRESS stops the channel until
 * vhu_frontend_answer, so that replies keep their order and the number of
 * requests held is one.
 */
#include "vhu/frontend-internal.h"
#include "vhu/message-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vhost_types.h>

/* ---- requests ---- */

typedef int (*ServeFn)(VhuFrontend *session, VhuMessage *msg, int *fd);

static int serve_iotlb(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    const VhuFrontendOps *ops = &session->ops;
    const VhuIotlbMsg *iotlb = &msg->payload.iotlb;

    (void)fd;
    if (iotlb->type == VHOST_IOTLB_MISS) {
        session->info.counters.iotlb_misses++;
        return ops->iotlb_miss
                   ? ops->iotlb_miss(ops->opaque, iotlb->iova, iotlb->perm)
                   : -EOPNOTSUPP;
    }
    return ops->iotlb_fault
               ? ops->iotlb_fault(ops->opaque, iotlb->iova, iotlb->perm)
               : 0;
}

static int serve_config_change(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    const VhuFrontendOps *ops = &session->ops;

    (void)msg;
    (void)fd;
    return ops->config_changed ? ops->config_changed(ops->opaque) : 0;
}

static int serve_call(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    const VhuFrontendOps *ops = &session->ops;

    (void)fd;
    return ops->vring_call(ops->opaque, msg->payload.state.index);
}

static int serve_err(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    const VhuFrontendOps *ops = &session->ops;

    (void)fd;
    return ops->vring_err
               ? ops->vring_err(ops->opaque, msg->payload.state.index)
               : 0;
}

static int serve_object_add(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    (void)fd;
    return session->ops.shared_object_add(session->ops.opaque,
                                          &msg->payload.uuid);
}

static int serve_object_remove(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    (void)fd;
    return session->ops.shared_object_remove(session->ops.opaque,
                                             &msg->payload.uuid);
}

static int serve_object_lookup(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    return session->ops.shared_object_lookup(session->ops.opaque,
                                             &msg->payload.uuid, fd);
}

static int serve_map(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    (void)fd;
    return session->ops.shmem_map(session->ops.opaque, &msg->payload.shmem_map,
                                  msg->fds[0]);
}

static int serve_unmap(VhuFrontend *session, VhuMessage *msg, int *fd)
{
    (void)fd;
    return session->ops.shmem_unmap(session->ops.opaque,
                                    &msg->payload.shmem_map);
}

/* Behind the gates: an op that the session negotiated is there. */
static const ServeFn servers[] = {
    [VHOST_USER_BACKEND_IOTLB_MSG] = serve_iotlb,
    [VHOST_USER_BACKEND_CONFIG_CHANGE_MSG] = serve_config_change,
    [VHOST_USER_BACKEND_VRING_CALL] = serve_call,
    [VHOST_USER_BACKEND_VRING_ERR] = serve_err,
    [VHOST_USER_BACKEND_SHARED_OBJECT_ADD] = serve_object_add,
    [VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE] = serve_object_remove,
    [VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP] = serve_object_lookup,
    [VHOST_USER_BACKEND_SHMEM_MAP] = serve_map,
    [VHOST_USER_BACKEND_SHMEM_UNMAP] = serve_unmap,
};

/* ---- the channel ---- */

int vhu_frontend_open_back(VhuFrontend *session, int *fd, VhuError *err)
{
    VhuError why = {0};
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        const int code = errno;

        return vhu_error_set(err, code, 0, 0, "%s: back-end channel: %s",
                             session->name, strerror(code));
    }
    session->back_channel =
        vhu_channel_new(pair[0], VHU_FROM_BACKEND, false, &why);
    if (!session->back_channel) {
        close(pair[1]);
        return vhu_error_set(err, why.code, 0, 0, "%s: back-end channel: %s",
                             session->name, why.text);
    }
    vhu_channel_set_trace(session->back_channel, session->ops.trace,
                          session->ops.opaque);
    vhu_channel_wire(session->back_channel)->protocol_features =
        session->info.protocol_features;
    session->back_port = (VhuPort){.fd = vhu_channel_fd(session->back_channel)};
    vhu_frontend_watch(session, &session->back_port, EPOLLIN);
    *fd = pair[1];
    return 0;
}

void vhu_frontend_close_back(VhuFrontend *session)
{
    vhu_frontend_watch(session, &session->back_port, 0);
    session->back_port = (VhuPort){.fd = -1};
    vhu_channel_free(session->back_channel);
    session->back_channel = NULL;
    vhu_message_close_fds(&session->deferred_request);
    session->deferred = false;
}

static void fail_back(VhuFrontend *session, VhuError *err)
{
    vhu_error_prefix(err, "back-end channel: ");
    vhu_frontend_fail_named(session, err);
}

static void answer(VhuFrontend *session, const VhuMessage *request, int result,
                   int fd)
{
    VhuMessage reply = {.request = request->request,
                        .flags = VHU_FLAG_VERSION | VHU_FLAG_REPLY,
                        .kind = VHU_PAYLOAD_U64};
    const VhuWire *wire = vhu_channel_wire(session->back_channel);
    VhuError err = {0};

    if (!vhu_reply_due(wire, request)) {
        return;
    }
    reply.payload.u64 = result < 0 ? 1 : 0;
    if (result == 0 && fd >= 0) {
        reply.num_fds = 1;
        reply.fds[0] = fd;
    }
    if (vhu_channel_send(session->back_channel, &reply, &err) < 0) {
        fail_back(session, &err);
    }
}

/* Watch for what can be gone on with. */
static void watch_back(VhuFrontend *session)
{
    uint32_t events = session->deferred ? 0 : EPOLLIN;

    if (vhu_channel_wants_write(session->back_channel)) {
        events = EPOLLOUT;
    }
    vhu_frontend_watch(session, &session->back_port, events);
}

/* vhost-user, "Back-end communication": what needs which feature. */
static int check_negotiated(VhuFrontend *session, const VhuMessage *msg,
                            VhuError *err)
{
    const VhuWire *wire = vhu_channel_wire(session->back_channel);

    if (msg->num_fds &&
        !vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD)) {
        return vhu_error_set(err, EPROTO, msg->request, msg->num_fds,
                             "%u fds without "
                             "VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD",
                             msg->num_fds);
    }
    return vhu_message_gated(wire, msg->request, err);
}

static void serve_one(VhuFrontend *session, VhuMessage *msg)
{
    VhuError err = {0};
    int fd = -1;
    int result;

    session->info.counters.backend_requests++;
    if (check_negotiated(session, msg, &err) < 0) {
        fail_back(session, &err);
        return;
    }
    /* An op may end the connection, or answer before it returns. */
    session->deferred_request = *msg;
    session->deferred = true;
    msg->num_fds = 0;
    result = servers[msg->request](session, &session->deferred_request, &fd);
    if (result != -EINPROGRESS) {
        vhu_frontend_answer(session, result, fd);
    }
}

int vhu_frontend_answer(VhuFrontend *session, int result, int fd)
{
    int rc = -ENOENT;

    if (session->back_channel && session->deferred) {
        answer(session, &session->deferred_request, result, fd);
        vhu_message_close_fds(&session->deferred_request);
        session->deferred = false;
        vhu_frontend_wake(session);
        rc = 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* The back end may close its end alone: then it has no more to say. */
static void end_back(VhuFrontend *session, VhuError *err)
{
    if (err->code == ECONNRESET || err->code == EPIPE) {
        vhu_frontend_close_back(session);
    } else {
        fail_back(session, err);
    }
}

void vhu_frontend_serve(VhuFrontend *session)
{
    for (int i = 0; i < VHU_FRONTEND_BUDGET; i++) {
        VhuError err = {0};
        VhuMessage msg;
        int rc;

        if (!session->back_channel || session->failed.code) {
            return;
        }
        if (vhu_channel_wants_write(session->back_channel) &&
            vhu_channel_flush(session->back_channel, &err) < 0) {
            end_back(session, &err);
            return;
        }
        watch_back(session);
        if (session->deferred ||
            vhu_channel_wants_write(session->back_channel)) {
            return;
        }
        rc = vhu_channel_receive(session->back_channel, &msg, &err);
        if (rc == 0) {
            return;
        }
        if (rc < 0) {
            end_back(session, &err);
            return;
        }
        serve_one(session, &msg);
        vhu_message_close_fds(&msg);
    }
    vhu_frontend_wake(session);
}
